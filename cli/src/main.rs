//! `holdfast`, the OEM's host tool. Only what is built from Holdfast's own sources needs a checkout.

use clap::Parser;
use holdfast::{Invocation, Options};
use holdfast_builder::failure;
use std::process::ExitCode;

/// Make apps, keys, images and releases of Holdfast, look at them, and put them on cards.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast",
    version,
    after_help = format!(
        "Images and apps are built in a checkout of Holdfast; all else works in any directory.\n\n{}\n\n\
         Example: holdfast image verify pump.img",
        holdfast::EXIT_CODES
    )
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: holdfast::Command,
}

fn main() -> ExitCode {
    let Cli { options, command } = Cli::parse();
    let invocation = Invocation { program: "holdfast", options };
    failure::end(holdfast::run(&invocation, command))
}
