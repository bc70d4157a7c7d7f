//! `finding`: what was found about devices and stays until somebody closes it.

use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::json;

/// Commands about findings.
#[derive(Debug, Subcommand)]
pub enum FindingCommand {
    /// List what was found.
    List(ListArgs),
    /// Close a finding: what heals does so by itself, and stays listed until then.
    Close(CloseArgs),
}

/// Arguments of `finding list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast finding list --closed")]
pub struct ListArgs {
    /// List those that were closed as well.
    #[arg(long)]
    closed: bool,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `finding close`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast finding close DEVICE receipt-forked")]
pub struct CloseArgs {
    /// Id of the device.
    device: String,
    /// What was found, as `finding list` says it.
    kind: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

pub(crate) fn run(command: &FindingCommand) -> Result<()> {
    match command {
        FindingCommand::List(args) => {
            let query: &[(&str, &str)] = if args.closed { &[("state", "closed")] } else { &[] };
            let list = in_catalog::open(&args.catalog)?.list(&["findings"], query)?;
            let columns = [
                ("DEVICE", "device"),
                ("FOUND", "kind"),
                ("FIRST", "opened_at"),
                ("LAST", "last_at"),
                ("TIMES", "times"),
                ("CLOSED", "closed_at"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        FindingCommand::Close(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let body = json!({ "device": args.device, "kind": args.kind });
            let answer = catalog.post(&["findings", "close"], &body)?;
            let sentence = format!("{}: {} is closed", args.device, args.kind);
            shown::done(&answer, args.catalog.json, &sentence)
        }
    }
}
