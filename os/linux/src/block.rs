//! Finding the partitions of the disk that the root file system came from.

use crate::PathError;
use std::fs;
use std::path::{Path, PathBuf};

/// The device node of the partition named `label`, on the disk that holds the verity root `dm-0`.
///
/// Only that disk is looked at, so that a second card with the same labels is never used. Source:
/// kernel document `ABI/testing/sysfs-block` and the `PARTNAME` line of a partition's `uevent`.
///
/// # Errors
/// sysfs cannot be read. `Ok(None)` means that the disk has no such partition.
pub fn partition_beside_root(label: &str) -> Result<Option<PathBuf>, PathError> {
    let slaves = Path::new("/sys/block/dm-0/slaves");
    let below_root = read_dir(slaves)?;
    let Some(root_partition) = below_root.first() else {
        return Ok(None);
    };
    let root_partition = fs::canonicalize(root_partition)
        .map_err(|error| PathError::new("resolve", root_partition, error))?;
    let Some(disk) = root_partition.parent() else {
        return Ok(None);
    };
    for entry in read_dir(disk)? {
        let Ok(uevent) = fs::read_to_string(entry.join("uevent")) else {
            continue;
        };
        let is_named = uevent.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(label));
        if let (true, Some(name)) = (is_named, entry.file_name()) {
            return Ok(Some(Path::new("/dev").join(name)));
        }
    }
    Ok(None)
}

/// The device nodes of all disks but the one that holds the verity root: cards and sticks, in the order of
/// their names. What the kernel makes of files and of other devices is none.
///
/// # Errors
/// sysfs cannot be read.
pub fn other_disks() -> Result<Vec<PathBuf>, PathError> {
    let below_root = read_dir(Path::new("/sys/block/dm-0/slaves"))?;
    let root_disk = below_root.first().and_then(|path| fs::canonicalize(path).ok());
    let root_disk = root_disk.as_deref().and_then(Path::parent).and_then(Path::file_name);
    let mut disks = Vec::new();
    for entry in read_dir(Path::new("/sys/block"))? {
        // A disk has hardware below it.
        if let (Some(name), true) = (entry.file_name(), entry.join("device").exists())
            && Some(name) != root_disk
        {
            disks.push(Path::new("/dev").join(name));
        }
    }
    Ok(disks)
}

fn read_dir(path: &Path) -> Result<Vec<PathBuf>, PathError> {
    let list = |error| PathError::new("list", path, error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(list)? {
        entries.push(entry.map_err(list)?.path());
    }
    entries.sort();
    Ok(entries)
}
