//! Failure reports: records what fails on the device, keeps it until the service has it, and hands it to `uplink`.
//!
//! It has no network. What happens it learns from init alone, which tells numbers, names of manifests, and the last output of programs that may
//! have panicked, of which no text goes any further; whoever takes `uplink` over reads what is sent anyway. What may be recorded, written and sent is decided by `os/report`.

mod crashes;
mod files;
mod network;
mod told;

use crate::files::Files;
use crate::network::NetworkCounters;
use crate::told::ToldEnd;
use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::Epoch;
use holdfast_failure_reports::exchange::{
    self, MAX_REQUEST_BYTES, ReportExchangeError, ReportExchangeReply, ReportExchangeRequest,
};
use holdfast_failure_reports::kept_level::KeptLevel;
use holdfast_failure_reports::moment::Moment;
use holdfast_failure_reports::record::{Body, CheckIn, Clock};
use holdfast_failure_reports::recorder::Recorder;
use holdfast_failure_reports::spool::Change;
use holdfast_linux::clock::{monotonic_ms, realtime_seconds};
use holdfast_linux::init_socket::{InitError, InitSocket, notify_ready};
use holdfast_linux::poll::Poll;
use holdfast_linux::{PathError, channel, entropy};
use holdfast_networking::status::{MAX_MESSAGE_BYTES as MAX_STATUS_BYTES, NetworkStatus};
use holdfast_sandbox::clock::{Source, Status};
use holdfast_sandbox::policy::STATE_DIRECTORY;
use holdfast_sandbox::wire::{ClaimedApp, MAX_REPORT_REPLY_BYTES, Reply, ReportRequest};
use holdfast_types::{chain, event::report as event};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

/// Pause between two questions to init how components have ended, in milliseconds.
const ASK_EVERY_MS: u64 = 15_000;
/// Pause between two looks at what the network service tells, in seconds.
const NETWORK_EVERY_S: u64 = 2 * 60;
/// Timeout of the network service's status, in milliseconds.
const NETWORK_WITHIN_MS: u64 = 2_000;
/// Pause between two records of what components have used, in seconds.
const USED_EVERY_S: u64 = 24 * 60 * 60;
/// Pause between two writes of what waits where no upload asks for one, in seconds.
const WRITE_EVERY_S: u64 = 6 * 60 * 60;
/// The clock has been set where it is off by more than this, in seconds.
const LEAST_STEP_S: i64 = 2;

/// Errors that end the service; init starts it again.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    File(#[from] PathError),
    #[error("there are no random numbers")]
    Random(#[source] io::Error),
    #[error("cannot say that it is ready")]
    Ready(#[source] io::Error),
    #[error("cannot wait")]
    Wait(#[source] io::Error),
}

/// Errors that end the connection to `uplink`, which asks for another one.
#[derive(Debug, thiserror::Error)]
enum UplinkSocketError {
    #[error("cannot talk to uplink")]
    Socket(#[from] io::Error),
    #[error("uplink sent a malformed request")]
    Exchange(#[from] ReportExchangeError),
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let Err(error) = serve_forever();
    println!("cannot go on: {} {}", chain(&error), event::REPORT_SERVICE_FAILED);
    ExitCode::FAILURE
}

fn serve_forever() -> Result<Infallible, ServiceError> {
    let mut service =
        Service::begin(InitSocket::from_environment_with_room(MAX_REPORT_REPLY_BYTES)?)?;
    notify_ready().map_err(ServiceError::Ready)?;
    let mut uplink: Option<OwnedFd> = None;
    // One byte more: what is longer is cut there, and malformed.
    let mut buffer = [0; MAX_REQUEST_BYTES + 1];
    let mut ask_at = 0;
    loop {
        if monotonic_ms() >= ask_at {
            service.ask_init()?;
            ask_at = monotonic_ms().saturating_add(ASK_EVERY_MS);
        }
        for (reply, socket) in service.init.unasked()? {
            if reply == Reply::Report {
                uplink = Some(socket);
            }
        }
        if let Some(socket) = &uplink {
            match service.serve(socket, &mut buffer) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(UplinkSocketError::Socket(error))
                    if error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    uplink = None;
                }
                Err(error) => {
                    let failed = event::REPORT_UPLINK_SOCKET_FAILED;
                    println!("closing uplink's socket: {} {failed}", chain(&error));
                    uplink = None;
                }
            }
        }
        let mut poll = Poll::new();
        service.init.add_to(&mut poll);
        if let Some(uplink) = &uplink {
            poll.add(uplink);
        }
        poll.wait(ask_at.saturating_sub(monotonic_ms())).map_err(ServiceError::Wait)?;
    }
}

struct Service {
    init: InitSocket<ReportRequest>,
    files: Files,
    recorder: Recorder,
    /// The level that the service has asked for.
    asked: KeptLevel,
    /// The most that the device's owner lets it report.
    owner: KeptLevel,
    /// A failure to keep a level is said once, until one is kept.
    level_has_failed: bool,
    /// What init said of the clock last, and the monotonic time of that in seconds.
    clock: (Status, u64),
    /// The apps that init has admitted in this boot.
    apps: Vec<ClaimedApp>,
    network: NetworkCounters,
    network_at_s: u64,
    used_at_s: u64,
    written_at_s: u64,
    /// A failed write is said once, until one succeeds.
    write_has_failed: bool,
}

fn uptime_s() -> u64 {
    monotonic_ms() / 1000
}

/// A random number, for jitter.
fn random() -> Result<u64, ServiceError> {
    let [a, b, c, d, e, f, g, h, ..] = entropy::random().map_err(ServiceError::Random)?;
    Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn fresh_epoch() -> Result<Epoch, ServiceError> {
    Ok(Epoch(random()?.to_le_bytes()))
}

impl Service {
    fn begin(mut init: InitSocket<ReportRequest>) -> Result<Self, ServiceError> {
        let files = Files::new(Path::new(STATE_DIRECTORY));
        let clock = clock(&mut init)?;
        let now = moment(clock);
        let kept = |level| KeptLevel::begin(level, uptime_s());
        let asked = kept(files.level()?.unwrap_or_default());
        let owner = kept(files.owner_level()?.unwrap_or(Level::Full));
        let level = Level::effective(asked.said(), owner.said());
        let recorder = Recorder::begin(level, files.found()?, fresh_epoch()?, now);
        println!("recording at level {level} {}", event::REPORT_STARTED);
        let mut service = Self {
            init,
            files,
            recorder,
            asked,
            owner,
            level_has_failed: false,
            clock: (clock, uptime_s()),
            apps: Vec::new(),
            network: NetworkCounters::default(),
            network_at_s: 0,
            used_at_s: 0,
            written_at_s: uptime_s(),
            write_has_failed: false,
        };
        if level == Level::Off {
            // Power may have been cut after `off` was kept, and before everything was erased.
            let changes = service.recorder.set_level(level);
            service.carry_out(changes, now)?;
        }
        Ok(service)
    }

    fn now(&self) -> Moment {
        moment(self.clock.0)
    }

    /// Learns what has happened since the last time.
    fn ask_init(&mut self) -> Result<(), ServiceError> {
        let (reply, _) = self.init.ask(ReportRequest::Ends)?;
        let Reply::Ends(ends) = reply else {
            return Err(InitError::refused(reply).into());
        };
        // What the owner says holds before anything is recorded.
        if let Some(level) = ends.owner_level {
            self.owner.say(level, uptime_s());
        }
        self.apply_levels()?;
        self.look_at_clock()?;
        let now = self.now();
        if ends.is_first || self.apps.is_empty() {
            let (reply, _) = self.init.ask(ReportRequest::Claims)?;
            match reply {
                Reply::Claims(claims) => {
                    if ends.is_first {
                        self.record(told::boot(&claims), now)?;
                    }
                    self.apps = claims.apps;
                }
                // init's log says why.
                Reply::Failed => {}
                reply => return Err(InitError::refused(reply).into()),
            }
        }
        let mut ended = told::ended(&ends);
        self.take_crashes(&mut ended)?;
        self.take_panics(&mut ended)?;
        let updates = ends.updates.iter().map(|news| (now.uptime_s, told::update(news)));
        let ended = ended.into_iter().map(|told| (told.uptime_s, told.body));
        for (uptime_s, body) in ended.chain(updates) {
            let ago = now.uptime_s.saturating_sub(uptime_s);
            let at = now.at.map(|at| at.saturating_sub(ago));
            self.record(body, Moment { uptime_s, at })?;
        }
        self.look_at_network(now)?;
        self.look_at_use(now)?;
        if now.uptime_s.saturating_sub(self.written_at_s) >= WRITE_EVERY_S {
            self.write(now)?;
        }
        Ok(())
    }

    /// Takes what crashes have left, and puts places into the ends that they were.
    fn take_crashes(&mut self, told: &mut [ToldEnd]) -> Result<(), ServiceError> {
        let most = told.iter().filter(|told| told.crash.is_some()).count();
        for _ in 0..most {
            let (reply, handed) = self.init.ask(ReportRequest::Crash)?;
            match (reply, handed.into_iter().next()) {
                (Reply::Crash(left), Some(notes)) => {
                    if let Some(crash) = crashes::place(&left, notes) {
                        crashes::join(told, left.end, crash);
                    }
                }
                (Reply::NotFound, _) => break,
                (reply, _) => return Err(InitError::refused(reply).into()),
            }
        }
        Ok(())
    }

    /// Takes what programs have written last that may have panicked, and puts where they have into the ends that they were.
    fn take_panics(&mut self, told: &mut [ToldEnd]) -> Result<(), ServiceError> {
        let most = told.iter().filter(|told| told.output.is_some()).count();
        for _ in 0..most {
            match self.init.ask(ReportRequest::LastOutput)?.0 {
                Reply::LastOutput(written) => crashes::join_panic(told, &written),
                Reply::NotFound => break,
                reply => return Err(InitError::refused(reply).into()),
            }
        }
        Ok(())
    }

    /// Records when somebody has set the clock.
    fn look_at_clock(&mut self) -> Result<(), ServiceError> {
        let (status, uptime_s) = (clock(&mut self.init)?, uptime_s());
        let (before, at) = std::mem::replace(&mut self.clock, (status, uptime_s));
        let expected = before.seconds.saturating_add(uptime_s.saturating_sub(at));
        let seconds = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let step_s = seconds(status.seconds).saturating_sub(seconds(expected));
        let is_set = step_s.saturating_abs() >= LEAST_STEP_S;
        if is_set || before.source != status.source {
            let body = Clock { source: status.source, step_s, is_refused: false };
            self.record(Body::Clock(body), moment(status))?;
        }
        Ok(())
    }

    /// Now and then records what was refused to apps, and what they have sent.
    fn look_at_network(&mut self, now: Moment) -> Result<(), ServiceError> {
        let is_due = now.uptime_s.saturating_sub(self.network_at_s) >= NETWORK_EVERY_S;
        if self.apps.is_empty() || self.recorder.level() == Level::Off || !is_due {
            return Ok(());
        }
        self.network_at_s = now.uptime_s;
        let (reply, handed) = self.init.ask(ReportRequest::Network)?;
        let socket = match (reply, handed.into_iter().next()) {
            (Reply::Accepted, Some(socket)) => socket,
            // It is not there yet, or not any more.
            (Reply::NotFound | Reply::PermissionDenied | Reply::Failed, _) => return Ok(()),
            (reply, _) => return Err(InitError::refused(reply).into()),
        };
        let Some(status) = network_status(&socket) else {
            return Ok(());
        };
        let news = self.network.news(&status, &self.apps, now.uptime_s);
        news.into_iter().try_for_each(|body| self.record(body, now))
    }

    /// Once a day records what components have used, and how full partitions are.
    fn look_at_use(&mut self, now: Moment) -> Result<(), ServiceError> {
        let is_due = now.uptime_s.saturating_sub(self.used_at_s) >= USED_EVERY_S;
        if self.recorder.level() < Level::Full || !is_due {
            return Ok(());
        }
        self.used_at_s = now.uptime_s;
        let (reply, _) = self.init.ask(ReportRequest::Components)?;
        let Reply::Components(components) = reply else {
            return Err(InitError::refused(reply).into());
        };
        told::used(&components).into_iter().try_for_each(|body| self.record(body, now))?;
        match self.init.ask(ReportRequest::Fill)?.0 {
            Reply::Fill(fill) => {
                told::storage(&fill).into_iter().try_for_each(|body| self.record(body, now))
            }
            reply => Err(InitError::refused(reply).into()),
        }
    }

    fn record(&mut self, body: Body, now: Moment) -> Result<(), ServiceError> {
        self.recorder.record(body, now, random()?);
        Ok(())
    }

    /// Puts what waits into the spool.
    fn write(&mut self, now: Moment) -> Result<(), ServiceError> {
        self.written_at_s = now.uptime_s;
        match self.recorder.write(now) {
            Ok(changes) => self.carry_out(changes, now),
            Err(error) => {
                println!("cannot record: {} {}", chain(&error), event::REPORT_RECORD_FAILED);
                Ok(())
            }
        }
    }

    /// A change that fails is no reason to end: what waits is lost, and told once the medium takes something again.
    fn carry_out(&mut self, changes: Vec<Change>, now: Moment) -> Result<(), ServiceError> {
        if changes.is_empty() {
            return Ok(());
        }
        // Each is tried: what one file refuses does not keep another from being erased.
        let mut outcome = Ok(());
        for change in &changes {
            let done = self.files.carry_out(change);
            let ends = done.is_err() && !matches!(change, Change::Remove(_));
            outcome = outcome.and(done);
            if ends {
                break;
            }
        }
        let Err(error) = outcome else {
            self.write_has_failed = false;
            return Ok(());
        };
        if !std::mem::replace(&mut self.write_has_failed, true) {
            let failed = event::REPORT_SPOOL_FAILED;
            println!("cannot write the spool: {} {failed}", chain(&error));
        }
        let found = self.files.found().unwrap_or_default();
        self.recorder.write_failed(found, fresh_epoch()?, now);
        Ok(())
    }

    /// Serves one request of `uplink`. False where there is none.
    fn serve(&mut self, uplink: &OwnedFd, buffer: &mut [u8]) -> Result<bool, UplinkSocketError> {
        let Some((length, _)) = channel::try_receive_with(uplink, buffer)? else {
            return Ok(false);
        };
        let request = exchange::decode(buffer.get(..length).unwrap_or_default())?;
        let reply = self.answer(request).unwrap_or_else(|error| {
            println!("cannot answer uplink: {} {}", chain(&error), event::REPORT_REQUEST_FAILED);
            ReportExchangeReply::Nothing
        });
        channel::send_waiting(uplink, &exchange::encode(&reply)?)?;
        Ok(true)
    }

    fn answer(
        &mut self,
        request: ReportExchangeRequest,
    ) -> Result<ReportExchangeReply, ServiceError> {
        let now = self.now();
        Ok(match request {
            ReportExchangeRequest::IsDue => ReportExchangeReply::Due(self.recorder.is_due(now)),
            ReportExchangeRequest::Begin => {
                self.write(now)?;
                self.batch()?
            }
            ReportExchangeRequest::Next => self.batch()?,
            ReportExchangeRequest::Stored(through) => {
                self.recorder.stored(through, now);
                ReportExchangeReply::Done
            }
            ReportExchangeRequest::Failed => {
                self.recorder.failed(now, random()?);
                ReportExchangeReply::Done
            }
            ReportExchangeRequest::CheckedIn(outcome) => {
                self.record(Body::CheckIn(CheckIn { outcome, count: 1 }), now)?;
                ReportExchangeReply::Done
            }
            ReportExchangeRequest::SetLevel(level) => {
                self.asked.say(level, uptime_s());
                self.apply_levels()?;
                ReportExchangeReply::Done
            }
        })
    }

    fn batch(&self) -> Result<ReportExchangeReply, ServiceError> {
        // What could not be erased is not sent either.
        if self.recorder.level() == Level::Off {
            return Ok(ReportExchangeReply::Nothing);
        }
        Ok(match self.files.batch(&self.recorder)? {
            Some((bytes, through)) => ReportExchangeReply::Batch { bytes, through },
            None => ReportExchangeReply::Nothing,
        })
    }

    /// Keeps what was said, as far as it is to be written now, and carries it out. It holds even where it cannot be kept.
    fn apply_levels(&mut self) -> Result<(), ServiceError> {
        // Kept before what it lets be recorded changes: whatever is cut, the service begins with what was said.
        self.keep_levels();
        let level = Level::effective(self.asked.said(), self.owner.said());
        if level == self.recorder.level() {
            return Ok(());
        }
        println!("recording at level {level} from now on {}", event::REPORT_LEVEL_CHANGED);
        // What is to be forgotten is forgotten first.
        let changes = self.recorder.set_level(level);
        self.carry_out(changes, self.now())
    }

    fn keep_levels(&mut self) {
        let now = uptime_s();
        let (asked, owner) = (self.asked.to_write(now), self.owner.to_write(now));
        let kept_owner = owner
            .map(|level| self.files.keep_owner_level(level).map(|()| self.owner.written(level)));
        let kept_asked =
            asked.map(|level| self.files.keep_level(level).map(|()| self.asked.written(level)));
        match kept_owner.into_iter().chain(kept_asked).find_map(Result::err) {
            Some(error) if !std::mem::replace(&mut self.level_has_failed, true) => {
                let failed = event::REPORT_LEVEL_PERSIST_FAILED;
                println!("cannot keep the level of reports: {} {failed}", chain(&error));
            }
            Some(_) => {}
            None => self.level_has_failed = false,
        }
    }
}

/// Reads the one message that the network service writes to a socket. What does not come in time, or cannot be read, is asked for
/// again at the next look.
fn network_status(socket: &OwnedFd) -> Option<NetworkStatus> {
    let until = monotonic_ms().saturating_add(NETWORK_WITHIN_MS);
    // No more than the message has: few devices have one of the longest.
    let most = channel::next_length_until(socket, until).ok()??.min(MAX_STATUS_BYTES);
    let mut buffer = vec![0; most];
    let (length, _) = channel::receive_until(socket, &mut buffer, until).ok()??;
    NetworkStatus::decode(buffer.get(..length)?).ok()
}

fn clock(init: &mut InitSocket<ReportRequest>) -> Result<Status, ServiceError> {
    match init.ask(ReportRequest::Clock)? {
        (Reply::Clock(status), _) => Ok(status),
        (reply, _) => Err(InitError::refused(reply).into()),
    }
}

/// Now, with the time of the clock where somebody has told it.
fn moment(status: Status) -> Moment {
    let at = (status.source != Source::Floor).then(realtime_seconds);
    Moment { uptime_s: uptime_s(), at }
}
