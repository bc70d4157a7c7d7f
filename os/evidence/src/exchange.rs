//! The protocol between `uplink`, which has the connection, and `identity`, which has the keys: one versioned postcard
//! message each, over a `SEQPACKET` socket that init has made between the two.
//!
//! Each side holds the other's bytes for hostile: they are bounded, and read whole or refused. A secret of a credential and
//! a private key never cross: `uplink` gets what it sends on, and nothing else.

use crate::device_id::DeviceId;
use crate::messages::{MAX_ANSWER_BYTES, MAX_REQUEST_BYTES};
use crate::qualifying::Exporter;
use holdfast_types::UpdateWait;
use holdfast_types::encoding::{self, EncodingError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the protocol.
const VERSION: u8 = 4;
/// Longest message in bytes: the answer of the service, handed on.
pub const MAX_MESSAGE_BYTES: usize = MAX_ANSWER_BYTES + 64;

/// A request of `uplink`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeRequest {
    /// Who is the device, and is it enrolled?
    Describe,
    /// The body of a request to enrol, for the connection with this exporter.
    Enrol([u8; 32]),
    /// The body of the request that ends an enrolment: the service's answer to the first, and this connection's exporter.
    Finish {
        /// Body of the service's answer.
        answer: Vec<u8>,
        /// The exporter.
        exporter: [u8; 32],
    },
    /// The service has enrolled the device.
    Enrolled,
    /// The body of a check-in for the connection with this exporter.
    CheckIn([u8; 32]),
    /// The same, of a device that does not take a release which it was assigned.
    CheckInWaiting {
        /// The exporter.
        exporter: [u8; 32],
        /// Why not.
        update: UpdateWait,
    },
    /// The service's answer to a check-in: certificates and receipt, to be kept.
    Keep(Vec<u8>),
    /// The device's certificates of the last check-in, for a connection to the service by them.
    Chain,
    /// The end of a client's handshake of TLS 1.3 with this transcript hash (SHA-256), signed by the device's key.
    SignHandshake([u8; 32]),
    /// A voucher of the service's, by which the device goes to another catalog.
    Follow(Vec<u8>),
}

impl ExchangeRequest {
    /// Returns the exporter of a request that has one.
    #[must_use]
    pub fn exporter(&self) -> Option<Exporter> {
        match self {
            Self::Enrol(exporter)
            | Self::CheckIn(exporter)
            | Self::CheckInWaiting { exporter, .. }
            | Self::Finish { exporter, .. } => Some(Exporter(*exporter)),
            Self::Describe
            | Self::Enrolled
            | Self::Keep(_)
            | Self::Chain
            | Self::SignHandshake(_)
            | Self::Follow(_) => None,
        }
    }
}

/// A reply of `identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExchangeReply {
    /// The device.
    Device {
        /// Its id, which is the exporter's context.
        id: [u8; 32],
        /// True once the service has enrolled it.
        is_enrolled: bool,
        /// True while the release that runs is on trial: what is attested changes with its commit.
        is_on_trial: bool,
    },
    /// The body of a request.
    Body(Vec<u8>),
    /// It is kept.
    Kept {
        /// Seconds until the next check-in.
        next_s: u32,
        /// True where the certificates are for updates alone.
        is_for_updates_alone: bool,
        /// Word for the level of failure reports that the service asks for, if it has said one.
        reports: Option<String>,
    },
    /// Certificates, DER, the leaf first.
    Chain(Vec<Vec<u8>>),
    /// A signature, DER.
    Signature(Vec<u8>),
    /// The device belongs to another catalog from now on, as soon as `identity` has started again.
    Followed,
    /// It was not done; the log of `identity` says why. A later request may succeed.
    Failed,
    /// The device has no identity until the next start: its TPM has failed, as the log of `identity` says.
    NoIdentity,
}

impl ExchangeReply {
    /// Returns the description of a device.
    #[must_use]
    pub fn device(id: &DeviceId, is_enrolled: bool, is_on_trial: bool) -> Self {
        Self::Device { id: id.0, is_enrolled, is_on_trial }
    }
}

/// Errors of a message's encoding.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExchangeError {
    /// The bytes are no encoding of a message.
    #[error("the message cannot be decoded")]
    Malformed(#[from] EncodingError),
    /// The message has another version of the protocol.
    #[error("the message has version {0}, not {VERSION}")]
    Version(u8),
    /// The message, or a body in it, is longer than it may be.
    #[error("the message has {0} bytes, too many")]
    TooLong(usize),
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
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ExchangeError> {
    let bytes = encoding::encode(&Envelope { version: VERSION, message })?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(ExchangeError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Reads a request or a reply.
///
/// # Errors
/// It is too long, malformed, or of another version.
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, ExchangeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(ExchangeError::TooLong(bytes.len()));
    }
    match bytes.first() {
        Some(&VERSION) => {}
        Some(other) => return Err(ExchangeError::Version(*other)),
        None => return Err(ExchangeError::TooLong(0)),
    }
    let envelope: Envelope<T> = encoding::decode(bytes)?;
    Ok(envelope.message)
}

const _: () = assert!(MAX_REQUEST_BYTES < MAX_MESSAGE_BYTES, "a body has room in a message");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::MAX_VOUCHER_BYTES;
    use proptest::prelude::*;

    #[test]
    fn messages_are_read_as_they_were_written_and_fit() {
        let exporter = [0xee; 32];
        for request in [
            ExchangeRequest::Describe,
            ExchangeRequest::Enrol(exporter),
            ExchangeRequest::Finish { answer: vec![1; MAX_ANSWER_BYTES], exporter },
            ExchangeRequest::Enrolled,
            ExchangeRequest::CheckIn(exporter),
            ExchangeRequest::CheckInWaiting { exporter, update: UpdateWait::Declined },
            ExchangeRequest::Keep(vec![2; MAX_ANSWER_BYTES]),
            ExchangeRequest::Chain,
            ExchangeRequest::SignHandshake(exporter),
            ExchangeRequest::Follow(vec![4; MAX_VOUCHER_BYTES]),
        ] {
            assert_eq!(decode(&encode(&request).unwrap()), Ok(request.clone()));
            let has = matches!(
                request,
                ExchangeRequest::Enrol(_)
                    | ExchangeRequest::CheckIn(_)
                    | ExchangeRequest::CheckInWaiting { .. }
                    | ExchangeRequest::Finish { .. }
            );
            assert_eq!(request.exporter(), has.then_some(Exporter(exporter)));
        }
        let id = DeviceId([7; 32]);
        for reply in [
            ExchangeReply::device(&id, true, false),
            ExchangeReply::Body(vec![3; MAX_REQUEST_BYTES]),
            ExchangeReply::Kept {
                next_s: u32::MAX,
                is_for_updates_alone: true,
                reports: Some("health".to_owned()),
            },
            ExchangeReply::Chain(vec![vec![5; 600]; 3]),
            ExchangeReply::Signature(vec![6; 72]),
            ExchangeReply::Followed,
            ExchangeReply::Failed,
            ExchangeReply::NoIdentity,
        ] {
            assert_eq!(decode(&encode(&reply).unwrap()), Ok(reply));
        }
    }

    #[test]
    fn other_versions_trailing_bytes_and_lengths_are_refused() {
        let good = encode(&ExchangeRequest::Describe).unwrap();
        assert_eq!(decode(&good), Ok(ExchangeRequest::Describe), "the control");
        let refused = |bytes: &[u8]| decode::<ExchangeRequest>(bytes).unwrap_err();
        let [_, rest @ ..] = good.as_slice() else { panic!("it is empty") };
        assert_eq!(refused(&[&[1], rest].concat()), ExchangeError::Version(1));
        let longer = refused(&[&good[..], &[0]].concat());
        assert_eq!(longer, EncodingError::TrailingBytes(1).into());
        assert_eq!(refused(&[]), ExchangeError::TooLong(0));
        assert!(matches!(refused(&[VERSION, 99]), ExchangeError::Malformed(_)));
        let long = vec![VERSION; MAX_MESSAGE_BYTES + 1];
        assert_eq!(refused(&long), ExchangeError::TooLong(MAX_MESSAGE_BYTES + 1));
        let long = encode(&ExchangeRequest::Keep(vec![0; MAX_MESSAGE_BYTES]));
        assert!(matches!(long, Err(ExchangeError::TooLong(_))));
        // A body that says that it is longer than the message.
        let begun = [VERSION, 5, 0xff, 0xff, 0xff, 0xff, 0x0f, 1];
        assert!(matches!(refused(&begun), ExchangeError::Malformed(_)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let versioned = [&[VERSION], bytes.as_slice()].concat();
            for bytes in [&bytes, &versioned] {
                let _ = decode::<ExchangeRequest>(bytes);
                let _ = decode::<ExchangeReply>(bytes);
            }
        }
    }
}
