//! `crash list` and what follows: failures that devices have reported, in groups of the same one, and all reports as CSV.

use super::in_catalog::{self, CatalogArgs};
use super::shown::{self, items};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use holdfast_builder::workspace;
use holdfast_types::date;
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
    /// Write all reports of the last 14 days as CSV, in the columns of Azure Sphere's error reports.
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

/// Arguments of `crash export`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast crash export --csv --output reports.csv")]
pub struct ExportArgs {
    /// Write CSV, which is usual; `--json` writes what the service answers.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// File to write, in place of standard output.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Heads of the columns of CSV, and the members that they have.
const EXPORTED: [(&str, &str); 8] = [
    ("Device ID", "device"),
    ("Event Type", "event_type"),
    ("Event Class", "event_class"),
    ("Event Category", "event_category"),
    ("Event Count", "event_count"),
    ("Description", "description"),
    ("Start Time", "start_at"),
    ("End Time", "end_at"),
];

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
        CrashGroupCommand::Export(args) => {
            let list = in_catalog::open(&args.catalog)?.list(&["reports"], &[])?;
            let text = if args.catalog.json {
                serde_json::to_string_pretty(&list).context("cannot write JSON")? + "\n"
            } else {
                csv(&list)
            };
            match &args.output {
                Some(path) => workspace::write(path, text),
                None => std::io::stdout()
                    .write_all(text.as_bytes())
                    .context("cannot write to standard output"),
            }
        }
    }
}

fn change(args: &GroupArgs, verb: &str, done: &str) -> Result<()> {
    let answer =
        in_catalog::open(&args.catalog)?.post(&["crashes", &args.group, verb], &Value::Null)?;
    let sentence = format!("crash group {}: {done}", args.group);
    shown::done(&answer, args.catalog.json, &sentence)
}

/// Returns reports as CSV (RFC 4180), as the service's own has them.
fn csv(list: &Value) -> String {
    let mut text = EXPORTED.map(|(head, _)| head).join(",") + "\r\n";
    for report in items(list) {
        let cells = EXPORTED.map(|(_, member)| match report.get(member) {
            Some(Value::String(text)) => quoted(text),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(seconds) if member.ends_with("_at") => date(seconds),
                _ => number.to_string(),
            },
            _ => String::new(),
        });
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\r', '\n']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_report_is_a_line_of_eight_cells() {
        let report = json!({"device": "de", "event_type": "unplanned", "event_class": "app",
            "event_category": "AppCrash", "event_count": 3, "description": "AppCrash (a=\"b\", c=d)",
            "start_at": 0, "end_at": 60, "epoch": "07", "sequence": 1});
        let text = csv(&json!({"items": [report]}));
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "Device ID,Event Type,Event Class,Event Category,Event Count,Description,Start Time,End Time",
                "de,unplanned,app,AppCrash,3,\"AppCrash (a=\"\"b\"\", c=d)\",1970-01-01 00:00:00,1970-01-01 00:01:00",
                ""
            ]
        );
    }
}
