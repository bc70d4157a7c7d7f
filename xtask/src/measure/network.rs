//! What the network of apps costs: memory, time until it is there, and bytes in a second through it.
//!
//! Bytes in a second are counted on the host's clock, by turns on guests that run side by side, so that
//! only their ratio means anything: the best of several rounds each, one processor for each guest.

use super::guest::{BOOT, captured, milliseconds, number, whole};
use crate::test_programs;
use anyhow::{Context, Result, ensure};
use holdfast_builder::development_keys;
use holdfast_builder::image::{Built, ImageBuilder};
use holdfast_builder::workspace::{self, Workspace};
use holdfast_images::variant;
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_sandbox::component::{self, ComponentList, Service};
use holdfast_sandbox::policy::system_calls::SystemCalls;
use holdfast_sandbox::policy::{self, ServiceGrants};
use serde::Serialize;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The network and nobody who uses it.
const MANIFEST: &str = "tests/images/lease.toml";
/// The app that bytes are sent through: it gives back what it gets.
const ECHO: &str = "examples/tcp-server";
/// The port on which it does.
const ECHO_PORT: u16 = 8080;
/// How many apps have grants.
const CROWDS: [u16; 3] = [1, 10, 50];
/// Memory of the guests: more than a device of ours has, for the largest crowd.
const MEMORY_MIB: u32 = 256;
/// Bytes of one round, and rounds of which the best counts.
const ROUND_BYTES: usize = 2 << 20;
const ROUNDS: usize = 7;
/// Until a byte has come back.
const ECHO_WITHIN: Duration = Duration::from_secs(60);
/// Guest seconds after which a system is idle.
const IDLE_SECONDS: f64 = 30.0;

/// A number of apps with grants.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Crowd {
    /// How many.
    pub(super) apps: u16,
    /// From the start of the network service until firewall and veth pairs are there.
    pub(super) ready_ms: f64,
    /// Memory in use when idle.
    memory_kib: u64,
    /// Bytes in a second through one of them, as a share of the bare network's.
    pub(super) share_of_bare: f64,
}

/// What the network costs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NetworkNumbers {
    pub(super) slot_bytes: usize,
    pub(super) crowds: Vec<Crowd>,
    /// Of one more idle app with four grants, the kernel's part included.
    pub(super) app_kib: u64,
}

pub(super) fn measure(workspace: &Workspace, builder: &ImageBuilder<'_>) -> Result<NetworkNumbers> {
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let programs = scratch.path().join("programs");
    test_programs::build(workspace, builder, &programs)?;
    let idler = workspace::read(&programs.join("silent"))?;
    // So many apps may take more memory than the manifest's machine has.
    let mut larger = ImageBuilder::new(workspace, false, false)?;
    larger.set_memory_mib(Some(MEMORY_MIB));
    let mut built = Vec::new();
    for apps in CROWDS {
        let mut directories = vec![workspace.root.join(ECHO)];
        for number in 1..apps {
            directories.push(idle_app(scratch.path(), number, &idler)?);
        }
        let output = workspace.output()?.join(format!("crowd-{apps}.img"));
        let manifest = workspace.root.join(MANIFEST);
        built.push((apps, larger.build(&manifest, &directories, Some(&output))?));
    }
    let (_, smallest) = built.first().context("no crowds")?;
    let slot_bytes = holdfast_images::show::show(&smallest.path)?.slot_bytes;
    let echo = builder.app_program(&workspace.root.join(ECHO))?;
    let bare = bare_image(workspace, smallest, &programs, echo)?;

    let mut guests = vec![Echo::start(&bare)?];
    for (_, built) in &built {
        guests.push(Echo::start(&built.path)?);
    }
    let mut best = vec![0.0f64; guests.len()];
    for _ in 0..ROUNDS {
        for (best, guest) in best.iter_mut().zip(&guests) {
            *best = best.max(guest.bytes_in_a_second()?);
        }
    }
    drop(guests);
    let mut rates = best.into_iter();
    let bare = rates.next().context("nothing was measured")?;
    let mut crowds = Vec::new();
    for ((apps, built), rate) in built.iter().zip(rates) {
        let (ready_ms, memory_kib) = idle(built)?;
        let share_of_bare = (rate / bare * 1000.0).round() / 1000.0;
        crowds.push(Crowd { apps: *apps, ready_ms, memory_kib, share_of_bare });
    }
    let (Some(first), Some(last)) = (crowds.first(), crowds.last()) else {
        anyhow::bail!("no crowds");
    };
    let more = u64::from(last.apps.saturating_sub(first.apps));
    let taken = last.memory_kib.saturating_sub(first.memory_kib);
    let app_kib = taken.checked_div(more).context("no crowds")?;
    Ok(NetworkNumbers { slot_bytes, crowds, app_kib })
}

/// An app that sleeps, with grants of each kind.
fn idle_app(scratch: &Path, number: u16, program: &[u8]) -> Result<PathBuf> {
    let directory = scratch.join(format!("idle-{number}"));
    let bin = directory.join("root/bin");
    workspace::make_directory(&bin)?;
    let path = bin.join("app");
    workspace::write(&path, program)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make {} executable", path.display()))?;
    let port = number.saturating_add(9000);
    let manifest = format!(
        "{{\"SchemaVersion\": 1, \"Name\": \"idle-{number}\", \"EntryPoint\": \"/bin/app\",\
         \"ComponentId\": \"00000000-0000-0000-0000-00000000{number:04}\",\
         \"Capabilities\": {{\"AllowedTcpServerPorts\": [{port}], \"AllowedConnections\": [\
         \"one.example.com\", \"203.0.113.0/28\",\
         {{\"Host\": \"two.example.com\", \"Protocol\": \"Tcp\", \"Ports\": [443]}}]}},\
         \"Holdfast\": {{\"Limits\": {{\"MemoryKiB\": 1024}}}}}}"
    );
    workspace::write(&directory.join("app_manifest.json"), manifest)?;
    Ok(directory)
}

/// The same kernel and program, in the system's own network namespace, without a firewall.
fn bare_image(
    workspace: &Workspace,
    image: &Built,
    programs: &Path,
    echo: Vec<u8>,
) -> Result<PathBuf> {
    const CAP_NET_ADMIN: u8 = 12;
    let root = holdfast_images::show::read_root(&image.path)?;
    let list = holdfast_images::root::read_file(&root, component::PATH)?;
    let mut list = ComponentList::decode(&list)?;
    list.services.retain(|service| service.name == "probe");
    (list.apps, list.admission) = (Vec::new(), None);
    let address = workspace::read(&programs.join("bare-network"))?;
    let files = [("address", address, vec![CAP_NET_ADMIN]), ("echo", echo, Vec::new())];
    for (uid, (name, _, capabilities)) in (150..).zip(&files) {
        let directory = format!("/usr/lib/holdfast/services/{name}");
        let mut plan = policy::service_plan(&ServiceGrants {
            capabilities: capabilities.clone(),
            // Landlock gives ports to apps alone, and is there where there is a root of its own.
            system_view: true,
            system_network: true,
            ..ServiceGrants::none(&directory, name)
        });
        if capabilities.is_empty() {
            // The program is an app's, and calls what an app may.
            plan.system_calls = SystemCalls::Serving;
        }
        list.services.push(Service { name: (*name).to_owned(), uid, plan });
    }
    let encoded = list.encode()?;
    let path = workspace.output()?.join("bare-network.img");
    let signer = development_keys::signer(workspace, &image.manifest.board)?;
    variant::with_root(&image.path, &path, &signer, |root| {
        root.add(component::PATH.trim_start_matches('/'), encoded, false);
        for (name, program, _) in files {
            root.add(format!("usr/lib/holdfast/services/{name}/{name}"), program, true);
        }
    })?;
    Ok(path)
}

/// A guest that gives back what it gets on a port of this host.
struct Echo {
    guest: Guest,
    port: u16,
}

impl Echo {
    fn start(image: &Path) -> Result<Self> {
        // Whoever binds a port and lets it go knows one that is free, for now.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .context("there is no free port")?
            .port();
        let forwards = vec![(port, ECHO_PORT)];
        let networks = vec![Network::Servers { forwards, servers: Vec::new() }];
        let machine = Machine { networks, processors: 1, ..Machine::new(image, MEMORY_MIB) };
        let mut guest = machine.start(None)?;
        guest.wait_anywhere("listening on port 8080", BOOT)?;
        guest.wait_anywhere("eth0: address 203|eth0 has 203", BOOT)?;
        let echo = Self { guest, port };
        // And everything else of it has started.
        echo.send(1024).with_context(|| echo.guest.console.tail())?;
        Ok(echo)
    }

    fn bytes_in_a_second(&self) -> Result<f64> {
        let started = Instant::now();
        self.send(ROUND_BYTES).with_context(|| self.guest.console.tail())?;
        let bytes = f64::from(u32::try_from(ROUND_BYTES).unwrap_or(u32::MAX));
        Ok(bytes / started.elapsed().as_secs_f64())
    }

    /// Sends so many bytes and waits until all have come back.
    fn send(&self, bytes: usize) -> Result<()> {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        connection.set_read_timeout(Some(ECHO_WITHIN))?;
        let mut sender = connection.try_clone()?;
        let sending = thread::spawn(move || sender.write_all(&vec![b'x'; bytes]));
        let mut buffer = vec![0u8; 64 * 1024];
        let mut missing = bytes;
        while missing > 0 {
            let length = connection.read(&mut buffer)?;
            ensure!(length > 0, "the connection ended, {missing} bytes are missing");
            missing = missing.saturating_sub(length);
        }
        sending.join().ok().context("the sender has failed")??;
        Ok(())
    }
}

/// How long the network service takes until it is ready, and memory in use when idle.
fn idle(built: &Built) -> Result<(f64, u64)> {
    let machine = Machine {
        counted: true,
        without_boot_loader: true,
        ..Machine::new(&built.path, MEMORY_MIB)
    };
    let mut guest = machine.start(None)?;
    let started = guest.wait(r"\[ *[0-9.]+\] init: network started", BOOT)?;
    let ready = guest.wait(r"\[ *[0-9.]+\] init: network is ready", BOOT)?;
    guest.wait_anywhere("init: probe is ready", BOOT)?;
    let time = |line: &str| number(line, r"([0-9.]+)\]");
    while number(&guest.probe.ask("clocks", BOOT)?, r"monotonic_ns=(\d+)")? < IDLE_SECONDS * 1e9 {
        thread::sleep(Duration::from_millis(50));
    }
    let available = captured(&guest.probe.ask("memory", BOOT)?, r"available=(\d+)")?;
    let configured = u64::from(MEMORY_MIB).saturating_mul(1024);
    let in_use = configured.saturating_sub(whole(&available, r"(\d+)")?);
    Ok((milliseconds(time(&ready)? - time(&started)?), in_use))
}
