//! Batches: records as they are sent to the service, which keeps each one once.
//!
//! ```text
//! "HFR" | version: u8 | epoch: 8 bytes | frames (see `frame`)
//! ```
//!
//! The service takes a record for known when it has one of this epoch with the same or a higher sequence number, so that a batch
//! whose answer was lost can be sent again.

use crate::frame::{Frame, Frames};
use crate::record::Record;
use thiserror::Error;

/// Longest batch in bytes.
pub const MAX_BATCH_BYTES: usize = 64 * 1024;
/// Bytes in front of the frames.
pub const HEADER_BYTES: usize = 12;
/// Version of batches.
pub const VERSION: u8 = 1;
/// Media type of a batch in HTTP.
pub const MEDIA_TYPE: &str = "application/vnd.holdfast.reports";
/// Path of the device port at which batches are taken.
pub const PATH: &str = "/device/v1/reports";

const MAGIC: [u8; 3] = *b"HFR";

/// A random number that a spool gets when it is made: sequence numbers begin anew with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; 8]);

/// A batch, as the service reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The spool's epoch.
    pub epoch: Epoch,
    /// The records that were understood, in the order of their sequence numbers.
    pub records: Vec<Record>,
    /// How many frames were whole and of a kind that this release does not know.
    pub unknown: usize,
}

/// Some bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Longer than any batch may be.
    #[error("a batch has {0} bytes, more than {MAX_BATCH_BYTES}")]
    TooLong(usize),
    /// Not the beginning of a batch.
    #[error("it does not begin as a batch")]
    Beginning,
    /// Another version.
    #[error("a batch has version {0}, not {VERSION}")]
    Version(u8),
    /// A frame was cut or damaged.
    #[error("the frame at byte {0} is damaged")]
    Frame(usize),
    /// The sequence numbers do not rise.
    #[error("record {0} follows one with the same or a higher number")]
    Order(u64),
}

/// Returns the beginning of a batch, behind which its frames are put.
#[must_use]
pub fn begin(epoch: Epoch) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend(MAGIC);
    bytes.push(VERSION);
    bytes.extend(epoch.0);
    bytes
}

impl Batch {
    /// Reads a batch.
    ///
    /// # Errors
    /// See [`BatchError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAX_BATCH_BYTES {
            return Err(BatchError::TooLong(bytes.len()));
        }
        let rest = bytes.strip_prefix(&MAGIC).ok_or(BatchError::Beginning)?;
        let (version, rest) = rest.split_first().ok_or(BatchError::Beginning)?;
        if *version != VERSION {
            return Err(BatchError::Version(*version));
        }
        let (epoch, rest) = rest.split_first_chunk().ok_or(BatchError::Beginning)?;
        let mut frames = Frames::<Record>::of(rest);
        let (mut records, mut unknown) = (Vec::<Record>::new(), 0usize);
        for frame in frames.by_ref() {
            match frame {
                Frame::Known(record) => {
                    if records.last().is_some_and(|last| last.sequence >= record.sequence) {
                        return Err(BatchError::Order(record.sequence));
                    }
                    records.push(record);
                }
                Frame::Unknown => unknown = unknown.saturating_add(1),
            }
        }
        if !frames.rest().is_empty() {
            return Err(BatchError::Frame(bytes.len().saturating_sub(frames.rest().len())));
        }
        Ok(Self { epoch: Epoch(*epoch), records, unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::samples;
    use proptest::prelude::*;

    fn sample() -> (Vec<Record>, Vec<u8>) {
        let records = samples::records();
        let mut bytes = begin(Epoch([7; 8]));
        bytes.extend(records.iter().flat_map(|record| frame::encode(record).unwrap()));
        (records, bytes)
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let (records, bytes) = sample();
        assert_eq!(Batch::decode(&bytes), Ok(Batch { epoch: Epoch([7; 8]), records, unknown: 0 }));
    }

    #[test]
    fn what_is_no_batch_is_refused_with_its_reason() {
        let (records, bytes) = sample();
        let whole = bytes.len();
        assert_eq!(Batch::decode(&[]), Err(BatchError::Beginning));
        assert_eq!(Batch::decode(&bytes[..HEADER_BYTES - 1]), Err(BatchError::Beginning));
        let mut other = bytes.clone();
        other[3] = 2;
        assert_eq!(Batch::decode(&other), Err(BatchError::Version(2)));
        let last = frame::encode(records.last().unwrap()).unwrap().len();
        assert_eq!(Batch::decode(&bytes[..whole - 1]), Err(BatchError::Frame(whole - last)));
        let mut again = bytes.clone();
        again.extend(frame::encode(&records[0]).unwrap());
        assert_eq!(Batch::decode(&again), Err(BatchError::Order(records[0].sequence)));
        let long = vec![0; MAX_BATCH_BYTES + 1];
        assert_eq!(Batch::decode(&long), Err(BatchError::TooLong(long.len())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_batch_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut batch = begin(Epoch([0; 8]));
            batch.extend(bytes);
            let _ = Batch::decode(&batch);
        }
    }
}
