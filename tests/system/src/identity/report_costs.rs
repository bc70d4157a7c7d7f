//! What failure reports cost a device: bytes of a slot, nothing where there is no service, and no time of others in a storm of crashes.

use super::world::MEMORY_MIB;
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, boot_probe};
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::show;
use holdfast_qemu::machine::Machine;
use std::path::Path;

/// Most bytes of a slot that are for a Security Service, `uplink`'s check-ins included.
const MOST_SLOT_BYTES: usize = 350 << 10;
/// Parts of a device that are for a Security Service alone.
const OF_THE_SERVICE: [&str; 2] = ["identity", "report"];
/// Beats of the app that behaves are so many seconds apart at most; it beats each second.
const BEATS_WITHIN_S: f64 = 1.5;
/// A component is started again so many seconds after its pause at most.
const LATE_S: f64 = 0.5;
/// Components of the image that end again and again.
const CRASHING: [&str; 3] = ["crash", "panicking", "silent"];
/// Guest time for which the storm is looked at. `report` asks each 15 seconds.
const STORM_S: f64 = 60.0;

pub(super) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, identity_and_report_take_at_most_350_kib_of_a_slot(artefacts));
    check!(suite, a_device_without_a_service_records_nothing(artefacts));
    check!(suite, a_crash_storm_delays_no_restart_and_no_beat(&artefacts.image("reports")));
}

/// Two images that differ in `[service]`, and in an app that authenticates, whose package is counted as well. Nothing is booted.
fn identity_and_report_take_at_most_350_kib_of_a_slot(artefacts: &Artefacts) -> Result<()> {
    let without = show::show(&artefacts.image("update"))?;
    let with = show::show(&artefacts.image("service"))?;
    for part in OF_THE_SERVICE {
        let path = format!("/services/{part}/");
        let has = |image: &show::Image| image.files.iter().any(|file| file.path.contains(&path));
        ensure!(has(&with) && !has(&without), "{part} is in neither of the images, or in both");
    }
    let bytes = with.slot_bytes.checked_sub(without.slot_bytes).context("it takes nothing")?;
    println!("{bytes} bytes of a slot are for a service");
    // Two programs, their stubs' filters and the connection of a service are not there for nothing.
    ensure!(bytes > 64 << 10, "the slot has {bytes} bytes more, which is not all of it");
    ensure!(bytes <= MOST_SLOT_BYTES, "the slot has {bytes} bytes more than without a service");
    Ok(())
}

/// No process, no directory and no notes on crashes; the control is an image with a service.
fn a_device_without_a_service_records_nothing(artefacts: &Artefacts) -> Result<()> {
    for (image, memory_mib, is_there) in [("update", 64, false), ("reports", MEMORY_MIB, true)] {
        let mut guest = boot_probe(&Machine::new(&artefacts.image(image), memory_mib))?;
        guest.wait_anywhere("hello: heartbeat", BOOT)?;
        if is_there {
            guest.wait_anywhere("report: recording at level health event=report_started", BOOT)?;
        }
        let status = guest.probe.ask("status", ANSWER)?;
        let kept = guest.probe.ask("list /state/services", ANSWER)?;
        for part in OF_THE_SERVICE {
            let runs = status.contains(&format!("name={part} "));
            ensure!(runs == is_there, "{image}, {part}:\n{status}");
            let keeps = kept.lines().any(|name| name == part);
            ensure!(keeps == is_there, "{image}, {part}:\n{kept}");
        }
        let text = guest.console.text();
        ensure!(text.contains("event=report_") == is_there, "{image}:\n{text}");
    }
    Ok(())
}

/// Parts of a device crash, panic and hang again and again, and `report` asks for each end: in guest time, of which the host's load takes
/// nothing, an app beats each second, and each is started again when it is to be.
fn a_crash_storm_delays_no_restart_and_no_beat(image: &Path) -> Result<()> {
    let machine = Machine { counted: true, ..Machine::new(image, MEMORY_MIB) };
    let mut guest = machine.start(None)?;
    guest.wait("report: recording at level health event=report_started", BOOT)?;
    guest.wait("hello: heartbeat", BOOT)?;
    let begun = last(&times(&guest.console.text(), "hello: heartbeat")?)?;
    let mut now = begun;
    while now < begun + STORM_S {
        guest.wait("hello: heartbeat", BOOT)?;
        now = last(&times(&guest.console.text(), "hello: heartbeat")?)?;
    }
    let text = guest.console.text();
    for pair in times(&text, "hello: heartbeat")?.windows(2) {
        let [before, after] = pair else { continue };
        ensure!(after - before <= BEATS_WITHIN_S, "no beat from {before} to {after}");
    }
    for name in CRASHING {
        let mut restarts = 0_u32;
        let mut due: Option<f64> = None;
        for line in text.lines() {
            if let Some(pause) = pause_ms(line, name) {
                due = Some(time(line)? + pause / 1000.0);
            } else if line.contains(&format!("init: {name} started"))
                && let Some(due) = due.take()
            {
                restarts = restarts.saturating_add(1);
                let late = time(line)? - due;
                ensure!(late <= LATE_S, "{name} is started {late} s late: {line}");
            }
        }
        // The control: there was a storm.
        ensure!(restarts >= 4, "{name} was started again {restarts} times:\n{text}");
    }
    ensure!(!text.contains("report ended"), "report has ended:\n{text}");
    Ok(())
}

/// The pause that init announces for a component, in milliseconds.
fn pause_ms(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("init: {name} will be started again in "))?;
    rest.split(' ').next()?.parse().ok()
}

/// The time of a line, in seconds since the guest's start.
fn time(line: &str) -> Result<f64> {
    let time = line.trim_start_matches('[').split(']').next().unwrap_or_default();
    time.trim().parse().with_context(|| line.to_owned())
}

/// The times of the lines with some words.
fn times(text: &str, words: &str) -> Result<Vec<f64>> {
    text.lines().filter(|line| line.contains(words)).map(time).collect()
}

fn last(times: &[f64]) -> Result<f64> {
    times.last().copied().context("no beat")
}
