//! The parts of the device that check-ins and uploads need: `identity`, init's clock, and signatures by the device's key.

use crate::device_certificate::{SignHandshake, signer};
use crate::device_port::PortError;
use crate::verifier::Moment;
use holdfast_evidence::exchange::{self, ExchangeError, ExchangeReply, ExchangeRequest};
use holdfast_evidence::schedule::Outcome;
use holdfast_linux::channel;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_sandbox::clock::{MOST_AFTER_FLOOR_S, Source, Status};
use holdfast_sandbox::wire::{Reply, UplinkRequest};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Timeout of an answer of `identity`, whose TPM may be slow, in milliseconds.
const IDENTITY_WITHIN_MS: u64 = 120_000;

/// Errors of an attempt to check in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("there is no way to identity yet")]
    NoIdentityService,
    #[error("cannot talk to identity")]
    IdentitySocket(#[source] io::Error),
    #[error("identity does not answer")]
    Silent,
    #[error("identity sent a malformed reply")]
    Exchange(#[from] ExchangeError),
    #[error("identity did not do it, as its log says")]
    IdentityFailed,
    #[error("the device has no identity until its next start, as the log of identity says")]
    NoIdentity,
    #[error("identity sent another reply than was asked for")]
    OtherReply,
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("the service's answer is no JSON of its fields")]
    Answer(#[source] serde_json::Error),
    #[error("the service has enrolled another device")]
    OtherDevice,
    #[error("the service has enrolled the device again instead of an end")]
    Endless,
    #[error("the service answers {status}{word}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem's word, with a blank in front, or nothing.
        word: String,
        retry_after_s: Option<u32>,
        is_unknown: bool,
    },
}

impl AttemptError {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::NoIdentity => Outcome::NoIdentity,
            Self::Refused { retry_after_s, is_unknown, .. } => {
                Outcome::Failed { retry_after_s: *retry_after_s, is_unknown: *is_unknown }
            }
            _ => Outcome::Failed { retry_after_s: None, is_unknown: false },
        }
    }
}

/// The parts of the device that a check-in needs.
pub(crate) trait Parts {
    /// Asks `identity`.
    ///
    /// # Errors
    /// It does not answer, or not what could be used.
    fn identity(&mut self, request: &ExchangeRequest) -> Result<ExchangeReply, AttemptError>;

    /// Returns the bounds of the time.
    ///
    /// # Errors
    /// init does not answer.
    fn moment(&mut self) -> Result<Moment, AttemptError>;

    /// Returns what has `identity` sign the end of a handshake.
    ///
    /// # Errors
    /// There is no way to it.
    fn signer(&mut self) -> Result<Arc<SignHandshake>, AttemptError>;
}

/// The real parts: sockets to init and to `identity`.
pub(crate) struct Sockets<'a> {
    pub(crate) init: &'a Mutex<InitSocket<UplinkRequest>>,
    pub(crate) identity: Option<OwnedFd>,
    pub(crate) buffer: Vec<u8>,
}

fn ask_init(
    init: &Mutex<InitSocket<UplinkRequest>>,
    request: UplinkRequest,
) -> Result<(Reply, Vec<OwnedFd>), InitError> {
    // It is held for one question, which init answers at once.
    init.lock().unwrap_or_else(PoisonError::into_inner).ask(request)
}

/// Asks init for a socket to another service; `None` where that is not there yet, or not any more.
pub(crate) fn socket_to(
    init: &Mutex<InitSocket<UplinkRequest>>,
    request: UplinkRequest,
) -> Result<Option<OwnedFd>, InitError> {
    let (reply, handed) = ask_init(init, request)?;
    match (reply, handed.into_iter().next()) {
        (Reply::Accepted, Some(socket)) => Ok(Some(socket)),
        (Reply::NotFound | Reply::PermissionDenied | Reply::Failed, _) => Ok(None),
        (reply, _) => Err(InitError::refused(reply)),
    }
}

impl Sockets<'_> {
    fn connect(&mut self) -> Result<OwnedFd, AttemptError> {
        if let Some(socket) = self.identity.take() {
            return Ok(socket);
        }
        socket_to(self.init, UplinkRequest::Identity)?.ok_or(AttemptError::NoIdentityService)
    }
}

impl Parts for Sockets<'_> {
    fn signer(&mut self) -> Result<Arc<SignHandshake>, AttemptError> {
        let socket = self.connect()?;
        let signing = socket.try_clone().map_err(AttemptError::IdentitySocket)?;
        self.identity = Some(socket);
        Ok(signer(signing))
    }

    /// A socket at which something went wrong is not used again: the reply to this request may still come.
    fn identity(&mut self, request: &ExchangeRequest) -> Result<ExchangeReply, AttemptError> {
        let encoded = exchange::encode(request)?;
        let socket = self.connect()?;
        channel::send(&socket, &encoded).map_err(AttemptError::IdentitySocket)?;
        let until = monotonic_ms().saturating_add(IDENTITY_WITHIN_MS);
        let received = channel::receive_until(&socket, &mut self.buffer, until);
        let received = received.map_err(AttemptError::IdentitySocket)?;
        let (length, _) = received.ok_or(AttemptError::Silent)?;
        let reply = exchange::decode(self.buffer.get(..length).unwrap_or_default())?;
        self.identity = Some(socket);
        Ok(reply)
    }

    fn moment(&mut self) -> Result<Moment, AttemptError> {
        match ask_init(self.init, UplinkRequest::Clock)? {
            (Reply::Clock(status), _) => Ok(moment(&status)),
            (reply, _) => Err(InitError::refused(reply).into()),
        }
    }
}

/// The bounds of the time, by what init says of the clock.
fn moment(status: &Status) -> Moment {
    let earliest_s = status.seconds.max(status.floor);
    let latest_s = match status.source {
        Source::Floor => status.floor.saturating_add(MOST_AFTER_FLOOR_S).max(earliest_s),
        Source::Hardware | Source::Network => earliest_s,
    };
    Moment { earliest_s, latest_s }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use crate::service_in_tests::IN_2026;

    #[test]
    fn the_time_is_what_init_says_of_the_clock() {
        let status =
            |source| Status { seconds: IN_2026 + 10, floor: IN_2026, source, checked_s_ago: None };
        let exact = Moment { earliest_s: IN_2026 + 10, latest_s: IN_2026 + 10 };
        assert_eq!(moment(&status(Source::Network)), exact);
        assert_eq!(moment(&status(Source::Hardware)), exact);
        let at_floor = moment(&status(Source::Floor));
        assert_eq!(at_floor.earliest_s, IN_2026 + 10);
        assert_eq!(at_floor.latest_s, IN_2026 + MOST_AFTER_FLOOR_S);
    }
}
