//! Configurations of rustls with the app's identity.

use crate::identity::{Identity, IdentityError};
use crate::verifier::{PeerPolicy, PeerVerifier};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{
    CipherSuite, ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier,
};
use std::sync::Arc;

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

fn client() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, IdentityError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto_provider()));
    builder.with_protocol_versions(&[&TLS13]).map_err(IdentityError::Tls)
}

/// Sessions that were resumed would not be verified again.
fn without_resumption(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config
}

impl Identity {
    /// Makes the configuration of a client whose servers have these roots, such as a broker's authority, and who shows its
    /// certificate to those that ask for it. The server's name is verified.
    ///
    /// # Errors
    /// [`IdentityError::Tls`].
    pub fn client_for(&self, roots: RootCertStore) -> Result<ClientConfig, IdentityError> {
        let config = client()?.with_root_certificates(roots);
        Ok(without_resumption(config.with_client_cert_resolver(Arc::new(self.clone()))))
    }

    /// Makes the configuration of a client whose servers are apps of the same catalog. The server's name does not matter:
    /// who it is stands in its certificate ([`Peer::read`](crate::Peer::read)), and `policy` says whom the client takes.
    ///
    /// # Errors
    /// [`IdentityError::Tls`].
    pub fn client_for_peers(&self, policy: PeerPolicy) -> Result<ClientConfig, IdentityError> {
        let verifier = Arc::new(PeerVerifier::new(self, policy));
        let config = client()?.dangerous().with_custom_certificate_verifier(verifier);
        Ok(without_resumption(config.with_client_cert_resolver(Arc::new(self.clone()))))
    }

    /// Makes the configuration of a server whose clients are apps of the same catalog, and must show their certificates.
    ///
    /// # Errors
    /// [`IdentityError::Tls`].
    pub fn server_for_peers(&self, policy: PeerPolicy) -> Result<ServerConfig, IdentityError> {
        let builder = ServerConfig::builder_with_provider(Arc::new(crypto_provider()));
        let builder = builder.with_protocol_versions(&[&TLS13]).map_err(IdentityError::Tls)?;
        let verifier = Arc::new(PeerVerifier::new(self, policy));
        let config = builder.with_client_cert_verifier(verifier);
        let mut config = config.with_cert_resolver(Arc::new(self.clone()));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}
