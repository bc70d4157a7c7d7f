//! The `app` commands: what an OEM types first.

use crate::holdfast::{checkout, command, holdfast, stderr, stdout};
use crate::manifests::APP;
use std::fs;
use std::path::Path;
use std::process::Output;

fn app(arguments: &[&str]) -> Output {
    holdfast(checkout(), &[&["app"], arguments].concat())
}

fn manifest(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn check_takes_every_name_of_the_schema_but_not_for_a_board_that_lacks_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = manifest(
        directory.path(),
        "a.json",
        &APP.replace("{}", r#"{"Gpio": [1], "CertStore": true}"#),
    );
    let output = app(&["check", &path]);
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "no faults\n"));
    let output = app(&["check", &path, "--board", "qemu-virt"]);
    assert_eq!(output.status.code(), Some(1));
    let lines = stdout(&output);
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(lines.contains("a.json: Capabilities.CertStore: not supported by this OS version"));
    for command in ["check", "plan", "score"] {
        let output = app(&[command, &path, "--board", "toaster"]);
        assert_eq!(output.status.code(), Some(1));
        let message = stderr(&output);
        assert!(message.starts_with("error: --board: there is no board `toaster`"), "{message}");
    }
}

#[test]
fn check_prints_one_line_for_each_fault_of_each_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let bad =
        manifest(directory.path(), "bad.json", &APP.replace("\"app\"", "7").replace('1', "2"));
    let one = manifest(directory.path(), "one.json", &APP.replace("{}", r#"{"Pwm": [1]}"#));
    let two = manifest(directory.path(), "two.json", &APP.replace("{}", r#"{"Pwm": [1]}"#));
    let output = app(&["check", &bad, &one, &two]);
    assert_eq!(output.status.code(), Some(1));
    let lines = stdout(&output);
    assert!(lines.contains("bad.json: SchemaVersion: must be 1, is 2"), "{lines}");
    assert!(lines.contains("bad.json: Name: must be a string of at most 256 bytes"), "{lines}");
    assert!(lines.contains("two.json: Capabilities.Pwm[0]: Pwm 1 belongs to `app`"), "{lines}");
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let output = app(&["check", &bad, "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["faults"].as_array().unwrap().len(), 2);
}

#[test]
fn check_compares_the_catalog_with_the_image_manifests() {
    const CATALOG: &str = "4f6b8f3e-0c55-4d3a-9d0e-6d2f7c1b5a90";
    let directory = tempfile::tempdir().unwrap();
    let asks = |name: &str, catalog: &str| {
        let granted = format!(r#"{{"DeviceAuthentication": "{catalog}"}}"#);
        manifest(directory.path(), name, &APP.replace("{}", &granted))
    };
    let (own, other) = (asks("own.json", CATALOG), asks("other.json", &CATALOG.replace('4', "5")));
    let check = |app_manifest: &str, image: &str| {
        let output = app(&["check", app_manifest, "--image", image]);
        (output.status.code(), stdout(&output))
    };
    // The control.
    assert_eq!(check(&own, "../tests/images/service.toml"), (Some(0), "no faults\n".to_owned()));
    let (code, said) = check(&other, "../tests/images/service.toml");
    assert_eq!(code, Some(1));
    assert!(said.contains("other.json: asks for Capabilities.DeviceAuthentication with"), "{said}");
    assert!(said.contains(&format!("belong to catalog {CATALOG}; name that one")), "{said}");
    let (code, said) = check(&own, "../images/hello.toml");
    assert_eq!(code, Some(1));
    assert!(said.contains("its image manifest needs `[service]`"), "{said}");
}

#[test]
fn check_of_a_file_that_is_not_there_names_it() {
    let output = app(&["check", "nowhere/app_manifest.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).starts_with("cannot read nowhere/app_manifest.json"));
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure_and_a_full_disk_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let good = manifest(directory.path(), "good.json", APP);
    let bad = manifest(directory.path(), "bad.json", &APP.replace("{}", r#"{"Gpio": 1}"#));
    let check = |path: &str, out: std::process::Stdio| {
        let mut command = command(checkout(), &["app", "check", path]);
        let output = command.stdout(out).output().unwrap();
        (output.status.code(), stderr(&output))
    };
    for (path, code) in [(&good, 0), (&bad, 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (found, message) = check(path, writer.into());
        assert_eq!(found, Some(code), "{message}");
        assert!(!message.contains("panicked") && !message.contains("output"), "{message}");
    }
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let (code, message) = check(&good, full.into());
    assert_eq!(code, Some(1));
    assert!(message.starts_with("error: cannot write the output: No space left"), "{message}");
}
