//! A catalog's authority: the root, which may be offline, and issuing certificates, of which the next comes at half time.

use crate::certificate::{self, IssuingError};
use crate::root_key::{self, RootKey};
use crate::validity::{Terms, common_name};
use holdfast_evidence::messages::CatalogId;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SigningKey,
};

/// Seconds of a day.
const DAY_S: u64 = 24 * 60 * 60;
/// Seconds for which a root is good: about 20 years.
pub const ROOT_S: u64 = 20 * 365 * DAY_S;
/// Seconds for which an issuing certificate is good.
pub const ISSUING_S: u64 = 90 * DAY_S;
/// Seconds by which authorities are dated back: a device's clock may be behind.
const BACKDATED_S: u64 = DAY_S;
/// `certificatePolicies`, and in an authority's `anyPolicy`, so that policies of leaves are heard (RFC 5280, 4.2.1.4).
pub(crate) const CERTIFICATE_POLICIES: &[u64] = &[2, 5, 29, 32];
/// A `SEQUENCE` of one `PolicyInformation`: `anyPolicy`, 2.5.29.32.0.
const ANY_POLICY: [u8; 10] = [0x30, 0x08, 0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x20, 0x00];

/// A certificate of an authority with its key.
#[derive(Debug)]
pub struct Made {
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: KeyPair,
    /// Begin, in seconds since 1970.
    pub not_before: u64,
    /// End, in seconds since 1970.
    pub not_after: u64,
}

/// A certificate of an authority whose key is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// Begin, in seconds since 1970.
    pub not_before: u64,
    /// End, in seconds since 1970.
    pub not_after: u64,
}

/// Makes a catalog's root, with its key.
///
/// # Errors
/// See [`IssuingError`].
pub fn make_root(catalog: &CatalogId, now: u64) -> Result<Made, IssuingError> {
    make_self_signed(&root_name(catalog), now, ROOT_S)
}

/// Makes the root of a certificate for the service itself, which devices have as `authorities`.
///
/// # Errors
/// See [`IssuingError`].
pub fn make_service_root(now: u64) -> Result<Made, IssuingError> {
    make_self_signed(SERVICE_ROOT, now, ROOT_S)
}

/// Common name of the root of the service's own certificate.
pub(crate) const SERVICE_ROOT: &str = "Holdfast service";

fn make_self_signed(common_name: &str, now: u64, valid_s: u64) -> Result<Made, IssuingError> {
    let key = KeyPair::generate().map_err(IssuingError::Make)?;
    let Certified { serial, certificate, not_before, not_after } =
        self_sign(common_name, &key, now, valid_s)?;
    Ok(Made { serial, certificate, key, not_before, not_after })
}

fn self_sign(
    common_name: &str,
    key: &(dyn SigningKey + Send + Sync),
    now: u64,
    valid_s: u64,
) -> Result<Certified, IssuingError> {
    let not_before = now.saturating_sub(BACKDATED_S);
    let not_after = now.saturating_add(valid_s);
    let (mut parameters, serial) = certificate::parameters(common_name, not_before, not_after)?;
    constrain(&mut parameters, 1);
    let made = parameters.self_signed(&key).map_err(IssuingError::Make)?;
    Ok(Certified { serial, certificate: made.der().to_vec(), not_before, not_after })
}

/// Makes the certificate of a catalog's root, whose key may be anywhere.
///
/// # Errors
/// See [`IssuingError`].
pub fn make_root_by(
    catalog: &CatalogId,
    key: &RootKey,
    now: u64,
) -> Result<Certified, IssuingError> {
    self_sign(&root_name(catalog), &**key, now, ROOT_S)
}

/// Makes an issuing certificate of a catalog, by the key of its root (PKCS #8).
///
/// # Errors
/// See [`IssuingError`].
pub fn make_issuing(catalog: &CatalogId, root: &[u8], now: u64) -> Result<Made, IssuingError> {
    make_issuing_by(catalog, &root_key::software(root)?, now)
}

/// Makes an issuing certificate of a catalog, by what signs as its root.
///
/// # Errors
/// See [`IssuingError`].
pub fn make_issuing_by(
    catalog: &CatalogId,
    root: &RootKey,
    now: u64,
) -> Result<Made, IssuingError> {
    let key = KeyPair::generate().map_err(IssuingError::Make)?;
    let Certified { serial, certificate, not_before, not_after } =
        certify(catalog, root, &key, now, ISSUING_S)?;
    Ok(Made { serial, certificate, key, not_before, not_after })
}

/// Makes an issuing certificate of a key by what signs as a catalog's root, good for so many seconds.
pub(crate) fn certify(
    catalog: &CatalogId,
    root: &RootKey,
    key: &impl PublicKeyData,
    now: u64,
    valid_s: u64,
) -> Result<Certified, IssuingError> {
    let not_before = now.saturating_sub(BACKDATED_S);
    let not_after = now.saturating_add(valid_s);
    // Each has a name of its own, so that a verifier tries the right one of two.
    let (mut parameters, serial) = certificate::parameters("", not_before, not_after)?;
    parameters.distinguished_name = certificate::name(&issuing_name(catalog, &serial));
    constrain(&mut parameters, 0);
    parameters.use_authority_key_identifier_extension = true;
    let policies = CustomExtension::from_oid_content(CERTIFICATE_POLICIES, ANY_POLICY.to_vec());
    parameters.custom_extensions = vec![policies];
    let made = parameters.signed_by(key, &issuer_of(&root_name(catalog), &**root)?);
    let certificate = made.map_err(IssuingError::Make)?.der().to_vec();
    Ok(Certified { serial, certificate, not_before, not_after })
}

fn constrain(parameters: &mut CertificateParams, path_length: u8) {
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}

/// Returns an issuer of this name.
pub(crate) fn issuer_of<K: SigningKey>(
    common_name: &str,
    key: K,
) -> Result<Issuer<'static, K>, IssuingError> {
    let (mut parameters, _) = certificate::parameters(common_name, 0, 0)?;
    constrain(&mut parameters, 0);
    Ok(Issuer::new(parameters, key))
}

/// True if a certificate (DER) bears the name of a catalog's root.
#[must_use]
pub fn is_root_of(catalog: &CatalogId, certificate: &[u8]) -> bool {
    let terms = Terms::of(certificate);
    terms.is_some_and(|terms| terms.subject == common_name(&root_name(catalog)))
}

/// Common name of a catalog's root, of at most 64 bytes.
fn root_name(catalog: &CatalogId) -> String {
    format!("Holdfast {catalog} root")
}

/// Common name of an issuing certificate, of at most 64 bytes: the serial number's first 32 bits tell two from each other.
pub(crate) fn issuing_name(catalog: &CatalogId, serial: &str) -> String {
    let short: String = serial.chars().take(8).collect();
    format!("Holdfast {catalog} issuing {short}")
}

/// True if the next issuing certificate is to be made: the one that ends last is half over, or there is none.
#[must_use]
pub fn next_is_due(last: Option<(u64, u64)>, now: u64) -> bool {
    last.is_none_or(|(not_before, not_after)| {
        let half = not_after.saturating_sub(not_before) / 2;
        now >= not_before.saturating_add(half)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: CatalogId = CatalogId([0xca; 16]);

    #[test]
    fn the_next_issuing_certificate_is_due_at_half_time() {
        assert!(next_is_due(None, 0));
        for (now, due) in [(0, false), (149, false), (150, true), (200, true), (u64::MAX, true)] {
            assert_eq!(next_is_due(Some((100, 200)), now), due, "{now}");
        }
    }

    #[test]
    fn a_root_bears_its_catalogs_name() {
        let made = make_root(&CATALOG, 1_800_000_000).unwrap();
        assert!(is_root_of(&CATALOG, &made.certificate));
        assert!(!is_root_of(&CatalogId([0xcb; 16]), &made.certificate));
        assert!(!is_root_of(&CATALOG, b"no certificate"));
    }

    #[test]
    fn names_have_room_in_a_certificate() {
        assert!(issuing_name(&CATALOG, &"f".repeat(32)).len() <= 64);
        assert!(root_name(&CATALOG).len() <= 64);
    }
}
