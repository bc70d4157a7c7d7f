//! What a TPM signs, `TPMS_ATTEST`: quotes of PCR 8 and certifications of keys, and the signature (TPM 2.0 Library,
//! part 2, 10.12 and 11.3.4).

use crate::policy::{PCR_SELECTION, PcrDigest};
use crate::public::{ECDSA_SHA256, Name};
use crate::structure::{Reader, StructureError, put_sized};

/// `TPM_GENERATED_VALUE`: no restricted key signs bytes of others that begin so.
const GENERATED: [u8; 4] = [0xff, 0x54, 0x43, 0x47];
/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: [u8; 2] = [0x80, 0x18];
/// `TPM_ST_ATTEST_CERTIFY`.
const CERTIFY: [u8; 2] = [0x80, 0x17];

/// Bytes of a quote here: of one PCR in one bank, with 32 bytes of qualifying data.
pub const QUOTE_BYTES: usize = 145;
/// Bytes of a certification here.
pub const CERTIFICATION_BYTES: usize = 173;
/// Most bytes of a `TPMT_SIGNATURE` here.
pub const MAX_SIGNATURE_BYTES: usize = 72;

/// The TPM's own time (`TPMS_CLOCK_INFO`), by which a copy or a reset of it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockInfo {
    /// Milliseconds for which the TPM has had power since its owner was cleared last.
    pub clock_ms: u64,
    /// Resets since then.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// False where an earlier attestation may have had a later clock: power was lost.
    pub safe: bool,
}

impl ClockInfo {
    /// True if this time of a TPM does not lie before another one of the same TPM.
    ///
    /// Clocks are compared within one start alone: after a loss of power a TPM goes on from the clock that it had stored
    /// last, which may be an hour before. The count of resets goes back where somebody has cleared the TPM, or runs a copy
    /// of its state.
    #[must_use]
    pub fn is_not_before(&self, last: &Self) -> bool {
        let of = |info: &Self| (info.reset_count, info.restart_count, info.clock_ms);
        of(self) >= of(last)
    }
}

/// The fields that every attestation begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Qualified name of the key that has signed.
    pub signer: Name,
    /// The qualifying data, `extraData`.
    pub extra: [u8; 32],
    /// The TPM's own time.
    pub clock: ClockInfo,
    /// The version of the TPM's firmware, in its maker's form.
    pub firmware: u64,
}

/// A quote of PCR 8 in the bank of SHA-256, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// The fields that every attestation begins with.
    pub header: Header,
    /// SHA-256 over the value of PCR 8.
    pub pcr: PcrDigest,
}

/// A certification: the key of this name is in the TPM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certification {
    /// The fields that every attestation begins with.
    pub header: Header,
    /// The key's name.
    pub name: Name,
    /// The key's name with those of its parents.
    pub qualified_name: Name,
}

/// A signature, `TPMT_SIGNATURE` of ECDSA with SHA-256: r and s in 32 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// An attestation with its signature, as a TPM has returned them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'a> {
    /// `TPMS_ATTEST`, without a length.
    pub attest: &'a [u8],
    /// `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
}

impl Header {
    fn read(reader: &mut Reader<'_>, kind: [u8; 2]) -> Result<Self, StructureError> {
        reader.exactly("magic", &GENERATED)?;
        reader.exactly("type", &kind)?;
        Ok(Self {
            signer: Name::read(reader, "qualifiedSigner")?,
            extra: reader.sized_array("extraData")?,
            clock: ClockInfo {
                clock_ms: reader.u64("clock")?,
                reset_count: reader.u32("resetCount")?,
                restart_count: reader.u32("restartCount")?,
                safe: match reader.u8("safe")? {
                    0 => false,
                    1 => true,
                    _ => return Err(StructureError::Value("safe")),
                },
            },
            firmware: reader.u64("firmwareVersion")?,
        })
    }

    fn to_bytes(self, kind: [u8; 2]) -> Vec<u8> {
        let mut bytes = [&GENERATED[..], &kind].concat();
        put_sized(&mut bytes, &self.signer.bytes());
        put_sized(&mut bytes, &self.extra);
        bytes.extend(self.clock.clock_ms.to_be_bytes());
        bytes.extend(self.clock.reset_count.to_be_bytes());
        bytes.extend(self.clock.restart_count.to_be_bytes());
        bytes.push(u8::from(self.clock.safe));
        bytes.extend(self.firmware.to_be_bytes());
        bytes
    }
}

impl Quote {
    /// Reads a quote: [`QUOTE_BYTES`].
    ///
    /// # Errors
    /// Another kind of attestation, another selection of PCRs, or malformed.
    pub fn read(bytes: &[u8]) -> Result<Self, StructureError> {
        let mut reader = Reader::new(bytes);
        let header = Header::read(&mut reader, QUOTE)?;
        reader.exactly("pcrSelect", &PCR_SELECTION)?;
        let pcr = PcrDigest(reader.sized_array("pcrDigest")?);
        reader.end()?;
        Ok(Self { header, pcr })
    }

    /// Returns what is signed: for simulated devices, whose keys are not in a TPM.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes(QUOTE);
        bytes.extend(PCR_SELECTION);
        put_sized(&mut bytes, &self.pcr.0);
        bytes
    }
}

impl Certification {
    /// Reads a certification: [`CERTIFICATION_BYTES`].
    ///
    /// # Errors
    /// Another kind of attestation, or malformed.
    pub fn read(bytes: &[u8]) -> Result<Self, StructureError> {
        let mut reader = Reader::new(bytes);
        let header = Header::read(&mut reader, CERTIFY)?;
        let name = Name::read(&mut reader, "name")?;
        let qualified_name = Name::read(&mut reader, "qualifiedName")?;
        reader.end()?;
        Ok(Self { header, name, qualified_name })
    }

    /// Returns what is signed: for simulated devices, whose keys are not in a TPM.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes(CERTIFY);
        put_sized(&mut bytes, &self.name.bytes());
        put_sized(&mut bytes, &self.qualified_name.bytes());
        bytes
    }
}

/// A number of 32 bytes or fewer as an `INTEGER` in DER: without the zeros in front, and never with a sign.
fn der_integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let digits = number.get(zeros..).unwrap_or_default();
    let is_signed = digits.first().is_none_or(|first| *first >= 0x80);
    let digits = [if is_signed { &[0][..] } else { &[] }, digits].concat();
    let length = u8::try_from(digits.len()).unwrap_or(u8::MAX);
    [&[0x02, length][..], &digits].concat()
}

impl Signature {
    /// Returns the `Ecdsa-Sig-Value` in DER (RFC 3279, 2.2.3), as TLS has it.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let (r, s) = self.0.split_at(32);
        let numbers = [der_integer(r), der_integer(s)].concat();
        // Two numbers of at most 35 bytes each: the length has one byte.
        let length = u8::try_from(numbers.len()).unwrap_or(u8::MAX);
        [&[0x30, length][..], &numbers].concat()
    }

    /// Reads an `Ecdsa-Sig-Value` in DER (RFC 3279, 2.2.3): two numbers of at most 32 bytes, without their sign's byte.
    #[must_use]
    pub fn from_der(bytes: &[u8]) -> Option<Self> {
        let [0x30, length, rest @ ..] = bytes else { return None };
        if usize::from(*length) != rest.len() {
            return None;
        }
        let mut signature = [0; 64];
        let (r, s) = signature.split_at_mut(32);
        let mut rest = rest;
        for place in [r, s] {
            let [0x02, length, behind @ ..] = rest else { return None };
            let (number, behind) = behind.split_at_checked(usize::from(*length))?;
            rest = behind;
            let digits = match number {
                [0, digits @ ..] => digits,
                digits => digits,
            };
            if digits.len() > place.len() {
                return None;
            }
            place.iter_mut().rev().zip(digits.iter().rev()).for_each(|(to, from)| *to = *from);
        }
        rest.is_empty().then_some(Self(signature))
    }

    /// Reads a `TPMT_SIGNATURE`, of which r and s may be shorter than 32 bytes.
    ///
    /// # Errors
    /// Another algorithm, or malformed.
    pub fn read(bytes: &[u8]) -> Result<Self, StructureError> {
        let mut reader = Reader::new(bytes);
        let signature = Self::read_from(&mut reader)?;
        reader.end()?;
        Ok(signature)
    }

    pub(crate) fn read_from(reader: &mut Reader<'_>) -> Result<Self, StructureError> {
        reader.exactly("sigAlg", &ECDSA_SHA256)?;
        let mut bytes = [0; 64];
        let (r, s) = bytes.split_at_mut(32);
        for (field, place) in [("signatureR", r), ("signatureS", s)] {
            let number = reader.sized(field, 32)?;
            // From the last byte on: what is not there is zero.
            place.iter_mut().rev().zip(number.iter().rev()).for_each(|(to, from)| *to = *from);
        }
        Ok(Self(bytes))
    }

    /// Returns the `TPMT_SIGNATURE`, with all bytes of both numbers.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = ECDSA_SHA256.to_vec();
        let (r, s) = self.0.split_at(32);
        put_sized(&mut bytes, r);
        put_sized(&mut bytes, s);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public::{Point, Public, Template};

    fn name() -> Name {
        let area = Template::Attestation.area(&Point { x: [1; 32], y: [2; 32] });
        let mut bytes = Vec::new();
        put_sized(&mut bytes, &area);
        Public::read(&bytes, &Template::Attestation).unwrap().name()
    }

    fn header() -> Header {
        let clock = ClockInfo { clock_ms: 1 << 40, reset_count: 7, restart_count: 9, safe: true };
        Header { signer: name(), extra: [3; 32], clock, firmware: 0x0102_0304_0506_0708 }
    }

    #[test]
    fn attestations_have_the_sizes_of_real_ones() {
        let quote = Quote { header: header(), pcr: PcrDigest([4; 32]) };
        let bytes = quote.to_bytes();
        assert_eq!((bytes.len(), Quote::read(&bytes)), (QUOTE_BYTES, Ok(quote)));
        let certification =
            Certification { header: header(), name: name(), qualified_name: name() };
        let bytes = certification.to_bytes();
        assert_eq!(bytes.len(), CERTIFICATION_BYTES);
        assert_eq!(Certification::read(&bytes), Ok(certification));
        let signature = Signature([5; 64]);
        let bytes = signature.to_bytes();
        assert_eq!((bytes.len(), Signature::read(&bytes)), (MAX_SIGNATURE_BYTES, Ok(signature)));
    }

    /// Each field's place, the bytes that it is changed to, and the error that refuses it.
    #[test]
    fn each_field_that_has_one_value_is_compared() {
        let quote = Quote { header: header(), pcr: PcrDigest([4; 32]) }.to_bytes();
        Quote::read(&quote).unwrap();
        let cases: [(usize, &[u8], &str); 12] = [
            (0, &[0xff, 0x54, 0x43, 0x48], "magic"),
            (4, &CERTIFY, "type"),
            (6, &[0, 32], "qualifiedSigner"),
            (8, &[0, 0x0c], "qualifiedSigner"),
            (42, &[0, 31], "extraData"),
            (42, &[0, 33], "extraData"),
            (92, &[2], "safe"),
            (101, &[0, 0, 0, 2], "pcrSelect"),
            (105, &[0, 0x04], "pcrSelect"),
            (108, &[1, 1, 0], "pcrSelect"),
            (108, &[0, 2, 0], "pcrSelect"),
            (111, &[0, 31], "pcrDigest"),
        ];
        for (at, bytes, field) in cases {
            let mut other = quote.clone();
            other[at..at + bytes.len()].copy_from_slice(bytes);
            assert_eq!(Quote::read(&other), Err(StructureError::Value(field)), "{field} at {at}");
        }
        assert!(matches!(Quote::read(&quote[..144]), Err(StructureError::Short("pcrDigest"))));
        let longer = [&quote[..], &[0]].concat();
        assert_eq!(Quote::read(&longer), Err(StructureError::Trailing(1)));
        assert_eq!(Certification::read(&quote), Err(StructureError::Value("type")));
    }

    /// Counts of resets and restarts, and a clock, each with what it is compared with.
    #[test]
    fn a_clock_goes_back_with_a_reset_and_not_within_a_start() {
        let clock = |(reset_count, restart_count, clock_ms)| ClockInfo {
            clock_ms,
            reset_count,
            restart_count,
            safe: true,
        };
        let last = clock((5, 2, 1000));
        for later in [(5, 2, 1000), (5, 2, 1001), (5, 3, 1), (6, 0, 1)] {
            assert!(clock(later).is_not_before(&last), "{later:?}");
        }
        for earlier in [(5, 2, 999), (5, 1, 2000), (4, 9, 2000), (0, 0, 0)] {
            assert!(!clock(earlier).is_not_before(&last), "{earlier:?}");
        }
    }

    /// Numbers with a leading zero, with the sign's bit, and of nothing but zeros (X.690, 8.3).
    #[test]
    fn a_signature_in_der_has_each_number_in_as_few_bytes_as_it_needs() {
        let mut signature = Signature([0; 64]);
        assert_eq!(signature.to_der(), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        signature.0[31] = 0x7f;
        signature.0[63] = 0x80;
        assert_eq!(signature.to_der(), [0x30, 7, 2, 1, 0x7f, 2, 2, 0, 0x80]);
        let longest = Signature([0xff; 64]).to_der();
        assert_eq!((longest.len(), &longest[..5]), (72, &[0x30, 70, 2, 33, 0][..]));
    }

    /// A TPM may leave out leading zeros of a number.
    #[test]
    fn numbers_of_a_signature_may_be_short_and_not_long() {
        let mut short = ECDSA_SHA256.to_vec();
        put_sized(&mut short, &[9; 31]);
        put_sized(&mut short, &[8; 32]);
        let mut expected = [8; 64];
        expected[0] = 0;
        expected[1..32].fill(9);
        assert_eq!(Signature::read(&short), Ok(Signature(expected)));
        let mut long = ECDSA_SHA256.to_vec();
        put_sized(&mut long, &[9; 33]);
        put_sized(&mut long, &[8; 32]);
        assert!(matches!(Signature::read(&long), Err(StructureError::TooLong { .. })));
        let mut other = Signature([5; 64]).to_bytes();
        other[1] = 0x14;
        assert_eq!(Signature::read(&other), Err(StructureError::Value("sigAlg")));
        assert_eq!(Signature::read(&short[..66]), Err(StructureError::Short("signatureS")));
    }
}
