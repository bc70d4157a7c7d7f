//! A device takes releases of the OS and of its apps by itself, and gives up those that fail.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::packages::{hello, with_files_of};
use crate::harness::partitions::debugfs;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Needs, Suite, check, checks};
use crate::update::scene::{DAY_S, Scene, WAIT, floor_of_clock, now};
use anyhow::{Context, Result, ensure};
use holdfast_images::disk::{Layout, SECTOR_BYTES};
use holdfast_images::key::PrivateKey;
use holdfast_images::{root, show};
use holdfast_lifecycle::slots::{Phase, Slot, SlotState, Status};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::web_server::WebAnswer;
use holdfast_release::RepositoryName;
use holdfast_release::config::{UPLINK_FILE, UplinkConfig};
use holdfast_release::metadata::Role;
use holdfast_repository::{Lifetimes, Released, Repository, Roles};
use holdfast_types::ComponentId;
use std::fs;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.sequence(
        move || Life::begin(artefacts),
        checks![
            a_device_takes_a_release_by_itself,
            a_release_raises_the_floor_and_the_clocks_floor,
            an_app_is_updated_apart_from_the_os,
            an_app_that_crashes_gives_way_to_its_former_package,
            a_device_follows_a_rotation_of_all_keys,
            releases_of_the_os_and_of_an_app_are_taken_one_after_the_other
        ],
    );
    check!(
        suite.with(Needs::Peer),
        a_release_that_crashes_falls_back_and_is_not_taken_again(artefacts)
    );
    check!(suite.with(Needs::Peer), a_release_that_cannot_reach_the_service_falls_back(artefacts));
    check!(suite.with(Needs::Peer), a_release_that_fills_the_disk_falls_back(artefacts));
    check!(suite, an_app_puts_a_reboot_off_until_its_work_is_done(artefacts));
    check!(suite, an_app_that_floods_the_update_agent_stops_no_update(artefacts));
    check!(suite, a_release_on_a_card_is_verified_and_taken(artefacts));
    check!(suite, a_write_that_the_medium_loses_is_noticed_before_the_reboot(artefacts));
}

/// A device over several releases.
struct Life {
    scene: Scene,
    guest: Guest,
}

impl Life {
    fn begin(artefacts: &Artefacts) -> Result<Self> {
        let scene = Scene::new(artefacts)?;
        let mut guest = scene.machine(&scene.image())?.start(None)?;
        guest.wait("update: oem: nothing new", BOOT)?;
        guest.wait_anywhere("init: slot a committed", WAIT)?;
        Ok(Self { scene, guest })
    }
}

fn a_device_takes_a_release_by_itself(life: &mut Life) -> Result<()> {
    let release = life.scene.os("0.2.0", 1, |_, _| Ok(()))?;
    let hash = release.release.root_hash.clone();
    life.scene.publish("os", &[release])?;
    life.guest.wait("update: os: fetching release 0.2.0, [0-9]+ bytes", WAIT)?;
    life.guest.wait("init: status: slot=a phase=committed next=a tries_a=3 tries_b=0 ", WAIT)?;
    life.guest.wait("init: status: slot=a phase=staged next=b ", WAIT)?;
    life.guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    life.guest.wait("init: rebooting", WAIT)?;
    life.guest.wait("init: image update 0.2.0 for ", BOOT)?;
    life.guest.wait("init: status: slot=b phase=trying next=b ", BOOT)?;
    let status = Scene::committed(&mut life.guest)?;
    ensure!((status.slot, status.phase) == (Slot::B, Phase::Committed), "{status:?}");
    ensure!(status.version == "0.2.0", "{status:?}");
    life.guest.wait("update: os: the new release is good", WAIT)?;
    let line = life.guest.probe.ask("read /proc/cmdline", WAIT)?;
    ensure!(line.contains(&hash), "{hash} does not run: {line}");
    Ok(())
}

/// What lies in the other slot is below the floor now, and is not booted again.
fn a_release_raises_the_floor_and_the_clocks_floor(life: &mut Life) -> Result<()> {
    let status = Status::last_in(&life.guest.console.text())?;
    ensure!((status.rollback_index, status.floor) == (1, 1), "{status:?}");
    let unbootable = SlotState { tries: 0, good: false };
    ensure!(status.boot_state.is_some_and(|state| state.a == unbootable), "{status:?}");
    let floor = floor_of_clock(&mut life.guest)?;
    // The targets were signed a moment ago, long after the image was built.
    let (at, latest) = (now()?, now()?.saturating_sub(floor));
    ensure!(floor <= at && latest < 3600, "the floor of the clock is {floor}, at {at}");
    Ok(())
}

fn an_app_is_updated_apart_from_the_os(life: &mut Life) -> Result<()> {
    let release = life.scene.app("1.1.0", 2, |_| {})?;
    life.scene.publish("oem", &[release])?;
    life.guest.wait("release 1.1.0 is staged", WAIT)?;
    life.guest.wait("init: hello: package 1.1.0, rollback index 2, uid 1001, on trial", BOOT)?;
    life.guest.wait(r"init: slot [ab] committed", WAIT)?;
    life.guest.wait("init: hello: its new package is committed", WAIT)?;
    life.guest.wait("the new release is good", WAIT)?;
    let files = life.guest.probe.ask("list /apps", WAIT)?;
    let id = hello()?;
    for name in [format!("{id}.package"), format!("{id}.previous")] {
        ensure!(files.contains(&name), "no {name} in {files}");
    }
    ensure!(!files.contains("trial") && !files.contains("unfinished"), "{files}");
    Ok(())
}

fn an_app_that_crashes_gives_way_to_its_former_package(life: &mut Life) -> Result<()> {
    let program = fs::read(life.scene.artefacts.programs.join("crash-loop"))?;
    let release = life.scene.app("1.2.0", 3, |files| files.add("bin/app", program, true))?;
    life.scene.publish("oem", &[release])?;
    life.guest.wait("release 1.2.0 is staged", WAIT)?;
    life.guest.wait("init: hello: package 1.2.0, rollback index 3, uid 1001, on trial", BOOT)?;
    life.guest.wait("init: not healthy: hello does not stay ready", WAIT)?;
    life.guest.wait("init: hello: its new package is given up", WAIT)?;
    // Index 2 is not below the floor: 3 was never committed.
    life.guest
        .wait(r"init: hello: package [01]\.1\.0, rollback index [02], uid 1001 event=", BOOT)?;
    life.guest.wait("the new release has failed and is not tried again", WAIT)?;
    life.guest.wait("update: oem: nothing new in version [0-9]+", WAIT)?;
    Ok(())
}

fn a_device_follows_a_rotation_of_all_keys(life: &mut Life) -> Result<()> {
    let before = life.scene.key.clone();
    let after = PrivateKey::from_secret(&[68; 32], true);
    let roles = Role::ALL.map(|role| (role, (vec![after.public()], 1)));
    for name in ["os", "oem"] {
        let mut repository = Repository::open(&life.scene.repository(name))?;
        let keys = Roles { keys: roles.clone().into() };
        let mut root = repository.next_root(&keys, 400 * DAY_S, now()?)?;
        root.sign(&before);
        root.sign(&after);
        repository.rotate(&root, std::slice::from_ref(&after), Lifetimes::default(), now()?)?;
    }
    life.scene.key = after;
    let release = life.scene.os("0.4.0", 1, |_, _| Ok(()))?;
    life.scene.publish("os", &[release])?;
    life.guest.wait("update: os: release 0.4.0 is staged", WAIT)?;
    life.guest.wait("init: image update 0.4.0 for ", BOOT)?;
    life.guest.wait("update: os: the new release is good", WAIT)?;
    Ok(())
}

fn releases_of_the_os_and_of_an_app_are_taken_one_after_the_other(life: &mut Life) -> Result<()> {
    let (os, app) =
        (life.scene.os("0.5.0", 2, |_, _| Ok(()))?, life.scene.app("1.3.0", 4, |_| {})?);
    life.scene.publish("oem", &[app])?;
    life.scene.publish("os", &[os])?;
    // Which comes first is left to the moment of the looks; each is tried alone.
    for _ in 0..2 {
        life.guest.wait("release [0-9.]+ is staged", WAIT)?;
        life.guest.wait("init: rebooting", WAIT)?;
        life.guest.wait(r"init: slot [ab] committed", BOOT)?;
        life.guest.wait("the new release is good", WAIT)?;
    }
    life.guest.wait("update: os: nothing new", WAIT)?;
    life.guest.wait("update: oem: nothing new", WAIT)?;
    let text = life.guest.console.text();
    for line in ["init: hello: package 1.3.0, rollback index 4", "init: image update 0.5.0"] {
        ensure!(text.contains(line), "no `{line}`:\n{}", life.guest.console.tail());
    }
    Ok(())
}

/// A release that is taken, and fails three times for this reason. On the guest's own clock, since that takes
/// its time; then on the host's again, since servers do not keep up with the other.
fn falls_back(scene: &Scene, release: Released, why: &str, becomes: &str) -> Result<()> {
    scene.publish("os", &[release])?;
    let machine = scene.machine(&scene.image())?;
    let mut guest = machine.start(None)?;
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    guest.wait("init: rebooting", WAIT)?;
    let counted = Machine { counted: true, ..machine.clone() };
    let mut guest = counted.start_again(guest)?;
    for _ in 0..3 {
        guest.wait("init: image update 0.2.0 for ", BOOT)?;
        guest.wait(why, BOOT)?;
    }
    guest.wait("init: image update 0.1.0 for ", BOOT)?;
    guest.wait("init: slot a committed", BOOT)?;
    guest.wait_anywhere(becomes, BOOT)?;
    let mut guest = machine.start_again(guest)?;
    guest.wait("update: os: nothing new in version 2", BOOT)?;
    Ok(())
}

/// The network service ends as soon as it runs.
fn a_release_that_crashes_falls_back_and_is_not_taken_again(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let program = fs::read(artefacts.programs.join("crash-loop"))?;
    let release = scene.os("0.2.0", 1, |root, _| {
        root.add("usr/lib/holdfast/services/network/network", program, true);
        Ok(())
    })?;
    let becomes = "update: os: the new release has failed and is not tried again";
    falls_back(&scene, release, "init: not healthy: network does not stay ready", becomes)
}

/// An app that writes until nothing goes any more. The one before it runs again, and what others have stored is
/// there.
fn a_release_that_fills_the_disk_falls_back(artefacts: &Artefacts) -> Result<()> {
    const KEPT: &str = "what somebody else has stored";
    let scene = Scene::new(artefacts)?;
    let scratch = Scratch::of(&scene.image())?;
    let note = scene.path("note");
    fs::write(&note, KEPT)?;
    debugfs(scratch.path(), "data", &format!("write {} note", note.display()))?;
    let program = fs::read(artefacts.programs.join("disk-filler"))?;
    let release = scene.app("1.1.0", 2, |files| files.add("bin/app", program, true))?;
    scene.publish("oem", &[release])?;
    let machine = scene.machine(scratch.path())?;
    let mut guest = machine.start(None)?;
    guest.wait("release 1.1.0 is staged", BOOT)?;
    guest.wait("init: rebooting", WAIT)?;
    let mut guest = Machine { counted: true, ..machine.clone() }.start_again(guest)?;
    guest.wait("hello: the disk is full: (No space left|Quota exceeded)", BOOT)?;
    guest.wait("init: not healthy: hello does not stay ready", BOOT)?;
    guest.wait("init: hello: its new package is given up", BOOT)?;
    guest.wait("init: hello: package 0.1.0, rollback index 0", BOOT)?;
    guest.wait_anywhere("the new release has failed and is not tried again", BOOT)?;
    ensure!(debugfs(&guest.disk(), "data", "cat note")?.contains(KEPT), "what was stored is lost");
    let mut guest = machine.start_again(guest)?;
    guest.wait("update: oem: nothing new in version 2", BOOT)?;
    Ok(())
}

/// Healthy in every other way: its `uplink` asks a server that its plan does not grant.
fn a_release_that_cannot_reach_the_service_falls_back(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let path = format!("usr/lib/holdfast/services/uplink/{UPLINK_FILE}");
    let data = show::read_root(&scene.image())?;
    let mut config = UplinkConfig::decode(&root::read_file(&data, &format!("/{path}"))?)?;
    for (_, url) in &mut config.servers {
        *url = "https://203.0.113.81/os".to_owned();
    }
    let encoded = config.encode()?;
    let release = scene.os("0.2.0", 1, |root, _| {
        root.add(path, encoded, false);
        Ok(())
    })?;
    // Whoever drops packets does the same to any release: it waits, and is not failed for good.
    let becomes =
        "update: os: the new release did not reach the service, and is tried again in 60 minutes";
    falls_back(&scene, release, "init: not healthy: update does not agree to the release", becomes)
}

/// An app that asks for half an hour, and says after twenty seconds that it is done.
fn an_app_puts_a_reboot_off_until_its_work_is_done(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?.on("deferral");
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    guest.wait("update: os: release 0.2.0 is staged", BOOT)?;
    guest.wait("update-deferral: version 0.2.0 of os waits for a reboot", WAIT)?;
    guest.wait("update-deferral: the work is done", WAIT)?;
    let text = guest.console.text();
    ensure!(text.contains("update: update-deferral puts the reboot off by 30 minutes"), "{text}");
    ensure!(!text.contains("init: rebooting"), "it was not put off: {}", guest.console.tail());
    guest.wait("init: rebooting", WAIT)?;
    guest.wait("init: image deferral 0.2.0 for ", BOOT)?;
    guest.wait("init: slot b committed", WAIT)?;
    Ok(())
}

/// The same app in an attacker's hand.
fn an_app_that_floods_the_update_agent_stops_no_update(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?.on("deferral");
    let id = ComponentId::parse("8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a05").context("no id")?;
    let program = fs::read(artefacts.programs.join("update-flood"))?;
    let scratch = with_files_of(&scene.image(), id, |files| files.add("bin/app", program, true))?;
    let mut guest = scene.machine(scratch.path())?.start(None)?;
    guest.wait("update-deferral: round 16", BOOT)?;
    let status = guest.probe.ask("status", WAIT)?;
    let line = status.lines().find(|line| line.contains("name=update ")).context("no agent")?;
    let peak = line.split("peak_kib=").nth(1).and_then(|rest| rest.split(' ').next());
    let peak: u32 = peak.context("no peak")?.parse()?;
    ensure!(peak < 4096, "the agent was made to use {peak} KiB");
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    // Ten seconds for what apps say, and no more.
    guest.wait("init: image deferral 0.2.0 for ", WAIT)?;
    guest.wait("init: slot b committed", WAIT)?;
    let text = guest.console.text();
    ensure!(!text.contains("update will be started again"), "the agent did not live through it");
    Ok(())
}

/// A sector in the middle of the other slot's root takes no write, and the card says nothing.
fn a_write_that_the_medium_loses_is_noticed_before_the_reboot(artefacts: &Artefacts) -> Result<()> {
    const MIDDLE: u64 = 1 << 20;
    let scene = Scene::new(artefacts)?;
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    let middle = usize::try_from(release.release.boot_bytes.saturating_add(MIDDLE))?;
    ensure!(release.bytes.get(middle..).is_some_and(|rest| rest.len() > 512), "too short");
    scene.publish("os", &[release])?;
    let layout = Layout::read(&mut fs::File::open(scene.image())?)?;
    let sector = layout.partition("root-b")?.start.saturating_add(MIDDLE) / SECTOR_BYTES;
    let machine = scene.machine(&scene.image())?;
    let mut guest = Machine { lost_sectors: vec![sector], ..machine }.start(None)?;
    guest.wait("the medium has something else than was released|cannot write root", BOOT)?;
    ensure!(!guest.console.text().contains("is staged"), "{}", guest.console.tail());
    Ok(())
}

/// No server answers; a card has the releases. The first one lies.
fn a_release_on_a_card_is_verified_and_taken(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let release = scene.os("0.2.0", 1, |_, _| Ok(()))?;
    scene.publish("os", &[release])?;
    scene.lie(|_, _| WebAnswer::Status(503));
    let card = scene.path("card.img");
    let repositories =
        [RepositoryName::Os, RepositoryName::Oem].map(|name| (name, scene.repository(name.name())));
    holdfast_repository::bundle(&repositories, &card)?;
    // A card has a size that cards have.
    fs::File::options().write(true).open(&card)?.set_len(16 << 20)?;
    let changed = scene.path("changed.img");
    let mut bytes = fs::read(&card)?;
    let last = bytes.iter().rposition(|byte| *byte != 0).context("empty")?;
    *bytes.get_mut(last).context("empty")? ^= 1;
    fs::write(&changed, bytes)?;

    let machine = scene.machine(&scene.image())?;
    let mut guest = Machine { card: Some(changed), ..machine.clone() }.start(None)?;
    guest.wait("update: a card with releases", BOOT)?;
    guest.wait("the hashes of its blocks that came are not those of its root hash", WAIT)?;
    let mut guest = Machine { card: Some(card), ..machine }.start_again(guest)?;
    guest.wait("update: os: release 0.2.0 is staged", BOOT)?;
    guest.wait("init: image update 0.2.0 for ", BOOT)?;
    // The release before did not reach the service either.
    guest.wait("init: slot b committed", WAIT)?;
    Ok(())
}
