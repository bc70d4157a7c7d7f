//! Contents of a key file: its PEM block, the mark of development keys, and, where it is not the key that is
//! wanted, what it is instead and what makes the wanted one of it.

use crate::{FieldError, FileError};
use ed25519_dalek::pkcs8::spki::der::pem;
use std::fs;
use std::path::{Path, PathBuf};

/// The line that marks a development key.
pub const DEVELOPMENT: &str = "Holdfast development key: trusted by development images alone";

/// An error of reading or writing a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file holds something else than the key.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// There is a key already.
    #[error("{} is there already; a key is never overwritten", .0.display())]
    Exists(PathBuf),
}

/// Object identifiers of algorithms, as DER has them. Source: RFC 8410, RFC 8017, RFC 5480.
const ALGORITHMS: [(&[u8], &str); 6] = [
    (&[6, 3, 0x2b, 0x65, 0x70], "an Ed25519 key"),
    (&[6, 3, 0x2b, 0x65, 0x71], "an Ed448 key"),
    (&[6, 3, 0x2b, 0x65, 0x6e], "an X25519 key, which signs nothing"),
    (&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1], "an RSA key"),
    (&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10], "an RSA-PSS key"),
    (&[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1], "an ECDSA key"),
];
/// Bytes within which a key names its algorithm.
const ALGORITHM_WITHIN: usize = 48;

/// A key that is wanted of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Ed25519, for app packages and releases.
    Ed25519,
    /// RSA-3072, for the boot loader.
    Rsa,
}

impl Wanted {
    fn remedy(self) -> &'static str {
        match self {
            Self::Ed25519 => {
                "apps and releases are signed with Ed25519: `holdfast key new --for app`"
            }
            Self::Rsa => "the boot loader's keys are RSA-3072: `holdfast key new --for boot`",
        }
    }
}

/// A file that should hold a key.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
    bytes: Vec<u8>,
    text: String,
}

impl KeyFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Unreadable.
    pub(crate) fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes = fs::read(path).map_err(FileError::at("read", path))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { path: path.to_owned(), bytes, text })
    }

    /// Returns the PEM block with all behind it; the whole text where there is none.
    pub(crate) fn pem(&self) -> &str {
        self.text.get(self.block()..).unwrap_or_default()
    }

    /// Whether a line before the block marks a development key.
    pub(crate) fn development(&self) -> bool {
        let before = self.text.get(..self.block()).unwrap_or_default();
        // An editor may have put a byte order mark in front, or blanks behind.
        before.lines().any(|line| line.trim_start_matches('\u{feff}').trim() == DEVELOPMENT)
    }

    fn block(&self) -> usize {
        self.text.find("-----BEGIN ").unwrap_or(0)
    }

    /// Returns the label of the PEM block.
    fn label(&self) -> Option<&str> {
        self.pem().strip_prefix("-----BEGIN ")?.split_once("-----").map(|(label, _)| label)
    }

    /// Returns the error for a file that is not the `wanted` key in a block `label`; `parser` is the parser's message.
    pub(crate) fn refuse(&self, label: &str, wanted: Wanted, parser: Option<String>) -> KeyError {
        let reason = self.instead(label, wanted).or(parser);
        let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
        let kind = match wanted {
            Wanted::Ed25519 => "is no Ed25519 key",
            Wanted::Rsa => "is no RSA key of 3072 bits with exponent 65537",
        };
        KeyError::Field(FieldError {
            path: self.path.clone(),
            field: label.to_owned(),
            reason: format!("{kind}{reason}"),
        })
    }

    /// Returns in words the kind of the file's key or contents, where that can be told, and the remedy.
    fn instead(&self, label: &str, wanted: Wanted) -> Option<String> {
        let is = |what: &str, remedy: &str| Some(format!("it is {what}; {remedy}"));
        let other_kind = |what: &str| is(what, wanted.remedy());
        let Some(found) = self.label() else {
            let text = self.text.trim_start();
            if self.bytes.is_empty() {
                return other_kind("empty");
            } else if self.bytes.starts_with(&[0xff, 0xfe]) || self.bytes.starts_with(&[0xfe, 0xff])
            {
                return is("in UTF-16", "save it as UTF-8");
            } else if text.starts_with("ssh-") || text.starts_with("ecdsa-sha2-") {
                return other_kind("a key of SSH");
            } else if self.bytes.first() == Some(&0x30) && self.bytes.contains(&0) {
                let public = if label == "PUBLIC KEY" { " -pubin" } else { "" };
                let remedy =
                    format!("`openssl pkey{public} -inform DER -in FILE -out NEW` makes PEM of it");
                return is("in DER", &remedy);
            }
            return is("no PEM file", wanted.remedy());
        };
        match (found, wanted) {
            ("PUBLIC KEY", _) if label == "PRIVATE KEY" => {
                is("a public key", "the private one, which belongs to it, signs")
            }
            ("PRIVATE KEY", _) if label == "PUBLIC KEY" => {
                is("a private key", "name the public one: NAME.pub.pem for NAME.pem")
            }
            ("PUBLIC KEY" | "PRIVATE KEY", _) => {
                let own = if wanted == Wanted::Rsa { "an RSA key" } else { "an Ed25519 key" };
                let algorithm = self.algorithm()?;
                if algorithm == own { None } else { other_kind(algorithm) }
            }
            ("ENCRYPTED PRIVATE KEY", _) => {
                is("encrypted", "`openssl pkey -in FILE -out NEW` takes the passphrase off")
            }
            ("RSA PRIVATE KEY", Wanted::Rsa) => {
                is("in PKCS #1", "`openssl pkey -in FILE -out NEW` makes PKCS #8 of it")
            }
            ("RSA PUBLIC KEY", Wanted::Rsa) => is(
                "in PKCS #1",
                "`openssl rsa -RSAPublicKey_in -in FILE -pubout -out NEW` makes the usual form of it",
            ),
            ("CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE", _) => {
                is("a certificate", "`openssl x509 -in FILE -noout -pubkey` prints the key in it")
            }
            ("RSA PRIVATE KEY" | "RSA PUBLIC KEY", _) => other_kind("an RSA key"),
            ("EC PRIVATE KEY" | "EC PARAMETERS", _) => other_kind("an ECDSA key"),
            ("OPENSSH PRIVATE KEY" | "SSH2 PUBLIC KEY", _) => other_kind("a key of SSH"),
            (found, _) => other_kind(&format!("a PEM block `{}`", found.escape_default())),
        }
    }

    /// The algorithm that a key names.
    fn algorithm(&self) -> Option<&'static str> {
        let (_, der) = pem::decode_vec(self.pem().as_bytes()).ok()?;
        let start = der.get(..ALGORITHM_WITHIN.min(der.len()))?;
        let names = |id: &[u8]| start.windows(id.len()).any(|window| window == id);
        ALGORITHMS.iter().find(|(id, _)| names(id)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{BootKey, BootSigningKey};
    use crate::key::{PrivateKey, PublicKey};
    use std::process::Command;

    /// Makes files with OpenSSL; each command is one line.
    fn openssl(directory: &Path, commands: &[&str]) {
        for command in commands {
            let output = Command::new("openssl")
                .args(command.split(' '))
                .current_dir(directory)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{command}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }

    #[test]
    fn a_key_of_another_kind_is_named_with_the_remedy() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        openssl(
            scratch.path(),
            &[
                "genpkey -algorithm ED25519 -out ed.pem",
                "pkey -in ed.pem -pubout -out ed.pub.pem",
                "pkey -in ed.pem -outform DER -out ed.der",
                "pkey -in ed.pem -aes256 -passout pass:x -out encrypted.pem",
                "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem",
                "pkey -in rsa.pem -traditional -out pkcs1.pem",
                "pkey -in rsa.pem -pubout -out rsa.pub.pem",
                "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec.pem",
                "pkey -in ec.pem -traditional -out sec1.pem",
                "req -x509 -key rsa.pem -subj /CN=x -out certificate.pem",
            ],
        );
        fs::write(at("ssh"), "ssh-ed25519 AAAAC3Nz me@here\n").unwrap();
        fs::write(at("utf16.pem"), b"\xff\xfe-\0-\0").unwrap();
        fs::write(at("empty.pem"), b"").unwrap();
        let private = |name: &str| PrivateKey::load(&at(name)).map(drop).unwrap_err().to_string();
        let public = |name: &str| PublicKey::load(&at(name)).map(drop).unwrap_err().to_string();
        let boot = |name: &str| BootSigningKey::load(&at(name)).map(drop).unwrap_err().to_string();
        let boot_public = |name: &str| BootKey::load(&at(name)).map(drop).unwrap_err().to_string();
        for (said, what, remedy) in [
            (private("rsa.pem"), "an RSA key", "key new --for app"),
            (private("ec.pem"), "an ECDSA key", "key new --for app"),
            (private("sec1.pem"), "an ECDSA key", "key new --for app"),
            (private("ed.pub.pem"), "a public key", "signs"),
            (private("encrypted.pem"), "encrypted", "takes the passphrase off"),
            (private("ed.der"), "in DER", "-inform DER"),
            (private("ssh"), "a key of SSH", "key new --for app"),
            (private("utf16.pem"), "in UTF-16", "save it as UTF-8"),
            (private("empty.pem"), "empty", "key new --for app"),
            (public("ed.pem"), "a private key", "NAME.pub.pem"),
            (public("rsa.pub.pem"), "an RSA key", "key new --for app"),
            (public("certificate.pem"), "a certificate", "-pubkey"),
            (boot("ed.pem"), "an Ed25519 key", "key new --for boot"),
            (boot("pkcs1.pem"), "in PKCS #1", "openssl pkey -in"),
            (boot("ec.pem"), "an ECDSA key", "key new --for boot"),
            (boot_public("ed.pub.pem"), "an Ed25519 key", "key new --for boot"),
        ] {
            assert!(said.contains(&format!("it is {what}; ")) && said.contains(remedy), "{said}");
        }
        let small = boot("rsa.pem");
        assert!(small.contains("it has 2048 bits"), "{small}");
        PrivateKey::load(&at("ed.pem")).unwrap();
    }

    #[test]
    fn the_mark_of_a_development_key_outlives_an_editor() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("app.pem");
        PrivateKey::from_secret(&[3; 32], true).store(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for edited in
            [format!("\u{feff}{text}"), text.replace('\n', "\r\n"), text.replacen('\n', " \n", 1)]
        {
            fs::write(&path, edited).unwrap();
            assert!(PrivateKey::load(&path).unwrap().development);
        }
    }
}
