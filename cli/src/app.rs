//! `app`: from a directory to a signed package.

mod check;
mod new;
mod package;
mod plan;

use crate::invocation::Invocation;
use anyhow::Result;
use clap::Subcommand;

/// Commands for those who write apps.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Make the directory of a new app, ready to run.
    New(new::NewArgs),
    /// Check app manifests against the schema, or against a board as well.
    Check(check::CheckArgs),
    /// Say what an app's sandbox allows.
    Plan(plan::PlanArgs),
    /// Say how exposed an app is, and what each of its grants costs.
    Score(plan::ScoreArgs),
    /// Compile an app and check its files.
    Build(package::BuildArgs),
    /// Compile an app and put it into an unsigned package.
    Pack(package::PackArgs),
    /// Sign a package, here or with a key kept elsewhere.
    Sign(package::SignArgs),
    /// Say what is in a package.
    Show(package::ShowArgs),
}

pub(crate) fn run(invocation: &Invocation, command: &AppCommand) -> Result<()> {
    match command {
        AppCommand::New(args) => new::run(invocation, args),
        AppCommand::Check(args) => check::run(invocation, args),
        AppCommand::Plan(args) => plan::plan(invocation, args),
        AppCommand::Score(args) => plan::score(invocation, args),
        AppCommand::Build(args) => package::build(invocation, args),
        AppCommand::Pack(args) => package::pack(invocation, args),
        AppCommand::Sign(args) => package::sign(args),
        AppCommand::Show(args) => package::show(args),
    }
}
