//! One component as init holds it: its plan, its supervisor, and what runs now.

use crate::app_store::APPS;
use crate::app_uids::DATA;
use crate::boot::NOTIFY_DIRECTORY;
use crate::log::Log;
use crate::mounted::Mounted;
use crate::network;
use crate::start_error::StartError;
use crate::starter::{Started, Starter, Surroundings, limited_group};
use holdfast_lifecycle::console::Console;
use holdfast_lifecycle::ends::Left;
use holdfast_lifecycle::exit::Exit;
use holdfast_lifecycle::group_events;
use holdfast_lifecycle::last_output::LastOutput;
use holdfast_lifecycle::log_line::LineAssembler;
use holdfast_lifecycle::reducer;
use holdfast_lifecycle::supervision::State;
use holdfast_lifecycle::writes::{Rate, Step, WriteBudget};
use holdfast_linux::cgroup::{Cgroup, GroupEvents};
use holdfast_linux::channel::{self, InitEnd, ListeningSocket, NotifyPath};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::core_directory::CoreDirectory;
use holdfast_linux::device::open_device;
use holdfast_linux::mount::{self, Access};
use holdfast_linux::network_namespace::NetworkNamespace;
use holdfast_linux::spawn::Pid;
use holdfast_linux::{PathError, gpio, storage};
use holdfast_sandbox::app_manifest::{Limits, UpdateAccess};
use holdfast_sandbox::notify::Notification;
use holdfast_sandbox::peripheral::{self, BoardPeripheral};
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::policy::{IDENTITY_SOCKET, Network, Plan, Root, Source, UPDATE_SOCKET};
use holdfast_sandbox::wire;
use holdfast_sandbox::wire::{ComponentState, ComponentStatus};
use holdfast_types::event::init as event;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directory of what services keep.
const STATE: &str = "/state/services";
const LOST_STATE: &str = "/run/lost-state";
const LOST_APPS: &str = "/run/lost-apps";
/// KiB that a service which keeps something on `state` leaves for init: floors, uids and a seed, each replaced whole.
const STATE_RESERVE_KIB: u64 = 1024;

/// Bytes that are read of a component's output in one turn.
const PAGE: usize = 4096;
/// Most pages of an ended program that are read before its end is recorded: what a pipe holds (pipe(7)). A program that has made its
/// pipe larger hides where itself has panicked, and nothing else.
const MOST_LAST_PAGES: usize = 16;

/// A component that may be started.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) plan: Plan,
    /// The package of an app.
    pub(crate) package: Option<Mounted>,
}

impl Component {
    /// Leaves to the debugger when the component is ready and whether it is alive.
    pub(crate) fn be_debugged(&mut self) {
        self.plan.readiness = Readiness::Started;
        self.plan.watchdog_ms = None;
        self.plan.critical = false;
    }
}

/// A component and everything init keeps for it between its starts.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) component: Component,
    pub(crate) cgroup: Cgroup,
    pub(crate) notify: NotifyPath,
    /// At which it calls the update agent, if it has to do with updates.
    pub(crate) updates: Option<ListeningSocket>,
    /// At which it calls `identity`, if it authenticates as a part of the device.
    pub(crate) identity: Option<ListeningSocket>,
    pub(crate) lines: LineAssembler,
    pub(crate) running: Option<Running>,
    /// The output of its last program that nobody has read yet.
    left: Option<OwnedFd>,
    /// The counts of its control group at the last look.
    pub(crate) events: GroupEvents,
    /// Its budget of writes to the medium, where it has storage there and the kernel can limit that.
    writes: Option<Writes>,
    pub(crate) starts: u32,
    /// Its network namespace, for an app with grants on the network.
    pub(crate) network: Option<NetworkNamespace>,
    /// Raw wait status of the last end.
    pub(crate) last_exit: Option<i32>,
    /// The kernel has ended a process of it since its start, because memory ran out.
    pub(crate) was_out_of_memory: bool,
    /// What the program has left that ended just now, until its end is recorded.
    pub(crate) left_at_end: Left<OwnedFd>,
    /// What it has written last, where somebody reports failures.
    written: Option<LastOutput>,
    /// What is still unread of an ended program belongs to no end: the next program begins without.
    rest_is_nobodys: bool,
}

/// The writes of one component.
#[derive(Debug)]
struct Writes {
    /// Number of the disk.
    disk: String,
    budget: WriteBudget,
}

/// The log for the lines of one component, as far as the console has room for them.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    pub(crate) log: &'a Log,
    pub(crate) console: &'a mut Console,
    /// The component's place.
    pub(crate) index: usize,
    /// Milliseconds of the monotonic clock.
    pub(crate) now: u64,
}

impl Room<'_> {
    fn write(&mut self, name: &str, lines: &[&str]) -> bool {
        let taken = self.console.take(self.index, name, lines, self.now);
        if taken {
            lines.iter().for_each(|line| self.log.component(name, line));
        }
        taken
    }
}

/// The process of a component with its pipes, while it runs.
#[derive(Debug)]
pub(crate) struct Running {
    /// The process id of its stub.
    pub(crate) pid: Pid,
    /// The pipe in which its stub leaves the raw wait status of the program.
    pub(crate) status: OwnedFd,
    /// `None` once the program has closed its end.
    pub(crate) output: Option<OwnedFd>,
    /// The pipe by which its stub hands on notifications; `None` once the stub is gone.
    pub(crate) signs: Option<OwnedFd>,
    /// The way to a service that may ask for something; `None` once it has closed its end.
    pub(crate) requests: Option<InitEnd>,
    /// Where the kernel notes a crash of it.
    pub(crate) crash: Option<CoreDirectory>,
}

impl Supervised {
    /// `disk`: number of the disk on which writes are limited, where they are; `is_reported`: somebody reports how components end.
    pub(crate) fn prepare(
        log: &Log,
        component: Component,
        disk: Option<&str>,
        is_reported: bool,
    ) -> Result<Self, StartError> {
        let Component { name, uid, plan, package } = &component;
        let cgroup = limited_group(name, *uid, &plan.limits)?;
        let writes = disk.filter(|_| plan.stores()).and_then(|disk| {
            // An app that cannot be limited is started all the same: the medium has lasted so far.
            let begun = limit_writes(&cgroup, disk, &plan.limits).inspect_err(|error| {
                let what = format!("{name}: cannot limit what it writes");
                log.failure(event::WRITE_LIMIT_FAILED, &what, error);
            });
            begun.ok()
        });
        // Made once, and not at each start: link, addresses and firewall of an app outlive its programs.
        let network = match plan.network {
            Network::Granted(_) => Some(network::prepare(name, *uid)?),
            Network::None | Network::System => None,
        };
        let run = Path::new(NOTIFY_DIRECTORY);
        Ok(Self {
            network,
            notify: NotifyPath::prepare(run, name, *uid)?,
            updates: (plan.updates != UpdateAccess::None)
                .then(|| ListeningSocket::bind(run, name, UPDATE_SOCKET, *uid))
                .transpose()?,
            identity: (plan.catalog.is_some() && package.is_some())
                .then(|| ListeningSocket::bind(run, name, IDENTITY_SOCKET, *uid))
                .transpose()?,
            lines: LineAssembler::new(plan.limits.log_lines_per_second),
            running: None,
            left: None,
            starts: 0,
            last_exit: None,
            was_out_of_memory: false,
            left_at_end: Left::default(),
            written: is_reported.then(LastOutput::default),
            rest_is_nobodys: false,
            // The group may have a past; what is told later are differences.
            events: cgroup.events()?,
            writes,
            cgroup,
            component,
        })
    }

    /// Starts the program with what its plan grants, and nothing else.
    pub(crate) fn start(&self, starter: &Starter) -> Result<Running, StartError> {
        let Component { name, plan, uid, package } = &self.component;
        let (output, output_child) = channel::output_pipe().map_err(StartError::Channel)?;
        // init opens, since it may; the component gets what is open, and can open no other. What is not there is found before
        // there is a process: a component is started in full or not at all.
        let mut devices = Vec::new();
        for path in &plan.descriptors {
            devices.push(open_device(Path::new(path))?);
        }
        let mut peripherals = Vec::new();
        for peripheral in &plan.peripherals {
            peripherals.push(open_peripheral(peripheral, name)?);
        }
        let opened = devices.iter().map(AsFd::as_fd).chain(peripherals.iter().map(AsFd::as_fd));
        let mut handed: Vec<_> = opened.map(|device| (None, device)).collect();
        // New for each start: what an earlier program has left in a channel is not this one's.
        let requests = if plan.requests.any() {
            Some(channel::request_channel().map_err(StartError::Channel)?)
        } else {
            None
        };
        if let Some((_, theirs)) = &requests {
            handed.push((Some(wire::REQUESTS_VARIABLE), theirs.requests.as_fd()));
            handed.push((Some(wire::REPLIES_VARIABLE), theirs.answers.as_fd()));
        }
        let stored = match (&plan.root, package) {
            (Root::Own(mounts), Some(package)) => {
                let id = package.header.component_id.to_string();
                for mount in mounts {
                    if let Source::Storage(kib) = mount.source {
                        // Owner and quota are set at each start: the package may ask for other room
                        // than before.
                        storage::open(Path::new(DATA), &id, *uid, kib)?;
                    }
                }
                Some(Path::new(DATA).join(id))
            }
            _ => None,
        };
        let kept = kept(plan, name, *uid)?;
        let tree = |source: &Source| match source {
            Source::State | Source::AppStore => {
                kept.iter().find(|(of, _)| of == source).map(|(_, path)| path.clone())
            }
            Source::Package => package.as_ref().map(|package| package.path.clone()),
            Source::Storage(_) => stored.clone(),
            Source::Notify => Some(self.notify.directory().to_owned()),
            Source::Resolver => Some(network::resolver(&self.component.name)),
            _ => None,
        };
        let surroundings = Surroundings {
            uid: *uid,
            network: self.network.as_ref(),
            cgroup: &self.cgroup,
            input: None,
            output: &output_child,
            notify: Some(&self.notify),
        };
        let Started { pid, status, signs, crash } =
            starter.start_plan(plan, &surroundings, handed, tree)?;
        let requests = requests.map(|(ours, _)| ours);
        Ok(Running { pid, status, output: Some(output), signs: Some(signs), requests, crash })
    }

    /// Returns the part of it that the reducer decides by.
    pub(crate) fn setup(&self) -> reducer::Component {
        let Component { name, plan, package, .. } = &self.component;
        reducer::Component {
            name: name.clone(),
            readiness: plan.readiness,
            watchdog_ms: plan.watchdog_ms,
            restart: plan.restart,
            critical: plan.critical,
            stable_for_ms: plan.stable_for_ms,
            package: package.as_ref().map(|package| match package.trial {
                Some(_) => reducer::Package::OnTrial,
                None => reducer::Package::Current,
            }),
            agrees: plan.requests.update,
        }
    }

    /// Reads what the program has said by `sd_notify` since the last look, as its stub has heard it.
    pub(crate) fn hear(&mut self) -> Notification {
        let Some(running) = &mut self.running else {
            return Notification::default();
        };
        match running.signs.as_ref().map(channel::hear) {
            Some(Ok(Some(heard))) => heard,
            // A closed pipe stays readable for ever: stop polling it.
            Some(Ok(None) | Err(_)) => {
                running.signs = None;
                Notification::default()
            }
            None => Notification::default(),
        }
    }

    /// Returns the pipe with what the program prints next, or with what an ended one has left.
    pub(crate) fn output(&self) -> Option<&OwnedFd> {
        self.left.as_ref().or_else(|| self.running.as_ref()?.output.as_ref())
    }

    /// Reads what the program printed, up to a page, and logs its finished lines as far as `room` lets it.
    pub(crate) fn log_output(&mut self, room: &mut Room<'_>) {
        let Some(output) = self.output() else {
            return;
        };
        // A page a turn: a program that prints without end does not keep init from the others.
        let mut buffer = [0u8; PAGE];
        let read = channel::read(output, &mut buffer);
        let name = &self.component.name;
        if let Ok(Some(length)) = read {
            let bytes = buffer.get(..length).unwrap_or_default();
            let is_nobodys = self.left.is_some() && self.rest_is_nobodys;
            if let Some(written) = self.written.as_mut().filter(|_| !is_nobodys) {
                written.push(bytes);
            }
            self.lines.push(bytes, room.now, &mut |lines| room.write(name, lines));
        }
        match (self.left.is_some(), read) {
            // Nobody writes any more: what fills no page was the last.
            (true, Ok(Some(PAGE))) => {}
            (true, _) => self.forget_output(room),
            // A closed pipe stays readable for ever: stop polling it.
            (false, Ok(Some(0)) | Err(_)) => {
                if let Some(running) = &mut self.running {
                    running.output = None;
                }
            }
            (false, Ok(_)) => {}
        }
    }

    /// Logs what an ended program has left unread, page by page, the first one now.
    pub(crate) fn log_last_output(&mut self, room: &mut Room<'_>) {
        // Two starts in a row may leave more than is kept: the rest of the earlier one goes.
        if self.left.is_some() {
            self.forget_output(room);
        }
        self.left = self.running.as_mut().and_then(|running| running.output.take());
        self.rest_is_nobodys = false;
        self.log_output(room);
    }

    /// Drops what is still unread of an ended program.
    fn forget_output(&mut self, room: &mut Room<'_>) {
        self.left = None;
        let name = &self.component.name;
        self.lines.flush(&mut |lines| room.write(name, lines));
    }

    /// Keeps what the program has left that ended just now, until its end is recorded. The notes of a crash are opened and no more: that
    /// takes no longer for a component that crashes often, and its memory stays the component's own (kernel document
    /// `admin-guide/cgroup-v2`, memory). `dumped` is the signal for which the kernel wrote notes.
    pub(crate) fn keep_left(
        &mut self,
        exit: Exit,
        dumped: Option<i32>,
        directory: Option<&CoreDirectory>,
        room: &mut Room<'_>,
    ) {
        if exit.may_be_panic() && self.written.is_some() {
            // A panic is the last that a program writes. How long the console takes for it is bounded, and so is what is read.
            for _ in 1..MOST_LAST_PAGES {
                if self.left.is_none() {
                    break;
                }
                self.log_output(room);
            }
        }
        self.rest_is_nobodys = true;
        let written = self.written.as_mut().map(LastOutput::take);
        let signal = dumped.filter(|_| self.written.is_some());
        // Without a file there is nothing to tell but the end.
        let crash = signal.and_then(|signal| Some((signal, directory?.file().ok()?)));
        self.left_at_end = Left { crash, output: written.filter(|_| exit.may_be_panic()) };
    }

    /// Says what its limits have stopped since the last look.
    pub(crate) fn log_events(&mut self, log: &Log) {
        // The kernel counts from the group's beginning: a look that fails is made up for by the next.
        if let Ok(events) = self.cgroup.events() {
            let (name, before) = (&self.component.name, self.events);
            self.events = events;
            self.was_out_of_memory |= events.ended > before.ended;
            let limits = &self.component.plan.limits;
            for (event, text) in group_events::told(name, before, events, limits) {
                log.warning(event, &text);
            }
        }
        self.look_at_writes(log);
    }

    /// Counts what it has written to the medium, and slows it down when that is enough for a day.
    fn look_at_writes(&mut self, log: &Log) {
        let Some(Writes { disk, budget }) = &mut self.writes else {
            return;
        };
        let name = &self.component.name;
        // It is counted from the kernel's own sum: a look that is missed loses nothing.
        let Ok(written) = self.cgroup.written(disk) else {
            return;
        };
        for step in budget.look(monotonic_ms(), written) {
            match step {
                Step::Tell(event, text) => log.warning(event, &format!("{name} {text}")),
                Step::Set(rate) => {
                    if let Err(error) = self.cgroup.limit_writes(disk, Some(rate)) {
                        let what = format!("{name}: cannot change how fast it writes");
                        log.failure(event::WRITE_LIMIT_FAILED, &what, &error);
                    }
                }
            }
        }
    }

    /// Lets what it has written reach the medium at once: the system ends.
    pub(crate) fn hurry_writes(&mut self, log: &Log) {
        // The last sync would otherwise wait for as long as the limit has it.
        if let Some(Writes { disk, .. }) = self.writes.take()
            && let Err(error) = self.cgroup.limit_writes(&disk, None)
        {
            let what = format!("{}: cannot lift the limit of its writes", self.component.name);
            log.failure(event::WRITE_LIMIT_FAILED, &what, &error);
        }
    }

    /// Returns its state and what it uses, for services that may ask.
    pub(crate) fn status(&self, state: State) -> ComponentStatus {
        // It is shown to people; nothing is decided by it.
        let usage = self.cgroup.usage().unwrap_or_default();
        let kib = |bytes: u64| u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        ComponentStatus {
            name: self.component.name.clone(),
            state: match state {
                State::Waiting(_) => ComponentState::Waiting,
                State::Starting => ComponentState::Starting,
                State::Ready => ComponentState::Ready,
                State::Killed | State::Stopping(_) => ComponentState::Stopping,
                State::Stopped => ComponentState::Stopped,
            },
            uid: self.component.uid,
            memory_kib: kib(usage.memory),
            memory_peak_kib: kib(usage.memory_peak),
            processes: u32::try_from(usage.processes).unwrap_or(u32::MAX),
            restarts: self.starts.saturating_sub(1),
            last_exit: self.last_exit,
        }
    }

    /// True when a block of its package did not fit its hash.
    pub(crate) fn package_is_corrupt(&self) -> bool {
        let package = self.component.package.as_ref();
        // A device that does not answer proves no damage, and a package is not given up for it.
        package.is_some_and(|package| package.device.is_corrupt().unwrap_or(false))
    }
}

/// Sets how fast a group may write to a disk. Its first day begins.
fn limit_writes(cgroup: &Cgroup, disk: &str, limits: &Limits) -> Result<Writes, PathError> {
    cgroup.limit_writes(disk, Some(Rate::of(limits)))?;
    let budget = WriteBudget::new(*limits, monotonic_ms(), cgroup.written(disk)?);
    Ok(Writes { disk: disk.to_owned(), budget })
}

/// Prepares the directories that a service keeps things in. A partition that is lost is stood in for by memory: the device can
/// be updated all the same.
fn kept(plan: &Plan, name: &str, uid: u32) -> Result<Vec<(Source, PathBuf)>, PathError> {
    let mut kept = Vec::new();
    let Root::Own(mounts) = &plan.root else {
        return Ok(kept);
    };
    for source in mounts.iter().map(|mount| &mount.source) {
        let path = match source {
            Source::State => {
                let own = mount::make_directory(Path::new(STATE))
                    .and_then(|()| {
                        storage::open_but(Path::new(STATE), name, uid, STATE_RESERVE_KIB)
                    })
                    .map(|_| Path::new(STATE).join(name));
                own.or_else(|_| {
                    let stand_in = stand_in(LOST_STATE)?;
                    storage::own(stand_in, name, uid).map(|_| stand_in.join(name))
                })?
            }
            Source::AppStore => {
                let give = |path: &Path| storage::give(path, uid).map(|()| path.to_owned());
                give(Path::new(APPS)).or_else(|_| give(stand_in(LOST_APPS)?))?
            }
            _ => continue,
        };
        kept.push((source.clone(), path));
    }
    Ok(kept)
}

/// Memory of its own, in the place of a partition: whoever fills it fills nothing of init's.
fn stand_in(path: &'static str) -> Result<&'static Path, PathError> {
    let path = Path::new(path);
    let device = |path: &Path| path.symlink_metadata().map(|metadata| metadata.dev()).ok();
    mount::make_directory(path)?;
    // On the device of its parent, nothing is mounted here yet: one stand-in serves every start.
    if device(path) == path.parent().and_then(device) {
        let options = [("mode", Some("0755")), ("size", Some("1m"))];
        mount::mount("tmpfs", None, path, Access::default(), &options)?;
    }
    Ok(path)
}

/// A peripheral as an app gets it: a line that nobody else has, a serial line that passes every byte.
fn open_peripheral(granted: &BoardPeripheral, component: &str) -> Result<OwnedFd, StartError> {
    match &granted.access {
        peripheral::Access::Line { chip, line } => Ok(gpio::take_line(chip, *line, component)?),
        peripheral::Access::Device(path) => Ok(open_device(Path::new(path))?),
    }
}
