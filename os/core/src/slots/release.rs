//! What the signed command line says of the release that runs.

use super::Slot;

/// Its slot, its board and its rollback index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The slot that the boot loader has chosen.
    pub slot: Slot,
    /// The board that the release is for.
    pub board: String,
    /// A number that only grows from release to release.
    pub rollback_index: u32,
}

/// Why a command line names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's command line has no usable {0}")]
pub struct CommandLineError(pub &'static str);

const SLOT: &str = "holdfast.slot";
const BOARD: &str = "holdfast.board";
const ROLLBACK: &str = "holdfast.rollback";

impl Release {
    /// The words for the command line.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { slot, board, rollback_index } = self;
        format!("{SLOT}={} {BOARD}={board} {ROLLBACK}={rollback_index}", slot.letter())
    }

    /// Reads them from a command line.
    ///
    /// # Errors
    /// A word is missing, is there twice or is not understood.
    pub fn from_command_line(line: &str) -> Result<Self, CommandLineError> {
        let value = |name: &'static str| {
            let of_name = |word: &'_ str| word.strip_prefix(name)?.strip_prefix('=').map(str::len);
            let mut found = line.split_ascii_whitespace().filter(|word| of_name(word).is_some());
            match (found.next(), found.next()) {
                (Some(word), None) => Ok(word.split_once('=').map_or("", |(_, value)| value)),
                _ => Err(CommandLineError(name)),
            }
        };
        let rollback = value(ROLLBACK)?;
        Ok(Self {
            slot: Slot::from_letter(value(SLOT)?).ok_or(CommandLineError(SLOT))?,
            board: value(BOARD)?.to_owned(),
            rollback_index: rollback.parse().map_err(|_| CommandLineError(ROLLBACK))?,
        })
    }
}
