//! Signatures by ring, for the side that verifies.

use crate::attest::Signature;
use crate::public::Point;
use crate::verify::VerifySignature;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// ring's verifier.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ring;

impl VerifySignature for Ring {
    fn is_valid(&self, key: &Point, message: &[u8], signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.uncompressed());
        key.verify(message, &signature.0).is_ok()
    }
}
