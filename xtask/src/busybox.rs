//! A static BusyBox for comparison, built from Debian's source package.
//!
//! `measure` boots our kernel once with our init and once with this one; no image of ours ever
//! holds it.

use anyhow::{Context, Result};
use holdfast_builder::cross_make::cross_make;
use holdfast_builder::pins::{self, Pin, Pins};
use holdfast_builder::progress::Step;
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{host, process, source_package};
use holdfast_images::{hex, sha256};
use std::process::Command;

/// What of BusyBox is built: an init and what its table needs, nothing else.
const CONFIG: [&str; 9] =
    ["STATIC", "LFS", "BUSYBOX", "INIT", "FEATURE_USE_INITTAB", "MOUNT", "SLEEP", "CAT", "ASH"];

/// Builds BusyBox, or finds it in the cache. Returns its bytes and what it is.
pub(crate) fn build(workspace: &Workspace, pins: &Pins) -> Result<(Vec<u8>, Pin)> {
    host::ensure(&[host::DEBIAN_LIBC])?;
    let (source, tree) = source_package::fetch(workspace, pins, pins::BUSYBOX, false)?;
    let key = hex(&sha256(&[source.sha256.as_bytes(), CONFIG.join(" ").as_bytes()]));
    let program =
        workspace.cache.join(format!("busybox/busybox-{}", key.get(..16).unwrap_or(&key)));
    let _lock = workspace.lock("busybox")?;
    if program.is_file() {
        return Ok((workspace::read(&program)?, source));
    }
    let scratch = tempfile::tempdir_in(workspace.trees()?).context("cannot make a directory")?;
    let object = scratch.path().join("object");
    workspace::make_directory(&object)?;
    let mut step = Step::begin(format!("BusyBox {} for comparison", source.version));
    let make = |target: &str| cross_make(workspace, &tree, &object, target);
    process::follow(&mut make("allnoconfig"), &mut step)?;
    // Its Kconfig takes no list of wishes, so they are written into what it made; new questions
    // that they raise are answered with their defaults.
    let config = object.join(".config");
    let mut text = workspace::read_text(&config)?;
    for option in CONFIG {
        let unset = format!("# CONFIG_{option} is not set");
        text = text.replace(&unset, &format!("CONFIG_{option}=y"));
    }
    workspace::write(&config, text)?;
    let mut answers = Command::new("sh");
    answers.args(["-c", "yes '' | \"$@\"", "sh"]);
    let oldconfig = make("oldconfig");
    answers.arg(oldconfig.get_program()).args(oldconfig.get_args());
    process::follow(&mut answers, &mut step)?;
    process::follow(&mut make("busybox"), &mut step)?;
    let bytes = workspace::read(&object.join("busybox"))?;
    workspace::write(&program, &bytes)?;
    step.done(&format!("{} bytes", bytes.len()));
    Ok((bytes, source))
}
