//! Runs the service: opens what the folder has, listens on both ports, and ends when it is told to.

use crate::deliveries::{self, Deliveries};
use crate::deployments;
use crate::detection;
use crate::disk;
use crate::error::ServerError;
use crate::files::Files;
use crate::folder;
use crate::listener::{self, Configuration, Limits};
use crate::metrics;
use crate::repositories;
use crate::roots;
use crate::settings::{self, Settings};
use crate::tls::{self, Configurations};
use crate::upkeep;
use holdfast_service_alerts::connect::system_resolver;
use holdfast_service_alerts::sinks::Sinks;
use holdfast_service_alerts::webhook::Webhooks;
use holdfast_service_api::counts::Counts;
use holdfast_service_api::issuers::Issuers;
use holdfast_service_api::providers::SignIn;
use holdfast_service_api::release_files::{DOWNLOADS, UPLOADS};
use holdfast_service_api::service::{Clock, Disk, Measure};
use holdfast_service_api::symbolizer::{Symbolizer, Worker};
use holdfast_service_api::{Service, device_port, management};
use holdfast_service_store::Store;
use holdfast_service_store::moment::Observer;
use holdfast_types::chain;
use holdfast_types::event::security_service as event;
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Connections of management at once, and of one address.
const MANAGEMENT: Limits = Limits { most_connections: 256, most_per_address: 64 };
/// Pause after a certificate that could not be made.
const TRY_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Returns the system's time, in seconds since 1970.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens for devices.
    pub device: SocketAddr,
    /// Where it listens for management.
    pub management: SocketAddr,
    /// Where it listens for whoever collects metrics, if it does.
    pub metrics: Option<SocketAddr>,
    end: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    store: Store,
}

impl Running {
    /// Ends it: requests that are being served are answered first, and what was begun is stored.
    pub async fn end(self) {
        let _ = self.end.send(true);
        for task in self.tasks {
            let _ = task.await;
        }
        self.store.close().await;
    }
}

/// Opens what the folder has.
///
/// # Errors
/// A file or the database cannot be opened.
pub async fn open(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
) -> Result<Arc<Service>, ServerError> {
    open_with(folder, settings, clock, Observer::nobody(), Worker::of_this_program()).await
}

/// Opens it as [`open`] does, and leaves tables of an earlier version as they are: for whoever only looks.
///
/// # Errors
/// As [`open`].
pub(crate) async fn open_as_it_is(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
) -> Result<Arc<Service>, ServerError> {
    let store = Store::open_as_it_is(&settings.database_url(folder)).await?;
    open_store(folder, settings, clock, store, Worker::of_this_program(), disk::of(folder))
}

/// Opens it as [`open`] does, for an observer, and with another program as the symbol worker.
///
/// # Errors
/// As [`open`].
pub async fn open_with(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
    observer: Observer,
    worker: Worker,
) -> Result<Arc<Service>, ServerError> {
    open_on(folder, settings, clock, observer, worker, disk::of(folder)).await
}

/// Opens it as [`open_with`] does, on a disk that is measured by `measure`.
///
/// # Errors
/// As [`open`].
pub async fn open_on(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
    observer: Observer,
    worker: Worker,
    measure: Measure,
) -> Result<Arc<Service>, ServerError> {
    // What this folder lacks is said before the database is touched.
    folder::key_encryption_key(&folder.join(&settings.keys.key_encryption_key))?;
    let store = Store::open_observed(&settings.database_url(folder), observer).await?;
    open_store(folder, settings, clock, store, worker, measure)
}

/// Opens the rest of what the folder has.
fn open_store(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
    store: Store,
    worker: Worker,
    measure: Measure,
) -> Result<Arc<Service>, ServerError> {
    let key = folder::key_encryption_key(&folder.join(&settings.keys.key_encryption_key))?;
    let webhooks = Webhooks::of(folder, &settings.alerts, system_resolver())?;
    let sign_in = SignIn::of(folder, settings, system_resolver())?;
    let roots = roots::open(folder, settings)?;
    let receipts = key.receipt_key();
    let issuers = Issuers::new(key, roots);
    let admission = Arc::new(Semaphore::new(settings.device.most_requests));
    let files = Files::open(folder, settings)?;
    let symbolizer = Symbolizer::new(files.symbols, worker);
    Ok(Arc::new(Service {
        store,
        issuers,
        receipts,
        symbolizer,
        release_files: files.releases,
        release_uploads: Arc::new(Semaphore::new(UPLOADS)),
        downloads: Arc::new(Semaphore::new(DOWNLOADS)),
        clock,
        admission,
        check_in_every_s: settings.device.check_in_every_s,
        report_rates: Mutex::default(),
        sign_in,
        webhooks,
        disk: Disk { measure, settings: settings.disk.clone() },
        counts: Counts::default(),
    }))
}

/// Starts the service of a folder.
///
/// # Errors
/// What it needs cannot be opened, or an address cannot be listened at.
pub async fn start(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
) -> Result<Running, ServerError> {
    let worker = Worker::of_this_program();
    start_with(folder, settings, clock, Observer::nobody(), worker).await
}

/// Starts it as [`start`] does, for an observer that is told of each moment of a request, and may stop the service there.
///
/// # Errors
/// As [`start`].
pub async fn start_observed(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
    observer: Observer,
) -> Result<Running, ServerError> {
    start_with(folder, settings, clock, observer, Worker::of_this_program()).await
}

/// Starts it as [`start`] does, with an observer, and with another program as the symbol worker.
///
/// # Errors
/// As [`start`].
pub async fn start_with(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
    observer: Observer,
    worker: Worker,
) -> Result<Running, ServerError> {
    start_on(folder, settings, clock, observer, worker, disk::of(folder)).await
}

/// Starts it as [`start_with`] does, on a disk that is measured by `measure`.
///
/// # Errors
/// As [`start`].
pub async fn start_on(
    folder: &Path,
    settings: &Settings,
    clock: Clock,
    observer: Observer,
    worker: Worker,
    measure: Measure,
) -> Result<Running, ServerError> {
    let service = open_on(folder, settings, clock.clone(), observer, worker, measure).await?;
    let sinks = Sinks::new(folder, &settings.alerts, system_resolver())?;
    if !sinks.has_authorities {
        eprintln!(
            "nobody vouches for receivers of alerts: set alerts.authorities {}",
            event::ALERT_AUTHORITIES_MISSING
        );
    }
    service.symbolizer.files.remove_partial()?;
    service.release_files.remove_partial()?;
    let configurations = Ports::new(tls::load(folder, &settings.tls, clock())?);
    let (device, device_address) = listen(settings.device.listen).await?;
    let (management, management_address) = listen(settings.management.listen).await?;
    let (end, ended) = watch::channel(false);
    let limits = Limits {
        most_connections: settings.device.most_connections,
        most_per_address: settings.device.most_per_address,
    };
    let devices = device_port::router(service.clone());
    let people =
        holdfast_service_console::router(service.clone(), management::router(service.clone()));
    let renewed = (folder.to_owned(), settings.clone(), clock, configurations.clone());
    let watching = ended.clone();
    let mut tasks = vec![
        tokio::spawn(listener::serve(
            device,
            configurations.device,
            devices,
            limits,
            Arc::from(settings.device.proxies.as_slice()),
            ended.clone(),
        )),
        tokio::spawn(listener::serve(
            management,
            configurations.management,
            people,
            MANAGEMENT,
            Arc::from([]),
            ended.clone(),
        )),
        tokio::spawn(renew_certificate(renewed, ended)),
        tokio::spawn(upkeep::keep_up(service.clone(), watching.clone())),
        tokio::spawn(detection::watch(service.clone(), service.now(), watching.clone())),
        tokio::spawn(deployments::tend(service.clone(), watching.clone())),
    ];
    tasks.push(tokio::spawn(disk::watch(service.clone(), watching.clone())));
    let deliveries = Deliveries::new(service.clone(), sinks);
    tasks.push(tokio::spawn(deliveries::deliver(deliveries, watching.clone())));
    let mut metrics_address = None;
    if let Some(port) = &settings.metrics {
        let (listener, address) = listen(port.listen).await?;
        eprintln!("metrics at {address} {}", event::METRICS_LISTENING);
        // Who stores the findings of rules gives what counts them.
        let router = metrics::router(service.clone());
        tasks.push(tokio::spawn(metrics::serve(listener, router, watching.clone())));
        metrics_address = Some(address);
    }
    for watched in &settings.repositories {
        let watch = repositories::watch(service.clone(), watched.clone(), watching.clone());
        tasks.push(tokio::spawn(watch));
    }
    let store = service.store.clone();
    Ok(Running {
        device: device_address,
        management: management_address,
        metrics: metrics_address,
        end,
        tasks,
        store,
    })
}

/// The configurations of both ports, which are replaced while connections are made.
#[derive(Clone)]
struct Ports {
    device: Configuration,
    management: Configuration,
}

impl Ports {
    fn new(made: Configurations) -> Self {
        let shared = |config| Arc::new(RwLock::new(Arc::new(config)));
        Self { device: shared(made.device), management: shared(made.management) }
    }

    fn set(&self, made: Configurations) {
        for (port, config) in [(&self.device, made.device), (&self.management, made.management)] {
            *port.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let failed = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Makes or reads the service's certificate anew at half of its time, and has new connections get it.
async fn renew_certificate(
    (folder, settings, clock, configurations): (PathBuf, Settings, Clock, Ports),
    mut end: watch::Receiver<bool>,
) {
    let mut pause = Duration::from_secs(tls::RENEW_S);
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = match tls::load(&folder, &settings.tls, clock()) {
            Ok(renewed) => {
                configurations.set(renewed);
                Duration::from_secs(tls::RENEW_S)
            }
            Err(error) => {
                let event = event::SERVER_CERTIFICATE_RENEWAL_FAILED;
                eprintln!("cannot renew the service's certificate: {} {event}", chain(&error));
                TRY_AGAIN
            }
        };
    }
}

/// Runs the service of a folder until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot be started.
pub async fn run(folder: &Path) -> Result<(), ServerError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Start)?;
    let settings = settings::load(folder)?;
    let running = start(folder, &settings, system_clock()).await?;
    let Running { device, management, .. } = &running;
    eprintln!("devices at {device}, management at {management} {}", event::SERVICE_LISTENING);
    // Whoever has started it (systemd) may be waiting for that; nobody is where it has no socket for it.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    eprintln!("ending, what is being asked is answered {}", event::SERVICE_ENDING);
    running.end().await;
    Ok(())
}
