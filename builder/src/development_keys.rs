//! The development keys of a checkout, which sign where no other key is named.
//!
//! They are made when they are first needed and never leave the checkout: git ignores them, and no two checkouts
//! have the same. `HOLDFAST_KEYS` names another directory.

use crate::key_pair;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use holdfast_images::board::Board;
use holdfast_images::boot::{BootSigningKey, marked_as_development};
use holdfast_images::boot_loader::KEY_NAMES;
use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_images::variant::Signer;
use holdfast_qemu::web_server::Authority;
use holdfast_release::metadata::Role;
use holdfast_repository::{Repository, Roles};
use std::fs;
use std::path::{Path, PathBuf};

/// Directory of the development keys, below the root of a checkout.
const DIRECTORY: &str = "images/keys/development";

/// The key that signs apps.
pub(crate) fn app(workspace: &Workspace) -> Result<PrivateKey> {
    ed25519(workspace, "app")
}

/// The key that signs the metadata of releases, in every role.
///
/// # Errors
/// The key cannot be made or read, or is not marked as a development key.
pub fn release(workspace: &Workspace) -> Result<PrivateKey> {
    ed25519(workspace, "release")
}

fn ed25519(workspace: &Workspace, name: &str) -> Result<PrivateKey> {
    let path = file(workspace, name, |path| key_pair::ed25519(path, true))?;
    let key = PrivateKey::load(&path)?;
    if !key.development {
        bail!("{}: is not marked as a development key", path.display());
    }
    Ok(key)
}

/// The certificate authority that vouches for the servers of development images: made where there is none.
///
/// # Errors
/// The authority cannot be made or read.
pub fn authority(workspace: &Workspace) -> Result<Authority> {
    let path = file(workspace, "authority", |path| {
        let made = Authority::new()?;
        let certificate = path.with_extension("pub.pem");
        workspace::write(path, &made.key)?;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .with_context(|| format!("cannot restrict {}", path.display()))?;
        workspace::write(&certificate, &made.certificate)?;
        Ok(certificate)
    })?;
    let certificate = workspace::read_text(&path.with_extension("pub.pem"))?;
    Ok(Authority::from_pem(&certificate, &workspace::read_text(&path)?)?)
}

/// The three development keys of the boot loader, in the order of its key names.
pub(crate) fn boot(workspace: &Workspace) -> Result<[BootSigningKey; 3]> {
    let load = |name: &str| -> Result<BootSigningKey> {
        let path = file(workspace, &format!("boot-{name}"), marked_rsa)?;
        let key = BootSigningKey::load(&path)?;
        if !key.public().development {
            bail!("{}: is not marked as a development key", path.display());
        }
        Ok(key)
    };
    let [current, next, recovery] = KEY_NAMES;
    Ok([load(current)?, load(next)?, load(recovery)?])
}

/// The key and the board by which a slot made from a development image is signed.
///
/// # Errors
/// The keys cannot be made or read, or there is no such board.
pub fn signer(workspace: &Workspace, board: &str) -> Result<Signer> {
    let [key, ..] = boot(workspace)?;
    let boards = workspace.root.join("images/boards");
    Ok(Signer { board: Board::load(&boards, board, &boards)?, key })
}

/// The file of a development key, made by `make` where there is none.
fn file(
    workspace: &Workspace,
    name: &str,
    make: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let directory = directory(workspace);
    workspace::make_directory(&directory)?;
    let path = directory.join(format!("{name}.pem"));
    if !path.is_file() {
        // Made under another name first: of two commands at once, one wins and both use its key.
        let scratch = tempfile::tempdir_in(&directory).context("cannot make a directory")?;
        let made = scratch.path().join("key.pem");
        let public = make(&made)?;
        let publish = |from: &Path, to: &Path| match fs::hard_link(from, to) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("cannot write {}", to.display()))
            }
            _ => Ok(()),
        };
        publish(&made, &path)?;
        if workspace::read(&path)? == workspace::read(&made)? {
            publish(&public, &path.with_extension("pub.pem"))?;
            eprintln!("made a development key: {}", path.display());
        }
    }
    Ok(path)
}

/// The directory of a checkout's development keys.
pub fn directory(workspace: &Workspace) -> PathBuf {
    named_directory().unwrap_or_else(|| workspace.root.join(DIRECTORY))
}

/// The directory of development keys below the root of a checkout, where there is one.
pub fn directory_in(root: Option<&Path>) -> Option<PathBuf> {
    named_directory().or_else(|| Some(root?.join(DIRECTORY)))
}

fn named_directory() -> Option<PathBuf> {
    std::env::var_os("HOLDFAST_KEYS").map(PathBuf::from)
}

/// Makes an RSA key pair that is marked as a development key.
fn marked_rsa(path: &Path) -> Result<PathBuf> {
    let public = key_pair::rsa(path)?;
    for file in [path, &public] {
        let marked = marked_as_development(&workspace::read_text(file)?);
        fs::write(file, marked).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(public)
}

/// The root that a development image brings: of this checkout's key, for as long as anybody builds from it.
pub(crate) fn root_of_releases(workspace: &Workspace) -> Result<Vec<u8>> {
    const TEN_YEARS_S: u64 = 3653 * 86_400;
    let key = release(workspace)?;
    let roles = one_key_roles(key.public());
    let mut draft = Repository::first_root(&roles, TEN_YEARS_S, workspace.build_time()?)?;
    draft.sign(&key);
    Ok(draft.to_bytes()?)
}

/// One key in every role.
pub fn one_key_roles(key: PublicKey) -> Roles {
    Roles { keys: Role::ALL.map(|role| (role, (vec![key], 1))).into() }
}
