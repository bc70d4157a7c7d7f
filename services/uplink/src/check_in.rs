//! Checking in: what `identity` attests goes to the service, and its answer goes back. When, the schedule says.

use crate::assigned::Board;
use crate::device_port::{Answer, DevicePort, PATIENCE, PortConfigError};
use crate::parts::{AttemptError, Parts, Sockets};
use crate::uploads::{Issued, Uploads};
use holdfast_evidence::config::ServiceConfig;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::exchange::{ExchangeReply, ExchangeRequest, MAX_MESSAGE_BYTES};
use holdfast_evidence::messages::{
    Bytes, CHECK_IN_PATH, ENROL_PATH, EnrolAnswer, FINISH_PATH, Problem,
};
use holdfast_evidence::qualifying::Exporter;
use holdfast_evidence::schedule::{Action, Outcome, Schedule};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_sandbox::wire::UplinkRequest;
use holdfast_types::event::uplink as event;
use holdfast_types::{chain, escape};
use rustls::crypto::ring::default_provider;
use serde::Deserialize;
use std::convert::Infallible;
use std::mem::{Discriminant, discriminant};
use std::sync::Mutex;
use std::time::Duration;

/// Pause between two questions whether something urgent is to be sent, in milliseconds.
const LOOK_EVERY_MS: u64 = 30_000;
/// Most bytes of a service's word that are logged.
const MAX_WORD_BYTES: usize = 48;

/// Asks `identity` for a body.
fn body(parts: &mut impl Parts, request: &ExchangeRequest) -> Result<Vec<u8>, AttemptError> {
    match parts.identity(request)? {
        ExchangeReply::Body(body) => Ok(body),
        other => Err(not(other)),
    }
}

/// The error of a reply that is not the one that was asked for.
fn not(reply: ExchangeReply) -> AttemptError {
    match reply {
        ExchangeReply::Failed => AttemptError::IdentityFailed,
        ExchangeReply::NoIdentity => AttemptError::NoIdentity,
        _ => AttemptError::OtherReply,
    }
}

/// Posts a body that `identity` makes for the connection.
fn post(
    parts: &mut impl Parts,
    port: &DevicePort,
    (path, device): (&str, &DeviceId),
    request: impl FnOnce(Exporter) -> ExchangeRequest,
) -> Result<Vec<u8>, AttemptError> {
    let moment = parts.moment()?;
    let make = |exporter| body(parts, &request(exporter));
    let Answer { head, body } = port.post(path, device, moment, make)?;
    if (200..300).contains(&head.status) {
        return Ok(body);
    }
    let problem: Option<Problem> = serde_json::from_slice(&body).ok();
    let word = problem.as_ref().map(Problem::word).unwrap_or_default();
    let is_unknown = head.status == 404 || word == Problem::UNKNOWN_DEVICE;
    Err(AttemptError::Refused {
        status: head.status,
        word: said(word),
        retry_after_s: head.retry_after_s,
        is_unknown,
    })
}

/// A word of the service's for the log, with a blank in front: bounded and escaped.
fn said(word: &str) -> String {
    let short = word.as_bytes().get(..MAX_WORD_BYTES).unwrap_or(word.as_bytes());
    if short.is_empty() { String::new() } else { format!(" {}", escape(short)) }
}

fn read<T: serde::de::DeserializeOwned>(answer: &[u8]) -> Result<T, AttemptError> {
    serde_json::from_slice(answer).map_err(AttemptError::Answer)
}

/// Enrols the device. An outcome where it cannot go on to check in.
fn enrol(
    parts: &mut impl Parts,
    port: &DevicePort,
    id: &DeviceId,
) -> Result<Option<Outcome>, AttemptError> {
    let first = |exporter: Exporter| ExchangeRequest::Enrol(exporter.0);
    let answer = post(parts, port, (ENROL_PATH, id), first)?;
    let mut state = read(&answer)?;
    if matches!(state, EnrolAnswer::Challenge { .. }) {
        let second = |exporter: Exporter| ExchangeRequest::Finish { answer, exporter: exporter.0 };
        state = read(&post(parts, port, (FINISH_PATH, id), second)?)?;
    }
    match state {
        EnrolAnswer::Challenge { .. } => Err(AttemptError::Endless),
        EnrolAnswer::Enrolled { device } if device != *id => Err(AttemptError::OtherDevice),
        EnrolAnswer::Enrolled { .. } => match parts.identity(&ExchangeRequest::Enrolled)? {
            ExchangeReply::Kept { .. } => Ok(None),
            other => Err(not(other)),
        },
        EnrolAnswer::Waiting { next_s, .. } => Ok(Some(Outcome::Unclaimed { next_s })),
        EnrolAnswer::Transferred { voucher } => follow(parts, voucher.0).map(Some),
    }
}

/// Hands a voucher to `identity`. Where it follows it, the device is another one to another catalog, and enrols there soon.
fn follow(parts: &mut impl Parts, voucher: Vec<u8>) -> Result<Outcome, AttemptError> {
    match parts.identity(&ExchangeRequest::Follow(voucher))? {
        ExchangeReply::Followed => Ok(Outcome::Transferred),
        other => Err(not(other)),
    }
}

/// Checks in once, after an enrolment where there is none yet.
fn attempt(
    parts: &mut impl Parts,
    port: &DevicePort,
    schedule: &mut Schedule,
    issued: &mut Option<Issued>,
    board: &Board,
) -> Result<Outcome, AttemptError> {
    let (id, is_enrolled, is_on_trial) = describe(parts)?;
    if !is_enrolled || schedule.must_enrol() {
        if let Some(outcome) = enrol(parts, port, &id)? {
            return Ok(outcome);
        }
        schedule.enrolled();
    }
    let waits = board.waits();
    let request = |Exporter(exporter): Exporter| match waits {
        Some(update) => ExchangeRequest::CheckInWaiting { exporter, update },
        None => ExchangeRequest::CheckIn(exporter),
    };
    let answer = post(parts, port, (CHECK_IN_PATH, &id), request)?;
    if let Ok(EnrolAnswer::Waiting { next_s, .. }) = serde_json::from_slice(&answer) {
        return Ok(Outcome::Unclaimed { next_s });
    }
    match parts.identity(&ExchangeRequest::Keep(answer.clone()))? {
        ExchangeReply::Kept { next_s, is_for_updates_alone, reports } => {
            if let Some(voucher) = voucher_in(&answer)
                && let ExchangeReply::Followed =
                    parts.identity(&ExchangeRequest::Follow(voucher))?
            {
                return Ok(Outcome::Transferred);
            }
            board.checked_in(&answer);
            *issued = Some(Issued { is_for_updates_alone, reports });
            Ok(Outcome::CheckedIn { next_s, is_on_trial })
        }
        other => Err(not(other)),
    }
}

/// The voucher in the answer to a check-in, if there is one.
fn voucher_in(answer: &[u8]) -> Option<Vec<u8>> {
    #[derive(Deserialize)]
    struct Fields {
        transfer: Option<Bytes>,
    }
    let fields: Fields = serde_json::from_slice(answer).ok()?;
    fields.transfer.map(|voucher| voucher.0)
}

/// Asks `identity` for the device's id, whether it is enrolled, and whether its release is on trial.
fn describe(parts: &mut impl Parts) -> Result<(DeviceId, bool, bool), AttemptError> {
    match parts.identity(&ExchangeRequest::Describe)? {
        ExchangeReply::Device { id, is_enrolled, is_on_trial } => {
            Ok((DeviceId(id), is_enrolled, is_on_trial))
        }
        other => Err(not(other)),
    }
}

/// What was said last, so that a failure that goes on is said once.
#[derive(Debug, Default)]
struct Said {
    failure: Option<(Discriminant<AttemptError>, Option<u16>)>,
    is_unclaimed: bool,
}

impl Said {
    /// Returns the line for the log of an attempt's end, if there is one.
    fn line(&mut self, ended: &Result<Outcome, AttemptError>, host: &str) -> Option<String> {
        match ended {
            Ok(Outcome::Unclaimed { .. }) => {
                self.failure = None;
                let is_new = !std::mem::replace(&mut self.is_unclaimed, true);
                let unclaimed = event::UPLINK_DEVICE_UNCLAIMED;
                is_new.then(|| {
                    format!("{host} knows the device, which nobody has claimed {unclaimed}")
                })
            }
            Ok(_) => {
                *self = Self::default();
                None
            }
            Err(error) => {
                let status = match error {
                    AttemptError::Refused { status, .. } => Some(*status),
                    _ => None,
                };
                let kind = Some((discriminant(error), status));
                let is_new = std::mem::replace(&mut self.failure, kind) != kind;
                let failed = event::UPLINK_CHECK_IN_FAILED;
                is_new.then(|| format!("cannot check in at {host}: {} {failed}", chain(error)))
            }
        }
    }
}

/// Random bits, for the schedule. Without any, all devices would do the same at once: it is no secret.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = default_provider().secure_random.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Errors that end the service; init starts it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckInError {
    #[error("the configuration of the service is unusable")]
    Config(#[from] PortConfigError),
    #[error(transparent)]
    Init(InitError),
}

/// Checks in as long as the service runs.
pub(crate) fn check_in_forever(
    config: ServiceConfig,
    init: &Mutex<InitSocket<UplinkRequest>>,
    board: &Board,
) -> Result<Infallible, CheckInError> {
    let host = config.host_field();
    let mut uploads = Uploads::new(config.reports, init, host.clone());
    let port = DevicePort::new(config, PATIENCE)?;
    let mut parts = Sockets { init, identity: None, buffer: vec![0; MAX_MESSAGE_BYTES] };
    let mut schedule = Schedule::new(monotonic_ms(), random());
    let mut said = Said::default();
    loop {
        match schedule.action(monotonic_ms()) {
            Action::Wait(ms) => {
                let most = if uploads.is_reporting() { LOOK_EVERY_MS } else { ms };
                std::thread::sleep(Duration::from_millis(ms.min(most)));
                uploads.look(&mut parts, &port);
            }
            Action::Look => {
                // A look that fails is one of a release that is still on trial: the next one is soon.
                let is_on_trial = describe(&mut parts).map_or(true, |(_, _, on_trial)| on_trial);
                schedule.looked(is_on_trial, monotonic_ms(), random());
            }
            Action::CheckIn => {
                let mut issued = None;
                let ended = attempt(&mut parts, &port, &mut schedule, &mut issued, board);
                if let Some(line) = said.line(&ended, &host) {
                    println!("{line}");
                }
                uploads.checked_in(&ended, issued.as_ref(), &mut parts, &port);
                let outcome = match ended {
                    Ok(outcome) => outcome,
                    Err(AttemptError::Init(error)) => return Err(CheckInError::Init(error)),
                    Err(error) => error.outcome(),
                };
                schedule.ended(outcome, monotonic_ms(), random());
            }
        }
    }
}

#[cfg(test)]
mod tests;
