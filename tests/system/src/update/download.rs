//! How much of a release a device fetches, and how it goes on.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::packages::{hello, package_of};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check};
use crate::update::scene::{AGENT, Scene, WAIT, with_foreign_kernel};
use anyhow::{Context, Result, ensure};
use holdfast_images::{root, show, variant};
use holdfast_qemu::web_server::WebAnswer;
use holdfast_release::config::{UPDATE_FILE, UPLINK_FILE, UpdateConfig, UplinkConfig};
use holdfast_repository::{Released, of_image, of_package};
use std::fs;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, a_download_goes_on_where_it_broke_off(artefacts));
    check!(suite, what_a_device_has_of_a_release_is_not_fetched(artefacts));
    check!(suite, a_release_comes_by_a_delta_where_that_is_smaller(artefacts));
    check!(suite, a_release_that_costs_too_much_waits(artefacts));
    check!(suite, a_device_fetches_no_more_in_a_day_than_it_may(artefacts));
}

/// A program in the image's root, one file of it: that of the product's own services has several names.
const PROGRAM: &str = "usr/lib/holdfast/services/probe/probe";

/// A release in which that program has a change in its text, which shifts what is compressed behind it; it, the
/// kernel's signature and little else are new.
fn with_changed_program(scene: &Scene) -> Result<Released> {
    let mut program = root::read_file(&show::read_root(&scene.image())?, &format!("/{PROGRAM}"))?;
    let middle = program.len() / 2;
    program.get_mut(middle..).and_then(|rest| rest.get_mut(..64)).context("short")?.fill(0xa5);
    scene.os("0.2.0", 1, |root, _| {
        root.add(PROGRAM, program, true);
        Ok(())
    })
}

/// The package of hello that the image has, as a release.
fn packaged(scene: &Scene) -> Result<Released> {
    let path = scene.path("first.package");
    fs::write(&path, package_of(&scene.image(), hello()?)?)?;
    Ok(of_package(&path)?)
}

/// By parts of what runs.
fn what_a_device_has_of_a_release_is_not_fetched(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let release = with_changed_program(&scene)?;
    let length = u64::try_from(release.bytes.len())?;
    scene.publish("os", &[release])?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    let line = guest.wait("update: os: [0-9]+ of [0-9]+ bytes were fetched", BOOT)?;
    guest.wait("init: slot b committed", WAIT)?;
    let sent = scene.server.sent();
    let slots = sent.iter().filter(|(asked, _)| asked.path.ends_with(".slot"));
    let fetched: u64 = slots.map(|(_, bytes)| *bytes).sum();
    println!("{line}; {fetched} bytes were sent");
    // The aim: a tenth for one program.
    ensure!(fetched <= length / 10, "{fetched} of {length} bytes were fetched");
    Ok(())
}

/// The same release, and one of the app, each by a delta of what runs.
fn a_release_comes_by_a_delta_where_that_is_smaller(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    scene.publish("os", &[of_image(&scene.image())?])?;
    let release = with_changed_program(&scene)?;
    let length = u64::try_from(release.bytes.len())?;
    let delta = scene.publish_next("os", &release)?.context("no delta")?;
    let app = scene.app("1.1.0", 2, |_| {})?;
    scene.publish("oem", &[packaged(&scene)?])?;
    let app_delta = scene.publish_next("oem", &app)?.context("no delta of the app")?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    // Which comes first is left to the moment of the looks.
    let app_length = app.bytes.len();
    for line in [
        &format!("update: os: {delta} of {length} bytes were fetched"),
        "init: slot b committed",
        &format!("{app_delta} of {app_length} bytes were fetched"),
        "init: hello: package 1.1.0, rollback index 2, uid 1001, on trial",
    ] {
        guest.wait_anywhere(line, WAIT)?;
    }
    println!("{delta} of {length} bytes of the OS, {app_delta} of {app_length} of the app");
    let sent = scene.server.sent();
    let whole = |path: &str| path.ends_with(".slot") || path.ends_with(".package");
    ensure!(!sent.iter().any(|(asked, _)| whole(&asked.path)), "more than the delta was fetched");
    Ok(())
}

/// An image that may fetch no more than 64 KiB for one release.
fn a_release_that_costs_too_much_waits(artefacts: &Artefacts) -> Result<()> {
    const BYTES: u64 = 64 << 10;
    let scene = Scene::new(artefacts)?;
    let scratch = Scratch::of(&scene.image())?;
    let path = format!("{AGENT}/{UPDATE_FILE}");
    let data = show::read_root(&scene.image())?;
    let mut config = UpdateConfig::decode(&root::read_file(&data, &format!("/{path}"))?)?;
    config.most_bytes_a_release = Some(BYTES);
    let encoded = config.encode()?;
    variant::with_root(&scene.image(), scratch.path(), &artefacts.signer()?, |root| {
        root.add(path, encoded, false);
    })?;
    let release = with_changed_program(&scene)?;
    scene.publish("os", std::slice::from_ref(&release))?;
    let mut guest = scene.machine(scratch.path())?.start(None)?;
    guest.wait(
        "cannot install release 0.2.0 of os: it costs [0-9]+ bytes and one release may cost 65536",
        BOOT,
    )?;
    guest.wait("update: os: nothing new in version 2", WAIT)?;
    let sent = scene.server.sent();
    let slots = sent.iter().filter(|(asked, _)| asked.path.ends_with(".slot"));
    ensure!(slots.map(|(_, bytes)| *bytes).sum::<u64>() <= BYTES, "more was fetched");
    scene.publish("os", &[of_image(scratch.path())?])?;
    let delta = scene.publish_next("os", &release)?.context("no delta")?;
    ensure!(delta <= BYTES, "the delta has {delta} bytes");
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    Ok(())
}

/// The server ends each connection after a part of the slot, which has nothing of the running one.
fn a_download_goes_on_where_it_broke_off(artefacts: &Artefacts) -> Result<()> {
    const PART: usize = 1_000_000;
    let scene = Scene::new(artefacts)?;
    let release = with_foreign_kernel(scene.os("0.2.0", 1, |_, _| Ok(()))?)?;
    let length = release.bytes.len();
    scene.publish("os", &[release])?;
    scene.lie(|asked, answer| match answer {
        WebAnswer::File(bytes) if asked.path.ends_with(".slot") => WebAnswer::Cut(bytes, PART),
        answer => answer,
    });
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    guest.wait("update: the download resumes at byte [0-9]+: ", WAIT)?;
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    let sent = scene.server.sent();
    let slots = sent.iter().filter(|(asked, _)| asked.path.ends_with(".slot"));
    let total: u64 = slots.clone().map(|(_, bytes)| *bytes).sum();
    ensure!(slots.clone().any(|(asked, _)| asked.from > 0), "no range was asked for");
    // What was under way when a connection ended comes again, and no more.
    let most = u64::try_from(length.saturating_add(length / 5))?;
    ensure!(total <= most, "{total} bytes were sent for {length}");
    Ok(())
}

/// An image that may fetch one MiB a day.
fn a_device_fetches_no_more_in_a_day_than_it_may(artefacts: &Artefacts) -> Result<()> {
    const BYTES: u64 = 1 << 20;
    let scene = Scene::new(artefacts)?;
    let release = with_foreign_kernel(scene.os("0.2.0", 1, |_, _| Ok(()))?)?;
    scene.publish("os", &[release])?;
    let scratch = Scratch::of(&scene.image())?;
    let path = format!("usr/lib/holdfast/services/uplink/{UPLINK_FILE}");
    let data = show::read_root(&scene.image())?;
    let mut config = UplinkConfig::decode(&root::read_file(&data, &format!("/{path}"))?)?;
    config.bytes_a_day = BYTES;
    let encoded = config.encode()?;
    variant::with_root(&scene.image(), scratch.path(), &artefacts.signer()?, |root| {
        root.add(path, encoded, false);
    })?;
    let mut guest = scene.machine(scratch.path())?.start(None)?;
    guest.wait("update: the download resumes at byte [0-9]+: fetch failed: today's bytes", BOOT)?;
    guest.wait("update: os: .*: today's bytes are used up", WAIT)?;
    guest.wait("hello: heartbeat", WAIT)?;
    Ok(())
}
