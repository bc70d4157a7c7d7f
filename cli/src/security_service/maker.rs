//! `maker`: makers of TPMs, whose certificates vouch for the keys of devices.

use super::certificate::first_certificate;
use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use serde_json::json;
use std::path::PathBuf;

/// Commands about makers of TPMs.
#[derive(Debug, Subcommand)]
pub enum MakerCommand {
    /// List the makers.
    List(ListArgs),
    /// List a maker's authority, or change the grade that it vouches for.
    Add(AddArgs),
}

/// Arguments of `maker list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast maker list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `maker add`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast maker add tpm-maker.pem --grade hardware")]
pub struct AddArgs {
    /// Certificate of the maker's authority, PEM.
    certificate: PathBuf,
    /// Grade that it vouches for.
    #[arg(long)]
    grade: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &MakerCommand) -> Result<()> {
    const MEMBERS: [(&str, &str); 2] = [("FINGERPRINT", "fingerprint"), ("GRADE", "grade")];
    match command {
        MakerCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["makers"], &[])?;
            shown::list(&list, args.catalog.json, &MEMBERS)
        }
        MakerCommand::Add(args) => {
            let certificate = first_certificate(&args.certificate)?;
            let catalog = in_catalog::open(&args.catalog)?;
            let body = json!({ "certificate": STANDARD.encode(certificate), "grade": args.grade });
            let made = catalog.post(&["makers"], &body)?;
            if let Some(sentence) = shown::waiting(&made) {
                return shown::done(&made, args.catalog.json, &sentence);
            }
            shown::object(&made, args.catalog.json, &MEMBERS)
        }
    }
}
