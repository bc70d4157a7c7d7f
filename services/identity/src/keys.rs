//! The keys of a device, of whichever grade.

use crate::software_keys::{SoftwareKey, SoftwareKeyError, SoftwareKeys};
use crate::tpm::TpmError;
use crate::tpm_keys::{TpmKey, TpmKeys};
use holdfast_evidence::attest::Signature;
use holdfast_evidence::claims::TpmState;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::messages::{Bytes, EnrolKey, EvidenceMessage};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};

/// Errors of the device's keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The TPM did not do it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The key in software did not do it.
    #[error(transparent)]
    Software(#[from] SoftwareKeyError),
    /// The key is of another grade than the device.
    #[error("the key is of another grade than the device")]
    OtherGrade,
}

/// The keys that the device is known by. There is no way from one grade to the other: a device whose TPM fails has none.
#[derive(Debug)]
pub enum Keys {
    /// In a TPM.
    Tpm(TpmKeys),
    /// In `state`.
    Software(SoftwareKeys),
}

/// A key of the device or an app, as long as its certificates are good.
#[derive(Debug)]
pub enum Key {
    /// In a TPM.
    Tpm(TpmKey),
    /// In memory.
    Software(SoftwareKey),
}

impl Key {
    /// Returns the public key.
    #[must_use]
    pub fn point(&self) -> &Point {
        match self {
            Self::Tpm(key) => key.point(),
            Self::Software(key) => key.point(),
        }
    }
}

impl Keys {
    /// Returns the id of the device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        match self {
            Self::Tpm(keys) => keys.id(),
            Self::Software(keys) => keys.id(),
        }
    }

    /// Returns the word for the grade, as far as the device can tell it.
    #[must_use]
    pub fn grade(&self) -> &'static str {
        match self {
            Self::Tpm(_) => "tpm",
            Self::Software(_) => "software",
        }
    }

    /// Returns the state of the TPM, for the claims.
    #[must_use]
    pub fn tpm(&self) -> TpmState {
        match self {
            Self::Tpm(_) if self.have_failed() => TpmState::Failed,
            Self::Tpm(_) => TpmState::Ok,
            Self::Software(_) => TpmState::None,
        }
    }

    /// True once the TPM is asked no more.
    #[must_use]
    pub fn have_failed(&self) -> bool {
        match self {
            Self::Tpm(keys) => keys.has_failed(),
            Self::Software(_) => false,
        }
    }

    /// Returns what the device enrols with, over the connection with this exporter.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn enrol(&self, exporter: &Exporter) -> Result<EnrolKey, KeysError> {
        Ok(match self {
            Self::Tpm(keys) => EnrolKey::Tpm {
                ek: Bytes(keys.endorsement()),
                ek_certificate: keys.endorsement_certificate()?.map(Bytes),
                ak: Bytes(keys.attestation()),
            },
            Self::Software(keys) => EnrolKey::Software {
                point: Bytes(keys.point().to_vec()),
                signature: Bytes(keys.sign_enrolment(exporter)?.0.to_vec()),
            },
        })
    }

    /// Makes new keys, and attests them with the claims, over the connection with this exporter.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn attest(
        &self,
        exporter: &Exporter,
        claims: &[u8],
        purposes: &[Purpose],
    ) -> Result<(EvidenceMessage, Vec<(Purpose, Key)>), KeysError> {
        match self {
            Self::Tpm(keys) => {
                let data = QualifyingData::of_quote(exporter, claims);
                let (evidence, keys) = keys.attest(&data, purposes)?;
                let keys = keys.into_iter().map(|(purpose, key)| (purpose, Key::Tpm(key)));
                Ok((evidence, keys.collect()))
            }
            Self::Software(keys) => {
                let (evidence, keys) = keys.attest(exporter, claims, purposes)?;
                let keys = keys.into_iter().map(|(purpose, key)| (purpose, Key::Software(key)));
                Ok((evidence, keys.collect()))
            }
        }
    }

    /// Signs a message with a key of [`attest`](Self::attest), by ECDSA with SHA-256.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn sign(&self, key: &Key, message: &[u8]) -> Result<Signature, KeysError> {
        match (self, key) {
            (Self::Tpm(keys), Key::Tpm(key)) => Ok(keys.sign(key, message)?),
            (Self::Software(_), Key::Software(key)) => Ok(key.sign(message)?),
            _ => Err(KeysError::OtherGrade),
        }
    }
}
