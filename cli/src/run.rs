//! `run`: an image in QEMU, its console on the terminal.

mod fleet;

use crate::arguments::{ImageArgs, SourceArgs};
use crate::image;
use crate::invocation::Invocation;
use crate::security_service::loopback::{self, Asked, Prepared, Running};
use crate::security_service::release::{self, Measured};
use crate::security_service::watcher::{Printed, Watcher};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use holdfast_builder::failure::HostLacks;
use holdfast_builder::image::{Built, ImageBuilder};
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{development_keys, host, process};
use holdfast_images::board::Board;
use holdfast_images::boards::Boards;
use holdfast_images::manifest::ImageManifest;
use holdfast_images::show::{self, BootStatus};
use holdfast_qemu::HarnessError;
use holdfast_qemu::machine::{DebugLine, Machine, Network, Rom};
use holdfast_qemu::model::Model;
use holdfast_qemu::tpm::Tpm;
use holdfast_qemu::web_server::{self, WebServer};
use holdfast_sandbox::network::Destination;
use regex::Regex;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most devices that a run starts: each takes the memory of its machine, and QEMU's.
const MOST_DEVICES: i64 = 64;
/// Bytes of a guest's console in which its device is looked for: its boot has a hundredth of that.
const BEGINNING_BYTES: u64 = 1024 * 1024;

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "On a terminal, Ctrl-A x quits.\n\n\
                        Example: holdfast run --until 'heartbeat 3' --timeout 120\n\
                        Example: holdfast run --image images/connected.toml --forward 8080:8080\n\
                        Example: holdfast run --debug hello\n\
                        Example: holdfast run --with-service\n\
                        Example: holdfast run --with-service --devices 8 --check-in-every 60\n\
                        Example: holdfast run --image-file output/images/hello.img")]
pub struct RunArgs {
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    sources: SourceArgs,
    /// Run this image as it is, whoever built it, instead of building one.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = [
            "manifest", "board", "apps", "debug", "locked", "memory", "with_update_server", "with_service"
        ]
    )]
    image_file: Option<PathBuf>,
    /// Memory of the guest, which the image is built for; the manifest's when not given.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// TCP port of this host's loopback that leads to a port of the guest; may be given several times.
    #[arg(long = "forward", value_name = "HOST:GUEST", value_parser = parse_forward)]
    forwards: Vec<(u16, u16)>,
    /// Serve this directory to the guest over HTTPS, as the image's update server: the repositories lie in it
    /// as in the path of their URLs.
    #[arg(long, value_name = "DIR")]
    with_update_server: Option<PathBuf>,
    /// Start a Security Service on this host's loopback, instead of the one that the image manifest names, and claim the device. The
    /// service's folder lies beside the image, as NAME.service.
    #[arg(long, conflicts_with = "without_tpm")]
    with_service: bool,
    /// TCP port of this host's loopback at which the device finds that service; its management is at the next one.
    #[arg(
        long, value_name = "PORT", default_value_t = 8543, requires = "with_service",
        value_parser = clap::value_parser!(u16).range(1..65535)
    )]
    service_port: u16,
    /// Start so many devices of the image, each with a disk and a TPM of its own; a line of the console has the number of its device in
    /// front.
    #[arg(
        long, value_name = "N", default_value_t = 1, requires = "with_service",
        conflicts_with_all = ["debug", "forwards", "until"],
        value_parser = clap::value_parser!(u16).range(1..=MOST_DEVICES)
    )]
    devices: u16,
    /// Seconds from one check-in of a device to the next, 60 to 86400, which the service's settings keep: a day in a new one.
    #[arg(
        long, value_name = "SECS", requires = "with_service",
        value_parser = clap::value_parser!(u32).range(60..=86_400)
    )]
    check_in_every: Option<u32>,
    /// TCP port of this host's loopback for the debugger of `--debug`.
    #[arg(long, value_name = "PORT", default_value_t = 1234)]
    debug_port: u16,
    /// Leave the board's TPM out, which QEMU's machine otherwise has, by swtpm; its state lies beside the image.
    #[arg(long)]
    without_tpm: bool,
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

/// Serves a directory on the port that the image's URLs name. QEMU leads what the guest says to 10.0.2.2 to
/// this host's loopback.
fn update_server(
    workspace: &Workspace,
    manifest: &ImageManifest,
    directory: &Path,
) -> Result<WebServer> {
    const HOST: &str = "10.0.2.2";
    if !directory.is_dir() {
        bail!(
            "{}: is no directory; make a repository in it with `release new`",
            directory.display()
        );
    }
    let field = || format!("{}: update", manifest.path.display());
    let update = manifest.update.as_ref();
    let update =
        update.with_context(|| format!("{}: is missing: it takes no releases", field()))?;
    let grants =
        update.grants().map_err(|(name, reason)| anyhow!("{}.{name}: {reason}", field()))?;
    let loopback = Destination::parse(HOST);
    let mut ports = grants.connections.iter().filter(|c| Some(&c.to) == loopback.as_ref());
    let port = ports.next().and_then(|connection| connection.ports.first());
    let port = port.with_context(|| {
        format!("{}: names no server on {HOST}, which is where a guest finds this host", field())
    })?;
    let authority = development_keys::authority(workspace)?;
    let directory = directory.to_owned();
    let server = WebServer::start(authority.certify(&[HOST])?, port.first, move |request| {
        web_server::file_below(&directory, request)
    })?;
    eprintln!("update server: https://{HOST}:{}", server.port);
    Ok(server)
}

/// Refuses memory that the board cannot have, before anything is built for it.
fn check_memory(workspace: &Workspace, args: &RunArgs, manifest: &ImageManifest) -> Result<()> {
    let Some(wanted) = args.memory else { return Ok(()) };
    let boards = workspace.root.join("images/boards");
    let board = match &args.image.board {
        Some(name) => Boards::Directory(boards).of_option(name)?,
        None => Board::load(&boards, &manifest.board, &manifest.path)?,
    };
    let name = &board.name;
    match board.memory_for(wanted) {
        Ok(memory) if memory == wanted => Ok(()),
        Ok(memory) => {
            let reason =
                format!("--memory: board {name} has {memory} MiB of its own; leave it out");
            Err(HostLacks(reason).into())
        }
        Err(reason) => Err(HostLacks(format!("--memory: {reason}")).into()),
    }
}

pub(crate) fn run(invocation: &Invocation, args: &RunArgs) -> Result<()> {
    if let Some(until) = &args.until {
        Regex::new(until).map_err(|error| HostLacks(format!("--until: {error}")))?;
    }
    if let Some(file) = &args.image_file {
        return run_file(args, file);
    }
    let workspace = &invocation.workspace(image::BUILDS)?;
    let manifest = image::manifest_path(workspace, args.image.manifest.as_ref());
    let loaded = ImageManifest::load(&manifest)?;
    check_memory(workspace, args, &loaded)?;
    let mut builder = ImageBuilder::new(workspace, args.sources.locked, false)?;
    builder.set_memory_mib(args.memory);
    let ImageArgs { board, apps, debug, .. } = &args.image;
    builder.set_debugged(debug.as_deref());
    let service = match args.with_service {
        true => Some(prepare_service(invocation, args, &builder, &loaded)?),
        false => None,
    };
    builder.set_service(service.as_ref().map(Prepared::source));
    let built = builder.build_for(board.as_deref(), &manifest, apps, None)?;
    let shown = show::show(&built.path)?;
    if shown.boot == BootStatus::Unsigned {
        bail!(
            "{}: trust.boot: names keys that are kept elsewhere, so nothing here can sign the slot; \
             leave it out to run with this checkout's development keys",
            manifest.display()
        );
    }
    let memory = built.memory_mib;
    let mut machine = Machine { rom: Rom::Drive, ..Machine::new(&built.path, memory) };
    let kept = tpm(args, &shown, &built.path, "tpm")?;
    machine.tpm = kept.as_ref().map(|kept| kept.tpm.clone());
    if built.manifest.network.is_some() {
        let forwards = args.forwards.clone();
        machine.networks = vec![Network::User { forwards }];
    } else if !args.forwards.is_empty() {
        bail!("{}: network: is missing, so nothing can be forwarded to", manifest.display());
    }
    if let Some(app) = debug {
        machine.debug_line = Some(DebugLine::Tcp(args.debug_port));
        // Its program may be called otherwise.
        let program = built.symbols.join(app);
        let program = if program.is_file() { program } else { built.symbols.join("PROGRAM") };
        eprintln!(
            "{app} waits for a debugger: gdb-multiarch -ex 'target remote :{}' {}",
            args.debug_port,
            process::shell_word(&program.display().to_string())
        );
    }
    let _server = match &args.with_update_server {
        Some(directory) => Some(update_server(workspace, &built.manifest, directory)?),
        None => None,
    };
    let attesting = service.as_ref().map(|service| serve(invocation, service, &built, &shown));
    let attesting = attesting.transpose()?;
    if args.devices == 1 {
        machine.console_copy = service.as_ref().map(Prepared::console);
        return start(args, machine, attesting.as_ref());
    }
    let mut locks = Vec::new();
    let mut machines = vec![machine.clone()];
    for number in 2..=args.devices {
        let kept = tpm(args, &shown, &built.path, &format!("tpm-{number}"))?;
        let tpm = kept.as_ref().map(|kept| kept.tpm.clone());
        machines.push(Machine { tpm, ..machine.clone() });
        locks.extend(kept);
    }
    eprintln!("starting {} devices with {memory} MiB each", machines.len());
    fleet::start(args, &machines, attesting.as_ref())
}

/// Prepares the service of `--with-service`, of which the image has to know.
fn prepare_service(
    invocation: &Invocation,
    args: &RunArgs,
    builder: &ImageBuilder<'_>,
    manifest: &ImageManifest,
) -> Result<Prepared> {
    let image = builder.usual_path(args.image.board.as_deref(), manifest)?;
    let apps: Vec<PathBuf> = manifest.app_paths().chain(args.image.apps.iter().cloned()).collect();
    let catalog = loopback::catalog_of_apps(&apps)?;
    let folder = image.with_extension("service");
    let asked = Asked {
        port: args.service_port,
        devices: args.devices,
        check_in_every_s: args.check_in_every,
    };
    Prepared::new(invocation, &folder, (&manifest.name, catalog), asked)
}

/// The service that an image's device checks in with, and the board by which it is claimed.
struct Attesting {
    service: Running,
    board: String,
}

/// Starts the service of `--with-service`, and tells it what the image measures.
fn serve(
    invocation: &Invocation,
    service: &Prepared,
    built: &Built,
    shown: &show::Image,
) -> Result<Attesting> {
    let running = service.start()?;
    let measured = Measured {
        boot: shown.boot_digest.clone(),
        version: shown.version.clone(),
        index: built.manifest.rollback_index.into(),
    };
    release::tell(&running.catalog(), &measured)?;
    eprintln!("a Security Service waits for the device: {}", service.login(invocation.program));
    Ok(Attesting { service: running, board: shown.board.clone() })
}

impl Attesting {
    fn watch(&self, printed: Printed) -> Watcher {
        Watcher::start(self.service.catalog(), self.board.clone(), printed)
    }
}

/// Returns the beginning of what a guest has printed, in which its device has named itself.
fn beginning(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(BEGINNING_BYTES).read_to_end(&mut bytes));
    if read.is_ok() { String::from_utf8_lossy(&bytes).into_owned() } else { String::new() }
}

/// Runs an image that was built already; it needs no checkout.
fn run_file(args: &RunArgs, file: &Path) -> Result<()> {
    let shown = show::show(file).with_context(|| file.display().to_string())?;
    if shown.boot == BootStatus::Unsigned {
        bail!("{}: its slot is not signed yet; sign it with `image sign`", file.display());
    }
    let mut machine = Machine { rom: Rom::Drive, ..Machine::new(file, shown.memory_mib) };
    let kept = tpm(args, &shown, file, "tpm")?;
    machine.tpm = kept.as_ref().map(|kept| kept.tpm.clone());
    if shown.components.iter().any(|name| name == "network") {
        machine.networks = vec![Network::User { forwards: args.forwards.clone() }];
    } else if !args.forwards.is_empty() {
        bail!("{}: has no network, so nothing can be forwarded to", file.display());
    }
    start(args, machine, None)
}

/// A TPM for a machine, and the lock on its state, which this run holds.
struct KeptTpm {
    tpm: Tpm,
    _lock: Option<File>,
}

/// Returns the TPM of the machine that an image is for. Its state lies beside the image, as NAME.EXTENSION, so that a device which is
/// started again has the same. A second run's guest beside the first gets a new one: two with one TPM would be one device.
fn tpm(
    args: &RunArgs,
    image: &show::Image,
    path: &Path,
    extension: &str,
) -> Result<Option<KeptTpm>> {
    if args.without_tpm || !image.tpm || Model::of(path)? != Model::Virt {
        return Ok(None);
    }
    const REMEDY: &str = "the board has a TPM; `--without-tpm` leaves it out";
    host::ensure(&[host::TPM]).context(REMEDY)?;
    let state = path.with_extension(extension);
    workspace::make_directory(&state).context(REMEDY)?;
    let lock = state.join("in-use");
    let lock = File::create(&lock)
        .with_context(|| format!("cannot create {}", lock.display()))
        .context(REMEDY)?;
    if lock.try_lock().is_err() {
        eprintln!("the TPM in {} is another guest's: this one gets a new one", state.display());
        return Ok(Some(KeptTpm { tpm: Tpm::default(), _lock: None }));
    }
    let tpm = Tpm { state: Some(state), fault: None };
    Ok(Some(KeptTpm { tpm, _lock: Some(lock) }))
}

/// Starts a machine, and shows its console until it ends or what was asked for has happened.
fn start(args: &RunArgs, machine: Machine, attesting: Option<&Attesting>) -> Result<()> {
    let memory = machine.memory_mib;
    eprintln!("starting {} in QEMU with {memory} MiB", machine.image.display());
    let on_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if on_terminal && !args.headless && args.until.is_none() && args.timeout.is_none() {
        eprintln!("Ctrl-A x quits");
        let _watcher = attesting.zip(machine.console_copy.clone()).map(|(attesting, copy)| {
            // That of another start names no device of this one.
            let _ = std::fs::remove_file(&copy);
            attesting.watch(Box::new(move || beginning(&copy)))
        });
        return machine.run_on_terminal().context("the guest failed");
    }
    let mut guest = machine.start(Some(Box::new(std::io::stdout())))?;
    let console = guest.console.clone();
    let _watcher = attesting.map(|attesting| attesting.watch(Box::new(move || console.text())));
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
