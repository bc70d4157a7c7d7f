//! `site`: results of a service on a network without a way out, carried out in one file and verified elsewhere without asking anybody.

mod export;
mod manifest;
mod summary;
mod verify;

use super::in_catalog::CatalogArgs;
use anyhow::Result;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Commands about services at sites.
#[derive(Debug, Subcommand)]
pub enum SiteCommand {
    /// Write what a catalog's devices have attested and reported to one file, with what proves where it is from.
    Export(ExportArgs),
    /// Verify such a file from the certificate of the catalog's root, and say what is in it.
    Verify(VerifyArgs),
}

/// Arguments of `site export`.
#[derive(Debug, Args)]
#[command(
    after_help = "The audit log gets a row with the digest of what is written, and a checkpoint is signed over it: whoever has the \
                  certificate of the catalog's root needs nothing else to verify the file. It needs the role `auditor` or `owner` for the \
                  whole catalog.\n\n\
                  Example: holdfast site export --output /media/usb/site-7.tar"
)]
pub struct ExportArgs {
    /// Path to write the export to: a tar file.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `site verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Nobody is asked. The audit log is followed row by row to the checkpoint, whose signature is verified from the \
                  certificate of the catalog's root; a row of it has the digest of the manifest, and the manifest that of each document. \
                  With checkpoints of earlier exports, a log that has been rewritten since is found as well.\n\n\
                  Example: holdfast site verify site-7.tar --root catalog.pem --checkpoint last-month/checkpoint.json --unpack site-7"
)]
pub struct VerifyArgs {
    /// File that `site export` has written.
    file: PathBuf,
    /// Certificate of the catalog's root, PEM.
    #[arg(long, value_name = "PEM")]
    root: PathBuf,
    /// Checkpoint that was kept, such as that of an earlier export; may be given several times.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// New directory to put the documents into, once all of them were verified.
    #[arg(long, value_name = "DIRECTORY")]
    unpack: Option<PathBuf>,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &SiteCommand) -> Result<()> {
    match command {
        SiteCommand::Export(args) => export::export(&args.catalog, &args.output),
        SiteCommand::Verify(args) => {
            let unpack = args.unpack.as_deref();
            let verified = verify::verify(&args.file, &args.root, &args.checkpoint, unpack)?;
            summary::print(&verified, args.json)
        }
    }
}
