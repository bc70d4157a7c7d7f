//! Programs that tests need and cargo can bring.

use crate::progress::Step;
use crate::workspace::Workspace;
use crate::{host, process};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::Command;

const CARGO_DENY: &str = "0.20.2";

/// cargo-deny: the user's, or the pinned version built into the cache.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    if host::exists("cargo-deny") {
        return Ok("cargo-deny".into());
    }
    let root = workspace.cache.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        let mut step = Step::begin(format!("building cargo-deny {CARGO_DENY}"));
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["install", "--locked", &format!("cargo-deny@{CARGO_DENY}"), "--root"]);
        process::follow(command.arg(&root), &mut step).context("cargo-deny cannot be built")?;
        step.done("built");
    }
    Ok(program)
}
