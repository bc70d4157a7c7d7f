//! The connection to the identity service: D-Bus, peer to peer, in a thread of its own, which connects again when it ends.

use crate::certificate::CertificateError;
use crate::credentials::Credentials;
use crate::identity::Shared;
use crate::signing::Handshake;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};
use zbus::connection::Builder;
use zbus::export::ordered_stream::OrderedStreamExt;
use zbus::fdo::PropertiesProxy;
use zbus::proxy::CacheProperties;

/// Stack of the thread, in bytes.
const STACK_BYTES: usize = 512 * 1024;
/// Time in which the service must accept a connection and answer a call.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause before the second connection; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause after which a service is asked again that had no certificate and signals none.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Errors of the identity service.
#[derive(Debug, Clone, Error)]
pub enum ServiceError {
    /// It cannot be connected to.
    #[error("cannot connect to the identity service")]
    Connect(#[source] zbus::Error),
    /// It does not accept a connection in time.
    #[error("the identity service has not accepted a connection within {PATIENCE:?}")]
    Slow,
    /// A call has failed.
    #[error("{method} of the identity service has failed")]
    Call {
        /// The D-Bus name of method, property or signal.
        method: &'static str,
        /// The error of D-Bus.
        #[source]
        source: zbus::Error,
    },
    /// It has returned what is no certificate of a Security Service.
    #[error("the identity service has returned a wrong certificate")]
    Certificate(#[source] CertificateError),
    /// The device has no certificate for the app: it has not checked in yet, was not claimed, or was refused.
    #[error("the device has no certificate for the app yet: it has not checked in, or was refused")]
    NoCertificate,
    /// It has closed the connection.
    #[error("the identity service has closed the connection")]
    Ended,
}

/// A handshake that waits for its signature.
#[derive(Debug)]
pub(crate) struct SignRequest {
    pub(crate) handshake: Handshake,
    pub(crate) answer: SyncSender<Result<Vec<u8>, ServiceError>>,
}

impl SignRequest {
    /// Answers it. Whoever has asked may have given up.
    fn answer(self, signature: Result<Vec<u8>, ServiceError>) {
        let _ = self.answer.try_send(signature);
    }
}

/// Path of the service's object.
const PATH: &str = "/org/holdfast/Identity1";

/// The interface of the service: docs/org.holdfast.Identity1.xml.
#[zbus::proxy(interface = "org.holdfast.Identity1", default_path = "/org/holdfast/Identity1")]
trait Identity1 {
    fn certificate(&self) -> zbus::Result<Vec<Vec<u8>>>;
    fn anchors(&self) -> zbus::Result<Vec<Vec<u8>>>;
    fn sign_tls13(&self, role: &str, transcript_hash: &[u8]) -> zbus::Result<Vec<u8>>;

    #[zbus(property)]
    fn until(&self) -> zbus::Result<u64>;

    #[zbus(property)]
    fn ready(&self) -> zbus::Result<bool>;

    #[zbus(signal)]
    fn renewed(&self) -> zbus::Result<()>;
}

/// Starts the thread.
///
/// # Errors
/// There is none to be had.
pub(crate) fn start(
    address: String,
    shared: Arc<Shared>,
    requests: UnboundedReceiver<SignRequest>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name("identity".to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || runtime.block_on(serve_all(&address, &shared, requests)))?;
    Ok(())
}

/// Connects again and again, until nobody can ask for a signature any more.
async fn serve_all(address: &str, shared: &Shared, mut requests: UnboundedReceiver<SignRequest>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let Err(error) = serve(address, shared, &mut requests).await else { return };
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        shared.fail(error.clone());
        let next = begun.checked_add(pause).unwrap_or(begun);
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                request = requests.recv() => match request {
                    Some(request) => request.answer(Err(error.clone())),
                    None => return,
                },
            }
        }
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// Serves one connection. Returns once nobody can ask for a signature any more.
async fn serve(
    address: &str,
    shared: &Shared,
    requests: &mut UnboundedReceiver<SignRequest>,
) -> Result<(), ServiceError> {
    let connection = Builder::address(address).p2p().method_timeout(PATIENCE).build();
    let connection = timeout(PATIENCE, connection).await.map_err(|_| ServiceError::Slow)?;
    let connection = connection.map_err(ServiceError::Connect)?;
    // Nobody sits between the two, so there is no name to ask for.
    let service = Identity1Proxy::builder(&connection)
        .destination("org.holdfast")
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .map_err(ServiceError::Connect)?;
    let mut renewed = service.receive_renewed().await.map_err(called("Renewed"))?;
    let properties = PropertiesProxy::builder(&connection)
        .destination("org.holdfast")
        .path(PATH)
        .build()
        .await
        .map_err(ServiceError::Connect)?;
    // Of a certificate that is lost, these alone tell.
    let changed = properties.receive_properties_changed().await;
    let mut changed = changed.map_err(called("PropertiesChanged"))?;
    loop {
        let is_ready = match load(&service).await? {
            Some(credentials) => {
                shared.renew(Arc::new(credentials));
                true
            }
            None => {
                shared.fail(ServiceError::NoCertificate);
                false
            }
        };
        let again = Instant::now().checked_add(ASK_AGAIN).unwrap_or_else(Instant::now);
        loop {
            tokio::select! {
                () = connection.closed() => return Err(ServiceError::Ended),
                signal = renewed.next() => match signal {
                    Some(_) => break,
                    None => return Err(ServiceError::Ended),
                },
                signal = changed.next() => match signal {
                    Some(_) => break,
                    None => return Err(ServiceError::Ended),
                },
                () = sleep_until(again), if !is_ready => break,
                request = requests.recv() => match request {
                    Some(request) => {
                        let Handshake { role, transcript_hash } = &request.handshake;
                        let signed = service.sign_tls13(role.word(), transcript_hash).await;
                        let has_failed = signed.is_err();
                        request.answer(signed.map_err(called("SignTls13")));
                        // The certificate may have ended, of which there is no signal.
                        if has_failed {
                            break;
                        }
                    }
                    None => return Ok(()),
                },
            }
        }
    }
}

/// Asks for the certificate and what belongs to it; `None` where there is none.
async fn load(service: &Identity1Proxy<'_>) -> Result<Option<Credentials>, ServiceError> {
    if !service.ready().await.map_err(called("Ready"))? {
        return Ok(None);
    }
    let chain = service.certificate().await.map_err(called("Certificate"))?;
    let anchors = service.anchors().await.map_err(called("Anchors"))?;
    let until = service.until().await.map_err(called("Until"))?;
    let credentials = Credentials::read(chain, anchors, until);
    credentials.map(Some).map_err(ServiceError::Certificate)
}

fn called(method: &'static str) -> impl FnOnce(zbus::Error) -> ServiceError {
    move |source| ServiceError::Call { method, source }
}
