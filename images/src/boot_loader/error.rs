//! Why there is no boot loader.

use crate::boot::BootError;

/// Why there is no boot loader.
#[derive(Debug, thiserror::Error)]
pub enum BootLoaderError {
    /// A device tree.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The disk has not the partitions that the script names.
    #[error("the disk lacks a partition that the boot loader reads")]
    Layout,
    /// Where a boot loader should be is no control device tree.
    #[error("there is no boot loader: no control device tree was found")]
    NoControlTree,
    /// A boot loader that would take any slot.
    #[error("the boot loader does not require a signature")]
    NothingRequired,
    /// A part of it does not fit where the board has it.
    #[error("board {board}: {what} has {length} bytes, more than there is room for ({room})")]
    TooLarge {
        /// Name of the board.
        board: String,
        /// Which part.
        what: String,
        /// Its length.
        length: u64,
        /// The room.
        room: u64,
    },
    /// What a slot brings.
    #[error("no device could write the boot loader that the slot brings")]
    Brought(#[from] holdfast_lifecycle::boot_loader::BootLoaderError),
    /// The build of U-Boot lacks a part.
    #[error("board {board}: U-Boot was built without {what}")]
    NotBuilt {
        /// Name of the board.
        board: String,
        /// Which part.
        what: &'static str,
    },
}
