//! The loop that init spends its life in: what it hears becomes events, and what the reducer makes of them is done.

mod attestation;
mod ends;
mod orders;
mod requests;

use crate::app_store;
use crate::app_uids::{AppUids, DATA};
use crate::boot_loader;
use crate::clock::Clock;
use crate::component::{Component, Room, Supervised};
use crate::floors::Floors;
use crate::log::Log;
use crate::network;
use crate::package::{self, Gate};
use crate::slots::Slots;
use crate::start_error::StartError;
use crate::starter::Starter;
use crate::supervise::orders::Look;
use holdfast_lifecycle::console::Console;
use holdfast_lifecycle::ends::{EndLog, Left};
use holdfast_lifecycle::exit::{self, Exit};
use holdfast_lifecycle::patience::PET_EVERY_MS;
use holdfast_lifecycle::reducer::{Effect, End, Event, Level, Setup, State};
use holdfast_linux::channel::{self, InitEnd};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::poll::Poll;
use holdfast_linux::signal::{Signal, SignalDescriptor};
use holdfast_linux::spawn;
use holdfast_linux::wait;
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, block, cgroup, memory, storage, sysctl};
use holdfast_sandbox::component::{ComponentList, ImageDescription, Service, Stored};
use holdfast_sandbox::held;
use holdfast_sandbox::notify::Notification;
use holdfast_sandbox::policy::pools;
use holdfast_sandbox::policy::shares::{self, Machine};
use holdfast_types::event::init as event;
use holdfast_types::{ComponentId, chain};
use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Limits are looked at no more often than this, in milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;

/// Something init cannot go on without.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    #[error("cannot prepare component {name}")]
    Prepare { name: String, source: StartError },
    #[error("cannot prepare the start of components")]
    Starter(#[from] StartError),
    #[error("cannot make a setting of the kernel")]
    Setting(#[from] PathError),
    #[error("cannot {operation}")]
    Kernel { operation: &'static str, source: io::Error },
}

fn kernel(operation: &'static str) -> impl FnOnce(io::Error) -> SuperviseError {
    move |source| SuperviseError::Kernel { operation, source }
}

/// All components, until the system ends.
#[derive(Debug)]
pub(crate) struct Supervision<'log> {
    log: &'log Log,
    signals: SignalDescriptor,
    watchdog: Option<Watchdog>,
    starter: Starter,
    image: ImageDescription,
    /// The service that validates packages and orders.
    admission: Option<Service>,
    /// An order that the update agent has asked for.
    look: Option<Look>,
    /// The next look for an order begins no sooner, in milliseconds of the monotonic clock.
    next_look: u64,
    app_uids: AppUids,
    components: Vec<Supervised>,
    /// Every app of the image, whether its package is used or not.
    apps: Vec<ComponentId>,
    slots: Slots,
    clock: Clock,
    /// The reducer, which decides.
    state: State,
    /// How components have ended, where a service reports it; without one, nothing is kept.
    ends: Option<EndLog<OwnedFd>>,
    /// Limits were last asked at this time what they have stopped, in milliseconds of the monotonic clock.
    looked_at: u64,
    /// The budget of the console that all components share.
    console: Console,
    /// The end of the system, once nothing runs any more.
    ended: Option<End>,
}

/// The parts of the device that init alone changes.
#[derive(Debug)]
pub(crate) struct Holdings {
    pub(crate) slots: Slots,
    pub(crate) clock: Clock,
    pub(crate) app_uids: AppUids,
}

/// Up to when everything that components said has been heard. Deadlines are judged by this time and no later
/// one: what keeps init is not held against a component.
#[derive(Debug, Clone, Copy)]
struct Heard(u64);

/// Measures the machine's memory and storage for components. The services have theirs in any case.
fn machine(log: &Log, services: &[Component]) -> Result<Machine, PathError> {
    // That the partition is lost is said already.
    let storage_kib = storage::capacity_kib(Path::new(DATA))?;
    let machine = Machine { storage_kib, ..Machine::running(memory::total_kib()?) };
    let taken = services.iter().map(|service| shares::memory_kib(&service.plan));
    let taken = taken.fold(0, u64::saturating_add);
    let all = machine.memory_kib;
    if taken > all {
        let text = format!(
            "the services may take {taken} KiB of memory, and the machine has {all} KiB: no app is started"
        );
        log.warning(event::MEMORY_OVERCOMMITTED, &text);
    }
    Ok(machine)
}

/// The disk on which the kernel limits what components write, by its number. That it cannot is said, where somebody
/// writes.
fn limited_disk(log: &Log, somebody_writes: bool) -> Result<Option<String>, PathError> {
    if !somebody_writes {
        return Ok(None);
    }
    if !cgroup::limits_writes()? {
        let text = "cannot limit what apps write to the medium: this kernel has no io controller (BLK_CGROUP and \
                    BLK_DEV_THROTTLING)";
        log.warning(event::WRITE_LIMIT_UNSUPPORTED, text);
        return Ok(None);
    }
    block::root_disk_number()
}

/// Returns the chain of causes for the reducer's lines; `None` where nothing failed.
fn error_text(outcome: Result<(), impl Error>) -> Option<String> {
    outcome.err().map(|error| chain(&error))
}

impl<'log> Supervision<'log> {
    /// Makes ready for every component: services of the list, and apps whose packages are admitted.
    /// Nothing runs yet.
    pub(crate) fn prepare(
        log: &'log Log,
        list: ComponentList,
        held: Holdings,
        watchdog: Option<Watchdog>,
    ) -> Result<Self, SuperviseError> {
        let Holdings { slots, clock, mut app_uids } = held;
        // Before anything is started: until then the kernel drops SIGTERM and SIGINT, as it does for a PID 1 that handles
        // neither (kill(2)), and whoever sends one would wait for an end that does not come.
        let signals = SignalDescriptor::open().map_err(kernel("watch for signals"))?;
        let mut starter = Starter::prepare()?;
        // Services come first: apps are admitted to what these leave of the machine.
        let mut ready = Vec::new();
        for service in list.services {
            let (name, uid, plan) = (service.name, service.uid, service.plan);
            ready.push(Component { name, uid, plan, package: None });
        }
        let began = monotonic_ms();
        let machine = machine(log, &ready)?;
        for app in &list.apps {
            let gate = Gate {
                log,
                watchdog: watchdog.as_ref(),
                began,
                starter: &starter,
                image: &list.image,
                admission: list.admission.as_ref(),
                peripherals: &list.peripherals,
                machine,
                earlier: &ready,
            };
            match package::admit(gate, &mut app_uids, app) {
                Ok(mut component) => {
                    if list.image.debugged.as_ref() == Some(&component.name) {
                        let text = format!("{} waits for a debugger", component.name);
                        log.warning(event::APP_DEBUGGED, &text);
                        component.be_debugged();
                        starter.hold(component.uid);
                    }
                    ready.push(component);
                }
                Err(error) => {
                    let what = format!("{} is not started", app.name);
                    log.failure(event::APP_REFUSED, &what, &error);
                }
            }
        }
        // Known only now: each pool of the kernel has room for the shares of all that were admitted (decision 28).
        let plans = ready.iter().map(|component| &component.plan);
        for (name, value) in pools::of_all(plans.clone()) {
            sysctl::set(name, &value)?;
        }
        // Without a network service no device is ever switched on: nothing comes or goes that these settings are about.
        if plans.clone().any(|plan| plan.requests.veths) {
            network::harden(plans)?;
        }
        let disk = limited_disk(log, ready.iter().any(|component| component.plan.stores()))?;
        let is_reported = ready.iter().any(|component| component.plan.requests.report);
        let mut components = Vec::with_capacity(ready.len());
        for component in ready {
            let name = component.name.clone();
            let supervised = Supervised::prepare(log, component, disk.as_deref(), is_reported)
                .map_err(|source| SuperviseError::Prepare { name, source })?;
            components.push(supervised);
        }
        let setup = Setup {
            components: components.iter().map(Supervised::setup).collect(),
            slot: slots.running(),
            slot_on_trial: slots.is_on_trial(),
        };
        Ok(Self {
            log,
            signals,
            watchdog,
            starter,
            image: list.image,
            admission: list.admission,
            look: None,
            next_look: 0,
            app_uids,
            console: Console::new(components.len()),
            ends: is_reported.then(EndLog::default),
            components,
            apps: list.apps.iter().map(|app| app.component_id).collect(),
            slots,
            clock,
            state: State::new(setup, monotonic_ms()),
            looked_at: 0,
            ended: None,
        })
    }

    /// Starts and restarts components until the system is to end and all of them have.
    pub(crate) fn run(&mut self) -> Result<End, SuperviseError> {
        loop {
            self.take_signals()?;
            // Before anything is heard: a slow console may keep init here for seconds, and what components say meanwhile
            // must be heard before their deadlines are judged.
            self.write_outputs();
            let heard = self.hear_components();
            self.look_for_order();
            self.look_at_limits();
            self.reap()?;
            // A component that has just missed a deadline is not ready any more when health is judged.
            self.act(Event::Deadline { heard: heard.0 });
            self.act(Event::Judge { heard: heard.0 });
            if let Some(end) = self.ended {
                return Ok(end);
            }
            // What came before may have written to the medium.
            self.pet();
            self.wait_for_events(heard)?;
            self.pet();
        }
    }

    /// Lets the reducer decide, and does what it says, one thing behind the other.
    ///
    /// The outcome of an effect is an event in its turn. That ends: no outcome asks for what it came of.
    fn act(&mut self, event: Event) {
        for effect in self.state.step(event, monotonic_ms()) {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Log(Level::Notice, event, line) => self.log.notice(event, &line),
            Effect::Log(Level::Warning, event, line) => self.log.warning(event, &line),
            Effect::Log(Level::Error, event, line) => self.log.error(event, &line),
            Effect::LogStatus(line) => self.log.status(&line),
            Effect::Pet => self.pet(),
            Effect::Start(component) => self.start(component),
            Effect::Kill(component) => self.kill(component),
            Effect::Abort(component) => self.abort(component),
            Effect::Terminate(component) => self.terminate(component),
            Effect::Collect { component, exit } => self.collect(component, exit),
            Effect::RecordEnd { component, cause, ran_ms } => {
                self.record_end(component, cause, ran_ms);
            }
            Effect::HurryWrites(component) => {
                if let Some(supervised) = self.components.get_mut(component) {
                    supervised.hurry_writes(self.log);
                }
            }
            Effect::RaiseFloor(component) => self.raise_floor(component),
            Effect::CommitSlot => {
                let outcome = self.slots.commit(self.log, &mut self.app_uids);
                let outcome = outcome.map_err(|error| chain(&error));
                self.act(Event::SlotCommitted { good: self.slots.is_good(), outcome });
            }
            Effect::CommitClock => self.clock.commit_floor(self.log),
            Effect::CommitPackage(component) => self.commit_package(component),
            Effect::RenewBootLoader => boot_loader::renew(self.log, self.watchdog.as_ref()),
            Effect::RenewTries => self.slots.renew_again(self.log),
            Effect::GiveUpPackage(component) => {
                if let Some(id) = self.component_id(component) {
                    let error = error_text(app_store::give_up(id));
                    self.act(Event::PackageGivenUp { component, error });
                }
            }
            Effect::CheckPrevious(component) => {
                if let Some(id) = self.component_id(component) {
                    let floor = self.app_uids.of(held::ReleaseSubject::App(id));
                    let may_run = package::may_run(&self.image, id, floor, Stored::Previous);
                    self.act(Event::PreviousChecked { component, refusal: error_text(may_run) });
                }
            }
            Effect::FallBack(component) => {
                if let Some(id) = self.component_id(component) {
                    let error = error_text(app_store::fall_back(id));
                    self.act(Event::FellBack { component, error });
                }
            }
            Effect::Reply(component, reply) => self.reply(component, &reply, &[]),
            Effect::End(end) => self.ended = Some(end),
        }
    }

    /// Shows the watchdog that init is alive. An end that takes too long is not alive.
    fn pet(&self) {
        if let Some(watchdog) = &self.watchdog
            && self.state.is_alive(monotonic_ms())
        {
            watchdog.pet();
        }
    }

    fn component_id(&self, index: usize) -> Option<ComponentId> {
        let package = self.components.get(index)?.component.package.as_ref()?;
        Some(package.header.component_id)
    }

    fn commit_package(&mut self, component: usize) {
        let package = self.components.get_mut(component).and_then(|c| c.component.package.as_mut());
        if let Some(package) = package
            && let Some(left) = package.trial
        {
            let outcome = app_store::commit(package.header.component_id, left);
            // Otherwise its file still has the name of a trial, and whoever asks what is held is told so.
            if outcome.is_ok() {
                package.trial = None;
            }
            self.act(Event::PackageCommitted { component, error: error_text(outcome) });
        }
    }

    /// Reports what limits have stopped while components run, now and then.
    fn look_at_limits(&mut self) {
        let now = monotonic_ms();
        // A component that prints or asks much has the loop turn often, and a look reads several files of each group.
        if now.saturating_sub(self.looked_at) < LOOK_EVERY_MS {
            return;
        }
        self.looked_at = now;
        for supervised in self.components.iter_mut().filter(|c| c.running.is_some()) {
            supervised.log_events(self.log);
        }
    }

    fn wait_for_events(&self, heard: Heard) -> Result<(), SuperviseError> {
        let now = monotonic_ms();
        let mut poll = Poll::new();
        poll.add(self.signals.descriptor());
        // The watchdog is petted before and behind this wait, and nowhere within it.
        let mut wait_ms = PET_EVERY_MS;
        for supervised in &self.components {
            let running = supervised.running.as_ref();
            let signs = running.and_then(|running| running.signs.as_ref());
            let requests = running.and_then(|running| running.requests.as_ref());
            let pipes = [supervised.output(), signs, requests.map(InitEnd::requests)];
            pipes.into_iter().flatten().for_each(|pipe| poll.add(pipe));
        }
        if let Some(at) = self.state.deadline(heard.0) {
            wait_ms = wait_ms.min(at.saturating_sub(now));
        }
        if let Some(look) = &self.look {
            look.output().into_iter().for_each(|output| poll.add(output));
            wait_ms = wait_ms.min(look.deadline().saturating_sub(now));
        }
        poll.wait(wait_ms).map_err(kernel("wait for events"))
    }

    fn start(&mut self, component: usize) {
        let Some(supervised) = self.components.get_mut(component) else {
            return;
        };
        let outcome = match supervised.start(&self.starter) {
            Ok(running) => {
                supervised.running = Some(running);
                supervised.starts = supervised.starts.saturating_add(1);
                supervised.was_out_of_memory = false;
                Event::Started { component }
            }
            Err(error) => Event::StartFailed { component, error: chain(&error) },
        };
        self.act(outcome);
    }

    /// Asks a program to end. It may have ended already; it is then reaped like any other.
    fn terminate(&self, component: usize) {
        if let Some(running) = self.components.get(component).and_then(|c| c.running.as_ref()) {
            // Its number is still its own: a child keeps it until it is reaped, which init alone does (wait(2)).
            let _ = spawn::terminate(running.pid);
        }
    }

    /// Has a program abort, so that the kernel notes where it was. Without somebody who reports that, nothing is waited for.
    fn abort(&self, component: usize) {
        let running = self.components.get(component).and_then(|c| c.running.as_ref());
        match (&self.ends, running) {
            // A program that cannot be asked is killed once its grace is over.
            (Some(_), Some(running)) => drop(spawn::abort(running.pid)),
            _ => self.kill(component),
        }
    }

    fn take_signals(&mut self) -> Result<(), SuperviseError> {
        while let Some(signal) = self.signals.next().map_err(kernel("read signals"))? {
            match signal {
                Signal::Child => {} // The children are reaped in any case.
                Signal::Reboot => self.act(Event::EndSignalled { end: End::Reboot }),
                Signal::PowerOff => self.act(Event::EndSignalled { end: End::PowerOff }),
            }
        }
        Ok(())
    }

    /// Writes what components printed: the console may take its time.
    fn write_outputs(&mut self) {
        let (log, console) = (self.log, &mut self.console);
        for (index, supervised) in self.components.iter_mut().enumerate() {
            supervised.log_output(&mut Room { log, console, index, now: monotonic_ms() });
        }
    }

    /// Reads what components have said, all that lay there when it began.
    fn hear_components(&mut self) -> Heard {
        let heard = Heard(monotonic_ms());
        for index in 0..self.components.len() {
            self.hear_component(index);
            self.hear_request(index);
        }
        heard
    }

    /// Reads what a component has said.
    fn hear_component(&mut self, component: usize) {
        let Some(supervised) = self.components.get_mut(component) else {
            return;
        };
        let Notification { ready, watchdog, report_level, .. } = supervised.hear();
        let may_say = supervised.component.plan.sets_report_level;
        if let (Some(level), Some(ends)) = (report_level.filter(|_| may_say), &mut self.ends) {
            ends.set_owner_level(level);
        }
        if ready || watchdog {
            self.act(Event::Notified { component, ready, watchdog });
        }
    }

    fn raise_floor(&mut self, index: usize) {
        let package = self.components.get(index).and_then(|c| c.component.package.as_ref());
        if let Some(package) = package {
            let header = &package.header;
            let app = held::ReleaseSubject::App(header.component_id);
            self.app_uids.raise(self.log, app, header.rollback_index);
        }
    }

    fn reap(&mut self) -> Result<(), SuperviseError> {
        while let Some((pid, exit)) = wait::reap().map_err(kernel("reap processes"))? {
            // Others are orphans that PID 1 has adopted, and its own children that look at cards or introduce services: they
            // are reaped, since each zombie keeps a number and a slot of the system's limit, and nothing follows from them.
            let of_pid = |c: &Supervised| c.running.as_ref().is_some_and(|r| r.pid == pid);
            if let Some(component) = self.components.iter().position(of_pid) {
                self.act(Event::StubEnded { component, exit });
            }
        }
        Ok(())
    }

    /// Hears and writes what a program has left, and learns how it ended.
    fn collect(&mut self, index: usize, exit: Exit) {
        self.hear_component(index);
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        // Its last words stand above the line on its end as well.
        let (log, console) = (self.log, &mut self.console);
        let mut room = Room { log, console, index, now: monotonic_ms() };
        supervised.log_last_output(&mut room);
        let running = supervised.running.take();
        let status = running.as_ref().map(|running| channel::read_status(&running.status));
        // Its pipes end here.
        let crash = running.and_then(|running| running.crash);
        // A stub that was killed has left no status; its own end then stands for the program's.
        let (exit, dumped) = match status {
            Some(Ok(Some(status))) => (Exit::from_raw(status), exit::dumped(status)),
            _ => (exit, None),
        };
        supervised.keep_left(exit, dumped, crash.as_ref(), &mut room);
        // Above the line on its end, of which it may be the reason.
        supervised.log_events(self.log);
        supervised.last_exit = Some(exit.raw());
        let exited = Event::Exited {
            component: index,
            exit,
            memory_peak_kib: supervised.cgroup.usage().map_or(0, |usage| usage.memory_peak / 1024),
            package_is_damaged: supervised.package_is_corrupt(),
            was_out_of_memory: supervised.was_out_of_memory,
        };
        self.act(exited);
        // Of an end that was asked for, nothing is told.
        if let Some(supervised) = self.components.get_mut(index) {
            supervised.left_at_end = Left::default();
        }
    }

    /// Takes every package out of use; nothing runs any more.
    pub(crate) fn release_packages(&self) {
        for supervised in &self.components {
            if let Some(mounted) = &supervised.component.package {
                package::unmount(self.log, mounted);
            }
        }
    }

    fn kill(&self, index: usize) {
        if let Some(supervised) = self.components.get(index)
            && let Err(error) = supervised.cgroup.kill()
        {
            let what = format!("cannot kill {}", supervised.component.name);
            self.log.failure(event::COMPONENT_KILL_FAILED, &what, &error);
        }
    }
}
