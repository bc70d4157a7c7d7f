//! The answer of the process that looks at a package, or at an order to reset: one byte that says yes or no, and behind it
//! the encoded manifest of a package, or the reason.

use crate::app_manifest::{AppManifest, EncodedManifestError, MAX_ENCODED_BYTES};

use thiserror::Error;

/// Longest answer in bytes.
pub const MAX_ANSWER_BYTES: usize = MAX_ENCODED_BYTES + 1;
/// Longest reason in bytes.
const MAX_REASON_BYTES: usize = 240;

const YES: u8 = 1;
const NO: u8 = 0;

/// An error of admission: the app does not run, or the order is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdmissionError {
    /// The package, or the order, is refused for this reason.
    #[error("{0}")]
    Refused(String),
    /// There is no answer, or one that is none.
    #[error("it could not be looked at")]
    NoAnswer,
    /// The manifest in the answer is out of bounds.
    #[error("the answer about its package is wrong")]
    Manifest(#[from] EncodedManifestError),
}

/// The answer for a package whose encoded manifest this is.
#[must_use]
pub fn accept(manifest: &[u8]) -> Vec<u8> {
    [&[YES], manifest].concat()
}

/// The answer for an order that its owner has given.
#[must_use]
pub fn confirm() -> Vec<u8> {
    vec![YES]
}

/// The answer for a package or an order that is refused.
#[must_use]
pub fn refuse(reason: &str) -> Vec<u8> {
    let reason = reason.as_bytes();
    [&[NO], reason.get(..MAX_REASON_BYTES).unwrap_or(reason)].concat()
}

/// Reads an answer; the process that wrote it may be in the hand of the package's author.
///
/// # Errors
/// See [`AdmissionError`].
pub fn read(answer: &[u8]) -> Result<AppManifest, AdmissionError> {
    match answer.split_first() {
        Some((&YES, manifest)) if answer.len() <= MAX_ANSWER_BYTES => {
            Ok(AppManifest::decode(manifest)?)
        }
        Some((&NO, reason)) => {
            let reason = reason.get(..MAX_REASON_BYTES).unwrap_or(reason);
            Err(AdmissionError::Refused(holdfast_types::escape(reason)))
        }
        _ => Err(AdmissionError::NoAnswer),
    }
}

/// Reads the answer about an order.
///
/// # Errors
/// See [`AdmissionError`].
pub fn read_confirmed(answer: &[u8]) -> Result<(), AdmissionError> {
    match answer.split_first() {
        Some((&YES, [])) => Ok(()),
        Some((&NO, reason)) => {
            let reason = reason.get(..MAX_REASON_BYTES).unwrap_or(reason);
            Err(AdmissionError::Refused(holdfast_types::escape(reason)))
        }
        _ => Err(AdmissionError::NoAnswer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::tests::manifest;

    #[test]
    fn an_order_is_confirmed_by_one_byte_and_nothing_else() {
        assert_eq!(read_confirmed(&confirm()), Ok(()));
        assert_eq!(read_confirmed(&refuse("no")), Err(AdmissionError::Refused("no".into())));
        for nothing in [&[][..], &[2], &[YES, YES]] {
            assert_eq!(read_confirmed(nothing), Err(AdmissionError::NoAnswer));
        }
    }

    #[test]
    fn answers_are_read_and_anything_else_is_none() {
        let manifest = manifest();
        assert_eq!(read(&accept(&manifest.encode().unwrap())), Ok(manifest));
        assert_eq!(read(&refuse("bad\x1b[0m")), Err(AdmissionError::Refused("bad\\x1b[0m".into())));
        for nothing in [&[][..], &[2], b"yes"] {
            assert_eq!(read(nothing), Err(AdmissionError::NoAnswer));
        }
        assert!(matches!(read(&[YES, 1, 2]), Err(AdmissionError::Manifest(_))));
    }
}
