//! The key of a catalog's root: in memory, or in a token that it never leaves.

use crate::certificate::IssuingError;
use rcgen::{KeyPair, SigningKey};

/// What signs as a root, wherever its key is.
pub type RootKey = Box<dyn SigningKey + Send + Sync>;

/// Reads a key that is at hand (PKCS #8).
///
/// # Errors
/// It is none on P-256, or cannot be read.
pub fn software(pkcs8: &[u8]) -> Result<RootKey, IssuingError> {
    Ok(Box::new(KeyPair::try_from(pkcs8).map_err(IssuingError::Key)?))
}

/// Makes a key, and returns it as PKCS #8 as well.
///
/// # Errors
/// The system has no random numbers.
pub fn make_software() -> Result<(RootKey, Vec<u8>), IssuingError> {
    let key = KeyPair::generate().map_err(IssuingError::Make)?;
    let pkcs8 = key.serialize_der();
    Ok((Box::new(key), pkcs8))
}
