//! The release that was staged last, as it is kept for what is told of it later.

use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::Version;
use holdfast_types::encoding::{self, EncodingError};

/// The release that was staged last, as far as it is told what has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) subject: ReleaseSubject,
    pub(crate) from: Version,
    pub(crate) to: Version,
    pub(crate) fetched_bytes: u64,
}

/// What a file has of it, in this order.
type Encoded = (ReleaseSubject, Version, Version, u64);

impl Tried {
    /// Name of the file on `state`.
    pub(crate) const FILE_NAME: &str = "tried";
    /// Longest encoding in bytes.
    pub(crate) const MAX_ENCODED_BYTES: usize = 64;

    pub(crate) fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        let encoded: Encoded = (self.subject, self.from, self.to, self.fetched_bytes);
        encoding::encode(&encoded)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let (subject, from, to, fetched_bytes): Encoded = encoding::decode(bytes)?;
        Ok(Self { subject, from, to, fetched_bytes })
    }
}
