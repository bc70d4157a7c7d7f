//! A card with a bundle of releases, read in the place of a server.

use crate::uplink::{Fetched, UplinkError};
use holdfast_linux::PathError;
use holdfast_linux::direct::Direct;
use holdfast_release::bundle::{self, BLOCK_BYTES, BundleError, Index};
use holdfast_release::fetch::Fetch;
use sha2::{Digest, Sha256};
use std::os::fd::OwnedFd;

/// Errors of a card that holds a bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CardError {
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("the card {0}")]
    Bundle(BundleError),
}

/// A card with a bundle of releases.
#[derive(Debug)]
pub(crate) struct Card {
    disk: Direct,
    index: Index,
    /// SHA-256 of the index, by which the card is recognized.
    pub(crate) digest: [u8; 32],
}

impl Card {
    /// Opens the bundle on a disk. `None` where the disk holds something else.
    pub(crate) fn read(disk: OwnedFd) -> Result<Option<Self>, CardError> {
        let mut disk = Direct::from_descriptor(disk, "the card");
        let length = disk.length()?;
        let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let first = disk.bytes(0, narrow(BLOCK_BYTES.min(length)))?;
        let index_bytes = match bundle::index_bytes(&first) {
            Ok(bytes) => bytes,
            Err(BundleError::Magic) => return Ok(None),
            Err(error) => return Err(CardError::Bundle(error)),
        };
        let index = disk.bytes(BLOCK_BYTES, narrow(index_bytes.into()))?;
        let digest = Sha256::digest(&index).into();
        let index = Index::decode(&index, length).map_err(CardError::Bundle)?;
        Ok(Some(Self { disk, index, digest }))
    }

    /// Reads a range of a file, and hands its pieces to `take`.
    ///
    /// # Errors
    /// The card cannot be read, or what `take` says.
    pub(crate) fn fetch<E: From<UplinkError>>(
        &self,
        fetch: &Fetch,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        let Some(entry) = self.index.find(&format!("{}/{}", fetch.repository, fetch.path)) else {
            return Ok(Fetched::Missing);
        };
        let left = entry.length.saturating_sub(fetch.from).min(fetch.most_bytes);
        let mut stopped = None;
        let read = self.disk.read_from(entry.at.saturating_add(fetch.from), left, |piece| {
            take(piece).map_err(|error| {
                stopped = Some(error);
                Stop::Taker
            })
        });
        match (read, stopped) {
            (Ok(()), _) => Ok(Fetched::All),
            (Err(_), Some(error)) => Err(error),
            (Err(Stop::Card(error)), None) => Err(UplinkError::Card(error).into()),
            (Err(Stop::Taker), None) => Ok(Fetched::All),
        }
    }
}

/// Reasons to stop a read.
enum Stop {
    Card(PathError),
    Taker,
}

impl From<PathError> for Stop {
    fn from(error: PathError) -> Self {
        Self::Card(error)
    }
}
