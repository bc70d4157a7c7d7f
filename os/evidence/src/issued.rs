//! Certificates that a service has issued, as far as a device reads them: for which key one is (RFC 5280, 4.1).
//!
//! What a certificate is good for is decided by those that it is shown to. The device keeps none that is not for its key,
//! since a handshake with it could only fail.

use crate::public::Point;
use thiserror::Error;

/// Most bytes of a certificate that is read.
pub const MAX_CERTIFICATE_BYTES: usize = 2048;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT Version`.
const VERSION: u8 = 0xa0;
/// `AlgorithmIdentifier` of a key on P-256 (RFC 5480, 2.1.1): `id-ecPublicKey`, `secp256r1`.
const P256: [u8; 19] = [
    0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
    0x03, 0x01, 0x07,
];

/// Errors of a certificate. Each names the field by the RFC's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// It is longer than [`MAX_CERTIFICATE_BYTES`].
    #[error("the certificate has {0} bytes, more than {MAX_CERTIFICATE_BYTES}")]
    TooLong(usize),
    /// A field is no DER of its kind, or ends behind what it is in.
    #[error("the certificate's {0} is malformed")]
    Field(&'static str),
    /// The key is none on P-256.
    #[error("the certificate's key is none on P-256")]
    OtherKey,
}

/// Reads one element: its content, and what follows it.
fn element<'a>(
    bytes: &'a [u8],
    tag: u8,
    field: &'static str,
) -> Result<(&'a [u8], &'a [u8]), CertificateError> {
    let malformed = CertificateError::Field(field);
    let (found, rest) = bytes.split_first().ok_or(malformed)?;
    let (length, rest) = match rest {
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
        [0x82, high @ 1..=0xff, low, rest @ ..] => {
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return Err(malformed),
    };
    if *found != tag {
        return Err(malformed);
    }
    rest.split_at_checked(length).ok_or(malformed)
}

/// Returns the key that a certificate, DER, is for. Its signature is not looked at.
///
/// # Errors
/// See [`CertificateError`].
pub fn certified_key(certificate: &[u8]) -> Result<Point, CertificateError> {
    if certificate.len() > MAX_CERTIFICATE_BYTES {
        return Err(CertificateError::TooLong(certificate.len()));
    }
    let whole = CertificateError::Field("Certificate");
    let (body, rest) = element(certificate, SEQUENCE, "Certificate")?;
    if !rest.is_empty() {
        return Err(whole);
    }
    let (mut rest, signature) = element(body, SEQUENCE, "tbsCertificate")?;
    let (_, signature) = element(signature, SEQUENCE, "signatureAlgorithm")?;
    let (_, end) = element(signature, BIT_STRING, "signatureValue")?;
    if !end.is_empty() {
        return Err(whole);
    }
    for (tag, field) in [
        (VERSION, "version"),
        (INTEGER, "serialNumber"),
        (SEQUENCE, "signature"),
        (SEQUENCE, "issuer"),
        (SEQUENCE, "validity"),
        (SEQUENCE, "subject"),
    ] {
        (_, rest) = element(rest, tag, field)?;
    }
    const KEY: &str = "subjectPublicKeyInfo";
    let (key, _) = element(rest, SEQUENCE, KEY)?;
    let (algorithm, key) = element(key, SEQUENCE, KEY)?;
    let (key, end) = element(key, BIT_STRING, KEY)?;
    if algorithm != P256 || !end.is_empty() {
        return Err(CertificateError::OtherKey);
    }
    // No bits of the last byte are unused.
    let point = key.strip_prefix(&[0]).and_then(Point::from_uncompressed);
    point.ok_or(CertificateError::OtherKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Point = Point { x: [7; 32], y: [9; 32] };

    fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap();
        let [high, low] = length.to_be_bytes();
        let head = match length {
            0..0x80 => vec![tag, low],
            0x80..0x100 => vec![tag, 0x81, low],
            _ => vec![tag, 0x82, high, low],
        };
        [head, content].concat()
    }

    fn certificate(algorithm: &[u8], key: &[u8], extensions: &[u8]) -> Vec<u8> {
        let spki = [der(SEQUENCE, &[algorithm]), der(BIT_STRING, &[&[0], key])];
        let spki = der(SEQUENCE, &[&spki[0], &spki[1]]);
        let version = der(VERSION, &[&der(INTEGER, &[&[2]])]);
        let sequence = der(SEQUENCE, &[&[1; 40]]);
        let serial = der(INTEGER, &[&[5; 16]]);
        let tbs = der(
            SEQUENCE,
            &[&version, &serial, &sequence, &sequence, &sequence, &sequence, &spki, extensions],
        );
        der(SEQUENCE, &[&tbs, &sequence, &der(BIT_STRING, &[&[0; 72]])])
    }

    #[test]
    fn a_certificate_says_which_key_it_is_for() {
        let key = POINT.uncompressed();
        for extensions in [0, 100, 300] {
            let bytes = certificate(&P256, &key, &vec![0; extensions]);
            assert_eq!(certified_key(&bytes), Ok(POINT), "{extensions}");
            for cut in 0..bytes.len() {
                certified_key(&bytes[..cut]).unwrap_err();
            }
            certified_key(&[&bytes[..], &[0]].concat()).unwrap_err();
        }
    }

    #[test]
    fn other_keys_and_what_is_too_long_are_refused() {
        let key = POINT.uncompressed();
        let mut p384 = P256;
        p384[18] = 0x22;
        let other = certificate(&p384, &key, &[]);
        assert_eq!(certified_key(&other), Err(CertificateError::OtherKey));
        let compressed = certificate(&P256, &key[..33], &[]);
        assert_eq!(certified_key(&compressed), Err(CertificateError::OtherKey));
        let long = certificate(&P256, &key, &vec![0; MAX_CERTIFICATE_BYTES]);
        assert!(matches!(certified_key(&long), Err(CertificateError::TooLong(_))));
        // A length that is longer than it need be is no DER.
        assert!(matches!(certified_key(&[0x30, 0x81, 0x01, 0]), Err(CertificateError::Field(_))));
    }
}
