//! The cryptography of handshakes that the identity service signs.

use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;

/// Cipher suites whose transcript hash is SHA-256 (RFC 8446, B.4): no other is signed.
const CIPHER_SUITES: [CipherSuite; 2] =
    [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256];

/// Returns rustls' provider of cryptography with the cipher suites whose handshakes can be signed, and no others.
#[must_use]
pub fn crypto_provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| CIPHER_SUITES.contains(&suite.suite()));
    provider
}
