//! One guest full of components that misbehave, and one that does not.

use crate::harness::artefacts::{Artefacts, host_tool};
use crate::harness::guest::{ANSWER, BOOT, boot_probe};
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{Guest, Machine};
use regex::Regex;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("supervision");
    suite.share(
        move || boot_probe(&Machine::new(&image(), 64)),
        checks![
            an_app_is_restarted_after_a_crash,
            a_crash_loop_is_slowed_down_while_others_run,
            a_component_that_is_never_ready_is_killed,
            a_last_word_is_heard,
            a_component_that_misses_its_watchdog_is_killed,
            a_flood_of_output_is_bounded_and_harmless,
            a_zombie_storm_is_reaped,
            an_app_over_its_memory_is_ended_alone,
            a_process_bomb_is_contained,
            locks_on_files_count_as_memory_of_who_takes_them
        ],
    );
    check!(suite, a_crash_is_decoded_to_its_line(&image()));
    check!(suite, a_restart_storm_does_not_delay_others(&image()));
}

/// With what the console has shown, the symbols that the build has kept, and nothing else.
fn a_crash_is_decoded_to_its_line(image: &Path) -> Result<()> {
    let mut guest = Machine::new(image, 64).start(None)?;
    guest.wait("crash ended with signal 11", BOOT)?;
    let directory = tempfile::tempdir()?;
    let log = directory.path().join("console.log");
    fs::write(&log, guest.console.text())?;
    let mut command = Command::new(host_tool()?);
    command.args(["crash", "decode", "--json", "--symbols"]).arg(image.with_extension("symbols"));
    let output = command.arg(&log).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{}", output.status);
    let crashes: Value = serde_json::from_slice(&output.stdout)?;
    let crashes = crashes.as_array().context("no list")?;
    let crash = crashes.iter().find(|crash| crash["component"] == "crash").context("no crash")?;
    ensure!(crash["signal"] == 11, "{crash:#}");
    // It overflows its stack while it copies into its frame; the copying may be a function of its own.
    const SOURCE: &str = include_str!("../../../apps/misbehaving/src/bin/crash.rs");
    let is_there = |place: &Value| -> Option<bool> {
        let (_, line) =
            place["line"].as_str()?.split_once("tests/apps/misbehaving/src/bin/crash.rs:")?;
        let line: usize = line.parse().ok()?;
        let text = SOURCE.lines().nth(line.checked_sub(1)?)?;
        Some(text.contains("descend") || text.contains("frame"))
    };
    let places = ["at", "called_from"].into_iter().filter_map(|place| crash[place].as_array());
    ensure!(places.flatten().any(|place| is_there(place) == Some(true)), "{crash:#}");
    Ok(())
}

fn an_app_over_its_memory_is_ended_alone(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("memory-bomb went over its limit of 8192 KiB memory", BOOT)?;
    guest.wait_anywhere("memory-bomb ended with signal 9", BOOT)?;
    guest.wait("hello: heartbeat", BOOT)?;
    Ok(())
}

fn locks_on_files_count_as_memory_of_who_takes_them(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("lock-bomb went over its limit of 4096 KiB memory", BOOT)?;
    guest.wait_anywhere("lock-bomb ended with signal 9", BOOT)?;
    let text = guest.console.text();
    ensure!(!text.contains("lock-bomb: took"), "it took all that it wanted:\n{text}");
    guest.wait("hello: heartbeat", BOOT)?;
    Ok(())
}

fn a_process_bomb_is_contained(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("fork-bomb is at its limit of 8 processes", BOOT)?;
    let status = guest.probe.ask("status", ANSWER)?;
    let line = status.lines().find(|line| line.contains("name=fork-bomb ")).unwrap_or_default();
    ensure!(line.contains("processes=9"), "{line}");
    guest.wait("hello: heartbeat", BOOT)?;
    Ok(())
}

fn an_app_is_restarted_after_a_crash(guest: &mut Guest) -> Result<()> {
    // On a slow machine the first crash comes before the probe does.
    let lines = [
        "crash ended with signal 11",
        "crash will be started again in 100 ms",
        "init: crash started",
        "crash: about to crash",
    ];
    guest.wait_anywhere(&format!("(?s){}", lines.join(".*")), BOOT)?;
    Ok(())
}

/// The pauses that init announces for a component, in milliseconds.
fn pauses(guest: &Guest, name: &str) -> Vec<u64> {
    let text = guest.console.text();
    let marker = format!("{name} will be started again in ");
    let numbers = text.split(&marker).skip(1);
    numbers.filter_map(|rest| rest.split(' ').next()?.parse().ok()).collect()
}

fn a_crash_loop_is_slowed_down_while_others_run(guest: &mut Guest) -> Result<()> {
    guest.wait("crash-loop will be started again in 3200 ms", BOOT)?;
    let pauses = pauses(guest, "crash-loop");
    ensure!(pauses.get(..6) == Some(&[100, 200, 400, 800, 1600, 3200]), "{pauses:?}");
    ensure!(guest.console.text().contains("crash-loop ended with exit code 7"), "no exit code");
    // The others are still there: a beat after all of it.
    guest.wait("hello: heartbeat", BOOT)?;
    guest.probe.ask("processes", ANSWER)?;
    Ok(())
}

/// While one component is started over and over, another beats once a second all the same: in guest
/// time, of which the host's load takes nothing.
fn a_restart_storm_does_not_delay_others(image: &Path) -> Result<()> {
    let mut guest = Machine { counted: true, ..Machine::new(image, 64) }.start(None)?;
    guest.wait("crash-loop will be started again in 3200 ms", BOOT)?;
    guest.wait("hello: heartbeat", BOOT)?;
    let text = guest.console.text();
    let storm = text.matches("crash-loop will be started again").count();
    ensure!(storm >= 6, "only {storm} restarts");
    let mut beats = Vec::new();
    for line in text.lines().filter(|line| line.contains("hello: heartbeat")) {
        let time = line.trim_start_matches('[').split(']').next().unwrap_or_default();
        beats.push(time.trim().parse::<f64>().with_context(|| line.to_owned())?);
    }
    ensure!(beats.len() >= 4, "only {} beats", beats.len());
    for pair in beats.windows(2) {
        let [before, after] = pair else {
            continue;
        };
        ensure!((0.8..1.3).contains(&(after - before)), "beats at {beats:?}");
    }
    Ok(())
}

/// A program that ends as soon as it has said that it is ready was ready, each time.
fn a_last_word_is_heard(guest: &mut Guest) -> Result<()> {
    guest.wait_anywhere("last-word will be started again in 1600 ms", BOOT)?;
    let text = guest.console.text();
    let (ready, ended) = ("init: last-word is ready", "init: last-word ended with exit code 0");
    let lines = text.lines().filter(|line| line.contains(ready) || line.contains(ended));
    let kinds: Vec<bool> = lines.map(|line| line.contains(ready)).collect();
    let (turns, _) = kinds.as_chunks::<2>();
    ensure!(turns.len() >= 5 && turns.iter().all(|turn| *turn == [true, false]), "{kinds:?}");
    Ok(())
}

fn a_component_that_is_never_ready_is_killed(guest: &mut Guest) -> Result<()> {
    // Run by name, this comes before the end of the program does.
    let lines = ["unready was not ready in time: killed", "unready ended with signal 9"];
    guest.wait_anywhere(&format!("(?s){}", lines.join(".*")), BOOT)?;
    Ok(())
}

/// Not before it fell silent: on a host under load it may be late and be killed for it, and is started again.
fn a_component_that_misses_its_watchdog_is_killed(guest: &mut Guest) -> Result<()> {
    let steps =
        ["silent is ready", "silent: silent from now on", "silent missed its watchdog: killed"];
    guest.wait_anywhere(&format!("(?s){}", steps.join(".*")), BOOT)?;
    Ok(())
}

fn a_flood_of_output_is_bounded_and_harmless(guest: &mut Guest) -> Result<()> {
    let text = guest.console.text();
    ensure!(text.contains("flood: flood 0 \\x1b[2J\\x0dinit: forged"), "not escaped");
    // Other components of this image are called `forged-core` and `forged-crash`.
    let is_forged = Regex::new(r"\] init: forged([^-]|$)")?.is_match(&text);
    ensure!(!text.contains('\x1b') && !is_forged, "an escape got through");
    let started = guest.console.text().matches("flood: flood ").count();
    guest.wait("hello: heartbeat", BOOT)?;
    guest.wait("hello: heartbeat", BOOT)?;
    guest.wait("hello: heartbeat", BOOT)?;
    let lines = guest.console.text().matches("flood: flood ").count().saturating_sub(started);
    ensure!(lines < 200, "{lines} lines in about three seconds");
    guest.wait(r"flood: \(\d+ lines dropped: too many at once\)", BOOT)?;
    Ok(())
}

fn a_zombie_storm_is_reaped(guest: &mut Guest) -> Result<()> {
    if !guest.console.text().contains("zombie-storm: made 300 orphans") {
        guest.wait("zombie-storm: made 300 orphans", BOOT)?;
    }
    // The last of them sleep for 20 ms; anything still there after the deadline was not reaped.
    let started = std::time::Instant::now();
    loop {
        let processes = guest.probe.ask("processes", ANSWER)?;
        let storm = processes.lines().filter(|p| p.contains("Name=zombie-storm")).count();
        let zombies = processes.lines().filter(|p| p.contains("State=Z")).count();
        if storm == 1 && zombies == 0 {
            return Ok(());
        }
        ensure!(started.elapsed() < guest.scaled(BOOT), "{zombies} zombies:\n{processes}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
