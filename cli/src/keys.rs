//! `key`: making keys of one's own, and looking at any.

use crate::invocation::Invocation;
use crate::release;
use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use holdfast_builder::{development_keys, key_pair};
use holdfast_images::boot::{BootKey, BootSigningKey};
use holdfast_images::key::{PrivateKey, PublicKey};
use std::path::{Path, PathBuf};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key pair.
    New(NewArgs),
    /// Say what a key file holds.
    Show(ShowArgs),
    /// Change the keys of a repository of releases.
    Rotate(release::RotateArgs),
}

/// The use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// App packages: Ed25519.
    App,
    /// Metadata of releases: Ed25519.
    Release,
    /// Kernel and device tree, for the boot loader: RSA-3072.
    Boot,
}

/// Arguments of `key new`.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes NAME.pem, readable by you alone, and NAME.pub.pem. Keep the first off this \
                  machine; put the second into an image manifest, under [trust].\n\n\
                  Example: holdfast key new --for app --output keys/oem.pem"
)]
pub struct NewArgs {
    /// Purpose of the key.
    #[arg(long = "for", value_enum)]
    purpose: Purpose,
    /// Path to write the private key to; ends in `.pem`.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Arguments of `key show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast key show keys/oem.pub.pem")]
pub struct ShowArgs {
    /// A PEM file of a key.
    key: PathBuf,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(invocation: &Invocation, command: &KeyCommand) -> Result<()> {
    match command {
        KeyCommand::New(args) => new(args),
        KeyCommand::Show(args) => show(invocation, args),
        KeyCommand::Rotate(args) => release::rotate(invocation, args),
    }
}

fn new(args: &NewArgs) -> Result<()> {
    if args.output.extension().is_none_or(|extension| extension != "pem") {
        return Err(HostLacks("--output: must end in `.pem`".to_owned()).into());
    }
    let public = match args.purpose {
        Purpose::App | Purpose::Release => key_pair::ed25519(&args.output, false)?,
        Purpose::Boot => key_pair::rsa(&args.output)?,
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

fn show(invocation: &Invocation, args: &ShowArgs) -> Result<()> {
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
    let root = invocation.checkout()?;
    let ours = development_keys::directory_in(root.as_deref())
        .is_some_and(|directory| args.key.starts_with(directory));
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
