//! Who vouches for receivers: the authorities of the system, or those of a file.

use crate::error::SettingError;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of authorities where the settings name none, as Debian and others have it.
pub const USUAL_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Authorities, and TLS with them.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Their certificates.
    pub authorities: Vec<CertificateDer<'static>>,
    /// TLS of HTTP with them.
    pub tls: Arc<ClientConfig>,
}

impl Trust {
    /// Reads the file that the settings name. Where they name none, the system's may be missing: then nobody is believed.
    ///
    /// # Errors
    /// A file that is named cannot be read or has no certificate.
    pub fn read(folder: &Path, named: Option<&Path>) -> Result<Self, SettingError> {
        let setting = "authorities";
        let path = named.map_or_else(|| PathBuf::from(USUAL_AUTHORITIES), |path| folder.join(path));
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(source) if named.is_some() => {
                return Err(SettingError::File { setting, path, source });
            }
            Err(_) => Vec::new(),
        };
        // A system's file may have a block that is none; the others are good.
        let authorities: Vec<_> =
            CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
        if named.is_some() && authorities.is_empty() {
            let rule = "must have certificates as PEM: blocks of BEGIN CERTIFICATE";
            return Err(SettingError::Rule { setting, rule });
        }
        Self::new(authorities)
    }

    /// Makes it of certificates.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(authorities: Vec<CertificateDer<'static>>) -> Result<Self, SettingError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(SettingError::Tls)?;
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { authorities, tls: Arc::new(tls) })
    }
}
