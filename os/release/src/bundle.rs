//! Bundles: repositories in one file, as they lie on a card that is carried to a device without a network.
//!
//! ```text
//! 0      magic `HOLDFREL`, format version (2 bytes, little-endian), 2 bytes of zeros, length of the index
//!        (4 bytes); zeros to the end of the block
//! 4096   the index: postcard, paths with places and lengths; zeros to the end of the block
//! then   the files, each from the beginning of a block on
//! ```
//!
//! Nothing of it is signed: what is in the files is, and a bundle is believed as little as a server is.

use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};

/// First eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"HOLDFREL";
/// Version of the bundle format.
pub const FORMAT_VERSION: u16 = 1;
/// Alignment of the index and of every file in a bundle, in bytes.
pub const BLOCK_BYTES: u64 = 4096;
/// Longest encoded index in bytes.
pub const MAX_INDEX_BYTES: u32 = 256 * 1024;

/// One file of a bundle, by where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The repository's name and the path in it, such as `os/metadata/timestamp.json`.
    pub path: String,
    /// Offset of its first byte from the beginning of the bundle; a multiple of [`BLOCK_BYTES`].
    pub at: u64,
    /// Length of the file in bytes.
    pub length: u64,
}

/// The index of a bundle: its table of contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Files of the bundle, sorted by path.
    pub entries: Vec<Entry>,
}

/// Errors of a bundle's header and index; each text is the predicate of "the card".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The magic is missing: the card holds something else.
    #[error("is no bundle of releases")]
    Magic,
    /// The header states another format version.
    #[error("has format version {0}, not {FORMAT_VERSION}")]
    FormatVersion(u16),
    /// The header states an index longer than [`MAX_INDEX_BYTES`].
    #[error("has an index of {0} bytes, more than {MAX_INDEX_BYTES}")]
    IndexLength(u32),
    /// The index cannot be decoded or encoded.
    #[error("has an index that cannot be read")]
    Index(#[from] EncodingError),
    /// An entry is misaligned, or ends behind the end of the medium; with its path.
    #[error("has a file `{0}` that does not lie in it")]
    Place(String),
}

/// Parses the header in the first block of a bundle and returns the length of the index in bytes.
///
/// # Errors
/// The block is no header of a bundle.
pub fn index_bytes(block: &[u8]) -> Result<u32, BundleError> {
    let Some((magic, rest)) = block.split_first_chunk::<8>() else {
        return Err(BundleError::Magic);
    };
    let (Some((version, rest)), true) = (rest.split_first_chunk::<2>(), *magic == MAGIC) else {
        return Err(BundleError::Magic);
    };
    let version = u16::from_le_bytes(*version);
    if version != FORMAT_VERSION {
        return Err(BundleError::FormatVersion(version));
    }
    let length = rest.get(2..).and_then(|rest| rest.first_chunk::<4>());
    let length = u32::from_le_bytes(*length.ok_or(BundleError::Magic)?);
    if length > MAX_INDEX_BYTES {
        return Err(BundleError::IndexLength(length));
    }
    Ok(length)
}

impl Index {
    /// Lays out files with these paths and lengths, in this order, behind the room that their index needs.
    #[must_use]
    pub fn of(files: &[(String, u64)]) -> Self {
        let entry =
            |(path, length): &(String, u64)| Entry { path: path.clone(), at: 0, length: *length };
        let mut index = Self { entries: files.iter().map(entry).collect() };
        // Room for the index itself, whatever the places turn out to be: 10 bytes each at most.
        let most = files.iter().map(|(path, _)| path.len().saturating_add(25)).sum::<usize>();
        let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(10);
        let mut at = BLOCK_BYTES.saturating_add(most.next_multiple_of(BLOCK_BYTES));
        for entry in &mut index.entries {
            entry.at = at;
            at = at.saturating_add(entry.length.next_multiple_of(BLOCK_BYTES));
        }
        index
    }

    /// Encodes the header, padded to a block, and the index behind it.
    ///
    /// # Errors
    /// The encoder's own, or more files than an index holds.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        let index = encoding::encode(self)?;
        let length = u32::try_from(index.len()).unwrap_or(u32::MAX);
        if length > MAX_INDEX_BYTES {
            return Err(BundleError::IndexLength(length));
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(length.to_le_bytes());
        bytes.resize(usize::try_from(BLOCK_BYTES).unwrap_or(0), 0);
        bytes.extend(index);
        Ok(bytes)
    }

    /// Decodes the index of a bundle on a medium of `medium_bytes`, and checks where each file lies.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn decode(bytes: &[u8], medium_bytes: u64) -> Result<Self, BundleError> {
        let index: Self = encoding::decode(bytes)?;
        for entry in &index.entries {
            let end = entry.at.checked_add(entry.length);
            let lies =
                entry.at.is_multiple_of(BLOCK_BYTES) && end.is_some_and(|end| end <= medium_bytes);
            if !lies {
                return Err(BundleError::Place(entry.path.chars().take(64).collect()));
            }
        }
        Ok(index)
    }

    /// Finds the entry of the file at `path`.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files() -> Vec<(String, u64)> {
        vec![("os/metadata/timestamp.json".to_owned(), 7), ("os/targets/a".to_owned(), 5000)]
    }

    #[test]
    fn an_index_is_read_as_it_was_written() {
        let index = Index::of(&files());
        let bytes = index.encode().unwrap();
        let length = index_bytes(&bytes[..4096]).unwrap();
        assert_eq!(bytes.len(), 4096 + length as usize);
        assert!(index.entries[0].at >= bytes.len() as u64, "a file lies on the index");
        assert_eq!(index.entries[1].at, index.entries[0].at + 4096);
        let end = index.entries[1].at + 5000;
        assert_eq!(Index::decode(&bytes[4096..], end), Ok(index.clone()));
        assert_eq!(index.find("os/targets/a"), Some(&index.entries[1]));
        let cut = Index::decode(&bytes[4096..], end - 1);
        assert_eq!(cut, Err(BundleError::Place("os/targets/a".to_owned())));
    }

    #[test]
    fn what_is_no_bundle_is_told() {
        let good = Index::of(&files()).encode().unwrap();
        assert_eq!(index_bytes(&[]), Err(BundleError::Magic));
        assert_eq!(index_bytes(&[0; 4096]), Err(BundleError::Magic));
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            index_bytes(&bytes)
        };
        assert_eq!(with(8, 2), Err(BundleError::FormatVersion(2)));
        assert_eq!(with(15, 1).map_err(|e| matches!(e, BundleError::IndexLength(_))), Err(true));
        let mut wrong = Index::of(&files());
        wrong.entries[0].at = u64::MAX - 3;
        let bytes = encoding::encode(&wrong).unwrap();
        assert!(matches!(Index::decode(&bytes, u64::MAX), Err(BundleError::Place(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), length: u64) {
            let _ = index_bytes(&bytes);
            if let Ok(index) = Index::decode(&bytes, length) {
                let end = |entry: &Entry| entry.at.checked_add(entry.length);
                let lies = |entry: &Entry| end(entry).is_some_and(|end| end <= length);
                prop_assert!(index.entries.iter().all(lies));
            }
        }
    }
}
