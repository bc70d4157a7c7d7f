//! `audit`: who has changed what in a catalog.

use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::Value;

/// Commands about the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the log: each change, by whom, with the digest of what was asked.
    Show(ShowArgs),
    /// Have the service follow the log's chain of hashes.
    Verify(VerifyArgs),
}

/// Arguments of `audit show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast audit show --json")]
pub struct ShowArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast audit verify")]
pub struct VerifyArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &AuditCommand) -> Result<()> {
    match command {
        AuditCommand::Show(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["audit"], &[])?;
            let columns = [
                ("ROW", "number"),
                ("AT", "at"),
                ("WHO", "who"),
                ("WHAT", "verb"),
                ("TO", "object"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        AuditCommand::Verify(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let verdict = catalog.post(&["audit", "verify"], &Value::Null)?;
            let broken = verdict.get("broken").and_then(Value::as_u64);
            let sentence = format!("{} rows are a chain", shown::cell(&verdict, "rows"));
            shown::done(&verdict, args.catalog.json, &sentence)?;
            match broken {
                Some(row) => {
                    bail!("row {row} is not what was written, or stands behind one that is missing")
                }
                None => Ok(()),
            }
        }
    }
}
