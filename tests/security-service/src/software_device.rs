//! A device without a TPM: its key is in the memory of the test.

use crate::client::{Answer, Target};
use crate::{checked_in, post};
use holdfast_evidence::claims::{Claims, TpmState};
use holdfast_evidence::messages::{
    Bytes, CHECK_IN_PATH, CatalogId, CheckInRequest, DeviceId, ENROL_PATH, EnrolKey, EnrolRequest,
    EvidenceMessage, Holder, SoftwareKey, software_enrolment,
};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::software;
use holdfast_swtpm::claims;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use std::sync::Arc;

/// A device without a TPM. A clone of it is what copying its card makes.
#[derive(Debug, Clone)]
pub struct SoftwareDevice {
    key: Arc<EcdsaKeyPair>,
    /// Its id, of the key.
    pub id: DeviceId,
    /// The catalog that it belongs to.
    pub catalog: CatalogId,
    /// What it claims.
    pub claims: Claims,
    /// The receipt of its last check-in.
    pub receipt: Option<Bytes>,
}

/// Makes a key on P-256.
#[must_use]
pub fn software_key() -> EcdsaKeyPair {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
}

/// Returns the uncompressed point of a key.
#[must_use]
pub fn point(key: &EcdsaKeyPair) -> [u8; 65] {
    key.public_key().as_ref().try_into().unwrap()
}

impl SoftwareDevice {
    /// Makes one that nobody knows.
    #[must_use]
    pub fn new(catalog: CatalogId) -> Self {
        Self::with_key(catalog, software_key())
    }

    /// Makes one of a key.
    #[must_use]
    pub fn with_key(catalog: CatalogId, key: EcdsaKeyPair) -> Self {
        let id = DeviceId::of_software_key(&point(&key));
        let mut claims = claims();
        claims.tpm = TpmState::None;
        Self { key: Arc::new(key), id, catalog, claims, receipt: None }
    }

    fn sign(&self, message: &[u8]) -> Bytes {
        Bytes(self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
    }

    /// Enrols over a connection of its own.
    #[must_use]
    pub fn enrol(&self, target: &Target) -> Answer {
        let mut client = target.connect();
        let exporter = client.exporter(&self.id.0);
        let point = point(&self.key);
        let signature = self.sign(&software_enrolment(&exporter, &point));
        let request = EnrolRequest {
            catalog: self.catalog,
            board: "qemu-virt".to_owned(),
            image: "pump-fw".to_owned(),
            key: EnrolKey::Software { point: Bytes(point.to_vec()), signature },
        };
        post(&mut client, ENROL_PATH, &request)
    }

    /// Makes a check-in for a connection, with a new key.
    #[must_use]
    pub fn request(&self, exporter: &Exporter) -> CheckInRequest {
        self.request_with(exporter, &[(Purpose::Device, point(&software_key()))])
    }

    /// Makes a check-in for a connection, with these keys.
    #[must_use]
    pub fn request_with(
        &self,
        exporter: &Exporter,
        keys: &[(Purpose, [u8; 65])],
    ) -> CheckInRequest {
        let claims = self.claims.to_bytes().unwrap();
        let points = keys
            .iter()
            .map(|(purpose, point)| (*purpose, Point::from_uncompressed(point).unwrap()));
        let points: Vec<(Purpose, Point)> = points.collect();
        let signature = self.sign(&software::message(exporter, &claims, &points));
        let keys = of_keys(keys);
        CheckInRequest {
            catalog: self.catalog,
            device: self.id,
            claims: Bytes(claims),
            evidence: EvidenceMessage::Software { signature, keys },
            receipt: self.receipt.clone(),
            update: None,
        }
    }

    /// Checks in, and keeps the receipt.
    pub fn check_in(&mut self, target: &Target) -> Answer {
        let mut client = target.connect();
        let request = self.request(&client.exporter(&self.id.0));
        let answer = post(&mut client, CHECK_IN_PATH, &request);
        if answer.status == 200 {
            self.receipt = Some(checked_in(&answer).receipt);
        }
        answer
    }
}

fn of_keys(keys: &[(Purpose, [u8; 65])]) -> Vec<SoftwareKey> {
    let of = |(purpose, point): &(Purpose, [u8; 65])| SoftwareKey {
        holder: Holder(*purpose),
        point: Bytes(point.to_vec()),
    };
    keys.iter().map(of).collect()
}
