//! What an update costs: bytes that are fetched, beside other methods on the same two images; memory of the
//! agents; bytes written.

use super::guest::{BOOT, whole};
use anyhow::{Context, Result, ensure};
use holdfast_builder::image::ImageBuilder;
use holdfast_builder::kernel::{self, Purpose};
use holdfast_builder::workspace::{self, Workspace};
use holdfast_builder::{development_keys, host};
use holdfast_images::board::Board;
use holdfast_images::root::Root;
use holdfast_images::{sha256, variant};
use holdfast_qemu::machine::{Machine, Network};
use holdfast_qemu::relay::relay_command;
use holdfast_qemu::web_server::{self, WebServer};
use holdfast_release::config::{UPDATE_FILE, UpdateConfig};
use holdfast_release::metadata::Role;
use holdfast_release::reuse::{self, CHUNK_BYTES, Run};
use holdfast_repository::{Lifetimes, Released, Repository, Roles, delta, of_image};
use holdfast_sandbox::component::{self, ComponentList};
use holdfast_sandbox::verity::{self, BLOCK_BYTES, DIGEST_BYTES};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// An image that takes releases, with the probe.
const MANIFEST: &str = "tests/images/update.toml";
/// Where it looks for them.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 80), 443);
/// The program that changes alone, by all its names: that of the product's own services.
const PROGRAM: [&str; 4] = [
    "usr/lib/holdfast/services/admission/admission",
    "usr/lib/holdfast/services/network/network",
    "usr/lib/holdfast/services/update/update",
    "usr/lib/holdfast/services/uplink/uplink",
];
/// Bytes that change in it, or come in.
const CHANGED_BYTES: usize = 64;
const DAY_S: u64 = 86_400;
/// Bytes of a sector in `/proc/diskstats` (kernel document `admin-guide/iostats`).
const STAT_SECTOR_BYTES: u64 = 512;

/// A release beside the one before it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// What has changed.
    pub(super) what: &'static str,
    /// Fetched, in bytes: the smaller of the two behind it.
    pub(super) fetched: u64,
    /// By parts of the running slot and ranges of the release.
    pub(super) parts: u64,
    /// By the delta.
    pub(super) delta: u64,
    /// `xdelta3 -9` of the two slots.
    pub(super) xdelta3: u64,
    /// RAUC's adaptive method, computed: an index of 32 bytes a block of 4096, and the blocks that are not there.
    pub(super) adaptive: u64,
}

/// What updates cost.
#[derive(Debug, Clone, Serialize)]
pub(super) struct UpdateNumbers {
    /// A slot with the agents.
    pub(super) slot_bytes: usize,
    /// The same, compressed by DEFLATE as a whole.
    pub(super) compressed_bytes: usize,
    pub(super) steps: Vec<Step>,
    /// Most memory of the agents, in KiB.
    pub(super) update_peak_kib: u64,
    pub(super) uplink_peak_kib: u64,
    /// Bytes written to the disk for each byte of a new slot, with all that is kept beside it.
    pub(super) written_per_byte: f64,
}

/// What is changed for a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    InPlace,
    Shifted,
    Kernel,
    All,
}

const CHANGES: [(&str, Change); 4] = [
    ("64 bytes within one program", Change::InPlace),
    ("one program, shifted from its middle on", Change::Shifted),
    ("the kernel, built with other settings", Change::Kernel),
    ("the kernel and every file", Change::All),
];

pub(super) fn measure(workspace: &Workspace, builder: &ImageBuilder<'_>) -> Result<UpdateNumbers> {
    host::ensure(&[host::XDELTA3])?;
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let built = builder.build(&workspace.root.join(MANIFEST), &[], None)?;
    let old = of_image(&built.path)?;
    let board = Board::load(
        &workspace.root.join("images/boards"),
        &built.manifest.board,
        &workspace.root.join(MANIFEST),
    )?;
    let kernel = kernel::build(workspace, &board, builder.pins(), false, Purpose::Control)?;
    let kernel = workspace::read(&kernel.image)?;
    let signer = development_keys::signer(workspace, &built.manifest.board)?;
    let (mut steps, mut first) = (Vec::new(), None);
    for (what, change) in CHANGES {
        let path = scratch.path().join("next.img");
        let with_kernel = matches!(change, Change::Kernel | Change::All);
        let kernel = with_kernel.then(|| kernel.clone());
        let mut changed = Ok(());
        variant::with_kernel_and_root(&built.path, &path, &signer, kernel, |root| {
            changed = next_version(root).and_then(|()| apply(change, root));
        })?;
        changed?;
        let new = of_image(&path)?;
        steps.push(step(what, &old, &new, scratch.path())?);
        first = first.or(Some(new));
    }
    let first = first.context("no step was measured")?;
    let runtime = measure_device(workspace, &built.path, &first)?;
    Ok(UpdateNumbers {
        slot_bytes: old.bytes.len(),
        compressed_bytes: delta(&[], &old.bytes).len(),
        steps,
        update_peak_kib: runtime.update_peak_kib,
        uplink_peak_kib: runtime.uplink_peak_kib,
        written_per_byte: runtime.written_per_byte,
    })
}

/// Says that it is a later version, as every release does.
fn next_version(root: &mut Root) -> Result<()> {
    let version = "0.2.0".parse().ok().context("no version")?;
    let list_path = component::PATH.trim_start_matches('/');
    let mut list = ComponentList::decode(file(root, list_path)?)?;
    list.image.version = version;
    let config_path = format!("usr/lib/holdfast/services/update/{UPDATE_FILE}");
    let mut config = UpdateConfig::decode(file(root, &config_path)?)?;
    config.device.os = version;
    root.add(list_path, list.encode()?, false);
    root.add(config_path, config.encode()?, false);
    Ok(())
}

fn file<'a>(root: &'a Root, path: &str) -> Result<&'a [u8]> {
    let found = root.files().find(|(name, _, _)| *name == path);
    Ok(found.with_context(|| format!("the root has no {path}"))?.1)
}

fn apply(change: Change, root: &mut Root) -> Result<()> {
    let shift = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes.splice(middle..middle, [0xa5; CHANGED_BYTES]);
    };
    match change {
        Change::Kernel => {}
        Change::InPlace | Change::Shifted => {
            let mut program = file(root, PROGRAM[0])?.to_vec();
            if change == Change::Shifted {
                shift(&mut program);
            } else {
                let middle = program.len() / 2;
                let place = program.get_mut(middle..).and_then(|p| p.get_mut(..CHANGED_BYTES));
                place.context("the program is too short")?.fill(0xa5);
            }
            PROGRAM.iter().for_each(|name| root.add(*name, program.clone(), true));
        }
        Change::All => {
            // What is small is configuration, which must still be read.
            let large: Vec<_> = root
                .files()
                .filter(|(_, bytes, _)| bytes.len() > BLOCK_BYTES)
                .map(|(path, bytes, executable)| (path.to_owned(), bytes.to_vec(), executable))
                .collect();
            for (path, mut bytes, executable) in large {
                shift(&mut bytes);
                root.add(path, bytes, executable);
            }
        }
    }
    Ok(())
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn step(what: &'static str, old: &Released, new: &Released, scratch: &Path) -> Result<Step> {
    let parts = parts(old, new)?;
    let delta = wide(delta(&old.bytes, &new.bytes).len());
    let [from, to, patch] = ["old", "new", "patch"].map(|name| scratch.join(name));
    workspace::write(&from, &old.bytes)?;
    workspace::write(&to, &new.bytes)?;
    let mut command = Command::new("xdelta3");
    command.args(["-e", "-9", "-f", "-s"]).args([&from, &to, &patch]);
    holdfast_builder::process::output(&mut command)?;
    let xdelta3 = wide(workspace::read(&patch)?.len());
    let adaptive = adaptive(old, new)?;
    Ok(Step { what, fetched: parts.min(delta), parts, delta, xdelta3, adaptive })
}

/// The two parts of a slot.
fn split(released: &Released) -> Result<(&[u8], &[u8])> {
    let boot = usize::try_from(released.release.boot_bytes)?;
    released.bytes.split_at_checked(boot).context("no slot")
}

/// What `update` fetches of a release without a delta.
fn parts(old: &Released, new: &Released) -> Result<u64> {
    let fetched = |runs: &[Run], unit: usize| -> u64 {
        let fetched = runs.iter().filter(|run| matches!(run, Run::Fetched { .. }));
        wide(fetched.map(Run::count).fold(0, usize::saturating_add).saturating_mul(unit))
    };
    let (old_boot, old_root) = split(old)?;
    let (new_boot, new_root) = split(new)?;
    let chunks = |boot: &[u8]| boot.chunks(CHUNK_BYTES).map(reuse::chunk_hash).collect::<Vec<_>>();
    let boot = fetched(&reuse::runs(&chunks(new_boot), &chunks(old_boot)), CHUNK_BYTES);
    let leaves = |root: &[u8]| -> Result<(u64, Vec<[u8; DIGEST_BYTES]>)> {
        let data_bytes = verity::data_bytes(wide(root.len())).context("no tree")?;
        let (at, bytes) = reuse::leaves(data_bytes).context("no leaves")?;
        let level = root.get(usize::try_from(at)?..).and_then(|level| level.get(..bytes));
        let digests = reuse::digests(level.context("no leaves")?, data_bytes);
        Ok((wide(bytes), digests.context("no leaves")?))
    };
    let ((_, old_leaves), (bytes, new_leaves)) = (leaves(old_root)?, leaves(new_root)?);
    let root = fetched(&reuse::runs(&new_leaves, &old_leaves), BLOCK_BYTES);
    Ok(boot.saturating_add(bytes).saturating_add(root))
}

/// Blocks that are in neither image of the old release, and an index of all.
fn adaptive(old: &Released, new: &Released) -> Result<u64> {
    let mut bytes = 0u64;
    let ((old_boot, old_root), (new_boot, new_root)) = (split(old)?, split(new)?);
    for (old, new) in [(old_boot, new_boot), (old_root, new_root)] {
        let there: HashSet<_> = old.chunks(BLOCK_BYTES).map(|block| sha256(&[block])).collect();
        for block in new.chunks(BLOCK_BYTES) {
            let fetched = if there.contains(&sha256(&[block])) { 0 } else { wide(block.len()) };
            bytes = bytes.saturating_add(fetched).saturating_add(wide(DIGEST_BYTES));
        }
    }
    Ok(bytes)
}

/// What was seen on a device that takes a release.
struct OnDevice {
    update_peak_kib: u64,
    uplink_peak_kib: u64,
    written_per_byte: f64,
}

fn measure_device(workspace: &Workspace, image: &Path, next: &Released) -> Result<OnDevice> {
    const WITHIN: Duration = Duration::from_secs(300);
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let key = development_keys::release(workspace)?;
    let now = std::time::UNIX_EPOCH.elapsed().context("no time")?.as_secs();
    for name in ["os", "oem"] {
        let roles = Roles { keys: Role::ALL.map(|role| (role, (vec![key.public()], 1))).into() };
        let mut root = Repository::first_root(&roles, 400 * DAY_S, now)?;
        root.sign(&key);
        let mut repository = Repository::create(&directory.path().join(name), &root)?;
        let mut files = BTreeMap::new();
        if name == "os" {
            // No delta, and a kernel of which nothing is there: the whole is fetched. Nobody starts it.
            let mut next = next.clone();
            let kernel = usize::try_from(next.release.boot_bytes).context("too large")?;
            next.bytes.iter_mut().take(kernel).for_each(|byte| *byte ^= 0xff);
            next.name_kernel()?;
            let Released { path, bytes, release } = next;
            files.insert(path.clone(), repository.add_file(&path, &bytes, release)?);
        }
        let mut draft = repository.next_targets(files, 100 * DAY_S, now)?;
        draft.sign(&key);
        repository.publish(&draft, std::slice::from_ref(&key), Lifetimes::default(), now)?;
    }
    let authority = development_keys::authority(workspace)?;
    let served = directory.path().to_owned();
    let server =
        WebServer::start(authority.certify(&[&SERVER.ip().to_string()])?, 0, move |asked| {
            web_server::file_below(&served, asked)
        })?;
    let relay = relay_command(server.port).context("cannot name this program")?;
    let networks = vec![Network::Servers { forwards: Vec::new(), servers: vec![(SERVER, relay)] }];
    let mut guest = Machine { networks, ..Machine::new(image, 64) }.start(None)?;
    guest.wait("update: os: fetching release", BOOT)?;
    let before = written(&guest.probe.ask("read /proc/diskstats", BOOT)?)?;
    let (mut update, mut uplink, mut after) = (0, 0, before);
    let started = Instant::now();
    while !guest.console.text().contains("update: os: release 0.2.0 is staged") {
        ensure!(started.elapsed() < WITHIN, "no release was staged:\n{}", guest.console.tail());
        // It may reboot in the middle of an answer: what was seen before counts.
        let Ok(status) = guest.probe.ask("status", BOOT) else { break };
        let peak = |name: &str| {
            let line = status.lines().find(|line| line.contains(&format!("name={name} ")));
            whole(line.unwrap_or_default(), r"peak_kib=(\d+)")
        };
        (update, uplink) = (update.max(peak("update")?), uplink.max(peak("uplink")?));
        let Ok(stat) = guest.probe.ask("read /proc/diskstats", BOOT) else { break };
        after = after.max(written(&stat)?);
        thread::sleep(Duration::from_millis(50));
    }
    // In thousandths: whole numbers stay exact.
    let written = after.saturating_sub(before).saturating_mul(1000);
    let thousandths = written.checked_div(wide(next.bytes.len())).unwrap_or(0);
    Ok(OnDevice {
        update_peak_kib: update,
        uplink_peak_kib: uplink,
        written_per_byte: f64::from(u32::try_from(thousandths)?) / 1e3,
    })
}

/// Bytes written to the disk: the seventh number behind its name. Of a disk and its partitions, the disk has the most.
fn written(stat: &str) -> Result<u64> {
    let sectors = stat.lines().map(|line| line.split_whitespace().nth(9).unwrap_or_default());
    let sectors = sectors.filter_map(|sectors| sectors.parse::<u64>().ok()).max();
    Ok(sectors.context("no disk has written anything")?.saturating_mul(STAT_SECTOR_BYTES))
}

/// Its part of docs/numbers.md.
pub(super) fn table(numbers: &UpdateNumbers) -> String {
    let mut text = format!(
        "\nWith the update agents as well a slot has {} bytes, {} when compressed by DEFLATE as a whole. What is fetched \
         for the\nnext release, as a share of the latter: the smaller of the parts that a device lacks and of the delta of \
         the release\nthat it runs. Beside it `xdelta3 -9` on the same two slots, and RAUC's adaptive method, computed: an index of 32 \
         bytes\na block of 4096 and the blocks that the old images lack. Metadata of a few KiB come on top of each. The aim for \
         one\nprogram is 10 %.\n\n\
         | what has changed | fetched | by parts | by delta | xdelta3 | adaptive |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        numbers.slot_bytes, numbers.compressed_bytes
    );
    // Writing to a string cannot fail.
    for step in &numbers.steps {
        let share = |bytes: u64| {
            let tenths = bytes.saturating_mul(1000).checked_div(wide(numbers.compressed_bytes));
            let tenths = tenths.unwrap_or(0);
            format!("{bytes} ({}.{} %)", tenths / 10, tenths % 10)
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            step.what,
            share(step.fetched),
            share(step.parts),
            share(step.delta),
            share(step.xdelta3),
            share(step.adaptive)
        );
    }
    let _ = writeln!(
        text,
        "\nWhile a release is taken, `update` has used {} KiB of memory at most and `uplink` {} KiB. {} bytes are written to \
         the disk\nfor each byte of a slot, with all that is kept beside it.",
        numbers.update_peak_kib, numbers.uplink_peak_kib, numbers.written_per_byte
    );
    text
}
