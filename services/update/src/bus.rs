//! The D-Bus interface by which apps are told of updates and defer a reboot, peer to peer without a bus.
//!
//! Each app that its manifest grants it calls at a socket of its own, and what comes there is hostile
//! ([`holdfast_app_bus`]). All of it runs in one thread beside the agent's, which does not wait for it.

use holdfast_app_bus::relay::{self, Call, Caller, Terms};
use holdfast_app_bus::{ConnectionError, STACK_BYTES, connect, within_patience};
use holdfast_linux::clock::monotonic_ms;
use holdfast_release::{Deferral, DeferralError};
use holdfast_sandbox::app_manifest::UpdateAccess;
use holdfast_sandbox::wire::Listener;
use holdfast_types::{escaped_chain, event};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};
use zbus::fdo;
use zbus::object_server::SignalEmitter;

/// Path of the D-Bus object.
pub(crate) const PATH: &str = "/org/holdfast/Update1";

/// An app that has to do with updates.
#[derive(Debug, Clone)]
struct App(Listener);

impl Caller for App {
    fn name(&self) -> &str {
        &self.0.name
    }
}

/// Status of updates, as apps read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdateStatus {
    pub(crate) state: State,
    /// The release subject, `os` or a component id; empty when there is no release.
    pub(crate) component: String,
    /// Version of the release; empty when there is none or it is not known.
    pub(crate) version: String,
}

/// State of a release, as apps read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No release is installed.
    Idle,
    /// A release is fetched and written.
    Fetching,
    /// A release is staged, and waits for the reboot.
    Waiting,
    /// A release runs on trial.
    Trial,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Fetching => "fetching",
            Self::Waiting => "waiting",
            Self::Trial => "trial",
        }
    }
}

impl UpdateStatus {
    pub(crate) const IDLE: Self =
        Self { state: State::Idle, component: String::new(), version: String::new() };
}

/// The agent's handle of the D-Bus service.
#[derive(Debug)]
pub(crate) struct Bus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    deferral: Mutex<Deferral>,
    status: watch::Sender<UpdateStatus>,
    /// Number of connections of apps that may defer a reboot.
    connections: AtomicUsize,
}

impl Shared {
    fn deferral(&self) -> MutexGuard<'_, Deferral> {
        self.deferral.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    /// Starts to serve the apps that connect at these sockets.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(listeners: Vec<(Listener, OwnedFd)>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            deferral: Mutex::new(Deferral::default()),
            status: watch::Sender::new(UpdateStatus::IDLE),
            connections: AtomicUsize::new(0),
        });
        if !listeners.is_empty() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let served = Arc::clone(&shared);
            let (calls, taken) = mpsc::unbounded_channel();
            let accept_failed = event::update::UPDATE_APP_ACCEPT_FAILED;
            let terms = Terms { accept_failed, pace: None };
            for (app, socket) in listeners {
                relay::take_calls(&App(app), socket, &calls, runtime.handle(), terms)?;
            }
            let thread = std::thread::Builder::new().name("bus".to_owned()).stack_size(STACK_BYTES);
            thread.spawn(move || runtime.block_on(serve_all(served, taken)))?;
        }
        Ok(Self { shared })
    }

    /// Publishes the status to all apps that are connected.
    pub(crate) fn publish(&self, status: UpdateStatus) {
        self.shared.status.send_if_modified(|before| {
            let differs = *before != status;
            *before = status;
            differs
        });
    }

    /// Returns the milliseconds for which apps defer the reboot. They may from the first call on.
    pub(crate) fn reboot_in(&self) -> u64 {
        let now = monotonic_ms();
        let mut deferral = self.shared.deferral();
        deferral.begin(now, self.shared.connections.load(Ordering::Relaxed) > 0);
        deferral.left(now)
    }
}

/// Serves the connections of all apps.
async fn serve_all(shared: Arc<Shared>, mut calls: mpsc::UnboundedReceiver<Call<App>>) {
    while let Some(call) = calls.recv().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let App(listener) = &call.app;
            let name = listener.name.clone();
            let counts = usize::from(listener.access == UpdateAccess::Defers);
            shared.connections.fetch_add(counts, Ordering::Relaxed);
            if let Err(error) = serve_connection(Arc::clone(&shared), call).await {
                println!(
                    "{name}: closing its D-Bus connection: {} {}",
                    escaped_chain(&error),
                    event::update::UPDATE_APP_CONNECTION_FAILED
                );
            }
            shared.connections.fetch_sub(counts, Ordering::Relaxed);
        });
    }
}

async fn serve_connection(shared: Arc<Shared>, call: Call<App>) -> Result<(), ConnectionError> {
    let status = shared.status.subscribe();
    let Call { app: App(app), stream, uid } = call;
    let connection = connect(stream, uid, PATH, Update { app, shared }).await?;
    let served = signal_changes(&connection, status).await;
    // It may have ended by itself.
    let _ = connection.close().await;
    served
}

/// Signals each change of the status, until the connection ends.
async fn signal_changes(
    connection: &zbus::Connection,
    mut status: watch::Receiver<UpdateStatus>,
) -> Result<(), ConnectionError> {
    let object = connection.object_server().interface::<_, Update>(PATH).await?;
    loop {
        tokio::select! {
            () = connection.closed() => return Ok(()),
            changed = status.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = status.borrow_and_update().clone();
                within_patience(say(&object, &now)).await?;
            }
        }
    }
}

async fn say(
    object: &zbus::object_server::InterfaceRef<Update>,
    status: &UpdateStatus,
) -> zbus::Result<()> {
    let emitter = object.signal_emitter();
    let update = object.get().await;
    update.state_changed(emitter).await?;
    update.component_changed(emitter).await?;
    update.version_changed(emitter).await?;
    if status.state == State::Waiting {
        let minutes = update.deferrable_minutes();
        Update::reboot_waits(emitter, &status.component, &status.version, minutes).await?;
    }
    Ok(())
}

/// The D-Bus object, for one app.
struct Update {
    app: Listener,
    shared: Arc<Shared>,
}

impl Update {
    fn may_defer(&self) -> fdo::Result<()> {
        if self.app.access == UpdateAccess::Defers {
            return Ok(());
        }
        Err(fdo::Error::AccessDenied(
            "its manifest does not ask for SoftwareUpdateDeferral".to_owned(),
        ))
    }
}

fn refused(error: DeferralError) -> fdo::Error {
    match error {
        DeferralError::Minutes => fdo::Error::InvalidArgs(error.to_string()),
        DeferralError::NothingWaits | DeferralError::Exhausted => {
            fdo::Error::Failed(error.to_string())
        }
    }
}

#[zbus::interface(name = "org.holdfast.Update1")]
impl Update {
    /// Puts the reboot that a release waits for off by so many minutes from now. Returns how many it gets.
    #[zbus(out_args("granted"))]
    fn defer(&self, minutes: u32) -> fdo::Result<u32> {
        self.may_defer()?;
        let granted = self.shared.deferral().defer(&self.app.name, minutes, monotonic_ms());
        let granted = granted.map_err(refused)?;
        let deferred = event::update::UPDATE_REBOOT_DEFERRED;
        println!("{} puts the reboot off by {granted} minutes {deferred}", self.app.name);
        Ok(granted)
    }

    /// Says that it has nothing against the reboot any more.
    fn resume(&self) -> fdo::Result<()> {
        self.may_defer()?;
        self.shared.deferral().resume(&self.app.name, monotonic_ms()).map_err(refused)?;
        let released = event::update::UPDATE_REBOOT_RELEASED;
        println!("{} no longer puts the reboot off {released}", self.app.name);
        Ok(())
    }

    /// `idle`, `fetching`, `waiting` (for the reboot) or `trial`.
    #[zbus(property)]
    fn state(&self) -> &'static str {
        self.shared.status.borrow().state.name()
    }

    /// What is updated: `os`, or the component id of an app.
    #[zbus(property)]
    fn component(&self) -> String {
        self.shared.status.borrow().component.clone()
    }

    /// The version that is fetched, waits or is on trial.
    #[zbus(property)]
    fn version(&self) -> String {
        self.shared.status.borrow().version.clone()
    }

    /// Minutes by which the reboot can still be put off.
    #[zbus(property(emits_changed_signal = "false"))]
    fn deferrable_minutes(&self) -> u32 {
        self.shared.deferral().minutes_left(monotonic_ms())
    }

    /// A release waits for a reboot, which can be put off by so many minutes.
    #[zbus(signal)]
    async fn reboot_waits(
        emitter: &SignalEmitter<'_>,
        component: &str,
        version: &str,
        minutes: u32,
    ) -> zbus::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_app_bus::PATIENCE;
    use tokio::net::UnixStream;
    use tokio::time::timeout;
    use zbus::object_server::Interface;

    fn shared() -> Arc<Shared> {
        let deferral = Mutex::new(Deferral::default());
        let status = watch::Sender::new(UpdateStatus::IDLE);
        Arc::new(Shared { deferral, status, connections: AtomicUsize::new(0) })
    }

    fn listener(access: UpdateAccess) -> Listener {
        Listener { name: "app".to_owned(), access }
    }

    #[test]
    fn the_interface_is_the_one_that_is_published() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/org.holdfast.Update1.xml");
        let mut xml = format!(
            "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
             \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node name=\"{PATH}\">\n"
        );
        let update = Update { app: listener(UpdateAccess::Told), shared: shared() };
        update.introspect_to_writer(&mut xml, 2);
        xml.push_str("</node>\n");
        if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
            std::fs::write(path, &xml).unwrap();
        }
        assert!(std::fs::read_to_string(path).unwrap() == xml, "HOLDFAST_WRITE_DOCS=1 writes it");
    }

    fn uid_of_this_process() -> String {
        rustix::process::getuid().as_raw().to_string()
    }

    fn call_over(stream: UnixStream, access: UpdateAccess) -> Call<App> {
        let uid = Some(rustix::process::getuid().as_raw());
        Call { app: App(listener(access)), stream: stream.into_std().unwrap(), uid }
    }

    async fn client(shared: &Arc<Shared>, access: UpdateAccess) -> zbus::Connection {
        let (theirs, ours) = UnixStream::pair().unwrap();
        tokio::spawn(serve_connection(Arc::clone(shared), call_over(ours, access)));
        let builder = zbus::connection::Builder::unix_stream(theirs.into_std().unwrap());
        builder.p2p().build().await.unwrap()
    }

    async fn call(
        client: &zbus::Connection,
        method: &str,
        body: &(impl serde::Serialize + zbus::zvariant::DynamicType),
    ) -> Result<zbus::Message, String> {
        let answer =
            client.call_method(None::<&str>, PATH, Some("org.holdfast.Update1"), method, body);
        answer.await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_app_puts_a_reboot_off_if_it_was_granted_that() {
        let shared = shared();
        let bus = Bus { shared: Arc::clone(&shared) };
        let app = client(&shared, UpdateAccess::Defers).await;
        let nothing = call(&app, "Defer", &5u32).await.unwrap_err();
        assert!(nothing.contains("no release waits"), "{nothing}");
        assert!(bus.reboot_in() <= 10_000);
        let granted: u32 = call(&app, "Defer", &5u32).await.unwrap().body().deserialize().unwrap();
        assert_eq!(granted, 5);
        assert!(bus.reboot_in() > 290_000, "{}", bus.reboot_in());
        let listener = client(&shared, UpdateAccess::Told).await;
        let denied = call(&listener, "Resume", &()).await.unwrap_err();
        assert!(denied.contains("AccessDenied"), "{denied}");
        call(&app, "Resume", &()).await.unwrap();
        assert_eq!(bus.reboot_in(), 0);
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_ends_the_connection() {
        let shared = shared();
        let app = client(&shared, UpdateAccess::Defers).await;
        call(&app, "Defer", &"x".repeat(5000)).await.unwrap_err();
        call(&app, "Defer", &5u32).await.unwrap_err();
    }

    #[tokio::test]
    async fn who_writes_nonsense_is_left_and_can_write_no_more() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let call = call_over(ours, UpdateAccess::Told);
        let served = tokio::spawn(serve_connection(shared(), call));
        let uid: String = uid_of_this_process().bytes().map(|byte| format!("{byte:02x}")).collect();
        theirs.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).await.unwrap();
        let mut answer = [0; 64];
        let length = theirs.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"OK "), "{answer:?}");
        theirs.write_all(b"BEGIN\r\n").await.unwrap();
        // More than the socket has room for: either it is read, or it is refused.
        let nonsense = vec![0; 8 << 20];
        let written = timeout(PATIENCE, theirs.write_all(&nonsense)).await;
        assert!(written.is_ok_and(|written| written.is_err()), "it is waited for");
        timeout(PATIENCE, served).await.unwrap().unwrap().unwrap();
    }
}
