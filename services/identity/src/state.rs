//! What a device remembers of its enrolment, in one file on `state`.

use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::messages::MAX_RECEIPT_BYTES;
use holdfast_types::CatalogId;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};

/// Version of the file.
const VERSION: u8 = 1;

/// An enrolment. Another catalog or another key is another one, and this is then as good as missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    version: u8,
    /// The catalog in which the device is enrolled.
    pub catalog: CatalogId,
    /// Id of the device in it.
    pub device: [u8; 32],
    /// What the last check-in has returned, and the next one has to.
    pub receipt: Option<Vec<u8>>,
    /// End of the certificates of the last check-in, in seconds since 1970.
    pub until: u64,
}

/// Errors of reading the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrolmentError {
    /// The bytes are none of an enrolment.
    #[error("the record of the enrolment is damaged")]
    Damaged(#[from] EncodingError),
    /// Another release has written it, in another form.
    #[error("the record of the enrolment has version {0}, not {VERSION}")]
    Version(u8),
    /// The receipt is longer than any.
    #[error("the record of the enrolment has a receipt of {0} bytes")]
    Receipt(usize),
}

impl Enrolment {
    /// Name of the file.
    pub const FILE_NAME: &str = "enrolment";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 256;

    /// Begins an enrolment, without a receipt.
    #[must_use]
    pub fn new(catalog: CatalogId, device: &DeviceId) -> Self {
        Self { version: VERSION, catalog, device: device.0, receipt: None, until: 0 }
    }

    /// True where it is this device's in this catalog.
    #[must_use]
    pub fn is_of(&self, catalog: CatalogId, device: &DeviceId) -> bool {
        self.catalog == catalog && self.device == device.0
    }

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// See [`EnrolmentError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        if let Some(other) = bytes.first().filter(|version| **version != VERSION) {
            return Err(EnrolmentError::Version(*other));
        }
        let enrolment: Self = encoding::decode(bytes)?;
        let receipt = enrolment.receipt.as_ref().map_or(0, Vec::len);
        if receipt > MAX_RECEIPT_BYTES {
            return Err(EnrolmentError::Receipt(receipt));
        }
        Ok(enrolment)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a panic is a failed test"
    )]
    use super::*;

    #[test]
    fn an_enrolment_is_read_as_it_was_written_and_what_is_damaged_is_refused() {
        let device = DeviceId([7; 32]);
        let catalog = CatalogId([1; 16]);
        let mut enrolment = Enrolment::new(catalog, &device);
        enrolment.receipt = Some(vec![255; MAX_RECEIPT_BYTES]);
        enrolment.until = u64::MAX;
        let bytes = enrolment.encode().unwrap();
        assert!(bytes.len() <= Enrolment::MAX_ENCODED_BYTES);
        assert_eq!(Enrolment::decode(&bytes), Ok(enrolment.clone()));
        assert!(enrolment.is_of(catalog, &device));
        assert!(!enrolment.is_of(CatalogId([2; 16]), &device));
        assert!(!enrolment.is_of(catalog, &DeviceId([8; 32])));
        for cut in 0..bytes.len() {
            Enrolment::decode(&bytes[..cut]).unwrap_err();
        }
        let mut other = bytes.clone();
        other[0] = 2;
        assert_eq!(Enrolment::decode(&other), Err(EnrolmentError::Version(2)));
        enrolment.receipt = Some(vec![0; MAX_RECEIPT_BYTES + 1]);
        let long = Enrolment::decode(&enrolment.encode().unwrap());
        assert_eq!(long, Err(EnrolmentError::Receipt(MAX_RECEIPT_BYTES + 1)));
    }
}
