//! The service as a process that stops where it is told to, on a folder of the test's own.

use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_service::init;
use holdfast_service::run::system_clock;
use holdfast_service::settings::Settings;
use holdfast_service_clients::Target;
use holdfast_service_store::moment::Moment;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Row};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longest wait for a line of the service.
const DEADLINE: Duration = Duration::from_secs(60);

struct Process {
    child: Child,
    lines: Receiver<String>,
}

/// The service.
pub(crate) struct Interrupted {
    folder: PathBuf,
    database: String,
    process: Option<Process>,
    pub(crate) device: Target,
    management: Target,
    pub(crate) catalog: CatalogId,
    token: String,
    runtime: Runtime,
    _directory: TempDir,
}

impl Interrupted {
    /// Makes an installation with a catalog that takes every grade, and starts it.
    pub(crate) fn new(database: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("service");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let names = vec!["service.example".to_owned()];
        let settings = Settings::new(any, any, names, database.to_owned());
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        let grades = "software,emulated,hardware,hardware-verified".parse().unwrap();
        let made = init::init(&folder, &settings, "pumps", grades, system_clock());
        let made = runtime.block_on(made).unwrap();
        let mut authorities = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(folder.join("authorities.pem")).unwrap();
        authorities.add(root).unwrap();
        let target = Target { address: any, authorities, before: Vec::new() };
        let mut this = Self {
            database: settings.database_url(&folder),
            folder,
            process: None,
            device: target.clone(),
            management: target,
            catalog: made.catalog,
            token: String::new(),
            runtime,
            _directory: directory,
        };
        this.start();
        let path = format!("/v1/first-owner/{}", made.ticket.text());
        let first = this.management.ask("POST", &path, "", b"").json();
        this.token = first["token"].as_str().unwrap().to_owned();
        let boot = "b0".repeat(32);
        this.ask("POST", "/releases", &json!({"boot": boot, "version": "1.4.0", "index": 7}));
        this
    }

    pub(crate) fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-interrupted-service"));
        command.arg(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|line| {
                let _ = sender.send(line);
            });
        });
        self.process = Some(Process { child, lines });
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        let ["listening", device, management] = words[..] else { panic!("{line}") };
        self.device.address = device.parse().unwrap();
        self.management.address = management.parse().unwrap();
    }

    fn line(&self) -> String {
        let process = self.process.as_ref().unwrap();
        process.lines.recv_timeout(DEADLINE).expect("a line of the service in time")
    }

    /// Has the service stop at a moment, the Nth time that it is reached.
    pub(crate) fn stop_at(&mut self, moment: Moment, times: u32) {
        let input = self.process.as_mut().unwrap().child.stdin.as_mut().unwrap();
        writeln!(input, "stop at {} {times}", moment.word()).unwrap();
        input.flush().unwrap();
        assert_eq!(self.line(), format!("armed {} {times}", moment.word()));
    }

    /// Waits until it has.
    pub(crate) fn has_stopped_at(&self, moment: Moment) {
        assert_eq!(self.line(), format!("stopped at {}", moment.word()));
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.child.kill().unwrap();
            process.child.wait().unwrap();
        }
    }

    /// Number of the newest receipt that the database knows of a device, whoever was told of it.
    pub(crate) fn newest_receipt(&self, device: &DeviceId) -> i64 {
        sqlx::any::install_default_drivers();
        self.runtime.block_on(async {
            let mut connection = AnyConnection::connect(&self.database).await.unwrap();
            let query = sqlx::query("SELECT receipt_newest FROM device WHERE id = $1");
            let row = query.bind(device.to_string()).fetch_one(&mut connection).await.unwrap();
            let newest = row.get(0);
            connection.close().await.unwrap();
            newest
        })
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let path = format!("/v1/catalogs/{}{path}", self.catalog);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.management.ask(method, &path, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub(crate) fn claim(&self, device: &str, grade: &str) {
        self.ask("POST", "/claims", &json!({"devices": [{"device": device, "grade": grade}]}));
    }
}

impl Drop for Interrupted {
    fn drop(&mut self) {
        self.kill();
    }
}
