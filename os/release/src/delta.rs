//! Deltas: a release as what it shares with another one and what is new in it.
//!
//! It is one DEFLATE stream (RFC 1951) of steps. A step is the length of new bytes, those bytes, and the length of
//! bytes that are copied; if there are any, then where they lie in the other release, as the distance from the
//! end of the copy before (zigzag). Numbers are LEB128. A delta ends with its last step, where the release does.
//!
//! A delta is read before anything is known of it but its length: what comes of it is hostile until it was read
//! back and has the hashes of the release.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use thiserror::Error;

/// Bytes that are inflated at once.
const PIECE_BYTES: usize = 4096;
/// Bytes of the longest LEB128 number.
const MAX_NUMBER_BYTES: u32 = 10;
/// Hexadecimal digits of the other release's root hash in the path of a delta: enough to tell one from another.
const PATH_HASH_DIGITS: usize = 16;

/// Stands for the root hash of a release without a byte: the delta from it is the release, compressed.
pub const NOTHING: &str = "0000000000000000";

/// Returns the path of the delta that makes the release at `path` from the one with this root hash (in hexadecimal). A
/// delta is a target as any other file is, so that its length is signed.
#[must_use]
pub fn path(path: &str, from_root_hash: &str) -> String {
    let digits = from_root_hash.get(..PATH_HASH_DIGITS).unwrap_or(from_root_hash);
    format!("{path}.from-{digits}")
}

/// Errors of a delta: its bytes do not make the release.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DeltaError {
    /// The bytes are no DEFLATE stream (RFC 1951).
    #[error("the delta is not compressed as it should be")]
    Deflate,
    /// A number has more than 64 bits.
    #[error("the delta has a number that is too long")]
    Number,
    /// A step neither has new bytes nor copies any.
    #[error("the delta has a step that makes nothing")]
    Nothing,
    /// A step copies from in front of the other release, or beyond 64 bits.
    #[error("the delta copies from nowhere")]
    Place,
    /// The delta makes more bytes than the release has.
    #[error("the delta makes more than the release")]
    TooLong,
    /// The delta makes fewer bytes than the release has.
    #[error("the delta ends too early")]
    TooShort,
    /// Bytes follow the end of the stream.
    #[error("something follows the delta")]
    Trailing,
}

/// A run of bytes of the release, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytes<'a> {
    /// New bytes, from the delta itself.
    New(&'a [u8]),
    /// Bytes to copy from the other release.
    Copied {
        /// Offset of the first byte in the other release.
        at: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

/// The part of a step that is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    NewLength,
    New(u64),
    CopiedLength,
    Place(u64),
}

/// Reads a delta piece by piece. It keeps some 45 KB, whatever the release's size.
pub struct Patcher {
    inflate: Box<InflateState>,
    has_ended: bool,
    next: Next,
    number: u64,
    number_bytes: u32,
    /// The present step has new bytes.
    has_new: bool,
    /// Offset behind the last copy, in the other release.
    copied_to: u64,
    /// Bytes of the release that are still to be made.
    left: u64,
}

impl std::fmt::Debug for Patcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patcher").field("next", &self.next).field("left", &self.left).finish()
    }
}

impl Patcher {
    /// Begins a delta that makes a release of `length` bytes.
    #[must_use]
    pub fn new(length: u64) -> Self {
        Self {
            inflate: InflateState::new_boxed(DataFormat::Raw),
            has_ended: false,
            next: Next::NewLength,
            number: 0,
            number_bytes: 0,
            has_new: false,
            copied_to: 0,
            left: length,
        }
    }

    /// Takes the next piece of the delta, and hands to `put` the bytes of the release that it makes.
    ///
    /// # Errors
    /// The bytes are no delta of such a release, or `put` fails.
    pub fn take<E: From<DeltaError>>(
        &mut self,
        mut piece: &[u8],
        mut put: impl FnMut(Bytes<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut inflated = [0; PIECE_BYTES];
        loop {
            if self.has_ended {
                return if piece.is_empty() { Ok(()) } else { Err(DeltaError::Trailing.into()) };
            }
            let result = inflate(&mut self.inflate, piece, &mut inflated, MZFlush::None);
            self.has_ended = match result.status {
                Ok(status) => status == MZStatus::StreamEnd,
                // Nothing was left to be done.
                Err(miniz_oxide::MZError::Buf) => false,
                Err(_) => return Err(DeltaError::Deflate.into()),
            };
            piece = piece.get(result.bytes_consumed..).unwrap_or_default();
            self.read(inflated.get(..result.bytes_written).unwrap_or_default(), &mut put)?;
            if !self.has_ended && result.bytes_written == 0 && piece.is_empty() {
                return Ok(());
            }
            if !self.has_ended && result.bytes_written == 0 && result.bytes_consumed == 0 {
                return Err(DeltaError::Deflate.into());
            }
        }
    }

    /// Checks that the delta has made the whole release.
    ///
    /// # Errors
    /// [`DeltaError::TooShort`].
    pub fn finish(self) -> Result<(), DeltaError> {
        let between = self.next == Next::NewLength && self.number_bytes == 0;
        if self.has_ended && self.left == 0 && between { Ok(()) } else { Err(DeltaError::TooShort) }
    }

    fn read<E: From<DeltaError>>(
        &mut self,
        mut bytes: &[u8],
        put: &mut impl FnMut(Bytes<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some((first, rest)) = bytes.split_first() {
            if let Next::New(length) = self.next {
                let now = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
                let (new, later) = bytes.split_at(now);
                put(Bytes::New(new))?;
                bytes = later;
                let length = length.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX));
                self.next = if length == 0 { Next::CopiedLength } else { Next::New(length) };
                continue;
            }
            bytes = rest;
            if let Some(number) = self.number(*first)? {
                self.take_number(number, put)?;
            }
        }
        Ok(())
    }

    /// Takes a byte of a number. Returns the number when this was its last byte.
    fn number(&mut self, byte: u8) -> Result<Option<u64>, DeltaError> {
        let shift = self.number_bytes.saturating_mul(7);
        let bits = u64::from(byte & 0x7f);
        let shifted = bits.checked_shl(shift).filter(|shifted| shifted >> shift == bits);
        self.number |= shifted.ok_or(DeltaError::Number)?;
        self.number_bytes = self.number_bytes.saturating_add(1);
        if byte & 0x80 == 0 {
            self.number_bytes = 0;
            return Ok(Some(std::mem::take(&mut self.number)));
        }
        if self.number_bytes == MAX_NUMBER_BYTES { Err(DeltaError::Number) } else { Ok(None) }
    }

    fn take_number<E: From<DeltaError>>(
        &mut self,
        number: u64,
        put: &mut impl FnMut(Bytes<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.next = match self.next {
            Next::NewLength => {
                self.has_new = number > 0;
                self.spend(number)?;
                if number > 0 { Next::New(number) } else { Next::CopiedLength }
            }
            Next::CopiedLength => {
                if number == 0 && !self.has_new {
                    return Err(DeltaError::Nothing.into());
                }
                self.spend(number)?;
                if number > 0 { Next::Place(number) } else { Next::NewLength }
            }
            Next::Place(bytes) => {
                let distance =
                    (number >> 1).cast_signed() ^ (number & 1).cast_signed().wrapping_neg();
                let at = self.copied_to.checked_add_signed(distance).ok_or(DeltaError::Place)?;
                self.copied_to = at.checked_add(bytes).ok_or(DeltaError::Place)?;
                put(Bytes::Copied { at, bytes })?;
                Next::NewLength
            }
            Next::New(left) => Next::New(left),
        };
        Ok(())
    }

    fn spend(&mut self, bytes: u64) -> Result<(), DeltaError> {
        self.left = self.left.checked_sub(bytes).ok_or(DeltaError::TooLong)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniz_oxide::deflate::compress_to_vec;
    use proptest::prelude::*;

    fn patched(steps: &[u8], length: u64, pieces: usize) -> Result<Vec<u8>, DeltaError> {
        let old: Vec<u8> = (0..200).collect();
        let mut made = Vec::new();
        let mut patcher = Patcher::new(length);
        for piece in compress_to_vec(steps, 6).chunks(pieces) {
            patcher.take(piece, |bytes| {
                match bytes {
                    Bytes::New(new) => made.extend_from_slice(new),
                    Bytes::Copied { at, bytes } => {
                        let (at, bytes) = (usize::try_from(at), usize::try_from(bytes));
                        let from = old.get(at.unwrap_or(999)..).ok_or(DeltaError::Place)?;
                        made.extend(from.get(..bytes.unwrap()).ok_or(DeltaError::Place)?);
                    }
                }
                Ok::<(), DeltaError>(())
            })?;
        }
        patcher.finish()?;
        Ok(made)
    }

    #[test]
    fn a_release_is_made_of_what_is_new_and_what_is_copied() {
        // "ab", 3 from 10, then 2 from 5 bytes before the end of those, then "c".
        let steps = [2, b'a', b'b', 3, 20, 0, 2, 9, 1, b'c', 0];
        for pieces in [1, 2, 100] {
            let made = patched(&steps, 8, pieces);
            assert_eq!(made.as_deref(), Ok(&[b'a', b'b', 10, 11, 12, 8, 9, b'c'][..]));
        }
        assert_eq!(patched(&steps, 9, 100), Err(DeltaError::TooShort));
        assert_eq!(patched(&steps, 7, 100), Err(DeltaError::TooLong));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let of = |steps: &[u8]| patched(steps, 100, 100);
        assert_eq!(of(&[]), Err(DeltaError::TooShort));
        assert_eq!(of(&[0, 0]), Err(DeltaError::Nothing));
        assert_eq!(of(&[0, 1, 1]), Err(DeltaError::Place), "before the first byte");
        assert_eq!(of(&[0xff; 11]), Err(DeltaError::Number));
        assert_eq!(of(&[101]), Err(DeltaError::TooLong));
        assert_eq!(of(&[100, 1]), Err(DeltaError::TooShort));
        let mut patcher = Patcher::new(1);
        let put = |_: Bytes<'_>| Ok::<(), DeltaError>(());
        let mut stream = compress_to_vec(&[1, 7, 0], 6);
        stream.push(0);
        assert_eq!(patcher.take(&stream, put), Err(DeltaError::Trailing));
        assert_eq!(Patcher::new(1).take(&[0xff; 20], put), Err(DeltaError::Deflate));
    }

    #[test]
    fn a_path_tells_which_release_it_is_for() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(path("os/a-1.0.0.slot", &hash), "os/a-1.0.0.slot.from-0123456789abcdef");
    }

    proptest! {
        #[test]
        fn no_bytes_make_more_than_the_release(bytes: Vec<u8>, length in 0u64..1000, raw: bool) {
            let mut made = 0u64;
            let stream = if raw { bytes } else { compress_to_vec(&bytes, 1) };
            let mut patcher = Patcher::new(length);
            let taken = patcher.take(&stream, |bytes| {
                let more = match bytes {
                    Bytes::New(new) => u64::try_from(new.len()).unwrap(),
                    Bytes::Copied { bytes, .. } => bytes,
                };
                made = made.saturating_add(more);
                Ok::<(), DeltaError>(())
            });
            prop_assert!(made <= length);
            if taken.is_ok() && patcher.finish().is_ok() {
                prop_assert_eq!(made, length);
            }
        }
    }
}
