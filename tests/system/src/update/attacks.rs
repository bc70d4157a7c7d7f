//! Attacks on updates, by whoever sits on the way or holds the server, and by whoever holds some of the keys:
//! against the real agents. Named after the lists of TUF and Uptane.
//!
//! They share one device, which goes through all of them and then still takes what is really released.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::suite::{Suite, check, checks};
use crate::update::scene::{Scene, WAIT, floor_of_clock, now, with_foreign_kernel};
use anyhow::{Context, Result, ensure};
use holdfast_images::key::PrivateKey;
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::web_server::{Authority, WebAnswer, WebRequest};
use holdfast_release::metadata::{self, Key, Role, Signature, Timestamp};
use holdfast_repository::{Lifetimes, Released, Repository, Roles};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::ComponentId;
use holdfast_types::hex::hex;
use std::fs;
use std::time::Duration;

const DAY_S: u64 = 86_400;

/// A device, and a release that it would take.
struct Siege {
    scene: Scene,
    guest: Guest,
    release: Released,
}

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.sequence(
        move || Siege::begin(artefacts),
        checks![
            update_attack_arbitrary_install,
            update_attack_key_compromise_below_threshold,
            update_attack_issued_in_the_future,
            update_attack_rollback,
            update_attack_freeze,
            update_attack_fast_forward,
            update_attack_mix_and_match,
            update_attack_wrong_software,
            update_attack_garbage_costs_no_slot,
            update_attack_for_another_device,
            update_attack_extraneous_dependencies,
            update_attack_endless_data,
            update_attack_slow_retrieval,
            update_attack_drop_request,
            a_device_under_attack_takes_the_real_release_afterwards
        ],
    );
    check!(suite, a_server_that_the_image_does_not_trust_is_not_listened_to(artefacts));
    check!(suite, a_clock_that_is_far_ahead_stops_updates_and_nothing_else(artefacts));
}

impl Siege {
    fn begin(artefacts: &Artefacts) -> Result<Self> {
        let scene = Scene::new(artefacts)?;
        let release = scene.os("0.2.0", 0, |_, _| Ok(()))?;
        let mut guest = scene.machine(&scene.image())?.start(None)?;
        guest.wait("update: oem: nothing new", BOOT)?;
        guest.wait_anywhere("init: slot a committed", WAIT)?;
        Ok(Self { scene, guest, release })
    }

    /// The agent says why it takes nothing.
    fn refused(&mut self, why: &str) -> Result<()> {
        self.guest.wait(why, WAIT).with_context(|| "what was expected of the attack")?;
        let text = self.guest.console.text();
        ensure!(!text.contains("is staged"), "{}", self.guest.console.tail());
        Ok(())
    }

    /// The real server is back: the device hears the truth again.
    fn over(&mut self) -> Result<()> {
        self.scene.tell_the_truth();
        self.guest.wait("update: os: nothing new in version", WAIT)?;
        Ok(())
    }

    /// Bytes that uplink has received since the start.
    fn received(&mut self) -> Result<u64> {
        let status = self.guest.probe.ask("network", WAIT)?;
        let line = status.lines().find(|line| line.contains("uplink: sent"));
        let bytes = line.and_then(|line| line.split("received ").nth(1)?.split(' ').nth(2));
        let bytes = bytes.with_context(|| status.clone())?.trim_end_matches(',');
        Ok(bytes.parse()?)
    }

    fn served(&self, name: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.scene.repository("os").join(name))?)
    }
}

fn attacker() -> PrivateKey {
    PrivateKey::from_secret(&[66; 32], true)
}

/// A whole repository of the attacker's own, with the next root, which the attacker alone has signed.
fn update_attack_arbitrary_install(siege: &mut Siege) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let (key, at) = (attacker(), now()?);
    let roles = || Roles { keys: Role::ALL.map(|role| (role, (vec![key.public()], 1))).into() };
    let mut root = Repository::first_root(&roles(), 400 * DAY_S, at)?;
    root.sign(&key);
    let mut theirs = Repository::create(directory.path(), &root)?;
    let Released { path, bytes, release } = siege.release.clone();
    let target = theirs.add_file(&path, &bytes, release)?;
    let mut draft = theirs.next_targets([(path, target)].into(), 100 * DAY_S, at)?;
    draft.sign(&key);
    theirs.publish(&draft, std::slice::from_ref(&key), Lifetimes::default(), at)?;
    let mut next = theirs.next_root(&roles(), 400 * DAY_S, at)?;
    next.sign(&key);
    theirs.rotate(&next, std::slice::from_ref(&key), Lifetimes::default(), at)?;
    let served = directory.path().to_owned();
    siege.scene.lie(move |asked, _| {
        let path = asked.path.trim_start_matches("os/");
        fs::read(served.join(path)).map_or(WebAnswer::Status(404), WebAnswer::File)
    });
    siege.refused("update: os: root has 0 of 1 signatures of the role's keys")?;
    // Without that root, down to the next thing that they have signed.
    let served = directory.path().to_owned();
    siege.scene.lie(move |asked, _| {
        let path = asked.path.trim_start_matches("os/");
        let file = fs::read(served.join(path)).ok().filter(|_| !path.ends_with("root.json"));
        file.map_or(WebAnswer::Status(404), WebAnswer::File)
    });
    siege.refused("update: os: timestamp has 0 of 1 signatures of the role's keys")?;
    siege.over()
}

/// The keys are rotated to one for each task; then the key that is online is stolen.
fn online_key_is_stolen(siege: &mut Siege) -> Result<(Repository, PrivateKey)> {
    let path = siege.scene.repository("os");
    let stolen = PrivateKey::from_secret(&[67; 32], true);
    let key = siege.scene.key.clone();
    let keys = [
        (Role::Root, (vec![key.public()], 1)),
        (Role::Targets, (vec![key.public()], 1)),
        (Role::Snapshot, (vec![stolen.public()], 1)),
        (Role::Timestamp, (vec![stolen.public()], 1)),
    ];
    let mut repository = Repository::open(&path)?;
    let mut root = repository.next_root(&Roles { keys: keys.into() }, 400 * DAY_S, now()?)?;
    root.sign(&key);
    repository.rotate(&root, std::slice::from_ref(&stolen), Lifetimes::default(), now()?)?;
    siege.guest.wait("update: os: nothing new in version", WAIT)?;
    Ok((repository, stolen))
}

/// The owner's way out: another key in its place. The versions that the thief has used up are forgotten.
fn online_key_is_replaced(siege: &mut Siege, mut repository: Repository) -> Result<()> {
    let key = siege.scene.key.clone();
    let mut root = repository.next_root(&siege.one_key(), 400 * DAY_S, now()?)?;
    root.sign(&key);
    repository.rotate(&root, &[key], Lifetimes::default(), now()?)?;
    siege.over()
}

fn signed_by(key: &PrivateKey, value: serde_json::Value) -> Result<Vec<u8>> {
    let message = metadata::canonical(&value)?;
    let keyid = Key::of(&key.public().bytes).id();
    let signatures = vec![Signature { keyid, sig: hex(&key.sign(&message)) }];
    Ok(serde_json::to_vec(&metadata::Envelope { signatures, signed: value })?)
}

/// The timestamp of the publication that there is, but for what the thief says of the time: that it is 19 years later.
fn update_attack_issued_in_the_future(siege: &mut Siege) -> Result<()> {
    let (repository, stolen) = online_key_is_stolen(siege)?;
    let honest = siege.served("metadata/timestamp.json")?;
    let mut signed = serde_json::from_slice::<metadata::Envelope>(&honest)?.signed;
    let later = |seconds: u64| metadata::time(now()?.saturating_add(seconds)).context("no time");
    let fields = signed.as_object_mut().context("no object")?;
    fields.insert("version".to_owned(), 99.into());
    fields.insert("expires".to_owned(), later(20 * 366 * DAY_S)?.into());
    fields.insert("issued".to_owned(), later(19 * 365 * DAY_S)?.into());
    let timestamp = signed_by(&stolen, signed)?;
    siege.scene.lie(move |asked, answer| match asked.path.as_str() {
        "os/metadata/timestamp.json" => WebAnswer::File(timestamp.clone()),
        _ => answer,
    });
    // It is signed as it must be, and taken: two looks, the first of which may have been under way.
    for _ in 0..2 {
        siege.guest.wait("update: os: nothing new in version", WAIT)?;
    }
    let (floor, at) = (floor_of_clock(&mut siege.guest)?, now()?);
    ensure!(floor <= at, "the floor of the clock is {floor}, at {at}");
    online_key_is_replaced(siege, repository)
}

/// The key that is online signs what only the key of the targets may.
fn update_attack_key_compromise_below_threshold(siege: &mut Siege) -> Result<()> {
    let (repository, stolen) = online_key_is_stolen(siege)?;
    // What the thief can make: all of it right, but for a signature under the targets.
    let directory = tempfile::tempdir()?;
    let theirs = directory.path().to_owned();
    let Released { path, bytes, release } = siege.release.clone();
    let target = repository.add_file(&path, &bytes, release)?;
    let mut draft = repository.next_targets([(path, target)].into(), 100 * DAY_S, now()?)?;
    draft.sign(&stolen);
    let targets = draft.to_bytes()?;
    let signed = |value: serde_json::Value| signed_by(&stolen, value);
    let of = |bytes: &[u8], version: u64| {
        serde_json::json!({ "version": version, "length": bytes.len(),
                            "hashes": { "sha256": holdfast_types::hex::sha256(bytes) } })
    };
    let version = serde_json::from_slice::<serde_json::Value>(&targets)?
        .pointer("/signed/version")
        .and_then(serde_json::Value::as_u64)
        .context("no version")?;
    let named = |kind: &str, meta: serde_json::Value| {
        let expires = metadata::time(now()?.saturating_add(DAY_S)).context("no time")?;
        anyhow::Ok(serde_json::json!({ "_type": kind, "spec_version": "1.0.34", "version": 99,
                                       "expires": expires, "meta": meta }))
    };
    let targets_named = serde_json::json!({ "targets.json": of(&targets, version) });
    let snapshot = signed(named("snapshot", targets_named)?)?;
    let snapshot_named = serde_json::json!({ "snapshot.json": of(&snapshot, 99) });
    let timestamp = signed(named("timestamp", snapshot_named)?)?;
    for (name, bytes) in [
        (format!("{version}.targets.json"), &targets),
        ("99.snapshot.json".to_owned(), &snapshot),
        ("timestamp.json".to_owned(), &timestamp),
    ] {
        fs::write(theirs.join(name), bytes)?;
    }
    siege.scene.lie(move |asked, answer| {
        let _ = &directory;
        let name = asked.path.trim_start_matches("os/metadata/");
        fs::read(theirs.join(name)).map_or(answer, WebAnswer::File)
    });
    siege.refused("update: os: targets has 0 of 1 signatures of the role's keys")?;
    online_key_is_replaced(siege, repository)
}

impl Siege {
    fn one_key(&self) -> Roles {
        let key = self.scene.key.public();
        Roles { keys: Role::ALL.map(|role| (role, (vec![key], 1))).into() }
    }
}

/// What was published before, as it was.
fn update_attack_rollback(siege: &mut Siege) -> Result<()> {
    let before = siege.served("metadata/timestamp.json")?;
    siege.scene.publish("os", &[])?;
    siege.guest.wait("update: os: nothing new in version", WAIT)?;
    siege.guest.wait("update: os: nothing new in version", WAIT)?;
    siege.scene.lie(move |asked, answer| match asked.path.as_str() {
        "os/metadata/timestamp.json" => WebAnswer::File(before.clone()),
        _ => answer,
    });
    siege.refused("update: os: timestamp goes back from version [0-9]+ to [0-9]+")?;
    siege.over()
}

/// What holds no more is served on and on.
fn update_attack_freeze(siege: &mut Siege) -> Result<()> {
    siege.scene.publish_at("os", &[], now()?.saturating_sub(20 * DAY_S))?;
    siege.refused("update: os: timestamp has expired: ")?;
    siege.scene.publish("os", &[])?;
    siege.over()
}

/// Versions that were never published, without the key that could sign them.
fn update_attack_fast_forward(siege: &mut Siege) -> Result<()> {
    siege.scene.lie(|asked, answer| match (asked.path.as_str(), answer) {
        ("os/metadata/timestamp.json", WebAnswer::File(bytes)) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Ok((timestamp, _)) = metadata::read::<Timestamp>(&bytes) else {
                return WebAnswer::Status(500);
            };
            let version = format!("\"version\":{}", timestamp.common.version);
            WebAnswer::File(text.replace(&version, "\"version\":4000000000").into_bytes())
        }
        (_, answer) => answer,
    });
    siege.refused("update: os: timestamp has 0 of 1 signatures of the role's keys")?;
    siege.over()
}

/// A snapshot and targets of two different publications.
fn update_attack_mix_and_match(siege: &mut Siege) -> Result<()> {
    let newest = |siege: &Siege, role: &str| -> Result<(u64, Vec<u8>)> {
        let versions = (1..).take_while(|version: &u64| {
            siege.scene.repository("os").join(format!("metadata/{version}.{role}.json")).is_file()
        });
        let version = versions.last().context("none")?;
        Ok((version, siege.served(&format!("metadata/{version}.{role}.json"))?))
    };
    for role in ["snapshot", "targets"] {
        let (_, before) = newest(siege, role)?;
        siege.scene.publish("os", &[])?;
        let (version, _) = newest(siege, role)?;
        let name = format!("os/metadata/{version}.{role}.json");
        siege.scene.lie(move |asked, answer| match answer {
            WebAnswer::File(_) if asked.path == name => WebAnswer::File(before.clone()),
            answer => answer,
        });
        siege.refused(&format!(
            "update: os: {role} (is not the file that the metadata names|has [0-9]+ bytes)"
        ))?;
        siege.over()?;
    }
    Ok(())
}

/// The right length and beginning under the real metadata, and other bytes in the middle.
fn update_attack_wrong_software(siege: &mut Siege) -> Result<()> {
    // A release of its own: it is put off in the end.
    let release = siege.scene.os("0.2.0", 0, |root, _| {
        root.add("usr/lib/holdfast/note", b"of another release".to_vec(), false);
        Ok(())
    })?;
    // All of the kernel is fetched, and what is in the middle lies. First, shorter ones.
    siege.scene.lie(|asked, answer| match answer {
        WebAnswer::File(bytes) if asked.path.ends_with(".slot") => {
            WebAnswer::File(bytes.get(..4096).unwrap_or_default().to_vec())
        }
        answer => answer,
    });
    siege.scene.publish("os", &[with_foreign_kernel(release)?])?;
    siege.refused("it ends after [0-9]+ bytes")?;
    siege.scene.lie(|asked, answer| match answer {
        WebAnswer::File(mut bytes) if asked.path.ends_with(".slot") => {
            if let Some(byte) = bytes.get_mut(1_000_000) {
                *byte ^= 1;
            }
            WebAnswer::File(bytes)
        }
        answer => answer,
    });
    siege.refused("what comes at byte 983040 is not what was released")?;
    siege.guest.wait_anywhere("update: os: release 0.2.0 is tried again in 60 minutes", WAIT)?;
    siege.scene.publish("os", &[])?;
    siege.over()
}

/// Any bytes under the real metadata, from somebody without a key: the other slot stays what it is.
fn update_attack_garbage_costs_no_slot(siege: &mut Siege) -> Result<()> {
    let slot_changes =
        |siege: &mut Siege| siege.guest.console.text().matches("init: status: ").count();
    let before = slot_changes(siege);
    let release = with_foreign_kernel(siege.release.clone())?;
    let kernel = usize::try_from(release.release.boot_bytes)?;
    let lie = |end: usize| {
        move |asked: &WebRequest, answer| match answer {
            WebAnswer::File(mut bytes) if asked.path.ends_with(".slot") => {
                bytes.iter_mut().take(end).for_each(|byte| *byte ^= 0xff);
                WebAnswer::File(bytes)
            }
            answer => answer,
        }
    };
    siege.scene.lie(lie(usize::MAX));
    siege.scene.publish("os", &[release])?;
    for _ in 0..2 {
        siege.refused("the hashes of its blocks that came are not those of its root hash")?;
    }
    // The hashes are right, and nothing else.
    siege.scene.lie(lie(kernel));
    for _ in 0..2 {
        siege.refused("what comes at byte 0 is not what was released")?;
    }
    ensure!(slot_changes(siege) == before, "a slot was given up: {}", siege.guest.console.tail());
    siege.scene.publish("os", &[])?;
    siege.over()
}

/// Releases that are signed and right, for somebody else.
fn update_attack_for_another_device(siege: &mut Siege) -> Result<()> {
    for field in ["board", "product", "least_os"] {
        let mut other = siege.release.clone();
        match field {
            "board" => other.release.board = "other".to_owned(),
            "product" => other.release.product = "other".to_owned(),
            _ => other.release.least_os = "9.0.0".parse()?,
        }
        siege.scene.publish("os", &[other])?;
        siege.refused("update: os: nothing new in version")?;
    }
    siege.scene.publish("os", &[])?;
    siege.over()
}

/// The OEM's repository releases an OS, the OS's an app, and the OEM's an app that the image does not list.
fn update_attack_extraneous_dependencies(siege: &mut Siege) -> Result<()> {
    let app = siege.scene.app("9.0.0", 9, |_| {})?;
    let mut unknown = app.clone();
    unknown.release.subject = ReleaseSubject::App(ComponentId([9; 16]));
    siege.scene.publish("oem", &[siege.release.clone(), unknown])?;
    siege.scene.publish("os", &[app])?;
    siege.refused("update: os: nothing new in version")?;
    siege.refused("update: oem: nothing new in version")?;
    siege.refused("update: os: nothing new in version")?;
    siege.scene.publish("oem", &[])?;
    siege.scene.publish("os", &[])?;
    siege.over()
}

fn update_attack_endless_data(siege: &mut Siege) -> Result<()> {
    siege.scene.lie(|asked, answer| match asked.path.as_str() {
        "os/metadata/timestamp.json" => WebAnswer::Endless,
        _ => answer,
    });
    siege.refused("update: os: timestamp has 4097 bytes, more than 4096")?;
    siege.scene.publish("os", std::slice::from_ref(&siege.release))?;
    let length = u64::try_from(siege.release.bytes.len())?;
    let before = siege.received()?;
    siege.scene.lie(|asked, answer| match answer {
        WebAnswer::File(_) if asked.path.ends_with(".slot") => WebAnswer::Endless,
        answer => answer,
    });
    siege.refused("the hashes of its blocks that came are not those of its root hash")?;
    // What was under way when the agent had enough comes on top, and the headers of packets.
    let received = siege.received()?.saturating_sub(before);
    ensure!(received < length.saturating_mul(2), "{received} bytes were taken, of {length}");
    siege.scene.publish("os", &[])?;
    siege.over()
}

fn update_attack_slow_retrieval(siege: &mut Siege) -> Result<()> {
    siege.scene.lie(|asked, answer| match (asked.path.as_str(), answer) {
        ("os/metadata/timestamp.json", WebAnswer::File(bytes)) => {
            WebAnswer::Drip(bytes, 1, Duration::from_secs(2))
        }
        (_, answer) => answer,
    });
    siege.refused("update: os: fetch failed: (it comes too slowly|timeout)")?;
    siege.over()
}

fn update_attack_drop_request(siege: &mut Siege) -> Result<()> {
    siege.scene.lie(|_, _| WebAnswer::Status(503));
    siege.refused("update: os: fetch failed: the server answers 503")?;
    siege.scene.lie(|asked, answer| match answer {
        // Some files are there, and others are not.
        WebAnswer::File(_) if asked.path.ends_with("timestamp.json") => WebAnswer::Status(404),
        answer => answer,
    });
    siege.refused("update: os: timestamp is not there")?;
    // The device goes on.
    siege.guest.wait("hello: heartbeat", WAIT)?;
    siege.over()
}

fn a_device_under_attack_takes_the_real_release_afterwards(siege: &mut Siege) -> Result<()> {
    siege.scene.publish("os", std::slice::from_ref(&siege.release))?;
    siege.guest.wait("update: os: release 0.2.0 is staged", WAIT)?;
    siege.guest.wait("init: image update 0.2.0 for ", BOOT)?;
    siege.guest.wait("init: slot b committed", WAIT)?;
    Ok(())
}

fn a_server_that_the_image_does_not_trust_is_not_listened_to(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::with_authority(artefacts, &Authority::new()?)?;
    let mut guest = scene.machine(&scene.image())?.start(None)?;
    guest.wait("update: os: .*invalid peer certificate: (BadSignature|UnknownIssuer)", BOOT)?;
    Ok(())
}

/// The board's clock shows 2045 at one start, and the truth at the next.
fn a_clock_that_is_far_ahead_stops_updates_and_nothing_else(artefacts: &Artefacts) -> Result<()> {
    let scene = Scene::new(artefacts)?;
    let machine = scene.machine(&scene.image())?;
    let forged = Machine { clock_base: Some("2045-01-01T00:00:00".to_owned()), ..machine.clone() };
    let mut guest = forged.start(None)?;
    guest.wait("update: os: .*(expired|Expired)", BOOT)?;
    guest.wait("hello: heartbeat", WAIT)?;
    let mut guest = machine.start_again(guest)?;
    guest.wait("update: os: nothing new in version", BOOT)?;
    Ok(())
}
