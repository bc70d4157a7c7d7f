//! The key encryption key: keys of the store are wrapped by it, with AES-256-GCM, and the key of receipts follows from it.

use crate::certificate::IssuingError;
use holdfast_service_domain::receipt::ReceiptKey;
use holdfast_types::hex::{hex, unhex};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

/// The key encryption key. It lies in a file or the environment, and never in the database.
pub struct KeyEncryptionKey([u8; 32]);

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryptionKey")
    }
}

impl KeyEncryptionKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn make() -> Result<Self, IssuingError> {
        let mut key = [0; 32];
        SystemRandom::new().fill(&mut key).map_err(|_| IssuingError::Random)?;
        Ok(Self(key))
    }

    /// Reads one: 64 hex digits, with blanks around them.
    ///
    /// # Errors
    /// It is something else.
    pub fn read(text: &str) -> Result<Self, IssuingError> {
        unhex(text.trim()).map(Self).ok_or(IssuingError::KeyEncryptionKey)
    }

    /// Returns its text, which is secret.
    #[must_use]
    pub fn to_text(&self) -> String {
        hex(&self.0)
    }

    /// Returns the key of receipts that follows from it.
    #[must_use]
    pub fn receipt_key(&self) -> ReceiptKey {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, b"holdfast-receipt-key-1");
        let mut secret = [0; 32];
        secret.iter_mut().zip(tag.as_ref()).for_each(|(place, byte)| *place = *byte);
        ReceiptKey::new(&secret)
    }

    fn cipher(&self) -> Result<LessSafeKey, IssuingError> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0).map_err(|_| IssuingError::Unwrap)?;
        Ok(LessSafeKey::new(key))
    }

    /// Wraps a secret for what `purpose` names: nonce, ciphertext, tag.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn wrap(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, IssuingError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| IssuingError::Random)?;
        let mut sealed = secret.to_vec();
        let additional = Aad::from(purpose.as_bytes());
        let number = Nonce::assume_unique_for_key(nonce);
        let done = self.cipher()?.seal_in_place_append_tag(number, additional, &mut sealed);
        done.map_err(|_| IssuingError::Unwrap)?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what was wrapped for this purpose.
    ///
    /// # Errors
    /// It was wrapped for another, or by another key.
    pub fn unwrap(&self, purpose: &str, wrapped: &[u8]) -> Result<Vec<u8>, IssuingError> {
        let (nonce, sealed) =
            wrapped.split_first_chunk::<NONCE_LEN>().ok_or(IssuingError::Unwrap)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let additional = Aad::from(purpose.as_bytes());
        let plain = self.cipher()?.open_in_place(nonce, additional, &mut opened);
        plain.map(|plain| plain.to_vec()).map_err(|_| IssuingError::Unwrap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_is_opened_by_its_key_for_its_purpose_alone() {
        let key = KeyEncryptionKey::make().unwrap();
        let wrapped = key.wrap("issuing a", b"secret").unwrap();
        let same = KeyEncryptionKey::read(&format!("{}\n", key.to_text())).unwrap();
        assert_eq!(same.unwrap("issuing a", &wrapped).unwrap(), b"secret", "the control");
        assert!(matches!(key.unwrap("issuing b", &wrapped), Err(IssuingError::Unwrap)));
        let other = KeyEncryptionKey::make().unwrap();
        assert!(matches!(other.unwrap("issuing a", &wrapped), Err(IssuingError::Unwrap)));
        assert!(matches!(key.unwrap("issuing a", &wrapped[..11]), Err(IssuingError::Unwrap)));
        assert_ne!(key.wrap("issuing a", b"secret").unwrap(), wrapped, "nonces are random");
        assert!(matches!(KeyEncryptionKey::read("00"), Err(IssuingError::KeyEncryptionKey)));
        assert!(!format!("{key:?}").contains(&key.to_text()));
    }
}
