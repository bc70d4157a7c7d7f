//! Everything that hostile apps can do to what is shared, at once and for long, beside an app that beats each second.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT};
use crate::harness::suite::{Needs, Suite, check};
use crate::network::world::usual_world;
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{Guest, Machine, Network};
use std::path::Path;
use std::time::Duration;

/// The longest time in which init may answer a service, in microseconds of guest time.
const ANSWERS_WITHIN_US: u64 = 100_000;
/// Two beats of the app that behaves are so many seconds apart at most.
const BEATS_WITHIN_S: f64 = 1.5;
/// Time for all of it, on the host.
const LONGEST: Duration = Duration::from_secs(900);

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let (image, seconds) = (move || artefacts.image("crowd"), artefacts.effort.crowd_seconds);
    check!(
        suite.with(Needs::Peer).within(LONGEST),
        hostile_apps_all_at_once_delay_neither_init_nor_others(&image(), seconds)
    );
}

fn hostile_apps_all_at_once_delay_neither_init_nor_others(
    image: &Path,
    seconds: f64,
) -> Result<()> {
    let machine = Machine {
        counted: true,
        networks: vec![Network::Peer(usual_world())],
        ..Machine::new(image, 64)
    };
    let mut guest = machine.start(None)?;
    guest.wait_anywhere("crowding: begins", BOOT)?;
    let begun = last_beat(&mut guest)?;
    let mut longest = 0;
    while last_beat(&mut guest)? - begun < seconds {
        longest = longest.max(longest_answer_us(&mut guest, ANSWER)?);
        ensure!(longest <= ANSWERS_WITHIN_US, "init took {longest} us to answer");
    }
    let text = guest.console.text();
    let beats = beats(&text)?;
    let beats: Vec<f64> = beats.into_iter().filter(|beat| *beat >= begun).collect();
    for pair in beats.windows(2) {
        let [before, after] = pair else { continue };
        ensure!(after - before <= BEATS_WITHIN_S, "no beat from {before} to {after}");
    }
    for line in text.lines() {
        ensure!(!line.contains('\x1b') && !line.contains("] init: forged"), "{line:?}");
    }
    let status = guest.probe.ask("status", ANSWER)?;
    for name in ["hello", "network"] {
        let line = status.lines().find(|line| line.contains(&format!("name={name} ")));
        let line = line.with_context(|| status.clone())?;
        ensure!(line.contains("state=Ready ") && line.contains("restarts=0 "), "{line}");
    }
    ensure!(text.matches("init: watchdog armed").count() == 1, "the device has started again");
    // What shows that there was an attack: it has ended with its pipe full, and was started again.
    ensure!(text.matches("crowding: begins").count() > 1, "{}", guest.console.tail());
    Ok(())
}

/// The longest of twenty times in which init answers a service, in microseconds of guest time.
pub(crate) fn longest_answer_us(guest: &mut Guest, within: Duration) -> Result<u64> {
    longest_of(20, guest, within)
}

/// The same, of so many answers.
pub(crate) fn longest_of(count: u32, guest: &mut Guest, within: Duration) -> Result<u64> {
    let answer = guest.probe.ask(&format!("answer-times {count}"), within)?;
    let time = answer.strip_prefix("longest_us=").and_then(|time| time.parse().ok());
    time.with_context(|| answer.clone())
}

/// The time of the next beat, in seconds since the guest's start.
fn last_beat(guest: &mut Guest) -> Result<f64> {
    guest.wait("hello: heartbeat", BOOT)?;
    beats(&guest.console.text())?.pop().context("no beat")
}

/// The times of all beats.
fn beats(text: &str) -> Result<Vec<f64>> {
    let lines = text.lines().filter(|line| line.contains("hello: heartbeat"));
    let time = |line: &str| {
        let time = line.trim_start_matches('[').split(']').next().unwrap_or_default();
        time.trim().parse().with_context(|| line.to_owned())
    };
    lines.map(time).collect()
}
