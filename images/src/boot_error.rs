//! Errors of boot images.

use crate::boot::key::BootKeyError;

/// Longest command line that an ARM kernel takes (`COMMAND_LINE_SIZE`), its NUL included.
pub(crate) const COMMAND_LINE_BYTES: usize = 1024;

/// An error of making or reading a boot image.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The bytes are no device tree.
    #[error("{what} is no flattened device tree: {reason}")]
    Malformed {
        /// The tree, in words.
        what: &'static str,
        /// The parser's message.
        reason: String,
    },
    /// A part is missing or has another type.
    #[error("{what} has no usable {path}")]
    Missing {
        /// The tree, in words.
        what: &'static str,
        /// Path of the node or property.
        path: String,
    },
    /// The board's device tree carries a seed, which would be the same on every device.
    #[error("the board's device tree carries /chosen/{0}; a signed tree must not hold a seed")]
    Seed(&'static str),
    /// The command line is longer than the kernel takes.
    #[error("the command line has {0} bytes, more than {COMMAND_LINE_BYTES}")]
    CommandLineTooLong(usize),
    /// The data does not have the digest that stands beside it.
    #[error("{0} does not have the SHA-256 that stands beside it")]
    Digest(String),
    /// The configuration has no signature.
    #[error("configuration {0} is not signed")]
    NotSigned(String),
    /// The signature is another key's, or something was changed since.
    #[error("configuration {0} is not signed by a key of the boot loader")]
    WronglySigned(String),
    /// The slot is for another board.
    #[error("it is for {found}, not for {board}")]
    OtherBoard {
        /// The board that the slot names.
        found: String,
        /// The board.
        board: String,
    },
    /// A key of the boot loader or for signing.
    #[error(transparent)]
    Key(#[from] BootKeyError),
}
