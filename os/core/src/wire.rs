//! What a service may ask of init, as one versioned postcard message per datagram.
//!
//! Requests travel over the `SEQPACKET` socket that init hands to a component whose manifest
//! grants it. init reads them as hostile bytes: bounded by [`MAX_REQUEST_BYTES`], trailing data
//! refused.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Environment variable that holds the number of the socket to init.
pub const SOCKET_VARIABLE: &str = "HOLDFAST_INIT";
/// Version of the messages.
pub const VERSION: u8 = 1;
/// Longest request in bytes.
pub const MAX_REQUEST_BYTES: usize = 64;

/// A request to init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Stop every component in order and start the machine again.
    Reboot,
    /// Stop every component in order and switch the machine off.
    PowerOff,
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    version: u8,
    request: Request,
}

/// Why a message is no request.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// Not the bytes of a request.
    #[error("request cannot be decoded")]
    Malformed(#[source] postcard::Error),
    /// Bytes follow the request.
    #[error("request is followed by {0} unexpected bytes")]
    TrailingBytes(usize),
    /// Another version.
    #[error("request has version {0}, not {VERSION}")]
    Version(u8),
}

/// The bytes of a request.
///
/// # Errors
/// Never for today's requests; the encoder's error otherwise.
pub fn encode(request: Request) -> Result<Vec<u8>, WireError> {
    postcard::to_allocvec(&Envelope { version: VERSION, request }).map_err(WireError::Malformed)
}

/// The request in `bytes`.
///
/// # Errors
/// Malformed, of another version, or followed by more bytes.
pub fn decode(bytes: &[u8]) -> Result<Request, WireError> {
    let (envelope, rest) =
        postcard::take_from_bytes::<Envelope>(bytes).map_err(WireError::Malformed)?;
    if envelope.version != VERSION {
        return Err(WireError::Version(envelope.version));
    }
    if !rest.is_empty() {
        return Err(WireError::TrailingBytes(rest.len()));
    }
    Ok(envelope.request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_survive_the_wire_and_fit_it() {
        for request in [Request::Reboot, Request::PowerOff] {
            let bytes = encode(request).unwrap();
            assert!(bytes.len() <= MAX_REQUEST_BYTES);
            assert_eq!(decode(&bytes), Ok(request));
        }
    }

    #[test]
    fn another_version_and_trailing_bytes_are_refused() {
        assert_eq!(decode(&[2, 0]), Err(WireError::Version(2)));
        assert_eq!(decode(&[1, 0, 0]), Err(WireError::TrailingBytes(1)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
        }
    }
}
