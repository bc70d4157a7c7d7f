//! Certificates that a service has issued, as far as a device reads them: for which key one is, and of which grade
//! (RFC 5280, 4.1 and 4.2.1.4).
//!
//! What a certificate is good for is decided by those that it is shown to. The device keeps none that is not for its key,
//! since a handshake with it could only fail.

use crate::public::Point;
use holdfast_types::Grade;
use thiserror::Error;

/// Most bytes of a certificate that is read.
pub const MAX_CERTIFICATE_BYTES: usize = 2048;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[3] EXPLICIT Extensions`.
const EXTENSIONS: u8 = 0xa3;
/// `id-ce-certificatePolicies`, 2.5.29.32.
const POLICIES: [u8; 3] = [0x55, 0x1d, 0x20];
/// 1.3.6.1.4.1.32473.1.1, below which each grade is a policy.
const GRADES: [u8; 10] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xfd, 0x59, 0x01, 0x01];
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

/// Returns what follows the subject in a certificate, DER: its key first.
fn behind_subject(certificate: &[u8]) -> Result<&[u8], CertificateError> {
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
    Ok(rest)
}

/// Returns the certificate that bytes begin with, without what follows it: an index of a TPM's memory may be longer.
#[must_use]
pub fn certificate_in(bytes: &[u8]) -> Option<&[u8]> {
    let (_, rest) = element(bytes, SEQUENCE, "Certificate").ok()?;
    bytes.get(..bytes.len().checked_sub(rest.len())?)
}

/// Returns the key that a certificate, DER, is for. Its signature is not looked at.
///
/// # Errors
/// See [`CertificateError`].
pub fn certified_key(certificate: &[u8]) -> Result<Point, CertificateError> {
    const KEY: &str = "subjectPublicKeyInfo";
    let (key, _) = element(behind_subject(certificate)?, SEQUENCE, KEY)?;
    let (algorithm, key) = element(key, SEQUENCE, KEY)?;
    let (key, end) = element(key, BIT_STRING, KEY)?;
    if algorithm != P256 || !end.is_empty() {
        return Err(CertificateError::OtherKey);
    }
    // No bits of the last byte are unused.
    let point = key.strip_prefix(&[0]).and_then(Point::from_uncompressed);
    point.ok_or(CertificateError::OtherKey)
}

/// Returns the word for the grade that a certificate, DER, has as its policy. `None` where it has none that is known.
///
/// # Errors
/// See [`CertificateError`].
pub fn certified_grade(certificate: &[u8]) -> Result<Option<&'static str>, CertificateError> {
    let malformed = CertificateError::Field("extensions");
    let (_, rest) = element(behind_subject(certificate)?, SEQUENCE, "subjectPublicKeyInfo")?;
    if rest.is_empty() {
        return Ok(None);
    }
    let (extensions, end) = element(rest, EXTENSIONS, "extensions")?;
    let (mut extensions, inner_end) = element(extensions, SEQUENCE, "extensions")?;
    if !end.is_empty() || !inner_end.is_empty() {
        return Err(malformed);
    }
    while !extensions.is_empty() {
        let (extension, others) = element(extensions, SEQUENCE, "extensions")?;
        extensions = others;
        let (id, mut value) = element(extension, OBJECT_IDENTIFIER, "extnID")?;
        if id != POLICIES {
            continue;
        }
        if value.first() == Some(&BOOLEAN) {
            (_, value) = element(value, BOOLEAN, "critical")?;
        }
        let (value, end) = element(value, OCTET_STRING, "extnValue")?;
        let (mut policies, inner_end) = element(value, SEQUENCE, "certificatePolicies")?;
        if !end.is_empty() || !inner_end.is_empty() {
            return Err(malformed);
        }
        while !policies.is_empty() {
            let (policy, others) = element(policies, SEQUENCE, "certificatePolicies")?;
            policies = others;
            let (policy, _) = element(policy, OBJECT_IDENTIFIER, "policyIdentifier")?;
            if let Some(word) = grade_of_policy(policy) {
                return Ok(Some(word));
            }
        }
    }
    Ok(None)
}

/// Returns the word for the grade whose policy this is.
fn grade_of_policy(policy: &[u8]) -> Option<&'static str> {
    match policy.strip_prefix(&GRADES)? {
        [number] => Grade::of_policy(u64::from(*number)).map(Grade::word),
        _ => None,
    }
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
            let longer = [&bytes[..], &[0]].concat();
            certified_key(&longer).unwrap_err();
            assert_eq!(certificate_in(&longer), Some(&bytes[..]));
        }
        assert_eq!((certificate_in(&[]), certificate_in(&[0xff; 8])), (None, None));
    }

    /// A certificate with these policies, and an extension before them.
    fn with_policies(policies: &[&[u8]], critical: &[u8]) -> Vec<u8> {
        let policy = |id: &&[u8]| der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[id])]);
        let policies: Vec<u8> = policies.iter().flat_map(policy).collect();
        let extension = |id: &[u8], critical: &[u8], value: &[u8]| {
            let value = der(OCTET_STRING, &[value]);
            der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[id]), critical, &value])
        };
        let usage = extension(&[0x55, 0x1d, 0x0f], &[1, 1, 0xff], &[3, 2, 7, 0x80]);
        let policies = extension(&POLICIES, critical, &der(SEQUENCE, &[&policies]));
        let extensions = der(EXTENSIONS, &[&der(SEQUENCE, &[&usage, &policies])]);
        certificate(&P256, &POINT.uncompressed(), &extensions)
    }

    #[test]
    fn a_certificate_says_its_grade_by_its_policy() {
        let grade = |number: u8| [&GRADES[..], &[number]].concat();
        let words =
            [Some("hardware-verified"), Some("hardware"), Some("emulated"), Some("software"), None];
        for (number, word) in (1..).zip(words) {
            for critical in [&[][..], &[1, 1, 0xff]] {
                let bytes = with_policies(&[&[0x2a], &grade(number)], critical);
                assert_eq!(certified_grade(&bytes), Ok(word), "{number}");
                assert_eq!(certified_key(&bytes), Ok(POINT));
                for cut in 0..bytes.len() {
                    certified_grade(&bytes[..cut]).unwrap_err();
                }
            }
        }
        assert_eq!(certified_grade(&with_policies(&[&GRADES], &[])), Ok(None), "the arc alone");
        assert_eq!(certified_grade(&with_policies(&[], &[])), Ok(None));
        let none = certificate(&P256, &POINT.uncompressed(), &[]);
        assert_eq!(certified_grade(&none), Ok(None), "without extensions");
        let other = certificate(&P256, &POINT.uncompressed(), &[0; 4]);
        assert_eq!(certified_grade(&other), Err(CertificateError::Field("extensions")));
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
