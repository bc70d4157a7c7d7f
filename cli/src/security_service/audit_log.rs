//! The audit log outside of the service: exported as lines of JSON, and followed there past checkpoints that were kept.

use anyhow::{Context, Result, bail};
use holdfast_builder::workspace;
use holdfast_service_domain::audit::Row;
use holdfast_service_domain::checkpoint::{
    Checkpoint, CheckpointError, Fault, Follower, MAX_FILE_BYTES, SignedCheckpoint,
};
use holdfast_types::CatalogId;
use holdfast_types::date;
use holdfast_types::hex::{hex, unhex};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use ureq::tls::{PemItem, parse_pem};

/// Longest line of an export in bytes: names, verbs and objects are bounded by what requests may have.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;

/// The first line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    /// Version of the format.
    holdfast_audit_log: u32,
    /// Id of the catalog.
    catalog: String,
}

/// A row, as the API gives it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    number: u64,
    at: u64,
    who: String,
    verb: String,
    object: String,
    digest: String,
    hash: String,
}

/// Returns the first line of an export, without its end.
pub(crate) fn head(catalog: &str) -> Result<String> {
    let head = Head { holdfast_audit_log: 1, catalog: catalog.to_owned() };
    serde_json::to_string(&head).context("cannot write JSON")
}

/// Returns the text of an export.
pub(crate) fn export(catalog: &str, rows: &[Value]) -> Result<String> {
    let mut text = head(catalog)? + "\n";
    for row in rows {
        text.push_str(&row.to_string());
        text.push('\n');
    }
    Ok(text)
}

/// Reads a line, which may be the last one without an end.
pub(crate) fn line(reader: &mut impl BufRead, path: &Path) -> Result<Option<String>> {
    let mut line = String::new();
    let failed = || format!("cannot read {}", path.display());
    let read = reader.take(MAX_LINE_BYTES).read_line(&mut line).with_context(failed)?;
    if read as u64 >= MAX_LINE_BYTES {
        bail!("{}: has a line that is longer than {MAX_LINE_BYTES} bytes", path.display());
    }
    Ok((read > 0).then_some(line))
}

/// Reads a checkpoint, and verifies its signature.
pub(crate) fn checkpoint(path: &Path, root: &[u8]) -> Result<Checkpoint> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.len() > MAX_FILE_BYTES {
        bail!("{}: is no checkpoint: it has more than {MAX_FILE_BYTES} bytes", path.display());
    }
    verified(&workspace::read(path)?, root).with_context(|| path.display().to_string())
}

/// Reads a checkpoint from its text, and verifies its signature.
pub(crate) fn verified(text: &[u8], root: &[u8]) -> Result<Checkpoint, CheckpointError> {
    SignedCheckpoint::read(text).and_then(|signed| signed.verify(root))
}

/// Reads the certificate of a catalog's root.
pub(crate) fn root_of(path: &Path) -> Result<Vec<u8>> {
    let pem = workspace::read(path)?;
    let found = parse_pem(&pem).find_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate.der().to_vec()),
        _ => None,
    });
    found.with_context(|| format!("{}: has no block BEGIN CERTIFICATE", path.display()))
}

/// Follows an export past checkpoints, and returns how many rows there are, with the hash of the last.
pub(crate) fn verify(log: &Path, checkpoints: &[PathBuf], root: Option<&Path>) -> Result<Value> {
    let kept: Vec<Checkpoint> = match root {
        Some(root) => {
            let root = root_of(root)?;
            checkpoints.iter().map(|path| checkpoint(path, &root)).collect::<Result<_>>()?
        }
        None => Vec::new(),
    };
    let file = File::open(log).with_context(|| format!("cannot read {}", log.display()))?;
    let mut reader = BufReader::new(file);
    let catalog = begin(&mut reader, log)?;
    for (path, kept) in checkpoints.iter().zip(&kept) {
        if kept.catalog != catalog {
            bail!(
                "{}: is of the catalog {}, and the log of {catalog}",
                path.display(),
                kept.catalog
            );
        }
    }
    let (rows, head) = follow(&mut reader, log, catalog, kept, |_| {})?;
    Ok(json!({ "catalog": catalog.to_string(), "rows": rows, "head": hex(&head) }))
}

/// Reads the first line of an export, and returns the catalog.
pub(crate) fn begin(reader: &mut impl BufRead, log: &Path) -> Result<CatalogId> {
    let head = line(reader, log)?.unwrap_or_default();
    let head: Option<Head> = serde_json::from_str(&head).ok();
    let catalog = head.filter(|head| head.holdfast_audit_log == 1);
    let catalog = catalog.and_then(|head| CatalogId::parse(&head.catalog));
    catalog.with_context(|| {
        format!("{}: is no audit log of this version; `audit export` writes one", log.display())
    })
}

/// Follows the rows of an export past checkpoints of its catalog, hands each to `take`, and returns how many there are, with the hash of the
/// last.
pub(crate) fn follow(
    reader: &mut impl BufRead,
    log: &Path,
    catalog: CatalogId,
    kept: Vec<Checkpoint>,
    mut take: impl FnMut(&Row),
) -> Result<(u64, [u8; 32])> {
    let wrong = |fault: Fault| anyhow::anyhow!("{}: {}", log.display(), said(&fault));
    let mut follower = Follower::begin(catalog, kept).map_err(wrong)?;
    while let Some(text) = line(reader, log)? {
        let (row, stored) = row_of(&text).with_context(|| {
            format!("{}: a line is no row of an audit log: {:.80}", log.display(), text.trim_end())
        })?;
        follower.follow(&row, stored).map_err(wrong)?;
        take(&row);
    }
    follower.end().map_err(wrong)
}

fn row_of(text: &str) -> Option<(Row, [u8; 32])> {
    let Line { number, at, who, verb, object, digest, hash } = serde_json::from_str(text).ok()?;
    Some((Row { number, at, who, verb, object, digest: unhex(&digest)? }, unhex(&hash)?))
}

/// Returns what is wrong, with times that people read.
fn said(fault: &Fault) -> String {
    match fault {
        Fault::Row(_) => fault.to_string(),
        Fault::Truncated { at, .. } | Fault::Forked { at, .. } => {
            fault.to_string().replace(&at.to_string(), &format!("{} UTC", date(*at)))
        }
    }
}
