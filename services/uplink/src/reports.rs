//! Sending failure reports: what `report` hands over goes to the service, whose answer says what it has stored.

use crate::device_certificate::DeviceCertificate;
use crate::device_port::{Answer, DevicePort, PortError};
use crate::parts::{AttemptError, Parts};
use holdfast_evidence::exchange::{ExchangeReply, ExchangeRequest};
use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::{MEDIA_TYPE, PATH};
use holdfast_failure_reports::exchange::{
    ReportExchangeError, ReportExchangeReply, ReportExchangeRequest,
};
use holdfast_failure_reports::record::CheckInOutcome;
use serde::Deserialize;
use std::io;
use std::sync::Arc;

/// Most batches of one upload: both files of a spool.
const MAX_BATCHES: usize = 8;

/// Errors of an upload. What was not stored is sent again later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("there is no way to report yet")]
    NoReportService,
    #[error("cannot talk to report")]
    Socket(#[from] io::Error),
    #[error("report sent a malformed reply")]
    Exchange(#[from] ReportExchangeError),
    #[error("report does not answer")]
    Silent,
    #[error("report sent another reply than was asked for")]
    OtherReply,
    #[error(transparent)]
    Identity(#[from] AttemptError),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("the service answers {0}")]
    Refused(u16),
    #[error("the service's answer is no JSON of its fields")]
    Answer(#[source] serde_json::Error),
}

/// The service's answer to a batch.
#[derive(Debug, Deserialize)]
struct Stored {
    /// It has every record of the batch's epoch up to this number.
    stored: u64,
}

/// The way to `report`.
pub(crate) trait Reports {
    /// Asks `report`.
    ///
    /// # Errors
    /// It does not answer, or not what could be used.
    fn ask(&mut self, request: &ReportExchangeRequest) -> Result<ReportExchangeReply, UploadError>;
}

/// Tells `report` what has become of a check-in.
pub(crate) fn checked_in(
    reports: &mut impl Reports,
    outcome: CheckInOutcome,
) -> Result<(), UploadError> {
    match reports.ask(&ReportExchangeRequest::CheckedIn(outcome))? {
        ReportExchangeReply::Done => Ok(()),
        _ => Err(UploadError::OtherReply),
    }
}

/// Has `report` record at a level from now on.
pub(crate) fn set_level(reports: &mut impl Reports, level: Level) -> Result<(), UploadError> {
    match reports.ask(&ReportExchangeRequest::SetLevel(level))? {
        ReportExchangeReply::Done => Ok(()),
        _ => Err(UploadError::OtherReply),
    }
}

/// Asks whether an urgent upload is due.
pub(crate) fn is_due(reports: &mut impl Reports) -> Result<bool, UploadError> {
    match reports.ask(&ReportExchangeRequest::IsDue)? {
        ReportExchangeReply::Due(is_due) => Ok(is_due),
        _ => Err(UploadError::OtherReply),
    }
}

/// Sends what waits, one batch after the other. Returns how many were stored.
pub(crate) fn upload(
    parts: &mut impl Parts,
    reports: &mut impl Reports,
    port: &DevicePort,
) -> Result<usize, UploadError> {
    let sent = send_batches(parts, reports, port);
    if sent.is_err() {
        // It decides when the next attempt is; that it cannot be told is no other failure than the one before.
        let _ = reports.ask(&ReportExchangeRequest::Failed);
    }
    sent
}

fn send_batches(
    parts: &mut impl Parts,
    reports: &mut impl Reports,
    port: &DevicePort,
) -> Result<usize, UploadError> {
    let mut sent = 0usize;
    let mut next = reports.ask(&ReportExchangeRequest::Begin)?;
    while sent < MAX_BATCHES {
        let (bytes, through) = match next {
            ReportExchangeReply::Batch { bytes, through } => (bytes, through),
            ReportExchangeReply::Nothing => break,
            _ => return Err(UploadError::OtherReply),
        };
        let stored = send(parts, port, bytes)?;
        // A service that has stored less than it was sent gets the rest again, and not for ever.
        if reports.ask(&ReportExchangeRequest::Stored(stored))? != ReportExchangeReply::Done {
            return Err(UploadError::OtherReply);
        }
        sent = sent.saturating_add(1);
        if stored < through {
            break;
        }
        next = reports.ask(&ReportExchangeRequest::Next)?;
    }
    Ok(sent)
}

fn send(parts: &mut impl Parts, port: &DevicePort, bytes: Vec<u8>) -> Result<u64, UploadError> {
    let chain = match parts.identity(&ExchangeRequest::Chain)? {
        ExchangeReply::Chain(chain) => chain,
        ExchangeReply::NoIdentity => return Err(AttemptError::NoIdentity.into()),
        _ => return Err(AttemptError::IdentityFailed.into()),
    };
    let certificate = DeviceCertificate::new(chain, parts.signer()?);
    let moment = parts.moment()?;
    let answer =
        port.post_authenticated((PATH, MEDIA_TYPE), moment, Arc::new(certificate), bytes)?;
    let Answer { head, body } = answer;
    if head.status != 200 {
        return Err(UploadError::Refused(head.status));
    }
    let Stored { stored } = serde_json::from_slice(&body).map_err(UploadError::Answer)?;
    Ok(stored)
}

#[cfg(test)]
mod tests;
