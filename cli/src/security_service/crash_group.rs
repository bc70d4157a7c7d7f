//! `crash list` and what follows: failures that devices have reported, in groups of the same one, and all reports as CSV.

use super::in_catalog::{self, CatalogArgs};
use super::shown;
use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use holdfast_builder::workspace;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;

/// Commands about failures that devices have reported.
#[derive(Debug, Subcommand)]
pub enum CrashGroupCommand {
    /// List crash groups, those on most devices first.
    List(ListArgs),
    /// Show a crash group, and how often it was seen in each version.
    Show(GroupArgs),
    /// Close a crash group: it opens again by itself where it is seen in a later version.
    Close(GroupArgs),
    /// Open a crash group that was closed.
    Reopen(GroupArgs),
    /// Write all reports of the last 14 days as CSV, in the columns of Azure Sphere's error reports, or open crash groups as logs of OpenTelemetry.
    Export(ExportArgs),
}

/// Arguments of `crash list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast crash list --closed")]
pub struct ListArgs {
    /// List those that were closed as well.
    #[arg(long)]
    closed: bool,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// A crash group.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast crash show GROUP")]
pub struct GroupArgs {
    /// Id of the group, as `crash list` says it.
    group: String,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// A format of `crash export`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Reports as CSV.
    Csv,
    /// Crash groups as logs of OpenTelemetry.
    Otlp,
}

/// Arguments of `crash export`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast crash export --csv --output reports.csv\n\
                        Example: holdfast crash export --format otlp --output crashes.jsonl")]
pub struct ExportArgs {
    /// Write CSV, which is usual; `--json` writes what the service answers.
    #[arg(long, conflicts_with_all = ["json", "format"])]
    csv: bool,
    /// Format: `csv` of reports, or `otlp` of crash groups (OTLP's JSON, a request of logs a line).
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File to write, in place of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

const MEMBERS: [(&str, &str); 17] = [
    ("group", "group"),
    ("state", "state"),
    ("product", "product"),
    ("component", "component"),
    ("name", "name"),
    ("kind", "kind"),
    ("at", "at"),
    ("called from", "called_from"),
    ("first version", "first_version"),
    ("last version", "last_version"),
    ("first seen", "first_at"),
    ("last seen", "last_at"),
    ("events", "events"),
    ("devices", "devices"),
    ("per 1000 device-days", "rate"),
    ("came back", "regressed_at"),
    ("closed", "closed_at"),
];

pub(crate) fn run(command: &CrashGroupCommand) -> Result<()> {
    match command {
        CrashGroupCommand::List(args) => {
            let query: &[(&str, &str)] = if args.closed { &[("state", "closed")] } else { &[] };
            let mut list = in_catalog::open(&args.catalog)?.list(&["crashes"], query)?;
            if let Some(groups) = list.get_mut("items").and_then(Value::as_array_mut) {
                let devices = |group: &Value| group.get("devices").and_then(Value::as_u64);
                groups.sort_by_key(|group| std::cmp::Reverse(devices(group)));
            }
            let columns = [
                ("GROUP", "group"),
                ("STATE", "state"),
                ("NAME", "name"),
                ("KIND", "kind"),
                ("AT", "at"),
                ("FIRST", "first_version"),
                ("LAST", "last_version"),
                ("SEEN", "last_at"),
                ("DEVICES", "devices"),
                ("EVENTS", "events"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        CrashGroupCommand::Show(GroupArgs { group, catalog }) => {
            let crash = in_catalog::open(catalog)?.get(&["crashes", group])?;
            shown::object(&crash, catalog.json, &MEMBERS)?;
            if catalog.json {
                return Ok(());
            }
            let columns = [
                ("VERSION", "version"),
                ("FIRST SEEN", "first_at"),
                ("LAST SEEN", "last_at"),
                ("DEVICES", "devices"),
                ("EVENTS", "events"),
                ("PER 1000 DEVICE-DAYS", "rate"),
            ];
            let versions = crash.get("versions").cloned().unwrap_or(Value::Null);
            println!("");
            shown::list(&serde_json::json!({ "items": versions }), false, &columns)
        }
        CrashGroupCommand::Close(args) => change(args, "close", "is closed"),
        CrashGroupCommand::Reopen(args) => change(args, "reopen", "is open again"),
        CrashGroupCommand::Export(args) => export(args),
    }
}

/// Writes what the service writes, page behind page: its CSV has the heads once, and its logs are a document a line.
fn export(args: &ExportArgs) -> Result<()> {
    let catalog = in_catalog::open(&args.catalog)?;
    let mut text = String::new();
    let is_otlp = matches!(args.format, Some(Format::Otlp));
    if args.catalog.json && !is_otlp {
        let list = catalog.list(&["reports"], &[])?;
        text = serde_json::to_string_pretty(&list).context("cannot write JSON")? + "\n";
    } else if is_otlp {
        catalog.pages(&["crashes"], &[("format", "otlp")], |page| {
            text.push_str(page.trim_end());
            text.push('\n');
            Ok(())
        })?;
    } else {
        catalog.pages(&["reports"], &[("format", "csv")], |page| {
            text.push_str(page);
            Ok(())
        })?;
    }
    match &args.output {
        Some(path) => workspace::write(path, text),
        None => {
            std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
        }
    }
}

fn change(args: &GroupArgs, verb: &str, done: &str) -> Result<()> {
    let answer =
        in_catalog::open(&args.catalog)?.post(&["crashes", &args.group, verb], &Value::Null)?;
    let sentence = format!("crash group {}: {done}", args.group);
    shown::done(&answer, args.catalog.json, &sentence)
}
