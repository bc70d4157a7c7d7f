//! `audit`: who has changed what in a catalog, and whether the log is still the one that was seen before.

use super::audit_log;
use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use holdfast_builder::{output, workspace};
use serde_json::Value;
use std::path::PathBuf;

/// Commands about the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the log: each change, by whom, with the digest of what was asked.
    Show(ShowArgs),
    /// Write the log to a file, which `audit verify --log` follows without the service.
    Export(ExportArgs),
    /// Write the newest checkpoint to a file, or have one signed now.
    Checkpoint(CheckpointArgs),
    /// Follow the log's chain of hashes: here, from an export and checkpoints, or have the service do so.
    Verify(VerifyArgs),
}

/// Arguments of `audit show`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast audit show --json")]
pub struct ShowArgs {
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `audit export`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast audit export --output audit.jsonl")]
pub struct ExportArgs {
    /// Path to write the log to: a line of JSON for each row.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `audit checkpoint`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whoever keeps a checkpoint, elsewhere than the service, notices when the log is cut or rewritten.\n\n\
                  Example: holdfast audit checkpoint --now --output checkpoint-monday.json"
)]
pub struct CheckpointArgs {
    /// Have one signed of the log as it is now, rather than take the newest.
    #[arg(long)]
    now: bool,
    /// Path to write it to.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "With --log, nobody is asked: the export is followed row by row, past each checkpoint, whose signature is verified from the \
                  certificate of the catalog's root (`ca-certificate download`). Without, the service follows its own log.\n\n\
                  Example: holdfast audit verify --log audit.jsonl --root catalog.pem --checkpoint monday.json --checkpoint tuesday.json"
)]
pub struct VerifyArgs {
    /// Log that `audit export` has written.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Checkpoint that was kept; may be given several times.
    #[arg(long, value_name = "FILE", requires_all = ["log", "root"])]
    checkpoint: Vec<PathBuf>,
    /// Certificate of the catalog's root, PEM.
    #[arg(long, value_name = "PEM")]
    root: Option<PathBuf>,
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
        AuditCommand::Export(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let list = catalog.list(&["audit"], &[])?;
            let text = audit_log::export(&catalog.catalog, shown::items(&list))?;
            workspace::write(&args.output, &text)?;
            let rows = shown::items(&list).len();
            let path = args.output.display();
            output::written(&args.output, format_args!("{path}: {rows} rows"));
            Ok(())
        }
        AuditCommand::Checkpoint(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let path = ["audit", "checkpoint"];
            let made = match args.now {
                true => catalog.post(&path, &Value::Null)?,
                false => catalog.get(&path)?,
            };
            let text = serde_json::to_string(&made).context("cannot write JSON")? + "\n";
            workspace::write(&args.output, &text)?;
            let (size, path) = (shown::cell(&made, "size"), args.output.display());
            output::written(&args.output, format_args!("{path}: of {size} rows"));
            Ok(())
        }
        AuditCommand::Verify(VerifyArgs { log: Some(log), checkpoint, root, catalog }) => {
            let verified = audit_log::verify(log, checkpoint, root.as_deref())?;
            if catalog.json {
                return shown::json(&verified);
            }
            let (rows, head) = (shown::cell(&verified, "rows"), shown::cell(&verified, "head"));
            println!(
                "{rows} rows are a chain, past {} checkpoints; its head is {head}",
                checkpoint.len()
            );
            Ok(())
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
