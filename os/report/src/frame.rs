//! Frames: how values lie in the spool's files and in batches, so that one which was cut or is not understood hides no
//! other.
//!
//! ```text
//! length: u16, little-endian | CRC-32 (ISO-HDLC) of the value: u32, little-endian | value: postcard, `length` bytes
//! ```

use crc::{CRC_32_ISO_HDLC, Crc};
use holdfast_types::encoding::{self, EncodingError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;
use thiserror::Error;

/// Longest value in bytes.
pub const MAX_VALUE_BYTES: usize = 256;
/// Bytes in front of each value.
pub const HEADER_BYTES: usize = 6;
/// Longest frame in bytes.
pub const MAX_FRAME_BYTES: usize = MAX_VALUE_BYTES + HEADER_BYTES;

const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

/// A value cannot be put into a frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The encoder fails.
    #[error("cannot encode a value")]
    Encode(#[source] EncodingError),
    /// The value is longer than any may be.
    #[error("a value has {0} bytes, more than {MAX_VALUE_BYTES}")]
    TooLong(usize),
}

/// Returns the CRC-32 of some bytes.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    CHECKSUM.checksum(bytes)
}

/// Puts a value into a frame.
///
/// # Errors
/// See [`FrameError`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let bytes = encoding::encode(value).map_err(FrameError::Encode)?;
    let length = u16::try_from(bytes.len()).ok().filter(|_| bytes.len() <= MAX_VALUE_BYTES);
    let length = length.ok_or(FrameError::TooLong(bytes.len()))?;
    let mut frame = Vec::with_capacity(bytes.len().saturating_add(HEADER_BYTES));
    frame.extend(length.to_le_bytes());
    frame.extend(checksum(&bytes).to_le_bytes());
    frame.extend(bytes);
    Ok(frame)
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame<T> {
    /// A value.
    Known(T),
    /// A whole frame whose value is of a kind that this release does not know.
    Unknown,
}

/// The frames of some bytes, up to the first that was cut or damaged.
#[derive(Debug, Clone)]
pub struct Frames<'a, T> {
    rest: &'a [u8],
    kind: PhantomData<T>,
}

impl<'a, T> Frames<'a, T> {
    /// Reads the frames of `bytes`.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, kind: PhantomData }
    }

    /// Returns the bytes that no whole frame begins with; empty once all of them were read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<T: Serialize + DeserializeOwned> Iterator for Frames<'_, T> {
    type Item = Frame<T>;

    fn next(&mut self) -> Option<Frame<T>> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length));
        if length == 0 || length > MAX_VALUE_BYTES {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(length)?;
        if checksum(bytes) != u32::from_le_bytes(*sum) {
            return None;
        }
        self.rest = rest;
        Some(encoding::decode(bytes).map_or(Frame::Unknown, Frame::Known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::samples;
    use proptest::prelude::*;

    fn all() -> (Vec<Record>, Vec<u8>) {
        let records = samples::records();
        let bytes = records.iter().flat_map(|record| encode(record).unwrap()).collect();
        (records, bytes)
    }

    #[test]
    fn every_kind_of_record_fits_a_frame_and_is_read_back() {
        let (records, bytes) = all();
        let mut frames = Frames::<Record>::of(&bytes);
        for record in records {
            assert_eq!(frames.next(), Some(Frame::Known(record)));
        }
        assert_eq!((frames.next(), frames.rest()), (None, &[][..]));
    }

    #[test]
    fn a_frame_that_was_cut_is_left_and_those_before_it_are_read() {
        let (records, bytes) = all();
        let last = encode(records.last().unwrap()).unwrap().len();
        for cut in 1..last {
            let mut frames = Frames::<Record>::of(&bytes[..bytes.len() - cut]);
            assert_eq!(frames.by_ref().count(), records.len() - 1);
            assert_eq!(frames.rest().len(), last - cut);
        }
    }

    #[test]
    fn a_record_of_a_later_release_hides_no_other() {
        let known = encode(&samples::records()[0]).unwrap();
        let unknown = [99, 1, 2, 3];
        let mut bytes = known.clone();
        bytes.extend(4u16.to_le_bytes());
        bytes.extend(checksum(&unknown).to_le_bytes());
        bytes.extend(unknown);
        bytes.extend(&known);
        let kinds: Vec<bool> =
            Frames::<Record>::of(&bytes).map(|frame| matches!(frame, Frame::Known(_))).collect();
        assert_eq!(kinds, [true, false, true]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_an_end_beyond_them(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut frames = Frames::<Record>::of(&bytes);
            let read = frames.by_ref().count();
            prop_assert!(read <= bytes.len() / (HEADER_BYTES + 1));
            prop_assert!(frames.rest().len() <= bytes.len());
        }

        #[test]
        fn a_flipped_bit_ends_the_frames_there(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (records, mut bytes) = all();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let read: Vec<Frame<Record>> = Frames::<Record>::of(&bytes).collect();
            prop_assert!(read.len() < records.len());
            for (frame, record) in read.into_iter().zip(records) {
                prop_assert_eq!(frame, Frame::Known(record));
            }
        }
    }
}
