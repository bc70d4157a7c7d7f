//! When failure reports are sent: with each check-in, and in between where `report` has something urgent.

use crate::device_port::DevicePort;
use crate::parts::{AttemptError, Parts, socket_to};
use crate::reports::{self, Reports, UploadError};
use holdfast_evidence::schedule::Outcome;
use holdfast_failure_reports::Level;
use holdfast_failure_reports::exchange::{
    self, MAX_MESSAGE_BYTES, ReportExchangeReply, ReportExchangeRequest,
};
use holdfast_failure_reports::record::CheckInOutcome;
use holdfast_linux::channel;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::InitSocket;
use holdfast_sandbox::wire::UplinkRequest;
use holdfast_types::chain;
use holdfast_types::event::uplink as event;
use std::mem::{Discriminant, discriminant};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// Timeout of an answer of `report`, in milliseconds: it may write to the medium before.
const REPORT_WITHIN_MS: u64 = 30_000;

/// The socket to `report`.
struct ReportSocket<'a> {
    init: &'a Mutex<InitSocket<UplinkRequest>>,
    socket: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl ReportSocket<'_> {
    fn connect(&mut self) -> Result<OwnedFd, UploadError> {
        if let Some(socket) = self.socket.take() {
            return Ok(socket);
        }
        let found = socket_to(self.init, UplinkRequest::Report).map_err(AttemptError::from)?;
        found.ok_or(UploadError::NoReportService)
    }
}

impl Reports for ReportSocket<'_> {
    fn ask(&mut self, request: &ReportExchangeRequest) -> Result<ReportExchangeReply, UploadError> {
        let encoded = exchange::encode(request)?;
        let socket = self.connect()?;
        channel::send(&socket, &encoded)?;
        let until = monotonic_ms().saturating_add(REPORT_WITHIN_MS);
        let received = channel::receive_until(&socket, &mut self.buffer, until)?;
        let (length, _) = received.ok_or(UploadError::Silent)?;
        let reply = exchange::decode(self.buffer.get(..length).unwrap_or_default())?;
        self.socket = Some(socket);
        Ok(reply)
    }
}

/// What a check-in has brought.
#[derive(Debug)]
pub(crate) struct Issued {
    /// The certificates are for updates alone.
    pub(crate) is_for_updates_alone: bool,
    /// Word for the level of failure reports that the service asks for.
    pub(crate) reports: Option<String>,
}

/// What becomes of failure reports beside check-ins.
pub(crate) struct Uploads<'a> {
    reports: Option<ReportSocket<'a>>,
    /// A failure that goes on is said once.
    said: Option<Discriminant<UploadError>>,
    host: String,
}

impl<'a> Uploads<'a> {
    /// `is_reporting`: the image has the service `report`.
    pub(crate) fn new(
        is_reporting: bool,
        init: &'a Mutex<InitSocket<UplinkRequest>>,
        host: String,
    ) -> Self {
        let reports = is_reporting.then(|| ReportSocket {
            init,
            socket: None,
            buffer: vec![0; MAX_MESSAGE_BYTES],
        });
        Self { reports, said: None, host }
    }

    /// True where there is something to look after.
    pub(crate) fn is_reporting(&self) -> bool {
        self.reports.is_some()
    }

    /// A check-in has ended: `report` is told, and after one that has brought certificates everything is sent.
    pub(crate) fn checked_in(
        &mut self,
        ended: &Result<Outcome, AttemptError>,
        issued: Option<&Issued>,
        parts: &mut impl Parts,
        port: &DevicePort,
    ) {
        let Some(reports) = &mut self.reports else {
            return;
        };
        if let Ok(Outcome::Transferred) = ended {
            // The next owner is told nothing that was recorded before: what is there is erased.
            let done = reports::set_level(reports, Level::Off);
            self.say(done);
            return;
        }
        let outcome = match ended {
            Ok(Outcome::CheckedIn { .. }) => match issued {
                Some(issued) if issued.is_for_updates_alone => CheckInOutcome::UpdateOnly,
                _ => CheckInOutcome::Certified,
            },
            Ok(_) => return,
            Err(AttemptError::Refused { .. }) => CheckInOutcome::Refused,
            Err(AttemptError::NoIdentity) => CheckInOutcome::TpmFailed,
            Err(_) => CheckInOutcome::Unreachable,
        };
        let mut done = reports::checked_in(reports, outcome);
        // A level of a later release leaves the device at the one that it has.
        let level = issued.and_then(|issued| issued.reports.as_deref()?.parse().ok());
        if let (Ok(()), Some(level)) = (&done, level) {
            done = reports::set_level(reports, level);
        }
        if done.is_ok() && issued.is_some() {
            done = reports::upload(parts, reports, port).map(|_| ());
        }
        self.say(done);
    }

    /// Sends what is urgent.
    pub(crate) fn look(&mut self, parts: &mut impl Parts, port: &DevicePort) {
        let Some(reports) = &mut self.reports else {
            return;
        };
        let done = match reports::is_due(reports) {
            Ok(true) => reports::upload(parts, reports, port).map(|_| ()),
            Ok(false) => return,
            Err(error) => Err(error),
        };
        self.say(done);
    }

    fn say(&mut self, done: Result<(), UploadError>) {
        let Err(error) = done else {
            self.said = None;
            return;
        };
        let kind = Some(discriminant(&error));
        if std::mem::replace(&mut self.said, kind) != kind {
            let (host, failed) = (&self.host, event::UPLINK_REPORT_FAILED);
            println!("cannot send failure reports to {host}: {} {failed}", chain(&error));
        }
    }
}
