//! An image with another root file system: what tests attack and comparisons measure.
//!
//! Only the holder of the keys can make one that boots on a device that verifies its slots.

use crate::board::Board;
use crate::boot::{self, BootError, BootSigningKey, Parts};
use crate::build;
use crate::disk::{DiskError, Layout};
use crate::root::{Root, RootError};
use crate::show::{self, ShowError};
use crate::{FileError, verity};
use holdfast_lifecycle::slots::{CommandLineError, RunningSlot};
use std::fs::{self, File};
use std::path::Path;

/// An error of making a variant.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image cannot be read.
    #[error(transparent)]
    Show(#[from] ShowError),
    /// The changed root file system cannot be written.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The boot image.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The partitions.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The image is of no release.
    #[error(transparent)]
    Release(#[from] CommandLineError),
}

/// The board and the key for which a variant is signed.
#[derive(Debug)]
pub struct Signer {
    /// The board.
    pub board: Board,
    /// A key of the image's boot loader.
    pub key: BootSigningKey,
}

/// Copies `image` to `output` with the files of its root changed; verity tree and command line
/// follow, so that the kernel accepts the result.
///
/// # Errors
/// See [`VariantError`].
pub fn with_root(
    image: &Path,
    output: &Path,
    signer: &Signer,
    change: impl FnOnce(&mut Root),
) -> Result<(), VariantError> {
    with_kernel_and_root(image, output, signer, None, change)
}

/// As [`with_root`], with another kernel where one is given.
///
/// # Errors
/// See [`VariantError`].
pub fn with_kernel_and_root(
    image: &Path,
    output: &Path,
    signer: &Signer,
    kernel: Option<Vec<u8>>,
    change: impl FnOnce(&mut Root),
) -> Result<(), VariantError> {
    write(image, output, signer, kernel, None, change)
}

/// Copies `image` to `output` with another rollback index.
///
/// # Errors
/// See [`VariantError`].
pub fn with_rollback_index(
    image: &Path,
    output: &Path,
    signer: &Signer,
    rollback_index: u32,
) -> Result<(), VariantError> {
    write(image, output, signer, None, Some(rollback_index), |_| {})
}

/// Copies `image` to `output` as another release: with this rollback index, and the files of its root changed.
///
/// # Errors
/// See [`VariantError`].
pub fn with_release(
    image: &Path,
    output: &Path,
    signer: &Signer,
    rollback_index: u32,
    change: impl FnOnce(&mut Root),
) -> Result<(), VariantError> {
    write(image, output, signer, None, Some(rollback_index), change)
}

fn write(
    image: &Path,
    output: &Path,
    signer: &Signer,
    kernel: Option<Vec<u8>>,
    rollback_index: Option<u32>,
    change: impl FnOnce(&mut Root),
) -> Result<(), VariantError> {
    let mut boot = show::read_boot(image)?;
    boot.kernel = kernel.unwrap_or(boot.kernel);
    let mut root = Root::read(&show::read_root(image)?)?;
    change(&mut root);
    let data = root.to_erofs()?;
    let verity = verity::hash_root(&data).ok_or(ShowError::NoVerityTable)?;
    let before = RunningSlot::from_command_line(&boot.command_line)?;
    let mut fit = boot::build(&Parts {
        kernel: &boot.kernel,
        device_tree: &boot.device_tree,
        board: &signer.board.name,
        console: &signer.board.console,
        disk: &signer.board.disk,
        addresses: &signer.board.addresses,
        rollback_index: rollback_index.unwrap_or(before.rollback_index),
        root: &verity,
    })?;
    boot::sign(&mut fit, &signer.key)?;
    let (rom, its_rom) = (build::rom_path(image), build::rom_path(output));
    for (from, to) in [(image, output), (&rom, &its_rom)] {
        // A boot loader on the card is in the image itself.
        if from != rom || rom.is_file() {
            fs::copy(from, to).map_err(FileError::at("copy to", to))?;
        }
    }
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(output)
        .map_err(FileError::at("open", output))?;
    let layout = Layout::read(&mut file)?;
    let root = [data, verity.tree].concat();
    layout.partition("boot-a")?.replace(&mut file, output, "kernel and device tree", &fit)?;
    layout.partition("root-a")?.replace(&mut file, output, "the root file system", &root)?;
    Ok(())
}
