//! Sites on a network without a way out: results that are carried out and verified, releases and issuing certificates that are carried in.

use crate::installation::{Installation, assert_said, id, text};
use crate::offered;
use holdfast_repository::Lifetimes;
use holdfast_types::hex::sha256;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

const DAY_S: u64 = 86_400;

/// Entries of an export: names with contents.
type Entries = Vec<(String, Vec<u8>)>;

fn entries(file: &Path) -> Entries {
    let mut archive = tar::Archive::new(File::open(file).unwrap());
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

/// Writes entries under whatever names, as no well-kept program does.
fn write(file: &Path, entries: &Entries) {
    let mut tar = tar::Builder::new(File::create(file).unwrap());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, content.as_slice()).unwrap();
    }
    tar.finish().unwrap();
}

/// Replaces a text in the content of an entry.
fn replace(entries: &mut Entries, name: &str, old: &str, new: &str) {
    let entry = entries.iter_mut().find(|(found, _)| found == name).unwrap();
    let text = String::from_utf8(entry.1.clone()).unwrap();
    assert!(text.contains(old), "{name} has no `{old}`: {text}");
    entry.1 = text.replacen(old, new, 1).into_bytes();
}

/// A service with some devices, a deployment, and what it has exported to `export.tar`.
fn exported() -> Installation {
    let installation = Installation::owned();
    installation.succeeds(&["product", "create", "pump"]);
    installation.succeeds(&["device-group", "create", "test", "--product", "pump"]);
    let place = ["--product", "pump", "--group", "test"];
    let (one, two) = (id(1), id(2));
    let claim = ["device", "claim", &one, &two, "--grade", "hardware"];
    installation.succeeds(&[&claim[..], &place].concat());
    let deploy = [&["deployment", "create"][..], &place, &["--version", "1.5.0"]].concat();
    installation.succeeds(&deploy);
    installation.succeeds(&["ca-certificate", "download", "--output", "catalog.pem"]);
    let said = installation.succeeds(&["site", "export", "--output", "export.tar"]);
    assert!(said.starts_with("export.tar: 2 devices, audit log of "), "{said}");
    installation
}

fn verify(file: &str) -> Vec<String> {
    ["site", "verify", file, "--root", "catalog.pem"].map(str::to_owned).into()
}

#[test]
fn results_are_carried_out_and_verified_without_the_service() {
    let mut installation = exported();
    installation.succeeds(&["site", "export", "--output", "later.tar"]);
    installation.end();
    let said = installation.succeeds(&verify("export.tar"));
    for part in [
        &format!("catalog      {}", installation.catalog),
        "by first-owner",
        "devices      2 claimed",
        "deployments  1 draft",
        "findings     none",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let unpack = [&verify("export.tar")[..], &["--unpack".into(), "site".into()]].concat();
    let shown = installation.succeeds(&[&unpack[..], &["--json".into()]].concat());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(
        (&shown["devices"], &shown["deployments"]),
        (&json!({"claimed": 2}), &json!({"draft": 1}))
    );
    let read = |name: &str| fs::read_to_string(installation.at("site").join(name)).unwrap();
    assert!(read("devices.jsonl").contains(&id(2)));
    // Devices are somewhere once they are enrolled.
    assert_eq!(read("deployment-devices.jsonl"), "");
    // It is written once, into a directory of its own.
    installation.fails(1, &unpack, &["site: is there already"]);
    // A later export goes on from the checkpoint of the first, and the first is known to be older than that of the later.
    let past = |file: &str, checkpoint: &str| {
        [&verify(file)[..], &["--checkpoint".into(), checkpoint.into()]].concat()
    };
    installation.succeeds(&past("later.tar", "site/checkpoint.json"));
    let later = entries(&installation.at("later.tar"));
    fs::write(installation.at("later.json"), &later[1].1).unwrap();
    installation.fails(1, &past("export.tar", "later.json"), &["audit.jsonl: row", "is missing"]);
}

#[test]
fn an_export_that_was_changed_anywhere_is_refused_by_what_is_wrong_first() {
    let installation = exported();
    let other = installation.json(&["catalog", "create", "theirs"])["id"].clone();
    let of_other = ["audit", "checkpoint", "--now", "--output", "theirs.json", "--catalog"];
    installation.succeeds(&[&of_other[..], &[other.as_str().unwrap()]].concat());
    let good = entries(&installation.at("export.tar"));
    let names: Vec<&str> = good.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..4], ["manifest.json", "checkpoint.json", "audit.jsonl", "devices.jsonl"]);
    assert_eq!(names.len(), 11, "{names:?}");
    write(&installation.at("changed.tar"), &good);
    installation.succeeds(&verify("changed.tar"));
    let unpack = [&verify("changed.tar")[..], &["--unpack".into(), "bad".into()]].concat();
    let refused = |change: &dyn Fn(&mut Entries), parts: &[&str]| {
        let mut changed = good.clone();
        change(&mut changed);
        write(&installation.at("changed.tar"), &changed);
        installation.fails(1, &unpack, &[&["changed.tar: "], parts].concat());
        assert!(!installation.at("bad").exists(), "nothing half-written: {parts:?}");
    };
    // A document: missing, changed, cut, another's name, one too many.
    let missing = ["devices.jsonl: is missing", "`releases.jsonl` stands in its place"];
    refused(&|all| drop(all.remove(3)), &missing);
    refused(&|all| drop(all.pop()), &["deployment-devices.jsonl: is missing"]);
    let digest = "devices.jsonl: is not what was exported";
    refused(&|all| replace(all, "devices.jsonl", "hardware", "software"), &[digest]);
    refused(&|all| _ = all[3].1.pop(), &["devices.jsonl: has ", "and the manifest says"]);
    for bad in ["../devices.jsonl", "/devices.jsonl"] {
        let says = format!("`{bad}` stands in its place, a name that leads out of the export");
        refused(&|all| all[3].0 = bad.to_owned(), &["devices.jsonl: is missing", &says]);
    }
    let more = ("more.jsonl".to_owned(), Vec::new());
    refused(&|all| all.push(more.clone()), &["`more.jsonl`", "the manifest does not name it"]);
    // The manifest: another one that fits, and those that lead out or have no end.
    let in_no_row = |all: &mut Entries| {
        let before = sha256(&all[3].1);
        replace(all, "devices.jsonl", "hardware", "software");
        let after = sha256(&all[3].1);
        replace(all, "manifest.json", &before, &after);
    };
    refused(&in_no_row, &["manifest.json: no row of the audit log has its digest"]);
    let name = |all: &mut Entries| replace(all, "manifest.json", "devices.jsonl", "../evil.jsonl");
    refused(&name, &["manifest.json", "`../evil.jsonl` is no name of a document"]);
    let bytes = format!("\"bytes\":{}", good[3].1.len());
    let long = |all: &mut Entries| replace(all, "manifest.json", &bytes, "\"bytes\":68719476737");
    refused(&long, &["manifest.json", "at most 68719476736 are taken"]);
    let big = |all: &mut Entries| all[0].1 = vec![b' '; 64 * 1024 + 1];
    refused(&big, &["manifest.json: has 65537 bytes", "at most 65536"]);
    // The log: cut, changed, and with the row of the export only behind the checkpoint.
    let cut = |all: &mut Entries| {
        let text = String::from_utf8(all[2].1.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        all[2].1 = (lines[..lines.len() - 1].join("\n") + "\n").into_bytes();
    };
    refused(&cut, &["audit.jsonl: row ", "is missing, and all behind it: a checkpoint of"]);
    let other_row = |all: &mut Entries| replace(all, "audit.jsonl", "product.put", "product.cut");
    refused(&other_row, &["audit.jsonl: row ", "is not the one that was written"]);
    // The checkpoint: forged, and another catalog's.
    let forged = |all: &mut Entries| replace(all, "checkpoint.json", "\"size\":", "\"size\":1");
    refused(&forged, &["checkpoint.json", "signature is not good"]);
    let theirs = fs::read(installation.at("theirs.json")).unwrap();
    let vouched = "not vouched for by the catalog's root";
    refused(&|all| all[1].1.clone_from(&theirs), &["checkpoint.json", vouched]);
    // A file that is cut anywhere, and one that is something else.
    let whole = fs::read(installation.at("export.tar")).unwrap();
    for length in [0, 100, 600, 2000, whole.len() / 2] {
        fs::write(installation.at("changed.tar"), &whole[..length]).unwrap();
        installation.fails(1, &unpack, &["changed.tar: ", "json"]);
        assert!(!installation.at("bad").exists());
    }
    fs::write(installation.at("changed.tar"), "no export").unwrap();
    installation.fails(1, &unpack, &["changed.tar: manifest.json: cannot be read"]);
    write(&installation.at("changed.tar"), &good);
    installation.succeeds(&unpack);
    let left: Vec<_> = fs::read_dir(installation.directory.path()).unwrap().collect();
    let hidden = left.iter().map(|entry| entry.as_ref().unwrap().file_name());
    assert_eq!(hidden.filter(|name| name.to_string_lossy().starts_with('.')).count(), 0);
}

#[test]
fn an_export_says_which_lists_the_token_may_not_read() {
    let installation = exported();
    let export = ["site", "export", "--output", "out.tar"];
    let reader = installation.token("reader", "reader");
    let parts = ["may not read `audit`: ", "token create NAME --role auditor"];
    installation.with_token(&reader).fails(1, &export, &parts);
    installation.succeeds(&[
        "token",
        "create",
        "pumps",
        "--role",
        "auditor",
        "--product",
        "pump",
        "--days",
        "1",
        "--output",
        "pumps.token",
    ]);
    let of_product = installation.at("pumps.token").display().to_string();
    // Of findings and reports it would be told those of the product.
    installation.with_token(&of_product).fails(1, &export, &parts);
    assert!(!installation.at("out.tar").exists());
    let auditor = installation.token("auditor", "auditor");
    installation.with_token(&auditor).succeeds(&export);
    assert!(installation.succeeds(&verify("out.tar")).contains("by auditor, row "));
}

/// Offers a release in a repository.
fn publish(directory: &Path, version: &str, lifetimes: Lifetimes, now: u64) {
    let boot = sha256(version.as_bytes());
    offered::publish(directory, &offered::key(1), (version, &boot), lifetimes, now);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap().path();
        let place = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &place);
        } else {
            fs::copy(&entry, place).unwrap();
        }
    }
}

#[test]
fn releases_are_carried_to_a_site_and_what_expired_or_goes_back_is_refused() {
    let installation = Installation::owned();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let made = installation.at("made");
    fs::create_dir(installation.at("medium")).unwrap();
    publish(&made, "1.4.0", Lifetimes::default(), now - 40 * DAY_S);
    let serve = |directory: &'static str| ["release", "serve", directory, "--repository", "os"];
    copy(&made, &installation.at("medium/old"));
    installation.succeeds(&["release", "trust", "medium/old", "--repository", "os"]);
    let expired = ["medium/old", "422 metadata-refused", "timestamp", "expired"];
    installation.fails(1, &serve("medium/old"), &expired);
    // Whoever releases signs for longer than a medium is on its way.
    publish(&made, "1.4.1", Lifetimes::default().at_least(90 * DAY_S), now - 40 * DAY_S);
    copy(&made, &installation.at("medium/first"));
    let said = installation.succeeds(&serve("medium/first"));
    assert_eq!(said, "served: os, targets 2; 1 files were sent\n");
    publish(&made, "1.4.2", Lifetimes::default(), now);
    copy(&made, &installation.at("medium/second"));
    installation.succeeds(&serve("medium/second"));
    // A medium that was brought before.
    let back = ["medium/first", "422 metadata-refused", "goes back from version"];
    installation.fails(1, &serve("medium/first"), &back);
    installation.succeeds(&serve("medium/second"));
}

#[test]
fn a_site_issues_by_a_certificate_that_was_carried_to_it() {
    let headquarters = Installation::owned();
    let catalog = headquarters.catalog.clone();
    let root = headquarters.folder.join(format!("catalog-{catalog}.pem")).display().to_string();
    let root_key = headquarters.folder.join(format!("roots/{catalog}.key")).display().to_string();
    let site = Installation::of_root(&catalog, &root);
    assert_eq!(site.catalog, catalog);
    let keys = fs::read_dir(site.folder.join("roots")).unwrap().count();
    assert_eq!(keys, 0, "the root's key never comes to a site");
    site.log_in();
    let checkpoint = ["audit", "checkpoint", "--now", "--output", "checkpoint.json"];
    site.fails(1, &checkpoint, &["500 internal"]);
    let done = |installation: &Installation, arguments: &[&str]| {
        let output = installation.service(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    done(&site, &["request", "--catalog", &catalog, "--output", "issuing.csr"]);
    let request = site.at("issuing.csr").display().to_string();
    let certificate = headquarters.at("issuing.pem").display().to_string();
    let issue = ["issue", &request, "--root", &root, "--output", &certificate];
    // Another root's key is refused, and so is another catalog's root.
    let other = Installation::new();
    let others = other.folder.join(format!("roots/{}.key", other.catalog)).display().to_string();
    let by_other = headquarters.service(&[&issue[..], &["--root-key", &others]].concat());
    assert_said(&by_other, 1, &["not that of the root's certificate"]);
    let others = other.folder.join(format!("catalog-{}.pem", other.catalog)).display().to_string();
    let of_other = ["issue", &request, "--root", &others, "--output", &certificate];
    let parts = ["is not the certificate of the root of the catalog", &catalog];
    assert_said(&headquarters.service(&of_other), 1, &parts);
    let said = done(&headquarters, &[&issue[..], &["--root-key", &root_key]].concat());
    assert!(said.contains("good for 30 days"), "{said}");
    assert_said(&headquarters.service(&issue), 1, &["is there already"]);
    let install = ["install", &certificate, "--catalog", &catalog];
    // A certificate of another key is not what this service has asked for.
    let own = headquarters.json(&["ca-certificate", "list"]);
    let issuing = own["items"].as_array().unwrap().iter().find(|one| one["kind"] == "issuing");
    fs::write(site.at("own.pem"), issuing.unwrap()["pem"].as_str().unwrap()).unwrap();
    let wrong = site.service(&["install", "own.pem", "--catalog", &catalog]);
    assert_said(&wrong, 1, &["own.pem: is not what this service has asked for", "the key is not"]);
    done(&site, &install);
    assert_said(&site.service(&install), 1, &["no request waits"]);
    // The service that runs issues with it, and what it exports is verified by the root at headquarters.
    site.succeeds(&checkpoint);
    let output = headquarters.at("site.tar").display().to_string();
    site.succeeds(&["site", "export", "--output", &output]);
    let verify = ["site", "verify", &output, "--root", &root];
    let said = headquarters.succeeds(&verify);
    assert!(said.contains(&catalog), "{said}");
    let doctor = text(&site.service(&["doctor"]).stdout);
    assert!(doctor.contains("the issuing certificate is good for "), "{doctor}");
}
