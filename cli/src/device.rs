//! `device`: what a device says of itself.

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use holdfast_builder::workspace;
use holdfast_lifecycle::slots::{SlotState, Status};
use std::path::PathBuf;

/// Commands about a device.
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// Say how a device stands: slot, tries, versions, why it was reset.
    Status(StatusArgs),
}

/// Arguments of `device status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads what the device's serial console has shown, from a file or from standard \
                  input, and takes the last status that init printed.\n\n\
                  Example: holdfast device status console.log"
)]
pub struct StatusArgs {
    /// A log of the console; standard input when not given.
    log: Option<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: &DeviceCommand) -> Result<()> {
    match command {
        DeviceCommand::Status(args) => status(args),
    }
}

fn status(args: &StatusArgs) -> Result<()> {
    let (name, log) = workspace::read_text_or_standard_input(args.log.as_deref())?;
    let status = Status::last_in(&log).map_err(|error| anyhow!("{name}: {error}"))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&status).context("cannot write JSON")?);
        return Ok(());
    }
    println!("slot            {}, {}", status.slot.letter(), status.phase.as_str());
    match &status.boot_state {
        Some(state) => {
            println!("next            {}", state.slot.letter());
            for (letter, SlotState { tries, good }) in [('a', state.a), ('b', state.b)] {
                let good = if good { "good" } else { "not good" };
                println!("slot {letter}          {tries} tries left, {good}");
            }
        }
        None => println!("boot state      not readable"),
    }
    println!("image           {} {} for {}", status.image, status.version, status.board);
    println!("rollback index  {}, floor {}", status.rollback_index, status.floor);
    println!("TPM             {}", status.tpm.word());
    println!("last reset      {}", status.last_reset);
    Ok(())
}
