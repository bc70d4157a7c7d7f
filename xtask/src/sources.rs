//! `sources`: what `sources.lock` pins beside what this host has and is offered, and pinning that.

use anyhow::{Context, Result, bail};
use holdfast_builder::failure::HostLacks;
use holdfast_builder::pins::{self, BUSYBOX, KERNEL, Pins, U_BOOT, ZIG};
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{host, kernel, source_package, toolchain};

/// What this host has and is offered now.
fn found(workspace: &Workspace) -> Result<Pins> {
    let mut pins = Pins::new();
    host::ensure(&[host::KERNEL, host::SOURCE_PACKAGES])?;
    pins.insert(KERNEL.to_owned(), kernel::source::installed_source(workspace)?);
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
    let mut pins = pins::load(workspace).unwrap_or_default();
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
    workspace::write(&pins::path(workspace), format!("{header}{text}"))
}

/// `sources show`: pinned beside found.
pub(crate) fn show(workspace: &Workspace) -> Result<()> {
    let pins = pins::load(workspace)?;
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
