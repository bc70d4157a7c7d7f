//! What was verified of an export, and what it has, counted: devices by state, verdict and release, deployments, failures, findings and threats.

use super::manifest::Document;
use crate::security_service::shown::{self, cell};
use anyhow::Result;
use holdfast_types::{CatalogId, date, escape};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Most different words that are counted of one kind; further ones are counted together.
const MOST_WORDS: usize = 256;
/// What further words are counted as.
const OTHERS: &str = "others";

/// What was verified.
#[derive(Debug)]
pub(super) struct Verified {
    /// The catalog.
    pub(super) catalog: CatalogId,
    /// When the export was begun, in seconds since 1970.
    pub(super) at: u64,
    /// Who has exported: name of a token or person.
    pub(super) by: String,
    /// Row of the audit log that has the manifest's digest.
    pub(super) row: u64,
    /// Rows of the audit log, all of which the checkpoint vouches for.
    pub(super) rows: u64,
    /// When the checkpoint was signed, in seconds since 1970.
    pub(super) checkpoint_at: u64,
    /// The documents.
    pub(super) documents: Vec<Document>,
    /// What stands in them.
    pub(super) summary: Summary,
}

/// Counts of words.
type Counts = BTreeMap<String, u64>;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Summary {
    devices: Counts,
    verdicts: Counts,
    releases: Counts,
    deployments: Counts,
    findings: Counts,
    threats: Counts,
    crashes: Counts,
    failures: u64,
    newest: u64,
}

fn add(counts: &mut Counts, word: String) {
    let is_new = !counts.contains_key(&word);
    let word = if is_new && counts.len() >= MOST_WORDS { OTHERS.to_owned() } else { word };
    let count = counts.entry(word).or_default();
    *count = count.saturating_add(1);
}

/// The word for something that is closed, or else the state of it.
fn open_or_closed(value: &Value) -> &'static str {
    let is_closed = value.get("closed_at").is_some_and(|at| at.as_u64().is_some_and(|at| at > 0));
    if is_closed { "closed" } else { "open" }
}

impl Summary {
    /// Counts a line of a document. Documents of later versions are passed over.
    pub(super) fn count(&mut self, document: &str, value: &Value) {
        match document {
            "devices.jsonl" => {
                add(&mut self.devices, cell(value, "state"));
                if !cell(value, "verdict").starts_with('-') {
                    add(&mut self.verdicts, cell(value, "verdict"));
                }
                if !cell(value, "version").starts_with('-') {
                    add(&mut self.releases, cell(value, "version"));
                }
                let seen = value.get("seen_at").and_then(Value::as_u64).unwrap_or(0);
                self.newest = self.newest.max(seen);
            }
            "deployments.jsonl" => add(&mut self.deployments, cell(value, "state")),
            "findings.jsonl" => {
                let word = format!("{} ({})", cell(value, "kind"), open_or_closed(value));
                add(&mut self.findings, word);
            }
            "threats.jsonl" => {
                let word = format!("{} ({})", cell(value, "rule"), open_or_closed(value));
                add(&mut self.threats, word);
            }
            "crashes.jsonl" => add(&mut self.crashes, cell(value, "state")),
            "reports.jsonl" => self.failures = self.failures.saturating_add(1),
            _ => {}
        }
    }
}

fn spoken(counts: &Counts) -> String {
    let words = counts.iter().map(|(word, count)| format!("{count} {word}"));
    let text = words.collect::<Vec<_>>().join(", ");
    if text.is_empty() { "none".to_owned() } else { text }
}

/// Prints what was verified.
pub(super) fn print(verified: &Verified, as_json: bool) -> Result<()> {
    let Verified { catalog, at, by, row, rows, checkpoint_at, documents, summary } = verified;
    if as_json {
        return shown::json(&json!({
            "catalog": catalog.to_string(), "at": at, "by": by, "row": row, "rows": rows,
            "checkpoint_at": checkpoint_at, "documents": documents, "last_seen_at": summary.newest,
            "devices": summary.devices, "verdicts": summary.verdicts,
            "releases": summary.releases, "deployments": summary.deployments,
            "findings": summary.findings, "threats": summary.threats,
            "crash_groups": summary.crashes, "reports": summary.failures,
        }));
    }
    println!("catalog      {catalog}");
    println!("exported     {} UTC by {}, row {row}", date(*at), escape(by.as_bytes()));
    println!("audit log    {rows} rows, up to a checkpoint of {} UTC", date(*checkpoint_at));
    println!("devices      {}", spoken(&summary.devices));
    println!("verdicts     {}", spoken(&summary.verdicts));
    println!("releases     {}", spoken(&summary.releases));
    match summary.newest {
        0 => println!("last seen    never"),
        newest => println!("last seen    {} UTC", date(newest)),
    }
    println!("deployments  {}", spoken(&summary.deployments));
    println!("findings     {}", spoken(&summary.findings));
    println!("threats      {}", spoken(&summary.threats));
    println!("crash groups {}", spoken(&summary.crashes));
    println!("reports      {}", summary.failures);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_document_says_is_counted_within_bounds() {
        let mut summary = Summary::default();
        let device =
            json!({"state": "enrolled", "verdict": "full", "version": "1.4.0", "seen_at": 7});
        summary.count("devices.jsonl", &device);
        summary.count("devices.jsonl", &json!({"state": "claimed", "verdict": null}));
        summary.count("findings.jsonl", &json!({"kind": "clone", "closed_at": null}));
        summary.count("findings.jsonl", &json!({"kind": "clone", "closed_at": 9}));
        summary.count("later.jsonl", &json!({"state": "enrolled"}));
        assert_eq!(spoken(&summary.devices), "1 claimed, 1 enrolled");
        assert_eq!(spoken(&summary.releases), "1 1.4.0");
        assert_eq!(spoken(&summary.findings), "1 clone (closed), 1 clone (open)");
        assert_eq!((spoken(&summary.threats).as_str(), summary.newest), ("none", 7));
        // What a device says of itself neither moves the cursor nor fills the memory.
        for number in 0..2 * MOST_WORDS {
            let version = format!("\u{1b}{number}");
            summary.count("devices.jsonl", &json!({"state": "enrolled", "version": version}));
        }
        assert!(summary.releases.len() <= MOST_WORDS + 1);
        assert!(!spoken(&summary.releases).contains('\u{1b}'));
    }
}
