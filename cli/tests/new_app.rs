//! From nothing to a running app in two commands, for each language.

#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn holdfast(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(arguments)
        .current_dir(directory)
        // As under `cargo run`: the checkout is found from anywhere.
        .env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

/// One test for both: each run builds the image of the same manifest.
#[test]
fn a_new_app_runs_in_two_commands_in_rust_and_in_c() {
    let directory = tempfile::tempdir().unwrap();
    for (name, language) in [("pump", "rust"), ("valve", "c")] {
        let made = holdfast(directory.path(), &["app", "new", name, "--lang", language]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let until = format!("{name}: heartbeat 2");
        let run = ["run", "--app", name, "--until", &until, "--timeout", "300"];
        let ran = holdfast(directory.path(), &run);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let console = String::from_utf8_lossy(&ran.stdout);
        assert!(console.contains(&format!("{name}: hello from {name}")), "{console}");
        let marked = format!("{name}: its package is signed with a development key");
        assert!(console.contains(&marked), "{console}");
    }
}

#[test]
fn a_new_app_never_overwrites_and_has_a_name_that_a_component_can_have() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("there")).unwrap();
    for (name, reason) in [
        ("there", "there is there already"),
        ("Pump", "the name of an app"),
        ("a b", "the name of an app"),
    ] {
        let made = holdfast(directory.path(), &["app", "new", name]);
        let message = String::from_utf8_lossy(&made.stderr);
        assert_eq!(made.status.code(), Some(1), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}
