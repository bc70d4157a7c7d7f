//! Keys for the boot loader: RSA-3072, as PEM files that any OpenSSL reads.

use crate::key::{DEVELOPMENT, KeyError};
use crate::key_file::{KeyFile, Wanted};
use crate::sha256;
use holdfast_types::KeyId;
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;
use rsa::{BoxedUint, PrivateKey, PublicKey};
use std::path::Path;

/// Signature algorithm of slots, by U-Boot's name.
pub const ALGORITHM: &str = "sha256,rsa3072";
/// Bytes of modulus and signature.
pub const KEY_BYTES: usize = 384;
const BITS: u32 = 3072;
const EXPONENT: u64 = 65_537;

/// Public key, which the boot loader holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootKey {
    key: PublicKey,
    /// True for a development key.
    pub development: bool,
}

/// Private key, which signs slots.
#[derive(Clone)]
pub struct BootSigningKey {
    key: PrivateKey,
    development: bool,
}

impl std::fmt::Debug for BootSigningKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BootSigningKey").finish_non_exhaustive()
    }
}

/// A key that is none, or not of the kind that the boot loader takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key is no RSA key of {BITS} bits with exponent {EXPONENT}{}", reason.as_deref().map(|r| format!(" ({r})")).unwrap_or_default())]
pub struct BootKeyError {
    reason: Option<String>,
}

/// A public key as U-Boot calculates with it, big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Montgomery {
    /// 3072.
    pub bits: u32,
    /// Minus the inverse of the modulus, modulo 2^32.
    pub n0_inverse: u32,
    /// 65537.
    pub exponent: u64,
    /// The modulus.
    pub modulus: Vec<u8>,
    /// 2^6144 modulo the modulus.
    pub r_squared: Vec<u8>,
}

impl BootKey {
    /// Reads a public key (SubjectPublicKeyInfo, PEM).
    ///
    /// # Errors
    /// Unreadable, or no RSA-3072 public key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::read(path)?;
        let refused = |reason| file.refuse("PUBLIC KEY", Wanted::Rsa, reason);
        let key = PublicKey::from_public_key_pem(file.pem())
            .map_err(|error| refused(Some(error.to_string())))?;
        Self::checked(key, file.development()).map_err(|error| refused(error.reason))
    }

    /// Makes the public key of this modulus.
    ///
    /// # Errors
    /// The modulus has not 3072 bits.
    pub fn from_modulus(modulus: &[u8]) -> Result<Self, BootKeyError> {
        let number = BoxedUint::from_be_slice(modulus, BITS);
        let failed = |error: String| BootKeyError { reason: Some(error) };
        let number = number.map_err(|error| failed(error.to_string()))?;
        let key = PublicKey::new(number, BoxedUint::from(EXPONENT))
            .map_err(|error| failed(error.to_string()))?;
        Self::checked(key, false)
    }

    fn checked(key: PublicKey, development: bool) -> Result<Self, BootKeyError> {
        let fits = key.n_bytes().len() == KEY_BYTES
            && key.n_bytes().first().is_some_and(|byte| *byte >= 0x80)
            && *key.e() == BoxedUint::from(EXPONENT);
        if fits {
            return Ok(Self { key, development });
        }
        let other =
            if *key.e() == BoxedUint::from(EXPONENT) { "" } else { " and another exponent" };
        Err(BootKeyError { reason: Some(format!("it has {} bits{other}", key.n().bit_width())) })
    }

    /// Returns the key's id: SHA-256 of the modulus.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(sha256(&[&self.key.n_bytes()]))
    }

    /// True when `signature` is this key's over `message` (PKCS #1 v1.5, SHA-256).
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8; KEY_BYTES]) -> bool {
        self.key.pkcs1v15_verify::<Sha256>(message, signature).is_ok()
    }

    /// The numbers that U-Boot calculates with. Source: `lib/rsa/rsa-mod-exp.c`.
    #[must_use]
    pub fn montgomery(&self) -> Montgomery {
        let modulus = self.key.n_bytes().into_vec();
        let low = modulus.last_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        // Newton's iteration doubles the number of right bits each time, from 3 on.
        let mut inverse = low;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2u32.wrapping_sub(low.wrapping_mul(inverse)));
        }
        let mut square = BoxedUint::one_with_precision(BITS);
        for _ in 0..BITS.saturating_mul(2) {
            square = square.double_mod(self.key.n());
        }
        Montgomery {
            bits: BITS,
            n0_inverse: inverse.wrapping_neg(),
            exponent: EXPONENT,
            modulus,
            r_squared: square.to_be_bytes().into_vec(),
        }
    }
}

impl BootSigningKey {
    /// Reads a private key (PKCS #8, PEM).
    ///
    /// # Errors
    /// Unreadable, or no RSA-3072 private key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::read(path)?;
        let refused = |reason| file.refuse("PRIVATE KEY", Wanted::Rsa, reason);
        let key = PrivateKey::from_pkcs8_pem(file.pem())
            .map_err(|error| refused(Some(error.to_string())))?;
        let development = file.development();
        BootKey::checked(key.to_public_key(), development)
            .map_err(|error| refused(error.reason))?;
        Ok(Self { key, development })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> BootKey {
        BootKey { key: self.key.to_public_key(), development: self.development }
    }

    /// A signature over `message` (PKCS #1 v1.5, SHA-256).
    ///
    /// # Errors
    /// The host gives no random numbers to blind the calculation with.
    pub fn sign(&self, message: &[u8]) -> Result<[u8; KEY_BYTES], BootKeyError> {
        let failed = |reason: String| BootKeyError { reason: Some(reason) };
        self.key
            .pkcs1v15_sign::<Sha256>(message)
            .map_err(|error| failed(error.to_string()))?
            .try_into()
            .map_err(|_| failed("its signature has another length".to_owned()))
    }
}

/// The text of a PEM file that is marked as a development key.
#[must_use]
pub fn marked_as_development(pem: &str) -> String {
    format!("{DEVELOPMENT}\n{pem}")
}
