//! JSON Web Tokens (RFC 7519), signed as they should be and as they should not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// Secret of the service at the provider.
pub const CLIENT_SECRET: &str = "a secret of the client";

/// How tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signing {
    /// By the provider's key, as they should be.
    Key,
    /// By a key of somebody else, under the id of the provider's.
    OtherKey,
    /// Not at all: `alg` is `none`.
    None,
    /// By HS256 with the public key for the secret.
    PublicKeyAsSecret,
    /// By HS256 with the secret of the client.
    ClientSecret,
    /// By the provider's key, with a byte of the signature changed.
    Damaged,
}

/// A key.
pub struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Key {
    /// Makes one.
    #[must_use]
    pub fn make(id: &str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        Self { id: id.to_owned(), pair }
    }

    /// Returns the set of it alone, as providers publish it (RFC 7517).
    pub(crate) fn set(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y,
        }] })
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec()
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs claims under a header that `change` may change.
pub(crate) fn sign(
    key: &Key,
    signing: Signing,
    change: &dyn Fn(&mut Value),
    claims: &Value,
) -> String {
    let algorithm = match signing {
        Signing::Key | Signing::OtherKey | Signing::Damaged => "ES256",
        Signing::None => "none",
        Signing::PublicKeyAsSecret | Signing::ClientSecret => "HS256",
    };
    let mut header = json!({ "alg": algorithm, "kid": key.id });
    change(&mut header);
    let text = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let by_secret = |secret: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::sign(&secret, text.as_bytes()).as_ref().to_vec()
    };
    let signature = match signing {
        Signing::Key => key.sign(&text),
        Signing::OtherKey => Key::make(&key.id).sign(&text),
        Signing::None => Vec::new(),
        Signing::PublicKeyAsSecret => by_secret(key.pair.public_key().as_ref()),
        Signing::ClientSecret => by_secret(CLIENT_SECRET.as_bytes()),
        Signing::Damaged => {
            let mut signature = key.sign(&text);
            signature[40] ^= 1;
            signature
        }
    };
    format!("{text}.{}", encode(&signature))
}
