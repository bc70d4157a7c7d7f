//! `holdfast-fleet`: a fleet that is not attacked, and one that is, judged by the rules of threat detection. Each command fails where a
//! bound is missed that the project promises.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::arithmetic_side_effects,
    reason = "a program prints, and a simulation counts"
)]

use clap::{Args, Parser, Subcommand};
use holdfast_fleet::outbreak::{self, Outbreak};
use holdfast_fleet::quiet::{self, Quiet};
use serde::Serialize;
use std::process::ExitCode;

/// A fleet of simulated devices, which report to the rules of threat detection by the product's own code.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-fleet",
    after_help = "Example: holdfast-fleet quiet --devices 20000 --days 30\n         holdfast-fleet outbreak"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let days pass in which nobody attacks the fleet: whatever is found is false.
    Quiet(QuietArgs),
    /// Let a worm spread through the fleet, and tell when which rule sees it.
    Outbreak(OutbreakArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast-fleet quiet --devices 1000000 --days 1 --json")]
struct QuietArgs {
    /// Devices of the fleet.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    devices: u32,
    /// Days that pass.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Print what was counted as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast-fleet outbreak --devices 9000 --json")]
struct OutbreakArgs {
    /// Devices of the fleet: with fewer than the least, an outbreak of nine is none of one in a thousand.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000))]
    devices: u32,
    /// Days before it, in which the rules learn what is usual.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(8..=365))]
    days: u32,
    /// Print what has happened as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Quiet(args) => {
            let quiet = quiet::run(args.devices, args.days);
            print(&quiet, args.json, Quiet::text).and_then(|()| quiet.check())
        }
        Command::Outbreak(args) => {
            let outbreak = outbreak::run(args.devices, args.days);
            print(&outbreak, args.json, Outbreak::text).and_then(|()| outbreak.check())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(missed) => {
            eprintln!("error: {missed}");
            ExitCode::FAILURE
        }
    }
}

fn print<T: Serialize>(run: &T, json: bool, text: fn(&T) -> String) -> Result<(), String> {
    if json {
        let text = serde_json::to_string_pretty(run).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        print!("{}", text(run));
    }
    Ok(())
}
