//! Processes of the program on folders of their own, which have settings and keys in common, and nothing else.

use crate::receiver::Receiver;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use holdfast_service::folder;
use holdfast_service_clients::{Answer, Installed, ServiceProcess, Target};
use rustls::RootCertStore;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Row};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// All of them.
pub(crate) struct Replicas {
    pub(crate) catalog: CatalogId,
    token: String,
    folders: Vec<PathBuf>,
    processes: Vec<Mutex<ServiceProcess>>,
    authorities: RootCertStore,
    log: Arc<Mutex<String>>,
    _directory: TempDir,
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-service"));
    command.arg("--folder").arg(folder).stdin(Stdio::null());
    command
}

impl Replicas {
    /// Makes an installation, gives each instance a copy of its folder, and starts them at once.
    pub(crate) fn start(count: usize, url: &str, bucket: &S3Server, hook: &Receiver) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let first = directory.path().join("0");
        let made = command(&first)
            .args(["init", "--catalog", "pumps", "--name", "service.example"])
            .args(["--device", "127.0.0.1:0", "--management", "127.0.0.1:0"])
            .args(["--database", url, "--grades", "software"])
            .output()
            .unwrap();
        let installed = Installed::of(made, &first);
        let credentials = first.join("object-store-credentials");
        folder::write_secret(&credentials, format!("{ACCESS_KEY}\n{SECRET_KEY}\n")).unwrap();
        Receiver::vouch_for(&[hook], &first.join("receivers.pem"));
        let settings = first.join("settings.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        let text = text.replace("most_per_address = 8", "most_per_address = 256");
        let more = format!(
            "\n[alerts]\nauthorities = \"receivers.pem\"\nprivate_receivers = [\"127.0.0.1\"]\n\n\
             [object_store]\nbucket = \"{BUCKET}\"\nendpoint = \"{}\"\n\
             credentials = \"object-store-credentials\"\n",
            bucket.endpoint()
        );
        std::fs::write(&settings, text + &more).unwrap();
        let folders: Vec<_> =
            (0..count).map(|number| directory.path().join(number.to_string())).collect();
        for other in &folders[1..] {
            let copied = Command::new("cp").arg("-a").arg(&first).arg(other).status().unwrap();
            assert!(copied.success());
        }
        let log = Arc::default();
        let processes: Vec<_> = folders
            .iter()
            .map(|folder| Mutex::new(run(folder, &installed.authorities, &log)))
            .collect();
        let token = installed.first_owner(&processes[0].lock().unwrap().management);
        let Installed { catalog, authorities, .. } = installed;
        let this =
            Self { catalog, token, folders, processes, authorities, log, _directory: directory };
        let boot = "b0".repeat(32);
        this.done(0, "POST", "/releases", &json!({"boot": boot, "version": "1.4.0", "index": 7}));
        this
    }

    /// Kills an instance, and starts another on its folder.
    pub(crate) fn kill(&self, number: usize) {
        let mut process = self.processes[number].lock().unwrap();
        process.kill();
        *process = run(&self.folders[number], &self.authorities, &self.log);
    }

    pub(crate) fn device(&self, number: usize) -> Target {
        self.processes[number].lock().unwrap().device.clone()
    }

    fn management(&self, number: usize) -> Target {
        self.processes[number].lock().unwrap().management.clone()
    }

    /// Asks an instance for something that must be done.
    pub(crate) fn done(&self, number: usize, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.ask(number, method, path, body.as_bytes());
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn put(&self, number: usize, path: &str, body: &[u8]) -> Answer {
        self.ask(number, "PUT", path, body)
    }

    fn ask(&self, number: usize, method: &str, path: &str, body: &[u8]) -> Answer {
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let path = format!("/v1/catalogs/{}{path}", self.catalog);
        self.management(number).ask(method, &path, &headers, body)
    }

    /// Demands that a secret is in no log of any process.
    pub(crate) fn demand_unlogged(&self, secret: &str) {
        let log = self.log.lock().unwrap();
        assert!(log.contains("event=service_listening"), "the control");
        assert!(!log.contains(secret) && !log.contains(&self.token), "a secret was logged");
    }
}

fn run(folder: &Path, authorities: &RootCertStore, log: &Arc<Mutex<String>>) -> ServiceProcess {
    let log = log.clone();
    ServiceProcess::start(command(folder), authorities, move |line| {
        log.lock().unwrap().push_str(&format!("{line}\n"));
    })
}

/// The database, as somebody sees it who is none of the instances.
pub(crate) struct Database {
    runtime: Runtime,
    connection: Mutex<AnyConnection>,
}

impl Database {
    pub(crate) fn new(url: &str) -> Self {
        sqlx::any::install_default_drivers();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(AnyConnection::connect(url)).unwrap();
        Self { runtime, connection: Mutex::new(connection) }
    }

    /// Number of the newest receipt that is stored of a device.
    pub(crate) fn newest_receipt(&self, device: &DeviceId) -> i64 {
        let mut connection = self.connection.lock().unwrap();
        let query = sqlx::query("SELECT receipt_newest FROM device WHERE id = $1");
        let row = query.bind(device.to_string()).fetch_one(&mut *connection);
        self.runtime.block_on(row).unwrap().get(0)
    }

    /// How many instances hold the lease of evaluation.
    pub(crate) fn evaluators(&self) -> i64 {
        let mut connection = self.connection.lock().unwrap();
        let query = sqlx::query("SELECT count(*) FROM detection_lease");
        self.runtime.block_on(query.fetch_one(&mut *connection)).unwrap().get(0)
    }

    /// Puts an alert into the outbox, as the evaluation of rules does.
    pub(crate) fn put_alert(&self, catalog: &CatalogId, number: u64) {
        let at = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let body = json!({
            "catalog": catalog.to_string(), "product": "pump", "group": "eval", "at": at,
            "kind": "finding",
            "findings": [{
                "number": number, "rule": "outbreak", "severity": 1, "about": "camera 2.1.0",
                "devices": 9, "first": at, "last": at, "sees": "It.", "remedy": "Contain.",
            }],
        });
        let insert = "INSERT INTO alert (catalog, number, product, grp, at, severity, kind, body)
            VALUES ($1, $2, 'pump', 'eval', $3, 1, 'finding', $4)";
        let insert =
            sqlx::query(insert).bind(catalog.to_string()).bind(i64::try_from(number).unwrap());
        let insert = insert.bind(i64::try_from(at).unwrap()).bind(body.to_string());
        let mut connection = self.connection.lock().unwrap();
        self.runtime.block_on(insert.execute(&mut *connection)).unwrap();
    }
}
