//! A copy of an image with its boot loader, for a test to change.

use anyhow::{Context, Result};
use holdfast_images::board::Board;
use holdfast_images::boot::BootKey;
use holdfast_images::boot_loader::{self, Assembled, UBoot};
use holdfast_images::build;
use holdfast_images::disk::{self, Layout, Partition};
use holdfast_qemu::machine::{Guest, Machine, copy_sparse};
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
        // Its console's file is named after it.
        let path = directory.path().join(image.file_name().context("the image has no name")?);
        copy_sparse(image, &path)?;
        if build::rom_path(image).is_file() {
            copy_sparse(&build::rom_path(image), &build::rom_path(&path))?;
        }
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

    /// Its boot loader: the ROM, or the start of the card.
    pub(crate) fn boot_loader(&self) -> Result<Vec<u8>> {
        let rom = build::rom_path(&self.path);
        Ok(if rom.is_file() { fs::read(rom)? } else { disk::read_boot_loader(&self.path)? })
    }

    /// Its boot loader with other keys, without the first stages, which know of none.
    pub(crate) fn boot_loader_with(&self, board: &Board, keys: &[BootKey; 3]) -> Result<Assembled> {
        let loader = self.boot_loader()?;
        let at = boot_loader::control_tree(&loader).context("no control tree")?;
        // A card has it behind a header of 64 bytes.
        let start = board
            .boot_loader
            .u_boot
            .map_or(0, |place| place.at_kib.saturating_mul(1024).saturating_add(64));
        let u_boot = loader.get(usize::try_from(start)?..at);
        let built = UBoot {
            image: u_boot.context("the control tree is not behind U-Boot")?,
            first_stage: Some(&[]),
            spare_first_stage: Some(&[]),
            device_tree: loader.get(at..).unwrap_or_default(),
        };
        let layout = Layout::read(&mut File::open(&self.path)?)?;
        Ok(boot_loader::assemble(&built, board, &layout, keys)?)
    }

    /// Puts another boot loader in the place of its own; an empty piece leaves what is there.
    pub(crate) fn replace_boot_loader(&self, loader: Assembled) -> Result<()> {
        if let Assembled::Rom(rom) = &loader {
            fs::write(build::rom_path(&self.path), rom)?;
        }
        let mut file = File::options().write(true).open(&self.path)?;
        Ok(loader.write_in_front(&mut file, &self.path)?)
    }

    /// A guest on a copy of it.
    pub(crate) fn start(&self) -> Result<Guest> {
        Ok(Machine::new(&self.path, 64).start(None)?)
    }
}
