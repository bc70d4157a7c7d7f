//! When a component is started, restarted, killed and given up for now.
//!
//! One [`Supervisor`] per component. Time is passed in as milliseconds of the monotonic clock;
//! what to do is returned, never done. Deadlines are asked for with [`Supervisor::deadline`], and
//! [`Supervisor::on_deadline`] is called once one has passed.
//!
//! ```text
//! Waiting --start--> Starting --ready--> Ready --exit--> Waiting (later each time)
//!    ^                  | exit, or too late: killed          |
//!    +------------------+------------------------------------+      stop() --> Stopping --> Stopped
//! ```

use holdfast_sandbox::app_manifest::RestartPolicy;
use holdfast_sandbox::policy::Readiness;
use holdfast_types::Millis;
use holdfast_types::event::{Event as LogEvent, init as log_event};

/// Pause before the first restart.
pub const FIRST_BACKOFF_MS: Millis = 100;
/// Longest pause before a restart; reaching it is called a crash loop, and is reported once.
pub const BACKOFF_CEILING_MS: Millis = 60_000;
/// A component that was ready for this long has proved itself: its next restart is quick again.
pub const STABLE_AFTER_MS: Millis = 60_000;
/// Time between asking a component to end (SIGTERM) and ending it (SIGKILL).
pub const STOP_GRACE_MS: Millis = 3_000;
/// Time between aborting a component that has missed its watchdog (SIGABRT, of which the kernel writes where it was) and ending it
/// (SIGKILL).
pub const ABORT_GRACE_MS: Millis = 2_000;

/// An action of init on the component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Start it, then call [`Supervisor::on_started`] or [`Supervisor::on_exit`].
    Start,
    /// Kill all its processes at once, because of the given fault.
    Kill(Fault),
    /// Have it abort because of the given fault, so that it is known where it was.
    Abort(Fault),
    /// Kill all its processes at once: it has not ended when it was aborted.
    Finish,
    /// Ask it to end.
    Terminate,
}

/// A fault of a component while it ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not ready within its time.
    NotReady,
    /// Missed its own watchdog.
    Watchdog,
    /// Did not end when asked.
    StillRunning,
}

impl Fault {
    /// Returns the event that the line of the log ends in.
    #[must_use]
    pub fn event(self) -> LogEvent {
        match self {
            Self::NotReady => log_event::COMPONENT_READY_TIMEOUT,
            Self::Watchdog => log_event::COMPONENT_WATCHDOG_TIMEOUT,
            Self::StillRunning => log_event::COMPONENT_STOP_TIMEOUT,
        }
    }

    /// Returns the fault in words for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "was not ready in time",
            Self::Watchdog => "missed its watchdog",
            Self::StillRunning => "did not end when asked",
        }
    }
}

/// The next start after an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// Pause before it.
    pub delay_ms: Millis,
    /// True when the pause has just reached the ceiling: worth a report, once.
    pub crash_loop: bool,
}

/// The state of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be started at the given time.
    Waiting(Millis),
    /// Runs, not ready yet.
    Starting,
    /// Runs and is ready.
    Ready,
    /// Was killed or aborted for a fault; its exit is awaited.
    Killed,
    /// Was asked to end; killed at the given time.
    Stopping(Millis),
    /// Has ended and stays so.
    Stopped,
}

/// The life of one component.
#[derive(Debug, Clone)]
pub struct Supervisor {
    readiness: Readiness,
    watchdog_ms: Option<Millis>,
    restart: RestartPolicy,
    state: State,
    failures: u32,
    crash_loop_reported: bool,
    started_at: Millis,
    ready_at: Millis,
    last_ping: Millis,
    /// When it is killed, where it was aborted.
    kill_at: Option<Millis>,
    /// Between its start and its exit.
    running: bool,
    /// True where it was asked to end in order to be started again.
    again: bool,
}

impl Supervisor {
    /// Returns the milliseconds since its last start.
    #[must_use]
    pub fn ran_ms(&self, now: Millis) -> Millis {
        now.saturating_sub(self.started_at)
    }

    /// A component to be started at once.
    #[must_use]
    pub fn new(readiness: Readiness, watchdog_ms: Option<u32>, restart: RestartPolicy) -> Self {
        Self {
            readiness,
            restart,
            watchdog_ms: watchdog_ms.map(Millis::from),
            state: State::Waiting(0),
            failures: 0,
            crash_loop_reported: false,
            started_at: 0,
            ready_at: 0,
            last_ping: 0,
            kill_at: None,
            running: false,
            again: false,
        }
    }

    /// Returns its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns the time since which it is ready, while it is.
    #[must_use]
    pub fn ready_since(&self) -> Option<Millis> {
        (self.state == State::Ready).then_some(self.ready_at)
    }

    /// The next time [`on_deadline`](Self::on_deadline) has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Waiting(at) | State::Stopping(at) => Some(at),
            State::Starting => match self.readiness {
                Readiness::Notify { within_ms } => {
                    Some(self.started_at.saturating_add(Millis::from(within_ms)))
                }
                Readiness::Started => None,
            },
            State::Ready => self.watchdog_ms.map(|ms| self.last_ping.saturating_add(ms)),
            State::Killed => self.kill_at,
            State::Stopped => None,
        }
    }

    /// Acts on the clock alone.
    pub fn on_deadline(&mut self, now: Millis) -> Action {
        if self.deadline().is_none_or(|at| now < at) {
            return Action::None;
        }
        match self.state {
            State::Waiting(_) => Action::Start,
            State::Starting => self.kill(Fault::NotReady),
            State::Ready => self.abort(now, Fault::Watchdog),
            State::Stopping(_) => self.kill_for_good(),
            State::Killed => {
                self.kill_at = None;
                Action::Finish
            }
            State::Stopped => Action::None,
        }
    }

    /// Takes note that it was started.
    pub fn on_started(&mut self, now: Millis) {
        self.started_at = now;
        self.kill_at = None;
        self.running = true;
        self.state = State::Starting;
        if self.readiness == Readiness::Started {
            self.become_ready(now);
        }
    }

    /// Takes note of `READY=1`. True when that is news.
    pub fn on_ready(&mut self, now: Millis) -> bool {
        if self.state != State::Starting {
            return false;
        }
        self.become_ready(now);
        true
    }

    /// Takes note of `WATCHDOG=1`.
    pub fn on_watchdog(&mut self, now: Millis) {
        self.last_ping = now;
    }

    /// Takes note that it ended, `well` when by itself with exit code 0, or could not be started. `None` means that
    /// it stays ended.
    pub fn on_exit(&mut self, now: Millis, well: bool) -> Option<Restart> {
        self.running = false;
        self.kill_at = None;
        // What was to be ended for a fault has not ended well, whatever it makes of SIGABRT.
        let well = well && self.state != State::Killed;
        let by_policy = match self.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !well,
            RestartPolicy::Never => false,
        };
        if std::mem::take(&mut self.again) {
            self.failures = 0;
            self.state = State::Waiting(now);
            return Some(Restart { delay_ms: 0, crash_loop: false });
        }
        if !by_policy || matches!(self.state, State::Stopping(_) | State::Stopped) {
            self.state = State::Stopped;
            return None;
        }
        let proved_itself =
            self.state == State::Ready && now.saturating_sub(self.ready_at) >= STABLE_AFTER_MS;
        if proved_itself {
            self.failures = 0;
            self.crash_loop_reported = false;
        }
        let delay_ms = backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
        let crash_loop = delay_ms >= BACKOFF_CEILING_MS && !self.crash_loop_reported;
        self.crash_loop_reported |= crash_loop;
        self.state = State::Waiting(now.saturating_add(delay_ms));
        Some(Restart { delay_ms, crash_loop })
    }

    /// Starts a component that was stopped, or whose restart policy keeps it ended; one that is
    /// stopping, once it has.
    pub fn start_again(&mut self, now: Millis) {
        match self.state {
            State::Stopped if self.running => self.again = true,
            State::Stopped => {
                self.failures = 0;
                self.crash_loop_reported = false;
                self.state = State::Waiting(now);
            }
            State::Stopping(_) => self.again = true,
            _ => {}
        }
    }

    /// Asks it to end, and does not start it again.
    pub fn stop(&mut self, now: Millis) -> Action {
        self.again = false;
        match self.state {
            State::Waiting(_) | State::Stopped => {
                self.state = State::Stopped;
                Action::None
            }
            State::Starting | State::Ready | State::Killed => {
                self.state = State::Stopping(now.saturating_add(STOP_GRACE_MS));
                Action::Terminate
            }
            State::Stopping(_) => Action::None,
        }
    }

    fn become_ready(&mut self, now: Millis) {
        self.state = State::Ready;
        self.ready_at = now;
        self.last_ping = now;
    }

    fn kill(&mut self, fault: Fault) -> Action {
        self.state = State::Killed;
        Action::Kill(fault)
    }

    fn abort(&mut self, now: Millis, fault: Fault) -> Action {
        self.state = State::Killed;
        self.kill_at = Some(now.saturating_add(ABORT_GRACE_MS));
        Action::Abort(fault)
    }

    fn kill_for_good(&mut self) -> Action {
        self.state = State::Stopped;
        Action::Kill(Fault::StillRunning)
    }
}

/// Pause after the given number of failures in a row: doubled each time, up to the ceiling.
#[must_use]
pub fn backoff(failures: u32) -> Millis {
    let factor = 1u64.checked_shl(failures).filter(|f| *f != 0).unwrap_or(Millis::MAX);
    FIRST_BACKOFF_MS.saturating_mul(factor).min(BACKOFF_CEILING_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn started(readiness: Readiness, watchdog_ms: Option<u32>) -> Supervisor {
        let mut supervisor = Supervisor::new(readiness, watchdog_ms, RestartPolicy::Always);
        assert_eq!(supervisor.on_deadline(0), Action::Start);
        supervisor.on_started(0);
        supervisor
    }

    #[test]
    fn restarts_come_later_each_time_up_to_the_ceiling() {
        let mut supervisor = Supervisor::new(Readiness::Started, None, RestartPolicy::Always);
        let mut now = 0;
        let mut delays = Vec::new();
        let mut reports = 0;
        for _ in 0..14 {
            supervisor.on_started(now);
            let restart = supervisor.on_exit(now, false).unwrap();
            delays.push(restart.delay_ms);
            reports += u32::from(restart.crash_loop);
            now += restart.delay_ms;
            assert_eq!(supervisor.on_deadline(now - 1), Action::None);
            assert_eq!(supervisor.on_deadline(now), Action::Start);
        }
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[10..], [60_000; 4]);
        assert_eq!(reports, 1, "a crash loop is reported once");
    }

    #[test]
    fn a_component_that_ran_well_is_restarted_at_once_again() {
        let mut supervisor = Supervisor::new(Readiness::Started, None, RestartPolicy::Always);
        for _ in 0..6 {
            supervisor.on_started(0);
            supervisor.on_exit(0, false);
        }
        supervisor.on_started(1_000);
        let restart = supervisor.on_exit(1_000 + STABLE_AFTER_MS, false).unwrap();
        assert_eq!(restart.delay_ms, FIRST_BACKOFF_MS);
    }

    #[test]
    fn one_that_is_never_ready_is_killed() {
        let mut supervisor = started(Readiness::Notify { within_ms: 500 }, None);
        assert_eq!(supervisor.on_deadline(499), Action::None);
        assert_eq!(supervisor.on_deadline(500), Action::Kill(Fault::NotReady));
        assert!(!supervisor.on_ready(501), "too late");
        assert!(supervisor.on_exit(502, false).is_some());
    }

    #[test]
    fn a_missed_watchdog_aborts_then_kills_and_a_kept_one_does_not() {
        let mut supervisor = started(Readiness::Started, Some(1_000));
        for now in [900, 1_800, 2_700] {
            assert_eq!(supervisor.on_deadline(now), Action::None);
            supervisor.on_watchdog(now);
        }
        assert_eq!(supervisor.on_deadline(3_700), Action::Abort(Fault::Watchdog));
        // One that does not end of it has its grace, once.
        assert_eq!(supervisor.deadline(), Some(3_700 + ABORT_GRACE_MS));
        assert_eq!(supervisor.on_deadline(3_700 + ABORT_GRACE_MS), Action::Finish);
        assert_eq!(supervisor.deadline(), None);
        assert!(supervisor.on_exit(6_000, false).is_some());
    }

    #[test]
    fn stopping_asks_first_and_kills_after_the_grace() {
        let mut supervisor = started(Readiness::Started, None);
        assert_eq!(supervisor.stop(10), Action::Terminate);
        assert_eq!(supervisor.on_deadline(10 + STOP_GRACE_MS - 1), Action::None);
        assert_eq!(supervisor.on_deadline(10 + STOP_GRACE_MS), Action::Kill(Fault::StillRunning));
        assert_eq!(supervisor.on_exit(4_000, false), None);
        assert_eq!(supervisor.state(), State::Stopped);
    }

    #[test]
    fn the_restart_policy_decides_about_the_next_start() {
        let ended = |policy, well| {
            let mut supervisor = Supervisor::new(Readiness::Started, None, policy);
            supervisor.on_started(0);
            supervisor.on_exit(1, well).is_some()
        };
        assert!(ended(RestartPolicy::Always, true) && ended(RestartPolicy::Always, false));
        assert!(!ended(RestartPolicy::OnFailure, true) && ended(RestartPolicy::OnFailure, false));
        assert!(!ended(RestartPolicy::Never, true) && !ended(RestartPolicy::Never, false));
    }

    #[test]
    fn a_stopped_component_can_be_started_again_and_a_running_one_is_left_alone() {
        let mut supervisor = started(Readiness::Started, None);
        supervisor.start_again(5);
        assert_eq!(supervisor.state(), State::Ready);
        supervisor.stop(10);
        supervisor.on_exit(20, true);
        assert_eq!(supervisor.state(), State::Stopped);
        supervisor.start_again(30);
        assert_eq!(supervisor.on_deadline(30), Action::Start);
        supervisor.on_started(30);
        assert_eq!(supervisor.stop(40), Action::Terminate);
        supervisor.start_again(40);
        assert!(supervisor.on_exit(50, true).is_some(), "a restart waits for the end");
        assert_eq!(supervisor.on_deadline(50), Action::Start);
        // A stop behind it has the last word.
        supervisor.on_started(50);
        supervisor.stop(60);
        supervisor.start_again(60);
        supervisor.stop(61);
        assert_eq!(supervisor.on_exit(70, true), None);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Exit,
        Ready,
        Ping,
        Stop,
        Tick(u16),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::Exit),
            Just(Event::Ready),
            Just(Event::Ping),
            Just(Event::Stop),
            any::<u16>().prop_map(Event::Tick),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: it is never started while it runs, never again
        /// after a stop, and always either runs, waits for a start, or is stopped.
        #[test]
        fn no_order_of_events_starts_it_twice(
            events in proptest::collection::vec(event(), 0..200),
            watchdog in proptest::option::of(100u32..5_000),
            within in proptest::option::of(1u32..5_000),
        ) {
            let readiness = match within {
                Some(within_ms) => Readiness::Notify { within_ms },
                None => Readiness::Started,
            };
            let mut supervisor = Supervisor::new(readiness, watchdog, RestartPolicy::Always);
            let mut now = 0;
            let mut running = false;
            let mut stopped = false;
            for event in events {
                match event {
                    Event::Exit if running => {
                        running = false;
                        prop_assert_eq!(supervisor.on_exit(now, false).is_none(), stopped);
                    }
                    Event::Exit => {}
                    Event::Ready => { supervisor.on_ready(now); }
                    Event::Ping => supervisor.on_watchdog(now),
                    Event::Stop => {
                        stopped = true;
                        let action = supervisor.stop(now);
                        prop_assert!(action == Action::None || running);
                    }
                    Event::Tick(ms) => {
                        now = now.saturating_add(Millis::from(ms));
                        match supervisor.on_deadline(now) {
                            Action::Start => {
                                prop_assert!(!running && !stopped);
                                running = true;
                                supervisor.on_started(now);
                            }
                            Action::Kill(_) | Action::Abort(_) | Action::Finish => {
                                prop_assert!(running);
                            }
                            Action::None | Action::Terminate => {}
                        }
                    }
                }
                if !running && !stopped {
                    prop_assert!(matches!(supervisor.state(), State::Waiting(_)));
                }
            }
        }
    }
}
