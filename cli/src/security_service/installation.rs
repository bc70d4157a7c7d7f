//! `service`: an installation of the service on this host.

use super::program;
use crate::invocation::Invocation;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::process::Command;

/// Commands about an installation of the service.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Say what is wrong with an installation, and what to do about it.
    Doctor(DoctorArgs),
}

/// Arguments of `service doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Looks at settings, keys, certificates, database and audit log, by `holdfast-service doctor`, whether the service runs \
                  or not. Ends with 1 if something is wrong.\n\n\
                  Example: holdfast service doctor /srv/holdfast-service"
)]
pub struct DoctorArgs {
    /// Folder of the service.
    #[arg(default_value = "holdfast-service", value_name = "DIR")]
    folder: PathBuf,
    /// Print what was found as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(invocation: &Invocation, command: &ServiceCommand) -> Result<()> {
    match command {
        ServiceCommand::Doctor(args) => doctor(invocation, args),
    }
}

fn doctor(invocation: &Invocation, args: &DoctorArgs) -> Result<()> {
    if !args.folder.is_dir() {
        bail!(
            "{}: is no directory; `holdfast-service init` makes a service's folder",
            args.folder.display()
        );
    }
    // The server stays out of this program: its database and its listeners are no business of whoever signs releases.
    let program = program::find(invocation)?;
    let mut command = Command::new(&program);
    command.arg("--folder").arg(&args.folder).arg("doctor");
    if args.json {
        command.arg("--json");
    }
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("{}: something is wrong, as is said above", args.folder.display());
    }
    Ok(())
}
