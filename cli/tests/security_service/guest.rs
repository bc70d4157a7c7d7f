//! `run --with-service`: a guest with a TPM that is claimed, attested and gets certificates, on one command.

use crate::installation::{Installation, free_ports, text};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

const IMAGE: &str = r#"
schema = 1
name = "with-service"
version = "0.1.0"
board = "qemu-virt"
memory_mib = 64
rollback_index = 3
[[app]]
path = "HELLO"
[slots]
boot_mib = 8
root_mib = 8
[storage]
state_mib = 8
apps_mib = 8
data_mib = 8
"#;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// What is kept beside the image of the test.
fn beside(extension: &str) -> PathBuf {
    checkout().join("target/holdfast/with-service").with_extension(extension)
}

/// Runs the guest with a service until the console shows a match.
fn run(user: &Installation, port: u16, until: &str) -> Output {
    let arguments = ["run", "--headless", "--with-service", "--service-port", &port.to_string()];
    let more = ["--image", "image.toml", "--until", until, "--timeout", "300"];
    let mut command = user.command(&[&arguments[..], &more].concat());
    command.env("CARGO_MANIFEST_DIR", env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

/// The id of the device that a run has claimed.
fn claimed(said: &str) -> String {
    let line = said.lines().find(|line| line.contains(": claimed, grade emulated"));
    let line = line.unwrap_or_else(|| panic!("nothing was claimed: {said}"));
    line.trim_start_matches("device ").split(':').next().unwrap().to_owned()
}

#[test]
fn a_guest_is_claimed_and_gets_certificates_by_one_command() {
    // Only for its directory and its session: the service is the one that the run makes.
    let user = Installation::new();
    let hello = checkout().join("examples/hello").display().to_string();
    fs::write(user.at("image.toml"), IMAGE.replace("HELLO", &hello)).unwrap();
    let _ = fs::remove_dir_all(beside("service"));
    let [port, _] = free_ports();
    // Who has the port is not ended, and the port is said.
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let refused = run(&user, port, "never");
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{message}");
    let says = format!("--service-port: port {port} of 127.0.0.1 cannot be listened at");
    assert!(message.contains(&says) && !beside("service").exists(), "{message}");
    drop(taken);

    let first = run(&user, port, "identity: .* event=identity_checked_in");
    let said = text(&first.stderr);
    assert_eq!(first.status.code(), Some(0), "{said}\n{}", text(&first.stdout));
    let id = claimed(&said);
    let got =
        format!("device {id}: full, grade emulated, release 0.1.0 index 3, certificates until");
    assert!(said.contains(&got), "{said}");

    // Another start is the same device, which is known to the same service.
    let second = run(&user, port, "identity: device .* event=identity_started");
    let said = text(&second.stderr);
    assert_eq!(second.status.code(), Some(0), "{said}");
    assert_eq!(claimed(&said), id);
    assert!(said.contains("grade emulated, enrolled"), "{said}");
    let log = fs::read_to_string(beside("service").join("service.log")).unwrap();
    assert_eq!(log.matches("event=service_listening").count(), 2, "{log}");
    assert_eq!(log.matches("event=service_ending").count(), 2, "it was not killed: {log}");
    let said = user.json(&["service", "doctor", &beside("service").display().to_string()]);
    let findings = said["items"].as_array().unwrap();
    assert!(findings.iter().all(|finding: &Value| finding["kind"] == "good"), "{findings:?}");
}
