//! A device reports what fails on it, and its owner sees one crash group, by the name of a function.

use super::world::{
    CHECK_IN, TPM, World, authenticating, check_in_again, edit_manifest, status, with_app,
};
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{BOOT, WAIT};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Needs, Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::hex;
use holdfast_qemu::machine::Guest;
use object::Object;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// From a crash to its group in the service: `report` asks init every 15 s, an urgent upload waits for three minutes at most, and
/// `uplink` looks every half minute.
const REPORTED: Duration = Duration::from_secs(360);
/// Time on the host for a device that takes a release, starts again and checks in three times.
const LONGEST: Duration = Duration::from_secs(600);
/// Most memory of `report`, in KiB, its share of the program's pages included: it has used 208.
const MOST_KIB: u64 = 512;
/// What the kernel charges a group in advance on a processor, in KiB (64 pages, `MEMCG_CHARGE_BATCH` in its `mm/memcontrol.c`): a peak has it of both
/// processors, whatever is used.
const CHARGED_IN_ADVANCE_KIB: u64 = 256;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, a_crash_is_a_group_with_the_name_of_its_function(artefacts));
    check!(suite, what_the_owner_switches_off_is_neither_recorded_nor_sent(artefacts));
    check!(
        suite.with(Needs::Light).within(LONGEST),
        what_has_become_of_a_release_is_reported(artefacts)
    );
}

fn text<'a>(group: &'a Value, field: &str) -> &'a str {
    group.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn a_crash_is_a_group_with_the_name_of_its_function(artefacts: &Artefacts) -> Result<()> {
    let world = World::of(artefacts, "reports")?;
    let image = world.image(|_| Ok(()))?;
    world.add_release(image.path())?;
    let symbols = artefacts.image("reports").with_extension("symbols").join("crash");
    let program = fs::read(&symbols).with_context(|| symbols.display().to_string())?;
    let build_id = object::File::parse(program.as_slice())?.build_id()?.context("no build id")?;
    world.service.add_symbols(&hex(build_id), &program)?;
    let mut guest = world.machine(image.path(), TPM)?.start(None)?;
    world.claim(&mut guest, "tpm", "emulated")?;
    // The device's own certificate is what it reports with.
    guest.wait("identity: checked in: Full, [12] certificates", CHECK_IN)?;
    guest.wait_anywhere("crash ended with signal 11", BOOT)?;
    let crash = reported(&world, &guest, "crash")?;
    let seconds = since_it_could_be_told(&mut guest)?;
    ensure!(seconds <= REPORTED.as_secs_f64(), "from crash to group: {seconds} s of guest time");
    ensure!(text(&crash, "kind") == "signal 11", "{crash:#}");
    // It overflows its stack while it copies into its frame; the copying may be a function of its own.
    let functions = [text(&crash, "at"), text(&crash, "called_from")];
    ensure!(functions.iter().any(|name| name.contains("descend")), "{crash:#}");
    ensure!(crash.get("devices").and_then(Value::as_u64) == Some(1), "{crash:#}");
    let panic = reported(&world, &guest, "panicking")?;
    ensure!(text(&panic, "kind") == "signal 6", "{panic:#}");
    ensure!(text(&panic, "at").starts_with("panic "), "{panic:#}");
    guest.wait_anywhere("silent ended with signal 6", BOOT)?;
    let hung = reported(&world, &guest, "silent")?;
    ensure!(text(&hung, "kind") == "watchdog", "{hung:#}");
    // The crash loop goes on, and is the same group; nothing of the device is the worse for reporting it.
    ensure!(crash.get("events").and_then(Value::as_u64) > Some(0), "{crash:#}");
    let memory_kib = status(&mut guest, "report", "memory_kib")?;
    let peak_kib = status(&mut guest, "report", "peak_kib")?;
    let restarts = status(&mut guest, "report", "restarts")?;
    let is_small = memory_kib <= MOST_KIB && peak_kib <= MOST_KIB + CHARGED_IN_ADVANCE_KIB;
    ensure!(
        is_small && restarts == 0,
        "{memory_kib} KiB, at its peak {peak_kib}, {restarts} restarts"
    );
    guest.wait("hello: heartbeat", BOOT)?;
    Ok(())
}

/// Seconds of guest time from the crash to now; from the first check-in, where that came after it.
fn since_it_could_be_told(guest: &mut Guest) -> Result<f64> {
    guest.wait("hello: heartbeat", BOOT)?;
    let text = guest.console.text();
    let time = |mut lines: std::str::Lines<'_>, words: &str| -> Result<f64> {
        let line = lines.find(|line| line.contains(words)).context("no such line")?;
        let time = line.trim_start_matches('[').split(']').next().unwrap_or_default();
        time.trim().parse().with_context(|| line.to_owned())
    };
    let crashed = time(text.lines(), "crash ended with signal 11")?;
    let certified = time(text.lines(), "identity: checked in: Full")?;
    let beat = text.lines().rfind(|line| line.contains("hello: heartbeat")).context("no beat")?;
    Ok(time(beat.lines(), "hello: heartbeat")? - crashed.max(certified))
}

/// The one group of a component that fails, once it is there.
fn reported(world: &World, guest: &Guest, component: &str) -> Result<Value> {
    let begun = Instant::now();
    let component = format!("service:{component}");
    loop {
        let groups = world.service.crashes()?;
        let mut of_component = groups.iter().filter(|group| text(group, "component") == component);
        if let Some(group) = of_component.next() {
            ensure!(of_component.next().is_none(), "more than one group: {groups:#?}");
            return Ok(group.clone());
        }
        ensure!(
            begun.elapsed() < guest.scaled(REPORTED),
            "no group of {component}, but {groups:#?}\nthe service says:\n{}\nthe device says:\n{}",
            world.service.log(),
            guest.console.text()
        );
        thread::sleep(Duration::from_millis(500));
    }
}

/// A device of whose app the owner's word `off` comes, which it may say or not; its image is there for as long as it runs.
fn device_with_a_word(world: &World, image: &Path, may_say: bool) -> Result<(Guest, Scratch)> {
    let image = with_app(image, authenticating()?, |files| {
        files.add("report-level", b"off".to_vec(), false);
        edit_manifest(files, |manifest| {
            let holdfast = manifest.pointer_mut("/Holdfast").and_then(Value::as_object_mut);
            let holdfast = holdfast.context("no section of its own")?;
            holdfast.insert("SetsReportLevel".to_owned(), may_say.into());
            Ok(())
        })
    })?;
    world.add_release(image.path())?;
    let mut guest = world.machine(image.path(), TPM)?.start(None)?;
    guest.wait_anywhere("authenticating: says that no more than off is reported", BOOT)?;
    world.claim(&mut guest, "tpm", "emulated")?;
    guest.wait("identity: checked in: Full, [12] certificates", CHECK_IN)?;
    Ok((guest, image))
}

/// An app says for the owner that nothing is reported. The control is the same app on the same device without the right to say so: its
/// reports come.
fn what_the_owner_switches_off_is_neither_recorded_nor_sent(artefacts: &Artefacts) -> Result<()> {
    for may_say in [false, true] {
        let world = World::of(artefacts, "reports")?;
        let image = world.image(|_| Ok(()))?;
        let (mut guest, _image) = device_with_a_word(&world, image.path(), may_say)?;
        if !may_say {
            guest.wait_anywhere("crash ended with signal 11", BOOT)?;
            reported(&world, &guest, "crash")?;
            let text = guest.console.text();
            ensure!(!text.contains("event=report_level_changed"), "it has said so all the same");
            continue;
        }
        let changed = "report: recording at level off from now on event=report_level_changed";
        guest.wait_anywhere(changed, BOOT)?;
        for _ in 0..3 {
            guest.wait("crash ended with signal 11", BOOT)?;
        }
        // `report` hears of them within 15 s, and what was recorded is sent after a check-in.
        thread::sleep(guest.scaled(Duration::from_secs(20)));
        for _ in 0..2 {
            check_in_again(&mut guest)?;
            guest.wait("identity: checked in: Full, [12] certificates", CHECK_IN)?;
            thread::sleep(guest.scaled(Duration::from_secs(10)));
        }
        let (crashes, reports) = (world.service.crashes()?, world.service.reports()?);
        ensure!(crashes.is_empty() && reports.is_empty(), "{crashes:#?} {reports:#?}");
        // After a start it holds before the app has said it again.
        guest.probe.tell("reboot")?;
        guest.wait_reset(BOOT)?;
        guest.wait("report: recording at level off event=report_started", BOOT)?;
    }
    Ok(())
}

/// A release that was committed, as the service shows it: a word of the update agent's, by init and `report`.
fn what_has_become_of_a_release_is_reported(artefacts: &Artefacts) -> Result<()> {
    let world = World::of(artefacts, "reports")?;
    let image = world.image(|_| Ok(()))?;
    world.add_release(image.path())?;
    let mut guest = world.machine(image.path(), TPM)?.start(None)?;
    world.claim(&mut guest, "tpm", "emulated")?;
    guest.wait("identity: checked in: Full, [12] certificates", CHECK_IN)?;
    let release = world.scene.os("0.2.0", 1, |root, _| world.configure(root))?;
    world.service.add_release(&release)?;
    world.scene.publish("os", &[release])?;
    guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    guest.wait("init: image reports 0.2.0 for ", BOOT)?;
    guest.wait_anywhere("init: slot b committed", WAIT)?;
    // It is told and heard within half a minute.
    thread::sleep(guest.scaled(Duration::from_secs(40)));
    check_in_again(&mut guest)?;
    let begun = Instant::now();
    loop {
        let reports = world.service.reports()?;
        let of_update = |report: &&Value| text(report, "event_category") == "OSUpdate";
        let told: Vec<&str> =
            reports.iter().filter(of_update).map(|r| text(r, "description")).collect();
        let committed = |said: &&str| {
            said.contains("outcome=update-committed")
                && said.contains("from=0.1.0")
                && said.contains("to=0.2.0")
        };
        if told.iter().any(committed) {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < guest.scaled(REPORTED),
            "of the release is told {told:?}\nthe service says:\n{}\nthe device says:\n{}",
            world.service.log(),
            guest.console.text()
        );
        thread::sleep(Duration::from_millis(500));
    }
}
