//! `holdfast run` says by its exit code how the guest fared.

use crate::holdfast::{checkout, command, stderr, stdout};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn run(arguments: &[&str]) -> Child {
    command(checkout(), &[&["run", "--headless"], arguments].concat())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The emulator that a process has started, once it is there.
fn emulator_of(parent: u32) -> u32 {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(300) {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
                continue;
            };
            // Not the short run that dumps the device tree.
            let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let starts_a_guest = arguments.split(|byte| *byte == 0).any(|word| word == b"-qmp");
            let is = |field: &str| status.lines().any(|line| line == field);
            if starts_a_guest && is("Name:\tqemu-system-arm") && is(&format!("PPid:\t{parent}")) {
                return entry.file_name().to_string_lossy().parse().unwrap();
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no emulator was started");
}

#[test]
fn a_match_ends_the_run_with_exit_code_0() {
    let output = run(&["--until", "hello: heartbeat 1", "--timeout", "300"]);
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("hello: heartbeat 1"));
}

#[test]
fn memory_that_a_board_cannot_have_is_refused_at_once() {
    for (arguments, reason) in [
        (&["--memory", "28"][..], "--memory: must be a multiple of 4 from 32 to 2048"),
        (&["--memory", "4096"], "on board qemu-virt, is 4096"),
        (&["--memory", "64", "--board", "orangepi-pc"], "has 1024 MiB of its own; leave it out"),
    ] {
        let output = run(arguments).wait_with_output().unwrap();
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(reason) && !message.contains("building"), "{message}");
    }
}

#[test]
fn a_wait_that_runs_out_has_exit_code_3_and_shows_the_consoles_tail() {
    let output = run(&["--until", "this never comes", "--timeout", "8"]);
    let output = output.wait_with_output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("`this never comes` did not come within 8s"), "{message}");
    let tail = message.split_once("the console ends with:").map(|(_, tail)| tail.trim());
    assert!(tail.is_some_and(|tail| tail.lines().count() > 3), "no tail: {message}");
}

#[test]
fn a_guest_that_dies_has_exit_code_4() {
    let child = run(&["--until", "this never comes", "--timeout", "300"]);
    let emulator = emulator_of(child.id());
    std::thread::sleep(Duration::from_secs(1));
    let killed = Command::new("kill").args(["-KILL", &emulator.to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(4), "{message}");
}
