//! Evidence of a device without a TPM: one signature by a key in its `state`. Nothing is measured, so all of it is a claim.

use crate::attest::Signature;
use crate::claims::Claims;
use crate::public::Point;
use crate::qualifying::{Exporter, Purpose, QualifyingData};
use crate::verify::{AttestedKey, EvidenceError, VerifySignature, check_purposes, check_sizes};

/// Evidence of a device without a TPM.
#[derive(Debug, Clone, Copy)]
pub struct SoftwareEvidence<'a> {
    /// The claims, as they were sent.
    pub claims: &'a [u8],
    /// The keys, at most [`MAX_KEYS`](crate::verify::MAX_KEYS).
    pub keys: &'a [(Purpose, Point)],
    /// The signature of [`message`].
    pub signature: &'a Signature,
}

/// What a device without a TPM has signed; only [`verify_software`] makes one.
///
/// This is another type than [`Attested`](crate::verify::Attested) because the digest of the release in it is no more than
/// claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SoftwareAttested {
    /// The claims.
    pub claims: Claims,
    /// The keys, in the order of the evidence.
    pub keys: Vec<AttestedKey>,
}

/// Returns what the software key signs with ECDSA and SHA-256: the qualifying data of connection and claims, and each
/// key's purpose and public part.
#[must_use]
pub fn message(exporter: &Exporter, claims: &[u8], keys: &[(Purpose, Point)]) -> Vec<u8> {
    QualifyingData::of_quote(exporter, claims).of_software(keys)
}

/// Verifies the evidence of a device without a TPM by its enrolled key, and returns what was signed.
///
/// # Errors
/// [`EvidenceError`], but for its variants on quotes and certified keys.
pub fn verify_software(
    evidence: &SoftwareEvidence<'_>,
    exporter: &Exporter,
    key: &Point,
    signatures: &impl VerifySignature,
) -> Result<SoftwareAttested, EvidenceError> {
    check_sizes(evidence.claims, evidence.keys.len())?;
    let message = message(exporter, evidence.claims, evidence.keys);
    if !signatures.is_valid(key, &message, evidence.signature) {
        return Err(EvidenceError::Forged);
    }
    let claims = Claims::read(evidence.claims).map_err(EvidenceError::Claims)?;
    check_purposes(&claims, evidence.keys.iter().map(|(purpose, _)| *purpose))?;
    let keys = evidence.keys.iter();
    let keys = keys.map(|(purpose, point)| AttestedKey { purpose: *purpose, point: *point });
    Ok(SoftwareAttested { claims, keys: keys.collect() })
}
