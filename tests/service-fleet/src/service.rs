//! The service in this process: a folder of its own, its handlers, and a clock that the fleet sets.

use crate::costs::OfDevices;
use crate::database::Database;
use crate::device::Device;
use axum::Router;
use axum::body::Body;
use holdfast_evidence::messages::{CHECK_IN_PATH, CatalogId, CheckInAnswer, Profile};
use holdfast_evidence::policy::BootDigest;
use holdfast_evidence::qualifying::Exporter;
use holdfast_evidence::schedule::Outcome;
use holdfast_failure_reports::batch;
use holdfast_failure_reports::record::{
    Body as RecordBody, CheckIn, CheckInOutcome, Clock, Record,
};
use holdfast_service::settings::Settings;
use holdfast_service::{init, run};
use holdfast_service_api::peer::Peer;
use holdfast_service_api::service::Clock as ServiceClock;
use holdfast_service_api::symbolizer::Worker;
use holdfast_service_api::{Service, device_port, management};
use holdfast_service_clients::batch as batch_of;
use holdfast_service_domain::schedule::CERTIFICATE_S;
use holdfast_service_store::moment::Observer;
use holdfast_service_store::postgres_harness::Postgres;
use holdfast_types::ClockSource;
use holdfast_types::hex::hex;
use http_body_util::BodyExt;
use hyper::service::Service as _;
use hyper::{Method, Request, StatusCode};
use hyper_util::service::TowerToHyperService;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection, Executor};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The measurement that devices of the tests claim.
const BOOT: BootDigest = holdfast_swtpm::BOOT;
/// Rows of devices in one statement.
const ROWS: usize = 250;
/// Seconds in which a certificate's end is still the one that was just issued.
const SAME_S: u64 = 60;

/// The service.
pub(crate) struct Fleet {
    pub(crate) catalog: CatalogId,
    pub(crate) of_devices: OfDevices,
    service: Arc<Service>,
    devices: TowerToHyperService<Router>,
    people: TowerToHyperService<Router>,
    token: String,
    now: Arc<AtomicU64>,
    database: PathBuf,
    url: String,
    bytes: AtomicU64,
    _postgres: Option<Postgres>,
    _directory: TempDir,
}

/// What has become of a check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// It was answered with certificates.
    Full {
        /// How long the answer took.
        took: Duration,
    },
    /// The service was busy.
    Busy,
}

impl Fleet {
    /// Makes an installation whose clock begins at `now`.
    pub(crate) async fn new(database: Database, now: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("service");
        let postgres = (database == Database::Postgresql).then(|| Postgres::start().unwrap());
        let url = postgres.as_ref().map_or("sqlite:service.db".to_owned(), Postgres::url);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = Settings::new(any, any, vec!["service.example".to_owned()], url);
        let now = Arc::new(AtomicU64::new(now));
        let clock: ServiceClock = {
            let now = now.clone();
            Arc::new(move || now.load(Ordering::SeqCst))
        };
        let grades = "software".parse().unwrap();
        let made = init::init(&folder, &settings, "fleet", grades, clock.clone()).await.unwrap();
        let worker = Worker::of_this_program();
        let observer = Observer::nobody();
        let service = run::open_with(&folder, &settings, clock, observer, worker).await.unwrap();
        let mut this = Self {
            catalog: made.catalog,
            of_devices: OfDevices::default(),
            devices: TowerToHyperService::new(device_port::router(service.clone())),
            people: TowerToHyperService::new(management::router(service.clone())),
            service,
            token: String::new(),
            now,
            database: folder.join("service.db"),
            url: settings.database_url(&folder),
            bytes: AtomicU64::new(0),
            _postgres: postgres,
            _directory: directory,
        };
        let path = format!("/v1/first-owner/{}", made.ticket.text());
        let first = this.manage(Method::POST, &path, &Value::Null).await;
        this.token = first["token"].as_str().unwrap().to_owned();
        let release = json!({"boot": hex(&BOOT.0), "version": "1.4.0", "index": 7});
        this.ask(Method::POST, "/releases", &release).await;
        this
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    pub(crate) fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::SeqCst);
    }

    /// Bytes of requests and answers, without those of TLS and HTTP.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of SQLite's files; none of PostgreSQL's are counted.
    pub(crate) fn stored(&self) -> u64 {
        let size = |ending: &str| {
            let mut name = self.database.clone().into_os_string();
            name.push(ending);
            std::fs::metadata(name).map_or(0, |found| found.len())
        };
        size("") + size("-wal")
    }

    /// Puts rows of devices that were claimed and enrolled before, in a group of one product.
    pub(crate) async fn put(&self, devices: &[Device]) {
        for (path, body) in [
            ("/products/pump", json!({})),
            ("/products/pump/groups/field", json!({"least_index": 0})),
        ] {
            self.ask(Method::PUT, path, &body).await;
        }
        let mut connection = AnyConnection::connect(&self.url).await.unwrap();
        let quote = if self.url.starts_with("sqlite:") { ("x'", "'") } else { ("'\\x", "'") };
        for some in devices.chunks(ROWS) {
            let rows: Vec<String> = some
                .iter()
                .map(|device| {
                    let key = format!("{}{}{}", quote.0, hex(&device.point), quote.1);
                    format!(
                        "('{}', '{}', 'software', 'enrolled', 'pump', 'field', 'software', \
                         'software', {key}, 0, 0, 0, {}, 0)",
                        self.catalog,
                        device.id,
                        self.now()
                    )
                })
                .collect();
            let insert = format!(
                "INSERT INTO device (catalog, id, kind, state, product, grp, claimed_grade, grade, \
                 evidence_key, quarantined, receipt_newest, receipt_returned, created_at, revision) \
                 VALUES {}",
                rows.join(", ")
            );
            // Made of what was just made here.
            connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(insert))).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    /// Asks management for something of the catalog, which must be done.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        self.manage(method, &format!("/v1/catalogs/{}{path}", self.catalog), body).await
    }

    async fn manage(&self, method: Method, path: &str, body: &Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder().method(method).uri(path);
        let request = request.header("Authorization", format!("Bearer {}", self.token));
        let mut request = request.body(Body::from(text)).unwrap();
        request.extensions_mut().insert(peer([0; 32], Vec::new()));
        let (status, answer) = send(&self.people, request).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap()
    }

    /// Has a device check in, and report where it is to.
    pub(crate) async fn check_in(&self, device: &mut Device, random: u64, reports: bool) -> Came {
        let mut exporter = [0; 32];
        SystemRandom::new().fill(&mut exporter).unwrap();
        let body = self.of_devices.count(|| {
            let request = device.request(self.catalog, &Exporter(exporter));
            serde_json::to_vec(&request).unwrap()
        });
        let sent = body.len();
        let mut request = Request::post(CHECK_IN_PATH).body(Body::from(body)).unwrap();
        request.extensions_mut().insert(peer(exporter, Vec::new()));
        let began = Instant::now();
        let (status, answer) = send(&self.devices, request).await;
        let took = began.elapsed();
        let now = self.now();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let failed = Outcome::Failed { retry_after_s: None, is_unknown: false };
            device.schedule.ended(failed, now * 1000, random);
            return Came::Busy;
        }
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
        self.bytes.fetch_add((sent + answer.len()) as u64, Ordering::Relaxed);
        let answer: CheckInAnswer =
            self.of_devices.count(|| serde_json::from_slice(&answer).unwrap());
        assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0), "{answer:?}");
        let next = Outcome::CheckedIn { next_s: answer.next_s, is_on_trial: false };
        device.schedule.ended(next, now * 1000, random);
        let chain = answer.certificates[0].chain.iter().map(|bytes| bytes.0.clone());
        let chain: Vec<Vec<u8>> = chain.collect();
        device.keep(answer.receipt, now + CERTIFICATE_S);
        if reports {
            self.report(chain, now).await;
        }
        Came::Full { took }
    }

    /// Sends the batch of a day on which nothing has failed.
    async fn report(&self, chain: Vec<Vec<u8>>, now: u64) {
        let body = self.of_devices.count(|| {
            let certified = CheckIn { outcome: CheckInOutcome::Certified, count: 1 };
            let source = ClockSource::Network;
            let clock = Clock { source, step_s: 1, is_refused: false };
            let bodies = [RecordBody::CheckIn(certified), RecordBody::Clock(clock)];
            let record = |(sequence, body): (u64, RecordBody)| Record {
                sequence: now + sequence,
                at: Some(now),
                uptime_s: 3600,
                body,
            };
            let records: Vec<Record> = (1..).zip(bodies).map(record).collect();
            batch_of(1, &records)
        });
        self.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        let request = Request::post(batch::PATH).header("Content-Type", batch::MEDIA_TYPE);
        let mut request = request.body(Body::from(body)).unwrap();
        request.extensions_mut().insert(peer([0; 32], chain));
        let (status, answer) = send(&self.devices, request).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
    }

    /// Counts devices whose last certificate, as it is stored, ends about so many seconds from now or later.
    pub(crate) async fn certified(&self, in_s: u64) -> u64 {
        let mut connection = AnyConnection::connect(&self.url).await.unwrap();
        let query = "SELECT count(*) FROM device WHERE certificate_end >= $1";
        let from = i64::try_from((self.now() + in_s).saturating_sub(SAME_S)).unwrap();
        let row = sqlx::query(query).bind(from).fetch_one(&mut connection).await.unwrap();
        let count: i64 = sqlx::Row::get(&row, 0);
        connection.close().await.unwrap();
        count.try_into().unwrap()
    }

    pub(crate) async fn end(self: Arc<Self>) {
        self.service.store.clone().close().await;
    }
}

fn peer(exporter: [u8; 32], certificates: Vec<Vec<u8>>) -> Peer {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Peer::new(address, Arc::new(move |_| Some(exporter)), certificates)
}

async fn send(
    router: &TowerToHyperService<Router>,
    request: Request<Body>,
) -> (StatusCode, Vec<u8>) {
    let answer = router.call(request).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, body.to_vec())
}
