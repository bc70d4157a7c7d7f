//! An installation of a test's own, with a catalog, an owner, and a clock that the test sets.

use holdfast_evidence::messages::CatalogId;
use holdfast_service::init;
use holdfast_service::run::{self, Running};
use holdfast_service::settings::Settings;
use holdfast_service_api::Service;
use holdfast_service_api::service::{Clock, Measure};
use holdfast_service_api::symbolizer::{Limits, Worker};
use holdfast_service_clients::{Answer, Target};
use holdfast_service_domain::disk::Space;
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_store::moment::Observer;
use holdfast_types::hex::hex;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The digest of the release that devices of the tests boot.
pub(crate) const BOOT: [u8; 32] = [0xb0; 32];
/// That of another release.
pub(crate) const OTHER_BOOT: [u8; 32] = [0xb1; 32];

/// A service that runs, with all that a test asks of it.
pub(crate) struct Installation {
    pub(crate) device: Target,
    pub(crate) management: Target,
    pub(crate) catalog: CatalogId,
    pub(crate) root: Vec<u8>,
    pub(crate) token: String,
    pub(crate) folder: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) metrics: Option<SocketAddr>,
    free_percent: Arc<AtomicU64>,
    now: Arc<AtomicU64>,
    running: Option<Running>,
    runtime: Runtime,
    _directory: TempDir,
}

impl Installation {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// Makes one whose settings a test has changed.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("service");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let names = vec!["service.example".to_owned()];
        let mut settings = Settings::new(any, any, names, "sqlite:service.db".to_owned());
        settings.device.most_per_address = 64;
        change(&mut settings);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = Arc::new(AtomicU64::new(since.as_secs()));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
        let grades = Grades::of(&Grade::ALL);
        let made = init::init(&folder, &settings, "pumps", grades, clock(&now));
        let made = runtime.block_on(made).unwrap();
        let free_percent = Arc::new(AtomicU64::new(50));
        let disk = measure(&free_percent);
        let observer = Observer::nobody();
        let start = run::start_on(&folder, &settings, clock(&now), observer, worker(), disk);
        let running = runtime.block_on(start).unwrap();
        let mut authorities = RootCertStore::empty();
        let service_root = CertificateDer::from_pem_file(folder.join("authorities.pem")).unwrap();
        authorities.add(service_root).unwrap();
        let root = folder.join(format!("catalog-{}.pem", made.catalog));
        let root = CertificateDer::from_pem_file(root).unwrap().to_vec();
        let target =
            |address| Target { address, authorities: authorities.clone(), before: Vec::new() };
        let (device, management) = (target(running.device), target(running.management));
        let path = format!("/v1/first-owner/{}", made.ticket.text());
        let first = management.ask("POST", &path, "", b"");
        assert_eq!(first.status, 200, "{first:?}");
        let token = first.json()["token"].as_str().unwrap().to_owned();
        assert_eq!(management.ask("POST", &path, "", b"").status, 404, "a ticket is good once");
        let installation = Self {
            device,
            management,
            catalog: made.catalog,
            root,
            token,
            folder,
            settings,
            metrics: running.metrics,
            free_percent,
            now,
            running: Some(running),
            runtime,
            _directory: directory,
        };
        installation.add_release(&BOOT, "1.4.0", 7);
        installation
    }

    /// Ends the service and starts it again on the same folder.
    pub(crate) fn restart(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.end());
        self.begin();
    }

    /// Ends the service.
    pub(crate) fn end(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.end());
    }

    /// Returns its clock.
    pub(crate) fn clock(&self) -> Clock {
        clock(&self.now)
    }

    /// Ends the service and removes its folder.
    pub(crate) fn destroy(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.end());
        std::fs::remove_dir_all(&self.folder).unwrap();
    }

    /// Starts the service of the folder, where none runs.
    pub(crate) fn begin(&mut self) {
        let clock = clock(&self.now);
        let observer = Observer::nobody();
        let disk = measure(&self.free_percent);
        let start = run::start_on(&self.folder, &self.settings, clock, observer, worker(), disk);
        let running = self.runtime.block_on(start).unwrap();
        (self.device.address, self.management.address) = (running.device, running.management);
        self.running = Some(running);
    }

    /// Ends the service, so that a test does itself what would be done behind it.
    pub(crate) fn stop(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.end());
    }

    /// Opens what the folder has, as another instance would.
    pub(crate) fn replica(&self) -> Arc<Service> {
        let (clock, observer) = (clock(&self.now), Observer::nobody());
        let disk = measure(&self.free_percent);
        let open = run::open_on(&self.folder, &self.settings, clock, observer, worker(), disk);
        self.runtime.block_on(open).unwrap()
    }

    /// Runs a future on the runtime of the service.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Has so much of the disk be free, in percent.
    pub(crate) fn set_free_percent(&self, percent: u64) {
        self.free_percent.store(percent, Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Asks management for something below the catalog.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask_as(&self.token, method, path, body)
    }

    pub(crate) fn ask_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let headers = format!("Authorization: Bearer {token}\r\n");
        let path = format!("/v1/catalogs/{}{path}", self.catalog);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.management.ask(method, &path, &headers, body.as_bytes())
    }

    /// Asks for something that must be done.
    pub(crate) fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        answer.json()
    }

    pub(crate) fn add_release(&self, boot: &[u8; 32], version: &str, index: u64) {
        let release = json!({"boot": hex(boot), "version": version, "index": index});
        self.done("POST", "/releases", &release);
    }

    pub(crate) fn claim(&self, device: &str, grade: Grade) {
        let claim = json!({"devices": [{"device": device, "grade": grade.word()}]});
        self.done("POST", "/claims", &claim);
    }

    pub(crate) fn device(&self, device: &str) -> Value {
        self.done("GET", &format!("/devices/{device}"), &Value::Null)
    }

    /// Kinds of open findings about a device.
    pub(crate) fn findings(&self, device: &str) -> Vec<String> {
        let list = self.done("GET", "/findings", &Value::Null);
        let of_device = list["items"].as_array().unwrap().iter();
        let of_device = of_device.filter(|row| row["device"] == device);
        of_device.map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.end());
        }
    }
}

/// The worker of the program that is tested: this test is another one.
fn worker() -> Worker {
    Worker::new(PathBuf::from(env!("CARGO_BIN_EXE_holdfast-service")), Limits::default())
}

/// A disk of which so many percent are free.
fn measure(free_percent: &Arc<AtomicU64>) -> Measure {
    let free_percent = free_percent.clone();
    Arc::new(move || {
        Some(Space { free_bytes: free_percent.load(Ordering::SeqCst), total_bytes: 100 })
    })
}

fn clock(now: &Arc<AtomicU64>) -> Clock {
    let now = now.clone();
    Arc::new(move || now.load(Ordering::SeqCst))
}
