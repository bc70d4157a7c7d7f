//! What was answered is stored, wherever the service is killed, on both databases.

use crate::device::{SoftwareDevice, checked_in, post, software_device};
use crate::installation::{BOOT, Installation};
use holdfast_evidence::messages::{Bytes, CHECK_IN_PATH, CatalogId, CheckInAnswer, Profile};
use holdfast_service_clients::{Client, Installed, ServiceProcess};
use holdfast_service_store::postgres_harness::Postgres;
use holdfast_types::hex::hex;
use rustls::RootCertStore;
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Executor};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Kills of each kind on each database.
const KILLS: u32 = 24;

/// Holds what a check-in writes, and nothing that it reads.
async fn hold(url: &str, is_sqlite: bool) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await.unwrap();
    let hold =
        if is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN; SELECT id FROM device FOR UPDATE" };
    connection.execute(sqlx::raw_sql(hold)).await.unwrap();
    connection
}

fn is_held_back(service: &Installation, is_sqlite: bool) {
    let mut device = software_device(service);
    checked_in(&device.check_in(&service.device));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let url = service.settings.database_url(&service.folder);
    let mut held = runtime.block_on(hold(&url, is_sqlite));
    let (sender, answers) = channel();
    let target = service.device.clone();
    let asking = std::thread::spawn(move || {
        sender.send(device.check_in(&target)).unwrap();
        device
    });
    let early = answers.recv_timeout(Duration::from_secs(2));
    assert!(matches!(early, Err(RecvTimeoutError::Timeout)), "{early:?}");
    runtime.block_on(held.execute(sqlx::raw_sql("ROLLBACK"))).unwrap();
    checked_in(&answers.recv_timeout(Duration::from_secs(30)).unwrap());
    checked_in(&asking.join().unwrap().check_in(&service.device));
}

#[test]
fn no_answer_is_given_before_it_is_stored() {
    is_held_back(&Installation::new(), true);
    let postgres = Postgres::start().unwrap();
    let url = postgres.url();
    is_held_back(&Installation::with(|settings| settings.database.url = url), false);
}

/// The program as a process, which is killed and started again on its folder.
struct Program {
    folder: PathBuf,
    process: ServiceProcess,
    authorities: RootCertStore,
    token: String,
    catalog: CatalogId,
    _directory: TempDir,
}

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-service"));
    command.arg("--folder").arg(folder).stdin(Stdio::null());
    command
}

impl Program {
    fn new(database: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("service");
        let mut init = program(&folder);
        init.args(["init", "--catalog", "pumps", "--name", "service.example"]);
        init.args([
            "--device",
            "127.0.0.1:0",
            "--management",
            "127.0.0.1:0",
            "--database",
            database,
        ]);
        let installed = Installed::of(init.output().unwrap(), &folder);
        let process = ServiceProcess::start(program(&folder), &installed.authorities, |_| {});
        let token = installed.first_owner(&process.management);
        let Installed { catalog, authorities, .. } = installed;
        let this = Self { folder, process, authorities, token, catalog, _directory: directory };
        let release = json!({"boot": hex(&BOOT), "version": "1.4.0", "index": 7});
        this.ask("POST", "/releases", &release);
        this
    }

    /// SIGKILL, and another start.
    fn kill_and_start(&mut self) {
        self.process.kill();
        self.process = ServiceProcess::start(program(&self.folder), &self.authorities, |_| {});
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = format!("Authorization: Bearer {}\r\n", self.token);
        let path = format!("/v1/catalogs/{}{path}", self.catalog);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.process.management.ask(method, &path, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

/// Sends a check-in as far as `part` of it goes, and returns the answer if it came within the pause before the kill.
fn send(client: &mut Client, device: &SoftwareDevice, part: f64) {
    let request = device.request(&client.exporter(&device.id.0));
    let body = serde_json::to_vec(&request).unwrap();
    let head = format!(
        "POST {CHECK_IN_PATH} HTTP/1.1\r\nHost: s\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), &body].concat();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a part of some thousand bytes"
    )]
    let length = (bytes.len() as f64 * part) as usize;
    client.stream.write_all(&bytes[..length]).unwrap();
    client.stream.flush().unwrap();
}

/// What came of an answer before the connection broke.
fn received(client: &mut Client) -> Option<CheckInAnswer> {
    let mut bytes = Vec::new();
    let _ = client.stream.read_to_end(&mut bytes);
    let head = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
    serde_json::from_slice(&bytes[head + 4..]).ok()
}

fn survives_kills(database: &str) {
    let mut service = Program::new(database);
    let mut device = SoftwareDevice::new(service.catalog);
    let claim = json!({"devices": [{"device": device.id.to_string(), "grade": "software"}]});
    service.ask("POST", "/claims", &claim);
    assert_eq!(device.enrol(&service.process.device).status, 200);
    assert_eq!(checked_in(&device.check_in(&service.process.device)).profile, Profile::Full);
    // The first check-in after a start opens the issuing key, as those below do.
    service.kill_and_start();
    let mut client = service.process.device.connect();
    let began = Instant::now();
    send(&mut client, &device, 1.0);
    device.receipt = Some(received(&mut client).unwrap().receipt);
    let usual = began.elapsed();
    let (mut answered, mut lost) = (0, 0);
    for kill in 0..KILLS * 2 {
        let mut client = service.process.device.connect();
        // Half of the kills fall while the request is on its way, and half while it is decided on, written and answered.
        let is_whole = kill % 2 == 1;
        let part = if is_whole { 1.0 } else { f64::from(kill % KILLS) / f64::from(KILLS) };
        send(&mut client, &device, part);
        if is_whole {
            std::thread::sleep(usual * 2 * kill / (KILLS * 2));
        }
        service.kill_and_start();
        match received(&mut client) {
            Some(answer) => {
                answered += 1;
                device.receipt = Some(answer.receipt);
            }
            None => lost += 1,
        }
        // Whatever became of it, the device goes on: what it was told is known, and what it was not told costs nothing.
        let next = checked_in(&device.check_in(&service.process.device));
        assert_eq!((next.profile, next.reasons.len()), (Profile::Full, 0), "after kill {kill}");
    }
    assert!(answered > 0 && lost > 0, "{answered} answered, {lost} lost");
    let shown = service.ask("POST", "/audit/verify", &Value::Null);
    assert_eq!(shown["broken"], Value::Null);
    let findings = service.ask("GET", "/findings", &Value::Null);
    assert_eq!(findings["items"], json!([]));
    // The control: a receipt that was put back is found after all these starts.
    let old = device.receipt.clone();
    checked_in(&device.check_in(&service.process.device));
    checked_in(&device.check_in(&service.process.device));
    device.receipt = old;
    assert_eq!(checked_in(&device.check_in(&service.process.device)).profile, Profile::UpdateOnly);
}

#[test]
fn a_kill_at_any_time_costs_no_device_on_sqlite() {
    survives_kills("sqlite:service.db");
}

#[test]
fn a_kill_at_any_time_costs_no_device_on_postgresql() {
    let postgres = Postgres::start().unwrap();
    survives_kills(&postgres.url());
}

/// The device's enrolment is cut in two: its first half is forgotten with the process or not, and the device begins anew.
#[test]
fn an_enrolment_that_a_kill_cuts_is_begun_anew() {
    let mut service = Program::new("sqlite:service.db");
    let device = SoftwareDevice::new(service.catalog);
    let claim = json!({"devices": [{"device": device.id.to_string(), "grade": "software"}]});
    service.ask("POST", "/claims", &claim);
    service.kill_and_start();
    assert_eq!(device.enrol(&service.process.device).status, 200);
    service.kill_and_start();
    assert_eq!(device.enrol(&service.process.device).status, 200, "again, with the same key");
    let mut client = service.process.device.connect();
    let mut request = device.request(&client.exporter(&device.id.0));
    request.receipt = Some(Bytes(vec![0; 40]));
    let answer = checked_in(&post(&mut client, CHECK_IN_PATH, &request));
    assert_eq!(
        answer.profile,
        Profile::Full,
        "a receipt of nobody's is as good as none, before the first"
    );
}
