//! The D-Bus interface by which apps authenticate as parts of the device, peer to peer without a bus.
//!
//! Each app that names the device's catalog calls at a socket of its own, and what comes there is hostile
//! ([`holdfast_app_bus`]). All of it runs in one thread beside the service's, which alone has the keys: what is to be signed
//! goes there as a [`Job`], and what apps may know of their certificates comes from there as [`Standings`].

use crate::allowance::{Allowance, Limited, Said};
use crate::handshake::{HASH_BYTES, Role, signed_content};
use holdfast_app_bus::relay::{self, Call, Caller, Pace, Terms};
use holdfast_app_bus::{ConnectionError, STACK_BYTES, connect, within_patience};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::poll::Poll;
use holdfast_sandbox::wire::AuthenticatingApp;
use holdfast_types::ComponentId;
use holdfast_types::escaped_chain;
use holdfast_types::event::Event;
use holdfast_types::event::identity as event;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use zbus::fdo;
use zbus::object_server::SignalEmitter;

/// Path of the D-Bus object.
pub(crate) const PATH: &str = "/org/holdfast/Identity1";
/// Time within which a signature is made: a TPM's commands have ten seconds each, and sixteen apps may be before this one.
const SIGNED_WITHIN: Duration = Duration::from_secs(60);
/// What an app sends is read so fast, in bytes a second: eight signatures, with whatever else it asks, are a quarter of it.
const BYTES_PER_SECOND: u32 = 16 * 1024;

/// What an app has of the last check-in. It is empty where that brought no certificate for the app.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// Its certificates, DER, the leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// Their end, in seconds since 1970.
    pub(crate) until: u64,
    /// Word for the grade that they have.
    pub(crate) grade: &'static str,
}

/// What each app has.
pub(crate) type Standings = BTreeMap<ComponentId, Standing>;

/// The end of a job that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotSigned;

/// A signature that an app waits for.
#[derive(Debug)]
pub(crate) struct Job {
    /// The app.
    pub(crate) app: ComponentId,
    /// What is to be signed.
    pub(crate) content: Vec<u8>,
    /// Takes the signature, in DER. Closed where nobody waits any more.
    pub(crate) answer: oneshot::Sender<Result<Vec<u8>, NotSigned>>,
}

/// The service's handle of its D-Bus thread.
#[derive(Debug)]
pub(crate) struct Bus {
    apps: Vec<ComponentId>,
    standings: watch::Sender<Standings>,
    jobs: Receiver<Job>,
    /// Readable once there is a job.
    woken: UnixStream,
}

/// What all connections have in common.
#[derive(Debug)]
struct Shared {
    /// Certificates of the catalog's root, DER.
    anchors: Vec<Vec<u8>>,
    standings: watch::Receiver<Standings>,
    jobs: Sender<Job>,
    wake: UnixStream,
}

/// An app that authenticates.
#[derive(Debug, Clone)]
struct App {
    name: String,
    id: ComponentId,
    bounds: Arc<Mutex<Bounds>>,
}

/// What is counted of an app, whatever its connections.
#[derive(Debug)]
struct Bounds {
    allowance: Allowance,
    said_limited: Said,
    said_denied: Said,
}

impl Caller for App {
    fn name(&self) -> &str {
        &self.name
    }
}

impl App {
    fn new(app: AuthenticatingApp) -> Self {
        let bounds = Bounds {
            allowance: Allowance::new(monotonic_ms()),
            said_limited: Said::default(),
            said_denied: Said::default(),
        };
        Self { name: app.name, id: app.id, bounds: Arc::new(Mutex::new(bounds)) }
    }

    fn bounds<T>(&self, act: impl FnOnce(&mut Bounds) -> T) -> T {
        act(&mut self.bounds.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says why the app gets no signature, now and then.
    fn say(&self, said: impl FnOnce(&mut Bounds) -> &mut Said, why: &str, event: Event) {
        if self.bounds(|bounds| said(bounds).is_due(monotonic_ms())) {
            println!("{} gets no signature: {why} {event}", self.name);
        }
    }
}

impl Bus {
    /// Starts to serve the apps that connect at these sockets. `anchors` are the certificates of the catalog's root, DER.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(
        apps: Vec<(AuthenticatingApp, OwnedFd)>,
        anchors: Vec<Vec<u8>>,
    ) -> io::Result<Self> {
        let (send_jobs, jobs) = channel();
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (standings, seen) = watch::channel(Standings::new());
        let served = apps.iter().map(|(app, _)| app.id).collect();
        if !apps.is_empty() {
            let shared = Arc::new(Shared { anchors, standings: seen, jobs: send_jobs, wake });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (calls, taken) = mpsc::unbounded_channel();
            let terms = Terms {
                accept_failed: event::IDENTITY_APP_ACCEPT_FAILED,
                pace: Some(Pace { bytes_per_second: BYTES_PER_SECOND }),
            };
            for (app, socket) in apps {
                relay::take_calls(&App::new(app), socket, &calls, runtime.handle(), terms)?;
            }
            let thread = std::thread::Builder::new().name("bus".to_owned()).stack_size(STACK_BYTES);
            thread.spawn(move || runtime.block_on(serve_all(shared, taken)))?;
        }
        Ok(Self { apps: served, standings, jobs, woken })
    }

    /// Tells each app what it has of the last check-in.
    pub(crate) fn publish(&self, standing: impl Fn(ComponentId) -> Standing) {
        let now: Standings = self.apps.iter().map(|app| (*app, standing(*app))).collect();
        self.standings.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    /// Takes what apps have asked for since the last time.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = Job> {
        let mut bytes = [0; 64];
        // What is read here has been sent behind its job.
        while (&self.woken).read(&mut bytes).is_ok_and(|length| length > 0) {}
        self.jobs.try_iter()
    }

    /// Also waits for what apps ask for.
    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        // Nobody is at the other end where no app authenticates.
        if !self.apps.is_empty() {
            poll.add(&self.woken);
        }
    }
}

/// Serves the connections of all apps.
async fn serve_all(shared: Arc<Shared>, mut calls: mpsc::UnboundedReceiver<Call<App>>) {
    while let Some(call) = calls.recv().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let name = call.app.name.clone();
            if let Err(error) = serve_connection(shared, call).await {
                let failed = event::IDENTITY_APP_CONNECTION_FAILED;
                println!(
                    "{name}: closing its D-Bus connection: {} {failed}",
                    escaped_chain(&error)
                );
            }
        });
    }
}

async fn serve_connection(shared: Arc<Shared>, call: Call<App>) -> Result<(), ConnectionError> {
    let Call { app, stream, uid } = call;
    let (id, mut standings) = (app.id, shared.standings.clone());
    // As it is before the app can ask: whatever comes later is signalled.
    let before = standings.borrow_and_update().get(&id).cloned();
    let connection = connect(stream, uid, PATH, Identity { app, shared }).await?;
    let served = signal_changes(&connection, standings, (id, before)).await;
    // It may have ended by itself.
    let _ = connection.close().await;
    served
}

/// Signals each change of what the app has, until the connection ends.
async fn signal_changes(
    connection: &zbus::Connection,
    mut standings: watch::Receiver<Standings>,
    (app, mut before): (ComponentId, Option<Standing>),
) -> Result<(), ConnectionError> {
    let object = connection.object_server().interface::<_, Identity>(PATH).await?;
    loop {
        tokio::select! {
            () = connection.closed() => return Ok(()),
            changed = standings.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = standings.borrow_and_update().get(&app).cloned();
                if now != before {
                    let is_there = now.as_ref().is_some_and(|now| !now.chain.is_empty());
                    within_patience(say(&object, is_there)).await?;
                    before = now;
                }
            }
        }
    }
}

async fn say(
    object: &zbus::object_server::InterfaceRef<Identity>,
    is_there: bool,
) -> zbus::Result<()> {
    let emitter = object.signal_emitter();
    let identity = object.get().await;
    identity.until_changed(emitter).await?;
    identity.grade_changed(emitter).await?;
    identity.ready_changed(emitter).await?;
    if is_there {
        Identity::renewed(emitter).await?;
    }
    Ok(())
}

/// The D-Bus object, for one app.
struct Identity {
    app: App,
    shared: Arc<Shared>,
}

/// A signature that is under way, until it is dropped.
struct Begun<'a>(&'a App);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.bounds(|bounds| bounds.allowance.end());
    }
}

impl Identity {
    fn standing(&self) -> Standing {
        self.shared.standings.borrow().get(&self.app.id).cloned().unwrap_or_default()
    }

    fn begin(&self) -> fdo::Result<Begun<'_>> {
        let begun = self.app.bounds(|bounds| bounds.allowance.begin(monotonic_ms()));
        begun.map_err(|error: Limited| {
            let why = error.to_string();
            let limited = event::IDENTITY_SIGNATURES_LIMITED;
            self.app.say(|bounds| &mut bounds.said_limited, &why, limited);
            fdo::Error::LimitsExceeded(why)
        })?;
        Ok(Begun(&self.app))
    }
}

/// Puts together what is to be signed, or says why nothing is.
fn content(role: &str, transcript_hash: &[u8]) -> Result<Vec<u8>, String> {
    let role = Role::of_word(role);
    let role = role.ok_or("the role must be `client` or `server`")?;
    let hash: &[u8; HASH_BYTES] = transcript_hash.try_into().map_err(|_| {
        let length = transcript_hash.len();
        format!("the transcript hash must have {HASH_BYTES} bytes, and has {length}")
    })?;
    Ok(signed_content(role, hash))
}

/// The error of an app that has no certificate.
fn none_yet() -> fdo::Error {
    let why = "the last check-in has brought no certificate for this app; see `Ready`";
    fdo::Error::Failed(why.to_owned())
}

#[zbus::interface(name = "org.holdfast.Identity1")]
impl Identity {
    /// The app's certificates up to below the catalog's root, DER, the leaf first.
    #[zbus(out_args("chain"))]
    fn certificate(&self) -> fdo::Result<Vec<Vec<u8>>> {
        let chain = self.standing().chain;
        if chain.is_empty() { Err(none_yet()) } else { Ok(chain) }
    }

    /// Certificates of the catalog's root, DER: by it the devices of the catalog know each other.
    #[zbus(out_args("roots"))]
    fn anchors(&self) -> Vec<Vec<u8>> {
        self.shared.anchors.clone()
    }

    /// Signs the end of a TLS 1.3 handshake as `client` or `server`, of which it takes the transcript hash (SHA-256).
    /// Returns an `Ecdsa-Sig-Value` in DER, of scheme `ecdsa_secp256r1_sha256`.
    #[zbus(out_args("signature"))]
    async fn sign_tls13(&self, role: String, transcript_hash: Vec<u8>) -> fdo::Result<Vec<u8>> {
        let content = content(&role, &transcript_hash).map_err(|why| {
            self.app.say(|b| &mut b.said_denied, &why, event::IDENTITY_SIGNATURE_DENIED);
            fdo::Error::InvalidArgs(why)
        })?;
        let _begun = self.begin()?;
        if self.standing().chain.is_empty() {
            return Err(none_yet());
        }
        let (answer, signed) = oneshot::channel();
        let job = Job { app: self.app.id, content, answer };
        let failed = || fdo::Error::Failed("the signature could not be made".to_owned());
        self.shared.jobs.send(job).map_err(|_| failed())?;
        // A socket that is full wakes as well.
        let _ = (&self.shared.wake).write(&[1]);
        match timeout(SIGNED_WITHIN, signed).await {
            Ok(Ok(Ok(signature))) => Ok(signature),
            Ok(_) => Err(failed()),
            Err(_) => Err(fdo::Error::TimedOut("the signature was not made in time".to_owned())),
        }
    }

    /// End of the certificates, in seconds since 1970; 0 where there are none.
    #[zbus(property)]
    fn until(&self) -> u64 {
        self.standing().until
    }

    /// `hardware-verified`, `hardware`, `emulated` or `software`, as the certificates say it; empty where there are none.
    #[zbus(property)]
    fn grade(&self) -> String {
        self.standing().grade.to_owned()
    }

    /// True while there are certificates that have not ended.
    #[zbus(property)]
    fn ready(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let standing = self.standing();
        !standing.chain.is_empty() && now < standing.until
    }

    /// A check-in has brought new certificates, for another key: those before are not signed for any more.
    #[zbus(signal)]
    async fn renewed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}

#[cfg(test)]
mod tests;
