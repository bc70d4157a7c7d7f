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
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use holdfast::{Invocation, Options};
use holdfast_builder::failure;
use holdfast_qemu::relay;
use std::process::ExitCode;

/// What somebody types to start this program.
const PROGRAM: &str = "cargo holdfast";

/// Build, run, test and measure Holdfast images.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    bin_name = PROGRAM,
    version,
    after_help = format!("{}\n\nExample: cargo holdfast run", holdfast::EXIT_CODES)
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Holdfast(holdfast::Command),
    /// Run the project's tests; what CI runs.
    Test(test::TestArgs),
    /// Check format, lints and pure decisions; what to run before a commit.
    Check(test::CheckArgs),
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
    let matches = command_line().get_matches();
    let Cli { options, command } = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.exit());
    failure::end(run(&Invocation { program: PROGRAM, options }, command))
}

/// The whole command line, its examples as they are typed in a checkout.
fn command_line() -> clap::Command {
    holdfast::typed_as(Cli::command(), PROGRAM)
}

fn run(invocation: &Invocation, command: Command) -> Result<()> {
    let workspace = || invocation.workspace("this command is about a checkout");
    match command {
        Command::Holdfast(command) => holdfast::run(invocation, command),
        Command::Test(args) => test::run(&workspace()?, &args),
        Command::Check(args) => test::check(&workspace()?, &args),
        Command::Measure(args) => measure::run(&workspace()?, &args),
        Command::Sources(SourcesCommand::Update) => sources::update(&workspace()?),
        Command::Sources(SourcesCommand::Show) => sources::show(&workspace()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_with_an_example() {
        command_line().debug_assert();
        assert_eq!(
            holdfast::commands_without_example(&command_line(), PROGRAM),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_host_tools_commands_are_there_beside_the_contributors() {
        let command = command_line();
        let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        for name in ["run", "image", "app", "release", "flash", "test", "measure", "sources"] {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
    }
}
