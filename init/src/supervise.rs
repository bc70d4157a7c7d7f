//! The loop that init spends its life in.

mod orders;
mod requests;

use crate::app_store;
use crate::boot_loader;
use crate::clock::Clock;
use crate::component::{Component, Room, Starter, Supervised};
use crate::floors::Floors;
use crate::identities::{DATA, Identities};
use crate::log::Log;
use crate::network;
use crate::package::{self, Gate};
use crate::slots::Slots;
use crate::start_error::StartError;
use crate::supervise::orders::Look;
use holdfast_lifecycle::console::Console;
use holdfast_lifecycle::patience::PET_EVERY_MS;
use holdfast_lifecycle::slots::{Agreement, DOES_NOT_AGREE, Health, Member, Verdict};
use holdfast_lifecycle::supervision::Action;
use holdfast_linux::channel::{self, InitEnd};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::poll::Poll;
use holdfast_linux::power::End;
use holdfast_linux::signal::{Signal, SignalDescriptor};
use holdfast_linux::wait::{self, Exit};
use holdfast_linux::watchdog::Watchdog;
use holdfast_linux::{PathError, block, cgroup, memory, storage, sysctl};
use holdfast_sandbox::component::{ComponentList, ImageIdentity, Recovery, Service, Stored};
use holdfast_sandbox::policy::shares::{self, Machine};
use holdfast_sandbox::policy::{Readiness, pools};
use holdfast_types::ComponentId;
use std::io;
use std::path::Path;

/// An end that takes longer is left to the watchdog, in milliseconds.
const END_WITHIN_MS: u64 = 20_000;
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
    image: ImageIdentity,
    /// Who looks at packages, and for orders.
    admission: Option<Service>,
    /// An order that the update agent has asked for.
    look: Option<Look>,
    /// When the next look for an order may begin.
    next_look: u64,
    identities: Identities,
    components: Vec<Supervised>,
    /// Every app of the image, whether its package is used or not.
    apps: Vec<ComponentId>,
    slots: Slots,
    clock: Clock,
    health: Health,
    agreement: Agreement,
    /// When limits were last asked what they have stopped.
    looked_at: u64,
    /// What all components together write to.
    console: Console,
    ending: Option<Ending>,
}

/// What init alone holds of the device.
#[derive(Debug)]
pub(crate) struct Holdings {
    pub(crate) slots: Slots,
    pub(crate) clock: Clock,
    pub(crate) identities: Identities,
}

/// The system is to end.
#[derive(Debug, Clone, Copy)]
struct Ending {
    how: End,
    since: u64,
}

/// Up to when everything that components said has been heard. Deadlines are judged by this time and no later
/// one: what keeps init is not held against a component.
#[derive(Debug, Clone, Copy)]
struct Heard(u64);

/// What the machine has for its components. The services have theirs in any case.
fn machine(log: &Log, services: &[Component]) -> Result<Machine, PathError> {
    // That the partition is lost is said already.
    let storage_kib = storage::capacity_kib(Path::new(DATA))?;
    let machine = Machine { storage_kib, ..Machine::running(memory::total_kib()?) };
    let taken = services.iter().map(|service| shares::memory_kib(&service.plan));
    let taken = taken.fold(0, u64::saturating_add);
    let all = machine.memory_kib;
    if taken > all {
        log.warning(&format!(
            "the services may take {taken} KiB of memory, and the machine has {all} KiB: no app is started"
        ));
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
        log.warning(
            "what apps write to the medium is not limited: this kernel has no io controller (BLK_CGROUP and \
             BLK_DEV_THROTTLING)",
        );
        return Ok(None);
    }
    block::root_disk_number()
}

/// The components that decide whether this boot is healthy: critical ones, and apps on trial.
fn critical(components: &[Supervised], now: u64) -> Vec<Member> {
    let counts = |c: &Supervised| c.component.plan.critical || c.trial().is_some();
    let members = components.iter().enumerate().filter(|(_, c)| counts(c));
    members
        .map(|(index, supervised)| {
            let plan = &supervised.component.plan;
            let ready_within_ms = match plan.readiness {
                Readiness::Notify { within_ms } => within_ms,
                Readiness::Started => 0,
            };
            Member::new(index, ready_within_ms, plan.stable_for_ms, now)
        })
        .collect()
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
        let Holdings { slots, clock, mut identities } = held;
        let signals = SignalDescriptor::open().map_err(kernel("watch for signals"))?;
        let mut starter = Starter::prepare()?;
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
            match package::admit(gate, &mut identities, app) {
                Ok(mut component) => {
                    if list.image.debugged.as_ref() == Some(&component.name) {
                        log.warning(&format!("{} waits for a debugger", component.name));
                        component.be_debugged();
                        starter.hold(component.uid);
                    }
                    ready.push(component);
                }
                Err(error) => log.failure(&format!("{} is not started", app.name), &error),
            }
        }
        let plans = ready.iter().map(|component| &component.plan);
        for (name, value) in pools::of_all(plans.clone()) {
            sysctl::set(name, &value)?;
        }
        if plans.clone().any(|plan| plan.requests.links) {
            network::harden(plans)?;
        }
        let disk = limited_disk(log, ready.iter().any(|component| component.plan.stores()))?;
        let mut components = Vec::with_capacity(ready.len());
        for component in ready {
            let name = component.name.clone();
            let supervised = Supervised::prepare(log, component, disk.as_deref())
                .map_err(|source| SuperviseError::Prepare { name, source })?;
            components.push(supervised);
        }
        let now = monotonic_ms();
        let health = Health::new(now, critical(&components, now));
        Ok(Self {
            log,
            signals,
            watchdog,
            starter,
            image: list.image,
            admission: list.admission,
            look: None,
            next_look: 0,
            identities,
            console: Console::new(components.len()),
            components,
            apps: list.apps.iter().map(|app| app.component_id).collect(),
            slots,
            clock,
            health,
            agreement: Agreement::NotNeeded,
            looked_at: 0,
            ending: None,
        })
    }

    /// Starts and restarts components until the system is to end and all of them have.
    pub(crate) fn run(&mut self) -> Result<End, SuperviseError> {
        let agent = self.components.iter().position(|c| c.component.plan.requests.update);
        if let (Some(agent), true) = (agent, self.slots.is_on_trial()) {
            self.agreement = Agreement::awaited(agent, monotonic_ms());
        }
        loop {
            self.take_signals()?;
            self.write_outputs();
            let heard = self.hear_components();
            self.look_for_order();
            self.look_at_limits();
            self.reap()?;
            self.act_on_deadlines(heard);
            self.judge_health(heard.0);
            if let Some(Ending { how, .. }) = self.ending
                && self.components.iter().all(|c| c.running.is_none())
            {
                return Ok(how);
            }
            // What came before may have written to the medium.
            self.pet();
            self.wait_for_events(heard)?;
            self.pet();
        }
    }

    /// Starts and ends what is due. Whoever has said in time that it is ready or alive has been heard.
    fn act_on_deadlines(&mut self, heard: Heard) {
        let is_due =
            |c: &Supervised| c.supervisor.deadline().is_some_and(|deadline| deadline <= heard.0);
        for index in 0..self.components.len() {
            if self.components.get(index).is_some_and(is_due) {
                self.pet();
                self.act_on_deadline(index, heard.0);
            }
        }
        // The last start may have taken most of the watchdog's time, and a commit comes next.
        self.pet();
    }

    /// Shows the watchdog that init is alive. An end that takes too long is not alive.
    fn pet(&self) {
        let took = |end: Ending| monotonic_ms().saturating_sub(end.since);
        let hangs = self.ending.is_some_and(|end| took(end) > END_WITHIN_MS);
        if let (Some(watchdog), false) = (&self.watchdog, hangs) {
            watchdog.pet();
        }
    }

    /// Commits the slot once every critical component is stable, and ends a run in which one is not:
    /// a release on trial has then failed, a good slot is started anew.
    fn judge_health(&mut self, now: u64) {
        if self.ending.is_some() {
            return;
        }
        for (index, supervised) in self.components.iter().enumerate() {
            self.health.observe(index, supervised.supervisor.ready_since(), now);
        }
        match self.verdict(now) {
            Verdict::Healthy if !self.slots.is_committed() => self.commit(),
            Verdict::Healthy | Verdict::Pending(_) => {}
            Verdict::Failed(index) => {
                // A good slot is not given up for a component: it has booted, and updates come
                // through it. Its tries are back already, unless they could not be saved.
                if !self.slots.is_on_trial() && !self.slots.is_committed() {
                    self.slots.renew_again(self.log);
                }
                self.end(End::Reboot);
                if let Some(failed) = self.components.get(index) {
                    let name = &failed.component.name;
                    let why = match self.health.verdict(now) {
                        Verdict::Healthy => DOES_NOT_AGREE,
                        _ => "does not stay ready",
                    };
                    self.log.warning(&format!("not healthy: {name} {why}"));
                    self.give_up_package(index);
                }
            }
        }
    }

    fn verdict(&self, now: u64) -> Verdict {
        self.agreement.weigh(self.health.verdict(now), now)
    }

    /// Everything that is on trial has proved to be healthy.
    fn commit(&mut self) {
        self.slots.commit(self.log, &mut self.identities);
        self.clock.commit_floor(self.log);
        for index in 0..self.components.len() {
            self.commit_package(index);
        }
        if self.slots.is_good() {
            boot_loader::renew(self.log, self.watchdog.as_ref());
        }
    }

    /// A package on trial has proved to be healthy.
    fn commit_package(&mut self, index: usize) {
        let Some((supervised, (id, left))) =
            self.components.get_mut(index).and_then(|c| c.trial().map(|trial| (c, trial)))
        else {
            return;
        };
        let name = supervised.component.name.clone();
        if let Err(error) = app_store::commit(id, left) {
            self.log.failure(&format!("{name}: its new package is not committed"), &error);
            return;
        }
        if let Some(package) = &mut supervised.component.package {
            package.trial = None;
        }
        if !supervised.component.plan.critical {
            self.health.forget(index);
        }
        self.log.notice(&format!("{name}: its new package is committed"));
        self.pet();
        self.raise_floor(index);
    }

    /// A package on trial has failed.
    fn give_up_package(&self, index: usize) {
        let supervised = self.components.get(index);
        if let Some((supervised, (id, _))) = supervised.and_then(|c| Some((c, c.trial()?))) {
            let name = &supervised.component.name;
            match app_store::give_up(id) {
                Ok(()) => self.log.warning(&format!("{name}: its new package is given up")),
                Err(error) => {
                    self.log.failure(&format!("{name}: its new package stays"), &error);
                }
            }
        }
    }

    /// When health is to be judged again.
    fn health_deadline(&self, now: u64) -> Option<u64> {
        match self.verdict(now) {
            Verdict::Pending(at) => Some(at),
            Verdict::Healthy | Verdict::Failed(_) => None,
        }
    }

    /// Reports what limits have stopped while components run, now and then.
    fn look_at_limits(&mut self) {
        let now = monotonic_ms();
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
        let mut wait_ms = PET_EVERY_MS;
        for supervised in &self.components {
            let running = supervised.running.as_ref();
            let signs = running.and_then(|running| running.signs.as_ref());
            let requests = running.and_then(|running| running.requests.as_ref());
            let pipes = [supervised.output(), signs, requests.map(InitEnd::requests)];
            pipes.into_iter().flatten().for_each(|pipe| poll.add(pipe));
            if let Some(deadline) = supervised.supervisor.deadline() {
                wait_ms = wait_ms.min(deadline.saturating_sub(now));
            }
        }
        if let Some(at) = self.health_deadline(heard.0) {
            wait_ms = wait_ms.min(at.saturating_sub(now));
        }
        if let Some(look) = &self.look {
            look.output().into_iter().for_each(|output| poll.add(output));
            wait_ms = wait_ms.min(look.deadline().saturating_sub(now));
        }
        poll.wait(wait_ms).map_err(kernel("wait for events"))
    }

    fn act_on_deadline(&mut self, index: usize, now: u64) {
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        let name = supervised.component.name.clone();
        match supervised.supervisor.on_deadline(now) {
            Action::None | Action::Terminate => {}
            Action::Start => match supervised.start(&self.starter) {
                Ok(running) => {
                    supervised.running = Some(running);
                    // Its time begins when it runs.
                    supervised.supervisor.on_started(monotonic_ms());
                    supervised.starts = supervised.starts.saturating_add(1);
                    self.log.notice(&format!("{name} started"));
                    if !supervised.reports_readiness() {
                        self.raise_floor(index);
                    }
                }
                Err(error) => {
                    self.log.failure(&format!("{name} cannot be started"), &error);
                    // Whatever was made of it goes with it.
                    self.kill(index);
                    // The pause begins when the start has failed, which may have taken seconds.
                    self.schedule_restart(index, monotonic_ms(), false);
                }
            },
            Action::Kill(fault) => {
                self.log.warning(&format!("{name} {}: killed", fault.as_str()));
                self.kill(index);
            }
        }
    }

    fn take_signals(&mut self) -> Result<(), SuperviseError> {
        while let Some(signal) = self.signals.next().map_err(kernel("read signals"))? {
            match signal {
                Signal::Child => {} // The children are reaped in any case.
                Signal::Reboot => self.end(End::Reboot),
                Signal::PowerOff => self.end(End::PowerOff),
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
    fn hear_component(&mut self, index: usize) {
        let now = monotonic_ms();
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        let heard = supervised.hear();
        let ready =
            heard.ready && supervised.supervisor.on_ready(now) && supervised.reports_readiness();
        if ready {
            self.log.notice(&format!("{} is ready", supervised.component.name));
        }
        if heard.watchdog {
            supervised.supervisor.on_watchdog(now);
        }
        if ready {
            self.raise_floor(index);
        }
    }

    /// A release of an app that got ready is not gone back from.
    fn raise_floor(&mut self, index: usize) {
        let package = self.components.get(index).and_then(|c| c.component.package.as_ref());
        if let Some(package) = package.filter(|package| package.trial.is_none()) {
            let header = &package.header;
            let app = holdfast_sandbox::held::Component::App(header.component_id);
            self.identities.raise(self.log, app, header.rollback_index);
        }
    }

    fn reap(&mut self) -> Result<(), SuperviseError> {
        let now = monotonic_ms();
        while let Some((pid, exit)) = wait::reap().map_err(kernel("reap processes"))? {
            let of_pid = |c: &Supervised| c.running.as_ref().is_some_and(|r| r.pid == pid);
            if let Some(index) = self.components.iter().position(of_pid) {
                self.on_exit(index, exit, now);
            }
        }
        Ok(())
    }

    /// The stub has ended, and with it everything in its namespace.
    fn on_exit(&mut self, index: usize, exit: Exit, now: u64) {
        // Whatever else is in its group ends with it.
        self.kill(index);
        // What it has said last, its stub has handed on before it ended.
        self.hear_component(index);
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        let (log, console) = (self.log, &mut self.console);
        supervised.log_last_output(&mut Room { log, console, index, now });
        let status = supervised.running.take().map(|running| channel::read_status(&running.status));
        // A stub that was killed has left no status; its own end then stands for the program's.
        let exit = match status {
            Some(Ok(Some(status))) => Exit::from_raw(status),
            _ => exit,
        };
        supervised.log_events(self.log);
        supervised.last_exit = Some(exit.raw());
        let name = &supervised.component.name;
        let peak = supervised.cgroup.usage().map_or(0, |usage| usage.memory_peak / 1024);
        self.log.notice(&format!("{name} ended with {exit}, memory peak {peak} KiB"));
        if supervised.package_is_corrupt() {
            self.log.warning(&format!("{name}: its package is damaged; it is not started again"));
            supervised.supervisor.stop(now);
            self.fall_back(index);
        }
        self.schedule_restart(index, now, exit.is_success());
    }

    /// The package of an app is damaged: if there is a better one, the system starts again with that.
    fn fall_back(&mut self, index: usize) {
        let package = self.components.get(index).and_then(|c| c.component.package.as_ref());
        let Some((id, on_trial)) = package.map(|p| (p.header.component_id, p.trial.is_some()))
        else {
            return;
        };
        let floor = self.identities.of(holdfast_sandbox::held::Component::App(id));
        let may_run = || match package::may_run(&self.image, id, floor, Stored::Previous) {
            Ok(()) => true,
            Err(refusal) => {
                self.log.failure("its previous package cannot take its place", &refusal);
                false
            }
        };
        match Recovery::of(on_trial, may_run) {
            Recovery::GiveUpTrial => self.give_up_package(index),
            Recovery::FallBack => match app_store::fall_back(id) {
                Ok(()) => self.log.notice("its previous package takes its place"),
                Err(error) => {
                    self.log.failure("its previous package cannot take its place", &error);
                    return;
                }
            },
            Recovery::Stay => return,
        }
        self.end(End::Reboot);
    }

    fn schedule_restart(&mut self, index: usize, now: u64, well: bool) {
        let Some(supervised) = self.components.get_mut(index) else {
            return;
        };
        let name = &supervised.component.name;
        if let Some(restart) = supervised.supervisor.on_exit(now, well) {
            let delay = restart.delay_ms;
            self.log.notice(&format!("{name} will be started again in {delay} ms"));
            if restart.crash_loop {
                self.log.warning(&format!("{name} is in a crash loop"));
            }
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
            self.log.failure(&format!("cannot kill {}", supervised.component.name), &error);
        }
    }

    /// Asks every component to end. The first request decides how the system does.
    fn end(&mut self, end: End) {
        if self.ending.is_some() {
            return;
        }
        let now = monotonic_ms();
        self.ending = Some(Ending { how: end, since: now });
        self.log.notice("stopping all components");
        for supervised in &mut self.components {
            supervised.stop(now);
            supervised.hurry_writes(self.log);
        }
    }
}
