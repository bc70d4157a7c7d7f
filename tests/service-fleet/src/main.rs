//! `holdfast-service-fleet`: what a day of a large fleet costs the Security Service, and what it does when all of a fleet comes at once.
//!
//! Devices are keys of their own, with the product's schedule of check-ins and evidence by its code; the service is its own handlers,
//! decisions, issuing and store, in this process, and only the clock is the fleet's. There is no TLS between the two: what that costs is
//! measured by `holdfast-service-load`, over real connections.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it measures and is no part of what is installed; whatever is not as it has to be is a panic with its place"
)]

mod costs;
mod database;
mod day;
mod device;
mod herd;
mod service;

use clap::{Args, Parser, Subcommand};
use database::Database;
use serde::Serialize;
use std::process::ExitCode;

/// A fleet against the Security Service's own handlers and store, on a clock of its own.
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-service-fleet",
    after_help = "Example: holdfast-service-fleet day --devices 1000000\n         holdfast-service-fleet herd --devices 20000"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let a day pass in which each device checks in once, at its own second.
    Day(DayArgs),
    /// Let the service be away for hours, and all devices come back.
    Herd(HerdArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast-service-fleet day --devices 20000 --reports --json")]
struct DayArgs {
    /// Devices of the fleet.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
    devices: u32,
    /// The database.
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    database: Database,
    /// Have each device report once as well, with the certificate that it has just got.
    #[arg(long)]
    reports: bool,
    /// Have a release on its way to the fleet in stages, so that each check-in is one of a group with a deployment.
    #[arg(long)]
    deployment: bool,
    /// Print what was measured as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example: holdfast-service-fleet herd --outage-hours 26 --json")]
struct HerdArgs {
    /// Devices of the fleet.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// Hours for which the service is away.
    #[arg(long, default_value_t = 26, value_parser = clap::value_parser!(u32).range(1..=72))]
    outage_hours: u32,
    /// The database.
    #[arg(long, value_enum, default_value_t = Database::Sqlite)]
    database: Database,
    /// Print what was measured as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Day(args) => {
            let more = day::More { reports: args.reports, deployment: args.deployment };
            let day = day::run(args.devices, args.database, more);
            print(&day, args.json, day::Day::text);
            day.check()
        }
        Command::Herd(args) => {
            let herd = herd::run(args.devices, args.outage_hours, args.database);
            print(&herd, args.json, herd::Herd::text);
            herd.check()
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

fn print<T: Serialize>(of: &T, is_json: bool, text: fn(&T) -> String) {
    if is_json {
        println!("{}", serde_json::to_string_pretty(of).unwrap());
    } else {
        print!("{}", text(of));
    }
}
