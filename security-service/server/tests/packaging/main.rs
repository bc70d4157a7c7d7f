//! What is installed besides the program: the unit of systemd, its user and directories, and the image for containers.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Where the service's folder is on a host that it is installed on.
const FOLDER: &str = "/var/lib/holdfast-service";
/// Where its program is.
const PROGRAM: &str = "/usr/bin/holdfast-service";
/// Worst exposure that `systemd-analyze security` may give the unit, in tenths: 0 is none, and 100 that of a unit that confines nothing.
const EXPOSURE: u32 = 20;

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Values of a setting of the unit.
fn settings(unit: &str, name: &str) -> Vec<String> {
    let of = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    of.map(str::to_owned).collect()
}

/// Runs `systemd-analyze` on a unit whose program is the one that was built.
fn analyze(unit: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holdfast-service.service");
    std::fs::write(&path, unit.replace(PROGRAM, env!("CARGO_BIN_EXE_holdfast-service"))).unwrap();
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).arg(&path);
    command.output().expect("systemd-analyze, which Debian's package systemd brings")
}

#[test]
fn the_unit_is_one_and_confines_the_service() {
    let unit = text("holdfast-service.service");
    let verified = analyze(&unit, &["verify"]);
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "{said}");
    let wrong = analyze(&unit.replace("ProtectClock=yes", "ProtectClok=yes"), &["verify"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("ProtectClok"), "the control");
    let threshold = format!("--threshold={EXPOSURE}");
    let score = ["security", "--offline=true", "--no-pager", &threshold];
    let judged = analyze(&unit, &score);
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    let bare: Vec<&str> = unit
        .lines()
        .filter(|line| !line.starts_with("Protect") && !line.starts_with("SystemCallFilter"))
        .collect();
    assert!(!analyze(&bare.join("\n"), &score).status.success(), "the control");
}

#[test]
fn user_and_folder_are_the_same_in_all_that_is_installed() {
    let unit = text("holdfast-service.service");
    let user = settings(&unit, "User");
    assert_eq!(user, settings(&unit, "Group"));
    assert_eq!(settings(&unit, "StateDirectory"), ["holdfast-service"]);
    assert_eq!(settings(&unit, "StateDirectoryMode"), ["0700"]);
    for command in settings(&unit, "ExecStart").iter().chain(&settings(&unit, "ExecStartPre")) {
        assert!(command.starts_with(&format!("{PROGRAM} --folder {FOLDER} ")), "{command}");
    }
    let users = text("holdfast-service.sysusers");
    let line = users.lines().find(|line| line.starts_with("u ")).unwrap();
    assert_eq!(line.split(' ').nth(1), Some(user[0].as_str()));
    assert!(line.ends_with(&format!(" {FOLDER}")), "{line}");
    let files = text("holdfast-service.tmpfiles");
    assert!(files.lines().any(|line| line == format!("d {FOLDER} 0700 {0} {0} -", user[0])));
    assert!(text("Containerfile").contains(&format!("\"--folder\", \"{FOLDER}\"")));
}

/// Instructions of a Containerfile, with lines that go on joined.
fn instructions(text: &str) -> Vec<(String, String)> {
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// What is wrong with a Containerfile.
fn faults(text: &str) -> Vec<String> {
    let all = instructions(text);
    let mut faults = Vec::new();
    for (word, rest) in &all {
        match word.as_str() {
            "FROM" if !rest.contains(':') || rest.contains(":latest") => {
                faults.push(format!("FROM {rest}: has no tag of a release"));
            }
            "ADD" => faults.push("ADD: fetches and unpacks; use COPY".to_owned()),
            "ENTRYPOINT" | "CMD" if !rest.starts_with('[') => {
                faults.push(format!("{word}: is a shell's, which passes no signal on"));
            }
            "FROM" | "RUN" | "COPY" | "WORKDIR" | "USER" | "VOLUME" | "EXPOSE" | "STOPSIGNAL"
            | "ENTRYPOINT" | "CMD" => {}
            other => faults.push(format!("{other}: is no instruction that is used here")),
        }
    }
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap_or(0);
    let of_image = &all[last..];
    let value = |wanted: &str| {
        let found = of_image.iter().rfind(|(word, _)| word == wanted);
        found.map(|(_, rest)| rest.as_str()).unwrap_or_default().to_owned()
    };
    let user: u32 = value("USER").split(':').next().unwrap_or_default().parse().unwrap_or(0);
    if user == 0 {
        faults.push("USER: must be a number and not 0".to_owned());
    }
    if !of_image.iter().any(|(word, rest)| word == "COPY" && rest.ends_with(PROGRAM)) {
        faults.push(format!("COPY: nothing becomes {PROGRAM}"));
    }
    if !value("ENTRYPOINT").contains(PROGRAM) {
        faults.push("ENTRYPOINT: is another program".to_owned());
    }
    if value("VOLUME") != FOLDER {
        faults.push("VOLUME: is not the folder".to_owned());
    }
    faults
}

#[test]
fn the_image_for_containers_has_a_tag_a_user_and_a_program() {
    let good = text("Containerfile");
    assert_eq!(faults(&good), Vec::<String>::new());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let workspace = std::fs::read_to_string(workspace).unwrap();
    let rust = workspace.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
    assert!(good.contains(&format!("FROM rust:{}-", rust.trim_end_matches('"'))), "{rust}");
    for (from, to) in [
        ("debian:bookworm-slim", "debian"),
        ("USER 65532:65532", "USER root"),
        ("USER 65532:65532", ""),
        ("CMD [\"run\"]", "CMD run"),
        ("COPY . .", "ADD . ."),
        ("VOLUME /var/lib/holdfast-service", ""),
    ] {
        assert!(!faults(&good.replace(from, to)).is_empty(), "{from} is {to}");
    }
}

/// An installation that nobody has changed, on ports that the kernel picks.
fn made() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("service");
    let made = Command::new(env!("CARGO_BIN_EXE_holdfast-service"))
        .arg("--folder")
        .arg(&folder)
        .args(["init", "--catalog", "pumps", "--name", "service.example"])
        .args(["--device", "127.0.0.1:0", "--management", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (directory, folder)
}

#[test]
fn systemd_is_told_when_the_service_listens_and_when_it_ends() {
    let (directory, folder) = made();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast-service"))
        .arg("--folder")
        .arg(&folder)
        .arg("run")
        .env("NOTIFY_SOCKET", &socket)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    };
    assert_eq!(told(), "READY=1");
    let ended = Command::new("kill").arg("-TERM").arg(child.id().to_string()).status().unwrap();
    assert!(ended.success());
    assert_eq!(told(), "STOPPING=1");
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(child.wait().unwrap().success());
}

#[test]
fn doctor_says_what_is_wrong_as_json_too() {
    let (_directory, folder) = made();
    let doctor = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-service"));
        command.arg("--folder").arg(&folder).arg("doctor").args(more).output().unwrap()
    };
    let good = doctor(&["--json", "--reach"]);
    assert!(good.status.success(), "{good:?}");
    let said: serde_json::Value = serde_json::from_slice(&good.stdout).unwrap();
    let items = said["items"].as_array().unwrap();
    let says = |kind: &str, words: &str| {
        items.iter().any(|item| {
            item["kind"] == kind && item["text"].as_str().is_some_and(|text| text.contains(words))
        })
    };
    for words in [
        "settings can be read",
        "SQLite",
        "newest tables",
        "symbols can be stored",
        "files of releases can be stored",
        "the clock is not behind",
        "the disk has room",
        "the issuing certificate is good",
        "the root is good",
        "audit log are a chain",
    ] {
        assert!(says("good", words), "{words}: {said}");
    }
    // A key that the settings do not know, and a database that is none.
    let settings = folder.join("settings.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, format!("{text}\n[databse]\nurl = \"sqlite:other.db\"\n")).unwrap();
    let wrong = doctor(&["--json"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("databse"), "{wrong:?}");
    std::fs::write(&settings, text.replace("sqlite:service.db", "sqlite:/nowhere/service.db"))
        .unwrap();
    let wrong = doctor(&[]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("wrong  cannot open"), "{wrong:?}");
}
