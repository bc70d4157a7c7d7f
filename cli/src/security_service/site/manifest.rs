//! The manifest of an export: what is in it, in the order in which it stands there.

use holdfast_types::CatalogId;
use holdfast_types::hex::{hex, unhex};
use serde::{Deserialize, Serialize};

/// Version of the format.
const VERSION: u32 = 1;
/// Name of the manifest, which comes first.
pub(super) const MANIFEST: &str = "manifest.json";
/// Name of the checkpoint, which comes second.
pub(super) const CHECKPOINT: &str = "checkpoint.json";
/// Name of the audit log, which comes third; documents come behind it.
pub(super) const AUDIT_LOG: &str = "audit.jsonl";
/// Longest manifest in bytes.
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 * 1024;
/// Most documents of an export.
const MOST_DOCUMENTS: usize = 32;
/// Longest document, and longest audit log, in bytes: 64 GiB.
pub(super) const MAX_DOCUMENT_BYTES: u64 = 64 << 30;
/// Longest name of a document in bytes.
const MAX_NAME_BYTES: usize = 64;
/// The end of each document's name: its lines are JSON.
const LINES: &str = ".jsonl";

/// What an export has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// Version of the format.
    holdfast_results: u32,
    /// Id of the catalog.
    pub(super) catalog: String,
    /// When it was begun, in seconds since 1970 by the clock of whoever has exported.
    pub(super) at: u64,
    /// The documents, in their order.
    pub(super) documents: Vec<Document>,
}

/// A document: lines of JSON, as the API's lists have them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// Its name, such as `devices.jsonl`.
    pub(super) name: String,
    /// Its bytes.
    pub(super) bytes: u64,
    /// Its lines.
    pub(super) lines: u64,
    /// SHA-256 of its bytes, in hexadecimal.
    pub(super) sha256: String,
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// It is no JSON of a manifest.
    #[error("is no manifest of an export")]
    Json(#[from] serde_json::Error),
    /// It is of another version.
    #[error(
        "is of version {0} of the format, and this program knows {VERSION}; take a newer `holdfast`"
    )]
    Version(u32),
    /// The catalog is none.
    #[error("catalog: is no catalog's id")]
    Catalog,
    /// There are too many documents.
    #[error("documents: are {0}, and at most {MOST_DOCUMENTS} are taken")]
    Many(usize),
    /// A name is none of a document.
    #[error(
        "documents: `{0}` is no name of a document: it has to be small letters, digits and hyphens, with {LINES} behind them"
    )]
    Name(String),
    /// Two documents have the same name.
    #[error("documents: there are two of the name {0}")]
    Twice(String),
    /// A document is too long.
    #[error("documents: {name} has {bytes} bytes, and at most {MAX_DOCUMENT_BYTES} are taken")]
    Long {
        /// Its name.
        name: String,
        /// Its bytes.
        bytes: u64,
    },
    /// A digest is none.
    #[error("documents: {0}: sha256 is no digest in hexadecimal")]
    Digest(String),
}

impl Manifest {
    /// Makes one.
    pub(super) fn new(catalog: String, at: u64, documents: Vec<Document>) -> Self {
        Self { holdfast_results: VERSION, catalog, at, documents }
    }

    /// Reads one, and looks whether all that it says can be.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, CatalogId), Fault> {
        let manifest: Self = serde_json::from_slice(bytes)?;
        if manifest.holdfast_results != VERSION {
            return Err(Fault::Version(manifest.holdfast_results));
        }
        let catalog = CatalogId::parse(&manifest.catalog).ok_or(Fault::Catalog)?;
        let documents = &manifest.documents;
        if documents.len() > MOST_DOCUMENTS {
            return Err(Fault::Many(documents.len()));
        }
        for (number, Document { name, bytes, sha256, .. }) in documents.iter().enumerate() {
            if !is_name(name) {
                return Err(Fault::Name(name.escape_default().to_string()));
            }
            if documents.iter().take(number).any(|before| before.name == *name) {
                return Err(Fault::Twice(name.clone()));
            }
            if *bytes > MAX_DOCUMENT_BYTES {
                return Err(Fault::Long { name: name.clone(), bytes: *bytes });
            }
            if unhex::<32>(sha256).is_none_or(|digest| hex(&digest) != *sha256) {
                return Err(Fault::Digest(name.clone()));
            }
        }
        Ok((manifest, catalog))
    }
}

/// True for a name that a document may have: it leads nowhere but to a file of a directory.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let stem = name.strip_suffix(LINES).filter(|_| name.len() <= MAX_NAME_BYTES);
    name != AUDIT_LOG && stem.is_some_and(|stem| !stem.is_empty() && stem.bytes().all(is_letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, bytes: u64) -> Manifest {
        let document = Document { name: name.to_owned(), bytes, lines: 1, sha256: "5a".repeat(32) };
        let catalog = CatalogId([7; 16]).to_string();
        Manifest::new(catalog, 1000, vec![document])
    }

    fn read(manifest: &Manifest) -> Result<(), String> {
        let bytes = serde_json::to_vec(manifest).unwrap();
        Manifest::read(&bytes).map(|_| ()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_manifest_names_files_of_one_directory_within_bounds() {
        let good = manifest("devices-2.jsonl", MAX_DOCUMENT_BYTES);
        assert_eq!(read(&good), Ok(()), "the control");
        let long = format!("{}.jsonl", "a".repeat(MAX_NAME_BYTES));
        for name in [
            "../devices.jsonl",
            "/devices.jsonl",
            "a/b.jsonl",
            "..jsonl",
            ".jsonl",
            "devices.json",
            "manifest.json",
            "audit.jsonl",
            "Devices.jsonl",
            "a\0.jsonl",
            "",
            long.as_str(),
        ] {
            let said = read(&manifest(name, 1)).unwrap_err();
            assert!(said.contains("is no name of a document"), "{name}: {said}");
        }
        let said = read(&manifest("devices.jsonl", MAX_DOCUMENT_BYTES + 1)).unwrap_err();
        assert!(said.contains("devices.jsonl has 68719476737 bytes"), "{said}");
    }

    #[test]
    fn a_manifest_says_each_thing_once_and_in_its_form() {
        let good = manifest("devices.jsonl", 1);
        let changed = |change: &dyn Fn(&mut Manifest)| {
            let mut changed = good.clone();
            change(&mut changed);
            read(&changed).unwrap_err()
        };
        let digest = |digest: String| changed(&|of| of.documents[0].sha256.clone_from(&digest));
        for (said, part) in [
            (changed(&|of| of.holdfast_results = 2), "version 2"),
            (changed(&|of| of.catalog = "pumps".to_owned()), "catalog: "),
            (changed(&|of| of.documents.push(of.documents[0].clone())), "two of the name"),
            (changed(&|of| of.documents = vec![of.documents[0].clone(); 33]), "are 33"),
            (digest("5A".repeat(32)), "no digest"),
            (digest("5a".repeat(31)), "no digest"),
        ] {
            assert!(said.contains(part), "{said}");
        }
        for text in ["", "[]", "{\"holdfast_results\":1}"] {
            assert!(matches!(Manifest::read(text.as_bytes()), Err(Fault::Json(_))), "{text}");
        }
    }
}
