//! Keys for app packages and releases: Ed25519, as PEM files that any OpenSSL reads.
//!
//! A development key says so in a line before its PEM block. It belongs to one checkout; an image
//! that trusts it is a development image, and its trust directory names it as such.

pub use crate::key_file::{DEVELOPMENT, KeyError};
use crate::key_file::{KeyFile, Wanted};
use crate::{FieldError, FileError};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use holdfast_types::KeyId;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A private key.
#[derive(Debug, Clone)]
pub struct PrivateKey {
    key: SigningKey,
    /// True for a development key.
    pub development: bool,
}

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey {
    /// The 32 bytes of the key.
    pub bytes: [u8; 32],
    /// True for a development key.
    pub development: bool,
}

impl PrivateKey {
    /// The key with these 32 secret bytes.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32], development: bool) -> Self {
        Self { key: SigningKey::from_bytes(secret), development }
    }

    /// Reads a private key (PKCS#8, PEM).
    ///
    /// # Errors
    /// Unreadable, or no Ed25519 private key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::read(path)?;
        let key = SigningKey::from_pkcs8_pem(file.pem()).map_err(|error| {
            file.refuse("PRIVATE KEY", Wanted::Ed25519, Some(error.to_string()))
        })?;
        Ok(Self { key, development: file.development() })
    }

    /// Writes the private key to `path`, readable by its owner alone, and the public key to the
    /// same path with `.pub.pem` for `.pem`. Returns that path.
    ///
    /// # Errors
    /// One of the files is there, or cannot be written.
    pub fn store(&self, path: &Path) -> Result<PathBuf, KeyError> {
        let public = path.with_extension("pub.pem");
        let failed = |path: &Path, error: String| refused(path, "PEM", &error);
        // Without the public key in it: OpenSSL 3.0 reads no other form.
        let pair = KeypairBytes { secret_key: self.key.to_bytes(), public_key: None };
        let private_pem =
            pair.to_pkcs8_pem(LineEnding::LF).map_err(|error| failed(path, error.to_string()))?;
        let public_pem = self
            .key
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| failed(&public, error.to_string()))?;
        let mark = if self.development { format!("{DEVELOPMENT}\n") } else { String::new() };
        write_new(path, 0o600, &format!("{mark}{}", private_pem.as_str()))?;
        write_new(&public, 0o644, &format!("{mark}{public_pem}"))?;
        Ok(public)
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey { bytes: self.key.verifying_key().to_bytes(), development: self.development }
    }

    /// A signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl PublicKey {
    /// Reads a public key (SubjectPublicKeyInfo, PEM).
    ///
    /// # Errors
    /// Unreadable, or no Ed25519 public key.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let file = KeyFile::read(path)?;
        let key = VerifyingKey::from_public_key_pem(file.pem())
            .map_err(|error| file.refuse("PUBLIC KEY", Wanted::Ed25519, Some(error.to_string())))?;
        Ok(Self { bytes: key.to_bytes(), development: file.development() })
    }

    /// Returns the key's id.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.bytes)
    }

    /// True when `signature` is this key's over `message`.
    #[must_use]
    pub fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.bytes)
            .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
    }
}

fn refused(path: &Path, field: &str, reason: &str) -> KeyError {
    KeyError::Field(FieldError {
        path: path.to_owned(),
        field: field.to_owned(),
        reason: format!("is no Ed25519 key ({reason})"),
    })
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(KeyError::Exists(path.to_owned()));
        }
        Err(error) => return Err(FileError::at("create", path)(error).into()),
    };
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(FileError::at("write", path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    #[test]
    fn a_stored_key_is_read_again_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pem");
        let key = PrivateKey::from_secret(&[3; 32], true);
        let public = key.store(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = PrivateKey::load(&path).unwrap();
        assert!(read.development && read.public() == key.public());
        assert_eq!(PublicKey::load(&public).unwrap(), key.public());
        assert!(matches!(key.store(&path), Err(KeyError::Exists(_))));
        let error = PublicKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("app.pem: PUBLIC KEY: is no Ed25519 key"), "{error}");
    }

    #[test]
    fn openssl_reads_the_keys_and_its_signature_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pem");
        let key = PrivateKey::from_secret(&[4; 32], true);
        key.store(&path).unwrap();
        let (message, signature) = (directory.path().join("m"), directory.path().join("s"));
        fs::write(&message, b"bytes to sign").unwrap();
        let status = Command::new("openssl")
            .args(["pkeyutl", "-sign", "-rawin", "-inkey"])
            .arg(&path)
            .arg("-in")
            .arg(&message)
            .arg("-out")
            .arg(&signature)
            .status()
            .unwrap();
        assert!(status.success());
        let signature: [u8; 64] = fs::read(&signature).unwrap().try_into().unwrap();
        assert!(key.public().has_signed(b"bytes to sign", &signature));
        assert!(!key.public().has_signed(b"bytes to sigh", &signature));
    }
}
