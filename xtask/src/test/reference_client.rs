//! The stage `reference-client`: what we publish, seen by TUF's own client.

use super::stage_log::StageLog;
use super::test_run::{Counts, TestRun};
use super::tools;
use anyhow::{Context, Result, ensure};
use holdfast_builder::workspace;
use holdfast_images::key::PrivateKey;
use holdfast_release::Release;
use holdfast_release::metadata::Role;
use holdfast_repository::{Lifetimes, Repository, Roles};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::ComponentId;
use holdfast_types::Version;
use holdfast_types::hex::sha256;
use std::path::Path;
use std::process::Command;

const PATH: &str = "apps/pump.app";
const DAY: u64 = 86_400;

pub(super) fn run(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let python = tools::reference_client(&test_run.workspace)?;
    let script = test_run.workspace.root.join("tests/reference-client/client.py");
    let scratch = tempfile::tempdir().context("cannot make a directory")?;
    let directory = scratch.path().join("repository");
    let first_root = directory.join("metadata/1.root.json");
    let look = || -> Result<(bool, String)> {
        let mut command = Command::new(&python);
        command.arg(&script).arg(&directory).arg(&first_root).arg(PATH);
        let output = command.output().context("cannot run the reference client")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(complaint.is_empty(), "the reference client fails: {complaint}");
        Ok((output.status.success(), text))
    };
    let mut counts = Counts::default();
    let mut judge = |name: &str, expected: &str, (taken, said): (bool, String), takes: bool| {
        if taken == takes && said.contains(expected) {
            log.print(format!("test {name} ... ok"));
            counts.passed = counts.passed.saturating_add(1);
        } else {
            log.print(format!("test {name} ... FAILED: expected `{expected}` in\n{said}"));
            counts.failed = counts.failed.saturating_add(1);
        }
    };

    let now = std::time::UNIX_EPOCH.elapsed().context("the clock is before 1970")?.as_secs();
    let mut repository = publish(&directory, now)?;
    let hash = sha256(&content("1.1.0"));
    let expected = format!("root 1\ntimestamp 2\nsnapshot 2\ntargets 2\n{PATH} {hash}\n");
    judge("the_reference_client_takes_what_we_publish", &expected, look()?, true);

    // Another key for what is online, and another for the root.
    let mut root = repository.next_root(&roles([1, 3], 11), 365 * DAY, now)?;
    [1, 2, 3].iter().for_each(|seed| root.sign(&key(*seed)));
    repository.rotate(&root, &[key(11)], Lifetimes::default(), now)?;
    let expected = format!("root 2\ntimestamp 3\nsnapshot 3\ntargets 2\n{PATH} {hash}\n");
    judge("the_reference_client_follows_a_rotation", &expected, look()?, true);

    // It looks at all: neither a changed file nor changed metadata passes.
    let targets = repository.targets();
    let place = targets.get(PATH).and_then(|t| t.place(PATH)).context("nothing is released")?;
    let file = directory.join(place);
    let good = workspace::read(&file)?;
    let mut wrong = good.clone();
    wrong.reverse();
    workspace::write(&file, &wrong)?;
    let refused = "refused: LengthOrHashMismatchError";
    judge("the_reference_client_refuses_a_changed_file", refused, look()?, false);
    workspace::write(&file, good)?;
    let timestamp = directory.join("metadata/timestamp.json");
    let text = workspace::read_text(&timestamp)?;
    workspace::write(&timestamp, text.replace("\"version\":3", "\"version\":4"))?;
    let refused = "refused: UnsignedMetadataError";
    judge("the_reference_client_refuses_changed_metadata", refused, look()?, false);
    Ok(counts)
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_secret(&[seed; 32], true)
}

/// Two of two for the root, one for what is online, one for the targets.
fn roles(root: [u8; 2], online: u8) -> Roles {
    let public = |seed: u8| key(seed).public();
    let keys = [
        (Role::Root, (root.map(public).to_vec(), 2)),
        (Role::Timestamp, (vec![public(online)], 1)),
        (Role::Snapshot, (vec![public(online)], 1)),
        (Role::Targets, (vec![public(20)], 1)),
    ];
    Roles { keys: keys.into() }
}

fn content(version: &str) -> Vec<u8> {
    format!("the package of {version}").into_bytes()
}

/// A repository with two releases, one after the other.
fn publish(directory: &Path, now: u64) -> Result<Repository> {
    let mut root = Repository::first_root(&roles([1, 2], 10), 365 * DAY, now)?;
    [1, 2].iter().for_each(|seed| root.sign(&key(*seed)));
    let mut repository = Repository::create(directory, &root)?;
    for version in ["1.0.0", "1.1.0"] {
        let release = Release {
            subject: ReleaseSubject::App(ComponentId([7; 16])),
            product: String::new(),
            board: String::new(),
            version: version.parse().context("no version")?,
            rollback_index: 1,
            least_os: Version::default(),
            boot_bytes: 0,
            root_hash: "5a".repeat(32),
            boot_chunks: String::new(),
            boot_digest: String::new(),
            feed: None,
        };
        let target = repository.add_file(PATH, &content(version), release)?;
        let mut files = repository.targets();
        files.insert(PATH.to_owned(), target);
        let mut draft = repository.next_targets(files, 90 * DAY, now)?;
        draft.sign(&key(20));
        repository.publish(&draft, &[key(10)], Lifetimes::default(), now)?;
    }
    Ok(repository)
}
