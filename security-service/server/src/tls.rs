//! TLS of both ports: 1.3 alone, and nothing of a connection outlives it, neither tickets nor early data.

use crate::client_certificate::AnyCertificate;
use crate::error::{ServerError, file};
use crate::folder;
use crate::settings::Tls;
use holdfast_service_issuing::server_certificate;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::{ServerConfig, version};
use std::path::Path;
use std::sync::Arc;

/// Seconds after which a certificate that is made here is made anew: half of its time.
pub const RENEW_S: u64 = server_certificate::SERVER_S / 2;

/// The configurations of the two ports, which have the same certificate.
#[derive(Debug)]
pub struct Configurations {
    /// Of the port of devices, which asks for a certificate and takes who has none.
    pub device: ServerConfig,
    /// Of the port of management, which does not: whoever comes there has a token.
    pub management: ServerConfig,
}

/// Makes the configurations from a chain and its key.
///
/// # Errors
/// The key is not the chain's.
pub fn configurations(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Configurations, ServerError> {
    let device = configuration(Arc::new(AnyCertificate), chain.clone(), key.clone_key())?;
    let management = configuration(Arc::new(NoClientAuth), chain, key)?;
    Ok(Configurations { device, management })
}

fn configuration(
    verifier: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, ServerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&version::TLS13])?;
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
    // A ticket would skip what a handshake checks, and early data can be replayed.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Makes or reads the certificate that the settings name, and the configurations with it.
///
/// # Errors
/// A file cannot be read, or has no certificate or key.
pub fn load(folder: &Path, settings: &Tls, now: u64) -> Result<Configurations, ServerError> {
    if let Some(root) = &settings.root_key {
        let path = folder.join(root);
        let key = folder::key_of_pem(&path, &folder::read_secret(&path)?)?;
        let (certificate, key) = server_certificate::make(&key, &settings.names, now)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        return configurations(vec![CertificateDer::from(certificate)], key.into());
    }
    let path = folder.join(settings.certificate.as_deref().unwrap_or(Path::new("server.pem")));
    let text = std::fs::read(&path).map_err(file("read", &path))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or(ServerError::Pem { path, what: "certificate" })?;
    let path = folder.join(settings.key.as_deref().unwrap_or(Path::new("server.key")));
    let text = folder::read_secret(&path)?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
    let key = key.map_err(|_| ServerError::Pem { path, what: "private key" })?;
    configurations(chain, key)
}
