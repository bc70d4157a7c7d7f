//! The protocol between `uplink`, which has the connection, and `report`, which has the records: one versioned postcard
//! message each, over a `SEQPACKET` socket that init has made between the two.
//!
//! `report` holds what `uplink` says for hostile: whoever takes `uplink` over reads what would be sent anyway, and can have records
//! forgotten that the service has not got; he learns nothing that is not sent.

use crate::Level;
use crate::batch::MAX_BATCH_BYTES;
use crate::record::CheckInOutcome;
use holdfast_types::encoding::{self, EncodingError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the protocol.
const VERSION: u8 = 1;
/// Longest message in bytes.
pub const MAX_MESSAGE_BYTES: usize = MAX_BATCH_BYTES + 64;

/// Longest request in bytes: what `report` has room for.
pub const MAX_REQUEST_BYTES: usize = 64;

/// A request of `uplink`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportExchangeRequest {
    /// Is an urgent upload due?
    IsDue,
    /// What waits is to be written to the spool, since an upload begins; its first batch.
    Begin,
    /// The next batch.
    Next,
    /// The service has stored every record up to this number.
    Stored(u64),
    /// The upload has failed.
    Failed,
    /// What has become of a check-in.
    CheckedIn(CheckInOutcome),
    /// The level that the service asks for.
    SetLevel(Level),
}

/// A reply of `report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportExchangeReply {
    /// Whether an urgent upload is due.
    Due(bool),
    /// A batch, whose last record has this number.
    Batch {
        /// The bytes to be sent.
        bytes: Vec<u8>,
        /// Number of its last record.
        through: u64,
    },
    /// There is nothing that the service is not known to have.
    Nothing,
    /// It is done.
    Done,
}

/// Errors of a message's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReportExchangeError {
    /// The bytes are no encoding of a message.
    #[error("the message cannot be decoded")]
    Malformed(#[from] EncodingError),
    /// The message has another version of the protocol.
    #[error("the message has version {0}, not {VERSION}")]
    Version(u8),
    /// The message is empty, or longer than it may be.
    #[error("the message has {0} bytes")]
    Length(usize),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u8,
    message: T,
}

/// Returns the bytes of a request or a reply.
///
/// # Errors
/// It is longer than [`MAX_MESSAGE_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ReportExchangeError> {
    let bytes = encoding::encode(&Envelope { version: VERSION, message })?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(ReportExchangeError::Length(bytes.len()));
    }
    Ok(bytes)
}

/// Reads a request or a reply.
///
/// # Errors
/// See [`ReportExchangeError`].
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, ReportExchangeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(ReportExchangeError::Length(bytes.len()));
    }
    match bytes.first() {
        Some(&VERSION) => {}
        Some(other) => return Err(ReportExchangeError::Version(*other)),
        None => return Err(ReportExchangeError::Length(0)),
    }
    let envelope: Envelope<T> = encoding::decode(bytes)?;
    Ok(envelope.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_fit() {
        for request in [
            ReportExchangeRequest::IsDue,
            ReportExchangeRequest::Begin,
            ReportExchangeRequest::Next,
            ReportExchangeRequest::Stored(u64::MAX),
            ReportExchangeRequest::Failed,
            ReportExchangeRequest::CheckedIn(CheckInOutcome::Certified),
            ReportExchangeRequest::SetLevel(Level::Full),
        ] {
            let encoded = encode(&request).unwrap();
            assert!(encoded.len() <= MAX_REQUEST_BYTES);
            assert_eq!(decode(&encoded), Ok(request));
        }
        for reply in [
            ReportExchangeReply::Due(true),
            ReportExchangeReply::Batch { bytes: vec![1; MAX_BATCH_BYTES], through: u64::MAX },
            ReportExchangeReply::Nothing,
            ReportExchangeReply::Done,
        ] {
            assert_eq!(decode(&encode(&reply).unwrap()), Ok(reply));
        }
    }

    #[test]
    fn other_versions_trailing_bytes_and_lengths_are_refused() {
        let good = encode(&ReportExchangeRequest::IsDue).unwrap();
        assert_eq!(decode(&good), Ok(ReportExchangeRequest::IsDue), "the control");
        let refused = |bytes: &[u8]| decode::<ReportExchangeRequest>(bytes).unwrap_err();
        assert_eq!(refused(&[&[2], &good[1..]].concat()), ReportExchangeError::Version(2));
        let longer = refused(&[&good[..], &[0]].concat());
        assert_eq!(longer, EncodingError::TrailingBytes(1).into());
        assert_eq!(refused(&[]), ReportExchangeError::Length(0));
        let long = vec![VERSION; MAX_MESSAGE_BYTES + 1];
        assert_eq!(refused(&long), ReportExchangeError::Length(MAX_MESSAGE_BYTES + 1));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let versioned = [&[VERSION], bytes.as_slice()].concat();
            for bytes in [&bytes, &versioned] {
                let _ = decode::<ReportExchangeRequest>(bytes);
                let _ = decode::<ReportExchangeReply>(bytes);
            }
        }
    }
}
