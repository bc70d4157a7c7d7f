//! A program in C, compiled and linked as an app is, on either side of a connection.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_test_identity::{CAMERA, CATALOG, Fleet, INDEX, PUMP, Service, Wanted};
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// What Rust's std needs of the C runtime.
const LIBRARIES: [&str; 5] = ["-lgcc_s", "-lpthread", "-ldl", "-lm", "-lc"];

/// The library, as cargo builds it.
fn library() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--quiet", "--locked", "--message-format=json-render-diagnostics"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let files = messages.flat_map(|message| message["filenames"].as_array().cloned());
    let files = files.flatten().map(|file| PathBuf::from(file.as_str().unwrap()));
    files.into_iter().find(|file| file.ends_with("libholdfast_identity.a")).unwrap()
}

/// The program, compiled once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peer");
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let compiled = Command::new("cc")
            .args(["-std=gnu17", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o"])
            .arg(&path)
            .arg("-I")
            .arg(package.join("include"))
            .arg(package.join("tests/c_peer/peer.c"))
            .arg(library())
            .args(LIBRARIES)
            .status();
        assert!(compiled.unwrap().success());
        (directory, path)
    });
    path
}

fn start(service: &Service, arguments: &[&str], socket: UnixStream) -> Child {
    let mut command = Command::new(program());
    command.arg(service.address()).args(arguments).env_remove("HOLDFAST_IDENTITY");
    command.stdin(OwnedFd::from(socket)).stdout(Stdio::piped()).spawn().unwrap()
}

/// What both sides have said: the one that connects, and the one that accepts.
fn connect(camera: &Service, pump: &Service, least: [u64; 2]) -> [String; 2] {
    connect_as("connect", camera, pump, least)
}

/// The same, with the word for what the one that connects does.
fn connect_as(word: &str, camera: &Service, pump: &Service, least: [u64; 2]) -> [String; 2] {
    let (near, far) = UnixStream::pair().unwrap();
    let least = least.map(|least| least.to_string());
    let client = start(camera, &[word, &least[0]], near);
    let server = start(pump, &["accept", &least[1]], far);
    [client, server].map(|side| String::from_utf8(side.wait_with_output().unwrap().stdout).unwrap())
}

fn devices() -> (Service, Service) {
    let fleet = Fleet::new();
    let camera = fleet.issue(Wanted::default());
    let pump = Wanted { component: Some(PUMP), device: 0xd2, ..Wanted::default() };
    (Service::start(Some(camera)), Service::start(Some(fleet.issue(pump))))
}

#[test]
fn two_programs_in_c_connect_and_know_each_other() {
    let (camera, pump) = devices();
    let said = connect(&camera, &pump, [INDEX, INDEX]);
    let ids = [("de".repeat(32), CAMERA), ("d2".repeat(32), PUMP)];
    for (said, [own, peer]) in said.iter().zip([[0, 1], [1, 0]]) {
        let (own, peer) = (&ids[own], &ids[peer]);
        assert!(said.contains(&format!("own {} {}\n", own.0, own.1)), "{said}");
        let expected = format!("peer {CATALOG} {} {} 1.4.0 4 {INDEX}\n", peer.0, peer.1);
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("until 1") || said.contains("until 2"), "{said}");
    }
    assert_eq!((camera.signed(), pump.signed()), (1, 1));
}

#[test]
fn a_peer_whose_release_is_too_old_has_a_code_of_its_own_in_c() {
    let (camera, pump) = devices();
    // By the one that connects, and then by the one that accepts.
    let [client, server] = connect(&camera, &pump, [INDEX + 1, INDEX]);
    let refused = "connection 10 the peer's release has rollback index 7, less than 8\n";
    assert_eq!(client, refused);
    assert!(server.starts_with("connection 6 "), "{server}");
    let [client, server] = connect(&camera, &pump, [INDEX, INDEX + 1]);
    assert_eq!(server, refused);
    // It has heard of it with its first read, or when it wrote.
    assert!(client.starts_with("read 6 ") || client.starts_with("write 6 "), "{client}");
}

#[test]
fn writing_to_a_peer_that_has_closed_is_a_failure_and_no_signal() {
    let (camera, pump) = devices();
    let [client, server] = connect_as("connect-and-wait", &camera, &pump, [INDEX, INDEX + 1]);
    assert!(server.starts_with("connection 10 "), "{server}");
    // Why the peer has closed is said by its alert, which has arrived before.
    assert!(client.starts_with("write 6 "), "{client:?}");
    assert!(client.contains("alert"), "{client:?}");
}

#[test]
fn wrong_arguments_of_c_are_said() {
    let service = Service::start(None);
    let (socket, _peer) = UnixStream::pair().unwrap();
    let said = start(&service, &["misuse"], socket).wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "new 0 ",
        "grant 2 HOLDFAST_IDENTITY is not set",
        "null 1 identity is NULL",
        "component 1 policy.component is no GUID",
        "device 1 policy.device: a device's id has 64",
        "grades 1 policy.grades has a bit",
        "socket 1 socket is negative",
        "authorities 1 authorities: /nonexistent.pem: ",
    ];
    assert_eq!(lines.len(), expected.len(), "{said}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}
