//! `cargo holdfast`: what only contributors need (`test`, `measure`, `sources`), and every command of the OEM's
//! `holdfast`, built from this checkout.

#[macro_use(println, eprintln)]
extern crate holdfast_builder;

mod busybox;
mod measure;
mod sources;
mod test;
mod test_programs;

use anyhow::Result;
use clap::{Parser, Subcommand};
use holdfast_builder::failure;
use holdfast_builder::workspace::Workspace;
use holdfast_qemu::relay;
use std::process::ExitCode;

/// Build, run, test and measure Holdfast images.
#[derive(Debug, Parser)]
#[command(
    name = "cargo holdfast",
    bin_name = "cargo holdfast",
    version,
    after_help = format!("{}\n\nExample: cargo holdfast run", holdfast::EXIT_CODES)
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Holdfast(holdfast::Command),
    /// Run the project's tests; what CI runs.
    Test(test::TestArgs),
    /// Measure sizes, start-up times and memory, and write docs/numbers.md.
    Measure(measure::MeasureArgs),
    /// The pinned sources of kernel, compiler and tools.
    #[command(subcommand)]
    Sources(SourcesCommand),
}

#[derive(Debug, Subcommand)]
enum SourcesCommand {
    /// Write what is installed and offered now into sources.lock.
    #[command(after_help = "Example: cargo holdfast sources update")]
    Update,
    /// Say what is pinned and what is there.
    #[command(after_help = "Example: cargo holdfast sources show")]
    Show,
}

fn main() -> ExitCode {
    if let Some(port) = relay::relay_to() {
        return relay::relay(port);
    }
    failure::end(dispatch(Cli::parse().command))
}

fn dispatch(command: Command) -> Result<()> {
    match command {
        Command::Holdfast(command) => holdfast::run(command),
        Command::Test(args) => test::run(&Workspace::find()?, &args),
        Command::Measure(args) => measure::run(&Workspace::find()?, &args),
        Command::Sources(SourcesCommand::Update) => sources::update(&Workspace::find()?),
        Command::Sources(SourcesCommand::Show) => sources::show(&Workspace::find()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_help_with_an_example() {
        fn check(command: &clap::Command) {
            if command.has_subcommands() {
                command.get_subcommands().filter(|c| c.get_name() != "help").for_each(check);
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example: cargo holdfast"), "{}", command.get_name());
            }
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
