//! The verifier: evidence in, and what was attested out, as one value. Nothing else of a check-in is to be believed.

use crate::attest::{Certification, ClockInfo, Header, Quote, Signature, Signed};
use crate::claims::{Claims, ClaimsError, MAX_CLAIMS_BYTES};
use crate::policy::{PcrDigest, PolicyDigest};
use crate::public::{AttestationKey, Point, Public, PublicError, Template};
use crate::qualifying::{Exporter, Purpose, QualifyingData};
use crate::structure::StructureError;
use holdfast_types::ComponentId;
use thiserror::Error;

/// Most keys that are certified in one check-in: the device's and those of apps.
pub const MAX_KEYS: usize = 16;

/// A verifier of ECDSA signatures with SHA-256 on P-256.
pub trait VerifySignature {
    /// True if the key has made this signature of the message. False for a point that is none of the curve.
    fn is_valid(&self, key: &Point, message: &[u8], signature: &Signature) -> bool;
}

/// A key that is to be certified.
#[derive(Debug, Clone, Copy)]
pub struct KeyEvidence<'a> {
    /// The purpose, which the certification's qualifying data has in it.
    pub purpose: Purpose,
    /// The public area, `TPM2B_PUBLIC` of [`Template::Signing`].
    pub public: &'a [u8],
    /// The certification by the attestation key.
    pub certification: Signed<'a>,
}

/// Evidence of a device with a TPM.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The claims, as they were sent.
    pub claims: &'a [u8],
    /// The quote of PCR 8.
    pub quote: Signed<'a>,
    /// The keys, at most [`MAX_KEYS`]: one of the device, and one at most for each app.
    pub keys: &'a [KeyEvidence<'a>],
}

/// What a device with a TPM has attested; only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attested {
    /// The claims, for which the measured OS vouches: as much as the release that PCR 8 names.
    pub claims: Claims,
    /// Digest of PCR 8. The caller looks for the release of which it is the one extend ([`PcrDigest::of_one_extend`]).
    pub pcr: PcrDigest,
    /// The TPM's own time.
    pub clock: ClockInfo,
    /// The version of the TPM's firmware, in its maker's form.
    pub firmware: u64,
    /// The keys, in the order of the evidence. Each is in this TPM alone, and signs while PCR 8 stays as it was quoted.
    pub keys: Vec<AttestedKey>,
}

/// A key with its purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttestedKey {
    /// The purpose.
    pub purpose: Purpose,
    /// The public key.
    pub point: Point,
}

impl Attested {
    /// True if the claims name the boot digest that PCR 8 was extended by, once.
    #[must_use]
    pub fn claims_agree_with_measurement(&self) -> bool {
        self.pcr.is_one_extend_of(&self.claims.os.digest)
    }
}

/// Errors of an attestation with its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SignedError {
    /// The attestation is malformed, of another kind, or of other PCRs.
    #[error("the attestation is not of the one form that is taken")]
    Attest(#[source] StructureError),
    /// The signature is malformed, or of another algorithm.
    #[error("the signature is not of the one form that is taken")]
    Signature(#[source] StructureError),
    /// The key that has signed says that it is another than the device's attestation key, or lies in another hierarchy than
    /// that of endorsement, where a TPM obscures its clock.
    #[error("the attestation is of another key than the device's attestation key")]
    Signer,
    /// The qualifying data is of another connection, of other claims, or of a key with another purpose.
    #[error("the qualifying data is not that of this connection, these claims and this purpose")]
    QualifyingData,
    /// The attestation key has not made the signature.
    #[error("the signature is not the attestation key's")]
    Forged,
}

/// Errors of a key that is to be certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeyError {
    /// The public area is none of the template with the policy of the quoted PCR.
    #[error("the public area is refused")]
    Public(#[source] PublicError),
    /// The certification is refused.
    #[error("the certification is refused")]
    Certification(#[source] SignedError),
    /// The certification is of a key with another name.
    #[error("the certification is of another key")]
    OtherKey,
}

/// Errors of evidence.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// There are more keys than [`MAX_KEYS`].
    #[error("the evidence has {0} keys, more than {MAX_KEYS}")]
    TooManyKeys(usize),
    /// The quote is refused.
    #[error("the quote is refused")]
    Quote(#[source] SignedError),
    /// A key is refused.
    #[error("the key of the {purpose} is refused")]
    Key {
        /// The purpose that is said.
        purpose: Purpose,
        /// The reason.
        #[source]
        source: KeyError,
    },
    /// The signature of a software key is not that of the device's.
    #[error("the signature is not the device's software key's")]
    Forged,
    /// The claims cannot be read.
    #[error("the claims are refused")]
    Claims(#[source] ClaimsError),
    /// There is no key of the device.
    #[error("there is no key of the device")]
    NoDeviceKey,
    /// Two keys have one purpose.
    #[error("there are two keys of the {0}")]
    RepeatedKey(Purpose),
    /// A key is for an app that the claims do not have.
    #[error("there is a key of app {0}, which is not claimed")]
    UnclaimedApp(ComponentId),
}

/// Verifies the evidence of a device with a TPM and returns what it attests.
///
/// `key` is the device's attestation key as it was enrolled, and `exporter` comes from the very connection on which the
/// evidence came. The bytes that are verified are the bytes that are read: claims are not looked at before the quote that
/// has their digest is the attestation key's.
///
/// # Errors
/// See [`EvidenceError`].
pub fn verify(
    evidence: &Evidence<'_>,
    exporter: &Exporter,
    key: &AttestationKey,
    signatures: &impl VerifySignature,
) -> Result<Attested, EvidenceError> {
    check_sizes(evidence.claims, evidence.keys.len())?;
    let data = QualifyingData::of_quote(exporter, evidence.claims);
    let quote = Quote::read(evidence.quote.attest);
    let quote = quote.map_err(|error| EvidenceError::Quote(SignedError::Attest(error)))?;
    check_signed(&evidence.quote, &quote.header, &data, key, signatures)
        .map_err(EvidenceError::Quote)?;
    let template = Template::Signing(PolicyDigest::of_pcr(&quote.pcr));
    let certified = |of: &KeyEvidence<'_>| {
        certified_key(of, &template, &data, key, signatures)
            .map_err(|source| EvidenceError::Key { purpose: of.purpose, source })
    };
    let keys = evidence.keys.iter().map(certified).collect::<Result<Vec<_>, _>>()?;
    let claims = Claims::read(evidence.claims).map_err(EvidenceError::Claims)?;
    check_purposes(&claims, keys.iter().map(|key| key.purpose))?;
    let Header { clock, firmware, .. } = quote.header;
    Ok(Attested { claims, pcr: quote.pcr, clock, firmware, keys })
}

/// Refuses what is too much before anything is calculated.
pub(crate) fn check_sizes(claims: &[u8], keys: usize) -> Result<(), EvidenceError> {
    if claims.len() > MAX_CLAIMS_BYTES {
        return Err(EvidenceError::Claims(ClaimsError::TooLong(claims.len())));
    }
    if keys > MAX_KEYS {
        return Err(EvidenceError::TooManyKeys(keys));
    }
    Ok(())
}

/// Demands one key of the device, and one at most for each app that is claimed.
pub(crate) fn check_purposes(
    claims: &Claims,
    purposes: impl Iterator<Item = Purpose>,
) -> Result<(), EvidenceError> {
    let mut seen = Vec::new();
    for purpose in purposes {
        if seen.contains(&purpose) {
            return Err(EvidenceError::RepeatedKey(purpose));
        }
        if let Purpose::App(id) = purpose
            && !claims.has_app(&id)
        {
            return Err(EvidenceError::UnclaimedApp(id));
        }
        seen.push(purpose);
    }
    if seen.contains(&Purpose::Device) { Ok(()) } else { Err(EvidenceError::NoDeviceKey) }
}

fn check_signed(
    signed: &Signed<'_>,
    header: &Header,
    data: &QualifyingData,
    key: &AttestationKey,
    signatures: &impl VerifySignature,
) -> Result<(), SignedError> {
    if header.signer != key.public().name().qualified_in_endorsement() {
        return Err(SignedError::Signer);
    }
    if header.extra != *data.bytes() {
        return Err(SignedError::QualifyingData);
    }
    let signature = Signature::read(signed.signature).map_err(SignedError::Signature)?;
    if signatures.is_valid(key.public().point(), signed.attest, &signature) {
        Ok(())
    } else {
        Err(SignedError::Forged)
    }
}

fn certified_key(
    evidence: &KeyEvidence<'_>,
    template: &Template,
    quote: &QualifyingData,
    key: &AttestationKey,
    signatures: &impl VerifySignature,
) -> Result<AttestedKey, KeyError> {
    let public = Public::read(evidence.public, template).map_err(KeyError::Public)?;
    let certification = Certification::read(evidence.certification.attest)
        .map_err(|error| KeyError::Certification(SignedError::Attest(error)))?;
    let data = quote.of_key(&evidence.purpose);
    check_signed(&evidence.certification, &certification.header, &data, key, signatures)
        .map_err(KeyError::Certification)?;
    if certification.name != public.name() {
        return Err(KeyError::OtherKey);
    }
    Ok(AttestedKey { purpose: evidence.purpose, point: *public.point() })
}
