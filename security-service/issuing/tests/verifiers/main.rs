//! Verifiers agree: 10,000 leaves of varied content, each read by webpki and by OpenSSL, and by Go's `crypto/x509` where the feature
//! `go-verifier` is on (the stage `service-peers` of the test run).

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

#[cfg(feature = "go-verifier")]
mod go;
mod leaves;

use holdfast_evidence::messages::Profile;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::leaf::policy_of;
use holdfast_service_issuing::lint::verify_chain;
use holdfast_service_issuing::pem::pem;
use leaves::{Group, LEAVES, groups};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use webpki::KeyUsage;

/// Leaves for one process of OpenSSL: their names have to fit a command line.
const BATCH: usize = 1000;

#[test]
fn ten_thousand_leaves_are_what_webpki_takes_and_refuses() {
    let groups = groups();
    let mut serials = BTreeSet::new();
    for group in &groups {
        let issuing = &group.issuing.certificate;
        for issued in &group.leaves {
            let verify = |usage: KeyUsage, at: u64| {
                verify_chain(&issued.der, issuing, &group.root.certificate, usage, at)
            };
            let is_full = issued.profile == Profile::Full;
            for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
                let taken = verify(usage, group.now);
                assert_eq!(taken.is_ok(), is_full, "{:?}: {taken:?}", issued.leaf);
            }
            // Its own usage is there for who asks for it, and its time has both ends.
            if is_full {
                verify(KeyUsage::client_auth(), issued.leaf.not_before).unwrap();
                verify(KeyUsage::client_auth(), issued.leaf.not_after).unwrap();
                verify(KeyUsage::client_auth(), issued.leaf.not_before - 1).unwrap_err();
                verify(KeyUsage::client_auth(), issued.leaf.not_after + 1).unwrap_err();
            }
            serials.insert(leaves::serial(&issued.der).to_vec());
        }
    }
    assert_eq!(serials.len(), LEAVES, "no serial number twice");
}

/// Names of the leaves that OpenSSL takes.
fn taken(directory: &Path, files: &[PathBuf], arguments: &[&str]) -> BTreeSet<PathBuf> {
    let mut taken = BTreeSet::new();
    for batch in files.chunks(BATCH) {
        let mut command = Command::new("openssl");
        command.args(["verify", "-x509_strict", "-CAfile"]).arg(directory.join("root.pem"));
        command.arg("-untrusted").arg(directory.join("issuing.pem")).args(arguments).args(batch);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let good = said.lines().filter_map(|line| line.strip_suffix(": OK"));
        let before = taken.len();
        taken.extend(good.map(PathBuf::from));
        let all = taken.len() - before == batch.len();
        assert_eq!(output.status.success(), all, "{}", String::from_utf8_lossy(&output.stderr));
    }
    taken
}

/// Writes a group as files, and returns those of the leaves.
fn written(directory: &Path, group: &Group) -> Vec<PathBuf> {
    std::fs::write(directory.join("root.pem"), pem("CERTIFICATE", &group.root.certificate))
        .unwrap();
    std::fs::write(directory.join("issuing.pem"), pem("CERTIFICATE", &group.issuing.certificate))
        .unwrap();
    let write = |(number, issued): (usize, &leaves::Issued)| {
        let path = directory.join(format!("{number}.pem"));
        std::fs::write(&path, pem("CERTIFICATE", &issued.der)).unwrap();
        path
    };
    group.leaves.iter().enumerate().map(write).collect()
}

/// Verifies leaves of a group at a time, by their files.
fn verified(directory: &Path, files: &[PathBuf], time: u64, more: &[&str]) -> BTreeSet<PathBuf> {
    let time = time.to_string();
    taken(directory, files, &[&["-attime", time.as_str()][..], more].concat())
}

/// Files of those leaves for which this is true.
fn those(
    leaves: &[leaves::Issued],
    files: &[PathBuf],
    is_good: impl Fn(&leaves::Issued) -> bool,
) -> BTreeSet<PathBuf> {
    let good = leaves.iter().zip(files).filter(|(issued, _)| is_good(issued));
    good.map(|(_, path)| path.clone()).collect()
}

fn openssl_agrees(group: &Group, grade: Grade) {
    let directory = tempfile::tempdir().unwrap();
    let (directory, leaves) = (directory.path(), &group.leaves);
    let files = written(directory, group);
    let verify = |more: &[&str]| verified(directory, &files, group.now, more);
    assert_eq!(verify(&[]).len(), files.len(), "the control: every chain is good");
    let full = those(leaves, &files, |issued| issued.profile == Profile::Full);
    assert!(full.len() > files.len() / 2 && full.len() < files.len());
    for purpose in ["sslclient", "sslserver"] {
        assert_eq!(verify(&["-purpose", purpose]), full, "{purpose}");
    }
    let policy: Vec<String> = policy_of(grade).iter().map(u64::to_string).collect();
    let of_grade = verify(&["-explicit_policy", "-policy", &policy.join(".")]);
    assert_eq!(of_grade, those(leaves, &files, |issued| issued.grade == grade), "{grade}");
    // A second before the end of the shortest, and a second behind it; and the same at their beginning.
    let files = &files[..BATCH / 2];
    let end = leaves.iter().map(|issued| issued.leaf.not_after).min().unwrap();
    let at = |time: u64| verified(directory, files, time, &[]);
    assert_eq!(at(end - 1).len(), files.len());
    assert_eq!(at(end + 1), those(leaves, files, |issued| issued.leaf.not_after > end + 1));
    let begin = leaves.iter().map(|issued| issued.leaf.not_before).max().unwrap();
    assert_eq!(at(begin).len(), files.len());
    assert_eq!(at(begin - 1).len(), 0);
}

#[test]
fn ten_thousand_leaves_are_what_openssl_takes_and_refuses() {
    let groups = groups();
    std::thread::scope(|scope| {
        for (index, group) in groups.iter().enumerate() {
            let grade = Grade::ALL[index % Grade::ALL.len()];
            scope.spawn(move || openssl_agrees(group, grade));
        }
    });
}
