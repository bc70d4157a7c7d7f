//! Repositories with one key for all roles, which offer releases of the OS.

use holdfast_images::key::PrivateKey;
use holdfast_release::Release;
use holdfast_release::metadata::Role;
use holdfast_release::reuse::CHUNK_BYTES;
use holdfast_repository::{Lifetimes, Repository, Roles};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::Version;
use std::path::Path;

const YEAR_S: u64 = 365 * 86_400;

/// Returns the key of a seed.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_secret(&[seed; 32], true)
}

/// Offers a release of this boot digest alone, in a repository that is made where it is not there yet.
pub(crate) fn publish(
    directory: &Path,
    key: &PrivateKey,
    (version, boot): (&str, &str),
    lifetimes: Lifetimes,
    now: u64,
) {
    let roles = [Role::Root, Role::Timestamp, Role::Snapshot, Role::Targets];
    let roles = Roles { keys: roles.map(|role| (role, (vec![key.public()], 1))).into() };
    let mut repository = if directory.exists() {
        Repository::open(directory).unwrap()
    } else {
        let mut root = Repository::first_root(&roles, YEAR_S, now).unwrap();
        root.sign(key);
        Repository::create(directory, &root).unwrap()
    };
    let release = Release {
        subject: ReleaseSubject::Os,
        product: "pump".to_owned(),
        board: "qemu-virt".to_owned(),
        version: version.parse().unwrap(),
        rollback_index: 7,
        least_os: Version::default(),
        boot_bytes: CHUNK_BYTES as u64,
        root_hash: "5a".repeat(32),
        boot_chunks: "0a".repeat(16),
        boot_digest: boot.to_owned(),
        feed: None,
    };
    let path = format!("pump-{version}.slot");
    // Another release is another file.
    let bytes = boot.repeat(CHUNK_BYTES * 2 / boot.len());
    let target = repository.add_file(&path, bytes.as_bytes(), release).unwrap();
    let mut targets = repository.next_targets([(path, target)].into(), YEAR_S, now).unwrap();
    targets.sign(key);
    repository.publish(&targets, std::slice::from_ref(key), lifetimes, now).unwrap();
}
