//! Writing an export: lists are read page by page into files beside the output, the manifest's digest goes into the audit log, and a
//! checkpoint is signed over it.

use super::manifest::{AUDIT_LOG, CHECKPOINT, Document, MANIFEST, MAX_DOCUMENT_BYTES, Manifest};
use crate::security_service::audit_log;
use crate::security_service::in_catalog::{self, CatalogArgs, InCatalog};
use crate::security_service::shown::{self, cell};
use anyhow::{Context, Result, bail, ensure};
use holdfast_builder::output;
use holdfast_images::destination;
use holdfast_types::hex::{hex, sha256};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::UNIX_EPOCH;

/// A list of the API that goes into a document as it is.
struct List {
    document: &'static str,
    path: &'static str,
    query: &'static [(&'static str, &'static str)],
}

/// The lists, each with all that it has, closed and ended things as well.
const LISTS: [List; 7] = [
    List { document: "devices.jsonl", path: "devices", query: &[] },
    List { document: "releases.jsonl", path: "releases", query: &[] },
    List { document: "deployments.jsonl", path: "deployments", query: &[] },
    List { document: "crashes.jsonl", path: "crashes", query: &[("state", "closed")] },
    List { document: "findings.jsonl", path: "findings", query: &[("state", "closed")] },
    List { document: "threats.jsonl", path: "threats", query: &[("state", "closed")] },
    List { document: "reports.jsonl", path: "reports", query: &[] },
];
/// The document with where the devices of each deployment are.
const WHEREABOUTS: &str = "deployment-devices.jsonl";

/// A file that is written line by line and known by its digest.
struct Lines {
    name: String,
    file: BufWriter<File>,
    digest: Sha256,
    bytes: u64,
    lines: u64,
}

impl Lines {
    fn create(directory: &Path, name: &str) -> Result<Self> {
        let path = directory.join(name);
        let file = File::create_new(&path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let (file, name) = (BufWriter::new(file), name.to_owned());
        Ok(Self { name, file, digest: Sha256::new(), bytes: 0, lines: 0 })
    }

    fn push(&mut self, line: &str) -> Result<()> {
        self.bytes = self.bytes.saturating_add(line.len() as u64).saturating_add(1);
        self.lines = self.lines.saturating_add(1);
        let (name, most) = (&self.name, MAX_DOCUMENT_BYTES);
        ensure!(self.bytes <= most, "{name}: the service's list has more than {most} bytes");
        self.digest.update(line);
        self.digest.update("\n");
        let written =
            self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.with_context(|| format!("cannot write {name}"))
    }

    fn end(mut self) -> Result<Document> {
        self.file.flush().with_context(|| format!("cannot write {}", self.name))?;
        let Self { name, bytes, lines, .. } = self;
        Ok(Document { name, bytes, lines, sha256: hex(&self.digest.finalize()) })
    }
}

/// Demands that whoever asks may read all that an export has, and says which lists are refused.
fn check_rights(catalog: &InCatalog) -> Result<()> {
    let mut refused = Vec::new();
    for path in LISTS.iter().map(|list| list.path).chain(["audit"]) {
        match catalog.page_of_one(&[path]) {
            Err(error) if error.refused_for() == Some("forbidden") => refused.push(path),
            other => {
                other.with_context(|| format!("cannot read the list `{path}`"))?;
            }
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    bail!(
        "the token may not read {}: an export has all of a catalog; an owner gives a token that may by \
         `token create NAME --role auditor`, or a person the role by `role grant`",
        refused.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ")
    )
}

/// Writes the documents into a directory.
fn documents(catalog: &InCatalog, directory: &Path) -> Result<Vec<Document>> {
    let mut made = Vec::new();
    let mut deployments = Vec::new();
    for List { document, path, query } in LISTS {
        let mut lines = Lines::create(directory, document)?;
        let read = catalog.each_page(&[path], query, |items| {
            for item in items {
                if path == "deployments" {
                    deployments.push(cell(&item, "id"));
                }
                lines.push(&item.to_string())?;
            }
            Ok(true)
        });
        read.with_context(|| format!("cannot read the list `{path}`"))?;
        made.push(lines.end()?);
    }
    let mut lines = Lines::create(directory, WHEREABOUTS)?;
    for deployment in &deployments {
        let read = catalog.each_page(&["deployments", deployment, "devices"], &[], |items| {
            for mut item in items {
                shown::say(&mut item, "deployment", Some(deployment));
                lines.push(&item.to_string())?;
            }
            Ok(true)
        });
        read.with_context(|| format!("cannot read the devices of the deployment {deployment}"))?;
    }
    made.push(lines.end()?);
    Ok(made)
}

/// Writes the audit log up to the row of a checkpoint.
fn write_log(catalog: &InCatalog, directory: &Path, size: u64) -> Result<u64> {
    let mut lines = Lines::create(directory, AUDIT_LOG)?;
    lines.push(&audit_log::head(&catalog.catalog)?)?;
    let mut rows = 0_u64;
    let read = catalog.each_page(&["audit"], &[], |items| {
        for item in items {
            if rows >= size {
                return Ok(false);
            }
            lines.push(&item.to_string())?;
            rows = rows.saturating_add(1);
        }
        Ok(true)
    });
    read.context("cannot read the list `audit`")?;
    ensure!(rows == size, "the audit log has {rows} rows, and its checkpoint {size}");
    Ok(lines.end()?.bytes)
}

/// Appends a file of these bytes.
fn append(
    tar: &mut tar::Builder<BufWriter<&mut File>>,
    name: &str,
    (bytes, at): (u64, u64),
    content: impl std::io::Read,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(at);
    let appended = tar.append_data(&mut header, name, content);
    appended.with_context(|| format!("cannot write {name} into the export"))
}

/// Writes an export of a catalog.
pub(super) fn export(args: &CatalogArgs, path: &Path) -> Result<()> {
    destination::check_file(path)?;
    let catalog = in_catalog::open(args)?;
    check_rights(&catalog)?;
    let at = UNIX_EPOCH.elapsed().context("this host's clock shows a time before 1970")?.as_secs();
    // Beside the output, where there has to be room for it.
    let parent = destination::parent(path);
    let scratch = tempfile::Builder::new().prefix(".holdfast-export-").tempdir_in(parent);
    let scratch = scratch.with_context(|| format!("cannot write in {}", parent.display()))?;
    let documents = documents(&catalog, scratch.path())?;
    let manifest = Manifest::new(catalog.catalog.clone(), at, documents);
    let text = serde_json::to_vec(&manifest).context("cannot write JSON")?;
    let digest = sha256(&text);
    catalog.post(&["exports"], &json!({ "manifest": digest }))?;
    let checkpoint = catalog.post(&["audit", "checkpoint"], &Value::Null)?;
    let size = checkpoint.get("size").and_then(Value::as_u64);
    let size = size.context("the checkpoint of the service does not say of how many rows it is")?;
    let log_bytes = write_log(&catalog, scratch.path(), size)?;
    let checkpoint = checkpoint.to_string();
    let open = |name: &str| {
        let path = scratch.path().join(name);
        File::open(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let write = |file: &mut File, _: &Path| -> Result<()> {
        let mut tar = tar::Builder::new(BufWriter::new(file));
        append(&mut tar, MANIFEST, (text.len() as u64, at), text.as_slice())?;
        append(&mut tar, CHECKPOINT, (checkpoint.len() as u64, at), checkpoint.as_bytes())?;
        append(&mut tar, AUDIT_LOG, (log_bytes, at), open(AUDIT_LOG)?)?;
        for Document { name, bytes, .. } in &manifest.documents {
            append(&mut tar, name, (*bytes, at), open(name)?)?;
        }
        let mut buffer = tar.into_inner().context("cannot end the export")?;
        buffer.flush().context("cannot end the export")
    };
    destination::write_file(path, write)?;
    if args.json {
        let documents = serde_json::to_value(&manifest.documents).context("cannot write JSON")?;
        let catalog = &manifest.catalog;
        return shown::json(&json!({
            "catalog": catalog, "at": at, "manifest": digest, "rows": size, "documents": documents,
        }));
    }
    let devices = manifest.documents.first().map_or(0, |document| document.lines);
    output::written(
        path,
        format_args!("{}: {devices} devices, audit log of {size} rows", path.display()),
    );
    Ok(())
}
