//! Resetting a device to its factory state, as its owner orders it on a card.
//!
//! An order is a file of the `oem` repository whose path says what is erased; devices follow it from a card alone,
//! each order once. init writes it to a record beside the boot state, where no reset erases it, and carries it out
//! at the next start, before anything is mounted: cut off, it begins again. What only rises comes through it:
//! the rollback floors and the floor of the clock.

use crate::app_manifest::ComponentId;
use crate::encoding::{self, EncodingError};
use crate::release::client::{Client, Refusal, Trusted, Wanted};
use crate::release::metadata::{Targets, hex, unhex};
use crate::slots::{self, Floor};
use crate::verity::BLOCK_BYTES;
use serde::{Deserialize, Serialize};
use std::fmt;
use thiserror::Error;

/// Bytes of the record.
pub const RECORD_BYTES: usize = BLOCK_BYTES;
/// Where in the verified root the file systems of the factory are, one file for each partition.
pub const FACTORY_DIRECTORY: &str = "/usr/lib/holdfast/factory";
/// Bytes of an order: its digest, and which partitions.
const ORDER_BYTES: usize = 35;
/// What the path of an order begins with.
const PATH: &str = "orders/reset-";
const MAGIC: [u8; 8] = *b"HFRESET1";
const FACTORY_MAGIC: [u8; 8] = *b"HFBLANK1";

/// The partitions that are erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Partitions {
    /// What init and the services keep: uids, trusted metadata, the seed. Floors come through.
    pub state: bool,
    /// The app packages: the device fetches them again.
    pub apps: bool,
    /// What apps have stored.
    pub data: bool,
}

impl Partitions {
    /// Each with its name, in the order in which they are erased.
    #[must_use]
    pub fn each(self) -> [(&'static str, bool); 3] {
        [("data", self.data), ("apps", self.apps), ("state", self.state)]
    }

    /// Reads names with `separator` between them. `None` for another name, one that is there twice, or none.
    #[must_use]
    pub fn parse(text: &str, separator: char) -> Option<Self> {
        let mut found = Self::default();
        for name in text.split(separator) {
            let place = match name {
                "state" => &mut found.state,
                "apps" => &mut found.apps,
                "data" => &mut found.data,
                _ => return None,
            };
            if std::mem::replace(place, true) {
                return None;
            }
        }
        Some(found)
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.each().into_iter().filter(|(_, named)| *named);
        f.write_str(&named.map(|(name, _)| name).collect::<Vec<_>>().join("-"))
    }
}

/// An order of the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// By which it is known: the SHA-256 of its file.
    pub digest: [u8; 32],
    /// What is erased.
    pub partitions: Partitions,
}

impl Order {
    /// The path of an order that nobody has given before: `number` makes it another one.
    #[must_use]
    pub fn path(partitions: Partitions, number: u64) -> String {
        format!("{PATH}{partitions}.{number:016x}")
    }

    /// As an argument of a program.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn to_argument(&self) -> Result<String, EncodingError> {
        Ok(hex(&encoding::encode(self)?))
    }

    /// Reads it from an argument.
    ///
    /// # Errors
    /// It is none that [`to_argument`](Self::to_argument) has made.
    pub fn from_argument(argument: &str) -> Result<Self, ResetError> {
        let bytes = unhex::<ORDER_BYTES>(argument).ok_or(ResetError::Damaged)?;
        Ok(encoding::decode(&bytes)?)
    }

    /// The orders among what a repository offers. A file with another name is none.
    pub fn among(targets: &Targets) -> impl Iterator<Item = Self> {
        targets.targets.iter().filter_map(|(path, target)| {
            let (names, number) = path.strip_prefix(PATH)?.split_once('.')?;
            let is_number = number.len() == 16 && number.bytes().all(|b| b.is_ascii_hexdigit());
            let partitions = Partitions::parse(names, '-').filter(|_| is_number)?;
            Some(Self { digest: target.sha256()?, partitions })
        })
    }
}

/// Why nobody has ordered a reset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoOrder<E: std::error::Error + 'static> {
    /// The medium cannot be read.
    #[error("its metadata cannot be read")]
    Read(#[source] E),
    /// What is on it is not to be believed.
    #[error("its metadata is not to be believed")]
    Refused(#[from] Refusal),
    /// There are other orders there, or none.
    #[error("its metadata holds no such order")]
    Other,
}

/// Looks for an order in the metadata of the `oem` repository that somebody else reads from a card: each file of it is
/// verified from the root that the image has, at `now` in seconds since 1970, and nothing that a device has kept is
/// believed. `read` yields a file of metadata by its name, `None` where there is none, and no more bytes than are wanted and
/// one.
///
/// # Errors
/// See [`NoOrder`].
pub fn look_for<E: std::error::Error + 'static>(
    order: &Order,
    image_root: &[u8],
    now: u64,
    mut read: impl FnMut(&Wanted) -> Result<Option<Vec<u8>>, E>,
) -> Result<(), NoOrder<E>> {
    let mut client = Client::begin(image_root, Trusted::default(), now)?;
    while let Some(wanted) = client.wants() {
        match read(&wanted).map_err(NoOrder::Read)? {
            Some(bytes) => client.take(bytes)?,
            None => client.is_missing()?,
        }
    }
    let found = client.targets().is_some_and(|targets| Order::among(targets).any(|o| o == *order));
    if found { Ok(()) } else { Err(NoOrder::Other) }
}

/// What comes through a reset.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The rollback floor of the OS.
    pub os_floor: Floor,
    /// The floor of the clock, in seconds since 1970.
    pub time_floor: u64,
    /// The rollback floors of apps.
    pub app_floors: Vec<(ComponentId, u64)>,
}

/// What the device knows of orders.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// One that is to be carried out, and what it must not take.
    pub pending: Option<(Order, Kept)>,
    /// The last one that was.
    pub done: Option<[u8; 32]>,
}

/// Why bytes are no record, or no file system.
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
    /// It is damaged.
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
    use crate::release::Target;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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

    #[test]
    fn an_order_is_a_file_with_its_name_and_nothing_else() {
        let json = serde_json::json!({
            "_type": "targets", "spec_version": "1.0.0", "version": 1,
            "expires": "2030-01-01T00:00:00Z", "targets": {}
        });
        let mut targets: Targets = serde_json::from_value(json).unwrap();
        let all = Partitions { state: true, apps: true, data: true };
        assert_eq!(Order::path(all, 10), "orders/reset-data-apps-state.000000000000000a");
        let wrong = ["orders/reset-.000000000000000a", "orders/reset-data-data.000000000000000a"];
        let wrong =
            [wrong, ["orders/reset-root.000000000000000a", "orders/reset-data.0a"]].concat();
        let paths = wrong.iter().map(|path| (*path).to_owned()).chain([Order::path(all, 10)]);
        for path in paths {
            let hashes = BTreeMap::from([("sha256".to_owned(), "11".repeat(32))]);
            targets.targets.insert(path, Target { length: 1, hashes, custom: None });
        }
        let found: Vec<_> = Order::among(&targets).collect();
        assert_eq!(found, [Order { digest: [0x11; 32], partitions: all }]);
    }

    #[test]
    fn an_order_comes_through_an_argument() {
        let partitions = Partitions { state: true, apps: false, data: true };
        let order = Order { digest: [0xa5; 32], partitions };
        let argument = order.to_argument().unwrap();
        assert_eq!(Order::from_argument(&argument), Ok(order));
        for wrong in ["", "zz", &argument[2..], &argument.replace("a5", "5a")[..20]] {
            assert!(Order::from_argument(wrong).is_err(), "{wrong}");
        }
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
