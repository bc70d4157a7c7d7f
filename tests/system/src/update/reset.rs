//! A device that its owner resets, with an order on a card.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::packages::hello;
use crate::harness::partitions::debugfs;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check};
use crate::update::scene::{Scene, WAIT, now};
use anyhow::{Context, Result, ensure};
use holdfast_images::disk::Layout;
use holdfast_lifecycle::slots::Status;
use holdfast_qemu::machine::Machine;
use holdfast_release::RepositoryName;
use holdfast_repository::Repository;
use holdfast_sandbox::reset_order::{Order, Partitions};
use std::fs;
use std::path::{Path, PathBuf};

/// What an app has stored, and nobody may find afterwards.
const SECRET: &[u8] = b"the owner's secret that must not be found again 4f1c9a";

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, a_device_is_reset_by_its_owner_and_updates_again(artefacts));
    check!(suite, no_server_resets_a_device(artefacts));
    check!(suite, update_leaves_room_on_state(artefacts));
}

/// Orders a reset in the oem repository. Returns a card with it.
fn order(scene: &Scene, partitions: &str, number: u64) -> Result<PathBuf> {
    let mut repository = Repository::open(&scene.repository("oem"))?;
    let path = Order::path(Partitions::parse(partitions, ',').context("no partitions")?, number);
    let mut files = repository.targets();
    files.insert(path.clone(), repository.add_order(&path)?);
    scene.publish_files(&mut repository, files, now()?)?;
    let card = scene.path("reset.img");
    holdfast_repository::bundle(&[(RepositoryName::Oem, scene.repository("oem"))], &card)?;
    fs::File::options().write(true).open(&card)?.set_len(16 << 20)?;
    Ok(card)
}

/// Puts a file with the secret into a file system.
fn store(disk: &Path, partition: &str, scratch: &Path) -> Result<()> {
    fs::write(scratch, SECRET.repeat(200))?;
    debugfs(disk, partition, &format!("write {} secret", scratch.display())).map(drop)
}

fn secrets(disk: &Path) -> Result<usize> {
    Ok(fs::read(disk)?.windows(SECRET.len()).filter(|bytes| *bytes == SECRET).count())
}

fn a_device_is_reset_by_its_owner_and_updates_again(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let scratch = Scratch::of(&scene.image())?;
    for partition in ["state", "apps", "data"] {
        store(scratch.path(), partition, &scene.path("secret"))?;
    }
    ensure!(secrets(scratch.path())? >= 600, "nothing to be erased");
    // A release that raises the floor, so that there is something that must come through.
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    let app = scene.app("1.1.0", 2, |_| {})?;
    scene.publish_next("oem", &app)?;
    let machine = scene.machine(scratch.path())?;
    let mut guest = machine.start(None)?;
    for line in ["init: image update 0.2.0 for", "init: hello: its new package is committed"] {
        guest.wait_anywhere(line, WAIT)?;
    }
    guest.wait("update: oem: nothing new", WAIT)?;

    let card = order(&scene, "state,apps,data", 1)?;
    let with_card = Machine { card: Some(card), ..machine.clone() };
    let mut guest = with_card.start_again(guest)?;
    guest.wait("init: the owner resets the device: data-apps-state", WAIT)?;
    guest.wait("init: partition data is erased", BOOT)?;
    // Cut off in the middle: it begins again.
    let mut guest = with_card.start_again(guest)?;
    for name in ["data", "apps", "state"] {
        guest.wait(&format!("init: partition {name} is erased"), BOOT)?;
    }
    guest.wait("init: the device is reset: data-apps-state", BOOT)?;
    // The package comes from the card or from the server; the order is not carried out again.
    for line in [
        "init: slot b committed",
        "update: a card with releases",
        "init: hello: package 1.1.0, rollback index 2",
        "init: hello: its new package is committed",
    ] {
        guest.wait_anywhere(line, WAIT)?;
    }
    // Of nothing, since there is no package: the whole, compressed.
    let pattern = format!("[0-9]+ of {} bytes were fetched", app.bytes.len());
    let line = guest.wait_anywhere(&pattern, WAIT)?;
    let fetched: usize = line.split(' ').next().unwrap_or_default().parse()?;
    ensure!(fetched < app.bytes.len(), "{line}");
    let resets = guest.console.text().matches("resets the device").count();
    ensure!(resets == 0, "it is reset again: {}", guest.console.tail());
    let status = Status::last_in(&guest.console.text())?;
    ensure!((status.version.as_str(), status.floor) == ("0.2.0", 1), "{status:?}");
    ensure!(secrets(&guest.disk())? == 0, "the secret is still there");
    let files = guest.probe.ask("list /apps", WAIT)?;
    ensure!(files.contains(&hello()?.to_string()), "no package of the app: {files}");

    // And it updates again, by what it had before.
    let release = scene.os("0.3.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    let mut guest = machine.start_again(guest)?;
    guest.wait("init: image update 0.3.0 for ", WAIT)?;
    guest.wait("init: slot a committed", WAIT)?;
    // Not below what it had before the reset.
    let old = scene.os("0.4.0", 0, |_, _| Ok(()))?;
    scene.publish("os", &[old])?;
    guest.wait("update: os: nothing new in version 4", WAIT)?;
    Ok(())
}

/// However much the agent writes there, init has room on `state` for floors and uids.
fn update_leaves_room_on_state(artefacts: &Artefacts) -> Result<()> {
    /// Of the agent, in every image.
    const UID: &str = "103";
    let scene = Scene::new(artefacts)?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    guest.wait_anywhere("init: update is ready", BOOT)?;
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    guest.probe.tell("power-off")?;
    guest.wait_end(BOOT)?;
    // Id, then used, soft and hard limit: of KiB, and of inodes.
    let quotas = debugfs(&guest.disk(), "state", "list_quota project")?;
    let quota = quotas.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let quota = quota.into_iter().find(|words| words.first() == Some(&UID));
    let quota = quota.with_context(|| format!("no quota of {UID}: {quotas}"))?;
    let number =
        |at: usize| -> Result<u64> { Ok(quota.get(at).with_context(|| quotas.clone())?.parse()?) };
    let mut file = fs::File::open(guest.disk())?;
    let partition = Layout::read(&mut file)?.partition("state")?.length;
    let (kib, inodes) = (number(3)?, number(6)?);
    ensure!(kib > 0 && kib.saturating_add(1024) <= partition / 1024, "{quotas}");
    ensure!(inodes > 0, "{quotas}");
    Ok(())
}

fn no_server_resets_a_device(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    order(&scene, "state,apps,data", 2)?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    guest.wait_anywhere("init: slot a committed", BOOT)?;
    guest.wait("update: oem: nothing new in version 2", WAIT)?;
    guest.wait("update: oem: nothing new in version 2", WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("resets the device"), "{}", guest.console.tail());
    Ok(())
}
