//! Mirrors: plain copies of the paths that the service serves, which need nobody's permission.

use crate::installation::{Installation, OTHER_BOOT};
use crate::releases::{Published, release};
use crate::served::{serve, trust};
use holdfast_release::client::{Client, Trusted};
use holdfast_release::metadata::{Role, Targets};
use holdfast_types::hex::sha256;
use std::fs;
use std::path::Path;

const RELEASE: &str = "os/pump-1.4.1.slot";

/// Verifies metadata as a device does, which it reads by their paths, and returns the targets.
fn look(root: &str, now: u64, read: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Targets, String> {
    let mut client = Client::begin(root.as_bytes(), Trusted::default(), now).unwrap();
    while let Some(wanted) = client.wants() {
        let done = match read(&format!("metadata/{}", wanted.name)) {
            Some(bytes) => client.take(bytes),
            None if wanted.role == Role::Root => client.mark_missing(),
            None => return Err(format!("{} is missing", wanted.name)),
        };
        done.map_err(|error| error.to_string())?;
    }
    Ok(client.targets().unwrap().clone())
}

/// Fetches a file that the targets name, and compares it with what they say.
fn fetch(targets: &Targets, read: impl Fn(&str) -> Option<Vec<u8>>) -> Result<(), String> {
    let target = &targets.targets[RELEASE];
    let bytes = read(&target.place(RELEASE).unwrap()).ok_or("is missing")?;
    let is_same = sha256(&bytes) == target.hashes["sha256"];
    if is_same { Ok(()) } else { Err("is another file".to_owned()) }
}

#[test]
fn a_device_takes_a_release_from_a_plain_copy_of_what_is_served() {
    let mut service = Installation::new();
    let now = service.now();
    let mut published = Published::new(1, now);
    published.publish(&[(RELEASE, release("1.4.1", 8, &OTHER_BOOT))], now);
    trust(&service, "os", &published);
    serve(&service, "os", &published);
    // Whoever copies needs no token and no key: a file for each path that devices ask for.
    let copy = tempfile::tempdir().unwrap();
    let mirrored = |path: &str| {
        let url = format!("/repositories/{}/os/{path}", service.catalog);
        let answer = service.device.ask("GET", &url, "", b"");
        if answer.status == 404 {
            return None;
        }
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        // What is served is what was published, so that a copy of the publisher's directory is a mirror as well.
        assert_eq!(fs::read(published.directory.path().join(path)).unwrap(), answer.body, "{path}");
        let place = copy.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, &answer.body).unwrap();
        Some(answer.body)
    };
    let root = published.text("1.root.json");
    let targets = look(&root, now, mirrored).unwrap();
    fetch(&targets, mirrored).unwrap();
    service.end();
    // From then on, files are all that there is.
    let read = |directory: &Path, path: &str| fs::read(directory.join(path)).ok();
    let of_copy = |path: &str| read(copy.path(), path);
    assert_eq!(look(&root, now, of_copy).unwrap(), targets);
    fetch(&targets, of_copy).unwrap();
    let published = |path: &str| read(published.directory.path(), path);
    fetch(&look(&root, now, published).unwrap(), published).unwrap();
    // A mirror can withhold, and make nobody believe anything else.
    let place = copy.path().join(targets.targets[RELEASE].place(RELEASE).unwrap());
    let mut bytes = fs::read(&place).unwrap();
    bytes[0] ^= 1;
    fs::write(&place, bytes).unwrap();
    assert_eq!(fetch(&targets, of_copy).unwrap_err(), "is another file");
    let timestamp = copy.path().join("metadata/timestamp.json");
    let text = fs::read_to_string(&timestamp).unwrap();
    fs::write(&timestamp, text.replace("\"version\":1", "\"version\":2")).unwrap();
    look(&root, now, of_copy).unwrap_err();
    fs::write(&timestamp, text).unwrap();
    look(&root, now, of_copy).expect("the control");
    // And what it goes on showing ends by itself.
    let later = now + 15 * 24 * 60 * 60;
    assert!(look(&root, later, of_copy).unwrap_err().contains("expired"));
}
