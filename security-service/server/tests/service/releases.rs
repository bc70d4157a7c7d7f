//! Releases from signed metadata: what a repository's keys have signed is taken, and nothing else once a root is trusted.

use crate::device::{checked_in, software_device, tpm_device};
use crate::installation::{BOOT, Installation, OTHER_BOOT};
use holdfast_evidence::messages::Profile;
use holdfast_evidence::policy::BootDigest;
use holdfast_images::key::PrivateKey;
use holdfast_release::Release;
use holdfast_release::feed::Feed;
use holdfast_release::metadata::Role;
use holdfast_release::reuse::CHUNK_BYTES;
use holdfast_repository::{Lifetimes, Repository, Roles};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service::settings::WatchedRepository;
use holdfast_types::hex::hex;
use holdfast_types::{ComponentId, Version};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DAY_S: u64 = 86_400;

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_secret(&[seed; 32], true)
}

/// One key of the root, one of what is online, one of the targets.
fn roles(root: u8, online: u8, targets: u8) -> Roles {
    let role = |seed: u8| (vec![key(seed).public()], 1);
    let keys = [
        (Role::Root, role(root)),
        (Role::Timestamp, role(online)),
        (Role::Snapshot, role(online)),
        (Role::Targets, role(targets)),
    ];
    Roles { keys: keys.into() }
}

/// A repository of a test's own.
pub(crate) struct Published {
    pub(crate) repository: Repository,
    online: u8,
    targets: u8,
    pub(crate) directory: TempDir,
}

impl Published {
    pub(crate) fn new(root: u8, now: u64) -> Self {
        // No two repositories have a key in common.
        let (online, targets) = (10 + root, 20 + root);
        let directory = tempfile::tempdir().unwrap();
        let mut draft =
            Repository::first_root(&roles(root, online, targets), 365 * DAY_S, now).unwrap();
        draft.sign(&key(root));
        let repository = Repository::create(directory.path(), &draft).unwrap();
        Self { repository, online, targets, directory }
    }

    pub(crate) fn publish(&mut self, releases: &[(&str, Release)], now: u64) {
        let mut files = BTreeMap::new();
        for (path, release) in releases {
            let bytes = vec![0x5a; CHUNK_BYTES * 2];
            let target = self.repository.add_file(path, &bytes, release.clone()).unwrap();
            files.insert((*path).to_owned(), target);
        }
        let mut draft = self.repository.next_targets(files, 90 * DAY_S, now).unwrap();
        draft.sign(&key(self.targets));
        self.repository.publish(&draft, &[key(self.online)], Lifetimes::default(), now).unwrap();
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join("metadata").join(name)).unwrap()
    }

    /// Every file of metadata, as somebody sends a whole directory.
    pub(crate) fn metadata(&self) -> Value {
        let directory = self.directory.path().join("metadata");
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let files = files.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap()));
        json!({"metadata": files.collect::<BTreeMap<String, String>>()})
    }
}

pub(crate) fn release(version: &str, rollback_index: u64, boot: &[u8; 32]) -> Release {
    Release {
        subject: ReleaseSubject::Os,
        product: "pump".to_owned(),
        board: "qemu-virt".to_owned(),
        version: version.parse().unwrap(),
        rollback_index,
        least_os: Version::default(),
        boot_bytes: CHUNK_BYTES as u64,
        root_hash: "5a".repeat(32),
        boot_chunks: "0a".repeat(16),
        boot_digest: hex(boot),
        feed: None,
    }
}

fn trust(service: &Installation, published: &Published) {
    let root = json!({"root": published.text("1.root.json")});
    assert_eq!(service.done("PUT", "/repositories/os/root", &root)["done"], json!(true));
}

/// Boot digests that the service knows, with where each is from.
fn known(service: &Installation) -> BTreeMap<String, (String, String)> {
    let list = service.done("GET", "/releases", &Value::Null);
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = list["items"].as_array().unwrap().iter();
    rows.map(|row| (text(row, "boot"), (text(row, "version"), text(row, "source")))).collect()
}

#[test]
fn releases_are_taken_from_signed_targets_alone_once_a_root_is_trusted() {
    let service = Installation::new();
    let now = service.now();
    let by_hand = json!({"boot": hex(&[0xb5; 32]), "version": "1.0.0", "index": 1});
    let answer = service.done("POST", "/releases", &by_hand);
    assert_eq!(
        answer,
        json!({"done": true, "source": "by-hand"}),
        "the control: nobody has set a root"
    );
    let mut published = Published::new(1, now);
    // The release that devices of the tests boot was typed by hand, under another version.
    let app = Release {
        subject: ReleaseSubject::App(ComponentId([7; 16])),
        board: String::new(),
        boot_bytes: 0,
        boot_chunks: String::new(),
        ..release("2.0.0", 1, &[0xaa; 32])
    };
    let old = Release { boot_digest: String::new(), ..release("0.9.0", 1, &BOOT) };
    published.publish(
        &[
            ("os/pump-1.4.0.slot", release("1.4.0", 7, &BOOT)),
            ("os/pump-1.4.1.slot", release("1.4.1", 8, &OTHER_BOOT)),
            ("os/old-0.9.0.slot", old),
            ("apps/pump-2.0.0.package", app),
        ],
        now,
    );
    let early = service.ask("POST", "/repositories/os/metadata", &published.metadata());
    assert_eq!((early.status, early.problem().as_str()), (409, "conflict"), "no root is trusted");
    trust(&service, &published);
    let taken = service.done("POST", "/repositories/os/metadata", &published.metadata());
    assert_eq!(taken["source"], json!("signed"));
    let paths: Vec<&str> = taken["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["path"].as_str().unwrap())
        .collect();
    assert_eq!(paths, ["os/pump-1.4.0.slot", "os/pump-1.4.1.slot"], "an app boots nothing");
    let ignored = taken["ignored"].as_array().unwrap();
    assert_eq!(ignored.len(), 1);
    assert_eq!(ignored[0]["path"], json!("os/old-0.9.0.slot"));
    let source = |word: &str, version: &str| (version.to_owned(), word.to_owned());
    let expected = BTreeMap::from([
        (hex(&BOOT), source("signed", "1.4.0")),
        (hex(&OTHER_BOOT), source("signed", "1.4.1")),
        (hex(&[0xb5; 32]), source("by-hand", "1.0.0")),
    ]);
    assert_eq!(known(&service), expected);
    // A device that boots what was signed is believed.
    let mut device = tpm_device(&service);
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
    // Nothing is typed any more, not even what is known.
    let refused = service.ask("POST", "/releases", &by_hand);
    assert_eq!((refused.status, refused.problem().as_str()), (409, "release-not-signed"));
    // The audit log says of each where it is from.
    let log = service.done("GET", "/audit?limit=1000", &Value::Null);
    let verbs: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|row| row["verb"].as_str().unwrap()).collect();
    for verb in ["release.add-by-hand", "release-root.set", "release.add-signed"] {
        assert!(verbs.contains(&verb), "{verb} is not in {verbs:?}");
    }
    let root = service.done("GET", "/repositories/os", &Value::Null);
    assert_eq!((&root["version"], &root["targets"]), (&json!(1), &json!(1)));
}

#[test]
fn a_signed_release_replaces_what_was_typed_of_the_same_measurement() {
    let service = Installation::new();
    let typed = json!({"boot": hex(&OTHER_BOOT), "version": "9.9.9", "index": 99});
    service.done("POST", "/releases", &typed);
    let mut device = software_device(&service);
    device.claims.os.version = "1.4.1".parse().unwrap();
    device.claims.os.index = 8;
    device.claims.os.digest = BootDigest(OTHER_BOOT);
    let wrong = device.check_in(&service.device);
    assert_eq!(wrong.problem(), "measurement-unknown", "what was typed is not what runs");
    let mut published = Published::new(1, service.now());
    published.publish(&[("os/a.slot", release("1.4.1", 8, &OTHER_BOOT))], service.now());
    trust(&service, &published);
    let taken = service.done("POST", "/repositories/os/metadata", &published.metadata());
    assert_eq!(taken["releases"][0]["new"], json!(true));
    let row = known(&service).remove(&hex(&OTHER_BOOT)).unwrap();
    assert_eq!(row, ("1.4.1".to_owned(), "signed".to_owned()));
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::Full);
    let again = service.done("POST", "/repositories/os/metadata", &published.metadata());
    assert_eq!(again["releases"][0]["new"], json!(false));
}

#[test]
fn metadata_that_a_device_would_refuse_is_refused() {
    let service = Installation::new();
    let now = service.now();
    let mut published = Published::new(1, now);
    published.publish(&[("os/a.slot", release("1.4.0", 7, &BOOT))], now);
    trust(&service, &published);
    let first = published.metadata();
    service.done("POST", "/repositories/os/metadata", &first);
    published.publish(&[("os/b.slot", release("1.4.1", 8, &OTHER_BOOT))], now);
    let second = published.metadata();
    let refused = |body: &Value, said: &str| {
        let before = known(&service);
        let answer = service.ask("POST", "/repositories/os/metadata", body);
        assert_eq!((answer.status, answer.problem().as_str()), (422, "metadata-refused"));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(said), "{said} is not in: {detail}");
        assert_eq!(known(&service), before);
    };
    // Another's repository, with the same names.
    let mut foreign = Published::new(3, now);
    foreign.publish(&[("os/x.slot", release("6.6.6", 66, &[0x66; 32]))], now);
    refused(&foreign.metadata(), "a device refuses this metadata");
    // A release that was changed behind its signature.
    let mut changed = second.clone();
    let name = "2.targets.json";
    let text = changed["metadata"][name].as_str().unwrap().replace("1.4.1", "1.4.2");
    changed["metadata"][name] = json!(text);
    refused(&changed, "a device refuses this metadata");
    // A file that is not there.
    let mut less = second.clone();
    less["metadata"].as_object_mut().unwrap().remove(name);
    refused(&less, name);
    // The control, and then what is older than the last.
    let taken = service.done("POST", "/repositories/os/metadata", &second);
    assert_eq!((&taken["targets"], &taken["releases"][0]["new"]), (&json!(2), &json!(true)));
    refused(&first, "a device refuses this metadata");
    assert!(known(&service).contains_key(&hex(&BOOT)), "what is offered no more stays known");
    // What has expired says nothing about today.
    service.pass(15 * DAY_S);
    refused(&second, "a device refuses this metadata");
    let online = key(published.online);
    published.repository.refresh(&[online], Lifetimes::default(), service.now()).unwrap();
    service.done("POST", "/repositories/os/metadata", &published.metadata());
}

#[test]
fn a_rotated_root_is_followed_and_a_root_that_nobody_has_signed_is_not_set() {
    let service = Installation::new();
    let now = service.now();
    let mut published = Published::new(1, now);
    published.publish(&[("os/a.slot", release("1.4.0", 7, &BOOT))], now);
    let unsigned = published.text("1.root.json").replace("\"version\":1", "\"version\":2");
    for bad in [unsigned.as_str(), "{}", ""] {
        let answer = service.ask("PUT", "/repositories/os/root", &json!({"root": bad}));
        assert_eq!((answer.status, answer.problem().as_str()), (422, "metadata-refused"), "{bad}");
    }
    assert_eq!(service.ask("GET", "/repositories/os", &Value::Null).status, 404);
    trust(&service, &published);
    let mut next = published.repository.next_root(&roles(2, 12, 21), 365 * DAY_S, now).unwrap();
    [1, 2].iter().for_each(|seed| next.sign(&key(*seed)));
    published.repository.rotate(&next, &[key(12)], Lifetimes::default(), now).unwrap();
    published.online = 12;
    published.publish(&[("os/b.slot", release("1.4.1", 8, &OTHER_BOOT))], now);
    let taken = service.done("POST", "/repositories/os/metadata", &published.metadata());
    assert_eq!(taken["releases"][0]["version"], json!("1.4.1"));
    // The root that was followed is remembered: the new online key needs no root beside it.
    published.publish(&[("os/c.slot", release("1.4.2", 9, &[0xb2; 32]))], now);
    let mut without = published.metadata();
    for name in ["1.root.json", "2.root.json"] {
        without["metadata"].as_object_mut().unwrap().remove(name);
    }
    let taken = service.done("POST", "/repositories/os/metadata", &without);
    assert_eq!(taken["releases"][0]["version"], json!("1.4.2"));
}

/// A service that publishes into a directory of the same host needs no token for it, and the repository's keys all the same.
#[test]
fn what_is_published_in_a_watched_directory_is_taken_and_what_nobody_has_signed_is_not() {
    let mut service = Installation::new();
    let now = service.now();
    let mut published = Published::new(1, now);
    published.publish(&[("os/a.slot", release("1.4.1", 8, &OTHER_BOOT))], now);
    service.settings.repositories = vec![WatchedRepository {
        catalog: service.catalog.to_string(),
        directory: published.directory.path().to_owned(),
        look_every_s: 1,
    }];
    service.restart();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!known(&service).contains_key(&hex(&OTHER_BOOT)), "no root is trusted yet");
    trust(&service, &published);
    let comes = |boot: &[u8; 32]| {
        let until = Instant::now() + Duration::from_secs(30);
        while !known(&service).contains_key(&hex(boot)) {
            assert!(Instant::now() < until, "what was published is not taken");
            std::thread::sleep(Duration::from_millis(100));
        }
        known(&service).remove(&hex(boot)).unwrap().1
    };
    assert_eq!(comes(&OTHER_BOOT), "signed");
    // Somebody who can write into the directory, and has no key.
    let mut foreign = Published::new(3, now);
    foreign.publish(&[("os/x.slot", release("6.6.6", 66, &[0x66; 32]))], now);
    foreign.publish(&[("os/x.slot", release("6.6.6", 66, &[0x66; 32]))], now);
    let place = |of: &Published| of.directory.path().join("metadata");
    let own: Vec<(String, String)> = ["timestamp.json", "1.snapshot.json", "1.targets.json"]
        .map(|name| (name.to_owned(), published.text(name)))
        .into();
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        std::fs::copy(place(&foreign).join(name), place(&published).join(name)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!known(&service).contains_key(&hex(&[0x66; 32])));
    for (name, text) in own {
        std::fs::write(place(&published).join(name), text).unwrap();
    }
    published.publish(&[("os/b.slot", release("1.4.2", 9, &[0xb2; 32]))], now);
    assert_eq!(comes(&[0xb2; 32]), "signed", "the control: the next publication");
    let log = service.done("GET", "/audit?limit=1000", &Value::Null);
    let rows = log["items"].as_array().unwrap().iter();
    let taken: Vec<&Value> = rows.filter(|row| row["verb"] == "release.add-signed").collect();
    assert_eq!(taken.len(), 2, "once for each publication: {taken:?}");
    assert!(taken.iter().all(|row| row["who"] == "service"));
}

/// The service gives a group no release of another feed, and tells devices which they follow; the device decides.
#[test]
fn a_group_follows_a_feed_and_is_given_no_release_of_another() {
    let service = Installation::new();
    let now = service.now();
    let mut published = Published::new(1, now);
    let eval: Feed = "eval".parse().unwrap();
    let of_eval = Release { feed: Some(eval), ..release("1.6.0", 9, &[0xb6; 32]) };
    let boot = release("1.4.0", 7, &BOOT);
    published.publish(&[("os/a.slot", boot.clone()), ("eval/os/b.slot", of_eval.clone())], now);
    trust(&service, &published);
    let taken = service.done("POST", "/repositories/os/metadata", &published.metadata());
    let feeds = |rows: &Value, of: &str| {
        let rows = rows[of].as_array().unwrap().iter();
        let text = |row: &Value| (row["version"].clone(), row["feed"].clone());
        rows.map(text).collect::<Vec<_>>()
    };
    let mut signed = feeds(&taken, "releases");
    signed.sort_by_key(|(version, _)| version.to_string());
    assert_eq!(signed, [(json!("1.4.0"), json!(null)), (json!("1.6.0"), json!("eval"))]);
    service.done("PUT", "/products/pump", &Value::Null);
    let group = "/products/pump/groups/test";
    service.done("PUT", group, &json!({}));
    assert_eq!(service.done("GET", group, &Value::Null)["feed"], Value::Null);
    let mut device = software_device(&service);
    let place = json!({ "product": "pump", "group": "test" });
    service.done("POST", &format!("/devices/{}/move", device.id), &place);
    let mut feed = |service: &Installation| {
        let answer = checked_in(&device.check_in(&service.device));
        device.receipt = Some(answer.receipt);
        answer.feed
    };
    assert_eq!(feed(&service), None, "its image says");
    let draft = json!({ "product": "pump", "group": "test", "version": "1.6.0", "preset": "fast" });
    let refused = service.ask("POST", "/deployments", &draft);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(refused.status, 400, "{detail}");
    assert!(detail.starts_with("version: 1.6.0 is a release for devices of the feed eval"));
    assert!(detail.contains("pump/test follows retail") && detail.contains("--feed eval"));
    service.done("PUT", group, &json!({ "feed": "eval" }));
    assert_eq!(feed(&service).as_deref(), Some("eval"));
    let made = service.done("POST", "/deployments", &draft);
    let approve = format!("/deployments/{}/approve", made["id"].as_str().unwrap());
    // Who does not speak of the feed leaves it as it is.
    service.done("PUT", group, &json!({ "least_index": 1 }));
    assert_eq!(feed(&service).as_deref(), Some("eval"));
    service.done("PUT", group, &json!({ "feed": "retail" }));
    let refused = service.ask("POST", &approve, &Value::Null);
    assert_eq!(refused.status, 400, "{refused:?}");
    let no_feed = service.ask("PUT", group, &json!({ "feed": "Eval" }));
    assert_eq!((no_feed.status, no_feed.problem().as_str()), (400, "malformed"));
    // What was evaluated is published without the label, and goes on.
    let promoted = Release { feed: None, ..of_eval.clone() };
    published
        .publish(&[("os/a.slot", boot), ("os/b.slot", promoted), ("eval/os/b.slot", of_eval)], now);
    service.done("POST", "/repositories/os/metadata", &published.metadata());
    let listed = feeds(&service.done("GET", "/releases", &Value::Null), "items");
    assert!(listed.iter().all(|(_, feed)| feed.is_null()), "{listed:?}");
    service.done("POST", &approve, &Value::Null);
}
