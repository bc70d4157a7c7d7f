//! `ca-certificate`: the certificates of a catalog's own authority, which relying parties pin.

use super::in_catalog::{self, CatalogArgs};
use super::shown::{self, cell, items};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use holdfast_builder::{output, workspace};
use serde_json::Value;
use std::path::PathBuf;

const MEMBERS: [(&str, &str); 4] =
    [("SERIAL", "serial"), ("KIND", "kind"), ("FROM", "not_before"), ("UNTIL", "not_after")];

/// Commands about the certificates of a catalog's authority.
#[derive(Debug, Subcommand)]
pub enum CaCertificateCommand {
    /// List the certificates: the root, and those that issue.
    List(ListArgs),
    /// Show a certificate.
    Show(ShowArgs),
    /// Write a certificate to a file, for whoever verifies devices.
    Download(DownloadArgs),
    /// Make the next issuing certificate before its time; a second owner approves it, where there is one.
    Renew(RenewArgs),
}

/// Arguments of `ca-certificate list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast ca-certificate list")]
pub struct ListArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `ca-certificate show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast ca-certificate show")]
pub struct ShowArgs {
    /// Serial number; the root's when not given.
    serial: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `ca-certificate download`.
#[derive(Debug, Args)]
#[command(
    after_help = "A broker or a peer pins the root, which stays for twenty years; devices send the rest of the chain.\n\n\
                  Example: holdfast ca-certificate download --output catalog.pem"
)]
pub struct DownloadArgs {
    /// Serial number; the root's when not given.
    serial: Option<String>,
    /// Path to write the certificate to, PEM.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `ca-certificate renew`.
#[derive(Debug, Args)]
#[command(
    after_help = "The service renews it by itself at half of its 90 days. What it has issued until now stays good.\n\n\
                  Example: holdfast ca-certificate renew"
)]
pub struct RenewArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &CaCertificateCommand) -> Result<()> {
    match command {
        CaCertificateCommand::List(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["ca-certificates"], &[])?;
            shown::list(&list, args.catalog.json, &MEMBERS)
        }
        CaCertificateCommand::Show(args) => {
            let found = find(&args.catalog, args.serial.as_deref())?;
            let members = [
                ("serial", "serial"),
                ("kind", "kind"),
                ("from", "not_before"),
                ("until", "not_after"),
            ];
            shown::object(&found, args.catalog.json, &members)?;
            if !args.catalog.json {
                println!("{}", pem(&found).trim_end());
            }
            Ok(())
        }
        CaCertificateCommand::Download(args) => {
            let found = find(&args.catalog, args.serial.as_deref())?;
            workspace::write(&args.output, pem(&found))?;
            if args.catalog.json {
                return shown::json(&found);
            }
            let (kind, serial) = (cell(&found, "kind"), cell(&found, "serial"));
            let path = args.output.display();
            output::written(&args.output, format_args!("{path}: {kind} {serial}"));
            Ok(())
        }
        CaCertificateCommand::Renew(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let answer = catalog.post(&["ca-certificates", "renew"], &Value::Null)?;
            let sentence = format!("issuing certificate {}", cell(&answer, "serial"));
            shown::done(&answer, args.catalog.json, &sentence)
        }
    }
}

fn pem(certificate: &Value) -> &str {
    certificate.get("pem").and_then(Value::as_str).unwrap_or_default()
}

/// Returns the certificate with a serial number, or the root.
fn find(args: &CatalogArgs, serial: Option<&str>) -> Result<Value> {
    let list = in_catalog::open(args)?.list(&["ca-certificates"], &[])?;
    let is_meant = |entry: &&Value| match serial {
        Some(serial) => cell(entry, "serial").eq_ignore_ascii_case(serial),
        None => cell(entry, "kind") == "root",
    };
    let found = items(&list).iter().find(is_meant).cloned();
    found.with_context(|| match serial {
        Some(serial) => format!("there is no certificate {serial}; `ca-certificate list` has all"),
        None => "the catalog has no root".to_owned(),
    })
}
