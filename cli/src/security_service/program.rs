//! The program of the service: where it is installed, or how it is built in a checkout.

use crate::invocation::Invocation;
use anyhow::{Context, Result};
use holdfast_builder::failure::HostLacks;
use holdfast_builder::process;
use holdfast_builder::progress::Step;
use serde_json::Value;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Name of the program, and of its package.
pub(crate) const PROGRAM: &str = "holdfast-service";

/// Returns the program's path: beside this one, in PATH, or built from the checkout. `cargo holdfast` takes that of its checkout.
///
/// # Errors
/// There is none, or it cannot be built.
pub(crate) fn find(invocation: &Invocation) -> Result<PathBuf> {
    let is_of_checkout = invocation.program.starts_with("cargo ");
    if !is_of_checkout && let Some(installed) = installed() {
        return Ok(installed);
    }
    match invocation.checkout()? {
        Some(root) => build(&root),
        None => Err(HostLacks(format!(
            "`{PROGRAM}` is neither beside this program nor in PATH; \
             `cargo install --path security-service/server --locked` in a checkout of Holdfast installs it"
        ))
        .into()),
    }
}

fn installed() -> Option<PathBuf> {
    let beside = env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|directory| directory.join(PROGRAM));
    beside.into_iter().chain(in_path).find(|program| program.is_file())
}

/// Builds it in a checkout, where cargo knows whether there is anything to do.
fn build(root: &Path) -> Result<PathBuf> {
    let step = Step::begin(PROGRAM);
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--quiet", "--package", PROGRAM]);
    let messages = process::output(cargo.arg("--message-format=json-render-diagnostics"))?;
    let executable = messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message.pointer("/target/name")? == PROGRAM;
        message.get("executable")?.as_str().filter(|_| is_it).map(PathBuf::from)
    });
    let executable = executable.with_context(|| format!("cargo has built no `{PROGRAM}`"))?;
    step.done(&executable.display().to_string());
    Ok(executable)
}
