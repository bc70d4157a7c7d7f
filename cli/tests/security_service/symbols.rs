//! `symbols`: programs are sent once, under the build ids that they have, and listed and forgotten.

use crate::installation::{Installation, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

/// A program of this host with its symbols.
pub(crate) fn program(path: &Path, source: &str, arguments: &[&str]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("program.c");
    std::fs::write(&file, source).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-g", "-o"]).arg(path).arg(&file).args(arguments);
    assert!(cc.status().unwrap().success());
}

const ID: &str = "-Wl,--build-id=sha1";

#[test]
fn programs_are_sent_once_and_listed_and_forgotten() {
    let installation = Installation::owned();
    let symbols = installation.at("pump.symbols");
    program(&symbols.join("init"), "int main(void) { return 1; }", &[ID]);
    program(&symbols.join("uplink"), "int main(void) { return 2; }", &[ID]);
    std::fs::copy(symbols.join("uplink"), symbols.join("update")).unwrap();
    program(&symbols.join("old"), "int main(void) { return 3; }", &["-Wl,--build-id=none"]);
    let upload = ["symbols", "upload", "pump.symbols"];
    let output = installation.command(&upload).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "symbols of 2 programs, 2 of them new\n");
    let said = text(&output.stderr);
    assert!(said.contains("pump.symbols/old: has no build id, and is not sent"), "{said}");
    let again = installation.items(&upload);
    assert!(again.len() == 2 && again.iter().all(|item| item["new"] == json!(false)), "{again:?}");
    let listed = installation.items(&["symbols", "list"]);
    let ids =
        |items: &[Value]| items.iter().map(|item| item["build_id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&again));
    let id = listed[0]["build_id"].as_str().unwrap();
    let said = installation.succeeds(&["symbols", "remove", id]);
    assert_eq!(said, format!("the symbols of {id} are forgotten\n"));
    assert_eq!(installation.items(&["symbols", "list"]).len(), 1);
    let one = installation.items(&upload);
    assert_eq!(one.iter().filter(|item| item["new"] == json!(true)).count(), 1);
    // A program without names, and a directory without programs.
    program(&installation.at("stripped"), "int main(void) { return 4; }", &[ID, "-s"]);
    installation.fails(
        1,
        &["symbols", "upload", "stripped"],
        &["symbols-refused", "was it stripped?"],
    );
    std::fs::create_dir(installation.at("empty")).unwrap();
    installation.fails(1, &["symbols", "upload", "empty"], &["no program with a build id"]);
    installation.fails(1, &["symbols", "remove", "00a1b2c3d4e5f607"], &["not-found"]);
}

/// A file that is longer than what the kernels of both ends keep for each other: had it been sent, its sender would see a broken pipe.
#[test]
fn a_service_whose_disk_is_full_says_so_and_is_sent_nothing() {
    // No disk is as empty as that.
    let installation = Installation::owned_with("[disk]\nreports_percent = 100\n");
    let large = "char large[24 << 20] = {1}; int main(void) { return large[5]; }";
    program(&installation.at("large"), large, &[ID]);
    let refused = ["507 disk-full", "make room on the disk of the service's folder"];
    installation.fails(1, &["symbols", "upload", "large"], &refused);
    installation.succeeds(&["product", "create", "pump"]);
}
