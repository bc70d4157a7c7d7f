//! `measure`: sizes, start-up times and memory of the image at hand, beside BusyBox as init.
//!
//! The memory of one app is a fifth of what five more of it take; a start is the median of five.
//!
//! Times are guest time, counted in instructions (2 ns each on one CPU, `-icount`), from the first
//! instruction of the zImage: the processor's counter starts there. A program's marker is the
//! monotonic clock read by the first statement of its `main`; the probe tells how far the two
//! clocks are apart, which is a constant of the kernel and the device tree.

pub(crate) mod boards;
mod guest;
mod network;
mod security_service;
mod services;
mod update;

use self::network::NetworkNumbers;
use self::security_service::ServiceNumbers;
use self::services::ServicesNumbers;
use self::update::UpdateNumbers;
use crate::busybox;
use anyhow::{Context, Result};
use boards::BoardSizes;
use clap::Args;
use guest::{BOOT, milliseconds, number, whole};
use holdfast_builder::host;
use holdfast_builder::image::{Built, DEFAULT_MANIFEST, ImageBuilder};
use holdfast_builder::pins::Pin;
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{development_keys, process};
use holdfast_images::build;
use holdfast_images::root::{EntryKind, Root};
use holdfast_images::{show, variant};
use holdfast_qemu::machine::{Guest, Machine};
use serde::Serialize;
use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Arguments of `measure`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: cargo holdfast measure --json\n         cargo holdfast measure --security-service\n         \
                  cargo holdfast measure --buildroot"
)]
pub(crate) struct MeasureArgs {
    /// Also print the numbers as JSON.
    #[arg(long)]
    json: bool,
    /// Measure the Security Service alone, and leave the rest of the page as it is.
    #[arg(long)]
    security_service: bool,
    /// Measure nothing, and write what the last run of the tests' stage `buildroot` has found into the page.
    #[arg(long, conflicts_with_all = ["json", "security_service"])]
    buildroot: bool,
}

/// The page that is written.
const PAGE: &str = "docs/numbers.md";
/// An image with the probe beside the app.
const PROBE_MANIFEST: &str = "tests/images/probe.toml";
/// Seconds of guest time after which a system counts as idle.
const IDLE_SECONDS: u32 = 30;
/// Apps that are put beside the first one, to see what one takes.
const MORE_APPS: u64 = 5;
/// Starts of an app of which the median counts.
const STARTS: usize = 5;
/// Guest instructions in a second: QEMU's `-icount shift=1`.
const INSTRUCTIONS_PER_SECOND: f64 = 5e8;
/// How many files the table of the largest has.
const TOP_FILES: usize = 10;

/// Start-up times of one system, in milliseconds of guest time.
#[derive(Debug, Clone, Copy, Serialize)]
struct Times {
    kernel_to_init_ms: f64,
    kernel_to_app_ms: f64,
    init_to_app_ms: f64,
}

/// What one app costs.
#[derive(Debug, Clone, Copy, Serialize)]
struct AppCost {
    /// Memory in use because of it, the kernel's part included.
    memory_kib: u64,
    /// Of it, that of its processes.
    user_kib: u64,
    /// From init's decision to start it until the kernel executes it.
    start_instructions: u64,
}

/// A file of the root file system.
#[derive(Debug, Serialize)]
struct FileSize {
    path: String,
    bytes: u64,
}

/// BusyBox as init on the same kernel.
#[derive(Debug, Serialize)]
struct BusyBox {
    version: String,
    program_bytes: usize,
    kernel_to_app_ms: f64,
    idle_memory_kib: u64,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Numbers {
    commit: String,
    machine: String,
    memory_mib: u32,
    kernel_bytes: usize,
    root_bytes: usize,
    slot_bytes: usize,
    rom_bytes: usize,
    #[serde(flatten)]
    boot_loader: BootLoaderTimes,
    #[serde(flatten)]
    times: Times,
    idle_memory_kib: u64,
    idle_user_kib: u64,
    app: AppCost,
    network: NetworkNumbers,
    services: ServicesNumbers,
    update: UpdateNumbers,
    boards: Vec<BoardSizes>,
    security_service: ServiceNumbers,
    largest_files: Vec<FileSize>,
    busybox: BusyBox,
}

pub(crate) fn run(workspace: &Workspace, args: &MeasureArgs) -> Result<()> {
    if args.security_service {
        return run_security_service(workspace, args.json);
    }
    if args.buildroot {
        return boards::write_buildroot(workspace, &workspace.root.join(PAGE));
    }
    host::ensure(&[host::IMAGE, host::TOOLCHAIN, host::KERNEL])?;
    let builder = ImageBuilder::new(workspace, false, false)?;
    let shipped = builder.build(&workspace.root.join(DEFAULT_MANIFEST), &[], None)?;
    let probed = builder.build(&workspace.root.join(PROBE_MANIFEST), &[], None)?;
    let image = show::show(&shipped.path)?;
    let (offset, idle_memory_kib, idle_user_kib) = measure_probed(&probed)?;
    let times = measure_times(&shipped, offset)?;
    let boot_loader = measure_boot_loader(&probed, offset)?;
    let rom_bytes = workspace::read(&build::rom_path(&shipped.path))?.len();
    let (program, pin) = busybox::build(workspace, builder.pins())?;
    let hello = builder.app_program(&workspace.root.join("examples/hello"))?;
    let idle = (idle_memory_kib, idle_user_kib);
    let app = measure_app(workspace, &builder, &probed, &hello, idle)?;
    let network = network::measure(workspace, &builder)?;
    let services = services::measure(workspace, &builder)?;
    let update = update::measure(workspace, &builder)?;
    let boards = boards::measure(workspace, &builder)?;
    let security_service = security_service::measure(workspace)?;
    let busybox = measure_busybox(workspace, &shipped, (program, &pin), hello, offset)?;
    let mut files: Vec<FileSize> = image
        .files
        .iter()
        .filter(|file| file.kind == EntryKind::File)
        .map(|file| FileSize { path: file.path.clone(), bytes: file.size })
        .collect();
    files.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    files.truncate(TOP_FILES);
    let numbers = Numbers {
        commit: workspace.commit(),
        machine: machine_name(),
        memory_mib: shipped.manifest.memory_mib,
        kernel_bytes: image.kernel_bytes,
        root_bytes: image.root_bytes,
        slot_bytes: image.slot_bytes,
        rom_bytes,
        boot_loader,
        times,
        idle_memory_kib,
        idle_user_kib,
        app,
        network,
        services,
        update,
        boards,
        security_service,
        largest_files: files,
        busybox,
    };
    let path = workspace.root.join(PAGE);
    let before = workspace::read_text(&path)?;
    let of_buildroot = boards::buildroot_section(workspace, &before)?;
    let of_a_fleet = security_service::of_a_fleet(&before, boards::BUILDROOT);
    let service = security_service::section(&numbers.security_service, &measured_by(workspace));
    workspace::write(&path, table(&numbers) + &service + of_a_fleet + &of_buildroot)?;
    eprintln!("written: {}", path.display());
    if args.json {
        println!("{}", serde_json::to_string_pretty(&numbers).context("cannot write JSON")?);
    }
    Ok(())
}

/// Measures the Security Service, and replaces its section of the page.
fn run_security_service(workspace: &Workspace, json: bool) -> Result<()> {
    let numbers = security_service::measure(workspace)?;
    let path = workspace.root.join(PAGE);
    let section = security_service::section(&numbers, &measured_by(workspace));
    let page = workspace::read_text(&path)?;
    workspace::write(&path, security_service::replaced(&page, &section, boards::BUILDROOT))?;
    eprintln!("written: {}", path.display());
    if json {
        println!("{}", serde_json::to_string_pretty(&numbers).context("cannot write JSON")?);
    }
    Ok(())
}

/// What was measured, and on what.
fn measured_by(workspace: &Workspace) -> String {
    format!("at commit {} on {}", workspace.commit(), processor_name())
}

/// Time begins with the kernel: the boot loader is left out.
fn counted(built: &Built) -> Machine {
    Machine {
        counted: true,
        without_boot_loader: true,
        ..Machine::new(&built.path, built.manifest.memory_mib)
    }
}

/// How many seconds the processor's counter is ahead of the monotonic clock; and memory in use
/// when idle, all of it and that of user space, in KiB.
fn measure_probed(built: &Built) -> Result<(f64, u64, u64)> {
    let mut guest = counted(built).start(None)?;
    guest.wait("init: probe is ready", BOOT)?;
    let offset = counter_ahead(&mut guest)?;
    let idle = IDLE_SECONDS.saturating_add(2);
    guest.wait(&format!("hello: heartbeat {idle}\\b"), BOOT)?;
    let memory = guest.probe.ask("memory", BOOT)?;
    let kib = |name: &str| whole(&memory, &format!(r"{name}=(\d+)"));
    // What the kernel keeps for itself before it counts is in use as well.
    let configured = u64::from(built.manifest.memory_mib).saturating_mul(1024);
    Ok((offset, configured.saturating_sub(kib("available")?), kib("user")?))
}

/// What an app costs, from an image with more of them and from starting one again.
fn measure_app(
    workspace: &Workspace,
    builder: &ImageBuilder<'_>,
    probed: &Built,
    program: &[u8],
    (idle_memory_kib, idle_user_kib): (u64, u64),
) -> Result<AppCost> {
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let mut apps = Vec::new();
    for number in 0..MORE_APPS {
        let directory = scratch.path().join(format!("app-{number}"));
        let bin = directory.join("root/bin");
        workspace::make_directory(&bin)?;
        let path = bin.join("app");
        workspace::write(&path, program)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))?;
        let manifest = format!(
            "{{\"SchemaVersion\": 1, \"Name\": \"more-{number}\", \"EntryPoint\": \"/bin/app\",\
             \"ComponentId\": \"00000000-0000-0000-0000-00000000000{number}\",\
             \"Capabilities\": {{}}, \"Holdfast\": {{\"Limits\": {{\"MemoryKiB\": 1024}}}}}}"
        );
        workspace::write(&directory.join("app_manifest.json"), manifest)?;
        apps.push(directory);
    }
    let output = workspace.output()?.join("more-apps.img");
    let manifest = workspace.root.join(PROBE_MANIFEST);
    let crowded = builder.build(&manifest, &apps, Some(&output))?;
    let (_, memory, user) = measure_probed(&crowded)?;
    Ok(AppCost {
        memory_kib: memory.saturating_sub(idle_memory_kib) / MORE_APPS,
        user_kib: user.saturating_sub(idle_user_kib) / MORE_APPS,
        start_instructions: measure_starts(probed)?,
    })
}

/// Guest instructions from init's decision to start an app until the kernel executes it.
fn measure_starts(built: &Built) -> Result<u64> {
    let mut guest = counted(built).start(None)?;
    guest.wait("init: probe is ready", BOOT)?;
    guest.wait("hello: heartbeat 1", BOOT)?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        guest.probe.ask("stop hello", BOOT)?;
        guest.wait("init: hello ended", BOOT)?;
        guest.probe.ask("start hello", BOOT)?;
        let decided = guest.wait(r"\[ *[0-9.]+\] init: probe asks for Start", BOOT)?;
        let started = guest.wait(r"\[ *[0-9.]+\] init: hello started", BOOT)?;
        let time = |line: &str| number(line, r"([0-9.]+)\]");
        let took = time(&started)? - time(&decided)?;
        starts.push(milliseconds(took));
    }
    starts.sort_by(f64::total_cmp);
    let median = starts.get(STARTS / 2).copied().unwrap_or_default();
    let instructions = (median / 1e3 * INSTRUCTIONS_PER_SECOND).round();
    format!("{instructions}").parse().context("no number of instructions")
}

/// What the boot loader costs, and how long a device runs without its watchdog.
#[derive(Debug, Clone, Copy, Serialize)]
struct BootLoaderTimes {
    boot_loader_ms: f64,
    power_on_to_watchdog_ms: f64,
}

/// The same boot with the boot loader in front: the processor's counter then is further ahead of the
/// kernel's clock.
fn measure_boot_loader(built: &Built, offset: f64) -> Result<BootLoaderTimes> {
    let machine = Machine { without_boot_loader: false, ..counted(built) };
    let mut guest = machine.start(None)?;
    let armed = guest.wait(r"\[ *[0-9.]+\] init: watchdog armed", BOOT)?;
    let armed = number(&armed, r"([0-9.]+)\]")?;
    guest.wait("init: probe is ready", BOOT)?;
    let with = counter_ahead(&mut guest)?;
    Ok(BootLoaderTimes {
        boot_loader_ms: milliseconds(with - offset),
        power_on_to_watchdog_ms: milliseconds(with + armed),
    })
}

/// Seconds by which the processor's counter is ahead of the monotonic clock.
fn counter_ahead(guest: &mut Guest) -> Result<f64> {
    let clocks = guest.probe.ask("clocks", BOOT)?;
    let counter = number(&clocks, r"counter=(\d+)")?;
    let frequency = number(&clocks, r"frequency=(\d+)")?;
    let monotonic = number(&clocks, r"monotonic_ns=(\d+)")?;
    Ok(counter / frequency - monotonic / 1e9)
}

/// When init's and the app's `main` began.
fn measure_times(built: &Built, offset: f64) -> Result<Times> {
    let mut guest = counted(built).start(None)?;
    let init = seconds(&guest.wait(r"init: image .* main at [0-9.]+s", BOOT)?)?;
    let app = seconds(&guest.wait(r"hello, world; main at [0-9.]+s", BOOT)?)?;
    Ok(Times {
        kernel_to_init_ms: milliseconds(init + offset),
        kernel_to_app_ms: milliseconds(app + offset),
        init_to_app_ms: milliseconds(app - init),
    })
}

/// The same kernel and app, started by BusyBox's init from its inittab.
fn measure_busybox(
    workspace: &Workspace,
    shipped: &Built,
    (program, pin): (Vec<u8>, &Pin),
    hello: Vec<u8>,
    offset: f64,
) -> Result<BusyBox> {
    const INITTAB: &str = "::sysinit:/bin/busybox mount -t devtmpfs devtmpfs /dev\n\
                           ::sysinit:/bin/busybox mount -t proc proc /proc\n\
                           ::sysinit:/bin/busybox mount -t sysfs sysfs /sys\n\
                           ::sysinit:/bin/busybox mount -t tmpfs tmpfs /tmp\n\
                           ::respawn:/bin/hello\n\
                           ::once:/bin/busybox sh /etc/report\n";
    let program_bytes = program.len();
    let path = workspace.output()?.join("busybox.img");
    variant::with_root(
        &shipped.path,
        &path,
        &development_keys::signer(workspace, &shipped.manifest.board)?,
        |root| {
            *root = Root::of_slot();
            root.add("sbin/init", program.clone(), true);
            root.add("bin/busybox", program, true);
            root.add("bin/hello", hello, true);
            let report = format!("busybox sleep {IDLE_SECONDS}\nbusybox cat /proc/meminfo\n");
            root.add("etc/report", report.into_bytes(), false);
            root.add("etc/inittab", INITTAB.as_bytes().to_vec(), false);
        },
    )?;
    let memory_mib = shipped.manifest.memory_mib;
    let machine =
        Machine { counted: true, without_boot_loader: true, ..Machine::new(&path, memory_mib) };
    let mut guest: Guest = machine.start(None)?;
    let app = seconds(&guest.wait(r"hello, world; main at [0-9.]+s", BOOT)?)?;
    let available = whole(&guest.wait(r"MemAvailable: +\d+ kB", BOOT)?, r"(\d+) kB")?;
    Ok(BusyBox {
        version: pin.version.clone(),
        program_bytes,
        kernel_to_app_ms: milliseconds(app + offset),
        idle_memory_kib: u64::from(memory_mib).saturating_mul(1024).saturating_sub(available),
    })
}

fn seconds(line: &str) -> Result<f64> {
    number(line, r"main at ([0-9.]+)s")
}

/// Processor, cores and emulator, for whoever compares.
fn machine_name() -> String {
    let qemu =
        process::output(Command::new("qemu-system-arm").arg("--version")).unwrap_or_default();
    let qemu = qemu.lines().next().unwrap_or("QEMU");
    format!("{}, {qemu}", processor_name())
}

fn processor_name() -> String {
    let cpus = workspace::read_text(Path::new("/proc/cpuinfo")).unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{} with {cores} cores", model.unwrap_or("an unknown processor"))
}

fn table(numbers: &Numbers) -> String {
    let Numbers { times, busybox, .. } = numbers;
    let mut text = format!(
        "# Numbers\n\nWritten by `cargo holdfast measure` at commit {} on {}.\nDo not edit: \
         measure.\n\nTimes are guest time counted in instructions (2 ns each, one CPU), from the \
         first instruction of the\nzImage; the host's load does not change them. Memory in use is the \
         configured {} MiB less `MemAvailable`, {IDLE_SECONDS} seconds\nafter the last component \
         was ready, with the probe of the test image beside the app. BusyBox {} is\nthe same \
         kernel and app with a static BusyBox as init, in the same run.\n\n\
         | what | Holdfast | BusyBox as init | aim |\n| --- | ---: | ---: | ---: |\n",
        numbers.commit, numbers.machine, numbers.memory_mib, busybox.version
    );
    let rows = [
        ("kernel (bytes)", numbers.kernel_bytes.to_string(), "same".to_owned(), ""),
        ("root with verity tree (bytes)", numbers.root_bytes.to_string(), "-".to_owned(), ""),
        ("slot (bytes)", numbers.slot_bytes.to_string(), "-".to_owned(), "4194304"),
        ("boot loader with its keys (bytes)", numbers.rom_bytes.to_string(), "-".to_owned(), ""),
        (
            "power-on to kernel entry: the boot loader (ms)",
            numbers.boot_loader.boot_loader_ms.to_string(),
            "-".to_owned(),
            "",
        ),
        (
            "power-on until the watchdog is armed, `qemu-virt` (ms)",
            numbers.boot_loader.power_on_to_watchdog_ms.to_string(),
            "-".to_owned(),
            "",
        ),
        (
            "kernel entry to init's main (ms)",
            times.kernel_to_init_ms.to_string(),
            "-".to_owned(),
            "",
        ),
        (
            "kernel entry to the app's main (ms)",
            times.kernel_to_app_ms.to_string(),
            busybox.kernel_to_app_ms.to_string(),
            "1000",
        ),
        (
            "init's main to the app's main (ms)",
            times.init_to_app_ms.to_string(),
            "-".to_owned(),
            "50",
        ),
        (
            "memory in use when idle (KiB)",
            numbers.idle_memory_kib.to_string(),
            busybox.idle_memory_kib.to_string(),
            "16384",
        ),
        (
            "of it mapped by programs, each page once (KiB)",
            numbers.idle_user_kib.to_string(),
            "-".to_owned(),
            "",
        ),
        (
            "memory of one idle app, the kernel's part included (KiB)",
            numbers.app.memory_kib.to_string(),
            "-".to_owned(),
            "",
        ),
        ("of it user space (KiB)", numbers.app.user_kib.to_string(), "-".to_owned(), ""),
        (
            "start of an app, until it is executed (guest instructions)",
            numbers.app.start_instructions.to_string(),
            "-".to_owned(),
            "",
        ),
    ];
    // Writing to a string cannot fail.
    for (what, ours, theirs, aim) in rows {
        let _ = writeln!(text, "| {what} | {ours} | {theirs} | {aim} |");
    }
    let network = &numbers.network;
    let _ = writeln!(
        text,
        "\nWith the network service a slot has {} bytes, and one more idle app with grants takes {} KiB, \
         the kernel's part\nincluded. An app's bytes in a second are those through its veth pair and \
         the firewall as a share of the same\nprogram's in the system's namespace without a firewall, best \
         of several rounds by turns (host's clock).\n\n\
         | apps with grants | network service, start to ready (ms) | bytes in a second, share |\n\
         | ---: | ---: | ---: |",
        network.slot_bytes, network.app_kib
    );
    for crowd in &network.crowds {
        let network::Crowd { apps, ready_ms, share_of_bare, .. } = crowd;
        let _ = writeln!(text, "| {apps} | {ready_ms} | {share_of_bare} |");
    }
    text.push_str(&services::section(&numbers.services));
    text.push_str(&update::table(&numbers.update));
    let _ = writeln!(text, "\n| largest files | bytes |\n| --- | ---: |");
    for file in &numbers.largest_files {
        let _ = writeln!(text, "| `{}` | {} |", file.path, file.bytes);
    }
    text.push_str(&boards::section(&numbers.boards));
    text
}
