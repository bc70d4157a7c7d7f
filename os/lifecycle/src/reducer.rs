//! What init does when something happens to a component or to the system: a reducer, from events to effects.
//!
//! [`State::step`] does nothing itself. init turns what it hears into [`Event`]s and carries out the [`Effect`]s in
//! their order. What becomes of an effect is an event of its own, taken at once: the effects that follow from it come
//! before those that are left of the step before. Lines of the log are effects too.
//!
//! ```text
//!   Deadline ──> [Pet, Start(2), Kill(4), Pet]
//!                      └─> Started(2) ──> [Log "NAME started", RaiseFloor(2)]
//! ```
//!
//! Time is passed in as milliseconds of the monotonic clock. Deadlines are judged by the time up to which everything
//! that components said has been heard, which an event brings along, and by no later one: what keeps init is not
//! held against a component.

mod component;
mod effect;
mod event;
mod supervised;

pub use component::{Component, Package};
pub use effect::{Effect, Level};
pub use event::{End, Event};

use effect::{failure, notice, warning};
use supervised::{Life, Supervised};

use crate::breadcrumb::{Breadcrumb, Reason, Unhealthy};
use crate::patience::END_WITHIN_MS;
use crate::slots::{Agreement, Health, Member, Slot, Verdict};
use crate::supervision::{self, Action};
use holdfast_sandbox::component::Recovery;
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::wire::{EndCause, ManageRequest, Reply};
use holdfast_types::Millis;
use holdfast_types::event::init as log_event;
use serde::{Deserialize, Serialize};

/// The components, and the state of the slot when supervision begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// In their start order. Events and effects name a component by its place here.
    pub components: Vec<Component>,
    /// The slot that runs.
    pub slot: Slot,
    /// That slot has not been good before: if it fails now, it fails as a release.
    pub slot_on_trial: bool,
}

/// Every component, and the system.
#[derive(Debug, Clone)]
pub struct State {
    components: Vec<Supervised>,
    slot: Slot,
    slot_on_trial: bool,
    commit: Commit,
    health: Health,
    agreement: Agreement,
    ending: Option<Ending>,
}

/// The progress of the commit in this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// Nothing was tried.
    NotBegun,
    /// It was begun, and its outcome is not known.
    Begun,
    /// It was tried.
    Over,
}

/// The system is to end.
#[derive(Debug, Clone, Copy)]
struct Ending {
    end: End,
    since: Millis,
}

/// Makes the line of an app that keeps its damaged package, since its previous one is refused or cannot be renamed.
fn cannot_fall_back(name: &str, causes: &str) -> Effect {
    let what = format!("{name}: cannot fall back to its previous package");
    failure(log_event::APP_FALLBACK_FAILED, &what, causes)
}

impl State {
    /// Makes a state in which nothing runs, and every component is to be started at once.
    #[must_use]
    pub fn new(setup: Setup, now: Millis) -> Self {
        let counts = |c: &Component| c.critical || c.package == Some(Package::OnTrial);
        let members = setup.components.iter().enumerate().filter(|(_, c)| counts(c));
        let members = members.map(|(index, component)| {
            let ready_within_ms = match component.readiness {
                Readiness::Notify { within_ms } => within_ms,
                Readiness::Started => 0,
            };
            Member::new(index, ready_within_ms, component.stable_for_ms, now)
        });
        let health = Health::new(now, members.collect());
        let agent = setup.components.iter().position(|component| component.agrees);
        let agreement = match agent.filter(|_| setup.slot_on_trial) {
            Some(agent) => Agreement::awaited(agent, now),
            None => Agreement::NotNeeded,
        };
        let components = setup.components.into_iter().map(Supervised::new);
        Self {
            components: components.collect(),
            slot: setup.slot,
            slot_on_trial: setup.slot_on_trial,
            commit: Commit::NotBegun,
            health,
            agreement,
            ending: None,
        }
    }

    /// Returns what is to be done after `event`, in this order. An event of a component that is not there, or of something
    /// that was not begun, has no effect.
    pub fn step(&mut self, event: Event, now: Millis) -> Vec<Effect> {
        let mut effects = Vec::new();
        // `None`: the event is of no component, and nothing is to be done.
        let _ = self.take(event, now, &mut effects);
        effects
    }

    /// Returns the state of a component.
    #[must_use]
    pub fn component(&self, index: usize) -> Option<supervision::State> {
        self.components.get(index).map(|component| component.supervisor.state())
    }

    /// Returns the time at which [`Event::Deadline`] or [`Event::Judge`] next has something to do, as far as the clock alone brings it.
    #[must_use]
    pub fn deadline(&self, heard: Millis) -> Option<Millis> {
        let health = match self.verdict(heard) {
            Verdict::Pending(at) => Some(at),
            Verdict::Healthy | Verdict::Failed(_) => None,
        };
        let components = self.components.iter().filter_map(|c| c.supervisor.deadline());
        components.chain(health).min()
    }

    /// False once an end takes so long that it is left to the watchdog.
    #[must_use]
    pub fn is_alive(&self, now: Millis) -> bool {
        self.ending.is_none_or(|ending| now.saturating_sub(ending.since) <= END_WITHIN_MS)
    }

    fn take(&mut self, event: Event, now: Millis, effects: &mut Vec<Effect>) -> Option<()> {
        match event {
            Event::Deadline { heard } => self.act_on_deadlines(heard, effects),
            Event::Judge { heard } => {
                self.judge_health(heard, now, effects);
                self.end_where_nothing_runs(effects);
            }
            Event::Started { component: index } => {
                let component = self.in_life(index, Life::BeingStarted)?;
                component.life = Life::Runs;
                component.fault = None;
                // Its time begins when it runs.
                let was_stopped = component.supervisor.state() == supervision::State::Stopped;
                component.supervisor.on_started(now);
                let line = format!("{} started", component.name);
                effects.push(notice(log_event::COMPONENT_STARTED, line));
                if !component.reports_readiness {
                    component.raise_floor(index, effects);
                }
                if was_stopped {
                    component.stop(index, now, effects);
                }
            }
            Event::StartFailed { component: index, error } => {
                let component = self.in_life(index, Life::BeingStarted)?;
                let what = format!("{} cannot be started", component.name);
                effects.push(failure(log_event::COMPONENT_START_FAILED, &what, &error));
                // Whatever was made of it goes with it.
                effects.push(Effect::Kill(index));
                component.life = Life::None;
                // The pause begins when the start has failed, which may have taken seconds.
                component.schedule_restart(now, false, effects);
            }
            Event::Notified { component: index, ready, watchdog } => {
                let component = self.components.get_mut(index)?;
                if !matches!(component.life, Life::Runs | Life::Ended) {
                    return None;
                }
                let ready =
                    ready && component.supervisor.on_ready(now) && component.reports_readiness;
                if ready {
                    let line = format!("{} is ready", component.name);
                    effects.push(notice(log_event::COMPONENT_READY, line));
                }
                if watchdog {
                    component.supervisor.on_watchdog(now);
                }
                if ready {
                    component.raise_floor(index, effects);
                }
            }
            Event::StubEnded { component: index, exit } => {
                self.in_life(index, Life::Runs)?.life = Life::Ended;
                // Whatever else is in its group ends with it.
                effects.push(Effect::Kill(index));
                // What it has said last, its stub has handed on before it ended.
                effects.push(Effect::Collect { component: index, exit });
            }
            Event::Exited {
                component: index,
                exit,
                memory_peak_kib,
                package_is_damaged,
                was_out_of_memory,
            } => {
                let component = self.in_life(index, Life::Ended)?;
                component.life = Life::None;
                let cause = match package_is_damaged {
                    true => Some(EndCause::Verity),
                    false => component.end_cause(exit, was_out_of_memory),
                };
                if let Some(cause) = cause {
                    let ran_ms = component.supervisor.ran_ms(now);
                    effects.push(Effect::RecordEnd { component: index, cause, ran_ms });
                }
                let name = &component.name;
                let line = format!("{name} ended with {exit}, memory peak {memory_peak_kib} KiB");
                effects.push(notice(log_event::COMPONENT_ENDED, line));
                if package_is_damaged {
                    let line = format!("{name}: its package is damaged; it is not started again");
                    effects.push(warning(log_event::APP_PACKAGE_DAMAGED, line));
                    component.supervisor.stop(now);
                }
                component.schedule_restart(now, exit.is_success(), effects);
                match component.package.filter(|_| package_is_damaged) {
                    Some(Package::Current) => effects.push(Effect::CheckPrevious(index)),
                    Some(Package::OnTrial) => self.recover(index, || false, effects),
                    None => {}
                }
            }
            Event::PreviousChecked { component: index, refusal } => {
                let Supervised { name, package, .. } = self.components.get(index)?;
                (*package)?;
                if let Some(refusal) = &refusal {
                    effects.push(cannot_fall_back(name, refusal));
                }
                self.recover(index, || refusal.is_none(), effects);
            }
            Event::FellBack { component, error } => {
                let Supervised { name, package, .. } = self.components.get(component)?;
                (*package)?;
                match error {
                    None => {
                        let line = format!("{name}: its previous package takes its place");
                        effects.push(notice(log_event::APP_FELL_BACK, line));
                        self.end(End::Reboot, now, effects);
                    }
                    Some(error) => effects.push(cannot_fall_back(name, &error)),
                }
            }
            Event::PackageGivenUp { component, error } => {
                let Supervised { name, package, .. } = self.components.get(component)?;
                if *package != Some(Package::OnTrial) {
                    return None;
                }
                effects.push(match error {
                    None => {
                        let line = format!("{name}: its new package is given up");
                        warning(log_event::APP_TRIAL_GIVEN_UP, line)
                    }
                    Some(error) => {
                        let what = format!("{name}: cannot remove its new package");
                        failure(log_event::APP_TRIAL_REMOVE_FAILED, &what, &error)
                    }
                });
                self.end(End::Reboot, now, effects);
            }
            Event::SlotCommitted { good, outcome } if self.commit == Commit::Begun => {
                self.commit(good, outcome, effects);
            }
            Event::SlotCommitted { .. } => {}
            Event::PackageCommitted { component: index, error } => {
                let component = self.components.get_mut(index)?;
                if component.package != Some(Package::OnTrial) {
                    return None;
                }
                let name = &component.name;
                match error {
                    Some(error) => {
                        let what = format!("{name}: cannot commit its new package");
                        effects.push(failure(log_event::APP_COMMIT_FAILED, &what, &error));
                    }
                    None => {
                        let line = format!("{name}: its new package is committed");
                        effects.push(notice(log_event::APP_COMMITTED, line));
                        effects.push(Effect::Pet);
                        component.package = Some(Package::Current);
                        component.raise_floor(index, effects);
                        if !component.critical {
                            self.health.forget(index);
                        }
                    }
                }
            }
            Event::Manage { asking, request } => {
                let name = &self.components.get(asking)?.name;
                let line = format!("{name} asks for {request:?}");
                effects.push(notice(log_event::COMPONENT_CONTROL_REQUESTED, line));
                let reply = self.manage(&request, now, effects);
                effects.push(Effect::Reply(asking, reply));
            }
            Event::EndAsked { asking, end } => {
                let name = &self.components.get(asking)?.name;
                let line = format!("{name} asks for {end:?}");
                effects.push(notice(log_event::SHUTDOWN_REQUESTED, line));
                self.end(end, now, effects);
                effects.push(Effect::Reply(asking, Reply::Accepted));
            }
            Event::EndSignalled { end } => self.end(end, now, effects),
            Event::ResetOrdered { partitions } => {
                let line = format!("the owner resets the device: {partitions}");
                effects.push(notice(log_event::RESET_ORDERED, line));
                self.end(End::Reboot, now, effects);
            }
            Event::Agreed => self.agreement = Agreement::NotNeeded,
        }
        Some(())
    }

    fn in_life(&mut self, index: usize, life: Life) -> Option<&mut Supervised> {
        self.components.get_mut(index).filter(|component| component.life == life)
    }

    /// Starts and ends what is due. Whoever has said in time that it is ready or alive has been heard.
    fn act_on_deadlines(&mut self, heard: Millis, effects: &mut Vec<Effect>) {
        for (index, component) in self.components.iter_mut().enumerate() {
            if component.life == Life::BeingStarted
                || component.supervisor.deadline().is_none_or(|deadline| heard < deadline)
            {
                continue;
            }
            effects.push(Effect::Pet);
            match component.supervisor.on_deadline(heard) {
                Action::None | Action::Terminate => {}
                Action::Start => {
                    component.life = Life::BeingStarted;
                    effects.push(Effect::Start(index));
                }
                action @ (Action::Kill(fault) | Action::Abort(fault)) => {
                    component.fault = Some(fault);
                    let line = format!("{} {}: killed", component.name, fault.as_str());
                    effects.push(warning(fault.event(), line));
                    effects.push(match action {
                        Action::Abort(_) => Effect::Abort(index),
                        _ => Effect::Kill(index),
                    });
                }
                Action::Finish => effects.push(Effect::Kill(index)),
            }
        }
        // The last start may have taken most of the watchdog's time, and a commit comes next.
        effects.push(Effect::Pet);
    }

    fn verdict(&self, heard: Millis) -> Verdict {
        self.agreement.weigh(self.health.verdict(heard), heard)
    }

    /// Commits the slot once every critical component is stable, and ends a run in which one is not:
    /// a release on trial has then failed, a good slot is started anew.
    fn judge_health(&mut self, heard: Millis, now: Millis, effects: &mut Vec<Effect>) {
        if self.ending.is_some() {
            return;
        }
        for (index, component) in self.components.iter().enumerate() {
            self.health.observe(index, component.supervisor.ready_since(), heard);
        }
        match self.verdict(heard) {
            Verdict::Healthy if self.commit == Commit::NotBegun => {
                self.commit = Commit::Begun;
                effects.push(Effect::CommitSlot);
            }
            Verdict::Healthy | Verdict::Pending(_) => {}
            Verdict::Failed(index) => {
                // A good slot is not given up for a component: it has booted, and updates come
                // through it. Its tries are back already, unless they could not be saved.
                if !self.slot_on_trial && self.commit == Commit::NotBegun {
                    effects.push(Effect::RenewTries);
                }
                self.end(End::Reboot, now, effects);
                if let Some(failed) = self.components.get(index) {
                    let component = failed.name.clone();
                    let reason = match self.health.verdict(heard) {
                        Verdict::Healthy => Reason::DoesNotAgree,
                        _ => Reason::NotReady,
                    };
                    let breadcrumb = Breadcrumb::Unhealthy(Unhealthy { component, reason });
                    effects.push(warning(breadcrumb.event(), breadcrumb.to_string()));
                    if failed.package == Some(Package::OnTrial) {
                        effects.push(Effect::GiveUpPackage(index));
                    }
                }
            }
        }
    }

    /// Everything that is on trial has proved to be healthy.
    ///
    /// A boot state that cannot be saved is said and not tried again: the boot loader then boots what was good before.
    fn commit(&mut self, good: bool, outcome: Result<String, String>, effects: &mut Vec<Effect>) {
        self.commit = Commit::Over;
        match outcome {
            Ok(status) => {
                self.slot_on_trial = false;
                let line = format!("slot {} committed", self.slot.letter());
                effects.push(notice(log_event::SLOT_COMMITTED, line));
                effects.push(Effect::LogStatus(status));
            }
            Err(error) => {
                let what = "cannot commit the slot";
                effects.push(failure(log_event::SLOT_COMMIT_FAILED, what, &error));
            }
        }
        effects.push(Effect::CommitClock);
        let components = self.components.iter().enumerate();
        let on_trial = components.filter(|(_, c)| c.package == Some(Package::OnTrial));
        effects.extend(on_trial.map(|(index, _)| Effect::CommitPackage(index)));
        if good {
            effects.push(Effect::RenewBootLoader);
        }
    }

    /// The package of an app is damaged: if there is a better one, the system starts again with that, once it is known
    /// what became of the change.
    fn recover(
        &self,
        index: usize,
        previous_may_run: impl FnOnce() -> bool,
        effects: &mut Vec<Effect>,
    ) {
        let package = self.components.get(index).and_then(|component| component.package);
        match Recovery::of(package == Some(Package::OnTrial), previous_may_run) {
            Recovery::GiveUpTrial => effects.push(Effect::GiveUpPackage(index)),
            Recovery::FallBack => effects.push(Effect::FallBack(index)),
            Recovery::Stay => {}
        }
    }

    /// Starts or stops a component for another one.
    fn manage(&mut self, request: &ManageRequest, now: Millis, effects: &mut Vec<Effect>) -> Reply {
        let mut components = self.components.iter_mut().enumerate();
        let named = components.find(|(_, component)| component.name == request.name());
        let Some((index, named)) = named else {
            return Reply::NotFound;
        };
        if !matches!(request, ManageRequest::Start(_)) {
            named.stop(index, now, effects);
        }
        if !matches!(request, ManageRequest::Stop(_)) && self.ending.is_none() {
            named.supervisor.start_again(now);
        }
        Reply::Accepted
    }

    /// Asks every component to end. The first request decides how the system does.
    fn end(&mut self, end: End, now: Millis, effects: &mut Vec<Effect>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Ending { end, since: now });
        effects.push(notice(Breadcrumb::Stopping.event(), Breadcrumb::Stopping.to_string()));
        for (index, component) in self.components.iter_mut().enumerate() {
            component.stop(index, now, effects);
            effects.push(Effect::HurryWrites(index));
        }
    }

    fn end_where_nothing_runs(&self, effects: &mut Vec<Effect>) {
        if let Some(Ending { end, .. }) = self.ending
            && self.components.iter().all(|component| component.life == Life::None)
        {
            effects.push(Effect::End(end));
        }
    }
}
