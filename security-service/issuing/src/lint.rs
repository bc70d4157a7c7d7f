//! The second opinion: an authority is used once another verifier than the one who made it takes its leaves, and refuses those
//! that are good for updates alone.

use crate::certificate::IssuingError;
use crate::issuer::LeafIssuer;
use holdfast_evidence::messages::{CatalogId, DeviceId, Profile};
use holdfast_evidence::public::Point;
use holdfast_evidence::qualifying::Purpose;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::{Common, Leaf};
use holdfast_types::Version;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Verifies a chain of a leaf, what has issued it and a root, for one usage.
///
/// # Errors
/// webpki's.
pub fn verify_chain(
    leaf: &[u8],
    issuing: &[u8],
    root: &[u8],
    usage: KeyUsage,
    now: u64,
) -> Result<(), webpki::Error> {
    let root = CertificateDer::from(root);
    let anchor = anchor_from_trusted_cert(&root)?;
    let issuing = [CertificateDer::from(issuing)];
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
    leaf.verify_for_usage(algorithms, &[anchor], &issuing, now, usage, None, None).map(|_| ())
}

/// Has leaves issued, and reads them by webpki against the root.
///
/// # Errors
/// It refuses a full one, or takes one that is good for updates alone.
pub fn check(
    catalog: &CatalogId,
    issuer: &LeafIssuer,
    root: &[u8],
    now: u64,
) -> Result<(), IssuingError> {
    let usages = [
        ("full leaf as a client", KeyUsage::client_auth()),
        ("full leaf as a server", KeyUsage::server_auth()),
    ];
    let full = issuer.issue(&sample(catalog, Profile::Full, now)?)?;
    for (what, usage) in usages {
        let read = verify_chain(&full, issuer.certificate(), root, usage, now);
        read.map_err(|source| IssuingError::Lint { what, source })?;
    }
    let update = issuer.issue(&sample(catalog, Profile::UpdateOnly, now)?)?;
    for (_, usage) in usages {
        if verify_chain(&update, issuer.certificate(), root, usage, now).is_ok() {
            return Err(IssuingError::LintTakes("leaf for updates alone"));
        }
    }
    Ok(())
}

/// A leaf of a key that is thrown away.
fn sample(catalog: &CatalogId, profile: Profile, now: u64) -> Result<Leaf, IssuingError> {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random);
    let key = key.map_err(|_| IssuingError::Random)?;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random);
    let key = key.map_err(|_| IssuingError::Random)?;
    let point = Point::from_uncompressed(key.public_key().as_ref()).ok_or(IssuingError::Random)?;
    let common = Common {
        catalog: *catalog,
        device: DeviceId([0xff; 32]),
        grade: Grade::Software,
        profile,
        version: Version { major: 0, minor: 0, patch: 0 },
        index: 0,
        now,
        valid_s: 60,
    };
    Ok(Leaf::new(&common, Purpose::Device, point))
}
