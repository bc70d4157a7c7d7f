//! Patches to the kernel's source beyond Debian's: `kernel-config/patches/*.patch`, in the order
//! of their names.

use super::source::unpack;
use crate::pins::Pin;
use crate::process;
use crate::progress::Step;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, ensure};
use holdfast_images::{hex, sha256};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Directory of the patches, below the root of this project.
pub(crate) const DIRECTORY: &str = "kernel-config/patches";

/// One change to the kernel's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Patch {
    /// Name of the patch's file.
    pub name: String,
    /// SHA-256 of the whole file, in hexadecimal.
    pub sha256: String,
    /// The file: why, and then the difference.
    #[serde(skip)]
    pub text: String,
}

/// The patches of this checkout, in order.
pub(crate) fn load(workspace: &Workspace) -> Result<Vec<Patch>> {
    read(&workspace.root.join(DIRECTORY))
}

/// The patches of a directory, in order.
pub(crate) fn read(directory: &Path) -> Result<Vec<Patch>> {
    let list = || format!("cannot list {}", directory.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).with_context(list)? {
        let path = entry.with_context(list)?.path();
        if path.extension().is_some_and(|extension| extension == "patch") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| parse(path, workspace::read_text(path)?)).collect()
}

/// A patch says why it is there before it says what it changes.
fn parse(path: &Path, text: String) -> Result<Patch> {
    let reason = text.split("--- a/").next().unwrap_or_default();
    let mut paragraphs = reason.trim().split("\n\n");
    let title = paragraphs.next().unwrap_or_default();
    ensure!(
        reason.len() < text.len()
            && !title.is_empty()
            && title.lines().count() == 1
            && paragraphs.next().is_some(),
        "{}: must begin with a line that names the change, an empty line and the reason, before the difference \
         (`--- a/FILE`)",
        path.display()
    );
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Patch { name, sha256: hex(&sha256(&[text.as_bytes()])), text })
}

/// One hash for all of them, in their order.
pub(super) fn key(patches: &[Patch]) -> String {
    let hashes: Vec<&[u8]> = patches.iter().map(|patch| patch.sha256.as_bytes()).collect();
    hex(&sha256(&hashes))
}

/// The unpacked source with the patches applied, kept in the cache; without any, the source as Debian has it.
pub(super) fn source_tree(
    workspace: &Workspace,
    source: &Pin,
    patches: &[Patch],
) -> Result<PathBuf> {
    let original = unpack(workspace, source)?;
    if patches.is_empty() {
        return Ok(original);
    }
    let short = |hash: &str| hash.get(..16).unwrap_or(hash).to_owned();
    let name = format!("kernel/source-{}-{}", short(&source.sha256), short(&key(patches)));
    let directory = workspace.trees()?.join(name);
    if directory.join("Makefile").is_file() {
        return Ok(directory);
    }
    let mut step =
        Step::begin(format!("applying {} patches to the kernel's source", patches.len()));
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-kernel-")
        .tempdir_in(workspace.trees()?)
        .context("cannot make a directory for the kernel's source")?;
    let tree = scratch.path().join("tree");
    patched_copy(&original, &tree, patches, &mut step)?;
    fs::rename(&tree, &directory)
        .with_context(|| format!("cannot put {} in place", directory.display()))?;
    step.done("applied");
    Ok(directory)
}

/// A copy of `original` in `tree` that shares the files that no patch changes: `patch` puts a new file in the place
/// of what it changes.
fn patched_copy(original: &Path, tree: &Path, patches: &[Patch], step: &mut Step) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--link", "--no-target-directory"]).arg(original).arg(tree);
    process::follow(&mut copy, step)?;
    for patch in patches {
        let file = tree.with_extension("patch");
        workspace::write(&file, &patch.text)?;
        // Without fuzz: a place that has changed is looked at by somebody.
        let mut apply = Command::new("patch");
        apply
            .args(["--strip=1", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch"])
            .arg("--directory")
            .arg(tree)
            .arg("--input")
            .arg(&file)
            .env("LC_ALL", "C")
            // Either would let it write into files that the original has as well.
            .env_remove("POSIXLY_CORRECT")
            .env_remove("PATCH_VERSION_CONTROL");
        process::follow(&mut apply, step).with_context(|| {
            format!(
                "{DIRECTORY}/{}: does not apply to this source of the kernel; make it anew, or take it out \
                 where the source has it by now",
                patch.name
            )
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "area: change a word\n\nIt was the wrong one.\n\n--- a/x/file\n+++ b/x/file\n\
                        @@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";

    fn patch(text: &str) -> Result<Patch> {
        parse(Path::new("0001-change.patch"), text.to_owned())
    }

    #[test]
    fn a_patch_is_applied_to_a_copy_and_the_original_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (original, tree) = (directory.path().join("original"), directory.path().join("tree"));
        fs::create_dir_all(original.join("x")).unwrap();
        fs::write(original.join("x/file"), "one\ntwo\nthree\n").unwrap();
        fs::write(original.join("x/other"), "other\n").unwrap();
        let mut step = Step::begin("patching");
        patched_copy(&original, &tree, &[patch(GOOD).unwrap()], &mut step).unwrap();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        assert_eq!(read(tree.join("x/file")), "one\n2\nthree\n");
        assert_eq!(read(tree.join("x/other")), "other\n");
        assert_eq!(read(original.join("x/file")), "one\ntwo\nthree\n");

        fs::write(original.join("x/file"), "one\nTWO\nthree\n").unwrap();
        let again = directory.path().join("again");
        let error = patched_copy(&original, &again, &[patch(GOOD).unwrap()], &mut step);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains("0001-change.patch: does not apply"), "{error}");
    }

    #[test]
    fn a_patch_without_a_reason_is_refused() {
        patch(GOOD).unwrap();
        let bare = GOOD.split_once("\n\n").unwrap().1;
        for text in ["", bare, bare.split_once("\n\n").unwrap().1, "area: change\n\nWhy.\n"] {
            let error = patch(text).unwrap_err().to_string();
            assert!(error.starts_with("0001-change.patch: must begin with"), "{error}");
        }
    }

    #[test]
    fn every_patch_has_a_row_in_the_document_and_no_other() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let document = workspace::read_text(&root.join("docs/security/kernel.md")).unwrap();
        let rows: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .filter(|name| name.ends_with(".patch"))
            .collect();
        let patches = read(&root.join(DIRECTORY)).unwrap();
        let names: Vec<&str> = patches.iter().map(|patch| patch.name.as_str()).collect();
        assert_eq!(rows, names);
    }
}
