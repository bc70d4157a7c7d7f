//! The drill: a service is backed up while devices check in, destroyed, and made anew from the backup; its devices go on.

use crate::device::{checked_in, software_device, tpm_device};
use crate::installation::{Installation, OTHER_BOOT};
use crate::symbols::program;
use holdfast_evidence::messages::Profile;
use holdfast_service::{ServerError, backup, folder, settings};
use holdfast_service_api::service::Clock;
use holdfast_service_domain::grade::Grade;
use holdfast_service_issuing::wrapping::KeyEncryptionKey;
use holdfast_service_store::postgres_harness::Postgres;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn run<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn clock(service: &Installation) -> Clock {
    let now = service.now();
    Arc::new(move || now)
}

fn key(service: &Installation) -> KeyEncryptionKey {
    folder::key_encryption_key(&service.folder.join("key-encryption-key")).unwrap()
}

#[test]
fn a_service_that_was_destroyed_is_restored_and_its_devices_go_on() {
    drill(Installation::new(), None);
}

#[test]
fn a_service_on_postgresql_that_was_destroyed_is_restored_and_its_devices_go_on() {
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    let service = Installation::with(|settings| settings.database.url = url);
    drill(service, Some(&postgres.database("restored").unwrap()));
}

/// Destroys a service and restores it, on PostgreSQL into another database.
fn drill(mut service: Installation, database: Option<&str>) {
    let (mut with_tpm, mut busy) = (tpm_device(&service), software_device(&service));
    let mut idle = software_device(&service);
    checked_in(&idle.check_in(&service.device));
    checked_in(&with_tpm.check_in(&service.device));
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("backup");
    // One device checks in all the while: the backup is of one moment, and holds nobody up.
    let ends = Arc::new(AtomicBool::new(false));
    let (target, until) = (service.device.clone(), ends.clone());
    let checking_in = std::thread::spawn(move || {
        let mut times = 0;
        while !until.load(Ordering::SeqCst) || times < 3 {
            assert_eq!(checked_in(&busy.check_in(&target)).profile, Profile::Full);
            times += 1;
        }
        busy
    });
    let made = run(backup::back_up(&service.folder, &file, clock(&service))).unwrap();
    ends.store(true, Ordering::SeqCst);
    let mut busy = checking_in.join().unwrap();
    assert_eq!(made.catalogs.len(), 1);
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "nobody else reads it");
    let again = run(backup::back_up(&service.folder, &file, clock(&service)));
    assert!(matches!(again, Err(ServerError::FileThere(_))), "no backup is overwritten");
    // What came behind the backup is lost with the service: a device that was claimed, and a release.
    let lost = software_device(&service);
    service.add_release(&OTHER_BOOT, "1.4.1", 8);
    checked_in(&with_tpm.check_in(&service.device));
    let key = key(&service);
    service.destroy();
    assert!(!service.folder.exists());
    // A backup is restored into a database of its kind, and not over another's tables.
    let other = elsewhere.path().join("other");
    let other_kind = database.map_or("postgres://nobody@localhost/none", |_| "sqlite:service.db");
    let refused = run(backup::restore(&file, &other, &key, Some(other_kind), clock(&service)));
    assert!(matches!(refused, Err(ServerError::OtherDatabase(_))), "{refused:?}");
    if database.is_some() {
        let refused = run(backup::restore(&file, &other, &key, None, clock(&service)));
        assert!(matches!(refused, Err(ServerError::DatabaseThere)), "{refused:?}");
    }
    assert!(!other.exists(), "nothing was made");
    run(backup::restore(&file, &service.folder, &key, database, clock(&service))).unwrap();
    service.settings = settings::load(&service.folder).unwrap();
    assert!(database.is_none_or(|url| service.settings.database.url == url));
    service.begin();
    // Receipts that are newer than the backup are the service's own, by their HMAC.
    for (name, answer) in [
        ("newer", busy.check_in(&service.device)),
        ("as in the backup", idle.check_in(&service.device)),
        ("with a TPM, newer", with_tpm.check_in(&service.device)),
    ] {
        let answer = checked_in(&answer);
        assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0), "{name}");
    }
    assert_eq!(service.ask("GET", &format!("/devices/{}", lost.id), &Value::Null).status, 404);
    service.claim(&lost.id.to_string(), Grade::Software);
    assert_eq!(lost.enrol(&service.device).status, 200, "who was lost is claimed again");
    assert_eq!(service.done("GET", "/findings", &Value::Null)["items"], json!([]));
    assert_eq!(service.done("POST", "/audit/verify", &Value::Null)["broken"], Value::Null);
    // The restored service is whole: it backs itself up.
    let second = elsewhere.path().join("second");
    run(backup::back_up(&service.folder, &second, clock(&service))).unwrap();
}

/// Symbols are in a backup, however large and however many parts they have, and a damaged one is not brought back.
#[test]
fn symbols_are_backed_up_and_restored() {
    let mut service = Installation::new();
    let scratch = tempfile::tempdir().unwrap();
    // More than one part, and one that another catalog could have as well.
    let large = "int main(void) { return 0; } const char large[3 << 20] = {1};";
    let (file, id) = program(scratch.path(), large, &[]);
    let (other, other_id) = program(scratch.path(), "int main(void) { return 1; }", &[]);
    assert!(file.len() > 2 << 20, "{}", file.len());
    let put = |service: &Installation, id: &str, body: &[u8]| {
        let headers = format!("Authorization: Bearer {}\r\n", service.token);
        let path = format!("/v1/catalogs/{}/symbols/{id}", service.catalog);
        service.management.ask("PUT", &path, &headers, body)
    };
    for (id, file) in [(&id, &file), (&other_id, &other)] {
        let answer = put(&service, id, file);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    // The file of one of them is lost: it is not in the backup, and the service does not claim to have it then.
    let digest = holdfast_types::hex::sha256(&other);
    std::fs::remove_file(service.folder.join("symbols").join(digest)).unwrap();
    let backup_file = scratch.path().join("backup");
    run(backup::back_up(&service.folder, &backup_file, clock(&service))).unwrap();
    // A backup in which a byte of the file is another.
    let damaged = scratch.path().join("damaged");
    std::fs::copy(&backup_file, &damaged).unwrap();
    run(async {
        sqlx::any::install_default_drivers();
        let url = format!("sqlite:{}", damaged.display());
        let mut connection =
            <sqlx::AnyConnection as sqlx::Connection>::connect(&url).await.unwrap();
        let change = "UPDATE backup_blob SET content = x'00' WHERE part = 1";
        sqlx::query(change).execute(&mut connection).await.unwrap();
    });
    let key = key(&service);
    let elsewhere = scratch.path().join("elsewhere");
    let refused = run(backup::restore(&damaged, &elsewhere, &key, None, clock(&service)));
    assert!(matches!(refused, Err(ServerError::Store(_))), "{refused:?}");
    service.destroy();
    run(backup::restore(&backup_file, &service.folder, &key, None, clock(&service))).unwrap();
    service.begin();
    let list = service.done("GET", "/symbols", &Value::Null);
    let ids: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["build_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [id.as_str()]);
    let restored = service.folder.join("symbols").join(holdfast_types::hex::sha256(&file));
    assert_eq!(std::fs::read(&restored).unwrap(), file);
    assert_eq!(restored.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(put(&service, &id, &file).json()["new"], Value::Bool(false));
    assert_eq!(put(&service, &other_id, &other).json()["new"], Value::Bool(true));
}

#[test]
fn a_backup_opens_by_its_key_alone_and_a_damaged_one_is_refused() {
    let service = Installation::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("backup");
    run(backup::back_up(&service.folder, &file, clock(&service))).unwrap();
    let restore = |file: &Path, folder: &str, key: &KeyEncryptionKey| {
        let folder = elsewhere.path().join(folder);
        run(backup::restore(file, &folder, key, None, clock(&service)))
    };
    restore(&file, "good", &key(&service)).unwrap();
    let there = restore(&file, "good", &key(&service));
    assert!(matches!(there, Err(ServerError::There(_))), "no folder is overwritten: {there:?}");
    let other = KeyEncryptionKey::make().unwrap();
    let refused = restore(&file, "other-key", &other);
    assert!(matches!(refused, Err(ServerError::Issuing(_))), "{refused:?}");
    assert!(!elsewhere.path().join("other-key").exists(), "nothing was made");
    // No secret of the folder can be read in it.
    let bytes = std::fs::read(&file).unwrap();
    for secret in ["service-root.key", "key-encryption-key"] {
        let text = folder::read_secret(&service.folder.join(secret)).unwrap();
        let line = text.lines().find(|line| !line.starts_with("---")).unwrap();
        assert!(line.len() >= 64 && !holds(&bytes, line.as_bytes()), "{secret} is in the backup");
    }
    assert!(holds(&bytes, b"CREATE TABLE backup"), "the control: it is searched as it lies there");
    // A half of it, another's file, and one that is not there.
    let half = elsewhere.path().join("half");
    std::fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let text = elsewhere.path().join("text");
    std::fs::write(&text, "no database").unwrap();
    for (name, path) in
        [("half", &half), ("text", &text), ("database", &service.folder.join("service.db"))]
    {
        let refused = restore(path, &format!("from-{name}"), &key(&service));
        assert!(matches!(refused, Err(ServerError::Store(_))), "{name}: {refused:?}");
    }
    let missing = restore(&elsewhere.path().join("missing"), "from-nothing", &key(&service));
    assert!(matches!(missing, Err(ServerError::File { .. })), "{missing:?}");
}

/// Adds to the settings of a service's folder.
fn add_settings(service: &Installation, more: &str) {
    let path = service.folder.join("settings.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\n{more}")).unwrap();
}

#[test]
fn a_file_that_settings_name_and_that_is_missing_is_said_before_anything_is_made() {
    let service = Installation::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let authorities = elsewhere.path().join("authorities.pem");
    std::fs::copy(service.folder.join("authorities.pem"), &authorities).unwrap();
    add_settings(&service, &format!("[alerts]\nauthorities = {authorities:?}\n"));
    let file = elsewhere.path().join("backup");
    run(backup::back_up(&service.folder, &file, clock(&service))).unwrap();
    let folder = elsewhere.path().join("restored");
    let restore = || run(backup::restore(&file, &folder, &key(&service), None, clock(&service)));
    // On another host, the file is not there.
    let away = elsewhere.path().join("away.pem");
    std::fs::rename(&authorities, &away).unwrap();
    let refused = restore().unwrap_err();
    let expected = format!(
        "alerts.authorities names {}, which is not on this host: put it there, and restore again",
        authorities.display()
    );
    assert_eq!(refused.to_string(), expected);
    assert!(!folder.exists(), "nothing was made");
    std::fs::rename(&away, &authorities).unwrap();
    restore().unwrap();
}

#[test]
fn a_file_that_no_backup_can_have_is_said_when_it_is_made() {
    let service = Installation::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let directory = service.folder.join("trust");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(service.folder.join("authorities.pem"), directory.join("ca.pem")).unwrap();
    let back_up =
        |name| run(backup::back_up(&service.folder, &elsewhere.path().join(name), clock(&service)));
    back_up("control").unwrap();
    add_settings(&service, "[alerts]\nauthorities = \"trust/ca.pem\"\n");
    let refused = back_up("refused").unwrap_err().to_string();
    assert!(refused.starts_with("alerts.authorities names ") && refused.contains("trust/ca.pem"));
    assert!(refused.contains("move it into the folder itself"), "{refused}");
    assert!(!elsewhere.path().join("refused").exists());
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
