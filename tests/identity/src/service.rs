//! The service, which serves `org.holdfast.Identity1` at a socket as the device's does.

use crate::fleet::Held;
use ring::rand::SystemRandom;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, fdo};

const PATH: &str = "/org/holdfast/Identity1";

/// The service.
#[derive(Debug)]
pub struct Service {
    held: Arc<Mutex<Option<Held>>>,
    connections: Arc<Mutex<Vec<Connection>>>,
    /// Signatures that were asked for.
    signed: Arc<AtomicUsize>,
    runtime: Handle,
    /// Ends the runtime when it is dropped.
    _running: oneshot::Sender<()>,
    accepts: Option<JoinHandle<()>>,
    directory: TempDir,
}

impl Service {
    /// Starts one that holds this.
    #[must_use]
    pub fn start(held: Option<Held>) -> Self {
        let own = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runtime = own.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || own.block_on(ended));
        let mut service = Self {
            held: Arc::new(Mutex::new(held)),
            connections: Arc::default(),
            signed: Arc::default(),
            runtime,
            _running: running,
            accepts: None,
            directory: tempfile::tempdir().unwrap(),
        };
        service.accept();
        service
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("identity")
    }

    /// Begins to accept connections.
    pub fn accept(&mut self) {
        let _context = self.runtime.enter();
        let listener = UnixListener::bind(self.path()).unwrap();
        let (held, connections) = (Arc::clone(&self.held), Arc::clone(&self.connections));
        let signed = Arc::clone(&self.signed);
        self.accepts = Some(self.runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let object = Object { held: Arc::clone(&held), signed: Arc::clone(&signed) };
                let stream = stream.into_std().unwrap();
                let connection = zbus::connection::Builder::unix_stream(stream)
                    .server(zbus::Guid::generate())
                    .p2p()
                    .serve_at(PATH, object)
                    .build()
                    .await;
                // An app may end before it has introduced itself.
                connections.lock().unwrap().extend(connection.ok());
            }
        }));
    }

    /// Ends, as a process does that is restarted: no connection is left.
    pub fn end(&mut self) {
        let accepts = self.accepts.take().unwrap();
        accepts.abort();
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        self.runtime.block_on(async {
            let _ = accepts.await;
            for connection in connections {
                connection.close().await.unwrap();
            }
        });
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Holds nothing any more, and says so as the device does: by its properties alone.
    pub fn withdraw(&self) {
        *self.held.lock().unwrap() = None;
        self.signal(false);
    }

    /// Holds something else, and says so.
    pub fn renew(&self, held: Held) {
        *self.held.lock().unwrap() = Some(held);
        self.signal(true);
    }

    fn signal(&self, is_there: bool) {
        let connections = self.connections.lock().unwrap().clone();
        self.runtime.block_on(async {
            for connection in connections {
                let server = connection.object_server();
                let object = server.interface::<_, Object>(PATH).await.unwrap();
                let emitter = object.signal_emitter();
                object.get().await.ready_changed(emitter).await.unwrap();
                if is_there {
                    Object::renewed(emitter).await.unwrap();
                }
            }
        });
    }

    /// Returns its D-Bus address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:path={}", self.path().display())
    }

    /// Returns how many signatures it was asked for.
    #[must_use]
    pub fn signed(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }
}

/// The D-Bus object.
struct Object {
    held: Arc<Mutex<Option<Held>>>,
    signed: Arc<AtomicUsize>,
}

impl Object {
    fn with<T>(&self, read: impl FnOnce(&Held) -> T) -> fdo::Result<T> {
        let held = self.held.lock().unwrap();
        held.as_ref().map(read).ok_or_else(|| fdo::Error::Failed("no certificate".to_owned()))
    }
}

#[zbus::interface(name = "org.holdfast.Identity1")]
impl Object {
    fn certificate(&self) -> fdo::Result<Vec<Vec<u8>>> {
        self.with(|held| held.chain.clone())
    }

    fn anchors(&self) -> fdo::Result<Vec<Vec<u8>>> {
        self.with(|held| held.anchors.clone())
    }

    fn sign_tls13(&self, role: &str, transcript_hash: Vec<u8>) -> fdo::Result<Vec<u8>> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        if !matches!(role, "client" | "server") || transcript_hash.len() != 32 {
            return Err(fdo::Error::InvalidArgs("no handshake".to_owned()));
        }
        let context = format!("TLS 1.3, {role} CertificateVerify\0");
        let message = [&[0x20; 64], context.as_bytes(), &transcript_hash].concat();
        self.with(|held| held.key.sign(&SystemRandom::new(), &message).unwrap().as_ref().to_vec())
    }

    #[zbus(property)]
    fn until(&self) -> u64 {
        self.with(|held| held.until).unwrap_or(0)
    }

    #[zbus(property)]
    fn grade(&self) -> &'static str {
        "hardware"
    }

    #[zbus(property)]
    fn ready(&self) -> bool {
        self.held.lock().unwrap().is_some()
    }

    #[zbus(signal)]
    async fn renewed(emitter: &SignalEmitter<'_>) -> zbus::Result<()>;
}
