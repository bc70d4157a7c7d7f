//! `sources.lock`: which sources the project was made with, and what to do when the host has
//! others.
//!
//! Packaged sources vanish as security updates come, so by default a newer patch level of the
//! same series is taken, said loudly and recorded; `--locked` refuses it and names both hashes.

use crate::failure::HostLacks;
use crate::workspace::{self, Workspace};
use crate::{host, kernel, source_package, toolchain};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One source: its version and the SHA-256 of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pin {
    /// Version, in the words of whoever publishes it.
    pub(crate) version: String,
    /// What was hashed, in hexadecimal.
    pub(crate) sha256: String,
}

/// All pins, by name.
pub(crate) type Pins = BTreeMap<String, Pin>;

/// Names of the pins.
pub(crate) const KERNEL: &str = "kernel";
pub(crate) const ZIG: &str = "zig";
pub(crate) const BUSYBOX: &str = "busybox";
pub(crate) const U_BOOT: &str = "u-boot";

fn path(workspace: &Workspace) -> PathBuf {
    workspace.root.join("sources.lock")
}

/// Reads the pins.
pub(crate) fn load(workspace: &Workspace) -> Result<Pins> {
    let path = path(workspace);
    let text = workspace::read_text(&path)?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

/// The pin called `name`.
pub(crate) fn pin<'a>(pins: &'a Pins, name: &str) -> Result<&'a Pin> {
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

/// What this host has and is offered now.
fn found(workspace: &Workspace) -> Result<Pins> {
    let mut pins = Pins::new();
    host::ensure(&[host::KERNEL, host::SOURCE_PACKAGES])?;
    pins.insert(KERNEL.to_owned(), kernel::installed_source(workspace)?);
    pins.insert(ZIG.to_owned(), toolchain::offered_zig(workspace)?);
    for (name, rust) in toolchain::installed(workspace)? {
        pins.insert(name, rust);
    }
    for package in [U_BOOT, BUSYBOX] {
        pins.insert(package.to_owned(), source_package::offered(workspace, package)?);
    }
    Ok(pins)
}

/// `sources update`: pins what is here and offered now.
pub(crate) fn update(workspace: &Workspace) -> Result<()> {
    let mut pins = load(workspace).unwrap_or_default();
    // What this host does not have (the other Rust, say) stays as it is.
    for (name, pin) in found(workspace)? {
        let before = pins.insert(name.clone(), pin.clone());
        if before.as_ref() != Some(&pin) {
            let before = before.map_or_else(|| "nothing".to_owned(), |p| p.version);
            eprintln!("{name}: {before} -> {}", pin.version);
        }
    }
    let header = "# Which sources this project is made with: `cargo holdfast sources update` \
                  writes this file.\n# SHA-256 of: kernel: linux-source-6.12.tar.xz; zig: the \
                  ziglang wheel for x86-64 Linux; rust-*: the\n# compiler's library and every \
                  file below library/ of its sources; others: Debian's .dsc file.\n\n";
    let text = toml::to_string(&pins).context("cannot write the pins as TOML")?;
    workspace::write(&path(workspace), format!("{header}{text}"))
}

/// `sources show`: pinned beside found.
pub(crate) fn show(workspace: &Workspace) -> Result<()> {
    let pins = load(workspace)?;
    let found = found(workspace)?;
    let mut other = Vec::new();
    for (name, pin) in &pins {
        let state = match found.get(name) {
            Some(found) if found == pin => "as pinned".to_owned(),
            Some(found) => {
                other.push(name.as_str());
                format!("here: {} {}", found.version, found.sha256)
            }
            None => "not on this host".to_owned(),
        };
        println!("{name}: {} {}; {state}", pin.version, pin.sha256);
    }
    if other.is_empty() {
        return Ok(());
    }
    bail!(HostLacks(format!("not as pinned: {}", other.join(", "))))
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
