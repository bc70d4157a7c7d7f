//! `image sign`: signing the slot of an image that was built without the key.

use anyhow::{Context, Result, anyhow};
use clap::Args;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::workspace;
use holdfast_images::boot::{self, BootKey, BootSigningKey, KEY_BYTES, signature};
use holdfast_images::destination;
use holdfast_images::disk::Layout;
use holdfast_images::show;
use holdfast_lifecycle::slots::Slot;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Arguments of `image sign`.
#[derive(Debug, Args)]
#[command(
    after_help = "With a key at hand: --key current.pem. With a key kept elsewhere: write the bytes \
                  to sign, one file for each slot, with --public current.pub.pem --emit-bytes DIR; \
                  sign DIR/slot-a.bytes and DIR/slot-b.bytes there (RSA, PKCS #1 v1.5, SHA-256; \
                  `openssl dgst -sha256 -sign`) into slot-a.signature and slot-b.signature; and come \
                  back with --public current.pub.pem --signatures DIR.\n\n\
                  Example: holdfast image sign target/holdfast/pump.img --key current.pem"
)]
pub struct SignArgs {
    /// The image; its slot A is signed in place.
    image: PathBuf,
    /// Private key.
    #[arg(long, value_name = "PEM", conflicts_with = "public")]
    key: Option<PathBuf>,
    /// Public key of a key kept elsewhere.
    #[arg(long, value_name = "PEM")]
    public: Option<PathBuf>,
    /// Write the bytes to sign into this directory.
    #[arg(long, value_name = "DIR", requires = "public", conflicts_with = "signatures")]
    emit_bytes: Option<PathBuf>,
    /// Directory with the signatures made elsewhere.
    #[arg(long, value_name = "DIR", requires = "public")]
    signatures: Option<PathBuf>,
}

pub(crate) fn sign_command(args: &SignArgs) -> Result<()> {
    let named = |error| anyhow!("{}: {error}", args.image.display());
    let mut fit =
        show::read_partition(&args.image, "boot-a").map_err(super::show::named(&args.image))?;
    let length = signature::fit_length(&fit)
        .ok_or_else(|| anyhow!("{}: slot A holds nothing to sign", args.image.display()))?;
    fit.truncate(length);
    let public = match (&args.key, &args.public) {
        (Some(key), _) => {
            let key = BootSigningKey::load(key)?;
            boot::sign(&mut fit, &key).map_err(named)?;
            key.public()
        }
        (None, Some(public)) => {
            let public = BootKey::load(public)?;
            if let Some(directory) = &args.emit_bytes {
                return emit(&fit, directory, &args.image);
            }
            let directory = args.signatures.as_ref().ok_or_else(|| {
                HostLacks("--public needs --emit-bytes or --signatures beside it".to_owned())
            })?;
            attach(&mut fit, &public, directory)?;
            public
        }
        (None, None) => {
            return Err(HostLacks("name a key with --key or --public".to_owned()).into());
        }
    };
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(&args.image)
        .with_context(|| format!("cannot open {}", args.image.display()))?;
    let layout = Layout::read(&mut file)?;
    layout.partition("boot-a")?.write(&mut file, &args.image, "kernel and device trees", &fit)?;
    println!("{}: signed by {}", args.image.display(), public.id());
    Ok(())
}

fn emit(fit: &[u8], directory: &Path, image: &Path) -> Result<()> {
    for slot in Slot::ALL {
        let name = boot::configuration(slot);
        let path = directory.join(format!("{name}.bytes"));
        let bytes = signature::bytes_to_sign(fit, &name)?;
        destination::refuse_inputs(&path, [image])?;
        workspace::write(&path, &bytes)?;
        println!("{}: {} bytes to sign", path.display(), bytes.len());
    }
    Ok(())
}

fn attach(fit: &mut [u8], public: &BootKey, directory: &Path) -> Result<()> {
    for slot in Slot::ALL {
        let name = boot::configuration(slot);
        let path = directory.join(format!("{name}.signature"));
        let bytes = workspace::read(&path)?;
        let length = bytes.len();
        let bytes: [u8; KEY_BYTES] = bytes.try_into().map_err(|_| {
            anyhow!("{}: has {length} bytes; a signature has {KEY_BYTES}", path.display())
        })?;
        if !public.has_signed(&signature::bytes_to_sign(fit, &name)?, &bytes) {
            return Err(anyhow!(
                "{}: is no signature by {} over this image's {name}",
                path.display(),
                public.id()
            ));
        }
        signature::attach(fit, &name, &bytes)?;
    }
    Ok(())
}
