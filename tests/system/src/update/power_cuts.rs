//! Power lost at any moment of an update of the OS and one of an app, by the real agents: on the card lie, at
//! every instant, a slot that boots, trusted metadata that are whole, and a package of the app.

use crate::boot::power_cuts::{self, Cycle, Numbers, SEED};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::packages::hello;
use crate::harness::partitions::on_partition;
use crate::harness::stager::Release;
use crate::harness::suite::{Needs, Suite, checks};
use crate::update::scene::{Scene, WAIT};
use anyhow::{Context, Result, ensure};
use holdfast_images::root;
use holdfast_images::{package, show};
use holdfast_lifecycle::slots::{Floor, Slot};
use holdfast_lifecycle::superblock;
use holdfast_lifecycle::uid_table::{self, UidTable};
use holdfast_qemu::machine::Machine;
use holdfast_release::Memory;
use holdfast_release::client::{Client, Trusted};
use holdfast_release::config::root_file;
use holdfast_sandbox::component::Stored;
use std::fs;
use std::path::Path;
use std::process::Command;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.with(Needs::Peer).share(
        move || Updates::record(artefacts),
        checks![
            no_cut_of_an_update_costs_a_slot,
            no_cut_of_an_update_costs_the_trusted_state_or_an_app,
            devices_that_were_cut_off_in_an_update_boot
        ],
    );
}

/// Everything that a device has written in two updates.
struct Updates {
    scene: Scene,
    cycle: Cycle,
}

impl Updates {
    fn record(artefacts: &Artefacts) -> Result<Self> {
        let scene = Scene::new(artefacts)?;
        let image = scene.image();
        let machine = Machine { log_writes: true, ..scene.machine(&image)? };
        let mut guest = machine.start(None)?;
        guest.wait("update: oem: nothing new", BOOT)?;
        guest.wait_anywhere("init: slot a committed", WAIT)?;
        let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
        let next = Release::of(&scene.built("0.2.0"))?;
        scene.publish("os", &[release])?;
        guest.wait("init: slot b committed", WAIT)?;
        guest.wait("update: os: the new release is good", WAIT)?;
        let app = scene.app("1.1.0", 2, |_| {})?;
        scene.publish("oem", &[app])?;
        guest.wait("init: hello: its new package is committed", WAIT)?;
        guest.wait("the new release is good", WAIT)?;
        let first = Release::of(&image)?;
        let cycle = Cycle::of_device(artefacts, &image, [&first, &next], &mut guest)?;
        Ok(Self { scene, cycle })
    }
}

/// As init does before it mounts.
fn mend(file_system: &Path) -> Result<()> {
    let mut bytes = fs::read(file_system)?;
    let place = bytes.get_mut(superblock::OFFSET..).and_then(|rest| rest.first_chunk_mut());
    let place = place.context("no superblock")?;
    if let Some(mended) = superblock::mended(place) {
        *place = mended;
        fs::write(file_system, bytes)?;
    }
    Ok(())
}

/// What a file system holds after its journal was replayed.
fn read_back(disk: &Path, partition: &str, names: &[String]) -> Result<Vec<Vec<u8>>> {
    on_partition(disk, partition, |path| {
        mend(path)?;
        let output = Command::new("/sbin/e2fsck").args(["-fy"]).arg(path).output()?;
        // 1: the journal was replayed, or something else was put right.
        let code = output.status.code().unwrap_or(8);
        ensure!(code < 4, "{partition} is damaged: {}", String::from_utf8_lossy(&output.stdout));
        let mut files = Vec::new();
        for name in names {
            let request = format!("cat {name}");
            let output = Command::new("/sbin/debugfs").args(["-R", &request]).arg(path).output()?;
            files.push(output.stdout);
        }
        Ok(files)
    })
}

fn no_cut_of_an_update_costs_a_slot(updates: &mut Updates) -> Result<()> {
    power_cuts::judge_all(&updates.cycle)
}

fn no_cut_of_an_update_costs_the_trusted_state_or_an_app(updates: &mut Updates) -> Result<()> {
    let data = show::read_root(&updates.scene.image())?;
    let agent = "/usr/lib/holdfast/services/update";
    let root_of = |name| root::read_file(&data, &format!("{agent}/{}", root_file(name)));
    let os_root = root_of(holdfast_release::RepositoryName::Os)?;
    let id = hello()?;
    let state: Vec<String> = ["/services/update/os.trusted", "/services/update/memory"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("/{}", uid_table::FILE_NAME), format!("/{}", Floor::FILE_NAME)])
        .collect();
    let packages = [Stored::Current, Stored::Previous, Stored::Trial(3), Stored::Trial(2)]
        .map(|stored| format!("/{}", stored.file(id)));
    let mut numbers = Numbers(SEED);
    let mut newest = 0usize;
    for _ in 0..updates.cycle.artefacts.effort.updates_read_back {
        let cut = updates.cycle.cut(&mut numbers);
        let disk = updates.cycle.disk_after(&cut)?;
        let look = || -> Result<usize> {
            let files = read_back(disk, "state", &state)?;
            let [trusted, memory, uids, floor] = files.as_slice() else {
                anyhow::bail!("files are missing");
            };
            // Each is there whole, or was not there yet.
            if !memory.is_empty() {
                Memory::decode(memory).context("memory")?;
            }
            if !uids.is_empty() {
                UidTable::decode(uids).context("identities")?;
            }
            if !floor.is_empty() {
                Floor::decode(floor).context("floor")?;
            }
            let mut kept = 0;
            if !trusted.is_empty() {
                let trusted = Trusted::decode(trusted).context("trusted metadata")?;
                let client = Client::begin(&os_root, trusted.clone(), 0)?;
                ensure!(*client.trusted() == trusted, "part of it does not verify");
                kept = 1;
            }
            let usable = read_back(disk, "apps", &packages)?;
            let sound = |bytes: &&Vec<u8>| package::read(bytes).is_ok();
            ensure!(usable.iter().filter(sound).count() > 0, "no package of the app is whole");
            for (name, bytes) in packages.iter().zip(&usable) {
                ensure!(bytes.is_empty() || sound(&bytes), "{name} is not whole");
            }
            Ok(kept)
        };
        newest = newest.saturating_add(look().with_context(|| updates.cycle.describe(&cut))?);
    }
    ensure!(newest > 0, "no cut came behind the first look");
    Ok(())
}

fn devices_that_were_cut_off_in_an_update_boot(updates: &mut Updates) -> Result<()> {
    let mut numbers = Numbers(SEED);
    for _ in 0..updates.cycle.artefacts.effort.updates_booted {
        let cut = updates.cycle.cut(&mut numbers);
        let disk = updates.cycle.disk_after(&cut)?;
        let machine = Machine { counted: true, ..updates.scene.machine(disk)? };
        let mut guest = machine.start(None)?;
        guest.wait("init: slot [ab] committed", BOOT).with_context(|| format!("{cut:?}"))?;
        guest.wait("hello: heartbeat", BOOT).with_context(|| format!("{cut:?}"))?;
        // Where a release is on trial by now, the slot that was committed is the one to come back to.
        let state = show::read_boot_state(&guest.disk())?.state().context("no boot state")?;
        ensure!(Slot::ALL.iter().any(|slot| state.of(*slot).good), "{cut:?} ends in {state:?}");
    }
    Ok(())
}
