//! Errors of boot loaders.

use crate::boot::BootError;
use crate::device_tree::DeviceTreeError;

/// An error of assembling or reading a boot loader.
#[derive(Debug, thiserror::Error)]
pub enum BootLoaderError {
    /// A device tree is malformed or lacks a part.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// U-Boot's control device tree lacks what the board's file names.
    #[error("the boot loader's device tree does not fit the board")]
    DeviceTree(#[from] DeviceTreeError),
    /// The disk has not the partitions that the script names.
    #[error("the disk lacks a partition that the boot loader reads")]
    Layout,
    /// No control device tree lies where the boot loader should be.
    #[error("there is no boot loader: no control device tree was found")]
    NoControlTree,
    /// A boot loader that would take any slot.
    #[error("the boot loader does not require a signature")]
    NothingRequired,
    /// A part of the boot loader does not fit its place on the board.
    #[error("board {board}: {what} has {length} bytes, more than there is room for ({room})")]
    TooLarge {
        /// Name of the board.
        board: String,
        /// The part.
        what: String,
        /// Length of the part in bytes.
        length: u64,
        /// Room in bytes.
        room: u64,
    },
    /// The boot loader that a slot brings is not fit to be written by a device.
    #[error("no device could write the boot loader that the slot brings")]
    Brought(#[from] holdfast_lifecycle::boot_loader::BootLoaderError),
    /// The build of U-Boot lacks a part.
    #[error("board {board}: U-Boot was built without {what}")]
    NotBuilt {
        /// Name of the board.
        board: String,
        /// The part.
        what: &'static str,
    },
}
