//! Programs that tests need and cargo can bring.

use anyhow::{Context, Result};
use holdfast_builder::progress::Step;
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{host, process};
use std::path::{Path, PathBuf};
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
        // Not optimized and without symbols: it runs for a second, and its build would take four times as long.
        command.args(["install", "--debug", "--locked", &format!("cargo-deny@{CARGO_DENY}")]);
        command.env("CARGO_PROFILE_DEV_DEBUG", "false").arg("--root");
        workspace.share_jobs(&mut command);
        process::follow(command.arg(&root), &mut step).context("cargo-deny cannot be built")?;
        step.done("built");
    }
    Ok(program)
}

/// Returns a Python that has the reference client of TUF, as pinned in `tests/reference-client`.
pub(crate) fn reference_client(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root.join("tests/reference-client/requirements.txt");
    python_with(workspace, "tuf", "the reference client of TUF", &requirements, &[])
}

/// Returns a Python that has schemathesis, as pinned in `tests/openapi`.
pub(crate) fn schemathesis(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root.join("tests/openapi/requirements.txt");
    python_with(workspace, "schemathesis", "schemathesis", &requirements, &[])
}

/// Returns a Python in the cache that has what a file of requirements pins. `name` begins its directory's name there,
/// `what` is for messages, and `options` are further ones of `pip install`.
pub(super) fn python_with(
    workspace: &Workspace,
    name: &str,
    what: &str,
    requirements: &Path,
    options: &[&str],
) -> Result<PathBuf> {
    let pinned = workspace::sha256_file(requirements)?;
    let root = workspace.cache.join(format!("{name}-{}", pinned.get(..16).unwrap_or(&pinned)));
    let (python, finished) = (root.join("bin/python3"), root.join("installed"));
    if !finished.is_file() {
        let mut step = Step::begin(format!("installing {what}"));
        let mut make = Command::new("python3");
        process::follow(make.args(["-m", "venv", "--clear"]).arg(&root), &mut step)
            .context("Python cannot make an environment (Debian's package is `python3-venv`)")?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "--disable-pip-version-check", "--no-input", "install"]);
        install.args(["--quiet", "--no-deps"]).args(options).arg("-r").arg(requirements);
        process::follow(&mut install, &mut step)
            .with_context(|| format!("{what} cannot be installed; is the network there?"))?;
        workspace::write(&finished, "")?;
        step.done("installed");
    }
    Ok(python)
}
