//! Verifying an export, without asking anybody: from the catalog's root to the checkpoint, from there to the audit log, to the row with the
//! manifest's digest, and from the manifest to each document.
//!
//! What is read is believed no further than it was verified. Entries come in one order, so that nothing but the manifest and the checkpoint
//! is held in memory.

use super::manifest::{
    AUDIT_LOG, CHECKPOINT, Document, MANIFEST, MAX_DOCUMENT_BYTES, MAX_MANIFEST_BYTES, Manifest,
};
use super::summary::{Summary, Verified};
use crate::security_service::audit_log::{self, line};
use anyhow::{Context, Result, anyhow, bail, ensure};
use holdfast_images::destination;
use holdfast_service_domain::audit::EXPORT_VERB;
use holdfast_service_domain::checkpoint::{Checkpoint, MAX_FILE_BYTES};
use holdfast_types::hex::{hex, sha256};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Reads an entry, hashing it and copying it into a file where one is wanted.
struct Entry<R> {
    content: R,
    digest: Sha256,
    bytes: u64,
    copy: Option<File>,
}

impl<R: Read> Read for Entry<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        let read = buffer.get(..count).unwrap_or_default();
        self.digest.update(read);
        self.bytes = self.bytes.saturating_add(read.len() as u64);
        if let Some(copy) = &mut self.copy {
            copy.write_all(read)?;
        }
        Ok(count)
    }
}

/// The entries of an export.
struct Entries<'a, R: Read> {
    entries: tar::Entries<'a, R>,
    unpack: Option<&'a Path>,
}

impl<'a, R: Read + 'a> Entries<'a, R> {
    /// Returns the next entry, which must have this name, with the bytes that it says to have: at most so many.
    fn next(&mut self, name: &str, most: u64) -> Result<(Entry<tar::Entry<'a, R>>, u64)> {
        let missing = || anyhow!("{name}: is missing from the export");
        let entry = self.entries.next().ok_or_else(missing)?;
        let entry = entry.with_context(|| {
            format!("{name}: cannot be read: the file is cut, or is none of `site export`")
        })?;
        let found = entry.path_bytes();
        if &*found != name.as_bytes() {
            let found = String::from_utf8_lossy(&found).escape_debug().to_string();
            let leads_out = found.starts_with('/') || found.split('/').any(|part| part == "..");
            let why = if leads_out { ", a name that leads out of the export" } else { "" };
            bail!("{name}: is missing from the export: `{found}` stands in its place{why}");
        }
        drop(found);
        ensure!(
            entry.header().entry_type() == tar::EntryType::Regular,
            "{name}: is no file in the export"
        );
        let bytes = entry.size();
        ensure!(bytes <= most, "{name}: has {bytes} bytes, and at most {most} are taken");
        let create = |directory: &Path| {
            let path = directory.join(name);
            File::create_new(&path).with_context(|| format!("cannot write {}", path.display()))
        };
        let copy = self.unpack.map(create).transpose()?;
        Ok((Entry { content: entry, digest: Sha256::new(), bytes: 0, copy }, bytes))
    }

    /// Reads the next entry as a whole.
    fn read(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let (mut entry, bytes) = self.next(name, most)?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).with_context(|| format!("{name}: cannot be read"))?;
        ensure!(entry.bytes == bytes, "{name}: is cut");
        Ok(content)
    }
}

/// Verifies a file from the certificate of a catalog's root, past checkpoints that were kept; puts its documents into a new directory where
/// one is named.
pub(super) fn verify(
    path: &Path,
    root: &Path,
    kept: &[PathBuf],
    unpack: Option<&Path>,
) -> Result<Verified> {
    let root = audit_log::root_of(root)?;
    let kept: Vec<Checkpoint> =
        kept.iter().map(|path| audit_log::checkpoint(path, &root)).collect::<Result<_>>()?;
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let of_file = || path.display().to_string();
    let Some(directory) = unpack else {
        return read(file, &root, &kept, None).with_context(of_file);
    };
    let is_there = directory.symlink_metadata().is_ok();
    ensure!(!is_there, "{}: is there already; name a new directory", directory.display());
    let parent = destination::parent(directory);
    let scratch = tempfile::Builder::new().prefix(".holdfast-site-").tempdir_in(parent);
    let scratch = scratch.with_context(|| format!("cannot write in {}", parent.display()))?;
    let made = scratch.path().join("export");
    let failed = || format!("cannot make {}", directory.display());
    fs::create_dir(&made).with_context(failed)?;
    let verified = read(file, &root, &kept, Some(&made)).with_context(of_file)?;
    fs::rename(&made, directory).with_context(failed)?;
    Ok(verified)
}

/// Reads and verifies an export.
fn read(
    export: impl Read,
    root: &[u8],
    kept: &[Checkpoint],
    unpack: Option<&Path>,
) -> Result<Verified> {
    let mut archive = tar::Archive::new(export);
    // Raw: an extension with a long name or a sparse map is an entry that is not expected, and is never held in memory.
    let entries = archive.entries().context("cannot be read as a tar file")?.raw(true);
    let mut entries = Entries { entries, unpack };

    let text = entries.read(MANIFEST, MAX_MANIFEST_BYTES)?;
    let (Manifest { at, documents, .. }, catalog) = Manifest::read(&text).context(MANIFEST)?;
    let digest = sha256(&text);

    let text = entries.read(CHECKPOINT, MAX_FILE_BYTES)?;
    let checkpoint = audit_log::verified(&text, root).context(CHECKPOINT)?;
    for other in std::iter::once(&checkpoint).chain(kept) {
        let of = other.catalog;
        ensure!(
            of == catalog,
            "{CHECKPOINT}: is of the catalog {of}, and the manifest of {catalog}"
        );
    }

    let (entry, bytes) = entries.next(AUDIT_LOG, MAX_DOCUMENT_BYTES)?;
    let mut reader = BufReader::new(entry);
    let log = Path::new(AUDIT_LOG);
    let of_log = audit_log::begin(&mut reader, log)?;
    ensure!(
        of_log == catalog,
        "{AUDIT_LOG}: is of the catalog {of_log}, and the manifest of {catalog}"
    );
    let checkpoints = kept.iter().copied().chain([checkpoint]).collect();
    let mut exported = None;
    let (rows, _) = audit_log::follow(&mut reader, log, catalog, checkpoints, |row| {
        if row.verb == EXPORT_VERB && row.object == digest {
            exported = Some((row.number, row.who.clone()));
        }
    })?;
    ensure!(reader.get_ref().bytes == bytes, "{AUDIT_LOG}: is cut");
    ensure!(
        rows == checkpoint.size,
        "{AUDIT_LOG}: has {rows} rows, and the checkpoint vouches for {}",
        checkpoint.size
    );
    let (row, by) = exported.with_context(|| {
        format!("{MANIFEST}: no row of the audit log has its digest {digest}: it is not what was exported")
    })?;

    let mut summary = Summary::default();
    for document in &documents {
        read_document(&mut entries, document, &mut summary)?;
    }
    if let Some(entry) = entries.entries.next() {
        let entry = entry.context("what stands behind the last document cannot be read")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).escape_debug().to_string();
        bail!("`{name}`: stands behind the last document, and the manifest does not name it");
    }
    let checkpoint_at = checkpoint.at;
    Ok(Verified { catalog, at, by, row, rows, checkpoint_at, documents, summary })
}

/// Reads a document and compares it with what the manifest says.
fn read_document<'a, R: Read + 'a>(
    entries: &mut Entries<'a, R>,
    document: &Document,
    summary: &mut Summary,
) -> Result<()> {
    let Document { name, bytes, lines, sha256 } = document;
    let (entry, said) = entries.next(name, MAX_DOCUMENT_BYTES)?;
    ensure!(said == *bytes, "{name}: has {said} bytes, and the manifest says {bytes}");
    let mut reader = BufReader::new(entry);
    let (mut read, mut no_json) = (0_u64, None);
    while let Some(text) = line(&mut reader, Path::new(name))? {
        read = read.saturating_add(1);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => summary.count(name, &value),
            // Whether the bytes are those that were exported is what is said first.
            Err(_) => no_json = no_json.or(Some(read)),
        }
    }
    let entry = reader.into_inner();
    ensure!(entry.bytes == *bytes, "{name}: is cut");
    ensure!(
        hex(&entry.digest.finalize()) == *sha256,
        "{name}: is not what was exported: its digest is another than the manifest's"
    );
    ensure!(read == *lines, "{name}: has {read} lines, and the manifest says {lines}");
    match no_json {
        None => Ok(()),
        Some(number) => bail!("{name}: line {number} is no JSON"),
    }
}
