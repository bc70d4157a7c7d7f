//! The image builder: from an image manifest, a kernel and programs to the bytes of a disk.
//!
//! [`build`] is the one way an image is made, whoever calls it; [`show`] reads one back. Every
//! byte is decided by the inputs: no clock, no umask, no directory order gets in.

mod acceptance;
pub mod app;
pub mod append;
pub mod board;
pub mod boards;
pub mod boot;
mod boot_error;
pub mod boot_loader;
pub mod build;
pub mod destination;
pub mod device_tree;
pub mod disk;
pub mod document;
pub mod ext4;
mod fdt;
pub mod flash;
pub mod foreign_root;
pub mod key;
mod key_file;
pub mod manifest;
pub mod own_services;
pub mod package;
pub mod root;
pub mod seccomp;
pub mod service;
pub mod show;
pub mod variant;
pub mod verify;
pub mod verity;

pub use acceptance::check_catalog;
pub use holdfast_types::hex::hex;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// SHA-256 of `parts`, one after the other.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// A UUID (version 8: of our own making) that depends on `parts` alone.
#[must_use]
pub fn derived_uuid(parts: &[&[u8]]) -> [u8; 16] {
    let digest = sha256(parts);
    let mut uuid = [0; 16];
    uuid.copy_from_slice(digest.split_at(16).0);
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}

/// The usual 8-4-4-4-12 text of a UUID in network byte order.
#[must_use]
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let digits = hex(uuid);
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}", path.display())]
pub struct FileError {
    /// The operation that failed, as an infinitive.
    pub operation: &'static str,
    /// Path of the file.
    pub path: PathBuf,
    /// The system's error.
    #[source]
    pub source: std::io::Error,
}

impl FileError {
    /// For use with `map_err`.
    pub fn at<'a>(
        operation: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

/// A field of a document that holds what it may not.
#[derive(Debug, thiserror::Error)]
#[error("{}: {field}: {reason}", path.display())]
pub struct FieldError {
    /// The document.
    pub path: PathBuf,
    /// The field, as a path in the document.
    pub field: String,
    /// The rule that is broken, and what would be right.
    pub reason: String,
}

/// A program of the host that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program could not be started.
    #[error("cannot run {tool}")]
    Start {
        /// Name of the program.
        tool: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The program ended with a failure.
    #[error("{tool} failed: {output}")]
    Failed {
        /// Name of the program.
        tool: &'static str,
        /// Output of the program.
        output: String,
        /// Exit code; `None` when a signal ended the program.
        code: Option<i32>,
    },
}

/// Runs a host program to its end, with nothing of the environment that could change its output.
fn run_tool(tool: &'static str, command: &mut std::process::Command) -> Result<(), ToolError> {
    let output = command
        .env_remove("SOURCE_DATE_EPOCH")
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .output()
        .map_err(|source| ToolError::Start { tool, source })?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if text.is_empty() {
        text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    }
    Err(ToolError::Failed { tool, output: text, code: output.status.code() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_uuid_is_stable_and_marked_as_version_8() {
        let text = uuid_text(&derived_uuid(&[b"image", b"data"]));
        assert_eq!(text, uuid_text(&derived_uuid(&[b"imagedata"])));
        assert_ne!(text, uuid_text(&derived_uuid(&[b"image", b"apps"])));
        assert_eq!(text.as_bytes()[14], b'8');
        assert_eq!(text.len(), 36);
    }
}
