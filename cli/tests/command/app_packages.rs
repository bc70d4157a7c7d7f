//! Keys, and an app's way from nothing to a running one and to a signed package.

use crate::holdfast::{command, ends_with, holdfast, refused, stderr, stdout, succeeds};
use crate::manifests::image;
use holdfast_images::key::PrivateKey;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// An image that trusts packages by this key alone.
fn trusts(key: &str) -> String {
    image("packages", &format!("[trust]\napp_keys = [\"{key}.pub.pem\"]\n"))
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// One test for both: each run builds the image of the same manifest.
#[test]
fn a_new_app_runs_in_two_commands_in_rust_and_in_c() {
    let directory = tempfile::tempdir().unwrap();
    for (name, language) in [("pump", "rust"), ("valve", "c")] {
        let made = holdfast(directory.path(), &["app", "new", name, "--lang", language]);
        assert!(made.status.success(), "{}", stderr(&made));
        let until = format!("{name}: heartbeat 2");
        let run = ["run", "--app", name, "--until", &until, "--timeout", "300"];
        let ran = holdfast(directory.path(), &run);
        assert!(ran.status.success(), "{}", stderr(&ran));
        let console = stdout(&ran);
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
        refused(directory.path(), &["app", "new", name], &[reason]);
    }
}

#[test]
fn what_was_built_is_an_app_directory_that_needs_no_compiler() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "pump", "--lang", "c"]);
    fs::create_dir_all(here.join("pump/root")).unwrap();
    fs::write(here.join("pump/root/ca.pem"), "text").unwrap();
    symlink("ca.pem", here.join("pump/root/link")).unwrap();
    let build = ["app", "build", "pump", "--output", "built"];
    succeeds(here, &build);
    refused(here, &build, &["built: is there already"]);
    refused(here, &["app", "build", "pump", "--output", "pump/src"], &["pump/src"]);
    assert!(!here.join("built/src").exists());
    for (app, package) in [("pump", "pump.package"), ("built", "built.package")] {
        succeeds(here, &["app", "pack", app, "--output", package]);
    }
    let read = |name: &str| fs::read(here.join(name)).unwrap();
    assert_eq!(read("pump.package"), read("built.package"));
}

#[test]
fn a_package_is_packed_signed_shown_and_checked() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "pump", "--lang", "c"]);
    succeeds(here, &["app", "build", "pump"]);
    let product = ["--product", "pool", "--board", "qemu-virt"];
    succeeds(here, &[&["app", "pack", "pump", "--output", "p.package"][..], &product].concat());
    succeeds(here, &["key", "new", "--for", "app", "--output", "oem.pem"]);
    succeeds(here, &["key", "new", "--for", "release", "--output", "other.pem"]);
    let shown = json(&succeeds(here, &["app", "show", "p.package", "--json"]));
    assert_eq!((&shown["name"], &shown["signature"]), (&"pump".into(), &"none".into()));
    assert_eq!((&shown["product"], &shown["board"]), (&"pool".into(), &"qemu-virt".into()));
    let check = ["app", "show", "p.package", "--key", "oem.pub.pem", "--json"];
    refused(here, &check, &["p.package: the package is not signed"]);
    succeeds(here, &["app", "sign", "p.package", "--key", "oem.pem"]);
    assert_eq!(json(&succeeds(here, &check))["signature"], "good");
    let id = json(&succeeds(here, &["key", "show", "oem.pub.pem", "--json"]))["id"].clone();
    assert_eq!(json(&succeeds(here, &check))["key_id"], id);
    let other = ["app", "show", "p.package", "--key", "other.pub.pem"];
    refused(here, &other, &["p.package: the package is signed by another key"]);
    let mut bytes = fs::read(here.join("p.package")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(here.join("p.package"), bytes).unwrap();
    refused(here, &check, &["p.package: the package is damaged"]);
}

const POSIX: &str = r#"#include <signal.h>
#include <string.h>
#include <time.h>
#include "gauge.h"

static volatile sig_atomic_t stop;
static void on_term(int number) { stop = number; }

int main(void)
{
    struct sigaction action = { .sa_handler = on_term };
    struct timespec now, pause = { 1, 0 };
    sigaction(SIGTERM, &action, NULL);
    char *name = strdup(gauge());
    while (!stop && clock_gettime(CLOCK_MONOTONIC, &now) == 0)
        nanosleep(&pause, NULL);
    return name == NULL;
}
"#;

#[test]
fn a_posix_program_in_c_builds_wherever_it_lies_and_its_warnings_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().join("mein Ger\u{e4}t");
    fs::create_dir(&here).unwrap();
    succeeds(&here, &["app", "new", "pump", "--lang", "c"]);
    let write = |file: &str, text: &str| {
        let path = here.join("pump").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/main.c", POSIX);
    write("include/gauge.h", "const char *gauge(void);\n");
    write(
        "src/parts/gauge.c",
        "#include \"gauge.h\"\nconst char *gauge(void) { int unused; return \"g\"; }\n",
    );
    let built = holdfast(&here, &["app", "build", "pump"]);
    let message = stderr(&built);
    assert!(built.status.success(), "{message}");
    assert!(message.contains("src/parts/gauge.c:2") && message.contains("unused"), "{message}");
    write("src/parts/valve.cpp", "");
    let remedy = ["src/parts/valve.cpp: is C++, and only C is compiled here", "below root/"];
    refused(&here, &["app", "build", "pump"], &remedy);
}

#[test]
fn an_output_goes_through_links_pipes_and_standard_output_and_is_never_an_input() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "pump", "--lang", "c"]);
    succeeds(here, &["key", "new", "--for", "app", "--output", "oem.pem"]);
    fs::create_dir(here.join("store")).unwrap();
    symlink("store/pump.package", here.join("current.package")).unwrap();
    succeeds(here, &["app", "pack", "pump", "--output", "current.package"]);
    let emit = |to: &str| {
        let public = ["app", "sign", "current.package", "--public", "oem.pub.pem"];
        holdfast(here, &[&public[..], &["--emit-bytes", to]].concat())
    };
    // What is piped to a device that signs has nothing else in it.
    let output = emit("/dev/stdout");
    assert!(output.status.success());
    assert!(stderr(&output).contains("/dev/stdout: 448 bytes to sign"));
    let piped = output.stdout;
    assert_eq!(piped.len(), 448, "{}", String::from_utf8_lossy(&piped));
    assert!(Command::new("mkfifo").arg(here.join("pipe")).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = here.join("pipe");
        move || fs::read(pipe).unwrap()
    });
    assert!(emit("pipe").status.success());
    assert!(reader.join().unwrap() == piped && !here.join("pipe").is_file());
    for (to, input) in [("store/pump.package", "current.package"), ("oem.pub.pem", "oem.pub.pem")] {
        let output = emit(to);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(&format!("{to}: is the same file as {input}")), "{message}");
    }
    succeeds(here, &["app", "sign", "current.package", "--key", "oem.pem"]);
    assert!(here.join("current.package").is_symlink());
    let check = ["app", "show", "store/pump.package", "--key", "oem.pub.pem", "--json"];
    assert_eq!(json(&succeeds(here, &check))["signature"], "good");
    refused(
        here,
        &["image", "build", "--output", "pipe"],
        &["pipe: is a device or a pipe; name a file"],
    );
    refused(
        here,
        &["image", "build", "--output", "pump.rom"],
        &["pump.rom: is the name of a boot loader"],
    );
}

/// Without a path there is no compiler: what is refused was refused before one was looked for.
fn refused_at_once(directory: &Path, arguments: &[&str], parts: &[&str]) {
    ends_with(command(directory, arguments).env("PATH", "/nowhere"), 1, parts);
}

#[test]
fn a_package_never_takes_the_place_of_what_it_is_made_from() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "capp", "--lang", "c"]);
    succeeds(here, &["app", "new", "rapp"]);
    symlink("capp/src/main.c", here.join("link")).unwrap();
    for (app, to) in [
        ("capp", "capp/src/main.c"),
        ("capp", "capp/src/new.h"),
        ("capp", "link"),
        ("rapp", "rapp/src/main.rs"),
        ("rapp", "rapp/Cargo.toml"),
        ("rapp", "rapp/app_manifest.json"),
    ] {
        let before = fs::read(here.join(to)).ok();
        refused_at_once(here, &["app", "pack", app, "--output", to], &[to, "; name a"]);
        assert!(fs::read(here.join(to)).ok() == before, "{to} was changed");
    }
    let nowhere = ["app", "pack", "capp", "--output", "p.package", "--board", "nosuch"];
    let said = "error: --board: there is no board `nosuch`; boards are: beaglebone-black, ";
    refused_at_once(here, &nowhere, &[said]);
    let pack = |to| ["app", "pack", "capp", "--output", to];
    refused_at_once(here, &pack("capp"), &["capp: is a directory; name a file in it"]);
    refused_at_once(here, &pack("x/"), &["x/: names a directory; name a file in it"]);
}

#[test]
fn a_package_is_signed_with_a_key_kept_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "pump", "--lang", "c"]);
    succeeds(here, &["app", "pack", "pump", "--output", "p.package"]);
    succeeds(here, &["key", "new", "--for", "app", "--output", "oem.pem"]);
    let sign = ["app", "sign", "p.package", "--public", "oem.pub.pem"];
    succeeds(here, &[&sign[..], &["--emit-bytes", "bytes"]].concat());
    let bytes: [u8; 448] = fs::read(here.join("bytes")).unwrap().try_into().unwrap();
    let key = PrivateKey::load(&here.join("oem.pem")).unwrap();
    let before = fs::read(here.join("p.package")).unwrap();
    let attach = [&sign[..], &["--signature", "signature"]].concat();
    for (signature, reason) in [
        (vec![0; 63], "has 63 bytes; a signature has 64"),
        (vec![0; 64], "signature that does not fit its header"),
    ] {
        fs::write(here.join("signature"), signature).unwrap();
        refused(here, &attach, &[reason]);
        assert!(fs::read(here.join("p.package")).unwrap() == before, "it was changed");
    }
    fs::write(here.join("signature"), key.sign(&bytes)).unwrap();
    succeeds(here, &attach);
    let check = ["app", "show", "p.package", "--key", "oem.pub.pem", "--json"];
    assert_eq!(json(&succeeds(here, &check))["signature"], "good");
}

#[test]
fn a_signed_package_goes_into_an_image_that_trusts_its_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "pump", "--lang", "c"]);
    succeeds(here, &["app", "pack", "pump", "--output", "p.package", "--board", "qemu-virt"]);
    succeeds(here, &["key", "new", "--for", "app", "--output", "oem.pem"]);
    succeeds(here, &["key", "new", "--for", "app", "--output", "other.pem"]);
    let build =
        ["image", "build", "--image", "image.toml", "--output", "out.img", "--app", "p.package"];
    fs::write(here.join("image.toml"), trusts("oem")).unwrap();
    refused(here, &build, &["p.package: the package is not signed"]);
    succeeds(here, &["app", "sign", "p.package", "--key", "oem.pem"]);
    succeeds(here, &build);
    fs::remove_file(here.join("out.img")).unwrap();
    fs::write(here.join("image.toml"), trusts("other")).unwrap();
    refused(here, &build, &["p.package: the package is signed by another key"]);
    assert!(!here.join("out.img").exists());
    let pack = ["app", "pack", "pump", "--output", "p.package", "--board", "orangepi-pc"];
    succeeds(here, &pack);
    succeeds(here, &["app", "sign", "p.package", "--key", "other.pem"]);
    refused(here, &build, &["p.package", "is for board \"orangepi-pc\""]);
}

#[test]
fn an_app_is_appended_at_the_factory_and_the_os_stays_as_it_was_signed() {
    const LATER: &str = "\n[[app]]\ncomponent_id = \"ID\"\nname = \"pump\"\n";
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["key", "new", "--for", "app", "--output", "oem.pem"]);
    for app in ["pump", "other"] {
        let package = format!("{app}.package");
        succeeds(here, &["app", "new", app, "--lang", "c"]);
        succeeds(here, &["app", "pack", app, "--output", &package, "--board", "qemu-virt"]);
    }
    let id = json(&succeeds(here, &["app", "show", "pump.package", "--json"]))["component_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let manifest = trusts("oem") + &LATER.replace("ID", &id);
    fs::write(here.join("image.toml"), &manifest).unwrap();
    succeeds(here, &["image", "build", "--image", "image.toml", "--output", "out.img"]);
    let root_hash =
        || json(&succeeds(here, &["image", "show", "out.img", "--json"]))["root_hash"].clone();
    let (as_built, hash) = (fs::read(here.join("out.img")).unwrap(), root_hash());
    let append = ["image", "append-app", "out.img", "pump.package"];
    refused(here, &append, &["pump.package: the package is not signed"]);
    for app in ["pump", "other"] {
        succeeds(here, &["app", "sign", &format!("{app}.package"), "--key", "oem.pem"]);
    }
    let other = ["image", "append-app", "out.img", "other.package"];
    refused(here, &other, &["which this image does not list", "(pump)"]);
    let path = here.join("pump/app_manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let asks = |grant: &str| {
        let with = text.replace(r#""Capabilities": {}"#, &format!(r#""Capabilities": {grant}"#));
        fs::write(&path, with).unwrap();
        succeeds(here, &["app", "pack", "pump", "--output", "more.package"]);
        succeeds(here, &["app", "sign", "more.package", "--key", "oem.pem"]);
    };
    let more = ["image", "append-app", "out.img", "more.package"];
    asks(r#"{"Gpio": ["$LED_RED"]}"#);
    refused(here, &more, &["Capabilities.Gpio[0]: this board has no Gpio `$LED_RED`"]);
    asks(r#"{"AllowedConnections": ["example.com"]}"#);
    refused(here, &more, &["asks for the network, which this image does not have"]);
    asks(r#"{"MutableStorage": {"SizeKB": 65536}}"#);
    refused(here, &more, &["need 65536 KiB in partition `data`"]);
    assert!(fs::read(here.join("out.img")).unwrap() == as_built, "a refusal changed the image");
    assert!(succeeds(here, &append).contains("pump 0.1.0, added"));
    assert_eq!(root_hash(), hash);
    assert!(succeeds(here, &["image", "verify", "out.img"]).contains("slot a: sound"));
    assert!(succeeds(here, &append).contains("pump 0.1.0, in place of the one before"));
}

#[test]
fn a_key_is_ones_own_and_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    for purpose in ["app", "boot"] {
        let file = format!("{purpose}.pem");
        let new = ["key", "new", "--for", purpose, "--output", &file];
        succeeds(here, &new);
        let before = fs::read(here.join(&file)).unwrap();
        let mode = fs::metadata(here.join(&file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
        refused(here, &new, &["is there already"]);
        assert!(fs::read(here.join(&file)).unwrap() == before, "{file} was changed");
        let public = fs::read_to_string(here.join(format!("{purpose}.pub.pem"))).unwrap();
        assert!(public.contains("BEGIN PUBLIC KEY") && !public.contains("PRIVATE"), "{public}");
    }
}

#[test]
fn a_plan_is_printed_and_the_default_app_is_at_the_safest_end() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    succeeds(here, &["app", "new", "pump"]);
    let plan = succeeds(here, &["app", "plan", "pump"]);
    assert!(plan.contains("/app") && !plan.contains("/data"), "{plan}");
    let plan = json(&succeeds(here, &["app", "plan", "pump", "--json"]));
    assert_eq!(plan["capabilities"], serde_json::json!([]), "{plan:#}");
    succeeds(here, &["app", "score", "pump", "--at-most", "0.0"]);
    let path = here.join("pump/app_manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    let more = r#""Capabilities": {"MutableStorage": {"SizeKB": 64}}"#;
    fs::write(&path, text.replace(r#""Capabilities": {}"#, more)).unwrap();
    assert!(succeeds(here, &["app", "plan", "pump"]).contains("/data"));
    let score = json(&succeeds(here, &["app", "score", "pump", "--json"]));
    assert!(score["score"].as_f64().is_some_and(|score| score > 0.0), "{score:#}");
    refused(here, &["app", "score", "pump", "--at-most", "0.0"], &["the exposure is"]);
}
