//! Certificates of endorsement keys: whether a maker that the owner has listed vouches for this very key (TCG EK Credential
//! Profile for TPM 2.0, 3.2).

use crate::grade::Grade;
use holdfast_evidence::public::EndorsementKey;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use std::time::Duration;
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// `tcg-kp-EKCertificate`, 2.23.133.8.1.
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// `SubjectPublicKeyInfo` of a key on P-256 before its uncompressed point: `id-ecPublicKey`, `prime256v1`, a bit string.
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What makers sign with.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::ring::ECDSA_P256_SHA256,
    webpki::ring::ECDSA_P256_SHA384,
    webpki::ring::ECDSA_P384_SHA256,
    webpki::ring::ECDSA_P384_SHA384,
    webpki::ring::RSA_PKCS1_2048_8192_SHA256,
    webpki::ring::RSA_PKCS1_2048_8192_SHA384,
];

/// A maker that the owner has listed: an authority's certificate, and the grade that it vouches for.
#[derive(Debug, Clone)]
pub struct Maker {
    anchor: TrustAnchor<'static>,
    grade: Grade,
}

/// Errors of a certificate.
#[derive(Debug, Error)]
pub enum EndorsementError {
    /// It is no X.509 certificate that is taken.
    #[error("the certificate cannot be read")]
    Malformed(#[source] webpki::Error),
    /// It is of another key than the one that was sent.
    #[error("the certificate is of another endorsement key")]
    OtherKey,
    /// No listed maker has issued it for an endorsement key, or it is not valid now.
    #[error("no listed maker vouches for the endorsement key")]
    NoMaker(#[source] webpki::Error),
}

impl Maker {
    /// Reads an authority's certificate, DER.
    ///
    /// # Errors
    /// It is none.
    pub fn read(certificate: &[u8], grade: Grade) -> Result<Self, EndorsementError> {
        let certificate = CertificateDer::from(certificate);
        let anchor = anchor_from_trusted_cert(&certificate).map_err(EndorsementError::Malformed)?;
        Ok(Self { anchor: anchor.to_owned(), grade })
    }
}

/// Returns the grade that a maker's certificate vouches for.
///
/// Authorities between are listed as makers themselves, so there is no chain that somebody could make long.
///
/// # Errors
/// See [`EndorsementError`].
pub fn verify(
    certificate: &[u8],
    key: &EndorsementKey,
    makers: &[Maker],
    now: u64,
) -> Result<Grade, EndorsementError> {
    let certificate = CertificateDer::from(certificate);
    let leaf = EndEntityCert::try_from(&certificate).map_err(EndorsementError::Malformed)?;
    let spki = [&P256_SPKI[..], &key.public().point().uncompressed()].concat();
    if leaf.subject_public_key_info().as_ref() != spki {
        return Err(EndorsementError::OtherKey);
    }
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    let usage = KeyUsage::required(EK_CERTIFICATE);
    let mut last = webpki::Error::UnknownIssuer;
    for maker in makers {
        let anchors = std::slice::from_ref(&maker.anchor);
        match leaf.verify_for_usage(ALGORITHMS, anchors, &[], now, usage, None, None) {
            Ok(_) => return Ok(maker.grade),
            Err(webpki::Error::UnknownIssuer) => {}
            Err(error) => last = error,
        }
    }
    Err(EndorsementError::NoMaker(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_evidence::public::{Point, Template};
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa,
        KeyPair, PublicKeyData,
    };

    const NOW: u64 = 1_800_000_000;

    fn maker() -> CertifiedIssuer<'static, KeyPair> {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    }

    fn issue(by: &CertifiedIssuer<'_, KeyPair>, key: &KeyPair, usage: Vec<u64>) -> Vec<u8> {
        let mut parameters = CertificateParams::default();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(usage)];
        parameters.not_after = time::OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap();
        parameters.signed_by(key, by).unwrap().der().to_vec()
    }

    fn endorsement_key(key: &KeyPair) -> EndorsementKey {
        let area = Template::Endorsement.area(&Point::from_uncompressed(key.der_bytes()).unwrap());
        let length = u16::try_from(area.len()).unwrap().to_be_bytes();
        EndorsementKey::read(&[&length[..], &area].concat()).unwrap()
    }

    #[test]
    fn a_listed_maker_vouches_for_the_key_in_its_certificate() {
        let (listed, other) = (maker(), maker());
        let key = KeyPair::generate().unwrap();
        let usage = vec![2, 23, 133, 8, 1];
        let certificate = issue(&listed, &key, usage.clone());
        let makers = [
            Maker::read(other.der(), Grade::Emulated).unwrap(),
            Maker::read(listed.der(), Grade::HardwareVerified).unwrap(),
        ];
        let verify = |certificate: &[u8], key: &KeyPair, makers: &[Maker], now| {
            verify(certificate, &endorsement_key(key), makers, now)
        };
        let good = verify(&certificate, &key, &makers, NOW);
        assert_eq!(good.unwrap(), Grade::HardwareVerified, "the control");
        let unlisted = verify(&certificate, &key, &makers[..1], NOW);
        assert!(matches!(unlisted, Err(EndorsementError::NoMaker(_))));
        let other_key = KeyPair::generate().unwrap();
        let of_other = verify(&certificate, &other_key, &makers, NOW);
        assert!(matches!(of_other, Err(EndorsementError::OtherKey)));
        let late = verify(&certificate, &key, &makers, 1_900_000_001);
        assert!(matches!(late, Err(EndorsementError::NoMaker(_))));
        let for_tls = issue(&listed, &key, vec![1, 3, 6, 1, 5, 5, 7, 3, 2]);
        assert!(matches!(verify(&for_tls, &key, &makers, NOW), Err(EndorsementError::NoMaker(_))));
        assert!(matches!(verify(&[0x30], &key, &makers, NOW), Err(EndorsementError::Malformed(_))));
    }
}
