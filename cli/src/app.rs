//! `app`: from a directory to a signed package.

mod check;

use crate::workspace::Workspace;
use anyhow::Result;
use clap::Subcommand;

/// Commands for those who write apps.
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Check app manifests against the schema, or against a board as well.
    Check(check::CheckArgs),
}

pub(crate) fn run(workspace: &Workspace, command: &AppCommand) -> Result<()> {
    match command {
        AppCommand::Check(args) => check::run(workspace, args),
    }
}
