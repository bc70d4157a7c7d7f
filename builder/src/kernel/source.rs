//! The kernel's source as Debian's package has it on this host.

use crate::pins::Pin;
use crate::process;
use crate::progress::Step;
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result};
use holdfast_images::{hex, sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The package.
const PACKAGE: &str = "linux-source-6.12";
/// The kernel's source as Debian's package has it.
pub const ARCHIVE: &str = "/usr/src/linux-source-6.12.tar.xz";

/// Version and hash of the kernel source on this host. The hash is remembered by the archive's
/// length and time.
///
/// # Errors
/// The package is not installed, or its archive cannot be read.
pub fn installed_source(workspace: &Workspace) -> Result<Pin> {
    let version = process::output(Command::new("dpkg-query").args([
        "--show",
        "--showformat=${Version}",
        PACKAGE,
    ]))?;
    let metadata = fs::metadata(ARCHIVE).with_context(|| format!("cannot examine {ARCHIVE}"))?;
    let state = format!("{version} {} {:?}", metadata.len(), metadata.modified().ok());
    let key = hex(&sha256(&[state.as_bytes()]));
    let remembered = workspace.cache.join(format!("kernel/archive-{key}"));
    if let Ok(sha256) = fs::read_to_string(&remembered) {
        return Ok(Pin { version, sha256 });
    }
    let sha256 = workspace::sha256_file(Path::new(ARCHIVE))?;
    workspace::write(&remembered, &sha256)?;
    Ok(Pin { version, sha256 })
}

/// The unpacked source as Debian has it, kept in the cache.
pub(crate) fn unpack(workspace: &Workspace, source: &Pin) -> Result<PathBuf> {
    let short = source.sha256.get(..16).unwrap_or(&source.sha256);
    let directory = workspace.trees()?.join(format!("kernel/source-{short}"));
    if directory.join("Makefile").is_file() {
        return Ok(directory);
    }
    let mut step = Step::begin("unpacking the kernel's source");
    let scratch = tempfile::Builder::new()
        .prefix(".unfinished-kernel-")
        .tempdir_in(workspace.trees()?)
        .context("cannot make a directory for the kernel's source")?;
    let mut command = Command::new("tar");
    command.args(["-xf", ARCHIVE, "--strip-components=1", "-C"]).arg(scratch.path());
    process::follow(&mut command, &mut step)?;
    if let Some(parent) = directory.parent() {
        workspace::make_directory(parent)?;
    }
    fs::rename(scratch.keep(), &directory)
        .with_context(|| format!("cannot put {} in place", directory.display()))?;
    step.done("unpacked");
    Ok(directory)
}
