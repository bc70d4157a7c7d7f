//! `approval`: changes that wait for a second person.

use super::in_catalog::{self, CatalogArgs, InCatalog};
use super::shown::{self, cell};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Commands about changes that need two people.
#[derive(Debug, Subcommand)]
pub enum ApprovalCommand {
    /// List the changes that wait for a second person.
    List(ListArgs),
    /// Show a change: what is asked for, and by whom.
    Show(OneArgs),
    /// Approve a change, which is carried out at once.
    Approve(ApproveArgs),
    /// Reject a change, or take back one's own.
    Reject(OneArgs),
}

/// Arguments of `approval list`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast approval list")]
pub struct ListArgs {
    /// Those that were decided about or have ended as well.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `approval show` and `reject`.
#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast approval show 7")]
pub struct OneArgs {
    /// Number of the change.
    number: u64,
    #[command(flatten)]
    catalog: CatalogArgs,
}

/// Arguments of `approval approve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Whoever approves is another person than whoever has asked. With --digest, what is approved is what was looked at before, and \
                  nothing is printed first.\n\n\
                  Example: holdfast approval approve 7"
)]
pub struct ApproveArgs {
    /// Number of the change.
    number: u64,
    /// Digest of the change, as `approval show` has it.
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    #[command(flatten)]
    catalog: CatalogArgs,
}

const MEMBERS: [(&str, &str); 10] = [
    ("change", "approval"),
    ("kind", "kind"),
    ("object", "object"),
    ("asked for", "request"),
    ("digest", "digest"),
    ("state", "state"),
    ("asked by", "requested_by"),
    ("until", "ends_at"),
    ("decided by", "decided_by"),
    ("at", "decided_at"),
];

pub(crate) fn run(command: &ApprovalCommand) -> Result<()> {
    match command {
        ApprovalCommand::List(args) => {
            let query: &[(&str, &str)] = if args.all { &[("state", "all")] } else { &[] };
            let list = in_catalog::open(&args.catalog)?.list(&["approvals"], query)?;
            let columns = [
                ("CHANGE", "approval"),
                ("KIND", "kind"),
                ("OBJECT", "object"),
                ("STATE", "state"),
                ("ASKED BY", "requested_by"),
                ("UNTIL", "ends_at"),
            ];
            shown::list(&list, args.catalog.json, &columns)
        }
        ApprovalCommand::Show(args) => {
            let found = find(&in_catalog::open(&args.catalog)?, args.number)?;
            show(&found, args.catalog.json)
        }
        ApprovalCommand::Approve(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let digest = match &args.digest {
                Some(digest) => digest.clone(),
                None => {
                    let found = find(&catalog, args.number)?;
                    if !args.catalog.json {
                        show(&found, false)?;
                    }
                    let digest = found.get("digest").and_then(Value::as_str);
                    digest.context("the service has shown no digest")?.to_owned()
                }
            };
            let number = args.number.to_string();
            let path = ["approvals", number.as_str(), "approve"];
            let answer = catalog.post(&path, &json!({ "digest": digest }))?;
            let sentence = format!("change {number} was approved, and is done");
            shown::done(&answer, args.catalog.json, &sentence)
        }
        ApprovalCommand::Reject(args) => {
            let catalog = in_catalog::open(&args.catalog)?;
            let number = args.number.to_string();
            let answer = catalog.post(&["approvals", &number, "reject"], &Value::Null)?;
            shown::done(&answer, args.catalog.json, &format!("change {number} was rejected"))
        }
    }
}

fn find(catalog: &InCatalog, number: u64) -> Result<Value> {
    Ok(catalog.get(&["approvals", &number.to_string()])?)
}

fn show(change: &Value, as_json: bool) -> Result<()> {
    if as_json {
        return shown::json(change);
    }
    let request = change.get("request").map(Value::to_string).unwrap_or_default();
    let mut said = change.clone();
    if let Some(members) = said.as_object_mut() {
        members.insert("request".to_owned(), json!(request));
    }
    let decided = cell(&said, "decided_by") != "-";
    let members: Vec<_> = MEMBERS
        .iter()
        .filter(|(_, member)| decided || !member.starts_with("decided"))
        .copied()
        .collect();
    shown::object(&said, false, &members)
}
