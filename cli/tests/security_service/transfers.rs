//! Transfers: offered, approved by another owner, signed by a key that is kept elsewhere, accepted and withdrawn.

use crate::installation::{Installation, id};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Another catalog: its id, and its root in a file.
fn other(installation: &Installation) -> String {
    let made = installation.json(&["catalog", "create", "theirs"]);
    let other = made["id"].as_str().unwrap().to_owned();
    let download = ["ca-certificate", "download", "--output", "theirs.pem", "--catalog", &other];
    installation.succeeds(&download);
    other
}

fn claim(installation: &Installation, device: &str) {
    let claim = ["device", "claim", device, "--grade", "hardware"];
    installation.succeeds(&[&claim[..], &["--catalog", &installation.catalog]].concat());
}

#[test]
fn a_device_is_offered_approved_and_accepted() {
    let installation = Installation::owned();
    let (ours, device) = (installation.catalog.clone(), id(1));
    claim(&installation, &device);
    let token = ["token", "create", "ines", "--role", "owner", "--person", "ines"];
    installation.succeeds(&[&token[..], &["--days", "1", "--output", "ines.token"]].concat());
    let ines = installation.with_token(&installation.at("ines.token").display().to_string());
    let other = other(&installation);
    let of = |verb: &'static str| vec!["transfer", verb, &device, "--catalog", &ours];
    let to = ["--to", &other, "--root", "theirs.pem"];
    let offer = [&of("offer")[..], &to].concat();
    let said = installation.succeeds(&offer);
    assert!(said.contains("another owner approves it"), "{said}");
    installation.fails(1, &of("approve"), &["409 conflict", "another owner has to"]);
    let early = [&of("show")[..], &["--voucher", "device.voucher"]].concat();
    installation.fails(1, &early, &["has no voucher: it is offered"]);

    // The key of the root signs somewhere else.
    let bytes = [&of("show")[..], &["--signed-bytes", "device.bytes"]].concat();
    installation.succeeds(&bytes);
    let key = installation.take_root_key(&ours);
    ines.fails(1, &of("approve"), &["signature: is needed", "`signed_bytes`"]);
    sign(&key, &installation.at("device.bytes"), &installation.at("device.signature"));
    let signed = [&of("approve")[..], &["--signature", "device.signature"]].concat();
    fs::write(installation.at("wrong.signature"), [0x30, 6, 2, 1, 1, 2, 1, 1]).unwrap();
    let wrong = [&of("approve")[..], &["--signature", "wrong.signature"]].concat();
    ines.fails(1, &wrong, &["400 malformed", "not that of the catalog's root"]);
    ines.succeeds(&signed);
    installation.succeeds(&early);
    let list = installation.succeeds(&["transfer", "list", "--catalog", &ours]);
    assert!(list.starts_with("DEVICE") && list.contains("approved"), "{list}");

    let accept = ["transfer", "accept", "device.voucher", "--grade", "hardware", "--catalog"];
    let own = [&accept[..], &[ours.as_str()]].concat();
    installation.fails(1, &own, &["voucher: is to another catalog"]);
    let accepted = installation.json(&[&accept[..], &[other.as_str()]].concat());
    assert_eq!(accepted, json!({"device": device, "state": "claimed"}));
    let shown = installation.json(&of("show"));
    assert_eq!((&shown["approved_by"], &shown["epoch"]), (&json!("ines"), &json!(1)));
}

#[test]
fn a_transfer_is_withdrawn_and_what_it_names_is_checked() {
    let installation = Installation::owned();
    let (ours, device) = (installation.catalog.clone(), id(1));
    claim(&installation, &device);
    let other = other(&installation);
    let offer = |to: &str, root: &str, days: &str| {
        [
            "transfer",
            "offer",
            &device,
            "--catalog",
            &ours,
            "--to",
            to,
            "--root",
            root,
            "--days",
            days,
        ]
        .map(str::to_owned)
    };
    fs::write(installation.at("none.pem"), "nothing").unwrap();
    for (to, root, days, says) in [
        ("theirs", "theirs.pem", "30", "to: must be a catalog's id"),
        (other.as_str(), "theirs.pem", "401", "days: must be 1 to 400"),
        (other.as_str(), "none.pem", "30", "none.pem: has no block BEGIN CERTIFICATE"),
        (ours.as_str(), "theirs.pem", "30", "belongs to this catalog"),
    ] {
        installation.fails(1, &offer(to, root, days), &[says]);
    }
    installation.succeeds(&offer(&other, "theirs.pem", "30"));
    let withdraw = ["transfer", "withdraw", &device, "--catalog", &ours];
    assert_eq!(installation.json(&withdraw)["done"], Value::Bool(true));
    installation.fails(1, &withdraw, &["404 not-found"]);
}

/// Signs a file as the help of `transfer approve` says.
fn sign(key: &Path, bytes: &Path, signature: &Path) {
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(key).arg("-out").arg(signature).arg(bytes);
    let output = openssl.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
