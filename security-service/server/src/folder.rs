//! The service's folder: secrets that nobody else can read, and keys of roots.

use crate::error::{ServerError, file};
use holdfast_evidence::messages::CatalogId;
use holdfast_service_api::issuers::Roots;
use holdfast_service_issuing::pem::pem;
use holdfast_service_issuing::root_key::{self, RootKey};
use holdfast_service_issuing::wrapping::KeyEncryptionKey;
use holdfast_types::chain;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The variable that has the key encryption key, where no file has.
pub const KEY_VARIABLE: &str = "HOLDFAST_SERVICE_KEK";

/// Makes a directory that its owner alone may enter.
///
/// # Errors
/// It is there, or cannot be made.
pub fn make_directory(path: &Path) -> Result<(), ServerError> {
    DirBuilder::new().mode(0o700).create(path).map_err(file("make", path))
}

/// Writes a new file that its owner alone may read, and has it on the disk before it returns.
///
/// # Errors
/// It is there, or cannot be written.
pub fn write_secret(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_ref())?;
    file.sync_all()?;
    let directory = path.parent().unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Writes a new file that everybody may read, and has it on the disk before it returns.
///
/// # Errors
/// It is there, or cannot be written.
pub fn write_new(path: &Path, text: &str) -> Result<(), ServerError> {
    if path.try_exists().map_err(file("read", path))? {
        return Err(ServerError::FileThere(path.to_owned()));
    }
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(file("write", path))
}

/// Reads a secret, which nobody else may be able to read.
///
/// # Errors
/// It cannot be read, or others can read it.
pub fn read_secret(path: &Path) -> Result<String, ServerError> {
    let metadata = path.metadata().map_err(file("read", path))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(ServerError::OpenToOthers(path.to_owned()));
    }
    std::fs::read_to_string(path).map_err(file("read", path))
}

/// Reads the key encryption key: from the environment, or from its file.
///
/// # Errors
/// There is none, it is none, or others can read it.
pub fn key_encryption_key(path: &Path) -> Result<KeyEncryptionKey, ServerError> {
    let text = match std::env::var(KEY_VARIABLE) {
        Ok(text) => text,
        Err(_) => read_secret(path)?,
    };
    Ok(KeyEncryptionKey::read(&text)?)
}

/// Returns a key (PKCS #8) from PEM.
///
/// # Errors
/// It has none.
pub fn key_of_pem(path: &Path, text: &str) -> Result<Vec<u8>, ServerError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes());
    let key = key.map_err(|_| ServerError::Pem { path: path.to_owned(), what: "private key" })?;
    Ok(key.secret_pkcs8_der().to_vec())
}

/// Keys of catalogs' roots, as files. Whoever moves one away keeps it offline.
#[derive(Debug, Clone)]
pub struct RootFiles(pub PathBuf);

impl RootFiles {
    /// Returns the file of a catalog's root.
    #[must_use]
    pub fn path(&self, catalog: &CatalogId) -> PathBuf {
        self.0.join(format!("{catalog}.key"))
    }
}

impl Roots for RootFiles {
    fn find(&self, catalog: &CatalogId) -> io::Result<Option<RootKey>> {
        let path = self.path(catalog);
        if !path.try_exists()? {
            return Ok(None);
        }
        let failed = |error: ServerError| io::Error::other(chain(&error));
        let text = read_secret(&path).map_err(failed)?;
        let key = key_of_pem(&path, &text).map_err(failed)?;
        root_key::software(&key).map(Some).map_err(|error| failed(error.into()))
    }

    fn make(&self, catalog: &CatalogId) -> io::Result<RootKey> {
        let made = root_key::make_software();
        let (key, pkcs8) = made.map_err(|error| io::Error::other(chain(&error)))?;
        write_secret(&self.path(catalog), pem("PRIVATE KEY", &pkcs8))?;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret(&path, "s").unwrap();
        assert_eq!(read_secret(&path).unwrap(), "s", "the control");
        write_secret(&path, "t").unwrap_err();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path), Err(ServerError::OpenToOthers(_))));
    }

    #[test]
    fn a_root_is_loaded_as_it_was_kept_and_may_be_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let roots = RootFiles(directory.path().to_owned());
        let catalog = CatalogId([1; 16]);
        assert!(roots.find(&catalog).unwrap().is_none());
        let made = roots.make(&catalog).unwrap();
        let found = roots.find(&catalog).unwrap().unwrap();
        assert_eq!(found.subject_public_key_info(), made.subject_public_key_info());
        assert!(roots.make(&catalog).is_err(), "a key is not overwritten");
    }
}
