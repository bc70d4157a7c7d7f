//! `run`: an image in QEMU, its console on the terminal.

use crate::failure::HostLacks;
use crate::image::{self, ImageBuilder};
use crate::workspace::Workspace;
use crate::{ImageArgs, SourceArgs};
use anyhow::{Context, Result, bail};
use clap::Args;
use holdfast_images::manifest::ImageManifest;
use holdfast_images::show::{self, BootStatus};
use holdfast_qemu::HarnessError;
use holdfast_qemu::machine::{Machine, Network};
use regex::Regex;
use std::io::IsTerminal;
use std::time::Duration;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "On a terminal, Ctrl-A x quits.\n\n\
                        Example: cargo holdfast run --until 'heartbeat 3' --timeout 120\n\
                        Example: cargo holdfast run --image images/connected.toml --forward 8080:8080")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    sources: SourceArgs,
    /// Memory of the guest; the manifest's when not given.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(32..=2048))]
    memory: Option<u32>,
    /// TCP port of this host's loopback that leads to a port of the guest; may be given several times.
    #[arg(long = "forward", value_name = "HOST:GUEST", value_parser = parse_forward)]
    forwards: Vec<(u16, u16)>,
    /// Only print the console; nothing that is typed reaches the guest.
    #[arg(long)]
    headless: bool,
    /// End with exit code 0 as soon as the console shows a match.
    #[arg(long, value_name = "REGEX")]
    until: Option<String>,
    /// End with exit code 3 after so many seconds.
    #[arg(long, value_name = "SECS")]
    timeout: Option<u64>,
}

/// Two ports, such as `8080:80`.
fn parse_forward(text: &str) -> Result<(u16, u16), String> {
    let ports = text
        .split_once(':')
        .and_then(|(host, guest)| Some((host.parse().ok()?, guest.parse().ok()?)));
    ports.ok_or_else(|| "must be two ports, such as 8080:80".to_owned())
}

pub(crate) fn run(workspace: &Workspace, args: &RunArgs) -> Result<()> {
    if let Some(until) = &args.until {
        Regex::new(until).map_err(|error| HostLacks(format!("--until: {error}")))?;
    }
    let manifest = image::manifest_path(workspace, args.image.manifest.as_ref());
    ImageManifest::load(&manifest)?;
    let builder = ImageBuilder::new(workspace, args.sources.locked, false)?;
    let built = builder.build(&manifest, &args.image.apps, None)?;
    if show::show(&built.path)?.boot == BootStatus::Unsigned {
        bail!(
            "{}: trust.boot: names keys that are kept elsewhere, so nothing here can sign the slot; \
             leave it out to run with this checkout's development keys",
            manifest.display()
        );
    }
    let memory = args.memory.unwrap_or(built.manifest.memory_mib);
    let mut machine = Machine::new(&built.path, memory);
    if built.manifest.network.is_some() {
        let forwards = args.forwards.clone();
        machine.networks = vec![Network::User { forwards }];
    } else if !args.forwards.is_empty() {
        bail!("{}: network: is missing, so nothing can be forwarded to", manifest.display());
    }
    eprintln!("starting {} in QEMU with {memory} MiB", built.path.display());
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if on_terminal && !args.headless && args.until.is_none() && args.timeout.is_none() {
        eprintln!("Ctrl-A x quits");
        return machine.run_on_terminal().context("the guest failed");
    }
    let mut guest = machine.start(Some(Box::new(std::io::stdout())))?;
    let within = Duration::from_secs(args.timeout.unwrap_or(u64::from(u32::MAX)));
    if let Some(until) = &args.until {
        guest.wait(until, within)?;
        return Ok(());
    }
    let status = guest.wait_end(within)?;
    if status.success() {
        return Ok(());
    }
    let waited_for = "its end".to_owned();
    Err(HarnessError::GuestDied { waited_for, tail: guest.console.tail() }.into())
}
