//! The app's identity: the newest certificate, and what makes configurations of TLS with it.

use crate::bus::{self, ServiceError, SignRequest};
use crate::credentials::Credentials;
use crate::signing::IdentityKey;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

/// Environment variable with the D-Bus address of the identity service, for apps that were granted it.
pub const ADDRESS_VARIABLE: &str = "HOLDFAST_IDENTITY";

/// Errors of the app's identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The app was not granted an identity.
    #[error("{ADDRESS_VARIABLE} is not set: the app's manifest must ask for DeviceAuthentication")]
    NotGranted,
    /// There is no thread for the connection to the service.
    #[error("cannot start the thread that talks to the identity service")]
    Thread(#[source] io::Error),
    /// There is no certificate yet. The device gets one without the app's doing, so that waiting on is right.
    #[error("there is no certificate after {waited:?}")]
    NotYet {
        /// How long it was waited for.
        waited: Duration,
        /// What the service said last, where it said anything.
        #[source]
        last: Option<ServiceError>,
    },
    /// A configuration of TLS cannot be made.
    #[error("cannot make a configuration of TLS")]
    Tls(#[source] rustls::Error),
}

/// What the thread that talks to the service has found out.
#[derive(Debug)]
pub(crate) struct Shared {
    newest: watch::Sender<Option<Arc<Credentials>>>,
    /// The last error since the last certificate. It is held while `newest` is changed, so that nobody misses a change.
    last: Mutex<Option<ServiceError>>,
    changed: Condvar,
}

impl Shared {
    fn last(&self) -> MutexGuard<'_, Option<ServiceError>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a certificate.
    pub(crate) fn renew(&self, credentials: Arc<Credentials>) {
        let mut last = self.last();
        *last = None;
        self.newest.send_replace(Some(credentials));
        self.changed.notify_all();
    }

    /// Takes an error. A service that has no certificate any more leaves none here; others may come back with the same.
    pub(crate) fn fail(&self, error: ServiceError) {
        let mut last = self.last();
        if matches!(error, ServiceError::NoCertificate) {
            self.newest.send_replace(None);
        }
        *last = Some(error);
    }
}

/// The identity of this app. Clones are the same identity.
#[derive(Debug, Clone)]
pub struct Identity {
    shared: Arc<Shared>,
    requests: UnboundedSender<SignRequest>,
}

impl Identity {
    /// Begins to talk to the identity service of this device, and does not wait for it.
    ///
    /// # Errors
    /// The app was not granted an identity, or there is no thread.
    pub fn connect() -> Result<Self, IdentityError> {
        let address = std::env::var(ADDRESS_VARIABLE).map_err(|_| IdentityError::NotGranted)?;
        Self::connect_to(&address)
    }

    /// Begins to talk to an identity service at a D-Bus address, such as `unix:path=/run/identity`.
    ///
    /// # Errors
    /// There is no thread.
    pub fn connect_to(address: &str) -> Result<Self, IdentityError> {
        let newest = watch::Sender::new(None);
        let (last, changed) = (Mutex::new(None), Condvar::new());
        let shared = Arc::new(Shared { newest, last, changed });
        let (requests, asked) = unbounded_channel();
        let started = bus::start(address.to_owned(), Arc::clone(&shared), asked);
        started.map_err(IdentityError::Thread)?;
        Ok(Self { shared, requests })
    }

    /// Returns the newest certificate, if there is one.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.shared.newest.borrow().clone()
    }

    /// Waits for a certificate, in this thread.
    ///
    /// # Errors
    /// There is none in time.
    pub fn wait(&self, timeout: Duration) -> Result<Arc<Credentials>, IdentityError> {
        self.wait_until(timeout, |_| true)
    }

    /// Waits for another certificate than this one, in this thread.
    ///
    /// # Errors
    /// There is none in time.
    pub fn wait_for_renewal(
        &self,
        of: &Credentials,
        timeout: Duration,
    ) -> Result<Arc<Credentials>, IdentityError> {
        self.wait_until(timeout, |newest| newest.chain() != of.chain())
    }

    fn wait_until(
        &self,
        timeout: Duration,
        is_wanted: impl Fn(&Credentials) -> bool,
    ) -> Result<Arc<Credentials>, IdentityError> {
        let begun = Instant::now();
        let mut last = self.shared.last();
        loop {
            if let Some(newest) = self.current().filter(|newest| is_wanted(newest)) {
                return Ok(newest);
            }
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(IdentityError::NotYet { waited: timeout, last: last.clone() });
            }
            let woken = self.shared.changed.wait_timeout(last, left);
            last = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a certificate, on any async runtime. It never returns where none comes.
    pub async fn certificate(&self) -> Arc<Credentials> {
        let mut newest = self.shared.newest.subscribe();
        loop {
            if let Some(found) = newest.borrow_and_update().clone() {
                return found;
            }
            // The sender is in `self`, which is borrowed.
            let _ = newest.changed().await;
        }
    }

    /// Waits until a certificate is not the newest any more, since it was renewed or the device has lost it, on any async
    /// runtime: then connections that were made with it are to end.
    pub async fn outdated(&self, of: &Credentials) {
        let mut newest = self.shared.newest.subscribe();
        loop {
            let now = newest.borrow_and_update().clone();
            if now.is_none_or(|now| now.chain() != of.chain()) {
                return;
            }
            let _ = newest.changed().await;
        }
    }

    /// Returns the newest certificate with its key, for configurations of TLS that are made elsewhere.
    #[must_use]
    pub fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        let credentials = self.current()?;
        let chain = credentials.chain().to_vec();
        let key = IdentityKey { credentials, requests: self.requests.clone() };
        Some(Arc::new(CertifiedKey::new(chain, Arc::new(key))))
    }

    fn key_for(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let wanted = schemes.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        wanted.then(|| self.certified_key())?
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        self.key_for(schemes)
    }

    fn has_certs(&self) -> bool {
        self.current().is_some()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key_for(hello.signature_schemes())
    }
}
