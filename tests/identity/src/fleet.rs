//! A catalog with its authority, and leaves of apps on its devices, made by what the Security Service issues with.

use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::{Common, Leaf};
use holdfast_service_issuing::authority::{make_issuing, make_root};
use holdfast_service_issuing::issuer::LeafIssuer;
use holdfast_types::{ComponentId, Version};
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use std::time::{SystemTime, UNIX_EPOCH};

/// The catalog.
pub const CATALOG: CatalogId = CatalogId([0xca; 16]);
/// An app.
pub const CAMERA: ComponentId = ComponentId([0xa1; 16]);
/// Another app.
pub const PUMP: ComponentId = ComponentId([0xa2; 16]);
/// Rollback index of the release that devices run.
pub const INDEX: u64 = 7;

/// Returns the time, in seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The authority of a catalog.
#[derive(Debug)]
pub struct Fleet {
    /// Its root, DER.
    pub root: Vec<u8>,
    issuer: LeafIssuer,
}

/// A leaf that is to be issued.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The catalog that it names.
    pub catalog: CatalogId,
    /// Each byte of the device's id.
    pub device: u8,
    /// The app; `None` for the device.
    pub component: Option<ComponentId>,
    /// What it is good for.
    pub profile: Profile,
    /// The grade.
    pub grade: Grade,
    /// The rollback index.
    pub index: u64,
    /// Seconds for which it is good.
    pub valid_s: u64,
    /// Seconds ago at which it is issued.
    pub ago_s: u64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            catalog: CATALOG,
            device: 0xde,
            component: Some(CAMERA),
            profile: Profile::Full,
            grade: Grade::Hardware,
            index: INDEX,
            valid_s: 3600,
            ago_s: 0,
        }
    }
}

/// A certificate with its key, as the identity service of a device has them.
#[derive(Debug)]
pub struct Held {
    /// Leaf and issuing certificate, DER.
    pub chain: Vec<Vec<u8>>,
    /// Roots, DER.
    pub anchors: Vec<Vec<u8>>,
    /// End, in seconds since 1970.
    pub until: u64,
    /// The key.
    pub key: EcdsaKeyPair,
    /// The same key, PKCS #8.
    pub key_der: Vec<u8>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::new()
    }
}

impl Fleet {
    /// Makes a root and an issuing certificate.
    #[must_use]
    pub fn new() -> Self {
        let root = make_root(&CATALOG, now()).unwrap();
        let issuing = make_issuing(&CATALOG, root.key.serialized_der(), now()).unwrap();
        let key = issuing.key.serialize_der();
        let (certificate, end) = (issuing.certificate, issuing.not_after);
        let issuer = LeafIssuer::new(&CATALOG, &issuing.serial, certificate, &key, end).unwrap();
        Self { root: root.certificate, issuer }
    }

    /// Issues a leaf for a new key.
    #[must_use]
    pub fn issue(&self, wanted: Wanted) -> Held {
        let key = KeyPair::generate().unwrap();
        let point = Point::from_uncompressed(key.der_bytes()).unwrap();
        let common = Common {
            catalog: wanted.catalog,
            device: DeviceId([wanted.device; 32]),
            grade: wanted.grade,
            profile: wanted.profile,
            version: Version { major: 1, minor: 4, patch: 0 },
            index: wanted.index,
            now: now() - wanted.ago_s,
            valid_s: wanted.valid_s,
        };
        let purpose = wanted.component.map_or(Purpose::Device, Purpose::App);
        let leaf = Leaf::new(&common, purpose, point);
        let chain = vec![self.issuer.issue(&leaf).unwrap(), self.issuer.certificate().to_vec()];
        let key_der = key.serialize_der();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, &key_der, &SystemRandom::new()).unwrap();
        Held { chain, anchors: vec![self.root.clone()], until: leaf.not_after, key, key_der }
    }
}
