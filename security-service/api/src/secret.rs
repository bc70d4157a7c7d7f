//! Random numbers and secrets, and the hashes by which secrets are kept.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_types::hex::sha256;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there are no random numbers")]
pub struct NoRandom;

/// Returns random bytes.
///
/// # Errors
/// See [`NoRandom`].
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// A new secret of a token or a ticket: 256 random bits behind a word that tells what it is.
#[derive(Clone)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// Makes one.
    ///
    /// # Errors
    /// See [`NoRandom`].
    pub fn make(word: &str) -> Result<Self, NoRandom> {
        Ok(Self(format!("{word}_{}", URL_SAFE_NO_PAD.encode(random::<32>()?))))
    }

    /// Returns its text, which is told once.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns what it is kept as.
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

/// Returns what a secret is kept as. It has 256 random bits, so nobody finds it by trying; a slow hash would only be work.
#[must_use]
pub fn hash(secret: &str) -> String {
    sha256(secret.as_bytes())
}
