//! Finding the partitions of the disk that the root file system came from.

use crate::PathError;
use holdfast_lifecycle::boot_loader::Partition;
use rustix::fs::{Mode, OFlags, open};
use std::fs;
use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The disk that the root file system came from.
#[derive(Debug)]
pub struct RootDisk {
    /// Its device node.
    pub path: PathBuf,
    /// Its partitions, as the kernel has them.
    pub partitions: Vec<Partition>,
}

/// The device node of the partition named `label`, on the disk that holds the verity root `dm-0`.
///
/// Only that disk is looked at, so that a second card with the same labels is never used. Source:
/// kernel document `ABI/testing/sysfs-block` and the `PARTNAME` line of a partition's `uevent`.
///
/// # Errors
/// sysfs cannot be read. `Ok(None)` means that the disk has no such partition.
pub fn partition_beside_root(label: &str) -> Result<Option<PathBuf>, PathError> {
    let Some(disk) = root_disk_directory()? else {
        return Ok(None);
    };
    for entry in read_dir(&disk)? {
        if let (true, Some(name)) = (label_of(&entry).as_deref() == Some(label), entry.file_name())
        {
            return Ok(Some(Path::new("/dev").join(name)));
        }
    }
    Ok(None)
}

/// The disk that holds the verity root, with its partitions.
///
/// # Errors
/// sysfs cannot be read. `Ok(None)` means that the root is on no partition.
pub fn root_disk() -> Result<Option<RootDisk>, PathError> {
    let Some(directory) = root_disk_directory()? else {
        return Ok(None);
    };
    let mut partitions = Vec::new();
    // As the kernel has them, and not as the table on the disk has them: that may be another one by now, and what is
    // mounted and written goes by the kernel's.
    for entry in read_dir(&directory)? {
        if let Some(name) = label_of(&entry) {
            let (start, length) = (bytes_of(&entry, "start")?, bytes_of(&entry, "size")?);
            partitions.push(Partition { name, start, length });
        }
    }
    let name = directory.file_name().unwrap_or_default();
    Ok(Some(RootDisk { path: Path::new("/dev").join(name), partitions }))
}

/// The number of the disk that holds the verity root, such as `179:0`.
///
/// # Errors
/// sysfs cannot be read. `Ok(None)` means that the root is on no partition.
pub fn root_disk_number() -> Result<Option<String>, PathError> {
    let Some(directory) = root_disk_directory()? else {
        return Ok(None);
    };
    let path = directory.join("dev");
    let text = fs::read_to_string(&path).map_err(|error| PathError::new("read", path, error))?;
    Ok(Some(text.trim().to_owned()))
}

/// Finds the directory of sysfs for the disk that holds the verity root.
fn root_disk_directory() -> Result<Option<PathBuf>, PathError> {
    let below_root = read_dir(Path::new("/sys/block/dm-0/slaves"))?;
    // The kernel makes `dm-0` of its command line (`dm-mod.create`) before init runs, so no other
    // device has this number. The entries are links to where sysfs has a partition: below its disk.
    let Some(root_partition) = below_root.first() else {
        return Ok(None);
    };
    let root_partition = fs::canonicalize(root_partition)
        .map_err(|error| PathError::new("resolve", root_partition, error))?;
    Ok(root_partition.parent().map(Path::to_owned))
}

/// The name of a partition, from its directory in sysfs.
fn label_of(partition: &Path) -> Option<String> {
    // Only partitions whose table names them have the line (`part_uevent` in block/partitions/core.c): neither the disk's
    // other directories nor a whole disk are taken for one.
    let uevent = fs::read_to_string(partition.join("uevent")).ok()?;
    let label = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME="));
    label.map(str::to_owned)
}

/// Reads an attribute that sysfs has in sectors of 512 bytes, whatever the disk's own are.
fn bytes_of(partition: &Path, attribute: &str) -> Result<u64, PathError> {
    let path = partition.join(attribute);
    let text = fs::read_to_string(&path).map_err(|error| PathError::new("read", &path, error))?;
    let sectors = text.trim().parse::<u64>().ok().and_then(|sectors| sectors.checked_mul(512));
    sectors.ok_or_else(|| PathError::new("read", path, Error::from(ErrorKind::InvalidData)))
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

/// Opens a disk for reading, without waiting.
///
/// # Errors
/// The disk cannot be opened: a reader without a card, among others.
pub fn open_disk(path: &Path) -> Result<OwnedFd, PathError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    open(path, flags, Mode::empty()).map_err(|error| PathError::new("open", path, error))
}

fn read_dir(path: &Path) -> Result<Vec<PathBuf>, PathError> {
    let list = |error| PathError::new("list", path, error);
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(list)? {
        entries.push(entry.map_err(list)?.path());
    }
    // No order of directory entries is promised (readdir(3)); cards are looked at in the same one at each start.
    entries.sort();
    Ok(entries)
}
