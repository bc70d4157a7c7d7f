//! What the signed command line says of the release that runs.

use crate::slots::Slot;
use holdfast_types::encoding::{self, EncodingError};
use holdfast_types::hex::unhex;
use serde::{Deserialize, Serialize};

/// Its slot, its board and its rollback index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSlot {
    /// The slot that the boot loader has chosen.
    pub slot: Slot,
    /// The board that the release is for.
    pub board: String,
    /// A number that only grows from release to release.
    pub rollback_index: u32,
}

/// A command line that names no release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's command line has no usable {0}")]
pub struct CommandLineError(pub &'static str);

/// The lowest rollback index that the device still boots. It only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Floor(pub u32);

/// A release that is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FloorError {
    /// The release is older than what this device has committed.
    #[error("its rollback index {index} is below this device's floor {floor}")]
    Below {
        /// The release's.
        index: u32,
        /// The device's.
        floor: u32,
    },
}

impl Floor {
    /// Name of the file on the `state` partition.
    pub const FILE_NAME: &str = "os-floor";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 5;

    /// Lets a release run.
    ///
    /// # Errors
    /// The rollback index is below the floor.
    pub fn admit(self, release: &RunningSlot) -> Result<(), FloorError> {
        if release.rollback_index < self.0 {
            return Err(FloorError::Below { index: release.rollback_index, floor: self.0 });
        }
        Ok(())
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// The encoder's own; never for a number.
    pub fn encode(self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(&self)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The bytes are no number, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

/// The verity table of a command line: what it says of the root (kernel document
/// `admin-guide/device-mapper/verity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootTable {
    /// Bytes of data that the tree is over.
    pub data_bytes: u64,
    /// Root hash of the tree.
    pub root_hash: [u8; 32],
}

impl RootTable {
    /// Reads it: behind `verity 1` stand two devices, two sizes of blocks, their number, where the tree begins,
    /// the algorithm and the root hash.
    #[must_use]
    pub fn from_command_line(line: &str) -> Option<Self> {
        let (_, table) = line.split_once("dm-mod.create=")?;
        let mut words = table.split_ascii_whitespace().skip_while(|word| *word != "verity");
        let block: u64 = words.nth(4)?.parse().ok()?;
        let blocks: u64 = words.nth(1)?.parse().ok()?;
        let root_hash = unhex(words.nth(2)?)?;
        Some(Self { data_bytes: block.checked_mul(blocks)?, root_hash })
    }
}

const SLOT: &str = "holdfast.slot";
const BOARD: &str = "holdfast.board";
const ROLLBACK: &str = "holdfast.rollback";

impl RunningSlot {
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
