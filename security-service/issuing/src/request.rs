//! Requests for issuing certificates (PKCS #10, RFC 2986): a service whose catalog's root is kept elsewhere makes the key, and whoever
//! has the root's key makes the certificate.

use crate::authority::{self, Certified};
use crate::certificate::{self, IssuingError};
use crate::root_key::RootKey;
use holdfast_evidence::messages::CatalogId;
use rcgen::{CertificateSigningRequestParams, DnType, DnValue, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use webpki::EndEntityCert;

/// Seconds of a day.
const DAY_S: u64 = 24 * 60 * 60;
/// Days for which an issuing certificate of a request is good where none are named: a service that is taken away is over by then.
pub const USUAL_DAYS: u16 = 30;
/// Most days for which one may be good: as long as the one of a service that has the root's key.
pub const MAX_DAYS: u16 = 90;
/// Longest request in bytes, as PEM.
pub const MAX_REQUEST_BYTES: u64 = 16 * 1024;

/// A request whose signature was verified: whoever has made it has the key.
#[derive(Debug)]
pub struct Request {
    catalog: CatalogId,
    parameters: CertificateSigningRequestParams,
}

/// Makes a key (PKCS #8) for the issuing certificate of a request.
///
/// # Errors
/// The system has no random numbers.
pub fn make_key() -> Result<Vec<u8>, IssuingError> {
    Ok(KeyPair::generate().map_err(IssuingError::Make)?.serialize_der())
}

/// Makes the request of a key (PKCS #8), as PEM.
///
/// # Errors
/// The key cannot be read, or the request cannot be made.
pub fn make(catalog: &CatalogId, key: &[u8]) -> Result<String, IssuingError> {
    let key = KeyPair::try_from(key).map_err(IssuingError::Key)?;
    let (mut parameters, _) = certificate::parameters(&name_of(catalog), 0, 0)?;
    // The serial number and the times are those of whoever issues.
    parameters.serial_number = None;
    let made = parameters.serialize_request(&key).map_err(IssuingError::Make)?;
    made.pem().map_err(IssuingError::Make)
}

/// Common name of what asks.
fn name_of(catalog: &CatalogId) -> String {
    format!("Holdfast {catalog} issuing")
}

impl Request {
    /// Reads a request (PEM) and verifies its signature.
    ///
    /// # Errors
    /// It is none, its signature is another's, or it asks for something else than an issuing certificate of a catalog.
    pub fn read(pem: &[u8]) -> Result<Self, IssuingError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem);
        let der = der.map_err(|_| IssuingError::NoRequest)?;
        let parameters = CertificateSigningRequestParams::from_der(&der);
        let parameters = parameters.map_err(IssuingError::Request)?;
        if parameters.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(IssuingError::RequestKey);
        }
        let name = match parameters.params.distinguished_name.get(&DnType::CommonName) {
            Some(DnValue::Utf8String(name)) => name.as_str(),
            Some(DnValue::PrintableString(name)) => name.as_str(),
            _ => "",
        };
        let id = name.strip_prefix("Holdfast ").and_then(|rest| rest.strip_suffix(" issuing"));
        let catalog = id.and_then(CatalogId::parse).ok_or(IssuingError::RequestName)?;
        Ok(Self { catalog, parameters })
    }

    /// Returns the catalog whose devices are to be issued certificates.
    #[must_use]
    pub fn catalog(&self) -> CatalogId {
        self.catalog
    }

    /// Makes the issuing certificate by what signs as the catalog's root, whose certificate (DER) is given as well, good for so many
    /// days. Nothing of the request goes into it but the key.
    ///
    /// # Errors
    /// The days are none, the root's certificate is another key's, or the certificate cannot be made.
    pub fn certify(
        &self,
        root: &RootKey,
        root_certificate: &[u8],
        days: u16,
        now: u64,
    ) -> Result<Certified, IssuingError> {
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(IssuingError::Days(days));
        }
        let valid_s = u64::from(days).saturating_mul(DAY_S);
        check_root(root, root_certificate)?;
        authority::certify(&self.catalog, root, &self.parameters.public_key, now, valid_s)
    }
}

/// Demands that a root's certificate (DER) is of what signs: the certificate that is made would be of no use otherwise.
fn check_root(root: &RootKey, certificate: &[u8]) -> Result<(), IssuingError> {
    let certificate = CertificateDer::from(certificate);
    let read = EndEntityCert::try_from(&certificate);
    let read = read.map_err(|source| IssuingError::Lint { what: "root's certificate", source })?;
    if read.subject_public_key_info().as_ref() != root.subject_public_key_info() {
        return Err(IssuingError::OtherRoot);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{is_root_of, make_root};
    use crate::issuer::LeafIssuer;
    use crate::lint;
    use crate::root_key;
    use crate::validity::Terms;
    use rcgen::CertificateParams;

    const CATALOG: CatalogId = CatalogId([0xca; 16]);
    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_certificate_of_a_request_issues_for_as_long_as_it_was_given() {
        let root = make_root(&CATALOG, NOW).unwrap();
        let root_key = root_key::software(root.key.serialized_der()).unwrap();
        let key = make_key().unwrap();
        let pem = make(&CATALOG, &key).unwrap();
        assert!(pem.len() as u64 <= MAX_REQUEST_BYTES);
        let request = Request::read(pem.as_bytes()).unwrap();
        assert_eq!(request.catalog(), CATALOG);
        let made = request.certify(&root_key, &root.certificate, USUAL_DAYS, NOW).unwrap();
        assert_eq!(made.not_after, NOW + 30 * DAY_S);
        assert!(!is_root_of(&CATALOG, &made.certificate));
        let terms = Terms::of(&made.certificate).unwrap();
        assert_eq!((&terms.serial, terms.not_after), (&made.serial, made.not_after));
        let issuer = |key: &[u8]| {
            let (serial, certificate) = (&made.serial, made.certificate.clone());
            LeafIssuer::new(&CATALOG, serial, certificate, key, made.not_after)
        };
        lint::check(&CATALOG, &issuer(&key).unwrap(), &root.certificate, NOW).unwrap();
        let ended =
            lint::check(&CATALOG, &issuer(&key).unwrap(), &root.certificate, made.not_after);
        assert!(matches!(ended, Err(IssuingError::Outlived)));
        let other = make_key().unwrap();
        assert!(matches!(issuer(&other), Err(IssuingError::OtherKey)));
        for days in [0, MAX_DAYS + 1] {
            let refused = request.certify(&root_key, &root.certificate, days, NOW);
            assert!(matches!(refused, Err(IssuingError::Days(_))), "{days}");
        }
        let other = make_root(&CATALOG, NOW).unwrap();
        let refused = request.certify(&root_key, &other.certificate, 1, NOW);
        assert!(matches!(refused, Err(IssuingError::OtherRoot)));
    }

    #[test]
    fn what_is_no_request_of_a_catalog_is_refused() {
        let key = KeyPair::generate().unwrap();
        let of = |name: &str| {
            let (mut parameters, _) = certificate::parameters(name, 0, 0).unwrap();
            parameters.serial_number = None;
            parameters.serialize_request(&key).unwrap().pem().unwrap()
        };
        let good = of(&name_of(&CATALOG));
        Request::read(good.as_bytes()).expect("the control");
        for name in ["", "Holdfast", &format!("Holdfast {CATALOG} root"), "Holdfast x issuing"] {
            let refused = Request::read(of(name).as_bytes());
            assert!(matches!(refused, Err(IssuingError::RequestName)), "{name}");
        }
        for text in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let refused = Request::read(text.as_bytes());
            assert!(matches!(refused, Err(IssuingError::NoRequest)), "{text}");
        }
        // Another key under the signature: whoever asks has to have the key.
        let der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).unwrap();
        let other = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap());
        let mut forged = der.to_vec();
        let at = |der: &[u8], point: &[u8]| {
            der.windows(point.len()).position(|window| window == point).unwrap()
        };
        let point = rcgen::PublicKeyData::der_bytes(&key).to_vec();
        let place = at(&forged, &point);
        let other = other.unwrap().der().to_vec();
        let start = at(&other, &[0x03, 0x42, 0x00, 0x04]) + 3;
        forged[place..place + point.len()].copy_from_slice(&other[start..start + point.len()]);
        let text = crate::pem::pem("CERTIFICATE REQUEST", &forged);
        assert!(matches!(Request::read(text.as_bytes()), Err(IssuingError::Request(_))));
    }
}
