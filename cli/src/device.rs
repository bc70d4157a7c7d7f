//! `device`: what a device says of itself, and what its Security Service knows of it.

use crate::security_service::device;
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
    /// Claim devices: from then on they are enrolled, attested and get certificates.
    Claim(device::ClaimArgs),
    /// List the devices of a catalog.
    List(device::ListArgs),
    /// Show a device: last verdict, measured release, end of its certificates.
    Show(device::ShowArgs),
    /// Move a device to another group.
    Move(device::MoveArgs),
    /// Give a device certificates for updates alone.
    Quarantine(device::QuarantineArgs),
    /// Take a device out of quarantine.
    EndQuarantine(device::EndQuarantineArgs),
    /// Give a device up: it is refused until it is claimed again.
    Retire(device::RetireArgs),
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
        DeviceCommand::Claim(args) => device::claim(args),
        DeviceCommand::List(args) => device::list(args),
        DeviceCommand::Show(args) => device::show(args),
        DeviceCommand::Move(args) => device::move_to(args),
        DeviceCommand::Quarantine(args) => device::quarantine(args),
        DeviceCommand::EndQuarantine(args) => device::end_quarantine(args),
        DeviceCommand::Retire(args) => device::retire(args),
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
