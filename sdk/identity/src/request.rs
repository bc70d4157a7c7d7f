//! What is asked of the identity service, and why it may not answer.

use crate::certificate::CertificateError;
use crate::handshake::Handshake;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use thiserror::Error;

/// Time in which the service must accept a connection and answer a call.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

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
    pub(crate) fn answer(self, signature: Result<Vec<u8>, ServiceError>) {
        let _ = self.answer.try_send(signature);
    }
}
