//! Messages over TCP, each behind its length (RFC 1035, 4.2.2): how a question is sent, and how an answer arrives.

use crate::name_proxy::{Failure, MAX_TCP_ANSWER_BYTES};

/// Bytes of the length, which is big-endian and does not count itself.
const LENGTH_BYTES: usize = 2;
/// Bytes of the header that every message has (RFC 1035, 4.1.1).
const HEADER_BYTES: usize = 12;

/// Returns a message behind its length, in one piece, as RFC 7766 (8) would have it sent; `None` for one of more than
/// 65,535 bytes.
#[must_use]
pub fn framed(message: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(message.len()).ok()?;
    Some([&length.to_be_bytes()[..], message].concat())
}

/// One message that arrives over TCP, in pieces of any size. It never holds more than [`MAX_TCP_ANSWER_BYTES`] and
/// the length.
#[derive(Debug, Clone, Default)]
pub struct Arriving {
    bytes: Vec<u8>,
}

impl Arriving {
    /// Takes the next bytes. Returns the message once it is whole; what comes behind it is left out.
    ///
    /// # Errors
    /// The length is above the bound, or below that of a header.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<Option<&[u8]>, Failure> {
        loop {
            let (next, rest) = bytes.split_at(self.awaited().min(bytes.len()));
            self.bytes.extend_from_slice(next);
            bytes = rest;
            match self.length() {
                Some(length) if length > MAX_TCP_ANSWER_BYTES => return Err(Failure::TooLong),
                Some(length) if length < HEADER_BYTES => return Err(Failure::Malformed),
                Some(_) if self.awaited() == 0 => return Ok(self.bytes.get(LENGTH_BYTES..)),
                _ if bytes.is_empty() => return Ok(None),
                _ => {}
            }
        }
    }

    /// Returns the length that stands in front of the message, once it is there.
    fn length(&self) -> Option<usize> {
        self.bytes.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
    }

    /// Returns the number of bytes that are missing: of the length, and then of the message.
    fn awaited(&self) -> usize {
        let whole = LENGTH_BYTES.saturating_add(self.length().unwrap_or(0));
        whole.saturating_sub(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_beyond_the_bounds_is_refused_before_what_it_announces() {
        let taken = |length: usize| {
            let length = u16::try_from(length).unwrap().to_be_bytes();
            let mut arriving = Arriving::default();
            let refused = arriving.take(&length).map(|message| message.is_some());
            (refused, arriving.bytes.len())
        };
        assert_eq!(taken(MAX_TCP_ANSWER_BYTES), (Ok(false), 2));
        assert_eq!(taken(HEADER_BYTES), (Ok(false), 2));
        for length in [MAX_TCP_ANSWER_BYTES + 1, usize::from(u16::MAX)] {
            assert_eq!(taken(length), (Err(Failure::TooLong), 2), "{length}");
        }
        for length in [0, 1, HEADER_BYTES - 1] {
            assert_eq!(taken(length), (Err(Failure::Malformed), 2), "{length}");
        }
    }

    #[test]
    fn what_no_length_can_say_is_not_framed() {
        assert_eq!(framed(&[7; 3]), Some(vec![0, 3, 7, 7, 7]));
        assert!(framed(&[0; 65_535]).is_some());
        assert_eq!(framed(&[0; 65_536]), None);
    }

    proptest! {
        /// However it is cut, and whatever follows it, a message is what was sent, and not there before.
        #[test]
        fn a_message_arrives_in_pieces(
            message in proptest::collection::vec(any::<u8>(), HEADER_BYTES..=MAX_TCP_ANSWER_BYTES),
            behind in proptest::collection::vec(any::<u8>(), 0..40),
            pieces in proptest::collection::vec(1usize..700, 1..40)
        ) {
            let framed = framed(&message).unwrap();
            let sent = [framed.as_slice(), &behind].concat();
            let (mut arriving, mut at, mut next) = (Arriving::default(), 0, 0);
            let found = loop {
                let end = (at + pieces[next % pieces.len()]).min(sent.len());
                let found = arriving.take(&sent[at..end]).unwrap().map(<[u8]>::to_vec);
                prop_assert_eq!(found.is_some(), end >= framed.len());
                if let Some(found) = found {
                    break found;
                }
                (at, next) = (end, next + 1);
            };
            prop_assert_eq!(found, message);
        }

        /// Whatever arrives, it is not kept beyond the bound.
        #[test]
        fn what_arrives_is_bounded(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..6)
        ) {
            let mut arriving = Arriving::default();
            for piece in pieces {
                let is_over = !matches!(arriving.take(&piece), Ok(None));
                prop_assert!(arriving.bytes.len() <= LENGTH_BYTES + MAX_TCP_ANSWER_BYTES);
                if is_over {
                    break;
                }
            }
        }
    }
}
