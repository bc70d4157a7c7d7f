//! Named after the clauses of section 5 of the specification.

use super::*;
use crate::factory_reset::NoOrder;
use crate::metadata::{Key, time};
use ed25519_dalek::{Signer, SigningKey};
use holdfast_sandbox::reset_order::Order;
use holdfast_types::hex::{hex, sha256};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

/// A repository that its owner, or an attacker with some of its keys, changes file by file.
#[derive(Clone)]
struct Repository {
    /// Keys of each role, and the threshold.
    keys: BTreeMap<Role, (Vec<SigningKey>, usize)>,
    root_version: u32,
    files: BTreeMap<String, Vec<u8>>,
    versions: BTreeMap<Role, u32>,
    expires: BTreeMap<Role, u64>,
    target: &'static str,
    /// When its targets were made.
    issued: u64,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn envelope(signed: &Value, keys: &[SigningKey]) -> Vec<u8> {
    let message = metadata::canonical(signed).unwrap();
    let signatures: Vec<Value> = keys
        .iter()
        .map(|key| {
            let id = Key::of(&key.verifying_key().to_bytes()).id();
            json!({"keyid": id, "sig": hex(&key.sign(&message).to_bytes())})
        })
        .collect();
    serde_json::to_vec(&json!({"signatures": signatures, "signed": signed})).unwrap()
}

impl Repository {
    fn new() -> Self {
        let keys = [
            (Role::Root, (vec![key(1), key(2)], 2)),
            (Role::Timestamp, (vec![key(3)], 1)),
            (Role::Snapshot, (vec![key(4)], 1)),
            (Role::Targets, (vec![key(5), key(6), key(7)], 2)),
        ];
        let mut repository = Self {
            keys: keys.into(),
            root_version: 0,
            files: BTreeMap::new(),
            versions: Role::ALL.map(|role| (role, 1)).into(),
            expires: Role::ALL.map(|role| (role, NOW + 30 * DAY)).into(),
            target: "app-1",
            issued: NOW - DAY,
        };
        let signers = repository.keys[&Role::Root].0.clone();
        repository.rotate(&signers);
        repository.publish();
        repository
    }

    fn image_root(&self) -> Vec<u8> {
        self.files["1.root.json"].clone()
    }

    fn common(&self, role: Role) -> Value {
        json!({
            "_type": role.name(), "spec_version": "1.0.34", "version": self.versions[&role],
            "expires": time(self.expires[&role]).unwrap()
        })
    }

    fn signers(&self, role: Role) -> Vec<SigningKey> {
        self.keys[&role].0.clone()
    }

    fn root(&self) -> Value {
        let (mut keys, mut roles) = (json!({}), json!({}));
        for (role, (of_role, threshold)) in &self.keys {
            let mut ids = Vec::new();
            for key in of_role {
                let key = Key::of(&key.verifying_key().to_bytes());
                ids.push(key.id());
                keys[key.id()] = serde_json::to_value(&key).unwrap();
            }
            roles[role.name()] = json!({"keyids": ids, "threshold": threshold});
        }
        let mut root = self.common(Role::Root);
        root["version"] = self.root_version.into();
        root["consistent_snapshot"] = true.into();
        root["keys"] = keys;
        root["roles"] = roles;
        root
    }

    /// Writes the next root, signed by these.
    fn rotate(&mut self, signers: &[SigningKey]) {
        self.root_version = self.root_version.saturating_add(1);
        let root = envelope(&self.root(), signers);
        self.files.insert(Role::Root.file(self.root_version), root);
    }

    /// Writes one role's file, with its present version.
    fn write(&mut self, role: Role, signed: &Value) {
        let bytes = envelope(signed, &self.signers(role));
        self.files.insert(role.file(self.versions[&role]), bytes);
    }

    fn meta(&self, role: Role) -> Value {
        let version = self.versions[&role];
        let bytes = &self.files[&role.file(version)];
        json!({"version": version, "length": bytes.len(), "hashes": {"sha256": sha256(bytes)}})
    }

    fn write_targets(&mut self) {
        let mut targets = self.common(Role::Targets);
        targets["targets"] = json!({self.target: {"length": 1, "hashes": {"sha256": "00"}}});
        targets["issued"] = time(self.issued).unwrap().into();
        self.write(Role::Targets, &targets);
    }

    fn write_snapshot(&mut self) {
        let mut snapshot = self.common(Role::Snapshot);
        snapshot["meta"] = json!({"targets.json": self.meta(Role::Targets)});
        self.write(Role::Snapshot, &snapshot);
    }

    fn write_timestamp(&mut self) {
        let mut timestamp = self.common(Role::Timestamp);
        timestamp["meta"] = json!({"snapshot.json": self.meta(Role::Snapshot)});
        self.write(Role::Timestamp, &timestamp);
    }

    /// Writes everything that follows from the targets.
    fn publish(&mut self) {
        self.write_targets();
        self.write_snapshot();
        self.write_timestamp();
    }

    fn bump(&mut self, roles: &[Role]) {
        for role in roles {
            let version = self.versions.get_mut(role).unwrap();
            *version = version.saturating_add(1);
        }
    }

    /// A later publication.
    fn release(&mut self, target: &'static str) {
        self.target = target;
        self.bump(&[Role::Targets, Role::Snapshot, Role::Timestamp]);
        self.publish();
    }

    /// Runs a client to its end; gives what was asked for, and how it ended.
    fn drive(&self, client: &mut Client) -> (Vec<String>, Result<(), ClientError>) {
        let mut asked = Vec::new();
        while let Some(wanted) = client.wants() {
            asked.push(wanted.name.clone());
            let given = match self.files.get(&wanted.name) {
                Some(bytes) => client.take(bytes.clone()),
                None => client.mark_missing(),
            };
            if given.is_err() {
                assert_eq!(client.wants(), None, "a refused run goes on");
                assert_eq!(client.targets(), None, "a refused run says what is released");
                return (asked, given);
            }
        }
        (asked, Ok(()))
    }

    /// A device that has run to the end once, with what it keeps.
    fn settled(&self) -> Trusted {
        let mut client = Client::begin(&self.image_root(), Trusted::default(), NOW).unwrap();
        self.drive(&mut client).1.unwrap();
        let trusted = client.trusted().clone();
        Trusted::decode(&trusted.encode().unwrap()).unwrap()
    }

    /// How a run ends on a device that keeps this, what it asked for, and what it keeps then.
    fn run(
        &self,
        image_root: &[u8],
        trusted: Trusted,
    ) -> (Vec<String>, Result<(), ClientError>, Trusted) {
        let mut client = Client::begin(image_root, trusted, NOW).unwrap();
        let (asked, result) = self.drive(&mut client);
        assert_eq!(client.targets().is_some(), result.is_ok());
        (asked, result, client.trusted().clone())
    }
}

/// How a fresh device's run on this repository ends.
fn fresh(repository: &Repository) -> Result<(), ClientError> {
    repository.run(&repository.image_root(), Trusted::default()).1
}

/// How a run of a device ends that has seen the first of two repositories.
fn after(seen: &Repository, offered: &Repository) -> Result<(), ClientError> {
    offered.run(&seen.image_root(), seen.settled()).1
}

fn too_few(role: Role, valid: usize, threshold: usize) -> Result<(), ClientError> {
    Err(ClientError::Metadata { role, error: MetadataError::Signatures { valid, threshold } })
}

#[test]
fn clause_5_1_expiry_is_judged_by_the_time_at_which_the_run_began() {
    let repository = Repository::new();
    let at = |now| {
        let mut client = Client::begin(&repository.image_root(), Trusted::default(), now).unwrap();
        repository.drive(&mut client).1
    };
    assert_eq!(at(NOW + 30 * DAY - 1), Ok(()));
    let expires = time(NOW + 30 * DAY).unwrap();
    assert_eq!(at(NOW + 30 * DAY), Err(ClientError::Expired { role: Role::Root, expires }));
}

#[test]
fn clause_5_2_the_root_of_the_image_is_where_trust_begins() {
    let repository = Repository::new();
    let other = envelope(&repository.root(), &[key(1), key(9)]);
    let refused = Client::begin(&other, Trusted::default(), NOW).map(drop);
    assert_eq!(refused, too_few(Role::Root, 1, 2));
    Client::begin(b"{}", Trusted::default(), NOW).unwrap_err();
}

#[test]
fn a_whole_run_asks_for_each_file_once_and_a_second_one_for_what_is_new() {
    let mut repository = Repository::new();
    let (asked, result, trusted) = repository.run(&repository.image_root(), Trusted::default());
    let all = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
    assert_eq!((asked.as_slice(), result), (all.map(String::from).as_slice(), Ok(())));
    let (asked, result, trusted) = repository.run(&repository.image_root(), trusted);
    assert_eq!((asked.len(), result), (2, Ok(())), "{asked:?}");
    repository.release("app-2");
    let mut client = Client::begin(&repository.image_root(), trusted, NOW).unwrap();
    let (asked, result) = repository.drive(&mut client);
    assert_eq!((asked.len(), result), (4, Ok(())), "{asked:?}");
    assert!(client.targets().unwrap().targets.contains_key("app-2"));
    assert_eq!(client.issued(), Some(NOW - DAY));
}

#[test]
fn clause_5_3_3_no_more_than_the_limit_is_read() {
    let repository = Repository::new();
    for (skip, role) in Role::ALL.into_iter().enumerate() {
        let mut client = Client::begin(&repository.image_root(), Trusted::default(), NOW).unwrap();
        for _ in 0..skip {
            let name = client.wants().unwrap().name;
            match repository.files.get(&name) {
                Some(bytes) => client.take(bytes.clone()).unwrap(),
                None => client.mark_missing().unwrap(),
            }
        }
        let wanted = client.wants().unwrap();
        assert!(wanted.role == role && wanted.most_bytes <= role.most_bytes());
        let most = usize::try_from(wanted.most_bytes).unwrap();
        let refused = client.take(vec![b' '; most + 1]).unwrap_err();
        assert!(
            matches!(refused, ClientError::Metadata { error: MetadataError::TooLong { .. }, .. }),
            "{refused}"
        );
    }
}

#[test]
fn clause_5_3_4_a_root_is_signed_by_the_old_keys_and_by_its_own() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    let old = repository.signers(Role::Root);
    let new = vec![key(11), key(12)];
    repository.keys.insert(Role::Root, (new.clone(), 2));
    let signed_by = |signers: &[SigningKey]| {
        let mut repository = repository.clone();
        repository.rotate(signers);
        repository.run(&image_root, Trusted::default()).1
    };
    assert_eq!(signed_by(&[old.clone(), new.clone()].concat()), Ok(()));
    assert_eq!(signed_by(&new), too_few(Role::Root, 0, 2), "arbitrary software");
    assert_eq!(signed_by(&old), too_few(Role::Root, 0, 2));
    let below = [&old[..1], &new[..]].concat();
    assert_eq!(signed_by(&below), too_few(Role::Root, 1, 2), "one key of two");
    let below = [&old[..], &new[..1]].concat();
    assert_eq!(signed_by(&below), too_few(Role::Root, 1, 2));
    let twice = [&old[..1], &old[..1], &new[..]].concat();
    let id = Key::of(&old[0].verifying_key().to_bytes()).id();
    let error = MetadataError::SignedTwice(id);
    assert_eq!(signed_by(&twice), Err(ClientError::Metadata { role: Role::Root, error }));
}

#[test]
fn clause_5_3_4_one_key_under_two_names_signs_once() {
    let mut repository = Repository::new();
    let signers = repository.signers(Role::Root);
    repository.root_version = 2;
    let mut root = repository.root();
    let id = Key::of(&key(5).verifying_key().to_bytes()).id();
    let mut another = root["keys"][&id].clone();
    another["note"] = "the same once more".into();
    let another_id = sha256(&metadata::canonical(&another).unwrap());
    root["keys"][&another_id] = another;
    root["roles"]["targets"] = json!({"keyids": [id, another_id], "threshold": 2});
    repository.files.insert("2.root.json".to_owned(), envelope(&root, &signers));
    // Both signatures are valid, and of one key.
    let targets = repository.files["1.targets.json"].clone();
    let mut file: Value = serde_json::from_slice(&targets).unwrap();
    let mut again = file["signatures"][0].clone();
    again["keyid"] = another_id.into();
    file["signatures"] = json!([file["signatures"][0], again]);
    let bytes = serde_json::to_vec(&file).unwrap();
    repository.files.insert("1.targets.json".to_owned(), bytes);
    repository.write_snapshot();
    repository.write_timestamp();
    assert_eq!(fresh(&repository), too_few(Role::Targets, 1, 2));
}

#[test]
fn clause_5_3_4_a_threshold_that_no_keys_reach_is_mended_by_the_next_root() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    let signers = repository.signers(Role::Root);
    repository.keys.insert(Role::Snapshot, (vec![key(4)], 2));
    repository.rotate(&signers);
    let (_, result, trusted) = repository.run(&image_root, Trusted::default());
    assert_eq!(result, too_few(Role::Snapshot, 1, 2));
    repository.keys.insert(Role::Snapshot, (vec![key(4)], 1));
    repository.rotate(&signers);
    assert_eq!(repository.run(&image_root, trusted).1, Ok(()));
    // Nobody at all is no threshold.
    repository.keys.insert(Role::Snapshot, (vec![key(4)], 0));
    repository.rotate(&signers);
    let refused = repository.run(&image_root, Trusted::default()).1;
    let error = MetadataError::Threshold(Role::Snapshot);
    assert_eq!(refused, Err(ClientError::Metadata { role: Role::Root, error }));
}

#[test]
fn clause_5_3_5_the_next_root_has_exactly_the_next_version() {
    let repository = Repository::new();
    let signers = repository.signers(Role::Root);
    for found in [1, 3, 1000] {
        let mut offered = repository.clone();
        offered.root_version = found;
        let root = envelope(&offered.root(), &signers);
        offered.files.insert("2.root.json".to_owned(), root);
        let expected = Err(ClientError::Version { role: Role::Root, found, expected: 2 });
        assert_eq!(after(&repository, &offered), expected);
    }
}

#[test]
fn clause_5_3_6_a_root_on_the_way_may_have_expired() {
    let mut repository = Repository::new();
    let signers = repository.signers(Role::Root);
    let image_root = repository.image_root();
    repository.expires.insert(Role::Root, NOW - DAY);
    repository.rotate(&signers);
    assert!(matches!(
        repository.run(&image_root, Trusted::default()).1,
        Err(ClientError::Expired { role: Role::Root, .. })
    ));
    repository.expires.insert(Role::Root, NOW + DAY);
    repository.rotate(&signers);
    assert_eq!(repository.run(&image_root, Trusted::default()).1, Ok(()));
}

#[test]
fn clause_5_3_8_a_root_counts_even_where_what_follows_is_withheld() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    let settled = repository.settled();
    // The timestamp's key was stolen and is replaced; the thief withholds what follows, and shows
    // what it has signed itself afterwards.
    let thief = repository.clone();
    repository.keys.insert(Role::Timestamp, (vec![key(33)], 1));
    let signers = repository.signers(Role::Root);
    repository.rotate(&signers);
    repository.files.remove("timestamp.json");
    let (_, result, kept) = repository.run(&image_root, settled);
    assert_eq!(result, Err(ClientError::Missing(Role::Timestamp)));
    let kept = Trusted::decode(&kept.encode().unwrap()).unwrap();
    assert_eq!(thief.run(&image_root, kept).1, too_few(Role::Timestamp, 0, 1));
}

#[test]
fn clause_5_3_9_roots_are_gone_through_one_by_one_and_not_for_ever() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    let mut before = repository.signers(Role::Root);
    for seed in 40..45 {
        let next = vec![key(seed), key(seed + 100)];
        repository.keys.insert(Role::Root, (next.clone(), 2));
        repository.rotate(&[before, next.clone()].concat());
        before = next;
    }
    let (asked, result, _) = repository.run(&image_root, Trusted::default());
    assert_eq!((asked.first().map(String::as_str), result), (Some("2.root.json"), Ok(())));
    assert!(asked.contains(&"7.root.json".to_owned()), "{asked:?}");
    let mut skipped = repository.clone();
    // Behind a root that is withheld nothing is looked at, and nothing is given up.
    skipped.files.remove("4.root.json");
    let (asked, _, kept) = skipped.run(&image_root, Trusted::default());
    assert!(!asked.contains(&"5.root.json".to_owned()), "{asked:?}");
    assert_eq!(kept.roots.len(), 3, "the image's and two behind it");
    // More than one run takes, and the last of them names another key for the timestamp: the next run goes on.
    for _ in 0..=2 * MAX_ROOTS {
        repository.rotate(&before);
    }
    repository.keys.insert(Role::Timestamp, (vec![key(33)], 1));
    repository.rotate(&before);
    repository.publish();
    let mut trusted = Trusted::default();
    for last in [65, 129] {
        let (asked, result, kept_then) = repository.run(&image_root, trusted);
        assert_eq!(result, too_few(Role::Timestamp, 0, 1));
        assert_eq!((asked.len(), versions_kept(&kept_then).last()), (MAX_ROOTS + 1, Some(&last)));
        trusted = Trusted::decode(&kept_then.encode().unwrap()).unwrap();
    }
    assert_eq!(repository.run(&image_root, trusted).1, Ok(()));
}

#[test]
fn behind_the_last_version_there_is_no_root() {
    let mut repository = Repository::new();
    let signers = repository.signers(Role::Root);
    repository.root_version = u32::MAX - 2;
    repository.rotate(&signers);
    let before = repository.files["4294967294.root.json"].clone();
    repository.rotate(&signers);
    let last = repository.files["4294967295.root.json"].clone();
    let asked_from = |root: &[u8]| {
        let (asked, result, _) = repository.run(root, Trusted::default());
        assert_eq!(result, Ok(()));
        asked
    };
    assert_eq!(asked_from(&before)[..2], ["4294967295.root.json", "timestamp.json"]);
    assert_eq!(asked_from(&last).first().map(String::as_str), Some("timestamp.json"));
}

#[test]
fn clause_5_3_11_replaced_keys_end_a_fast_forward() {
    for role in [Role::Timestamp, Role::Snapshot] {
        let mut repository = Repository::new();
        let image_root = repository.image_root();
        let mut thief = repository.clone();
        thief.versions.insert(role, 1_000_000);
        thief.write_snapshot();
        thief.write_timestamp();
        let fooled = thief.settled();
        // With the same keys nobody comes back from there.
        repository.release("app-2");
        let (_, result, fooled) = repository.run(&image_root, fooled);
        assert!(matches!(result, Err(ClientError::Rollback { .. })), "{result:?}");
        repository.keys.insert(role, (vec![key(50)], 1));
        let signers = repository.signers(Role::Root);
        repository.rotate(&signers);
        repository.publish();
        assert_eq!(repository.run(&image_root, fooled).1, Ok(()), "{role}");
    }
}

#[test]
fn clause_5_6_3_what_revoked_keys_have_signed_is_not_used_in_the_run_that_learns_of_it() {
    let settled = Repository::new().settled();
    let revoked = |keys: Vec<SigningKey>, threshold| {
        let mut repository = Repository::new();
        repository.keys.insert(Role::Targets, (keys, threshold));
        let signers = repository.signers(Role::Root);
        repository.rotate(&signers);
        repository
    };
    let run = |repository: &Repository| repository.run(&repository.image_root(), settled.clone()).1;
    // Timestamp, snapshot and targets are as they were, and known.
    let replaced = revoked(vec![key(80), key(81)], 2);
    assert_eq!(run(&replaced), too_few(Role::Targets, 0, 2));
    let raised = revoked(vec![key(5), key(6), key(7), key(8)], 4);
    assert_eq!(run(&raised), too_few(Role::Targets, 3, 4));
    // The control: another key for the root changes nothing for the targets, which are not even fetched again.
    let mut other = Repository::new();
    let (old, new) = (other.signers(Role::Root), vec![key(11), key(12)]);
    other.keys.insert(Role::Root, (new.clone(), 2));
    other.rotate(&[old, new].concat());
    let (asked, result, _) = other.run(&other.image_root(), settled.clone());
    assert_eq!((asked.len(), result), (3, Ok(())), "{asked:?}");
    // What was seen still counts for what is older.
    let mut seen = Repository::new();
    seen.release("app-2");
    let back = raised.run(&raised.image_root(), seen.settled()).1;
    assert_eq!(back, Err(ClientError::Rollback { role: Role::Timestamp, found: 1, seen: 2 }));
}

#[test]
fn clause_5_3_12_without_consistent_snapshots_nothing_is_read() {
    let repository = Repository::new();
    let signers = repository.signers(Role::Root);
    for said in [Some(false), None] {
        let mut root = repository.root();
        match said {
            Some(said) => root["consistent_snapshot"] = said.into(),
            None => drop(root.as_object_mut().unwrap().remove("consistent_snapshot")),
        }
        let first = envelope(&root, &signers);
        let (_, result, trusted) = repository.run(&first, Trusted::default());
        assert_eq!(result, Err(ClientError::NotConsistent(1)));
        // The next root can say otherwise.
        let mut mended = repository.clone();
        mended.rotate(&signers);
        assert_eq!(mended.run(&first, trusted).1, Ok(()));
    }
}

#[test]
fn clause_4_3_keys_are_named_by_what_they_are() {
    let named = |rename: &dyn Fn(&mut Value) -> String| {
        let mut repository = Repository::new();
        let signers = repository.signers(Role::Root);
        let mut root = repository.root();
        let old = Key::of(&key(3).verifying_key().to_bytes()).id();
        let mut of_timestamp = root["keys"][&old].clone();
        let id = rename(&mut of_timestamp);
        root["keys"].as_object_mut().unwrap().remove(&old);
        root["keys"][&id] = of_timestamp;
        root["roles"]["timestamp"]["keyids"] = json!([id]);
        let bytes = envelope(&root, &signers);
        let mut timestamp: Value =
            serde_json::from_slice(&repository.files["timestamp.json"]).unwrap();
        timestamp["signatures"][0]["keyid"] = id.into();
        let timestamp_bytes = serde_json::to_vec(&timestamp).unwrap();
        repository.files.insert("timestamp.json".to_owned(), timestamp_bytes);
        repository.run(&bytes, Trusted::default()).1
    };
    let raw = |value: &Value| sha256(&metadata::canonical(value).unwrap());
    assert_eq!(named(&|key| raw(key)), Ok(()));
    let with_more = named(&|key| {
        key["keyid_hash_algorithms"] = json!(["sha256"]);
        raw(key)
    });
    assert_eq!(with_more, Ok(()));
    assert_eq!(named(&|_| "ab".repeat(32)), too_few(Role::Timestamp, 0, 1));
}

#[test]
fn clause_4_3_what_a_root_says_beyond_what_is_understood_is_passed_over() {
    let repository = Repository::new();
    let signers = repository.signers(Role::Root);
    let mut root = repository.root();
    root["roles"]["mirrors"] = json!({"keyids": ["none"], "threshold": "some"});
    root["keys"]["of another kind"] = json!({"keytype": "sphincs", "keyval": {"seed": 1}});
    root["something_newer"] = json!([1]);
    let image_root = envelope(&root, &signers);
    assert_eq!(repository.run(&image_root, Trusted::default()).1, Ok(()));
    // A known role is what it must be.
    root["roles"]["snapshot"] = json!({"keyids": ["none"], "threshold": "some"});
    Client::begin(&envelope(&root, &signers), Trusted::default(), NOW).unwrap_err();
}

#[test]
fn clause_4_3_versions_begin_with_1() {
    for role in Role::ALL {
        let mut repository = Repository::new();
        let signers = repository.signers(Role::Root);
        match role {
            Role::Root => {
                repository.root_version = 0;
                let root = envelope(&repository.root(), &signers);
                repository.files.insert("2.root.json".to_owned(), root);
            }
            _ => {
                repository.versions.insert(role, 0);
                repository.publish();
            }
        }
        let error = MetadataError::VersionZero;
        assert_eq!(fresh(&repository), Err(ClientError::Metadata { role, error }));
    }
}

#[test]
fn clause_5_4_2_a_timestamp_of_nobody_is_refused() {
    let mut repository = Repository::new();
    repository.keys.insert(Role::Timestamp, (vec![key(60)], 1));
    repository.write_timestamp();
    assert_eq!(fresh(&repository), too_few(Role::Timestamp, 0, 1));
}

#[test]
fn clause_5_4_3_a_timestamp_goes_back_neither_itself_nor_in_what_it_names() {
    let old = Repository::new();
    let mut seen = old.clone();
    seen.release("app-2");
    let back = |role| Err(ClientError::Rollback { role, found: 1, seen: 2 });
    assert_eq!(after(&seen, &old), back(Role::Timestamp));
    // An older snapshot under a newer timestamp.
    let mut mixed = old.clone();
    mixed.versions.insert(Role::Timestamp, 3);
    mixed.write_timestamp();
    assert_eq!(after(&seen, &mixed), back(Role::Snapshot));
}

#[test]
fn clause_5_4_3_1_the_same_version_is_the_same_file() {
    let seen = Repository::new();
    let mut offered = seen.clone();
    offered.target = "another";
    offered.bump(&[Role::Targets, Role::Snapshot]);
    offered.publish();
    // The version of the timestamp is as before: what it names now is not looked at.
    let (asked, result, kept) = offered.run(&seen.image_root(), seen.settled());
    assert_eq!((asked.len(), result), (2, Ok(())), "{asked:?}");
    assert_eq!(kept, seen.settled());
}

#[test]
fn clauses_5_4_4_5_5_6_and_5_6_5_nothing_that_has_expired_is_used() {
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        let mut repository = Repository::new();
        let settled = repository.settled();
        repository.expires.insert(role, NOW);
        repository.publish();
        let expires = time(NOW).unwrap();
        let expired = Err(ClientError::Expired { role, expires });
        assert_eq!(fresh(&repository), expired);
        repository.bump(&Role::ALL[1..]);
        repository.publish();
        assert_eq!(repository.run(&repository.image_root(), settled).1, expired);
    }
}

#[test]
fn clause_5_4_4_what_was_seen_before_freezes_nobody() {
    // Everything that is shown is what was seen, until it expires: a freeze.
    let repository = Repository::new();
    let settled = repository.settled();
    let mut client = Client::begin(&repository.image_root(), settled, NOW + 30 * DAY).unwrap();
    let (_, result) = repository.drive(&mut client);
    assert!(matches!(result, Err(ClientError::Expired { .. })), "{result:?}");
}

#[test]
fn clause_5_4_5_a_timestamp_that_was_refused_is_not_kept() {
    // CVE-2025-2888: kept before it was looked at whether it goes back.
    let old = Repository::new();
    let mut seen = old.clone();
    seen.release("app-2");
    let settled = seen.settled();
    let (_, result, kept) = old.run(&seen.image_root(), settled.clone());
    result.unwrap_err();
    assert_eq!(kept, settled);
}

#[test]
fn clauses_5_5_2_and_5_6_2_files_are_those_that_are_named() {
    for (role, file) in [(Role::Snapshot, "1.snapshot.json"), (Role::Targets, "1.targets.json")] {
        let mut repository = Repository::new();
        // Validly signed, of the same version, and not the one that was named: mix and match.
        let mut other = repository.clone();
        other.expires.insert(role, NOW + 20 * DAY);
        other.target = "app-9";
        other.publish();
        repository.files.insert(file.to_owned(), other.files[file].clone());
        let result = fresh(&repository);
        let refused = Err(ClientError::OtherFile(role));
        assert_eq!(result, refused);
    }
}

#[test]
fn clauses_5_5_3_and_5_6_3_a_snapshot_and_targets_of_nobody_are_refused() {
    let mut repository = Repository::new();
    repository.keys.insert(Role::Snapshot, (vec![key(70)], 1));
    repository.publish();
    assert_eq!(fresh(&repository), too_few(Role::Snapshot, 0, 1));
    let mut repository = Repository::new();
    repository.keys.insert(Role::Targets, (vec![key(5), key(71)], 2));
    repository.publish();
    assert_eq!(fresh(&repository), too_few(Role::Targets, 1, 2), "compromise below threshold");
}

#[test]
fn clauses_5_5_4_and_5_6_4_versions_are_those_that_are_named() {
    for role in [Role::Snapshot, Role::Targets] {
        let mut repository = Repository::new();
        let wrong = repository.files[&role.file(1)].clone();
        repository.versions.insert(role, 2);
        repository.files.insert(role.file(2), wrong);
        // The name, length and hash are of version 1, which stands in the place of version 2.
        if role == Role::Targets {
            repository.write_snapshot();
        }
        repository.write_timestamp();
        assert_eq!(fresh(&repository), Err(ClientError::Version { role, found: 1, expected: 2 }));
    }
}

#[test]
fn clause_5_5_5_targets_neither_go_back_nor_go_away() {
    let mut seen = Repository::new();
    seen.release("app-2");
    let mut offered = seen.clone();
    offered.versions.insert(Role::Targets, 1);
    offered.bump(&[Role::Snapshot, Role::Timestamp]);
    offered.publish();
    let back = Err(ClientError::Rollback { role: Role::Targets, found: 1, seen: 2 });
    assert_eq!(after(&seen, &offered), back);
    // Gone from the snapshot altogether.
    let mut offered = seen.clone();
    offered.bump(&[Role::Snapshot, Role::Timestamp]);
    let mut snapshot = offered.common(Role::Snapshot);
    snapshot["meta"] = json!({});
    offered.write(Role::Snapshot, &snapshot);
    offered.write_timestamp();
    after(&seen, &offered).unwrap_err();
}

#[test]
fn clause_5_6_7_delegations_lead_nowhere() {
    // CVE-2025-2886 and CVE-2025-2887 were of delegations: there are none here.
    let mut repository = Repository::new();
    let mut targets = repository.common(Role::Targets);
    targets["targets"] = json!({});
    targets["delegations"] = json!({"keys": {}, "roles": [{"name": "other", "paths": ["*"]}]});
    repository.write(Role::Targets, &targets);
    repository.write_snapshot();
    repository.write_timestamp();
    let (asked, result, _) = repository.run(&repository.image_root(), Trusted::default());
    assert_eq!((asked.len(), result), (4, Ok(())), "{asked:?}");
}

/// Versions of the roots that are kept.
fn versions_kept(trusted: &Trusted) -> Vec<u32> {
    let version = |bytes: &Vec<u8>| metadata::read::<Root>(bytes).unwrap().0.common.version;
    trusted.roots.iter().map(version).collect()
}

#[test]
fn a_newer_image_brings_its_own_root_and_keeps_what_was_seen() {
    let mut repository = Repository::new();
    let signers = repository.signers(Role::Root);
    repository.rotate(&signers);
    repository.rotate(&signers);
    repository.release("app-2");
    let settled = repository.settled();
    assert_eq!(versions_kept(&settled), [1, 2, 3]);
    let newer = repository.files["3.root.json"].clone();
    let (asked, result, kept) = repository.run(&newer, settled.clone());
    assert_eq!((asked.first().map(String::as_str), result), (Some("4.root.json"), Ok(())));
    assert_eq!((asked.len(), &kept), (2, &settled));
    // Going back to the older image, the device has all that it had.
    let (asked, result, again) = repository.run(&repository.image_root(), kept);
    assert_eq!((asked.len(), result, again), (2, Ok(()), settled), "{asked:?}");
}

#[test]
fn clause_5_3_8_a_root_that_was_seen_is_not_forgotten_for_a_newer_image() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    // The root's keys were stolen and are replaced; a device has followed.
    let stolen = repository.signers(Role::Root);
    let mut thief = repository.clone();
    let next = vec![key(11), key(12)];
    repository.keys.insert(Role::Root, (next.clone(), 2));
    repository.rotate(&[stolen.clone(), next].concat());
    let (_, _, seen) = repository.run(&image_root, Trusted::default());
    assert_eq!(versions_kept(&seen), [1, 2]);
    // A release with that root in its image is tried, looks, saves and fails.
    let newer = repository.files["2.root.json"].clone();
    let (_, result, on_trial) = repository.run(&newer, seen);
    assert_eq!((result, versions_kept(&on_trial)), (Ok(()), vec![1, 2]));
    // The thief has signed another second root with the keys that it has.
    let theirs = vec![key(91), key(92)];
    thief.keys.insert(Role::Root, (theirs.clone(), 2));
    thief.keys.insert(Role::Timestamp, (vec![key(93)], 1));
    thief.rotate(&[stolen, theirs].concat());
    thief.publish();
    let (asked, result, _) = thief.run(&image_root, on_trial);
    assert_eq!(asked.first().map(String::as_str), Some("3.root.json"), "{asked:?}");
    assert_eq!(result, too_few(Role::Timestamp, 0, 1));
    // The control: a device that has seen nothing believes the thief.
    assert_eq!(thief.run(&image_root, Trusted::default()).1, Ok(()));
    // The other way round: a device that has followed the thief is freed by the newer image, in both slots.
    let (_, _, fooled) = thief.run(&image_root, Trusted::default());
    let (_, _, freed) = repository.run(&newer, fooled);
    let (asked, result, _) = repository.run(&image_root, freed);
    assert_eq!((asked.first().map(String::as_str), result), (Some("3.root.json"), Ok(())));
}

#[test]
fn clause_5_3_8_roots_that_lead_elsewhere_are_dropped_for_the_image() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    let stolen = repository.signers(Role::Root);
    let mut thief = repository.clone();
    let next = vec![key(11), key(12)];
    repository.keys.insert(Role::Root, (next.clone(), 2));
    repository.rotate(&[stolen.clone(), next.clone()].concat());
    repository.rotate(&next);
    let theirs = vec![key(91), key(92)];
    thief.keys.insert(Role::Root, (theirs.clone(), 2));
    thief.rotate(&[stolen, theirs].concat());
    let (_, _, fooled) = thief.run(&image_root, Trusted::default());
    // The image's third root does not follow from the thief's second one.
    let newer = repository.files["3.root.json"].clone();
    let (_, result, freed) = repository.run(&newer, fooled);
    assert_eq!((result, versions_kept(&freed)), (Ok(()), vec![3]));
    assert_eq!(repository.run(&image_root, freed).1, Ok(()));
}

#[test]
fn roots_from_before_the_image_never_keep_a_new_one_out() {
    let mut repository = Repository::new();
    let signers = repository.signers(Role::Root);
    // What somebody has filled the file with, which nobody verifies here: as long as roots can be.
    let mut root = repository.root();
    root["filling"] = "x".repeat(29_000).into();
    let junk: Vec<Vec<u8>> = (1..=60u32)
        .map(|version| {
            root["version"] = version.into();
            envelope(&root, &[])
        })
        .collect();
    repository.root_version = 99;
    repository.rotate(&signers);
    let newer = repository.files["100.root.json"].clone();
    repository.rotate(&signers);
    let full = Trusted { roots: junk, ..Trusted::default() };
    let (_, result, trusted) = repository.run(&newer, full);
    assert_eq!(result, Ok(()));
    assert!(trusted.encode().unwrap().len() <= Trusted::MAX_ENCODED_BYTES);
    assert!(versions_kept(&trusted).ends_with(&[60, 100, 101]), "{:?}", versions_kept(&trusted));
}

/// A repository with five roots, the fifth of which replaces the root's keys, and a thief's with another fifth root,
/// signed by the former keys.
fn replaced_by_the_fifth() -> (Repository, Repository) {
    let mut repository = Repository::new();
    let stolen = repository.signers(Role::Root);
    for _ in 2..=4 {
        repository.rotate(&stolen);
    }
    let mut thief = repository.clone();
    let next = vec![key(11), key(12)];
    repository.keys.insert(Role::Root, (next.clone(), 2));
    repository.rotate(&[stolen.clone(), next].concat());
    let theirs = vec![key(91), key(92)];
    thief.keys.insert(Role::Root, (theirs.clone(), 2));
    thief.keys.insert(Role::Timestamp, (vec![key(93)], 1));
    thief.rotate(&[stolen, theirs].concat());
    thief.publish();
    (repository, thief)
}

/// What a device keeps whose image has root 1, when that has seen roots up to `seen` and the image of the other slot,
/// with root 4, has seen root 5.
fn kept_with_a_gap(repository: &Repository, seen: u32) -> Trusted {
    let mut before = repository.clone();
    before.files.retain(|name, _| {
        (2..=5).filter(|v| *v > seen).all(|version| *name != Role::Root.file(version))
    });
    let (_, result, kept) = before.run(&repository.image_root(), Trusted::default());
    assert_eq!(result, Ok(()));
    let (_, result, kept) = repository.run(&repository.files["4.root.json"], kept);
    let expected: Vec<u32> = (1..=seen).chain([4, 5]).collect();
    assert_eq!((result, versions_kept(&kept)), (Ok(()), expected));
    kept
}

#[test]
fn clause_5_3_8_roots_beyond_a_missing_version_are_kept_for_a_newer_image() {
    let (repository, thief) = replaced_by_the_fifth();
    let (image_root, newer) = (repository.image_root(), &repository.files["4.root.json"]);
    for seen in [1, 2] {
        let kept = kept_with_a_gap(&repository, seen);
        // The device falls back to the older image, from which roots are withheld, again and again.
        let mut withheld = repository.clone();
        withheld.files.retain(|name, _| (3..=5).all(|version| *name != Role::Root.file(version)));
        let mut fallen = kept.clone();
        for _ in 0..2 {
            let (asked, result, again) = withheld.run(&image_root, fallen);
            assert_eq!(result, Ok(()));
            assert!(!asked.contains(&Role::Root.file(4)), "{asked:?}");
            fallen = Trusted::decode(&again.encode().unwrap()).unwrap();
            // What is verified comes last.
            assert_eq!(versions_kept(&fallen), [4, 5, 1, 2]);
        }
        // The newer image starts again, and the thief has a fifth root for it.
        let (asked, result, again) = thief.run(newer, fallen);
        assert_eq!(asked.first().map(String::as_str), Some("6.root.json"), "{asked:?}");
        assert_eq!(result, too_few(Role::Timestamp, 0, 1));
        assert_eq!(versions_kept(&again), [1, 2, 4, 5]);
    }
    // The control: without that memory the thief is believed.
    assert_eq!(thief.run(newer, Trusted::default()).1, Ok(()));
}

#[test]
fn clause_5_3_8_roots_beyond_a_missing_version_are_followed_once_it_is_there() {
    let (repository, thief) = replaced_by_the_fifth();
    let image_root = repository.image_root();
    for seen in [1, 2] {
        let kept = kept_with_a_gap(&repository, seen);
        let (asked, result, kept) = repository.run(&image_root, kept);
        let roots: Vec<_> = asked.iter().filter(|name| name.ends_with("root.json")).collect();
        let missing = (seen + 1..=3).chain([6]).map(|version| Role::Root.file(version));
        assert_eq!((roots, result), (missing.collect::<Vec<_>>().iter().collect(), Ok(())));
        assert_eq!(versions_kept(&kept), [1, 2, 3, 4, 5]);
    }
    // Where no version is missing, none of them is asked for; and the thief comes too late.
    let (_, _, kept) = repository.run(&image_root, Trusted::default());
    let (asked, result, again) = repository.run(&image_root, kept.clone());
    assert_eq!((asked.first().map(String::as_str), result), (Some("6.root.json"), Ok(())));
    assert_eq!(again, kept);
    assert_eq!(thief.run(&image_root, kept).1, too_few(Role::Timestamp, 0, 1));
}

#[test]
fn clause_5_3_8_roots_that_do_not_follow_are_dropped_once_they_are_reached() {
    let (repository, _) = replaced_by_the_fifth();
    let image_root = repository.image_root();
    let mut foreign = repository.clone();
    foreign.keys.insert(Role::Root, (vec![key(95), key(96)], 2));
    foreign.root_version = 1;
    for _ in 2..=6 {
        let signers = foreign.signers(Role::Root);
        foreign.rotate(&signers);
    }
    let planted = |versions: &[u32]| Trusted {
        roots: versions.iter().map(|v| foreign.files[&Role::Root.file(*v)].clone()).collect(),
        ..Trusted::default()
    };
    let begun = |trusted| Client::begin(&image_root, trusted, NOW).unwrap().trusted().clone();
    // At once, where it is the next one: those behind it go as well, whether a version is missing there or not.
    assert_eq!(versions_kept(&begun(planted(&[2, 3]))), [1]);
    assert_eq!(versions_kept(&begun(planted(&[2, 3, 5, 6]))), [1]);
    // Beyond, they stay until the server has shown those in between, and keep none of its roots out.
    assert_eq!(versions_kept(&begun(planted(&[4, 6]))), [4, 6, 1]);
    let (asked, result, kept) = repository.run(&image_root, planted(&[4, 6]));
    assert!(asked.contains(&"4.root.json".to_owned()), "{asked:?}");
    assert_eq!((result, versions_kept(&kept)), (Ok(()), vec![1, 2, 3, 4, 5]));
}

#[test]
fn roots_beyond_a_missing_version_never_keep_a_new_one_out() {
    let mut repository = Repository::new();
    let signers = repository.signers(Role::Root);
    let mut root = repository.root();
    root["filling"] = "x".repeat(29_000).into();
    let mut junk = |versions: std::ops::Range<u32>| -> Vec<Vec<u8>> {
        let of = |version: u32| {
            root["version"] = version.into();
            envelope(&root, &[])
        };
        versions.map(of).collect()
    };
    repository.root_version = 99;
    repository.rotate(&signers);
    let image_root = repository.files["100.root.json"].clone();
    repository.rotate(&signers);
    let own: usize = [100, 101].map(|v| repository.files[&Role::Root.file(v)].len()).iter().sum();
    let room = |junk: &[Vec<u8>]| u32::try_from((MAX_ROOT_BYTES - own) / junk[0].len()).unwrap();
    let run = |roots: &[Vec<u8>]| {
        let full = Trusted { roots: roots.to_vec(), ..Trusted::default() };
        let (_, result, trusted) = repository.run(&image_root, full);
        assert_eq!(result, Ok(()));
        assert!(trusted.encode().unwrap().len() <= Trusted::MAX_ENCODED_BYTES);
        versions_kept(&trusted)
    };
    // All are of one length. Those from before the image's go first, the oldest of them before others.
    let (before, beyond) = (junk(10..20), junk(200..260));
    let room = room(&before).min(room(&beyond));
    let some = usize::try_from(room - 4).unwrap();
    let expected: Vec<u32> = (16..20).chain(200..200 + room - 4).chain([100, 101]).collect();
    assert_eq!(run(&[before.clone(), beyond[..some].to_vec()].concat()), expected);
    // Then the newest of those beyond.
    let expected: Vec<u32> = (200..200 + room).chain([100, 101]).collect();
    assert_eq!(run(&[before, beyond].concat()), expected);
}

#[test]
fn clause_5_3_11_compares_with_the_root_under_which_the_rest_was_verified() {
    let mut repository = Repository::new();
    let image_root = repository.image_root();
    let signers = repository.signers(Role::Root);
    for _ in 2..=4 {
        repository.rotate(&signers);
    }
    // Whoever holds the online keys runs ahead where the root that replaces one of them is withheld.
    let mut thief = repository.clone();
    thief.files.retain(|name, _| (2..=5).all(|version| *name != Role::Root.file(version)));
    thief.versions.insert(Role::Timestamp, 1_000_000);
    thief.write_timestamp();
    repository.keys.insert(Role::Snapshot, (vec![key(50)], 1));
    repository.rotate(&signers);
    repository.release("app-2");
    let newer = &repository.files["4.root.json"].clone();
    let (_, _, kept) = repository.run(newer, Trusted::default());
    assert_eq!(versions_kept(&kept), [4, 5]);
    let (_, result, fooled) = thief.run(&image_root, kept);
    assert_eq!((result, versions_kept(&fooled)), (Ok(()), vec![4, 5, 1]));
    // The timestamp's key is the same; the fifth root ends it nevertheless.
    let (_, result, settled) = repository.run(newer, fooled);
    assert_eq!((result, versions_kept(&settled)), (Ok(()), vec![1, 4, 5]));
    // From then on the rest is verified under that root, and counts, a missing version or not.
    repository.versions.insert(Role::Timestamp, 1);
    repository.write_timestamp();
    let back = Err(ClientError::Rollback { role: Role::Timestamp, found: 1, seen: 2 });
    assert_eq!(repository.run(newer, settled).1, back);
}

#[test]
fn clause_5_3_11_counts_where_the_image_brings_the_root() {
    for role in [Role::Timestamp, Role::Snapshot] {
        let mut repository = Repository::new();
        let mut thief = repository.clone();
        thief.versions.insert(role, 1_000_000);
        thief.write_snapshot();
        thief.write_timestamp();
        let fooled = thief.settled();
        repository.keys.insert(role, (vec![key(50)], 1));
        let signers = repository.signers(Role::Root);
        repository.rotate(&signers);
        repository.release("app-2");
        let newer = repository.files["2.root.json"].clone();
        let (_, result, settled) = repository.run(&newer, fooled);
        assert_eq!(result, Ok(()), "{role}");
        // From then on it is the root of before as well: what was seen counts.
        repository.versions.insert(Role::Timestamp, 1);
        repository.write_timestamp();
        let back = Err(ClientError::Rollback { role: Role::Timestamp, found: 1, seen: 2 });
        assert_eq!(repository.run(&newer, settled).1, back, "{role}");
    }
}

#[test]
fn what_lies_on_the_medium_is_hostile_until_proved() {
    let repository = Repository::new();
    let mut foreign = Repository::new();
    for (_, (keys, _)) in foreign.keys.iter_mut() {
        for (index, key_of_role) in keys.iter_mut().enumerate() {
            *key_of_role = key(u8::try_from(90 + index).unwrap());
        }
    }
    foreign.root_version = 1;
    let signers = foreign.signers(Role::Root);
    foreign.rotate(&signers);
    foreign.publish();
    // Somebody has put another root behind the image's, and metadata that it signs.
    let planted = Trusted {
        roots: vec![foreign.files["2.root.json"].clone()],
        timestamp: foreign.files.get("timestamp.json").cloned(),
        snapshot: foreign.files.get("1.snapshot.json").cloned(),
        targets: foreign.files.get("1.targets.json").cloned(),
    };
    let client = Client::begin(&repository.image_root(), planted, NOW).unwrap();
    let nothing = Trusted { roots: vec![repository.image_root()], ..Trusted::default() };
    assert_eq!(client.trusted(), &nothing);
}

proptest! {
    #[test]
    fn whatever_a_server_sends_nothing_unsigned_is_believed(
        junk in proptest::collection::vec(any::<u8>(), 0..200),
        at in 0usize..4,
        flip in any::<(u16, u8)>(),
        flipped in any::<bool>(),
    ) {
        let repository = Repository::new();
        let names = ["1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
        let mut offered = repository.clone();
        let good = offered.files[names[at]].clone();
        let bad = if flipped {
            let mut bad = good.clone();
            let place = usize::from(flip.0).checked_rem(bad.len()).unwrap();
            bad[place] ^= flip.1;
            bad
        } else {
            junk
        };
        let name = if at == 0 { "2.root.json" } else { names[at] };
        offered.files.insert(name.to_owned(), bad.clone());
        let mut client =
            Client::begin(&repository.image_root(), Trusted::default(), NOW).unwrap();
        let (_, result) = offered.drive(&mut client);
        if result.is_ok() {
            // What has changed means the same: such as the case of a hexadecimal digit.
            let targets = client.targets().unwrap();
            prop_assert!(targets.targets.contains_key("app-1"));
        }
    }
}

/// The order in the metadata of `repository`, looked for as the device does it from a card.
fn looked_for(
    repository: &Repository,
    image_root: &[u8],
    order: &Order,
) -> Result<(), NoOrder<std::io::Error>> {
    crate::factory_reset::find_order(order, image_root, NOW, |wanted| {
        Ok(repository.files.get(&wanted.name).cloned())
    })
}

#[test]
fn a_reset_is_ordered_by_whoever_signs_for_the_owner_and_by_nobody_else() {
    let partitions =
        holdfast_sandbox::reset_order::Partitions { state: true, apps: true, data: true };
    let mut repository = Repository::new();
    let mut targets = repository.common(Role::Targets);
    let path = Order::path(partitions, 1);
    targets["targets"] = json!({path: {"length": 1, "hashes": {"sha256": "5a".repeat(32)}}});
    repository.write(Role::Targets, &targets);
    repository.write_snapshot();
    repository.write_timestamp();
    let order = Order { digest: [0x5a; 32], partitions };
    let root = repository.image_root();
    looked_for(&repository, &root, &order).unwrap();
    // Another order than the one that is there, by its file or by what it erases.
    let less = holdfast_sandbox::reset_order::Partitions { data: false, ..partitions };
    for other in [Order { digest: [0x5b; 32], ..order }, Order { partitions: less, ..order }] {
        assert!(matches!(looked_for(&repository, &root, &other), Err(NoOrder::Other)));
    }
    // Signed by keys that are not the owner's.
    let mut stolen = repository.clone();
    stolen.keys.insert(Role::Targets, (vec![key(10), key(11)], 2));
    stolen.write(Role::Targets, &targets);
    stolen.write_snapshot();
    stolen.write_timestamp();
    assert!(matches!(looked_for(&stolen, &root, &order), Err(NoOrder::Refused(_))));
    // Nothing of it is there, or it has expired.
    let mut nothing = repository.clone();
    nothing.files.clear();
    assert!(matches!(looked_for(&nothing, &root, &order), Err(NoOrder::Refused(_))));
    let later = crate::factory_reset::find_order(&order, &root, NOW + 31 * DAY, |wanted| {
        Ok::<_, std::io::Error>(repository.files.get(&wanted.name).cloned())
    });
    assert!(matches!(later, Err(NoOrder::Refused(ClientError::Expired { .. }))));
}

/// A run to its end, at a time, of a fresh device.
fn run_at(repository: &Repository, now: u64) -> (Result<(), ClientError>, Client) {
    let mut client = Client::begin(&repository.image_root(), Trusted::default(), now).unwrap();
    let result = repository.drive(&mut client).1;
    (result, client)
}

#[test]
fn only_offline_keys_say_what_time_it_is_at_least() {
    // Whoever holds the online key signs a timestamp that says what it likes.
    let mut stolen = Repository::new();
    let mut timestamp = stolen.common(Role::Timestamp);
    timestamp["meta"] = json!({"snapshot.json": stolen.meta(Role::Snapshot)});
    timestamp["issued"] = time(NOW + 19 * 365 * DAY).unwrap().into();
    stolen.write(Role::Timestamp, &timestamp);
    let (result, client) = run_at(&stolen, NOW);
    assert_eq!((result, client.issued()), (Ok(()), Some(NOW - DAY)));
    // The control: the keys of the targets say it.
    let mut honest = Repository::new();
    honest.issued = NOW + DAY;
    honest.release("app-2");
    let (result, client) = run_at(&honest, NOW);
    assert_eq!((result, client.issued()), (Ok(()), Some(NOW + DAY)));
    assert_eq!(client.holds_until(), Some(NOW + 30 * DAY));
}

#[test]
fn a_clock_is_raised_to_no_time_at_which_something_has_expired() {
    for role in Role::ALL {
        let mut repository = Repository::new();
        let signers = repository.signers(Role::Root);
        repository.expires.insert(role, NOW + 10 * DAY);
        repository.rotate(&signers);
        repository.issued = NOW + 10 * DAY - 1;
        repository.publish();
        let (result, client) = run_at(&repository, NOW);
        assert_eq!((result, client.issued()), (Ok(()), Some(NOW + 10 * DAY - 1)), "{role}");
        let settled = repository.settled();
        // A machine whose clock is wrong signs what no device can ever leave again.
        repository.issued = NOW + 10 * DAY;
        repository.bump(&Role::ALL[1..]);
        repository.publish();
        let said = |at| time(at).unwrap();
        let issued = said(NOW + 10 * DAY);
        let refused = Err(ClientError::Issued { role, expires: issued.clone(), issued });
        let (result, client) = run_at(&repository, NOW);
        assert_eq!((result, client.issued()), (refused.clone(), None), "{role}");
        assert_eq!(repository.run(&repository.image_root(), settled).1, refused, "{role}");
    }
}

#[test]
fn an_oem_leads_the_clock_nowhere_where_the_os_has_expired() {
    use crate::RepositoryName::{Oem, Os};
    let mut os = Repository::new();
    os.expires.insert(Role::Timestamp, NOW + 14 * DAY);
    os.publish();
    let (_, os_run) = run_at(&os, NOW);
    let mut oem = Repository::new();
    let mut oem_at = |issued| {
        oem.issued = issued;
        oem.release("app-2");
        let (result, run) = run_at(&oem, NOW);
        assert_eq!(result, Ok(()));
        run
    };
    let (near, far) = (oem_at(NOW + 14 * DAY - 1), oem_at(NOW + 14 * DAY));
    assert_eq!(raised_to(Oem, &near, Some(&os_run)), Some(NOW + 14 * DAY - 1));
    assert_eq!(raised_to(Oem, &far, Some(&os_run)), None);
    // Alone, it answers for itself; and so does the OS.
    assert_eq!(raised_to(Oem, &far, None), Some(NOW + 14 * DAY));
    assert_eq!(raised_to(Os, &far, Some(&os_run)), Some(NOW + 14 * DAY));
    // Of the OS nothing is known yet but its root.
    let begun = Client::begin(&os.image_root(), Trusted::default(), NOW).unwrap();
    assert_eq!(raised_to(Oem, &near, Some(&begun)), None);
}
