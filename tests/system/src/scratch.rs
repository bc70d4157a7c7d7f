//! A copy of an image with its boot loader, for a test to change.

use anyhow::Result;
use holdfast_images::build;
use holdfast_images::disk::{Layout, Partition};
use holdfast_qemu::machine::{Guest, Machine};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The copy; gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    _directory: TempDir,
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn of(image: &Path) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("image.img");
        fs::copy(image, &path)?;
        fs::copy(build::rom_path(image), build::rom_path(&path))?;
        Ok(Self { _directory: directory, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The disk and one of its partitions.
    pub(crate) fn partition(&self, name: &str) -> Result<(File, Partition)> {
        let mut file = File::options().read(true).write(true).open(&self.path)?;
        let partition = Layout::read(&mut file)?.partition(name)?.clone();
        Ok((file, partition))
    }

    /// A guest on a copy of it.
    pub(crate) fn start(&self) -> Result<Guest> {
        Ok(Machine::new(&self.path, 64).start(None)?)
    }
}
