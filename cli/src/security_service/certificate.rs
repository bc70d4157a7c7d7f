//! Certificates in PEM files that people name.

use anyhow::{Context, Result};
use holdfast_builder::workspace;
use std::path::Path;
use ureq::tls::{PemItem, parse_pem};

/// Reads the first certificate of a PEM file, and returns it as DER.
///
/// # Errors
/// The file cannot be read, or has none.
pub(crate) fn first_certificate(path: &Path) -> Result<Vec<u8>> {
    let pem = workspace::read(path)?;
    let certificate = parse_pem(&pem).find_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate.der().to_vec()),
        _ => None,
    });
    certificate.with_context(|| format!("{}: has no block BEGIN CERTIFICATE", path.display()))
}
