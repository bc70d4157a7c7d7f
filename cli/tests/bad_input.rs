//! Bad input is refused with the file, the field and the remedy, exit code 1, and no output left.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const GOOD: &str = r#"
schema = 1
name = "bad-input"
version = "0.1.0"
board = "qemu-virt"
memory_mib = 64
[slots]
boot_mib = 8
root_mib = 8
[storage]
state_mib = 8
apps_mib = 32
data_mib = 16
[[app]]
path = "app"
"#;

const APP: &str = r#"{"SchemaVersion": 1, "Name": "app", "EntryPoint": "/bin/app",
"ComponentId": "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11", "Capabilities": {}}"#;

struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    /// A good manifest with an app that has no program yet.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("app/root/bin")).unwrap();
        let case = Self { directory };
        case.write("image.toml", GOOD);
        case.write("app/app_manifest.json", APP);
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn build(&self, options: &[&str]) -> Output {
        holdfast(&["image", "build", "--image"], &self.path("image.toml"))
            .arg("--output")
            .arg(self.path("out.img"))
            .args(options)
            .output()
            .unwrap()
    }

    /// The build fails with exit code 1 and a message with all of `parts`; nothing is left.
    fn refused(&self, parts: &[&str]) {
        self.refused_with(&[], parts);
    }

    fn refused_with(&self, options: &[&str], parts: &[&str]) {
        let output = self.build(options);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for part in parts {
            assert!(message.contains(part), "no `{part}` in: {message}");
        }
        let left: Vec<_> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name != "app" && name != "image.toml")
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

fn holdfast(arguments: &[&str], path: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(arguments).arg(path).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[test]
fn a_broken_manifest_is_refused_with_file_and_line() {
    let case = Case::new();
    case.write("image.toml", "schema = \n");
    case.refused(&["image.toml", "line 1"]);
    case.write("image.toml", GOOD.replace("version = \"0.1.0\"\n", ""));
    case.refused(&["image.toml", "missing field `version`"]);
    case.write("image.toml", GOOD.replace("root_mib = 8", "root_mib = \"8\""));
    case.refused(&["image.toml", "root_mib"]);
}

#[test]
fn an_unknown_board_is_refused_with_those_there_are() {
    let case = Case::new();
    case.write("image.toml", GOOD.replace("qemu-virt", "toaster"));
    case.refused(&["image.toml: board: there is no board `toaster`", "qemu-virt"]);
}

#[test]
fn an_app_that_is_no_arm_program_is_refused() {
    let case = Case::new();
    case.refused(&["app_manifest.json: EntryPoint: there is no such program"]);
    case.write("app/root/bin/app", "#!/bin/sh\n");
    case.refused(&["app/root/bin/app: is not a 32-bit ARM ELF file"]);
    fs::copy(env!("CARGO_BIN_EXE_holdfast"), case.path("app/root/bin/app")).unwrap();
    case.refused(&["app/root/bin/app: is not a 32-bit ARM ELF file"]);
}

#[test]
fn an_image_never_takes_the_place_of_what_it_is_made_from() {
    let case = Case::new();
    fs::create_dir(case.path("app/src")).unwrap();
    case.write("app/src/main.c", "int main(void) { return 0; }\n");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs");
    for (to, part) in [
        (case.path("app/src/main.c"), "/app/src, whose files the output is made from"),
        (case.path("app/src/new.img"), "/app/src, whose files the output is made from"),
        (case.path("image.toml"), "image.toml, which is read; name another"),
        (source.into(), "main.rs: is a file of this checkout"),
    ] {
        let before = fs::read(&to).ok();
        let output = holdfast(&["image", "build", "--image"], &case.path("image.toml"))
            .arg("--output")
            .arg(&to)
            .output()
            .unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(part), "no `{part}` in: {message}");
        assert!(fs::read(&to).ok() == before, "{} was changed", to.display());
    }
}

#[test]
fn an_app_that_is_linked_to_what_the_image_lacks_is_refused_with_the_library() {
    let case = Case::new();
    let source = case.path("app/hello.c");
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let program = case.path("app/root/bin/app");
    let built = Command::new("arm-linux-gnueabihf-gcc")
        .args(["-nostdlib", "-pie", "-fPIE", "-Wl,-e,main", "-Wl,-z,noexecstack", "-o"])
        .args([&program, &source])
        .status()
        .unwrap();
    assert!(built.success());
    case.refused(&["app/root/bin/app: needs `lib/ld-linux-armhf.so.3`", "link it statically"]);
}

#[test]
fn a_grant_that_this_version_does_not_know_is_refused() {
    let case = Case::new();
    case.write("app/app_manifest.json", APP.replace("{}}", "{\"Pwm\": [1]}}"));
    case.refused(&["app_manifest.json", "Pwm"]);
}

#[test]
fn a_peripheral_that_the_board_does_not_have_is_refused() {
    let case = Case::new();
    case.write("app/app_manifest.json", APP.replace("{}}", "{\"Gpio\": [\"$LED_RED\"]}}"));
    case.refused(&[
        "app_manifest.json: Capabilities.Gpio[0]: this board has no Gpio `$LED_RED`; it has none",
    ]);
}

#[test]
fn partitions_that_are_too_small_for_the_apps_are_refused_by_their_fields() {
    let case = Case::new();
    fs::create_dir(case.path("app/src")).unwrap();
    case.write("app/src/main.c", "int main(void) { return 0; }\n");
    let storage = r#"{"MutableStorage": {"SizeKB": 65536}}}"#;
    case.write("app/app_manifest.json", APP.replace("{}}", storage));
    case.refused(&["image.toml: storage.data_mib: the apps' MutableStorage grants need 65536 KiB"]);
    case.write("app/app_manifest.json", APP);
    case.write("app/root/large", random_bytes(9 << 20));
    case.write("image.toml", GOOD.replace("apps_mib = 32", "apps_mib = 8"));
    case.refused(&["image.toml: storage.apps_mib: the apps' packages need", "make it larger"]);
}

/// Bytes that no file system makes smaller.
fn random_bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_production_image_is_refused_the_development_keys_of_the_boot_loader() {
    let case = Case::new();
    case.write("image.toml", GOOD.replace("[[app]]\npath = \"app\"\n", ""));
    case.refused_with(
        &["--production"],
        &[
            "image.toml: trust.boot: a production image cannot hold a development key of the boot loader",
            "`key new --for boot`",
        ],
    );
}

#[test]
fn a_production_image_is_refused_a_development_key() {
    let case = Case::new();
    holdfast_images::key::PrivateKey::from_secret(&[1; 32], true)
        .store(&case.path("app/key.pem"))
        .unwrap();
    let trust = "[trust]\napp_keys = [\"app/key.pub.pem\"]\n";
    case.write("image.toml", GOOD.replace("[[app]]\npath = \"app\"\n", trust));
    let what =
        "image.toml: trust.app_keys: a production image cannot hold a development key for apps";
    case.refused_with(&["--production"], &[what, "`key new --for app`"]);
    case.write("image.toml", GOOD);
    let what =
        "image.toml: [[app]] path: a production image cannot hold a development key for apps";
    case.refused_with(&["--production"], &[what, "/app; name its package", "`app sign`"]);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing() {
    let case = Case::new();
    case.write("image.toml", GOOD.replace("[[app]]\npath = \"app\"\n", ""));
    // A file size limit is the one way to a full disk that needs no root.
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$@\"", "bash"])
        .arg(env!("CARGO_BIN_EXE_holdfast"))
        .args(["image", "build", "--image"])
        .arg(case.path("image.toml"))
        .arg("--output")
        .arg(case.path("out.img"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("File too large") || message.contains("cannot"), "{message}");
    assert!(!case.path("out.img").exists());
}

#[test]
fn a_killed_build_leaves_no_image() {
    let case = Case::new();
    case.write("image.toml", GOOD.replace("[[app]]\npath = \"app\"\n", ""));
    let mut child = holdfast(&["image", "build", "--image"], &case.path("image.toml"))
        .arg("--output")
        .arg(case.path("out.img"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!case.path("out.img").exists());
}

#[test]
fn usage_errors_have_exit_code_2() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_holdfast")).arg("no-such-command").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["run", "--until", "("])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_image_that_is_none_is_refused() {
    let case = Case::new();
    for command in ["show", "verify", "sign", "append-app"] {
        let mut arguments = vec!["image", command];
        if command == "sign" {
            arguments.extend(["--key", "/nowhere"]);
        }
        let mut holdfast = holdfast(&arguments, &case.path("image.toml"));
        if command == "append-app" {
            holdfast.arg(case.path("app/app_manifest.json"));
        }
        let output = holdfast.output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let expected = "image.toml: is no Holdfast image (no partition table)";
        assert!(message.contains(expected), "{command}: {message}");
    }
}

#[test]
fn a_host_that_lacks_tools_is_told_the_packages_with_exit_code_2() {
    let case = Case::new();
    // An empty path: no tools, and no apt that could bring them.
    let output = holdfast(&["image", "build", "--image"], &case.path("image.toml"))
        .env("PATH", case.path("app"))
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("erofs-utils") && message.contains("qemu-system-arm"), "{message}");
}
