//! Partitions of a disk, read and changed from outside.

use crate::harness::scratch::Scratch;
use anyhow::{Result, ensure};
use holdfast_images::disk::Layout;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

/// Does something to a partition's bytes in a file of their own, and puts them back.
pub(crate) fn on_partition<T>(
    disk: &Path,
    name: &str,
    act: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    let mut file = File::options().read(true).write(true).open(disk)?;
    let layout = Layout::read(&mut file)?;
    let partition = layout.partition(name)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join(name);
    fs::write(&path, partition.read(&mut file, disk)?)?;
    let result = act(&path)?;
    partition.replace(&mut file, disk, "a changed file system", &fs::read(&path)?)?;
    Ok(result)
}

/// What `debugfs` says to a request on a partition.
pub(crate) fn debugfs(disk: &Path, partition: &str, request: &str) -> Result<String> {
    on_partition(disk, partition, |path| {
        let mut command = Command::new("/sbin/debugfs");
        let output = command.args(["-w", "-R", request]).arg(path).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })
}

/// A copy of an image, one of whose partitions is another.
pub(crate) fn edited(
    image: &Path,
    partition: &str,
    edit: impl FnOnce(&Path) -> Result<()>,
) -> Result<Scratch> {
    let copy = Scratch::of(image)?;
    on_partition(copy.path(), partition, edit)?;
    Ok(copy)
}

/// Puts a file into an ext4 file system, over one of that name.
pub(crate) fn put(file_system: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (content, script) = (directory.path().join("content"), directory.path().join("script"));
    fs::write(&content, bytes)?;
    fs::write(&script, format!("rm {name}\nwrite {} {name}\n", content.display()))?;
    let output =
        Command::new("/sbin/debugfs").args(["-w", "-f"]).arg(&script).arg(file_system).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}
