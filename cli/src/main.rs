//! `holdfast`, the OEM's host tool, which works without a checkout.

use clap::Parser;
use holdfast_builder::failure;
use std::process::ExitCode;

/// Make apps, keys, images and releases of Holdfast, and look at them.
#[derive(Debug, Parser)]
#[command(
    name = "cargo holdfast",
    version,
    after_help = format!("{}\n\nExample: cargo holdfast run", holdfast::EXIT_CODES)
)]
struct Cli {
    #[command(subcommand)]
    command: holdfast::Command,
}

fn main() -> ExitCode {
    failure::end(holdfast::run(Cli::parse().command))
}
