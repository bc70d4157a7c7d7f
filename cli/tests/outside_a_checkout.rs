//! `holdfast` where there is no checkout: in an empty directory, with a home in which nothing is, and nothing may be
//! left.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

#[path = "security_service/installation.rs"]
#[expect(dead_code, reason = "the tests of the commands about the service use the rest of it")]
mod installation;

use crate::installation::Installation;
use holdfast_images::boards::Boards;
use holdfast_images::boot::BootKey;
use holdfast_images::boot_loader::UBoot;
use holdfast_images::build::{self, Inputs};
use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_images::manifest::ImageManifest;
use holdfast_images::own_services;
use holdfast_images::{app, package};
use holdfast_qemu::machine;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const IMAGE: &str = r#"
schema = 1
name = "pump"
version = "1.0.0"
board = "qemu-virt"
memory_mib = 64
rollback_index = 3
[slots]
boot_mib = 8
root_mib = 8
[storage]
state_mib = 8
apps_mib = 8
data_mib = 8
[trust]
app_keys = ["oem.pub.pem"]
[trust.boot]
current = "current.pub.pem"
next = "next.pub.pem"
recovery = "recovery.pub.pem"
[[app]]
component_id = "ID"
name = "pump"
"#;

/// A working directory and a home, both empty.
struct Outside {
    scratch: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["here", "home"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let around = scratch.path().ancestors().find(|path| path.join("kernel-config").exists());
        assert_eq!(around, None, "the temporary directory is in a checkout");
        Self { scratch }
    }

    fn here(&self) -> PathBuf {
        self.scratch.path().join("here")
    }

    fn at(&self, name: &str) -> PathBuf {
        self.here().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.at(name), text).unwrap();
    }

    fn holdfast(&self, arguments: &[&str]) -> Output {
        let home = self.scratch.path().join("home");
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(arguments)
            .current_dir(self.here())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .output()
            .unwrap();
        let left: Vec<_> = fs::read_dir(home).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?} in the home");
        output
    }

    /// It must succeed; what it prints.
    fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.holdfast(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {message}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.succeeds(arguments)).unwrap()
    }

    /// It must end with this exit code and say all of `parts`.
    fn fails(&self, code: i32, arguments: &[&str], parts: &[&str]) {
        let output = self.holdfast(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{arguments:?}: no `{part}` in: {message}");
        }
    }

    /// Names of the subcommands in the help of a command.
    fn subcommands(&self, command: &[&str]) -> Vec<String> {
        let help = self.succeeds(&[command, &["--help"]].concat());
        let name = command.join(" ");
        assert!(help.contains(format!("Usage: holdfast {name}").trim_end()), "{help}");
        assert!(help.contains("--checkout <DIR>"), "{help}");
        let Some((_, commands)) = help.split_once("\nCommands:\n") else {
            assert!(help.contains("Example: holdfast "), "{name}: {help}");
            return Vec::new();
        };
        let commands = commands.split("\n\n").next().unwrap_or_default().lines();
        let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        names
            .filter(|name| !name.is_empty())
            .filter(|name| *name != "help")
            .map(str::to_owned)
            .collect()
    }

    /// A static ARM program that does nothing, with symbols.
    fn program(&self) -> Vec<u8> {
        self.write("main.c", "int main(void)\n{\n    return 0;\n}\n");
        let built = Command::new("arm-linux-gnueabihf-gcc")
            .args(["-g", "-nostdlib", "-static", "-Wl,-e,main", "-Wl,-z,noexecstack"])
            .args(["-o", "program", "main.c"])
            .current_dir(self.here())
            .status()
            .unwrap();
        assert!(built.success());
        fs::read(self.at("program")).unwrap()
    }

    /// What a checkout has handed over: the unsigned package `pump.package`.
    fn packed(&self) {
        self.succeeds(&["app", "new", "pump", "--lang", "c"]);
        let app = app::load(&self.at("pump"), Some(self.program())).unwrap();
        self.write("pump.package", package::pack(&app, "", "qemu-virt").unwrap());
    }

    /// The same of the image `pump.img`, which lists the app of `pump.package` and is not signed either; with the keys
    /// of an OEM beside it.
    fn built(&self) {
        self.packed();
        self.succeeds(&["key", "new", "--for", "app", "--output", "oem.pem"]);
        for name in ["current", "next", "recovery"] {
            let file = format!("{name}.pem");
            self.succeeds(&["key", "new", "--for", "boot", "--output", &file]);
        }
        let shown = self.json(&["app", "show", "pump.package", "--json"]);
        self.write("image.toml", IMAGE.replace("ID", shown["component_id"].as_str().unwrap()));
        let manifest = ImageManifest::load(&self.at("image.toml")).unwrap();
        let board = Boards::BuiltIn.of_option(&manifest.board).unwrap();
        let device_tree = machine::device_tree(manifest.memory_mib).unwrap();
        let program = fs::read(self.at("program")).unwrap();
        let boot_keys = manifest.boot_key_paths().unwrap();
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services");
        let services =
            own_services::of_image(&own_services::load_all(&own).unwrap(), &manifest, false);
        let inputs = Inputs {
            manifest: &manifest,
            board: &board,
            memory_mib: manifest.memory_mib,
            kernel: b"zImage",
            device_tree: &device_tree,
            u_boot: UBoot {
                image: b"U-Boot",
                first_stage: None,
                spare_first_stage: None,
                device_tree: &device_tree,
            },
            boot_keys: boot_keys.map(|path| BootKey::load(&path).unwrap()),
            boot_signer: None,
            init: program.clone(),
            services: services.iter().map(|service| (service, program.clone())).collect(),
            update: None,
            service: None,
            apps: Vec::new(),
            app_keys: manifest.app_key_paths().map(|p| PublicKey::load(&p).unwrap()).collect(),
            build_time: 1_700_000_000,
            provenance: b"{}".to_vec(),
            production: true,
        };
        build::build(&inputs, &self.at("pump.img")).unwrap();
    }
}

#[test]
fn every_command_has_help() {
    let outside = Outside::new();
    let mut left: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = left.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        for name in outside.subcommands(&words) {
            left.push(command.iter().cloned().chain([name]).collect());
        }
        seen += 1;
    }
    assert!(seen > 30, "only {seen} commands were found");
    let about = outside.succeeds(&["--help"]);
    assert!(about.starts_with("Make apps, keys, images and releases"), "{about}");
    assert!(outside.succeeds(&["--version"]).starts_with("holdfast "));
}

#[test]
fn an_app_is_made_and_checked_for_a_board() {
    let outside = Outside::new();
    let made = outside.succeeds(&["app", "new", "pump"]);
    assert!(made.ends_with("run it: holdfast run --app pump\n"), "{made}");
    let check = ["app", "check", "pump", "--board", "orangepi-pc"];
    assert_eq!(outside.succeeds(&check), "no faults\n");
    assert!(outside.succeeds(&["app", "plan", "pump"]).contains("/app"));
    outside.succeeds(&["app", "score", "pump", "--board", "qemu-virt", "--at-most", "0.0"]);
    let manifest = fs::read_to_string(outside.at("pump/app_manifest.json")).unwrap();
    let asks = manifest.replace("\"Capabilities\": {}", "\"Capabilities\": {\"Gpio\": [\"$LED\"]}");
    outside.write("pump/app_manifest.json", asks);
    let output = outside.holdfast(&check);
    let faults = String::from_utf8_lossy(&output.stdout).into_owned();
    let fault = "Gpio[0]: this board has no Gpio `$LED`; it has $LED_GREEN, $LED_RED";
    assert!(faults.contains(fault), "{faults}");
    let toaster = ["app", "check", "pump", "--board", "toaster"];
    let there_is_none =
        "error: --board: there is no board `toaster`; boards are: beaglebone-black, ";
    outside.fails(1, &toaster, &[there_is_none, "which --checkout names"]);
}

#[test]
fn keys_are_made_and_shown_and_a_package_is_signed() {
    let outside = Outside::new();
    outside.packed();
    outside.succeeds(&["key", "new", "--for", "app", "--output", "oem.pem"]);
    let key = outside.json(&["key", "show", "oem.pub.pem", "--json"]);
    assert_eq!((&key["development"], &key["of_this_checkout"]), (&false.into(), &false.into()));
    let sign = ["app", "sign", "pump.package"];
    outside.succeeds(&[&sign[..], &["--public", "oem.pub.pem", "--emit-bytes", "bytes"]].concat());
    assert_eq!(fs::read(outside.at("bytes")).unwrap().len(), 448);
    outside.succeeds(&[&sign[..], &["--key", "oem.pem"]].concat());
    let shown = outside.json(&["app", "show", "pump.package", "--key", "oem.pub.pem", "--json"]);
    assert_eq!((&shown["signature"], &shown["key_id"]), (&"good".into(), &key["id"]));
}

#[test]
fn an_image_is_signed_verified_filled_and_written_to_a_card() {
    let outside = Outside::new();
    outside.built();
    assert!(outside.succeeds(&["image", "show", "pump.img"]).contains("boot: unsigned"));
    let flash = ["flash", "--image", "pump.img", "--to", "card.img"];
    outside.fails(1, &flash, &["`holdfast image verify` says why", "`holdfast image sign`"]);
    outside.succeeds(&["image", "sign", "pump.img", "--key", "current.pem"]);
    outside.fails(
        1,
        &["image", "append-app", "pump.img", "pump.package"],
        &["pump.img: pump.package: the package is not signed"],
    );
    outside.succeeds(&["app", "sign", "pump.package", "--key", "oem.pem"]);
    let appended = outside.succeeds(&["image", "append-app", "pump.img", "pump.package"]);
    assert!(appended.contains("pump 0.1.0, added"), "{appended}");
    let sound = "slot a: sound, signed by key current, for qemu-virt, rollback index 3";
    let verified = outside.succeeds(&["image", "verify", "pump.img"]);
    assert!(verified.contains(sound), "{verified}");
    let shown = outside.json(&["image", "show", "pump.img", "--json"]);
    assert_eq!((&shown["name"], &shown["development"]), (&"pump".into(), &false.into()));
    let output = outside.holdfast(&flash);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("board qemu-virt starts from a ROM: pump.rom"), "{message}");
    assert!(fs::read(outside.at("card.img")).unwrap() == fs::read(outside.at("pump.img")).unwrap());
}

#[test]
fn releases_are_published_with_keys_that_are_named() {
    let outside = Outside::new();
    outside.built();
    outside.succeeds(&["image", "sign", "pump.img", "--key", "current.pem"]);
    for name in ["root", "new-root", "targets", "online"] {
        let file = format!("{name}.pem");
        outside.succeeds(&["key", "new", "--for", "release", "--output", &file]);
    }
    let roles =
        ["--root", "root.pub.pem", "--targets", "targets.pub.pem", "--online", "online.pub.pem"];
    let new = ["release", "new", "os", "--key", "root.pem"];
    outside.fails(2, &new, &["name keys with --root, --targets and --online", "--checkout DIR"]);
    outside.succeeds(&[&new[..], &roles].concat());
    let publish = ["release", "publish", "os", "--image", "pump.img"];
    outside.fails(2, &publish, &["name keys with --key: without", "--checkout DIR"]);
    let keys = ["--key", "targets.pem", "--key", "online.pem"];
    let published = outside.succeeds(&[&publish[..], &keys].concat());
    assert!(published.contains("os/pump-1.0.0.slot: version 1.0.0"), "{published}");
    // What is signed elsewhere.
    outside.succeeds(&[&publish[..], &["--emit-bytes", "bytes"]].concat());
    let key = PrivateKey::load(&outside.at("targets.pem")).unwrap();
    outside.write("signature", key.sign(&fs::read(outside.at("bytes")).unwrap()));
    let public = ["--public", "targets.pub.pem", "--signature", "signature"];
    outside.succeeds(&[&["release", "sign", "os", "--draft", "targets"][..], &public].concat());
    outside.succeeds(&["release", "publish", "os", "--draft", "--key", "online.pem"]);
    outside.succeeds(&["release", "refresh", "os", "--key", "online.pem"]);
    let new_root = "new-root.pub.pem";
    outside.succeeds(
        &[
            &["key", "rotate", "os", "--root", new_root][..],
            &roles[2..],
            &["--key", "root.pem", "--key", "new-root.pem", "--key", "online.pem"],
        ]
        .concat(),
    );
    let shown = outside.json(&["release", "show", "os", "--json"]);
    assert_eq!(shown["root_version"], 2, "{shown:#}");
    assert!(outside.succeeds(&["release", "verify", "os"]).contains("a device takes it"));
    outside.succeeds(&["release", "bundle", "--os", "os", "--output", "card.img"]);
    assert!(outside.at("card.img").is_file());
}

#[test]
fn a_service_is_told_of_a_release_by_its_image_and_by_what_was_published() {
    let outside = Outside::new();
    outside.built();
    let service = Installation::owned();
    let (image, repository) = (outside.at("pump.img"), outside.at("os"));
    let (image, repository) = (image.to_str().unwrap(), repository.to_str().unwrap());
    let by_image = ["release", "add", "--image", image];
    service.fails(1, &by_image, &["nobody has signed its slot"]);
    outside.succeeds(&["image", "sign", "pump.img", "--key", "current.pem"]);
    outside.succeeds(&["key", "new", "--for", "release", "--output", "key.pem"]);
    let key = "key.pub.pem";
    let roles = ["--root", key, "--targets", key, "--online", key, "--key", "key.pem"];
    outside.succeeds(&[&["release", "new", "os"][..], &roles].concat());
    let by_repository = ["release", "add", repository];
    service.fails(1, &by_repository, &["has no release of the OS with a boot digest"]);
    // One command publishes, and gives the service the programs' symbols; without them, nothing is published.
    let (key, publish) =
        (outside.at("key.pem"), ["release", "publish", repository, "--image", image]);
    let publish = [&publish[..], &["--key", key.to_str().unwrap(), "--upload-symbols"]].concat();
    service.fails(1, &publish, &["pump.symbols: there are no symbols"]);
    service.fails(1, &by_repository, &["has no release of the OS with a boot digest"]);
    fs::create_dir(outside.at("pump.symbols")).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-g", "-Wl,--build-id=sha1", "-x", "c", "-", "-o"])
        .arg(outside.at("pump.symbols/init"));
    let mut cc = cc.stdin(Stdio::piped()).spawn().unwrap();
    cc.stdin.take().unwrap().write_all(b"int main(void) { return 0; }").unwrap();
    assert!(cc.wait().unwrap().success());
    let said = service.succeeds(&publish);
    assert!(said.contains("symbols of 1 programs, 1 of them new\n"), "{said}");
    assert!(said.contains("published: "), "{said}");
    assert_eq!(service.items(&["symbols", "list"]).len(), 1);
    assert_eq!(service.items(&by_repository).len(), 1);
    // The image is the same release.
    service.succeeds(&by_image);
    let listed = service.items(&["release", "list"]);
    let shown = outside.json(&["image", "show", "pump.img", "--json"]);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["boot"], shown["boot_digest"]);
    assert_eq!((&listed[0]["version"], &listed[0]["index"]), (&"1.0.0".into(), &3.into()));
}

#[test]
fn a_device_is_asked_by_its_log() {
    let outside = Outside::new();
    outside.write(
        "console.log",
        "[    0.9] init: status: slot=a phase=committed next=a tries_a=3 tries_b=0 good_a=1 good_b=0 \
         image=pump version=1.0.0 board=qemu-virt rollback_index=3 floor=3 last_reset=power-on\n",
    );
    let status = outside.succeeds(&["device", "status", "console.log"]);
    assert!(status.contains("image           pump 1.0.0 for qemu-virt"), "{status}");
}

#[test]
fn a_crash_is_decoded_with_symbols_that_are_named() {
    let outside = Outside::new();
    let program = outside.program();
    fs::create_dir(outside.at("symbols")).unwrap();
    fs::rename(outside.at("program"), outside.at("symbols/pump")).unwrap();
    // e_entry of the header, which is the first instruction of `main`.
    let entry = u32::from_le_bytes(program[24..28].try_into().unwrap()) & !1;
    let log = format!(
        "[    2.8] init: image pump 1.0.0 for qemu-virt, main at 2.7s\n\
         [    3.2] init: pump: package 0.1.0, rollback index 0, uid 1001\n\
         [    3.7] CPU: 0 UID: 1001 PID: 75 Comm: app Not tainted 6.12.117-holdfast #1\n\
         [    3.8] pc : [<{entry:08x}>]    lr : [<{entry:08x}>]    psr: 60000010\n\
         [    3.8] Flags: nZCv  IRQs on  FIQs on  Mode USER_32  ISA ARM  Segment user\n\
         [    5.8] init: pump ended with signal 11, memory peak 1460 KiB\n"
    );
    outside.write("console.log", log);
    let decode = ["crash", "decode", "console.log"];
    outside.fails(
        2,
        &decode,
        &["without --symbols, those of a checkout's last build are taken", "--checkout DIR"],
    );
    let decoded = outside.succeeds(&[&decode[..], &["--symbols", "symbols"]].concat());
    assert!(decoded.contains("pump ended with signal 11"), "{decoded}");
    assert!(decoded.contains("main at ") && decoded.contains("main.c:"), "{decoded}");
}

#[test]
fn what_is_built_from_sources_asks_for_a_checkout_and_says_how() {
    let outside = Outside::new();
    outside.succeeds(&["app", "new", "pump"]);
    outside.write("image.toml", IMAGE.replace("ID", "c2b0a6f8-5e0c-4c5e-9d5b-2f6f3f0c7a11"));
    let here = fs::canonicalize(outside.here()).unwrap();
    let in_none = format!("{} is not in a checkout of Holdfast", here.display());
    let remedy = "run it inside a checkout of Holdfast, or pass --checkout DIR";
    for (command, why) in [
        (&["run", "--app", "pump"][..], "an image is built from the sources in a checkout"),
        (&["image", "build", "--image", "image.toml"], "an image is built from the sources"),
        (&["image", "sources", "pump.img", "--output", "sources"], "are built again"),
        (&["app", "build", "pump"], "an app is compiled as a checkout says"),
        (&["app", "pack", "pump", "--output", "pump.package"], "an app is compiled"),
    ] {
        outside.fails(2, command, &["error: ", why, &in_none, remedy]);
    }
    let left: Vec<_> =
        fs::read_dir(outside.here()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_checkout_that_is_named_lends_its_boards() {
    let outside = Outside::new();
    outside.succeeds(&["app", "new", "pump"]);
    let check = ["app", "check", "pump", "--board", "mine", "--checkout", "checkout"];
    outside.fails(2, &check, &["error: --checkout: checkout: is no checkout of Holdfast"]);
    for directory in ["images/boards", "kernel-config"] {
        fs::create_dir_all(outside.at("checkout").join(directory)).unwrap();
    }
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/boards");
    let board = fs::read_to_string(boards.join("qemu-virt.toml")).unwrap();
    outside.write(
        "checkout/images/boards/mine.toml",
        board.replacen("name = \"qemu-virt\"", "name = \"mine\"", 1),
    );
    assert_eq!(outside.succeeds(&check), "no faults\n");
    // Before the command as well as behind it.
    let before = ["--checkout", "checkout", "app", "check", "pump", "--board", "qemu-virt"];
    outside.fails(1, &before, &["there is no board `qemu-virt`; boards are: mine"]);
}
