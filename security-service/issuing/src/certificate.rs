//! What all certificates here have in common: times, serial numbers, names, and errors.

use holdfast_types::hex::hex;
use rcgen::{CertificateParams, DistinguishedName, DnType, SerialNumber};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use time::OffsetDateTime;

/// Bytes of a serial number: 127 random bits.
const SERIAL_BYTES: usize = 16;

/// Errors of issuing.
#[derive(Debug, Error)]
pub enum IssuingError {
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// A key cannot be read.
    #[error("cannot read the key")]
    Key(#[source] rcgen::Error),
    /// The system has no random numbers.
    #[error("there are no random numbers")]
    Random,
    /// A time lies outside what certificates can have.
    #[error("{0} seconds since 1970 is no time that a certificate can have")]
    Time(u64),
    /// A wrapped key cannot be opened: it is another's, or was wrapped by another key.
    #[error(
        "the wrapped key cannot be opened: is the key encryption key the one that it was wrapped by?"
    )]
    Unwrap,
    /// The key encryption key is no 32 bytes.
    #[error("the key encryption key must be 64 hex digits")]
    KeyEncryptionKey,
    /// Another verifier refuses what was made.
    #[error("webpki refuses the {what}")]
    Lint {
        /// What it refuses.
        what: &'static str,
        /// Why.
        #[source]
        source: webpki::Error,
    },
    /// Another verifier takes what it should refuse.
    #[error("webpki takes the {0}, which it should refuse")]
    LintTakes(&'static str),
    /// The key is not that of the certificate.
    #[error("the key is not that of the certificate")]
    OtherKey,
    /// A leaf would outlive what issues it.
    #[error("the issuing certificate ends before the leaf would: it has to be renewed")]
    Outlived,
    /// A file has no request.
    #[error("has no block BEGIN CERTIFICATE REQUEST")]
    NoRequest,
    /// A request cannot be read, or its signature is another's.
    #[error("the request cannot be read, or its signature is not good")]
    Request(#[source] rcgen::Error),
    /// A request is of a key of another kind.
    #[error("the key of the request is none on P-256")]
    RequestKey,
    /// A request names no catalog.
    #[error("the request names no catalog: it is not of `holdfast-service request`")]
    RequestName,
    /// What signs is another root than the certificate's.
    #[error("the key is not that of the root's certificate")]
    OtherRoot,
    /// Days for which no issuing certificate is made.
    #[error("an issuing certificate is good for 1 to 90 days, and not for {0}")]
    Days(u16),
    /// A name can stand in no certificate.
    #[error("`{0}` can stand in no certificate")]
    Name(String),
}

/// Returns parameters with a new serial number, a common name and times.
pub(crate) fn parameters(
    common_name: &str,
    not_before: u64,
    not_after: u64,
) -> Result<(CertificateParams, String), IssuingError> {
    let serial = serial()?;
    let mut parameters = CertificateParams::default();
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));
    parameters.distinguished_name = name(common_name);
    parameters.not_before = at(not_before)?;
    parameters.not_after = at(not_after)?;
    Ok((parameters, hex(&serial)))
}

/// Returns a name that is a common name.
pub(crate) fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn serial() -> Result<[u8; SERIAL_BYTES], IssuingError> {
    let mut serial = [0; SERIAL_BYTES];
    SystemRandom::new().fill(&mut serial).map_err(|_| IssuingError::Random)?;
    // Positive, and of the same length always.
    if let Some(first) = serial.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    Ok(serial)
}

fn at(seconds: u64) -> Result<OffsetDateTime, IssuingError> {
    let time = i64::try_from(seconds).ok();
    let time = time.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.ok_or(IssuingError::Time(seconds))
}
