//! Who reports: whom the certificate names that a device shows, and whether its catalog has issued it.
//!
//! A handshake proves that the other end has the key of the certificate that it shows, and nothing else is known then. Here it becomes a
//! device of a catalog, by the catalog's own root.

use crate::leaf::device_uri;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::time::Duration;
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Most certificates of a chain.
pub const MAX_CERTIFICATES: usize = 4;
/// Most bytes of a chain's certificates.
pub const MAX_CHAIN_BYTES: usize = 16 * 1024;
/// The extended key usage of certificates for updates alone (see [`update_only_usage`](crate::leaf::update_only_usage)), as DER has it.
const UPDATE_ONLY: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xfd, 0x59, 0x01, 0x02, 0x01];

/// A device whose certificate was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reporter {
    /// Its catalog.
    pub catalog: CatalogId,
    /// Its id.
    pub device: DeviceId,
}

/// Errors of a chain of certificates.
#[derive(Debug, Error)]
pub enum ReporterError {
    /// There is none.
    #[error("no certificate was shown")]
    None,
    /// There are more than [`MAX_CERTIFICATES`].
    #[error("{0} certificates were shown, more than {MAX_CERTIFICATES}")]
    TooMany(usize),
    /// They have more than [`MAX_CHAIN_BYTES`].
    #[error("the certificates have {0} bytes, more than {MAX_CHAIN_BYTES}")]
    TooLong(usize),
    /// The first is no X.509 certificate that is taken.
    #[error("the certificate cannot be read")]
    Malformed(#[source] webpki::Error),
    /// The first names no device: an app's does not, nor does that of anything else.
    #[error("the certificate does not name a device")]
    NoDevice,
    /// The root of the catalog cannot be read.
    #[error("the catalog's root cannot be read")]
    Root(#[source] webpki::Error),
    /// The catalog has not issued it, it is not valid now, or it is for something else.
    #[error("the catalog does not vouch for the certificate")]
    Refused(#[source] webpki::Error),
}

/// Demands that a chain is within its bounds, before anything of it is read.
///
/// # Errors
/// There is none, or it is too long.
pub fn check_bounds<'c>(chain: impl Iterator<Item = &'c [u8]>) -> Result<(), ReporterError> {
    let (count, bytes) = chain.fold((0usize, 0usize), |(count, bytes), certificate| {
        (count.saturating_add(1), bytes.saturating_add(certificate.len()))
    });
    match count {
        0 => Err(ReporterError::None),
        count if count > MAX_CERTIFICATES => Err(ReporterError::TooMany(count)),
        _ if bytes > MAX_CHAIN_BYTES => Err(ReporterError::TooLong(bytes)),
        _ => Ok(()),
    }
}

/// Returns whom a chain's first certificate names. It says where the root is, and nothing more: only [`verify`] makes it true.
///
/// # Errors
/// The chain is out of its bounds, or names no device.
pub fn named(chain: &[Vec<u8>]) -> Result<Reporter, ReporterError> {
    check_bounds(chain.iter().map(Vec::as_slice))?;
    let leaf = chain.first().ok_or(ReporterError::None)?;
    let leaf = CertificateDer::from(leaf.as_slice());
    let leaf = EndEntityCert::try_from(&leaf).map_err(ReporterError::Malformed)?;
    let mut names = leaf.valid_uri_names();
    match (names.next(), names.next()) {
        (Some(name), None) => of_uri(name).ok_or(ReporterError::NoDevice),
        _ => Err(ReporterError::NoDevice),
    }
}

/// Reads a name as leaves of devices have it, and in no other spelling.
fn of_uri(uri: &str) -> Option<Reporter> {
    let (catalog, device) = uri.strip_prefix("spiffe://")?.split_once(".holdfast/device/")?;
    let (catalog, device) = (CatalogId::parse(catalog)?, device.parse().ok()?);
    (device_uri(&catalog, &device) == uri).then_some(Reporter { catalog, device })
}

/// Verifies a chain up to one of the catalog's roots. A certificate for updates alone is taken as well: what a device in that state has to
/// tell is of most interest, and it says nothing of anybody else.
///
/// # Errors
/// See [`ReporterError`].
pub fn verify(chain: &[Vec<u8>], root: &[u8], now: u64) -> Result<Reporter, ReporterError> {
    let reporter = named(chain)?;
    let root = CertificateDer::from(root);
    let anchors = [anchor_from_trusted_cert(&root).map_err(ReporterError::Root)?];
    let mut certificates = chain.iter().map(|bytes| CertificateDer::from(bytes.as_slice()));
    let leaf = certificates.next().ok_or(ReporterError::None)?;
    let leaf = EndEntityCert::try_from(&leaf).map_err(ReporterError::Malformed)?;
    let issuing: Vec<CertificateDer<'_>> = certificates.collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
    let verify = |usage| {
        let verified =
            leaf.verify_for_usage(algorithms, &anchors, &issuing, now, usage, None, None);
        verified.map(|_| ())
    };
    let verified = match verify(KeyUsage::client_auth()) {
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) => {
            verify(KeyUsage::required_if_present(UPDATE_ONLY))
        }
        verified => verified,
    };
    verified.map(|()| reporter).map_err(ReporterError::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::update_only_usage;

    #[test]
    fn a_name_has_one_spelling() {
        let catalog = CatalogId([0xca; 16]);
        let device = DeviceId([0xde; 32]);
        let uri = device_uri(&catalog, &device);
        assert_eq!(of_uri(&uri), Some(Reporter { catalog, device }), "the control");
        let app = format!("{uri}/app/{catalog}");
        let (upper, longer) = (uri.to_uppercase(), format!("{uri}0"));
        let other = uri.replace("spiffe", "https");
        let cut = &uri[..uri.len() - 1];
        for wrong in ["", &app, &upper, &longer, &other, cut, "spiffe://.holdfast/device/"] {
            assert_eq!(of_uri(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_chain_has_bounds() {
        let check = |lengths: &[usize]| {
            let chain: Vec<Vec<u8>> = lengths.iter().map(|length| vec![0; *length]).collect();
            check_bounds(chain.iter().map(Vec::as_slice))
        };
        check(&[MAX_CHAIN_BYTES / 4; 4]).unwrap();
        assert!(matches!(check(&[]), Err(ReporterError::None)));
        assert!(matches!(check(&[1; 5]), Err(ReporterError::TooMany(5))));
        assert!(matches!(check(&[MAX_CHAIN_BYTES, 1]), Err(ReporterError::TooLong(_))));
        assert!(matches!(named(&[vec![0x30; 40]]), Err(ReporterError::Malformed(_))));
    }

    #[test]
    fn the_usage_for_updates_alone_is_the_one_that_leaves_have() {
        let mut arcs = vec![1, 3];
        let mut arc = 0u64;
        for byte in &UPDATE_ONLY[1..] {
            arc = arc << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                arcs.push(arc);
                arc = 0;
            }
        }
        assert_eq!((UPDATE_ONLY[0], arcs), (0x2b, update_only_usage()));
    }
}
