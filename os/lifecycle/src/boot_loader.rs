//! The boot loader on a card that its boot ROM looks for in two places: a good slot brings it, and init
//! replaces one copy after the other, so that at every instant one of them is whole.
//!
//! Which copy started this boot is not written anywhere. It follows from what the boot ROM does: it takes the
//! first one that it accepts, and what it has taken works, since we run. That one is left alone until the
//! other is written and read back.

use holdfast_sandbox::verity::BLOCK_BYTES;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where a slot has it, on a board that has room for two copies.
pub const PATH: &str = "/usr/lib/holdfast/boot-loader";
/// Longest encoded form, in bytes: the boot loader's room on any board ends before.
pub const MAX_ENCODED_BYTES: usize = 3 << 20;
/// Bytes at the start of a disk that hold the partition table's header.
pub const TABLE_BYTES: usize = 1024;

/// `struct legacy_img_hdr` begins with it, in U-Boot's `include/image.h`.
pub const U_BOOT_MAGIC: u32 = 0x2705_1956;
const BLOCK: u64 = 4096;
const ZEROS: &[u8] = &[0; BLOCK_BYTES];

/// The boot loader of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootLoader {
    /// By what the boot ROM accepts a first stage.
    pub form: Form,
    /// The partitions that it reads, which must lie on the disk where it looks for them.
    pub partitions: Vec<Partition>,
    /// Where each copy lies, in the order in which the boot ROM looks.
    pub copies: [Copy; 2],
    /// The U-Boot that both first stages start.
    pub u_boot: Vec<u8>,
}

/// One of the two copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// Where the boot ROM looks for the first stage, in bytes.
    pub at: u64,
    /// The first stage, which looks for U-Boot at the place below.
    pub first_stage: Vec<u8>,
    /// Where U-Boot lies, in bytes.
    pub u_boot_at: u64,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name.
    pub name: String,
    /// First byte.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

/// The check of a first stage that a boot ROM makes before it starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Allwinner's: a magic word, a length and a sum of all words. Source: U-Boot's
    /// `include/sunxi_image.h` (`struct boot_file_head`) and `tools/sunxi_egon.c`.
    Egon,
}

/// Which copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the boot ROM looks first.
    First,
    /// Where it looks when there is nothing.
    Spare,
}

/// The state of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The boot ROM accepts its first stage.
    pub starts: bool,
    /// U-Boot, of whatever release, lies where this release has it.
    pub has_u_boot: bool,
    /// Every byte is this release's.
    pub is_current: bool,
}

/// One step of writing a copy. All of them end on the medium before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Write these bytes there; zeros may follow to the end of their block.
    Write(u64, &'a [u8]),
    /// Read back there; go on only if it is these bytes.
    Compare(u64, &'a [u8]),
}

/// A boot loader that is not written to the card.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BootLoaderError {
    /// Not a whole boot loader.
    #[error("the release's boot loader is damaged")]
    Encoding(#[from] EncodingError),
    /// Pieces that lie upon one another, or do not begin with a block.
    #[error("the release's boot loader has a piece at byte {0} that is out of place")]
    OutOfPlace(u64),
    /// A first stage that no boot ROM would start.
    #[error(
        "the release's boot loader has a first stage at byte {0} that the boot ROM would not start"
    )]
    NoFirstStage(u64),
    /// The disk has no partition table of our kind at its start.
    #[error("the disk does not begin with a partition table")]
    NoTable,
    /// It would reach into the partition table.
    #[error(
        "the release's boot loader ends at byte {end}, the partition table's entries begin at {entries}"
    )]
    NoRoom {
        /// First byte behind it.
        end: u64,
        /// First byte of the entries.
        entries: u64,
    },
    /// It would look for a slot where none is.
    #[error("the release's boot loader is for a disk on which partition {0} lies elsewhere")]
    OtherDisk(String),
    /// The copy that is in use would be written over.
    #[error("the boot loader on the card is laid out in another way than the release's")]
    OtherLayout,
}

impl BootLoader {
    /// Its encoded form, for the root file system.
    ///
    /// # Errors
    /// It could not be read back.
    pub fn encode(&self) -> Result<Vec<u8>, BootLoaderError> {
        self.check()?;
        Ok(encoding::encode(self)?)
    }

    /// Reads an encoded form.
    ///
    /// # Errors
    /// It is none, or is not fit to be written.
    pub fn decode(bytes: &[u8]) -> Result<Self, BootLoaderError> {
        let loader: Self = encoding::decode(bytes)?;
        loader.check()?;
        Ok(loader)
    }

    fn check(&self) -> Result<(), BootLoaderError> {
        if let Some(copy) = self.copies.iter().find(|copy| !self.form.starts(&copy.first_stage)) {
            return Err(BootLoaderError::NoFirstStage(copy.at));
        }
        let mut pieces: Vec<_> = self.pieces().collect();
        pieces.sort_unstable();
        let mut end = BLOCK;
        for (at, length) in pieces {
            // Each is written in whole blocks.
            if at < end || !at.is_multiple_of(BLOCK) || length <= BLOCK {
                return Err(BootLoaderError::OutOfPlace(at));
            }
            let behind = length.checked_next_multiple_of(BLOCK).and_then(|l| at.checked_add(l));
            end = behind.ok_or(BootLoaderError::OutOfPlace(at))?;
        }
        Ok(())
    }

    /// First byte and length of everything that it puts on the card.
    fn pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.copies.iter().flat_map(move |copy| {
            [(copy.at, length(&copy.first_stage)), (copy.u_boot_at, length(&self.u_boot))]
        })
    }

    /// First byte behind all of it.
    fn end(&self) -> u64 {
        let ends = self.pieces().map(|(at, length)| at.saturating_add(length));
        ends.max().unwrap_or(0).next_multiple_of(BLOCK)
    }

    /// Refuses a disk on which it would find no slot, or that it would damage. `table` is the start of the disk,
    /// [`TABLE_BYTES`] long.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn fits(&self, table: &[u8], partitions: &[Partition]) -> Result<(), BootLoaderError> {
        let entries = entries(table).ok_or(BootLoaderError::NoTable)?;
        let end = self.end();
        let first = partitions.iter().map(|partition| partition.start).min().unwrap_or(0);
        if end > entries || end > first {
            return Err(BootLoaderError::NoRoom { end, entries: entries.min(first) });
        }
        match self.partitions.iter().find(|wanted| !partitions.contains(wanted)) {
            Some(wanted) => Err(BootLoaderError::OtherDisk(wanted.name.clone())),
            None => Ok(()),
        }
    }

    /// The copy at `place`.
    #[must_use]
    pub fn copy(&self, place: Place) -> &Copy {
        let [first, spare] = &self.copies;
        match place {
            Place::First => first,
            Place::Spare => spare,
        }
    }

    /// How a copy was found: `first_stage` is what the boot ROM reads, `u_boot` what lies where U-Boot
    /// is to be, each as long as [`Form::most_bytes`] and U-Boot are, or shorter.
    #[must_use]
    pub fn judge(&self, place: Place, first_stage: &[u8], u_boot: &[u8]) -> Found {
        let copy = self.copy(place);
        Found {
            starts: self.form.starts(first_stage),
            has_u_boot: u_boot.starts_with(&U_BOOT_MAGIC.to_be_bytes()),
            is_current: first_stage.starts_with(&copy.first_stage) && u_boot == self.u_boot,
        }
    }

    /// The steps that write a copy: in between, the boot ROM does not accept it.
    #[must_use]
    pub fn steps(&self, place: Place) -> [Step<'_>; 7] {
        let Copy { at, first_stage, u_boot_at } = self.copy(place);
        let (head, rest) = first_stage.split_at(BLOCK_BYTES.min(first_stage.len()));
        let behind = at.saturating_add(BLOCK);
        [
            Step::Write(*at, ZEROS),
            Step::Write(*u_boot_at, &self.u_boot),
            Step::Write(behind, rest),
            Step::Compare(*u_boot_at, &self.u_boot),
            Step::Compare(behind, rest),
            Step::Write(*at, head),
            Step::Compare(*at, head),
        ]
    }
}

/// The copies that are to be written, in their order: the one that has not started this boot comes first.
///
/// # Errors
/// The one that has is not where this release would have it, so that it might be written over too early.
pub fn outdated(first: Found, spare: Found) -> Result<Vec<Place>, BootLoaderError> {
    let mut order = [(Place::First, first), (Place::Spare, spare)];
    if first.starts {
        order.reverse();
    }
    let [(_, other), (_, started)] = order;
    let is_in_place = started.starts && started.has_u_boot;
    if !is_in_place && !other.is_current {
        return Err(BootLoaderError::OtherLayout);
    }
    let outdated = order.into_iter().filter(|(_, found)| !found.is_current);
    Ok(outdated.map(|(place, _)| place).collect())
}

impl Form {
    /// Most bytes that the boot ROM reads.
    #[must_use]
    pub fn most_bytes(self) -> usize {
        match self {
            Self::Egon => 32 * 1024,
        }
    }

    /// Whether the boot ROM would start what `bytes` begin with.
    #[must_use]
    pub fn starts(self, bytes: &[u8]) -> bool {
        match self {
            Self::Egon => egon(bytes).is_some(),
        }
    }
}

/// `None` for what is not whole. The sum is that of all words, with a constant in the place of the sum itself.
fn egon(bytes: &[u8]) -> Option<()> {
    const IN_PLACE_OF_THE_SUM: u32 = 0x5f0a_6c39;
    let word = |at: usize| {
        let word = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    };
    let (sum, length) = (word(12)?, usize::try_from(word(16)?).ok()?);
    let whole = bytes.get(..length).filter(|_| length.is_multiple_of(4) && length > 32)?;
    let (words, _) = whole.as_chunks::<4>();
    let all = words.iter().fold(0u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(*word)));
    let expected = all.wrapping_sub(sum).wrapping_add(IN_PLACE_OF_THE_SUM);
    (bytes.get(4..12) == Some(b"eGON.BT0") && expected == sum).then_some(())
}

/// First byte of the entries of a GPT, from the start of its disk. Source: UEFI specification 2.10, 5.3.2.
fn entries(table: &[u8]) -> Option<u64> {
    let header = table.get(512..)?;
    let sector = header.get(72..80).filter(|_| header.starts_with(b"EFI PART"))?;
    u64::from_le_bytes(sector.try_into().ok()?).checked_mul(512)
}

#[cfg(test)]
mod tests;
