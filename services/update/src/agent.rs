//! The agent's loop: how the last trial ended, which release is next, and its installation.

mod told;

use crate::assigned::Assignments;
use crate::bus::{Bus, State, UpdateStatus};
use crate::card::Card;
use crate::connection::{Connection, WaitError};
use crate::device::Source;
use crate::download::{Downloader, Offer};
use crate::install_error::InstallError;
use crate::news::{self, Told};
use crate::state::{self, StateError};
use crate::tried::Tried;
use crate::uplink::{Fetched, UplinkError};
use holdfast_linux::clock::{monotonic_ms, realtime_seconds};
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_linux::{PathError, file};
use holdfast_release::RepositoryName;
use holdfast_release::client::{Client, ClientError, raised_to};
use holdfast_release::config::{self, UpdateConfig};
use holdfast_release::factory_reset::orders;
use holdfast_release::feed::Feed;
use holdfast_release::fetch::Fetch;
use holdfast_release::metadata::Targets;
use holdfast_release::{Memory, Narrowing, Outcome, Staged, next_release};
use holdfast_sandbox::held::Held;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::policy::{APP_DIRECTORY, APP_STORE_DIRECTORY};
use holdfast_sandbox::wire::{Listener, Reply, UpdateOutcome, UpdateRequest};
use holdfast_types::encoding::EncodingError;
use holdfast_types::event::{self, Event};
use holdfast_types::{UpdateWait, Version};
use holdfast_types::{date, escaped_chain};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Interval in seconds at which uptime is counted down from the waits of postponed releases.
const UPTIME_SAVED_EVERY_S: u64 = 600;

/// Errors that end the agent; init starts it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    File(#[from] PathError),
    #[error("there is no {0}")]
    Missing(String),
    #[error("{} is damaged", config::UPDATE_FILE)]
    Config(#[source] EncodingError),
    #[error(transparent)]
    Wait(#[from] WaitError),
    #[error("cannot listen to apps")]
    Bus(#[source] io::Error),
}

/// Errors that end the check of one repository; the next check comes in time.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Refused(#[from] ClientError),
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error("cannot save the verified metadata")]
    State(#[from] StateError),
    #[error("cannot install release {version} of {subject}")]
    Install { subject: ReleaseSubject, version: String, source: InstallError },
}

impl PollError {
    /// Returns the event in which a line of the log with this error ends.
    fn event(&self) -> Event {
        match self {
            Self::Init(_) => event::update::UPDATE_SERVICE_FAILED,
            Self::Refused(_) => event::update::UPDATE_METADATA_REFUSED,
            Self::Uplink(_) => event::update::UPDATE_FETCH_FAILED,
            Self::State(_) => event::update::UPDATE_METADATA_PERSIST_FAILED,
            Self::Install { .. } => event::update::UPDATE_INSTALL_FAILED,
        }
    }
}

/// The update agent.
#[derive(Debug)]
pub(crate) struct Agent {
    connection: Connection,
    downloader: Downloader,
    config: UpdateConfig,
    /// Root of each repository, as the image has it.
    roots: Vec<(RepositoryName, Vec<u8>)>,
    memory: Memory,
    /// Digest of the bundle on the card that was checked last.
    seen: Option<[u8; 32]>,
    /// The OS release on trial, if this agent has staged it.
    trial: Option<Staged>,
    /// A release that exceeds the budget, with the version of the targets that offer it.
    declined: Option<(u32, ReleaseSubject, [u8; 32])>,
    /// What the service has assigned.
    assigned: Assignments,
    /// The D-Bus service for apps.
    bus: Bus,
    /// init was told that there is no objection to a commit.
    has_agreed: bool,
    /// A server was reached since the agent was started.
    has_reached: bool,
    failures: u32,
    /// What was told of releases.
    told: Told,
    /// Time up to which uptime was counted, in milliseconds of the monotonic clock.
    uptime_counted_at_ms: u64,
}

impl Agent {
    pub(crate) fn begin() -> Result<Self, AgentError> {
        let mut init = InitSocket::from_environment()?;
        let read = |name: &str, most| {
            let bytes = file::read_bounded(&Path::new(APP_DIRECTORY).join(name), most)?;
            bytes.ok_or_else(|| AgentError::Missing(name.to_owned()))
        };
        let bytes = read(config::UPDATE_FILE, config::MAX_ENCODED_BYTES)?;
        let config = UpdateConfig::decode(&bytes).map_err(AgentError::Config)?;
        let mut roots = Vec::new();
        for repository in &config.repositories {
            let root = read(&config::root_file(*repository), config::MAX_ROOT_BYTES)?;
            roots.push((*repository, root));
        }
        let bus = Bus::start(listeners(&mut init)?).map_err(AgentError::Bus)?;
        let store = Path::new(APP_STORE_DIRECTORY).to_owned();
        Ok(Self {
            connection: Connection::new(init),
            downloader: Downloader::new(store, config.most_bytes_a_release),
            bus,
            config,
            roots,
            memory: state::load_memory(),
            assigned: Assignments::load(),
            seen: None,
            trial: None,
            declined: None,
            has_agreed: false,
            has_reached: false,
            failures: 0,
            told: Told::default(),
            uptime_counted_at_ms: monotonic_ms(),
        })
    }

    /// Checks the last trial, cards and repositories once. Returns the milliseconds until the next check is due.
    pub(crate) fn poll_once(&mut self) -> Result<u64, AgentError> {
        self.connection.accept_uplink()?;
        let held = self.query_held()?;
        self.count_uptime();
        self.assigned.refresh(&mut self.connection);
        self.assigned.wait(None);
        if self.reconcile(&held)? {
            match self.assigned.barred() {
                // Another one may be assigned in its place.
                Some(subject) => self.take_back(subject)?,
                None => return self.reboot(),
            }
        }
        // One thing at a time: what is on trial comes to its end first.
        let may_install =
            !held.iter().any(|held| held.running.as_ref().is_some_and(|r| r.on_trial));
        if may_install && self.check_cards(&held)? {
            return self.reboot();
        }
        if self.connection.uplink.is_none() {
            return Ok(self.config.next_check_ms(0, random()));
        }
        let mut failed = false;
        for (repository, root) in self.roots.clone() {
            let looked = self.check_repository(repository, &root, &held, may_install);
            self.agree_if_reached()?;
            match looked {
                Ok(true) => return self.reboot(),
                Ok(false) => {}
                Err(PollError::Init(error)) => return Err(error.into()),
                Err(error) => {
                    println!("{repository}: {} {}", escaped_chain(&error), error.event());
                    failed = true;
                }
            }
        }
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        // A trial does not wait for long.
        let failures = if may_install { self.failures } else { 1 };
        let usual = self.config.check_every_s;
        let check_every_s = self.assigned.now().map_or(usual, |now| now.check_every_s(usual));
        Ok(self.config.every(check_every_s).next_check_ms(failures, random()))
    }

    /// Waits until a time of the monotonic clock in milliseconds, or until `uplink` connects.
    pub(crate) fn wait_until(&mut self, until: u64) -> Result<(), AgentError> {
        Ok(self.connection.wait_until(until)?)
    }

    /// Counts the uptime down from the waits of postponed releases.
    fn count_uptime(&mut self) {
        let now = monotonic_ms();
        let seconds = now.saturating_sub(self.uptime_counted_at_ms) / 1000;
        if seconds >= UPTIME_SAVED_EVERY_S {
            self.uptime_counted_at_ms = now;
            self.assigned.count_down(seconds);
            if self.memory.count_down(seconds) {
                self.save_memory();
            }
        }
    }

    /// Asks init for what the device holds of the OS and of each app.
    fn query_held(&mut self) -> Result<Vec<Held>, InitError> {
        match self.connection.init.ask(UpdateRequest::Held)? {
            (Reply::Held(held), _) => Ok(held),
            (reply, _) => Err(InitError::refused(reply)),
        }
    }

    /// Reconciles the record of releases with what runs. True while a staged release waits for the reboot.
    fn reconcile(&mut self, held: &[Held]) -> Result<bool, InitError> {
        let before = self.memory.clone();
        let outcome = self.memory.reconcile(held);
        match outcome {
            Some(Outcome::Waits(subject)) => {
                self.publish_status(State::Waiting, subject, None);
                return Ok(true);
            }
            Some(Outcome::OnTrial(staged)) => {
                let subject = staged.subject;
                let of_subject = held.iter().find(|held| held.subject == subject);
                let running = of_subject.and_then(|held| held.running.as_ref());
                self.publish_status(State::Trial, subject, running.map(|running| running.version));
                if subject == ReleaseSubject::Os {
                    self.trial = Some(staged);
                }
            }
            Some(Outcome::Committed(subject)) => {
                println!("{subject}: the new release is good {}", event::update::UPDATE_COMMITTED);
                self.tell_end(subject, UpdateOutcome::Committed, held)?;
            }
            Some(Outcome::FellBack(subject)) => {
                println!(
                    "{subject}: the new release has failed and is not tried again {}",
                    event::update::UPDATE_FELL_BACK
                );
                self.tell_end(subject, UpdateOutcome::FellBack, held)?;
            }
            Some(Outcome::Unreached(subject, wait_s)) => {
                let minutes = wait_s / 60;
                println!(
                    "{subject}: the new release did not reach the service, and is tried again in {minutes} minutes {}",
                    event::update::UPDATE_SERVER_UNREACHED
                );
            }
            None => {}
        }
        if !matches!(outcome, Some(Outcome::OnTrial(_))) {
            self.bus.publish(UpdateStatus::IDLE);
        }
        if self.memory != before {
            self.save_memory();
        }
        self.agree_if_reached()?;
        Ok(false)
    }

    /// Checks each card but the one that was checked last. True when a release was staged.
    fn check_cards(&mut self, held: &[Held]) -> Result<bool, InitError> {
        let disks = match self.connection.init.ask(UpdateRequest::OtherDisks)? {
            (Reply::Accepted, disks) => disks,
            (reply, _) => return Err(InitError::refused(reply)),
        };
        for disk in disks {
            let card = match Card::read(disk) {
                Ok(Some(card)) if self.seen != Some(card.digest) => card,
                Ok(_) => continue,
                Err(error) => {
                    let read_failed = event::update::UPDATE_CARD_READ_FAILED;
                    println!("{} {read_failed}", escaped_chain(&error));
                    continue;
                }
            };
            println!("a card with releases was found {}", event::update::UPDATE_CARD_FOUND);
            self.seen = Some(card.digest);
            self.connection.card = Some(card);
            let staged = self.check_card(held);
            self.connection.card = None;
            if staged? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn check_card(&mut self, held: &[Held]) -> Result<bool, InitError> {
        for (repository, root) in self.roots.clone() {
            match self.check_repository(repository, &root, held, true) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(PollError::Init(error)) => return Err(error),
                Err(error) => {
                    println!("{repository}: {} {}", escaped_chain(&error), error.event());
                }
            }
        }
        Ok(false)
    }

    /// Checks a repository, and installs the next release that it offers. True when one was staged. What is refused is told.
    fn check_repository(
        &mut self,
        repository: RepositoryName,
        root: &[u8],
        held: &[Held],
        may_install: bool,
    ) -> Result<bool, PollError> {
        let checked = self.take_from(repository, root, held, may_install);
        if let Err(PollError::Refused(error)) = &checked {
            self.tell(news::refused(error, news::running(held, ReleaseSubject::Os)))?;
        }
        checked
    }

    fn take_from(
        &mut self,
        repository: RepositoryName,
        root: &[u8],
        held: &[Held],
        may_install: bool,
    ) -> Result<bool, PollError> {
        let trusted = state::load_trusted(repository);
        let mut client = Client::begin(root, trusted.clone(), realtime_seconds())?;
        let refreshed = self.refresh(repository, &mut client);
        // What was verified counts, however it ended, and is kept in one piece.
        if *client.trusted() != trusted {
            state::save_trusted(repository, client.trusted())?;
        }
        refreshed?;
        self.raise_time(repository, &client)?;
        let Some(targets) = client.targets().filter(|_| may_install) else {
            return Ok(false);
        };
        if repository == RepositoryName::Oem
            && self.connection.card.is_some()
            && self.apply_reset_order(targets)?
        {
            return Ok(true);
        }
        self.take_next_release(repository, targets, held)
    }

    /// Raises the clock floor to the time when the targets were made, unless metadata of `os` has expired by then.
    fn raise_time(&mut self, repository: RepositoryName, run: &Client) -> Result<(), PollError> {
        let of_os = self.roots.iter().find(|(repository, _)| *repository == RepositoryName::Os);
        let of_os = of_os.filter(|_| repository != RepositoryName::Os);
        let os = of_os
            .map(|(os, root)| Client::begin(root, state::load_trusted(*os), realtime_seconds()));
        match raised_to(repository, run, os.transpose()?.as_ref()) {
            Some(seconds) => {
                self.connection.init.tell(UpdateRequest::RaiseTime(seconds))?;
            }
            None => {
                if let Some(issued) = run.issued().filter(|issued| *issued > realtime_seconds()) {
                    let at = date(issued);
                    println!(
                        "{repository}: cannot raise the clock to {at}: the metadata of os has expired by then {}",
                        event::update::UPDATE_CLOCK_RAISE_REFUSED
                    );
                }
            }
        }
        Ok(())
    }

    /// Passes the owner's orders to init; from a card alone, since whoever holds a server does not hold the device.
    /// True when the device is about to be reset.
    fn apply_reset_order(&mut self, targets: &Targets) -> Result<bool, InitError> {
        for order in orders(targets) {
            match self.connection.init.ask(UpdateRequest::Reset(order))?.0 {
                Reply::Accepted => {
                    let accepted = event::update::UPDATE_RESET_ACCEPTED;
                    println!(
                        "the owner's reset order is accepted: {} {accepted}",
                        order.partitions
                    );
                    return Ok(true);
                }
                // It was carried out before, or cannot be.
                Reply::NotFound | Reply::Failed => {}
                reply => return Err(InitError::refused(reply)),
            }
        }
        Ok(false)
    }

    fn refresh(
        &mut self,
        repository: RepositoryName,
        client: &mut Client,
    ) -> Result<(), PollError> {
        while let Some(wanted) = client.wants() {
            // One byte more, by which a file that is too long is known.
            let most_bytes = wanted.most_bytes.saturating_add(1);
            let path = format!("metadata/{}", wanted.name);
            let fetch = Fetch { repository, path, from: 0, most_bytes };
            let mut bytes = Vec::new();
            let fetched = self.connection.fetch(&fetch, |piece| {
                bytes.extend_from_slice(piece);
                Ok::<(), PollError>(())
            })?;
            self.has_reached |= self.connection.is_remote();
            match fetched {
                Fetched::All => client.take(bytes)?,
                Fetched::Missing => client.mark_missing()?,
            }
        }
        Ok(())
    }

    fn take_next_release(
        &mut self,
        repository: RepositoryName,
        targets: &Targets,
        held: &[Held],
    ) -> Result<bool, PollError> {
        let mut memory = self.memory.clone();
        if let Some((version, subject, root_hash)) = self.declined
            && version == targets.common.version
        {
            memory.mark_failed(subject, root_hash);
        }
        let device = &self.config.device;
        // Who stands before the device with a card may install what is signed.
        let is_remote = self.connection.is_remote();
        let assigned = self.assigned.now().filter(|_| is_remote);
        let feed = assigned.and_then(|assigned| assigned.feed());
        let feed = is_remote.then(|| Feed::followed(&self.config.feeds, feed));
        let narrowing = Narrowing { assigned, feed: feed.as_ref() };
        let next = next_release(targets, repository, device, held, &memory, narrowing);
        let Some((path, target, release)) = next else {
            // What is put off is tried again by itself, and is no reason.
            let untried = memory.without_failed();
            let untried = next_release(targets, repository, device, held, &untried, narrowing);
            if let Some((_, _, release)) = untried.filter(|_| assigned.is_some()) {
                // What failed here, or costs too much, was assigned.
                let has_failed = self.memory.has_failed(release.subject, release.root_hash());
                let waits =
                    if has_failed { UpdateWait::FailedBefore } else { UpdateWait::Declined };
                self.assigned.wait(Some(waits));
            }
            let version = targets.common.version;
            let up_to_date = event::update::UPDATE_UP_TO_DATE;
            println!("{repository}: nothing new in version {version} {up_to_date}");
            return Ok(false);
        };
        let (subject, version) = (release.subject, release.version);
        println!(
            "{subject}: fetching release {version}, {} bytes {}",
            target.length,
            event::update::UPDATE_DOWNLOAD_STARTED
        );
        self.publish_status(State::Fetching, subject, Some(version));
        let running = held.iter().find(|held| held.subject == subject);
        let running = running.and_then(|held| held.running.as_ref());
        let taken =
            self.take_release(Offer { repository, targets, path, target, release, running });
        if let (Err(InstallError::Costs(_)), Some(root_hash)) = (&taken, release.root_hash()) {
            self.declined = Some((targets.common.version, subject, root_hash));
        }
        if let (Err(error), Some(root_hash)) = (&taken, release.root_hash())
            && error.is_conclusive()
        {
            self.memory.mark_failed(subject, root_hash);
            self.save_memory();
        }
        if let (Err(InstallError::Mismatch(_)), Some(root_hash)) = (&taken, release.root_hash())
            && self.downloader.gave_up_slot()
            && self.connection.is_remote()
        {
            // A server that begins with the release and ends with something else has the slot written each time.
            let minutes = self.memory.postpone(subject, root_hash) / 60;
            println!(
                "{subject}: release {version} is tried again in {minutes} minutes {}",
                event::update::UPDATE_POSTPONED
            );
            self.save_memory();
        }
        if let Err(error) = &taken {
            self.bus.publish(UpdateStatus::IDLE);
            let fetched_bytes = self.connection.fetched_bytes;
            let tried =
                Tried { subject, from: news::running(held, subject), to: version, fetched_bytes };
            self.tell(news::not_installed(tried, error))?;
        }
        taken.map_err(|source| match source {
            InstallError::Init(error) => PollError::Init(error),
            source => PollError::Install { subject, version: version.to_string(), source },
        })?;
        println!("{subject}: release {version} is staged {}", event::update::UPDATE_STAGED);
        self.publish_status(State::Waiting, subject, Some(version));
        Ok(true)
    }

    /// Has a release written, verified and staged, and records it.
    fn take_release(&mut self, offer: Offer<'_>) -> Result<(), InstallError> {
        let root_hash = offer.release.root_hash().ok_or(InstallError::NoHash)?;
        let (subject, to) = (offer.release.subject, offer.release.version);
        let from = offer.running.map_or_else(Version::default, |running| running.version);
        self.connection.fetched_bytes = 0;
        let staged = Staged { subject, root_hash, reached: self.has_reached };
        let memory = &mut self.memory;
        self.downloader.take(offer, &mut self.connection, || {
            memory.begin_staging(staged);
            state::save_memory(memory)
        })?;
        self.memory.mark_staged();
        let from_service = self.connection.is_remote();
        self.assigned.stage(from_service.then_some((subject, to)));
        state::save_memory(&self.memory)?;
        // Its loss costs a report its versions, and the release nothing.
        let fetched_bytes = self.connection.fetched_bytes;
        state::save_tried(&Tried { subject, from, to, fetched_bytes });
        Ok(())
    }

    /// Asks for the reboot, unless the window is closed or an app defers it. Returns the milliseconds until the next
    /// try.
    fn reboot(&mut self) -> Result<u64, AgentError> {
        const MAX_WAIT_S: u64 = 3600;
        const ASK_AGAIN_MS: u64 = 1000;
        let opens_in = self.config.window.map_or(0, |window| window.opens_in(realtime_seconds()));
        let opens_in = opens_in.max(self.assigned.opens_in());
        let deferred_ms = self.bus.reboot_in();
        let waits = if opens_in > 0 { UpdateWait::Window } else { UpdateWait::Deferred };
        self.assigned.wait((opens_in > 0 || deferred_ms > 0).then_some(waits));
        if opens_in == 0 && deferred_ms > 0 {
            // An app may have nothing against it any more.
            return Ok(deferred_ms.min(ASK_AGAIN_MS));
        }
        if opens_in == 0 {
            self.connection.init.tell(UpdateRequest::Reboot)?;
        } else {
            println!(
                "the reboot waits {} minutes for the maintenance window {}",
                opens_in / 60,
                event::update::UPDATE_REBOOT_SCHEDULED
            );
        }
        // The clock may be set meanwhile.
        Ok(opens_in.clamp(60, MAX_WAIT_S).saturating_mul(1000))
    }
}

/// Asks init for the apps with access to the update interface, and the sockets at which they connect.
fn listeners(init: &mut InitSocket<UpdateRequest>) -> Result<Vec<(Listener, OwnedFd)>, InitError> {
    match init.ask(UpdateRequest::Listeners)? {
        (Reply::Listeners(apps), sockets) if apps.len() == sockets.len() => {
            Ok(apps.into_iter().zip(sockets).collect())
        }
        (reply, _) => Err(InitError::refused(reply)),
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    // Without it, every device looks at the same moment.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u32::from_ne_bytes(bytes)
}
