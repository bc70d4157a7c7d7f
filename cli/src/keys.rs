//! `key`: keys of one's own, and the development keys of a checkout.
//!
//! Development keys are made when they are first needed and never leave the checkout: git ignores
//! them, and no two checkouts have the same.

use crate::failure::HostLacks;
use crate::workspace::{self, Workspace};
use crate::{process, release};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use holdfast_images::board::Board;
use holdfast_images::boot::{self, BootKey, BootSigningKey};
use holdfast_images::boot_loader::KEY_NAMES;
use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_images::variant::Signer;
use holdfast_qemu::web_server::Authority;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key pair.
    New(NewArgs),
    /// Say what a key file holds.
    Show(ShowArgs),
    /// Change the keys of a repository of releases.
    Rotate(release::RotateArgs),
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// App packages: Ed25519.
    App,
    /// Metadata of releases: Ed25519.
    Release,
    /// Kernel and device tree, for the boot loader: RSA-3072.
    Boot,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Release => "release",
            Self::Boot => "boot",
        }
    }
}

/// Arguments of `key new`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes NAME.pem, readable by you alone, and NAME.pub.pem. Keep the first off this \
                  machine; put the second into an image manifest, under [trust].\n\n\
                  Example: cargo holdfast key new --for app --output keys/oem.pem"
)]
pub(crate) struct NewArgs {
    /// What it is to sign.
    #[arg(long = "for", value_enum)]
    purpose: Purpose,
    /// Where to write the private key; ends in `.pem`.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Arguments of `key show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: cargo holdfast key show keys/oem.pub.pem")]
pub(crate) struct ShowArgs {
    /// A PEM file of a key.
    key: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(workspace: &Workspace, command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::New(args) => new(args),
        KeyCommand::Show(args) => show(workspace, args),
        KeyCommand::Rotate(args) => release::rotate(workspace, args),
    }
}

fn new(args: &NewArgs) -> Result<()> {
    if args.output.extension().is_none_or(|extension| extension != "pem") {
        return Err(HostLacks("--output: must end in `.pem`".to_owned()).into());
    }
    let public = match args.purpose {
        Purpose::App | Purpose::Release => generate(&args.output, false)?,
        Purpose::Boot => generate_rsa(&args.output)?,
    };
    println!("private: {}", args.output.display());
    println!("public:  {}", public.display());
    let id = match args.purpose {
        Purpose::App | Purpose::Release => PublicKey::load(&public)?.id(),
        Purpose::Boot => BootKey::load(&public)?.id(),
    };
    println!("id:      {id}");
    Ok(())
}

fn show(workspace: &Workspace, args: &ShowArgs) -> Result<()> {
    // What is no text is refused below, by what it is.
    let bytes = workspace::read(&args.key)?;
    let private = String::from_utf8_lossy(&bytes).contains("PRIVATE KEY");
    let (algorithm, id, development) = match boot_key(&args.key, private) {
        Some(key) => ("RSA-3072", key.id(), key.development),
        None => {
            let key = if private {
                PrivateKey::load(&args.key)?.public()
            } else {
                PublicKey::load(&args.key)?
            };
            ("Ed25519", key.id(), key.development)
        }
    };
    let kind = if private { "private" } else { "public" };
    let ours = args.key.starts_with(development_directory(workspace));
    if args.json {
        println!(
            "{}",
            serde_json::json!({
                "kind": kind, "algorithm": algorithm, "id": id.to_string(),
                "development": development, "of_this_checkout": ours,
            })
        );
    } else {
        let development = if development { ", a development key" } else { "" };
        println!("{kind} {algorithm} key{development}\nid: {id}");
    }
    Ok(())
}

/// The key in the file when it is one for the boot loader.
fn boot_key(path: &Path, private: bool) -> Option<BootKey> {
    if private {
        BootSigningKey::load(path).ok().map(|key| key.public())
    } else {
        BootKey::load(path).ok()
    }
}

/// The development key of this checkout, made where there is none. `HOLDFAST_KEYS` names another
/// directory.
pub(crate) fn development(workspace: &Workspace, purpose: Purpose) -> Result<PrivateKey> {
    let path = development_file(workspace, purpose.name(), |path| generate(path, true))?;
    let key = PrivateKey::load(&path)?;
    if !key.development {
        bail!("{}: is not marked as a development key", path.display());
    }
    Ok(key)
}

/// Who vouches for the servers of development images: made where there is none.
pub(crate) fn development_authority(workspace: &Workspace) -> Result<Authority> {
    let path = development_file(workspace, "authority", |path| {
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
pub(crate) fn development_boot(workspace: &Workspace) -> Result<[BootSigningKey; 3]> {
    let load = |name: &str| -> Result<BootSigningKey> {
        let path = development_file(workspace, &format!("boot-{name}"), generate_marked_rsa)?;
        let key = BootSigningKey::load(&path)?;
        if !key.public().development {
            bail!("{}: is not marked as a development key", path.display());
        }
        Ok(key)
    };
    let [current, next, recovery] = KEY_NAMES;
    Ok([load(current)?, load(next)?, load(recovery)?])
}

/// Who signs what is made from a development image.
pub(crate) fn development_signer(workspace: &Workspace, board: &str) -> Result<Signer> {
    let [key, ..] = development_boot(workspace)?;
    let boards = workspace.root.join("images/boards");
    Ok(Signer { board: Board::load(&boards, board, &boards)?, key })
}

/// The file of a development key, made by `make` where there is none.
fn development_file(
    workspace: &Workspace,
    name: &str,
    make: impl FnOnce(&Path) -> Result<PathBuf>,
) -> Result<PathBuf> {
    let directory = development_directory(workspace);
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

/// Where the development keys of this checkout are.
pub(crate) fn development_directory(workspace: &Workspace) -> PathBuf {
    match std::env::var_os("HOLDFAST_KEYS") {
        Some(directory) => PathBuf::from(directory),
        None => workspace.root.join("images/keys/development"),
    }
}

/// Makes an Ed25519 key pair and returns the path of the public key.
fn generate(path: &Path, development: bool) -> Result<PathBuf> {
    let secret = random()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        workspace::make_directory(parent)?;
    }
    Ok(PrivateKey::from_secret(&secret, development).store(path)?)
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("the host gives no random numbers")?;
    Ok(bytes)
}

/// Makes an RSA key pair that is marked as a development key.
fn generate_marked_rsa(path: &Path) -> Result<PathBuf> {
    let public = generate_rsa(path)?;
    for file in [path, &public] {
        let marked = boot::marked_as_development(&workspace::read_text(file)?);
        fs::write(file, marked).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(public)
}

/// Makes an RSA key pair as the boot loader's tools read it.
fn generate_rsa(path: &Path) -> Result<PathBuf> {
    let public = path.with_extension("pub.pem");
    for file in [path, &public] {
        // Nor the place that a link keeps for one.
        if file.symlink_metadata().is_ok() {
            bail!("{} is there already; a key is never overwritten", file.display());
        }
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
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
