//! `sources.lock`, the pin file: which sources the project was made with, and what to do when the host has others.
//!
//! Packaged sources vanish as security updates come, so by default a newer patch level of the
//! same series is taken, said loudly and recorded; `--locked` refuses it and names both hashes.

use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One source: its version and the SHA-256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Version, in the words of whoever publishes it.
    pub version: String,
    /// SHA-256 of the source's bytes, in hexadecimal.
    pub sha256: String,
}

/// All pins, by name.
pub type Pins = BTreeMap<String, Pin>;

/// Name of the kernel's pin.
pub const KERNEL: &str = "kernel";
/// Name of Zig's pin.
pub const ZIG: &str = "zig";
/// Name of BusyBox's pin.
pub const BUSYBOX: &str = "busybox";
/// Name of U-Boot's pin.
pub const U_BOOT: &str = "u-boot";

/// Returns the path of a checkout's pin file.
pub fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("sources.lock")
}

/// Reads the pins.
///
/// # Errors
/// The pin file is missing, or is no TOML of pins.
pub fn load(workspace: &Workspace) -> Result<Pins> {
    let path = path(workspace);
    let text = workspace::read_text(&path)?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// The pin called `name`.
///
/// # Errors
/// There is none; the message says how to make it.
pub fn pin<'a>(pins: &'a Pins, name: &str) -> Result<&'a Pin> {
    pins.get(name).with_context(|| {
        format!("sources.lock: [{name}] is missing; run `cargo holdfast sources update`")
    })
}

/// Accepts a source that was found on this host: silently when it is the pinned one, loudly when
/// it is another, and not at all when `locked`.
pub(crate) fn accept(pins: &Pins, name: &str, found: &Pin, locked: bool) -> Result<()> {
    let pinned = pin(pins, name)?;
    if pinned == found {
        return Ok(());
    }
    let difference = format!(
        "{name} is {} (SHA-256 {}), but sources.lock pins {} (SHA-256 {})",
        found.version, found.sha256, pinned.version, pinned.sha256
    );
    if locked {
        bail!("{difference}; --locked takes no other");
    }
    eprintln!("NOTE: {difference}. Taking what is here; `sources update` would pin it.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_hash_is_taken_loudly_or_refused_with_both_hashes() {
        let pin = |sha256: &str| Pin { version: "1".to_owned(), sha256: sha256.to_owned() };
        let pins = Pins::from([("kernel".to_owned(), pin("aa"))]);
        accept(&pins, "kernel", &pin("aa"), true).unwrap();
        accept(&pins, "kernel", &pin("bb"), false).unwrap();
        let refusal = accept(&pins, "kernel", &pin("bb"), true).unwrap_err().to_string();
        assert!(refusal.contains("SHA-256 aa") && refusal.contains("SHA-256 bb"), "{refusal}");
        assert!(accept(&pins, "zig", &pin("aa"), false).is_err(), "an unpinned source");
    }
}
