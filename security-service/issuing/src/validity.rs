//! What a certificate says of itself (RFC 5280, 4.1): its serial number, whose it is, and from when to when it is good.

use holdfast_types::hex::hex;
use time::{Date, Month, OffsetDateTime, Time};
use yasna::models::ObjectIdentifier;

/// `commonName` (RFC 5280, A.1).
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];

/// First byte of the version, which a certificate of version 1 does not have.
const VERSION: u8 = 0xa0;
/// Types of times.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Type of a whole number.
const INTEGER: u8 = 2;

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Serial number, in hexadecimal.
    pub serial: String,
    /// Begin, in seconds since 1970.
    pub not_before: u64,
    /// End, in seconds since 1970.
    pub not_after: u64,
    /// The subject, DER.
    pub subject: Vec<u8>,
}

impl Terms {
    /// Reads those of a certificate (DER); none where they cannot be read.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let whole = elements(certificate)?;
        let mut signed = elements(whole.first()?)?.into_iter().peekable();
        // Without a version, it is of version 1.
        signed.next_if(|element| element.first() == Some(&VERSION));
        let serial = number(&signed.next()?)?;
        // Algorithm and issuer are between.
        let validity = elements(&signed.nth(2)?)?;
        let (not_before, not_after) = (time(validity.first()?)?, time(validity.get(1)?)?);
        Some(Self { serial, not_before, not_after, subject: signed.next()? })
    }
}

/// Returns when a certificate (DER) ends, in seconds since 1970; none where that cannot be read.
#[must_use]
pub fn not_after(certificate: &[u8]) -> Option<u64> {
    Terms::of(certificate).map(|terms| terms.not_after)
}

/// Returns a whole number that is not negative and has less than 128 bytes, in hexadecimal.
fn number(der: &[u8]) -> Option<String> {
    let (kind, rest) = der.split_first()?;
    let (length, bytes) = rest.split_first()?;
    let is_number = *kind == INTEGER && usize::from(*length) == bytes.len();
    let is_positive = bytes.first().is_some_and(|first| first & 0x80 == 0);
    (is_number && is_positive).then(|| hex(bytes))
}

/// Returns a name that is this common name alone, DER.
pub(crate) fn common_name(text: &str) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_set(|writer| {
                writer.next().write_sequence(|writer| {
                    writer.next().write_oid(&ObjectIdentifier::from_slice(COMMON_NAME));
                    writer.next().write_utf8_string(text);
                });
            });
        });
    })
}

/// The elements of a sequence, DER each.
fn elements(sequence: &[u8]) -> Option<Vec<Vec<u8>>> {
    yasna::parse_der(sequence, |reader| reader.collect_sequence_of(|part| part.read_der())).ok()
}

/// Reads `YYMMDDHHMMSSZ` or, with its type, `YYYYMMDDHHMMSSZ`: other forms are none of a certificate's.
fn time(der: &[u8]) -> Option<u64> {
    let (kind, rest) = der.split_first()?;
    let (length, text) = rest.split_first()?;
    if usize::from(*length) != text.len() {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match *kind {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i32 = year.parse().ok()?;
            (year.checked_add(if year < 50 { 2000 } else { 1900 })?, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| rest.get(at..at.saturating_add(2))?.parse::<u8>().ok();
    let month = Month::try_from(part(0)?).ok()?;
    let date = Date::from_calendar_date(year, month, part(2)?).ok()?;
    let time = Time::from_hms(part(4)?, part(6)?, part(8)?).ok()?;
    u64::try_from(OffsetDateTime::new_utc(date, time).unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{SERVICE_ROOT, make_service_root};

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let now = 1_800_000_000;
        let made = make_service_root(now).unwrap();
        assert_eq!(not_after(&made.certificate), Some(made.not_after));
        assert!(made.not_after > now);
        let terms = Terms::of(&made.certificate).unwrap();
        assert_eq!((&terms.serial, terms.not_before), (&made.serial, made.not_before));
        assert_eq!(terms.subject, common_name(SERVICE_ROOT));
        assert_ne!(terms.subject, common_name("Holdfast"), "the control");
        for length in 0..made.certificate.len() {
            assert_eq!(not_after(&made.certificate[..length]), None);
        }
    }

    #[test]
    fn a_time_is_of_one_of_two_forms() {
        let of = |kind: u8, text: &str| {
            time(&[&[kind, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat())
        };
        assert_eq!(of(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(of(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(of(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        for bad in ["", "Z", "7001010000Z", "700101000000", "701301000000Z", "70010100000éZ"] {
            assert_eq!(of(UTC_TIME, bad), None, "{bad}");
        }
        assert_eq!(of(GENERALIZED_TIME, "20500101000000.5Z"), None);
    }
}
