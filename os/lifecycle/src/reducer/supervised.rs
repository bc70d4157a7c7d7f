//! One component, and what is done with it alone.

use super::component::{Component, Package};
use super::effect::{Effect, notice, warning};
use crate::exit::Exit;
use crate::supervision::{self, Action, Fault, Supervisor};
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::wire::EndCause;
use holdfast_types::Millis;
use holdfast_types::event::init as log_event;

/// The signal of a system call that a filter refuses (signal(7); the same number on ARM and x86).
const SIGSYS: i32 = 31;

/// One component.
#[derive(Debug, Clone)]
pub(super) struct Supervised {
    pub(super) name: String,
    pub(super) reports_readiness: bool,
    pub(super) critical: bool,
    pub(super) package: Option<Package>,
    pub(super) supervisor: Supervisor,
    pub(super) life: Life,
    /// The fault that its program was killed for.
    pub(super) fault: Option<Fault>,
}

/// The stage of a component's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing of it exists.
    None,
    /// A start, of which it is not known what became.
    BeingStarted,
    /// Its stub runs.
    Runs,
    /// Its stub has ended, and what it has left is not collected yet.
    Ended,
}

impl Supervised {
    pub(super) fn new(component: Component) -> Self {
        let Component { name, readiness, watchdog_ms, restart, critical, package, .. } = component;
        Self {
            name,
            reports_readiness: matches!(readiness, Readiness::Notify { .. }),
            critical,
            package,
            supervisor: Supervisor::new(readiness, watchdog_ms, restart),
            life: Life::None,
            fault: None,
        }
    }

    /// Asks the program to end, where it runs, and does not start it again.
    pub(super) fn stop(&mut self, index: usize, now: Millis, effects: &mut Vec<Effect>) {
        if self.supervisor.stop(now) == Action::Terminate && self.life == Life::Runs {
            effects.push(Effect::Terminate(index));
        }
    }

    /// A release of an app that got ready is not gone back from.
    pub(super) fn raise_floor(&self, index: usize, effects: &mut Vec<Effect>) {
        if self.package == Some(Package::Current) {
            effects.push(Effect::RaiseFloor(index));
        }
    }

    /// Returns how its program has ended; `None` where it was asked to, or has ended well.
    pub(super) fn end_cause(&self, exit: Exit, was_out_of_memory: bool) -> Option<EndCause> {
        use supervision::State;
        if matches!(self.supervisor.state(), State::Stopping(_) | State::Stopped) {
            return None;
        }
        let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        match (self.fault, exit) {
            (Some(Fault::Watchdog), _) => Some(EndCause::Watchdog),
            (Some(Fault::NotReady), _) => Some(EndCause::NotReady),
            (Some(Fault::StillRunning), _) | (None, Exit::Code(0)) => None,
            (None, Exit::Signal(_)) if was_out_of_memory => Some(EndCause::Memory),
            (None, Exit::Signal(SIGSYS)) => Some(EndCause::Sandbox),
            (None, Exit::Signal(signal)) => Some(EndCause::Signal(byte(signal))),
            (None, Exit::Code(code)) => Some(EndCause::Exit(byte(code))),
        }
    }

    pub(super) fn schedule_restart(&mut self, now: Millis, well: bool, effects: &mut Vec<Effect>) {
        let Some(restart) = self.supervisor.on_exit(now, well) else {
            return;
        };
        let (name, delay) = (&self.name, restart.delay_ms);
        let line = format!("{name} will be started again in {delay} ms");
        effects.push(notice(log_event::COMPONENT_RESTART_SCHEDULED, line));
        if restart.crash_loop {
            let line = format!("{name} is in a crash loop");
            effects.push(warning(log_event::COMPONENT_CRASH_LOOP, line));
        }
    }
}
