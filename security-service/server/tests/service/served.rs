//! Repositories that devices are served: what was verified and is held, and nothing that makes a device run what its owner has not signed.

use crate::installation::{BOOT, Installation, OTHER_BOOT};
use crate::releases::{Published, release};
use holdfast_release::Release;
use holdfast_release::client::{Client, Trusted};
use holdfast_release::metadata::{Role, Targets};
use holdfast_release::reuse::CHUNK_BYTES;
use holdfast_s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service::settings::ObjectStoreSettings;
use holdfast_service::{folder, upkeep};
use holdfast_service_clients::Answer;
use holdfast_types::ComponentId;
use holdfast_types::hex::sha256;
use serde_json::{Value, json};
use sqlx::any::{AnyConnectOptions, install_default_drivers};
use sqlx::{AnyConnection, ConnectOptions, Executor};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// What a device fetches at once.
const PART_BYTES: usize = 1000;

/// A device: the root of its image, and what it has verified so far.
struct Device<'a> {
    service: &'a Installation,
    repository: &'static str,
    root: String,
    trusted: Trusted,
}

impl<'a> Device<'a> {
    fn new(service: &'a Installation, repository: &'static str, published: &Published) -> Self {
        let root = published.text("1.root.json");
        Self { service, repository, root, trusted: Trusted::default() }
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        let catalog = self.service.catalog;
        let path = format!("/repositories/{catalog}/{}/{path}", self.repository);
        self.service.device.ask("GET", &path, headers, b"")
    }

    /// Verifies the metadata as a device does, and returns the targets, or what it says of what it refuses.
    fn look(&mut self) -> Result<Targets, String> {
        let trusted = std::mem::take(&mut self.trusted);
        let now = self.service.now();
        let mut client = Client::begin(self.root.as_bytes(), trusted, now).unwrap();
        let mut refused = None;
        while let Some(wanted) = client.wants() {
            let answer = self.get(&format!("metadata/{}", wanted.name), "");
            let done = match answer.status {
                200 => client.take(answer.body),
                404 if wanted.role == Role::Root => client.mark_missing(),
                404 => {
                    refused = Some(format!("{} is missing", wanted.name));
                    break;
                }
                other => panic!("{}: {other}", wanted.name),
            };
            if let Err(error) = done {
                refused = Some(error.to_string());
                break;
            }
        }
        self.trusted = client.trusted().clone();
        refused.map_or_else(|| Ok(client.targets().unwrap().clone()), Err)
    }

    /// Fetches a file that the targets name, in parts, and compares it with what they say.
    fn fetch(&self, targets: &Targets, path: &str) -> Result<Vec<u8>, &'static str> {
        let target = &targets.targets[path];
        let place = target.place(path).unwrap();
        let mut bytes = Vec::new();
        while bytes.len() < usize::try_from(target.length).unwrap() {
            let from = bytes.len();
            let range = format!("Range: bytes={from}-{}\r\n", from + PART_BYTES - 1);
            let answer = self.get(&place, &range);
            if answer.status != 206 {
                return Err("is not there");
            }
            let said = answer.header("content-range").unwrap();
            assert!(said.starts_with(&format!("bytes {from}-")), "{said}");
            bytes.extend(answer.body);
        }
        if sha256(&bytes) == target.hashes["sha256"] { Ok(bytes) } else { Err("is another file") }
    }
}

fn put_file(service: &Installation, digest: &str, bytes: &[u8]) -> Answer {
    let headers = format!("Authorization: Bearer {}\r\n", service.token);
    let path = format!("/v1/catalogs/{}/release-files/{digest}", service.catalog);
    service.management.ask("PUT", &path, &headers, bytes)
}

fn serving(published: &Published) -> Value {
    let mut body = published.metadata();
    body["serve"] = json!(true);
    body
}

pub(crate) fn trust(service: &Installation, repository: &str, published: &Published) {
    let root = json!({"root": published.text("1.root.json")});
    service.done("PUT", &format!("/repositories/{repository}/root"), &root);
}

/// Sends every file of a repository, and has it served.
pub(crate) fn serve(service: &Installation, repository: &str, published: &Published) -> Value {
    for (path, target) in published.repository.targets() {
        let place = published.directory.path().join(target.place(&path).unwrap());
        let sent = put_file(service, &target.hashes["sha256"], &std::fs::read(place).unwrap());
        assert_eq!(sent.status, 200, "{sent:?}");
    }
    service.done("POST", &format!("/repositories/{repository}/metadata"), &serving(published))
}

#[test]
fn devices_are_served_what_was_verified_and_nothing_before_all_of_it_is_there() {
    let service = Installation::new();
    let mut published = Published::new(1, service.now());
    published.publish(&[("os/pump-1.4.1.slot", release("1.4.1", 8, &OTHER_BOOT))], service.now());
    let early = service.ask("POST", "/repositories/os/metadata", &serving(&published));
    assert_eq!((early.status, early.problem().as_str()), (409, "conflict"), "no root is trusted");
    trust(&service, "os", &published);
    let mut device = Device::new(&service, "os", &published);
    assert_eq!(device.look().unwrap_err(), "timestamp.json is missing");
    // The metadata are good, and the file that they name was not sent.
    let missing = service.ask("POST", "/repositories/os/metadata", &serving(&published));
    assert_eq!((missing.status, missing.problem().as_str()), (409, "files-missing"));
    assert!(missing.json()["detail"].as_str().unwrap().contains("pump-1.4.1.slot"));
    assert_eq!(device.look().unwrap_err(), "timestamp.json is missing");
    let other = put_file(&service, &"0".repeat(64), b"another file");
    assert_eq!((other.status, other.problem().as_str()), (422, "file-refused"));
    assert_eq!(put_file(&service, "digest", b"x").status, 400);
    assert_eq!(serve(&service, "os", &published)["served"], json!(true));
    let targets = device.look().unwrap();
    assert_eq!(device.fetch(&targets, "os/pump-1.4.1.slot").unwrap().len(), CHUNK_BYTES * 2);
    // What changes is asked for each time, and what does not is kept by whoever stands between.
    let timestamp = device.get("metadata/timestamp.json", "");
    assert_eq!(timestamp.header("cache-control").as_deref(), Some("no-cache"));
    let root = device.get("metadata/1.root.json", "");
    assert!(root.header("cache-control").unwrap().contains("immutable"));
    // Nothing else is there: neither files by their content, nor other paths, nor another catalog.
    let digest = targets.targets["os/pump-1.4.1.slot"].hashes["sha256"].clone();
    for path in [digest.as_str(), "metadata", "metadata/9.root.json", "../os/metadata/1.root.json"]
    {
        assert_eq!(device.get(path, "").status, 404, "{path}");
    }
    let elsewhere = format!("/repositories/{}/os/metadata/timestamp.json", "0".repeat(8));
    assert_eq!(service.device.ask("GET", &elsewhere, "", b"").status, 404);
    let shown = service.done("GET", "/repositories/os", &Value::Null);
    assert_eq!(shown["served_at_path"], json!(format!("/repositories/{}/os", service.catalog)));
    assert!(shown["served_at"].is_u64());
}

#[test]
fn a_release_of_the_os_in_the_repository_of_apps_is_no_reference_value() {
    let service = Installation::new();
    let mut published = Published::new(2, service.now());
    let app = Release {
        subject: ReleaseSubject::App(ComponentId([7; 16])),
        board: String::new(),
        boot_bytes: 0,
        boot_chunks: String::new(),
        boot_digest: String::new(),
        feed: None,
        ..release("2.0.0", 1, &[0xaa; 32])
    };
    let offered = [("apps/a.package", app), ("os/x.slot", release("6.6.6", 66, &[0x66; 32]))];
    published.publish(&offered, service.now());
    trust(&service, "oem", &published);
    let taken = serve(&service, "oem", &published);
    assert_eq!((&taken["releases"], &taken["served"]), (&json!([]), &json!(true)));
    let known = service.done("GET", "/releases", &Value::Null);
    assert!(!known.to_string().contains(&"66".repeat(32)), "{known}");
    let mut device = Device::new(&service, "oem", &published);
    let targets = device.look().unwrap();
    device.fetch(&targets, "apps/a.package").unwrap();
    // Its root is not that of the OS: what it has signed is nothing there.
    assert_eq!(service.ask("GET", "/repositories/os", &Value::Null).status, 404);
}

/// Whoever has the service's disk: its database and its files.
struct Thief {
    runtime: tokio::runtime::Runtime,
    database: AnyConnection,
    files: PathBuf,
}

impl Thief {
    fn new(service: &Installation) -> Self {
        install_default_drivers();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("sqlite:{}", service.folder.join("service.db").display());
        let options = AnyConnectOptions::from_str(&url).unwrap();
        let database = runtime.block_on(options.connect()).unwrap();
        Self { runtime, database, files: service.folder.join("releases") }
    }

    /// Puts content at a path that devices are served.
    fn put(&mut self, path: &str, content: &[u8]) {
        let digest = sha256(content);
        std::fs::write(self.files.join(&digest), content).unwrap();
        let put = "INSERT INTO served_file (catalog, repository, path, sha256, bytes)
            SELECT catalog, repository, $1, $2, $3 FROM served_file WHERE repository = 'os' LIMIT 1
            ON CONFLICT (catalog, repository, path) DO UPDATE SET sha256 = $2, bytes = $3";
        let put = sqlx::query(put).bind(path.to_owned()).bind(digest);
        let put = put.bind(i64::try_from(content.len()).unwrap());
        self.runtime.block_on(self.database.execute(put)).unwrap();
    }
}

#[test]
fn whoever_owns_the_service_makes_no_device_run_anything() {
    let service = Installation::new();
    let now = service.now();
    let mut published = Published::new(1, now);
    published.publish(&[("os/a.slot", release("1.4.0", 7, &BOOT))], now);
    trust(&service, "os", &published);
    serve(&service, "os", &published);
    let old: Vec<(String, String)> = ["timestamp.json", "1.snapshot.json", "1.targets.json"]
        .map(|name| (format!("metadata/{name}"), published.text(name)))
        .into();
    published.publish(&[("os/b.slot", release("1.4.1", 8, &OTHER_BOOT))], now);
    serve(&service, "os", &published);
    let mut device = Device::new(&service, "os", &published);
    let good = device.look().unwrap();
    device.fetch(&good, "os/b.slot").unwrap();
    let served: Vec<String> =
        ["metadata/timestamp.json", "metadata/2.snapshot.json", "metadata/2.targets.json"]
            .map(str::to_owned)
            .into();
    let true_ones: Vec<(String, Vec<u8>)> =
        served.iter().map(|path| (path.clone(), device.get(path, "").body)).collect();
    let mut thief = Thief::new(&service);
    // A release of the thief's own, signed by keys of the thief's own, under the same names.
    let mut own = Published::new(3, now);
    own.publish(&[("os/x.slot", release("6.6.6", 66, &[0x66; 32]))], now);
    own.publish(&[("os/x.slot", release("6.6.7", 67, &[0x66; 32]))], now);
    for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        thief.put(&format!("metadata/{name}"), own.text(name).as_bytes());
    }
    device.look().unwrap_err();
    // And with a root that names those keys, as if the owner had rotated to it.
    let root = own.text("1.root.json").replace("\"version\":1", "\"version\":2");
    thief.put("metadata/2.root.json", root.as_bytes());
    device.look().unwrap_err();
    thief.put("metadata/2.root.json", published.text("1.root.json").as_bytes());
    device.look().unwrap_err();
    // What the owner has signed before, which this device has seen to be old.
    for (path, text) in &old {
        thief.put(path, text.as_bytes());
    }
    device.look().unwrap_err();
    // True metadata again, with other bytes in the place of the file that they name.
    let delete = "DELETE FROM served_file WHERE path = 'metadata/2.root.json'";
    thief.runtime.block_on(thief.database.execute(delete)).unwrap();
    for (path, content) in &true_ones {
        thief.put(path, content);
    }
    assert_eq!(device.look().unwrap(), good, "the control");
    let place = good.targets["os/b.slot"].place("os/b.slot").unwrap();
    let content = device.fetch(&good, "os/b.slot").unwrap();
    let mut changed = content.clone();
    changed[7] ^= 1;
    thief.put(&place, &changed);
    assert_eq!(device.fetch(&good, "os/b.slot").unwrap_err(), "is another file");
    thief.put(&place, &content);
    device.fetch(&good, "os/b.slot").unwrap();
}

/// Clears what the folder has of the bucket, so that it is asked.
fn forget_cached(service: &Installation) {
    for entry in std::fs::read_dir(service.folder.join("releases")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
}

#[test]
fn devices_are_served_from_a_bucket_and_nothing_that_its_owner_has_changed() {
    let (bucket, scratch) = (S3Server::start(), tempfile::tempdir().unwrap());
    let credentials = scratch.path().join("credentials");
    folder::write_secret(&credentials, format!("{ACCESS_KEY}\n{SECRET_KEY}\n")).unwrap();
    let service = Installation::with(|settings| {
        settings.object_store = Some(ObjectStoreSettings {
            bucket: BUCKET.to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(bucket.endpoint()),
            prefix: "pumps".to_owned(),
            credentials: Some(credentials),
            authorities: None,
            cache_mib: 64,
        });
    });
    let mut published = Published::new(1, service.now());
    published.publish(&[("os/pump-1.4.1.slot", release("1.4.1", 8, &OTHER_BOOT))], service.now());
    trust(&service, "os", &published);
    serve(&service, "os", &published);
    let objects = bucket.objects("pumps/releases");
    assert!(objects.len() >= 5, "the file and the metadata: {objects:?}");
    let mut device = Device::new(&service, "os", &published);
    for _ in 0..2 {
        let targets = device.look().unwrap();
        let path = "os/pump-1.4.1.slot";
        assert_eq!(device.fetch(&targets, path).unwrap().len(), CHUNK_BYTES * 2);
        forget_cached(&service);
    }
    // Whoever owns the bucket puts another file in the place of the release.
    let targets = device.look().unwrap();
    let target = &targets.targets["os/pump-1.4.1.slot"];
    let object = bucket.object("pumps/releases").join(&target.hashes["sha256"]);
    let good = std::fs::read(&object).unwrap();
    let mut bad = good.clone();
    bad[7] ^= 1;
    std::fs::write(&object, &bad).unwrap();
    let place = target.place("os/pump-1.4.1.slot").unwrap();
    let refused = device.get(&place, "");
    assert_eq!((refused.status, refused.problem().as_str()), (500, "internal"));
    std::fs::write(&object, &good).unwrap();
    assert_eq!(device.get(&place, "").body, good, "the control");
    // What an instance has left that ended between a file and its row goes after a day, and nothing that a row names.
    let orphan = "ab".repeat(32);
    std::fs::write(bucket.object("pumps/releases").join(&orphan), "x").unwrap();
    let replica = service.replica();
    let collect = |later_s: u64| {
        let now = SystemTime::now() + Duration::from_secs(later_s);
        service.block_on(upkeep::collect_orphans(&replica, now)).unwrap()
    };
    assert_eq!(collect(0), 0, "its row may still come");
    assert_eq!(collect(2 * 24 * 60 * 60), 1);
    assert_eq!(bucket.objects("pumps/releases"), objects);
    // Without the bucket, devices are told to come later.
    forget_cached(&service);
    drop(bucket);
    let away = device.get(&place, "");
    assert_eq!((away.status, away.problem().as_str()), (503, "busy"));
}
