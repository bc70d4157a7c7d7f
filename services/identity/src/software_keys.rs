//! The keys of a device without a TPM: one that lies in `state`, by which the device is known, and others in memory alone.

use holdfast_evidence::attest::Signature;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::messages::{
    Bytes, EvidenceMessage, Holder, SoftwareKey as KeyMessage, software_enrolment,
};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::software::message;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

/// Most bytes of the file with a key, PKCS #8.
pub const MAX_KEY_BYTES: usize = 256;

/// Errors of a key in software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SoftwareKeyError {
    /// There are no random numbers.
    #[error("cannot make a key")]
    Make,
    /// The bytes are no key on P-256.
    #[error("the key is damaged")]
    Damaged,
    /// The signature could not be made.
    #[error("cannot sign")]
    Sign,
}

/// A key on P-256 in this process's memory.
#[derive(Debug)]
pub struct SoftwareKey {
    pair: EcdsaKeyPair,
    point: Point,
}

impl SoftwareKey {
    /// Makes a key, and returns it as PKCS #8.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn make() -> Result<Vec<u8>, SoftwareKeyError> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
        Ok(made.map_err(|_| SoftwareKeyError::Make)?.as_ref().to_vec())
    }

    /// Reads what [`make`](Self::make) has made.
    ///
    /// # Errors
    /// It is damaged.
    pub fn read(pkcs8: &[u8]) -> Result<Self, SoftwareKeyError> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new());
        let pair = pair.map_err(|_| SoftwareKeyError::Damaged)?;
        let point = Point::from_uncompressed(pair.public_key().as_ref());
        Ok(Self { point: point.ok_or(SoftwareKeyError::Damaged)?, pair })
    }

    /// Returns the public key.
    #[must_use]
    pub fn point(&self) -> &Point {
        &self.point
    }

    /// Signs a message.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, SoftwareKeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message);
        let signature = signature.map_err(|_| SoftwareKeyError::Sign)?;
        signature.as_ref().try_into().map(Signature).map_err(|_| SoftwareKeyError::Sign)
    }
}

/// The key that the device is known by.
#[derive(Debug)]
pub struct SoftwareKeys {
    device: SoftwareKey,
}

impl SoftwareKeys {
    /// Takes the device's key.
    #[must_use]
    pub fn new(device: SoftwareKey) -> Self {
        Self { device }
    }

    /// Returns the id of the device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId::of_software_key(&self.point())
    }

    /// Returns the uncompressed point of the device's key.
    #[must_use]
    pub fn point(&self) -> [u8; 65] {
        self.device.point.uncompressed()
    }

    /// Signs the enrolment over the connection with this exporter.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn sign_enrolment(&self, exporter: &Exporter) -> Result<Signature, SoftwareKeyError> {
        self.device.sign(&software_enrolment(exporter, &self.point()))
    }

    /// Makes a new key for each purpose, and signs claims and keys.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn attest(
        &self,
        exporter: &Exporter,
        claims: &[u8],
        purposes: &[Purpose],
    ) -> Result<(EvidenceMessage, Vec<(Purpose, SoftwareKey)>), SoftwareKeyError> {
        let make = |purpose: &Purpose| Ok((*purpose, SoftwareKey::read(&SoftwareKey::make()?)?));
        let keys = purposes.iter().map(make).collect::<Result<Vec<_>, SoftwareKeyError>>()?;
        let points: Vec<_> = keys.iter().map(|(purpose, key)| (*purpose, key.point)).collect();
        let signature = self.device.sign(&message(exporter, claims, &points))?;
        let of_key = |(purpose, point): &(Purpose, Point)| KeyMessage {
            holder: Holder(*purpose),
            point: Bytes(point.uncompressed().to_vec()),
        };
        let evidence = EvidenceMessage::Software {
            signature: Bytes(signature.0.to_vec()),
            keys: points.iter().map(of_key).collect(),
        };
        Ok((evidence, keys))
    }
}
