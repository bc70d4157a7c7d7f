//! Devices: claimed by id, by lists and by a console's log, listed over pages, shown, moved and stopped.

use crate::installation::{Installation, assert_said, id};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;

fn device(installation: &Installation, id: &str) -> Value {
    installation.json(&["device", "show", id])
}

#[test]
fn devices_are_claimed_shown_moved_and_stopped() {
    let installation = Installation::owned();
    installation.succeeds(&["product", "create", "pump"]);
    for group in ["eval", "production"] {
        installation.succeeds(&["device-group", "create", group, "--product", "pump"]);
    }
    let (one, two) = (id(1), id(2));
    let claim =
        ["device", "claim", &one, &two, "--grade", "hardware", "--product", "pump", "--group"];
    let claimed = installation.items(&[&claim[..], &["eval"]].concat());
    assert_eq!(claimed[0], json!({"device": one, "state": "claimed"}));
    assert_eq!(claimed.len(), 2);
    let shown = device(&installation, &one);
    assert_eq!((&shown["state"], &shown["claimed_grade"]), (&json!("claimed"), &json!("hardware")));
    assert_eq!(shown["place"], json!({"product": "pump", "group": "eval"}));
    let place = ["--product", "pump", "--group", "production"];
    installation.succeeds(&[&["device", "move", &one], &place[..]].concat());
    assert_eq!(device(&installation, &one)["place"]["group"], "production");
    let text = installation.succeeds(&["device", "show", &one]);
    let is_row = |line: &str| line.split_whitespace().eq(["group", "production"]);
    assert!(text.lines().any(is_row), "{text}");
    installation.succeeds(&["device", "quarantine", &one]);
    assert_eq!(device(&installation, &one)["quarantined"], true);
    assert_eq!(installation.json(&["device", "end-quarantine", &one])["done"], true);
    assert_eq!(device(&installation, &one)["quarantined"], false);
    installation.succeeds(&["device", "retire", &one]);
    assert_eq!(device(&installation, &one)["state"], "retired");
    for (state, ids) in [("claimed", vec![&two]), ("retired", vec![&one]), ("waiting", vec![])] {
        let list = installation.items(&["device", "list", "--state", state]);
        let found: Vec<&str> = list.iter().map(|device| device["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{state}");
    }
    let list = installation.succeeds(&["device", "list"]);
    assert!(
        list.starts_with("DEVICE") && list.contains(&one) && list.contains("retired"),
        "{list}"
    );
    // What nobody has claimed, and what no id is.
    for verb in ["show", "quarantine", "end-quarantine", "retire"] {
        installation.fails(1, &["device", verb, &id(3)], &["404"]);
        installation.fails(
            1,
            &["device", verb, "../catalogs"],
            &["400 malformed", "device: must be 64"],
        );
    }
    installation.fails(
        1,
        &["device", "list", "--state", "lost"],
        &["state: must be waiting, claimed"],
    );
    let nowhere = ["device", "move", &two, "--product", "pump", "--group", "none"];
    installation.fails(1, &nowhere, &["404 not-found", "group"]);
}

#[test]
fn lists_of_any_length_are_claimed_and_listed_over_pages() {
    let installation = Installation::owned();
    let all: BTreeSet<String> = (1..=2300).map(id).collect();
    let lines: Vec<&str> = all.iter().map(String::as_str).collect();
    let text = format!("# a shipment\n\n{}  # the last\n", lines.join("\n"));
    fs::write(installation.at("shipment.txt"), text).unwrap();
    let claim = ["device", "claim", "--grade", "hardware", "--list", "shipment.txt"];
    assert_eq!(installation.items(&claim).len(), 2300);
    let listed = installation.items(&["device", "list"]);
    let ids: BTreeSet<String> =
        listed.iter().map(|device| device["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((listed.len(), ids), (2300, all));
    // Again, it is the same.
    assert_eq!(installation.items(&claim).len(), 2300);
    assert_eq!(installation.items(&["device", "list"]).len(), 2300);
}

#[test]
fn a_list_in_json_says_of_each_device_what_is_known() {
    let installation = Installation::owned();
    let list = json!({"devices": [
        {"device": id(1), "grade": "hardware", "board": "orangepi-pc", "serial": "A-1"},
        {"device": id(2), "grade": "software"},
    ]});
    let output = installation.run_with(&["device", "claim", "--list", "-"], &list.to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = device(&installation, &id(1));
    assert_eq!((&shown["board"], &shown["serial"]), (&json!("orangepi-pc"), &json!("A-1")));
    assert_eq!(device(&installation, &id(2))["kind"], "software");
    let bad =
        json!([{"device": id(3), "grade": "hardware"}, {"device": "12", "grade": "hardware"}]);
    let output = installation.run_with(&["device", "claim", "--list", "-"], &bad.to_string());
    assert_said(&output, 1, &["0 of 2 devices are claimed", "400 malformed", "devices[1].device"]);
    installation.fails(1, &["device", "show", &id(3)], &["404 unknown-device"]);
    let twice = ["device", "claim", "--list", "-", "--grade", "hardware"];
    let output = installation.run_with(&twice, &list.to_string());
    assert_said(&output, 2, &["--grade: the list is JSON and says it of each device"]);
    let output = installation.run_with(&["device", "claim", "--list", "-"], "{");
    assert_said(&output, 1, &["standard input: is no JSON"]);
}

#[test]
fn a_device_is_claimed_by_the_log_of_its_console() {
    let installation = Installation::owned();
    let log = format!(
        "[    2.8] init: image pump 1.0.0 for qemu-virt\n\
         [    3.1] identity: device {}, keys in tpm event=identity_started\n\
         [    3.2] pump: identity: device {}, keys in tpm event=identity_started\n",
        id(1),
        id(2)
    );
    fs::write(installation.at("console.log"), log).unwrap();
    let claim = ["device", "claim", "--grade", "emulated", "--log", "console.log"];
    assert_eq!(installation.items(&claim), [json!({"device": id(1), "state": "claimed"})]);
    installation.fails(1, &["device", "show", &id(2)], &["404 unknown-device"]);
    let output =
        installation.run_with(&["device", "claim", "--grade", "emulated", "--log", "-"], "");
    assert_said(&output, 1, &["standard input: has no line `identity: device", "[service]"]);
}

#[test]
fn a_claim_vouches_by_a_grade_that_is_said() {
    let installation = Installation::owned();
    installation.fails(2, &["device", "claim", &id(1)], &["--grade: is missing"]);
    installation.fails(2, &["device", "claim"], &["required arguments", "<DEVICES"]);
    let grade = ["device", "claim", &id(1), "--grade", "perfect"];
    installation.fails(1, &grade, &["400 malformed"]);
    let serial = ["device", "claim", &id(1), &id(2), "--grade", "hardware", "--serial", "A"];
    installation.fails(1, &serial, &["--serial: there are 2 devices; it is of one"]);
    let place = ["device", "claim", &id(1), "--grade", "hardware", "--product", "pump"];
    installation.fails(2, &place, &["--group"]);
}
