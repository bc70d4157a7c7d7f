//! A repository over its life, as devices see it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    reason = "a panic is a failed test"
)]

use holdfast_images::key::PrivateKey;
use holdfast_release::client::ClientError;
use holdfast_release::metadata::{Key, MetadataError, Role, Targets};
use holdfast_release::{Authority, Device, Release};
use holdfast_repository::{
    Draft, Lifetimes, Released, Repository, RepositoryError, Roles, remove_release,
};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::ComponentId;
use holdfast_types::Version;
use holdfast_types::chain;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;
const ID: ComponentId = ComponentId([7; 16]);
const PATH: &str = "apps/pump.app";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_secret(&[seed; 32], true)
}

/// Two of two for the root, one of one online, one of one for the targets.
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

fn create(directory: &Path) -> Repository {
    let mut root = Repository::first_root(&roles([1, 2], 10), 365 * DAY, NOW).unwrap();
    root.sign(&key(1));
    root.sign(&key(2));
    Repository::create(directory, &root).unwrap()
}

fn release(version: &str, rollback_index: u64) -> Release {
    Release {
        subject: ReleaseSubject::App(ID),
        product: String::new(),
        board: String::new(),
        version: version.parse().unwrap(),
        rollback_index,
        least_os: Version::default(),
        boot_bytes: 0,
        root_hash: "5a".repeat(32),
        boot_chunks: String::new(),
        boot_digest: String::new(),
        feed: None,
    }
}

fn publish(
    repository: &mut Repository,
    release: Release,
    online: u8,
    now: u64,
) -> Result<(), RepositoryError> {
    let bytes = format!("the package of {}", release.version).into_bytes();
    let target = repository.add_file(PATH, &bytes, release)?;
    let mut files = repository.targets();
    files.insert(PATH.to_owned(), target);
    let mut draft = repository.next_targets(files, 90 * DAY, now)?;
    draft.sign(&key(20));
    repository.publish(&draft, &[key(online)], Lifetimes::default(), now)
}

fn version_for_a_device(directory: &Path, now: u64) -> Result<Version, RepositoryError> {
    let root = fs::read(directory.join("metadata/1.root.json")).unwrap();
    let targets = Repository::verify(directory, &root, now)?;
    let device = Device { product: "p".to_owned(), board: "b".to_owned(), os: Version::default() };
    let authority = Authority::Apps(vec![ID]);
    let app = ReleaseSubject::App(ID);
    let (_, _, release) = targets.release_for(app, &device, &authority, |_| true).unwrap();
    Ok(release.version)
}

#[test]
fn what_is_published_is_what_a_device_finds() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    assert_eq!(version_for_a_device(directory, NOW).unwrap().to_string(), "1.0.0");
    let mut repository = Repository::open(directory).unwrap();
    publish(&mut repository, release("1.1.0", 1), 10, NOW + DAY).unwrap();
    assert_eq!(version_for_a_device(directory, NOW + DAY).unwrap().to_string(), "1.1.0");
    assert!(directory.join("metadata/2.targets.json").is_file());
    assert!(matches!(
        Repository::create(directory, &Repository::first_root(&roles([1, 2], 10), 1, NOW).unwrap()),
        Err(RepositoryError::Exists(_))
    ));
}

#[test]
fn metadata_that_expires_is_signed_anew() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let later = NOW + 20 * DAY;
    let expired = version_for_a_device(directory, later).unwrap_err();
    assert!(
        matches!(
            &expired,
            RepositoryError::Refused {
                source: ClientError::Expired { role: Role::Timestamp, .. },
                ..
            }
        ),
        "{expired}"
    );
    repository.refresh(&[key(10)], Lifetimes::default(), later).unwrap();
    assert_eq!(version_for_a_device(directory, later).unwrap().to_string(), "1.0.0");
}

#[test]
fn what_a_device_would_refuse_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let before = fs::read(directory.join("metadata/timestamp.json")).unwrap();
    // Without the online key, and with somebody else's.
    for online in [20, 99] {
        let refused = publish(&mut repository, release("2.0.0", 1), online, NOW).unwrap_err();
        assert!(
            matches!(
                refused,
                RepositoryError::Refused {
                    source: ClientError::Metadata { error: MetadataError::Signatures { .. }, .. },
                    ..
                }
            ),
            "{refused:?}"
        );
        // The whole reason, once.
        let RepositoryError::Refused { source: ClientError::Metadata { error, .. }, .. } = &refused
        else {
            panic!("{refused:?}");
        };
        let text = chain(&refused);
        assert_eq!(text.matches(&error.to_string()).count(), 1, "{text}");
    }
    // Targets that nobody has signed.
    let draft = repository.next_targets(repository.targets(), DAY, NOW).unwrap();
    repository.publish(&draft, &[key(10)], Lifetimes::default(), NOW).unwrap_err();
    // A release that is none.
    let broken = Release { root_hash: "5a".to_owned(), ..release("2.0.0", 1) };
    let refused = publish(&mut repository, broken, 10, NOW).unwrap_err();
    assert_eq!(refused.to_string(), "apps/pump.app: has no root hash of 64 hexadecimal digits");
    assert_eq!(fs::read(directory.join("metadata/timestamp.json")).unwrap(), before);
    assert_eq!(version_for_a_device(directory, NOW).unwrap().to_string(), "1.0.0");
}

#[test]
fn keys_are_rotated_and_a_device_follows_from_the_first_root() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    // The online key is lost: another takes its place, and signs what is there anew.
    let mut root = repository.next_root(&roles([1, 3], 11), 365 * DAY, NOW).unwrap();
    for seed in [1, 2] {
        root.sign(&key(seed));
    }
    let few = repository.rotate(&root, &[key(11)], Lifetimes::default(), NOW).unwrap_err();
    assert!(few.to_string().contains("a device refuses"), "{few}");
    root.attach(&key(3).public(), &key(3).sign(root.bytes_to_sign())).unwrap();
    root.attach(&key(4).public(), &key(3).sign(root.bytes_to_sign())).unwrap_err();
    repository.rotate(&root, &[key(10)], Lifetimes::default(), NOW).unwrap_err();
    assert_eq!(repository.root().common.version, 1, "nothing has changed");
    repository.rotate(&root, &[key(11)], Lifetimes::default(), NOW).unwrap();
    assert_eq!(version_for_a_device(directory, NOW).unwrap().to_string(), "1.0.0");
    publish(&mut repository, release("1.1.0", 2), 10, NOW).unwrap_err();
    publish(&mut repository, release("1.1.0", 2), 11, NOW).unwrap();
    assert_eq!(version_for_a_device(directory, NOW).unwrap().to_string(), "1.1.0");
    assert_eq!(Repository::open(directory).unwrap().root().common.version, 2);
}

#[test]
fn targets_are_signed_anew_where_their_key_changes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let mut roles = roles([1, 2], 10);
    roles.keys.insert(Role::Targets, (vec![key(21).public()], 1));
    let mut root = repository.next_root(&roles, 365 * DAY, NOW).unwrap();
    [1, 2].iter().for_each(|seed| root.sign(&key(*seed)));
    repository.rotate(&root, &[key(10)], Lifetimes::default(), NOW).unwrap_err();
    repository.rotate(&root, &[key(10), key(20)], Lifetimes::default(), NOW).unwrap_err();
    assert_eq!(version_for_a_device(directory, NOW).unwrap().to_string(), "1.0.0");
    repository.rotate(&root, &[key(10), key(21)], Lifetimes::default(), NOW).unwrap();
    assert_eq!(version_for_a_device(directory, NOW).unwrap().to_string(), "1.0.0");
    publish(&mut repository, release("1.1.0", 1), 10, NOW).unwrap_err();
}

#[test]
fn a_file_that_was_changed_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let place = repository.targets()[PATH].place(PATH).unwrap();
    fs::write(directory.join(place), "the package of 1.0.1").unwrap();
    let refused = version_for_a_device(directory, NOW).unwrap_err();
    assert!(refused.to_string().contains("is not the file that the metadata names"), "{refused}");
}

#[test]
fn what_a_device_keeps_is_small() {
    let directory = tempfile::tempdir().unwrap();
    let mut repository = create(directory.path());
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let bytes: u64 = fs::read_dir(directory.path().join("metadata"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes < 16 * 1024, "{bytes} bytes of metadata");
}

#[test]
fn a_release_takes_the_place_of_the_one_before_with_its_deltas() {
    let directory = tempfile::tempdir().unwrap();
    let repository = create(directory.path());
    let released = |version: &str, hash: &str, change: u8| {
        // It compresses, and two of them share most.
        let mut bytes: Vec<u8> = (0..50_000u32).flat_map(|n| (n / 3).to_le_bytes()).collect();
        bytes[1000] = change;
        let release = Release { root_hash: hash.repeat(32), ..release(version, 1) };
        Released { path: format!("apps/pump-{version}.package"), bytes, release }
    };
    let mut files = BTreeMap::new();
    let first = repository.add_release(&mut files, &released("1.0.0", "11", 1)).unwrap();
    assert_eq!(first, None, "nothing was there before");
    let whole = "apps/pump-1.0.0.package.from-0000000000000000";
    assert_eq!(files.keys().collect::<Vec<_>>(), ["apps/pump-1.0.0.package", whole]);
    let next = repository.add_release(&mut files, &released("1.1.0", "22", 2)).unwrap();
    assert!(next.is_some_and(|bytes| bytes < 100), "{next:?}");
    let path = "apps/pump-1.1.0.package";
    let deltas = ["0000000000000000", "1111111111111111"].map(|from| format!("{path}.from-{from}"));
    assert_eq!(files.keys().collect::<Vec<_>>(), [path, &*deltas[0], &*deltas[1]]);
    assert!(remove_release(&mut files, path) && files.is_empty(), "{files:?}");
    assert!(!remove_release(&mut files, path));
}

/// What the keys that are offline say of the time lasts on every device: it is looked at before it is published.
#[test]
fn targets_that_were_made_by_a_wrong_clock_are_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut repository = create(directory);
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let before = fs::read(directory.join("metadata/timestamp.json")).unwrap();
    // The machine that makes them shows a time at which no root holds.
    let far = publish(&mut repository, release("2.0.0", 1), 10, NOW + 366 * DAY).unwrap_err();
    assert!(far.to_string().contains("set the clock, or name the next root"), "{far}");
    // It is a day ahead of the one that publishes.
    let made_at = |repository: &Repository, at| {
        let mut draft = repository.next_targets(repository.targets(), 90 * DAY, at).unwrap();
        draft.sign(&key(20));
        draft
    };
    let draft = made_at(&repository, NOW + DAY);
    let ahead = repository.publish(&draft, &[key(10)], Lifetimes::default(), NOW).unwrap_err();
    assert!(ahead.to_string().contains("set the clock that is wrong"), "{ahead}");
    // Both are ahead, and the online key signs for less time than that.
    let draft = made_at(&repository, NOW + 20 * DAY);
    let short = Lifetimes { timestamp: DAY, ..Lifetimes::default() };
    repository.publish(&draft, &[key(10)], short, NOW + 20 * DAY).unwrap();
    repository.refresh(&[key(10)], short, NOW).unwrap_err();
    assert_ne!(fs::read(directory.join("metadata/timestamp.json")).unwrap(), before);
    // Devices whose clocks follow that take what holds for long enough, and nothing else.
    repository.refresh(&[key(10)], short.at_least(60 * DAY), NOW).unwrap();
    assert_eq!(version_for_a_device(directory, NOW + 21 * DAY).unwrap().to_string(), "1.0.0");
}

#[test]
fn a_root_that_nobody_could_sign_for_is_not_made() {
    for threshold in [0, 2] {
        let mut roles = roles([1, 2], 10);
        roles.keys.insert(Role::Targets, (vec![key(20).public()], threshold));
        let refused = Repository::first_root(&roles, DAY, NOW).unwrap_err();
        let expected = MetadataError::Threshold(Role::Targets);
        assert!(
            matches!(&refused, RepositoryError::Metadata { source, .. } if *source == expected),
            "{refused:?}"
        );
    }
}

/// The ids of who has signed.
fn signers(draft: &Draft) -> Vec<String> {
    let file: serde_json::Value = serde_json::from_slice(&draft.to_bytes().unwrap()).unwrap();
    let signatures = file["signatures"].as_array().unwrap();
    signatures.iter().map(|one| one["keyid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_key_signs_what_is_not_of_its_role() {
    let id = |seed: u8| Key::of(&key(seed).public().bytes).id();
    let all = [1, 2, 3, 10, 11, 20].map(key);
    let directory = tempfile::tempdir().unwrap();
    let mut first = Repository::first_root(&roles([1, 2], 10), 365 * DAY, NOW).unwrap();
    Repository::sign_first_root(&mut first, &all).unwrap();
    assert_eq!(signers(&first), [id(1), id(2)]);
    let repository = Repository::create(directory.path(), &first).unwrap();
    let mut targets = repository.next_targets(BTreeMap::new(), DAY, NOW).unwrap();
    repository.sign(Role::Targets, &mut targets, &all);
    assert_eq!(signers(&targets), [id(20)], "an online key signs what is released");
    let mut next = repository.next_root(&roles([1, 3], 11), 365 * DAY, NOW).unwrap();
    repository.sign_next_root(&mut next, &all).unwrap();
    assert_eq!(signers(&next), [id(1), id(2), id(3)]);
    // What is no root is none.
    repository.sign_next_root(&mut targets, &all).unwrap_err();
}

/// Somebody with a later version of this has published: what it says is not taken away by an older one.
#[test]
fn what_is_not_understood_is_published_again_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut repository = create(directory.path());
    publish(&mut repository, release("1.0.0", 1), 10, NOW).unwrap();
    let path = directory.path().join("metadata/1.targets.json");
    let mut file: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let later = serde_json::json!({"component": "boot-loader", "slots": [1, 2]});
    let signed = &mut file["signed"];
    signed["campaign"] = "spring".into();
    signed["targets"][PATH]["custom"]["percent"] = 10.into();
    signed["targets"]["boot/loader"] =
        serde_json::json!({"length": 1, "hashes": {"sha256": "00"}, "custom": later});
    let mut by_the_later_one = Draft::read::<Targets>(&serde_json::to_vec(&file).unwrap()).unwrap();
    by_the_later_one.sign(&key(20));
    fs::write(&path, by_the_later_one.to_bytes().unwrap()).unwrap();
    repository.refresh(&[key(10)], Lifetimes::default(), NOW).unwrap();

    let repository = Repository::open(directory.path()).unwrap();
    let mut files = repository.targets();
    files.insert("apps/other.app".to_owned(), files[PATH].clone());
    let published = |files| {
        let draft = repository.next_targets(files, DAY, NOW).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&draft.to_bytes().unwrap()).unwrap();
        file["signed"].clone()
    };
    let signed = published(files.clone());
    assert_eq!((signed["version"].as_u64(), &signed["campaign"]), (Some(2), &"spring".into()));
    assert_eq!(signed["targets"][PATH]["custom"]["percent"], 10);
    assert_eq!(signed["targets"]["boot/loader"]["custom"], later);
    // What is published anew is what it is now.
    let mut changed = files[PATH].clone();
    changed.custom.as_mut().unwrap().rollback_index = 2;
    files.insert(PATH.to_owned(), changed);
    files.remove("boot/loader");
    let signed = published(files);
    assert_eq!(signed["targets"][PATH]["custom"]["percent"], serde_json::Value::Null);
    assert_eq!(signed["targets"][PATH]["custom"]["rollback_index"], 2);
    assert_eq!(signed["targets"].as_object().unwrap().len(), 2);
}

/// Set for the process that runs under another umask: the directory that it is to write to.
const UMASK_DIRECTORY: &str = "HOLDFAST_TEST_UMASK_DIRECTORY";

#[test]
fn a_server_reads_a_repository_whatever_the_umask_is() {
    use std::os::unix::fs::PermissionsExt;
    if let Some(directory) = std::env::var_os(UMASK_DIRECTORY) {
        publish(&mut create(Path::new(&directory)), release("1.0.0", 1), 10, NOW).unwrap();
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("updates/os");
    // The umask is the whole process's: this test runs once more in one of its own.
    let status = std::process::Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" --exact \"$1\""])
        .arg(std::env::current_exe().unwrap())
        .arg("a_server_reads_a_repository_whatever_the_umask_is")
        .env(UMASK_DIRECTORY, &directory)
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let mut pending = vec![scratch.path().join("updates")];
    let mut files = 0u32;
    while let Some(path) = pending.pop() {
        let metadata = fs::metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            assert_eq!(mode, 0o755, "{}", path.display());
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode, 0o644, "{}", path.display());
            files = files.saturating_add(1);
        }
    }
    assert_eq!(files, 5, "root, targets, snapshot, timestamp and the package");
}

/// A release for evaluation takes the place of none that others take, and one of its own feed takes its place.
#[test]
fn releases_of_two_feeds_stand_beside_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let repository = create(directory.path());
    let mut files = repository.targets();
    let mut add = |version: &str, feed: Option<&str>| {
        let released = Released {
            path: format!("apps/a-{version}.package"),
            bytes: format!("the package of {version}").into_bytes(),
            release: release(version, 1),
        };
        let released = match feed {
            Some(feed) => released.in_feed(feed.parse().unwrap()),
            None => released,
        };
        repository.add_release(&mut files, &released).unwrap();
        let offered = files.iter().filter(|(_, target)| target.custom.is_some());
        offered.map(|(path, _)| path.clone()).collect::<Vec<String>>()
    };
    assert_eq!(add("1.0.0", None), ["apps/a-1.0.0.package"]);
    let both = ["apps/a-1.0.0.package", "eval/apps/a-1.1.0.package"];
    assert_eq!(add("1.1.0", Some("eval")), both);
    let next = ["apps/a-1.0.0.package", "eval/apps/a-1.2.0.package"];
    assert_eq!(add("1.2.0", Some("eval")), next);
    // The same version for everybody has a path of its own.
    let promoted = ["apps/a-1.2.0.package", "eval/apps/a-1.2.0.package"];
    assert_eq!(add("1.2.0", None), promoted);
}
