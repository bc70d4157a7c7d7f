//! Resetting a device to its factory state, as its owner orders it on a card.
//!
//! An order is a file of the `oem` repository whose path says what is erased; devices follow it from a card alone,
//! each order once. init writes it to a record beside the boot state, where no reset erases it, and carries it out
//! at the next start, before anything is mounted: cut off, it begins again. What only rises comes through it:
//! the rollback floors and the floor of the clock.

use crate::slots::{self, Floor};
use holdfast_sandbox::reset_order::Order;
use holdfast_sandbox::verity::BLOCK_BYTES;
use holdfast_types::ComponentId;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of the record.
pub const RECORD_BYTES: usize = BLOCK_BYTES;
/// Where in the verified root the file systems of the factory are, one file for each partition.
pub const FACTORY_DIRECTORY: &str = "/usr/lib/holdfast/factory";
const MAGIC: [u8; 8] = *b"HFRESET1";
const FACTORY_MAGIC: [u8; 8] = *b"HFBLANK1";

/// The floors that survive a reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The rollback floor of the OS.
    pub os_floor: Floor,
    /// The floor of the clock, in seconds since 1970.
    pub time_floor: u64,
    /// The rollback floors of apps.
    pub app_floors: Vec<(ComponentId, u64)>,
}

/// The record of orders on the device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// One that is to be carried out, and what it must not take.
    pub pending: Option<(Order, Kept)>,
    /// The last one that was.
    pub done: Option<[u8; 32]>,
}

/// Bytes that are no record, or no file system.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ResetError {
    /// Another length, magic or checksum.
    #[error("it is damaged")]
    Damaged,
    /// Its encoding.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// More floors than it has room for.
    #[error("it has no room for {0} bytes")]
    TooLong(usize),
}

/// Where the record lies in the partition of the boot state: in an erase block of its own, behind both copies.
#[must_use]
pub fn record_offset(partition_bytes: u64) -> u64 {
    (partition_bytes / 4).saturating_mul(3)
}

impl Record {
    /// The block that is written: magic, length, checksum, and the record.
    ///
    /// # Errors
    /// [`ResetError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, ResetError> {
        let body = encoding::encode(self)?;
        let too_long = || ResetError::TooLong(body.len());
        let length = u32::try_from(body.len()).map_err(|_| too_long())?;
        let checksum = slots::checksum(&body).to_le_bytes();
        let mut block = [&MAGIC[..], &length.to_le_bytes(), &checksum, &body].concat();
        if block.len() > RECORD_BYTES {
            return Err(too_long());
        }
        block.resize(RECORD_BYTES, 0);
        Ok(block)
    }

    /// The record in a block; an empty one where none was ever written.
    ///
    /// # Errors
    /// The block is damaged.
    pub fn decode(block: &[u8]) -> Result<Self, ResetError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(Self::default());
        }
        let (magic, rest) = block.split_first_chunk::<8>().ok_or(ResetError::Damaged)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or(ResetError::Damaged)?;
        let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(ResetError::Damaged)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (body, padding) = rest.split_at_checked(length).ok_or(ResetError::Damaged)?;
        let sound = *magic == MAGIC
            && block.len() == RECORD_BYTES
            && slots::checksum(body).to_le_bytes() == *checksum
            && padding.iter().all(|byte| *byte == 0);
        if sound { Ok(encoding::decode(body)?) } else { Err(ResetError::Damaged) }
    }
}

/// An empty file system as its blocks that are not zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blank<'a> {
    /// Blocks in all.
    pub blocks: u32,
    /// Those that are not zero, by their rising numbers.
    pub used: Vec<(u32, &'a [u8])>,
}

impl<'a> Blank<'a> {
    /// The short form of a file system of whole blocks.
    #[must_use]
    pub fn shorten(file_system: &[u8]) -> Vec<u8> {
        let blocks = file_system.chunks(BLOCK_BYTES);
        let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX).to_le_bytes();
        let used: Vec<_> = blocks
            .clone()
            .enumerate()
            .filter(|(_, block)| block.iter().any(|byte| *byte != 0))
            .collect();
        let mut bytes = [&FACTORY_MAGIC[..], &number(blocks.len()), &number(used.len())].concat();
        used.iter().for_each(|(index, _)| bytes.extend(number(*index)));
        used.iter().for_each(|(_, block)| bytes.extend_from_slice(block));
        bytes
    }

    /// Reads the short form.
    ///
    /// # Errors
    /// The record is damaged.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ResetError> {
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(ResetError::Damaged)?;
        let (blocks, rest) = rest.split_first_chunk::<4>().ok_or(ResetError::Damaged)?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(ResetError::Damaged)?;
        let blocks = u32::from_le_bytes(*blocks);
        let count = usize::try_from(u32::from_le_bytes(*count)).unwrap_or(usize::MAX);
        let numbers = rest.split_at_checked(count.saturating_mul(4));
        let (numbers, content) = numbers.ok_or(ResetError::Damaged)?;
        let (numbers, _) = numbers.as_chunks::<4>();
        let numbers: Vec<u32> = numbers.iter().map(|number| u32::from_le_bytes(*number)).collect();
        let rise = numbers.windows(2).all(|pair| pair.first() < pair.last());
        let fits = numbers.last().is_none_or(|last| *last < blocks);
        let whole = Some(content.len()) == count.checked_mul(BLOCK_BYTES);
        if *magic != FACTORY_MAGIC || !(rise && fits && whole) {
            return Err(ResetError::Damaged);
        }
        Ok(Self { blocks, used: numbers.into_iter().zip(content.chunks(BLOCK_BYTES)).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sandbox::reset_order::Partitions;
    use proptest::prelude::*;

    fn record() -> Record {
        let partitions = Partitions { state: true, apps: false, data: true };
        let kept = Kept {
            os_floor: Floor(7),
            time_floor: 1_800_000_000,
            app_floors: vec![(ComponentId([5; 16]), 9)],
        };
        Record { pending: Some((Order { digest: [3; 32], partitions }, kept)), done: Some([4; 32]) }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_or_not_at_all() {
        let block = record().encode().unwrap();
        assert_eq!(block.len(), RECORD_BYTES);
        assert_eq!(Record::decode(&block), Ok(record()));
        assert_eq!(Record::decode(&[0; RECORD_BYTES]), Ok(Record::default()));
        for at in (0..RECORD_BYTES).step_by(7) {
            let mut torn = block.clone();
            torn[at] ^= 1;
            assert_eq!(Record::decode(&torn), Err(ResetError::Damaged), "byte {at}");
        }
        let mut full = record();
        let floors = (0..=255u8).map(|n| (ComponentId([n; 16]), u64::MAX));
        full.pending.as_mut().unwrap().1.app_floors = floors.collect();
        assert!(matches!(full.encode(), Err(ResetError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn a_blank_file_system_comes_back(
            used in proptest::collection::btree_map(0usize..50, 1u8.., 0..20)
        ) {
            let mut bytes = vec![0u8; 50 * BLOCK_BYTES];
            for (index, byte) in &used {
                bytes.chunks_mut(BLOCK_BYTES).nth(*index).unwrap()[5] = *byte;
            }
            let short = Blank::shorten(&bytes);
            let blank = Blank::parse(&short).unwrap();
            prop_assert_eq!(blank.blocks, 50);
            let mut again = vec![0u8; 50 * BLOCK_BYTES];
            for (index, block) in &blank.used {
                let index = usize::try_from(*index).unwrap();
                again.chunks_mut(BLOCK_BYTES).nth(index).unwrap().copy_from_slice(block);
            }
            prop_assert!(again == bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Record::decode(&bytes);
            let _ = Blank::parse(&bytes);
        }
    }
}
