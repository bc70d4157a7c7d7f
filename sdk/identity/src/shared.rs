//! What the thread that talks to the identity service shares with the app.

use crate::credentials::Credentials;
use crate::request::ServiceError;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What the thread that talks to the service has found out.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) newest: watch::Sender<Option<Arc<Credentials>>>,
    /// The last error since the last certificate. It is held while `newest` is changed, so that nobody misses a change.
    pub(crate) last: Mutex<Option<ServiceError>>,
    pub(crate) changed: Condvar,
}

impl Shared {
    pub(crate) fn last(&self) -> MutexGuard<'_, Option<ServiceError>> {
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
