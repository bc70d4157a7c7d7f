//! The same leaves, read by Go's `crypto/x509`: what brokers and services in Go would make of them.

use crate::leaves::{Group, groups, pem};
use holdfast_evidence::messages::Profile;
use holdfast_service_domain::leaf::policy_of;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the program beside this file.
fn program(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/verifiers/verify.go");
    let program = directory.join("verify");
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(source).current_dir(directory);
    build.env("GOCACHE", directory.join("cache")).env("GO111MODULE", "off").env("GOFLAGS", "");
    let output = build.output().expect("go runs (Debian package golang-go)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// What the program says of each leaf: whether it is taken as a client's, as a server's and for anything, and what it has read.
fn said(program: &Path, directory: &Path, group: &Group, time: u64) -> Vec<String> {
    std::fs::write(directory.join("root.pem"), pem(&group.root.certificate)).unwrap();
    std::fs::write(directory.join("issuing.pem"), pem(&group.issuing.certificate)).unwrap();
    let leaves: String = group.leaves.iter().map(|issued| pem(&issued.der)).collect();
    std::fs::write(directory.join("leaves.pem"), leaves).unwrap();
    let mut run = Command::new(program);
    run.current_dir(directory).args(["root.pem", "issuing.pem", "leaves.pem", &time.to_string()]);
    let output = run.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn ten_thousand_leaves_are_what_go_takes_and_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let program = program(directory.path());
    for group in groups() {
        let lines = said(&program, directory.path(), &group, group.now);
        assert_eq!(lines.len(), group.leaves.len());
        for (line, issued) in lines.iter().zip(&group.leaves) {
            let usage = if issued.profile == Profile::Full { "true" } else { "false" };
            let policy: Vec<String> = policy_of(issued.grade).iter().map(u64::to_string).collect();
            let (leaf, policy) = (&issued.leaf, policy.join("."));
            let expected = format!(
                "{usage} {usage} true {} {} {policy} {} {}",
                leaf.common_name, leaf.uri, leaf.not_before, leaf.not_after
            );
            assert_eq!(*line, expected);
        }
        // Behind the end of the shortest, those that last longer alone.
        let end = group.leaves.iter().map(|issued| issued.leaf.not_after).min().unwrap();
        let lines = said(&program, directory.path(), &group, end + 1);
        for (line, issued) in lines.iter().zip(&group.leaves) {
            let is_taken = line.split(' ').nth(2) == Some("true");
            assert_eq!(is_taken, issued.leaf.not_after > end, "{line}");
        }
    }
}
