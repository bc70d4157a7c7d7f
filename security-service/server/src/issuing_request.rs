//! Issuing certificates of a catalog whose root's key is never on this host: the key is made here, its request is carried to the root's
//! key, and the certificate back.

use crate::error::{ServerError, file};
use crate::folder;
use crate::roots;
use crate::settings;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_api::service::Service;
use holdfast_service_issuing::pem::pem;
use holdfast_service_issuing::request::{self, MAX_REQUEST_BYTES, Request};
use holdfast_service_issuing::root_key;
use holdfast_service_store::authority::{Authority, AuthorityKind};
use holdfast_service_store::{Scope, StoreError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Most bytes of a PEM file with a certificate.
const MAX_CERTIFICATE_BYTES: u64 = 64 * 1024;

/// Returns where the wrapped key of a catalog's request waits for its certificate.
fn waiting(folder: &Path, catalog: &CatalogId) -> PathBuf {
    folder.join(format!("issuing-request-{catalog}.key"))
}

/// Reads a file that somebody has brought, of at most so many bytes.
fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, ServerError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(file("read", path))?;
    if bytes.len() as u64 > most {
        return Err(ServerError::TooLong { path: path.to_owned(), most });
    }
    Ok(bytes)
}

/// Reads a certificate from PEM, and returns it as DER.
///
/// # Errors
/// The file cannot be read, is too long, or has none.
pub fn read_certificate(path: &Path) -> Result<Vec<u8>, ServerError> {
    let text = read_bounded(path, MAX_CERTIFICATE_BYTES)?;
    let certificate = CertificateDer::from_pem_slice(&text);
    let missing = |_| ServerError::Pem { path: path.to_owned(), what: "certificate" };
    certificate.map(|certificate| certificate.to_vec()).map_err(missing)
}

/// Returns a catalog's scope with its root.
async fn root_of(service: &Service, catalog: CatalogId) -> Result<(Scope, Authority), ServerError> {
    let unknown = || ServerError::NoCatalog(catalog.to_string());
    let scope = service.store.scope_of_device(catalog).await?.ok_or_else(unknown)?;
    let rows: Result<_, StoreError> = service.store.authorities(scope).await;
    let root = rows?.into_iter().find(|row| row.kind == AuthorityKind::Root);
    Ok((scope, root.ok_or_else(unknown)?))
}

/// Makes a key for the next issuing certificate of a catalog, and returns its request as PEM. A request that waits is made again of the
/// same key, so that one that was lost on its way costs nothing.
///
/// # Errors
/// There is no such catalog, or the key cannot be made or kept.
pub async fn make(
    service: &Service,
    folder: &Path,
    catalog: CatalogId,
) -> Result<String, ServerError> {
    root_of(service, catalog).await?;
    let path = waiting(folder, &catalog);
    let key = if path.try_exists().map_err(file("read", &path))? {
        let wrapped = fs::read(&path).map_err(file("read", &path))?;
        service.issuers.unwrap_requested(&catalog, &wrapped)?
    } else {
        let key = request::make_key()?;
        let wrapped = service.issuers.wrap_requested(&catalog, &key)?;
        folder::write_secret(&path, wrapped).map_err(file("write", &path))?;
        key
    };
    Ok(request::make(&catalog, &key)?)
}

/// Makes the issuing certificate that a request asks for, by the root's key in a file, or by the one that the settings of the folder
/// lead to. Returns it as PEM, with its serial number.
///
/// # Errors
/// The request or the key cannot be read, or the key is not that of the root's certificate.
pub fn certify(
    path: &Path,
    root: &Path,
    root_key: Option<&Path>,
    folder: &Path,
    (days, now): (u16, u64),
) -> Result<(String, String), ServerError> {
    let of_request = |source| ServerError::Request { path: path.to_owned(), source };
    let request = read_bounded(path, MAX_REQUEST_BYTES)?;
    let request = Request::read(&request).map_err(of_request)?;
    let catalog = request.catalog();
    let key = match root_key {
        Some(path) => root_key::software(&folder::key_of_pem(path, &folder::read_secret(path)?)?)?,
        None => {
            let roots = roots::open(folder, &settings::load(folder)?)?;
            let found = roots.find(&catalog).map_err(ServerError::Root)?;
            found.ok_or_else(|| ServerError::NoRootKey(catalog.to_string()))?
        }
    };
    let made = request.certify(&key, &catalog_root(root, &catalog)?, days, now)?;
    Ok((pem("CERTIFICATE", &made.certificate), made.serial))
}

/// Reads the certificate of a catalog's root.
fn catalog_root(path: &Path, catalog: &CatalogId) -> Result<Vec<u8>, ServerError> {
    let certificate = read_certificate(path)?;
    if holdfast_service_issuing::authority::is_root_of(catalog, &certificate) {
        Ok(certificate)
    } else {
        let catalog = catalog.to_string();
        Err(ServerError::OtherRoot { path: path.to_owned(), catalog })
    }
}

/// Takes the certificate (PEM) that a request of this folder has asked for, and forgets the request. Returns its serial number.
///
/// # Errors
/// No request waits, or the certificate is of another key or root, or has ended.
pub async fn install(
    service: &Service,
    folder: &Path,
    catalog: CatalogId,
    path: &Path,
) -> Result<String, ServerError> {
    let (scope, root) = root_of(service, catalog).await?;
    let place = waiting(folder, &catalog);
    if !place.try_exists().map_err(file("read", &place))? {
        return Err(ServerError::NoRequestWaits(catalog.to_string()));
    }
    let wrapped = fs::read(&place).map_err(file("read", &place))?;
    let key = service.issuers.unwrap_requested(&catalog, &wrapped)?;
    let certificate = read_certificate(path)?;
    let pair = (certificate.as_slice(), key.as_slice());
    let installed = service.issuers.install(&service.store, scope, &root, pair, service.now());
    let installed = installed.await.map_err(|source| {
        let source = Box::new(source);
        ServerError::Install { path: path.to_owned(), source }
    })?;
    fs::remove_file(&place).map_err(file("remove", &place))?;
    Ok(installed.serial)
}
