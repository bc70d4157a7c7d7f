//! Releases that the service takes from a repository's signed metadata.

use crate::installation::Installation;
use crate::offered;
use holdfast_repository::Lifetimes;
use serde_json::{Value, json};
use std::path::Path;

/// A repository that offers a release from now on.
fn publish(directory: &Path, seed: u8, version: &str, boot: &str) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    offered::publish(directory, &offered::key(seed), (version, boot), Lifetimes::default(), now);
}

#[test]
fn a_catalog_that_trusts_a_root_takes_what_the_root_vouches_for() {
    let installation = Installation::owned();
    let (boot, other) = ("8d".repeat(32), "9e".repeat(32));
    publish(&installation.at("os"), 1, "1.4.0", &boot);
    publish(&installation.at("stranger"), 2, "1.5.0", &other);
    let known = || -> Vec<(Value, Value)> {
        let items = installation.items(&["release", "list"]).into_iter();
        items.map(|item| (item["version"].clone(), item["source"].clone())).collect()
    };
    // Before a root is trusted, the tool says what the repository offers.
    installation.succeeds(&["release", "add", "os"]);
    assert_eq!(known(), [(json!("1.4.0"), json!("by-hand"))]);
    let said = installation.succeeds(&["release", "trust", "os"]);
    assert_eq!(said, "releases are taken from what os/metadata/1.root.json vouches for\n");
    let said = installation.succeeds(&["release", "add", "os"]);
    assert_eq!(said, format!("release 1.4.0, rollback index 7: {boot}\n"));
    assert_eq!(known(), [(json!("1.4.0"), json!("signed"))]);
    let taken = installation.json(&["release", "add", "os"]);
    assert_eq!((&taken["source"], &taken["releases"][0]["new"]), (&json!("signed"), &json!(false)));
    // What others have signed, and what nobody has, is refused.
    installation.fails(1, &["release", "add", "stranger"], &["stranger", "422 metadata-refused"]);
    let typed = ["release", "add", "--boot", &other, "--version", "1.5.0", "--index", "8"];
    installation.fails(1, &typed, &["release-not-signed"]);
    assert_eq!(known().len(), 1);
    // The root of somebody else is trusted by its file.
    installation.succeeds(&[
        "release",
        "trust",
        "stranger/metadata/1.root.json",
        "--repository",
        "os",
    ]);
    installation.succeeds(&["release", "add", "stranger"]);
    assert_eq!(known().len(), 2);
    installation.fails(1, &["release", "trust", "nowhere.json"], &["nowhere.json"]);
    installation.fails(1, &["release", "trust", "stranger"], &["--repository"]);
}

#[test]
fn a_service_serves_what_is_published_to_it() {
    let installation = Installation::owned();
    let boot = "8d".repeat(32);
    publish(&installation.at("os"), 1, "1.4.0", &boot);
    installation.fails(1, &["release", "serve", "os"], &["os", "trusts no root"]);
    installation.succeeds(&["release", "trust", "os"]);
    let said = installation.succeeds(&["release", "serve", "os"]);
    assert_eq!(said, "served: os, targets 1; 1 files were sent\n");
    // What is there is not sent again.
    let again = installation.json(&["release", "serve", "os"]);
    assert_eq!((&again["sent"], &again["served"]), (&json!(0), &json!(true)));
    // A file that was changed behind the signature is not sent at all.
    publish(&installation.at("changed"), 1, "1.4.1", &"9e".repeat(32));
    let targets = installation.at("changed").join("targets");
    let file = std::fs::read_dir(targets).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    installation.fails(1, &["release", "serve", "changed"], &["--repository"]);
    let changed = ["release", "serve", "changed", "--repository", "os"];
    installation.fails(1, &changed, &["is not what the targets name"]);
}
