//! Making key pairs: Ed25519 for apps and releases, RSA-3072 for the boot loader.

use crate::failure::HostLacks;
use crate::process;
use crate::workspace;
use anyhow::{Context, Result, bail};
use holdfast_images::destination;
use holdfast_images::key::PrivateKey;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes an Ed25519 key pair and returns the path of the public key.
///
/// # Errors
/// There is a key already, or the files cannot be written.
pub fn ed25519(path: &Path, development: bool) -> Result<PathBuf> {
    let secret = random()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        workspace::make_directory(parent)?;
    }
    Ok(PrivateKey::from_secret(&secret, development).store(path)?)
}

/// Bytes that nobody can guess.
///
/// # Errors
/// The host gives none.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("the host gives no random numbers")?;
    Ok(bytes)
}

/// Makes an RSA key pair as the boot loader's tools read it and returns the path of the public key.
///
/// # Errors
/// There is a key already, `openssl` is missing or fails, or the files cannot be written.
pub fn rsa(path: &Path) -> Result<PathBuf> {
    let public = path.with_extension("pub.pem");
    for file in [path, &public] {
        // Nor the place that a link keeps for one.
        if file.symlink_metadata().is_ok() {
            bail!("{} is there already; a key is never overwritten", file.display());
        }
    }
    let directory = destination::parent(path);
    workspace::make_directory(directory)?;
    let scratch = tempfile::tempdir_in(directory).context("cannot make a directory")?;
    let made = scratch.path().join("key.pem");
    let openssl = |arguments: &[&str], rest: &[&Path]| {
        process::output(Command::new("openssl").args(arguments).args(rest))
            .map_err(|error| HostLacks(format!("{error:#} (Debian's package is `openssl`)")))
    };
    let rsa = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072", "-out"];
    openssl(&rsa, &[&made])?;
    fs::set_permissions(&made, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .with_context(|| format!("cannot restrict {}", made.display()))?;
    openssl(&["pkey", "-pubout", "-out"], &[&public, Path::new("-in"), &made])?;
    fs::rename(&made, path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(public)
}
