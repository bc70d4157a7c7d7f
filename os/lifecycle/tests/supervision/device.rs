//! A device whose effects are carried out by a model of its programs and its media.

use holdfast_lifecycle::exit::Exit;
use holdfast_lifecycle::reducer::{Component, Effect, Event, Level, Package, Setup, State};
use holdfast_lifecycle::slots::Slot;
use holdfast_sandbox::app_manifest::RestartPolicy;
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::wire::EndCause;
use holdfast_types::Millis;
use holdfast_types::event::Event as LogEvent;

/// From SIGKILL to the end of a stub, and what other steps of a program take.
const STEP_MS: Millis = 5;

/// A component that is ready once it runs, and whose boot does not depend on it.
pub(crate) fn component(name: &str) -> Component {
    Component {
        name: name.to_owned(),
        readiness: Readiness::Started,
        watchdog_ms: None,
        restart: RestartPolicy::Always,
        critical: false,
        stable_for_ms: 5_000,
        package: None,
        agrees: false,
    }
}

pub(crate) fn app(name: &str, package: Package) -> Component {
    Component { package: Some(package), ..component(name) }
}

pub(crate) fn setup(components: Vec<Component>) -> Setup {
    Setup { components, slot: Slot::A, slot_on_trial: false }
}

/// What a program does each time it is started, in milliseconds from then on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Program {
    /// It says that it is ready.
    pub(crate) ready_after: Option<Millis>,
    /// It shows that it is alive, again and again, so often.
    pub(crate) pings_every: Option<Millis>,
    /// It ends by itself.
    pub(crate) ends: Option<(Millis, Exit)>,
    /// It does not end when asked.
    pub(crate) ignores_terminate: bool,
    /// It does not end when it is aborted.
    pub(crate) ignores_abort: bool,
}

/// What becomes of effects on media.
#[derive(Debug, Clone, Default)]
pub(crate) struct Media {
    /// The boot state cannot be saved.
    pub(crate) slot_fails: Option<String>,
    /// A package on trial cannot be made the current one.
    pub(crate) commit_fails: Option<String>,
    /// Nor removed.
    pub(crate) give_up_fails: Option<String>,
    /// The previous package may not run.
    pub(crate) previous_refused: Option<String>,
    /// Nor take the place of the current one.
    pub(crate) fall_back_fails: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Due {
    at: Millis,
    /// Of which start of which component it is; `None` for what happens in any case.
    of: Option<(usize, u32)>,
    event: Event,
}

pub(crate) struct Device {
    pub(crate) state: State,
    pub(crate) now: Millis,
    pub(crate) programs: Vec<Program>,
    pub(crate) media: Media,
    /// Components whose packages are damaged.
    pub(crate) damaged: Vec<usize>,
    /// Components that the kernel ends for their memory.
    pub(crate) out_of_memory: Vec<usize>,
    /// How components have ended, as it is recorded.
    pub(crate) ends: Vec<(usize, EndCause, Millis)>,
    /// Components that cannot be started, and why.
    pub(crate) unstartable: Vec<(usize, String)>,
    /// Whether the slot has been good before.
    slot_is_good: bool,
    slot: Slot,
    starts: Vec<u32>,
    due: Vec<Due>,
    pub(crate) effects: Vec<(Millis, Effect)>,
    /// What was said in the log, with its times and its events; the status has none.
    pub(crate) log: Vec<(Millis, Level, String, Option<LogEvent>)>,
    pub(crate) has_ended: bool,
}

impl Device {
    pub(crate) fn new(setup: Setup) -> Self {
        let count = setup.components.len();
        Self {
            slot_is_good: !setup.slot_on_trial,
            slot: setup.slot,
            state: State::new(setup, 0),
            now: 0,
            programs: vec![Program::default(); count],
            media: Media::default(),
            damaged: Vec::new(),
            out_of_memory: Vec::new(),
            ends: Vec::new(),
            unstartable: Vec::new(),
            starts: vec![0; count],
            due: Vec::new(),
            effects: Vec::new(),
            log: Vec::new(),
            has_ended: false,
        }
    }

    /// Has something happen at a time to come.
    pub(crate) fn at(&mut self, at: Millis, event: Event) {
        self.due.push(Due { at, of: None, event });
    }

    /// Time passes, as init's loop lets it: what was said is heard, then deadlines are looked at, then health.
    pub(crate) fn run_until(&mut self, end: Millis) {
        while !self.has_ended {
            self.act(Event::Deadline { heard: self.now });
            self.act(Event::Judge { heard: self.now });
            if self.has_ended {
                return;
            }
            let said = self.due.iter().map(|due| due.at).min();
            let deadline = self.state.deadline(self.now);
            match said.into_iter().chain(deadline).min() {
                Some(at) if at <= end => self.now = at.max(self.now + 1),
                _ => {
                    self.now = end;
                    return;
                }
            }
            self.hear();
        }
    }

    fn hear(&mut self) {
        let now = self.now;
        while let Some(place) =
            (0..self.due.len()).filter(|i| self.due[*i].at <= now).min_by_key(|i| self.due[*i].at)
        {
            let Due { of, event, .. } = self.due.remove(place);
            if of.is_some_and(|(component, start)| self.starts[component] != start) {
                continue;
            }
            let program = of.map(|(component, _)| self.programs[component]);
            if let (Some(every), Event::Notified { component, watchdog: true, .. }) =
                (program.and_then(|program| program.pings_every), &event)
            {
                self.after(*component, every, event.clone());
            }
            self.act(event);
        }
    }

    fn after(&mut self, component: usize, after: Millis, event: Event) {
        let of = Some((component, self.starts[component]));
        self.due.push(Due { at: self.now + after, of, event });
    }

    pub(crate) fn act(&mut self, event: Event) {
        for effect in self.state.step(event, self.now) {
            self.effects.push((self.now, effect.clone()));
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Log(level, event, line) => {
                self.log.push((self.now, level, line, Some(event)));
            }
            Effect::LogStatus(line) => self.log.push((self.now, Level::Notice, line, None)),
            Effect::Start(component) => {
                let unstartable = self.unstartable.iter().find(|(index, _)| *index == component);
                if let Some((_, error)) = unstartable {
                    let error = error.clone();
                    return self.act(Event::StartFailed { component, error });
                }
                self.starts[component] += 1;
                self.act(Event::Started { component });
                let Program { ready_after, pings_every, ends, .. } = self.programs[component];
                if let Some(after) = ready_after {
                    let ready = Event::Notified { component, ready: true, watchdog: false };
                    self.after(component, after, ready);
                }
                if let Some(after) = pings_every {
                    let ping = Event::Notified { component, ready: false, watchdog: true };
                    self.after(component, after, ping);
                }
                if let Some((after, exit)) = ends {
                    self.after(component, after, Event::StubEnded { component, exit });
                }
            }
            Effect::Abort(component) => {
                if !self.programs[component].ignores_abort {
                    let exit = Exit::Signal(6);
                    self.after(component, STEP_MS, Event::StubEnded { component, exit });
                }
            }
            Effect::Kill(component) => {
                let exit = Exit::Signal(9);
                self.after(component, STEP_MS, Event::StubEnded { component, exit });
            }
            Effect::Terminate(component) => {
                if !self.programs[component].ignores_terminate {
                    let exit = Exit::Code(0);
                    self.after(component, STEP_MS, Event::StubEnded { component, exit });
                }
            }
            Effect::Collect { component, exit } => {
                // What it would have done later, it does not do.
                self.starts[component] += 1;
                self.act(Event::Exited {
                    component,
                    exit,
                    memory_peak_kib: 640,
                    package_is_damaged: self.damaged.contains(&component),
                    was_out_of_memory: self.out_of_memory.contains(&component),
                });
            }
            Effect::CommitSlot => {
                let saved = self.media.slot_fails.clone();
                self.slot_is_good |= saved.is_none();
                let outcome = saved.map_or_else(|| Ok(self.status()), Err);
                self.act(Event::SlotCommitted { good: self.slot_is_good, outcome });
            }
            Effect::CommitPackage(component) => {
                let error = self.media.commit_fails.clone();
                self.act(Event::PackageCommitted { component, error });
            }
            Effect::GiveUpPackage(component) => {
                let error = self.media.give_up_fails.clone();
                self.act(Event::PackageGivenUp { component, error });
            }
            Effect::CheckPrevious(component) => {
                let refusal = self.media.previous_refused.clone();
                self.act(Event::PreviousChecked { component, refusal });
            }
            Effect::FallBack(component) => {
                let error = self.media.fall_back_fails.clone();
                self.act(Event::FellBack { component, error });
            }
            Effect::End(_) => self.has_ended = true,
            Effect::RecordEnd { component, cause, ran_ms } => {
                self.ends.push((component, cause, ran_ms));
            }
            Effect::Pet
            | Effect::HurryWrites(_)
            | Effect::RaiseFloor(_)
            | Effect::CommitClock
            | Effect::RenewBootLoader
            | Effect::RenewTries
            | Effect::Reply(..) => {}
        }
    }

    fn status(&self) -> String {
        format!("slot={} phase=committed", self.slot.letter())
    }

    /// Lines of the log without their events, each with the second and its thousandths.
    pub(crate) fn transcript(&self) -> Vec<String> {
        let lines = self.log.iter();
        lines.map(|(at, _, line, _)| format!("{}.{:03} {line}", at / 1000, at % 1000)).collect()
    }

    /// Effects on the device itself, without lines, replies and pets.
    pub(crate) fn done(&self) -> Vec<Effect> {
        let effects = self.effects.iter().map(|(_, effect)| effect);
        let is_noise = |effect: &&Effect| {
            matches!(
                effect,
                Effect::Log(..)
                    | Effect::LogStatus(_)
                    | Effect::Pet
                    | Effect::RecordEnd { .. }
                    | Effect::Reply(..)
            )
        };
        effects.filter(|effect| !is_noise(effect)).cloned().collect()
    }

    pub(crate) fn count(&self, effect: &Effect) -> usize {
        self.effects.iter().filter(|(_, done)| done == effect).count()
    }

    /// The log as the console of a device shows it, where the kernel stamps a line with microseconds.
    pub(crate) fn console(&self) -> String {
        let mut console = String::new();
        for (at, _, line, event) in &self.log {
            let event = event.map_or_else(String::new, |event| format!(" {event}"));
            let (seconds, micros) = (at / 1000, at % 1000 * 1000);
            console.push_str(&format!("[{seconds:5}.{micros:06}] init: {line}{event}\n"));
        }
        console
    }
}
