//! Runs that were recorded, replayed: what a device's log says that happened is given to the reducer, which must say
//! the same lines as the device did, with the same events, in the same order and at about the same time.
//!
//! A recording is the log of init as the console shows it, behind lines that begin with `#`: where it is from, and
//! the setup of the reducer as JSON (decision 32). Lines of others, and those of init that are not the reducer's, may
//! stand in it and are passed over.

use crate::device::{Device, Program, app, component, setup};
use holdfast_lifecycle::console_line::ConsoleLine;
use holdfast_lifecycle::exit::Exit;
use holdfast_lifecycle::reducer::{Component, Effect, End, Event, Package, Setup, State};
use holdfast_lifecycle::supervision;
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::wire::ManageRequest;
use holdfast_types::{Millis, event};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};

/// A line is written after what it says was decided: the log's time may be so much later than the reducer's, in
/// milliseconds. A start that takes long keeps all others.
const LATE_MS: Millis = 2_000;
/// Two lines may be late by different times: what falls due so much later counts as due.
const SLACK_MS: Millis = 50;

/// A line of init's, with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    at: Millis,
    text: String,
    /// The name of the event that it ends in; lines of releases before there were events have none.
    event: Option<String>,
}

/// A recording.
#[derive(Debug)]
struct Recording {
    setup: Setup,
    /// When supervision began: behind what init says before it, and the first start takes a while.
    begun: Millis,
    lines: Vec<Line>,
}

/// Beginnings of lines that the reducer says and that name no component first.
const BEGINNINGS: [&str; 6] = [
    "stopping all components",
    "not healthy: ",
    "the owner resets the device: ",
    "slot a committed",
    "slot b committed",
    "cannot commit the slot: ",
];
/// What follows a component's name in such lines.
const ENDINGS: [&str; 14] = [
    " started",
    " is ready",
    " cannot be started: ",
    " ended with ",
    " will be started again in ",
    " is in a crash loop",
    " asks for ",
    ": its new package ",
    ": cannot commit its new package: ",
    ": cannot remove its new package: ",
    ": its package is damaged; ",
    ": its previous package ",
    ": cannot fall back to its previous package: ",
    " was not ready in time: killed",
];
const KILLS: [&str; 2] = [" missed its watchdog: killed", " did not end when asked: killed"];

impl Recording {
    fn read(text: &str) -> Self {
        let (mut setup, mut lines) = (None, Vec::new());
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix('#') {
                if let Some(json) = comment.trim().strip_prefix("setup: ") {
                    setup = Some(serde_json::from_str::<Setup>(json).expect("a setup"));
                }
                continue;
            }
            let ConsoleLine { time, text } = ConsoleLine::read(line);
            if let Some(text) = text.strip_prefix("init: ") {
                let (seconds, micros) = time.split_once('.').expect("a time");
                let (seconds, micros): (u64, u64) =
                    (seconds.parse().unwrap(), micros.parse().unwrap());
                let (text, event) = event::split(text);
                let (text, event) = (text.to_owned(), event.map(str::to_owned));
                lines.push(Line { at: seconds * 1000 + micros / 1000, text, event });
            }
        }
        let setup = setup.expect("a line `# setup: {...}`");
        let first = lines.iter().position(|line| is_the_reducers(&setup, &line.text));
        let before = lines.get(first.unwrap_or(0).saturating_sub(1));
        let begun = before.map_or(0, |line| line.at);
        lines.retain(|line| is_the_reducers(&setup, &line.text));
        Self { setup, begun, lines }
    }
}

fn is_the_reducers(setup: &Setup, text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
        || split(setup, text).is_some_and(|(_, rest)| {
            ENDINGS.iter().chain(&KILLS).any(|ending| rest.starts_with(ending))
        })
}

/// The component that a line begins with, and the rest.
fn split<'t>(setup: &Setup, text: &'t str) -> Option<(usize, &'t str)> {
    setup.components.iter().enumerate().find_map(|(index, component)| {
        let rest = text.strip_prefix(&component.name)?;
        rest.starts_with([' ', ':']).then_some((index, rest))
    })
}

/// Gives a recording to the reducer.
struct Replay {
    setup: Setup,
    state: State,
    recorded: VecDeque<Line>,
    /// What the reducer has said and the recording has not yet.
    said: Vec<Line>,
    now: Millis,
    has_ended: bool,
}

impl Replay {
    fn new(recording: Recording) -> Self {
        let Recording { setup, begun: now, lines } = recording;
        let state = State::new(setup.clone(), now);
        Self { setup, state, recorded: lines.into(), said: Vec::new(), now, has_ended: false }
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(line) = self.recorded.front().cloned() {
            self.advance(line.at);
            if !self.heard(&line)? {
                self.advance(line.at + SLACK_MS);
                if !self.heard(&line)? {
                    self.now = self.now.max(line.at);
                    self.happens(&line)?;
                    if !self.heard(&line)? {
                        return Err(format!("the reducer does not say {line:?}: {:?}", self.said));
                    }
                }
            }
            self.recorded.pop_front();
        }
        match self.said.first() {
            Some(line) => Err(format!("the device has not said {line:?}")),
            None => Ok(()),
        }
    }

    /// True where the reducer has said this line, of its component next.
    fn heard(&mut self, line: &Line) -> Result<bool, String> {
        let of = split(&self.setup, &line.text).map(|(component, _)| component);
        let same = |said: &Line| split(&self.setup, &said.text).map(|(index, _)| index) == of;
        let Some(place) = self.said.iter().position(same) else {
            return Ok(false);
        };
        let said = self.said.remove(place);
        let other_event = line.event.is_some() && said.event != line.event;
        if said.text != line.text || other_event {
            return Err(format!("the device said {line:?}, and the reducer {said:?}"));
        }
        if line.at.abs_diff(said.at) > LATE_MS {
            return Err(format!("the device said {line:?} at another time than {said:?}"));
        }
        Ok(true)
    }

    /// What falls due until then falls due, one after the other.
    fn advance(&mut self, until: Millis) {
        while let Some(at) = self.state.deadline(self.now).filter(|at| *at <= until) {
            if self.has_ended {
                return;
            }
            self.now = self.now.max(at);
            self.keep_alive();
            self.turn();
            if self.state.deadline(self.now).is_some_and(|next| next <= at) {
                // Nothing becomes of it before the next line.
                return;
            }
        }
        self.turn();
    }

    fn turn(&mut self) {
        self.act(Event::Deadline { heard: self.now });
        self.act(Event::Judge { heard: self.now });
    }

    /// What shows that a component is alive stands in no log: whoever has missed no watchdog has shown it.
    fn keep_alive(&mut self) {
        for component in 0..self.setup.components.len() {
            let watchdog = self.setup.components[component].watchdog_ms.map(Millis::from);
            let Some(watchdog) = watchdog else {
                continue;
            };
            let missed = format!("{}{}", self.setup.components[component].name, KILLS[0]);
            let kill = self.recorded.iter().find(|line| line.text == missed).map(|line| line.at);
            if kill.is_none_or(|kill| self.now + watchdog <= kill) {
                self.act(Event::Notified { component, ready: false, watchdog: true });
            }
        }
    }

    /// What has happened on the device that this line is the first one to tell of.
    fn happens(&mut self, line: &Line) -> Result<(), String> {
        let unknown = || format!("nothing is known that could lead to {line:?}");
        if let Some(partitions) = line.text.strip_prefix("the owner resets the device: ") {
            self.act(Event::ResetOrdered { partitions: partitions.to_owned() });
            return Ok(());
        }
        if line.text == "stopping all components" {
            self.act(Event::EndSignalled { end: End::Reboot });
            return Ok(());
        }
        if line.text.ends_with(" committed") && self.setup.slot_on_trial {
            self.act(Event::Agreed);
            self.turn();
            return Ok(());
        }
        let (component, rest) = split(&self.setup, &line.text).ok_or_else(unknown)?;
        if rest == " is ready" {
            self.act(Event::Notified { component, ready: true, watchdog: false });
        } else if rest.starts_with(" ended with ") {
            let exit = ended(rest).ok_or_else(unknown)?.0;
            self.act(Event::StubEnded { component, exit });
            self.turn();
        } else if rest == KILLS[0] {
            // It has shown that it is alive for the last time so long ago.
            self.turn();
        } else if let Some(request) = rest.strip_prefix(" asks for ") {
            self.act(match request {
                "Reboot" => Event::EndAsked { asking: component, end: End::Reboot },
                "PowerOff" => Event::EndAsked { asking: component, end: End::PowerOff },
                request => {
                    let request = manage(request).ok_or_else(unknown)?;
                    Event::Manage { asking: component, request }
                }
            });
            self.turn();
        } else {
            return Err(unknown());
        }
        Ok(())
    }

    fn act(&mut self, event: Event) {
        for effect in self.state.step(event, self.now) {
            self.carry_out(effect);
        }
    }

    /// What became of an effect stands in the lines that follow.
    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Log(_, event, text) => {
                let event = Some(event.name().to_owned());
                self.said.push(Line { at: self.now, text, event });
            }
            Effect::Start(component) => {
                let failed = self.next_of(component, " cannot be started: ", &[" started"]);
                self.act(match failed {
                    Some(error) => Event::StartFailed { component, error },
                    None => Event::Started { component },
                });
            }
            Effect::Collect { component, exit } => {
                let line = self.next_of(component, " ended with ", &[]);
                let peak = line.and_then(|line| ended(&format!(" ended with {line}")));
                self.act(Event::Exited {
                    component,
                    exit,
                    memory_peak_kib: peak.map_or(0, |(_, peak)| peak),
                    package_is_damaged: self
                        .next_of(component, ": its package is damaged; ", &[" started"])
                        .is_some(),
                    // What is recorded of an end is in no log.
                    was_out_of_memory: false,
                });
            }
            Effect::CommitSlot => {
                let error = self.follows("cannot commit the slot: ");
                let outcome = error.map_or_else(|| Ok(String::new()), Err);
                self.act(Event::SlotCommitted { good: outcome.is_ok(), outcome });
            }
            Effect::CommitPackage(component) => {
                let error = self.next_of(component, ": cannot commit its new package: ", &[]);
                self.act(Event::PackageCommitted { component, error });
            }
            Effect::GiveUpPackage(component) => {
                let error = self.next_of(component, ": cannot remove its new package: ", &[]);
                self.act(Event::PackageGivenUp { component, error });
            }
            Effect::CheckPrevious(component) => {
                let marker = ": cannot fall back to its previous package: ";
                let refusal = self.next_of(component, marker, &[]);
                self.act(Event::PreviousChecked { component, refusal });
            }
            Effect::FallBack(component) => self.act(Event::FellBack { component, error: None }),
            Effect::End(_) => self.has_ended = true,
            // How a device stands is said behind a commit, and is not the reducer's.
            Effect::LogStatus(_)
            | Effect::Pet
            | Effect::Kill(_)
            | Effect::Abort(_)
            | Effect::Terminate(_)
            | Effect::HurryWrites(_)
            | Effect::RecordEnd { .. }
            | Effect::RaiseFloor(_)
            | Effect::CommitClock
            | Effect::RenewBootLoader
            | Effect::RenewTries
            | Effect::Reply(..) => {}
        }
    }

    /// What is behind `marker` in the next line of a component that has it, unless one with `before` comes first.
    fn next_of(&self, component: usize, marker: &str, before: &[&str]) -> Option<String> {
        let lines = self.recorded.iter().filter_map(|line| split(&self.setup, &line.text));
        let mut of = lines.filter(|(index, _)| *index == component).map(|(_, rest)| rest);
        let found = of.find(|rest| {
            rest.starts_with(marker) || before.iter().any(|before| rest.starts_with(before))
        });
        found?.strip_prefix(marker).map(str::to_owned)
    }

    fn follows(&self, beginning: &str) -> Option<String> {
        let mut lines = self.recorded.iter();
        lines.find_map(|line| line.text.strip_prefix(beginning)).map(str::to_owned)
    }
}

/// ` ended with exit code 1, memory peak 640 KiB`
fn ended(rest: &str) -> Option<(Exit, u64)> {
    let rest = rest.strip_prefix(" ended with ")?;
    let (how, peak) = rest.split_once(", memory peak ")?;
    let exit = match how.strip_prefix("exit code ") {
        Some(code) => Exit::Code(code.parse().ok()?),
        None => Exit::Signal(how.strip_prefix("signal ")?.parse().ok()?),
    };
    Some((exit, peak.strip_suffix(" KiB")?.parse().ok()?))
}

/// `Restart("a")`
fn manage(request: &str) -> Option<ManageRequest> {
    let (what, name) = request.strip_suffix("\")")?.split_once("(\"")?;
    let name = name.to_owned();
    Some(match what {
        "Start" => ManageRequest::Start(name),
        "Stop" => ManageRequest::Stop(name),
        "Restart" => ManageRequest::Restart(name),
        _ => return None,
    })
}

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/supervision/recorded")
}

#[test]
fn every_recorded_run_is_decided_as_it_was() {
    let mut count = 0;
    for entry in std::fs::read_dir(recorded()).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let recording = Recording::read(&text);
        assert!(recording.lines.len() > 3, "{}: hardly a line is the reducer's", path.display());
        let replayed = Replay::new(recording).run();
        assert_eq!(replayed, Ok(()), "{}", path.display());
        count += 1;
    }
    assert!(count >= 3, "{count} recordings");
}

#[test]
fn a_recording_in_which_something_else_was_decided_is_found_out() {
    let text = recording(crash_loop());
    for (was, is) in [
        ("again in 800 ms", "again in 100 ms"),
        ("watched missed its watchdog: killed", "watched was not ready in time: killed"),
        ("slot a committed", "slot b committed"),
        ("event=component_crash_loop", "event=component_ready"),
    ] {
        assert!(text.contains(was), "{text}");
        let changed = text.replacen(was, is, 1);
        Replay::new(Recording::read(&changed)).run().unwrap_err();
    }
    let without: Vec<&str> =
        text.lines().filter(|line| !line.contains("crash is in a crash loop")).collect();
    assert!(without.len() + 1 == text.lines().count(), "{text}");
    Replay::new(Recording::read(&without.join("\n"))).run().unwrap_err();
    // A restart three seconds before its time, and one three seconds behind it.
    for time in ["[    9.770000]", "[   15.770000]"] {
        let moved = text.replacen("[   12.770000]", time, 1);
        assert_ne!(moved, text);
        Replay::new(Recording::read(&moved)).run().unwrap_err();
    }
}

#[test]
fn lines_of_others_and_other_lines_of_inits_are_passed_over() {
    let text = recording(crash_loop());
    let more = text.replacen(
        "[    0.000000] init: crash started event=component_started\n",
        "[    0.000000] init: crash started event=component_started\n\
         [    0.001000] crash: init: crash started\n\
         [    0.001100] init: crash is at its limit of 16 processes: 3 forks refused\n\
         [    0.001200] eth0: link up\n",
        1,
    );
    assert_ne!(more, text);
    assert_eq!(Replay::new(Recording::read(&more)).run(), Ok(()));
}

#[test]
fn a_log_of_a_release_without_events_is_replayed() {
    let text = recording(crash_loop());
    let without = text.lines().map(|line| event::split(line).0).collect::<Vec<_>>().join("\n");
    assert_ne!(without, text.trim_end());
    assert_eq!(Replay::new(Recording::read(&without)).run(), Ok(()));
}

/// A device whose runs are recorded: what it is made of, and its run.
struct Simulated {
    name: &'static str,
    setup: Setup,
    device: Device,
}

fn recording(run: Simulated) -> String {
    let Simulated { name, setup, device } = run;
    let setup = serde_json::to_string(&setup).unwrap();
    let log = device.console();
    format!("# source: {name}, simulated by the tests of os/lifecycle\n# setup: {setup}\n{log}")
}

/// One component in a crash loop, one that misses its watchdog once, and a third that decides about the boot.
fn crash_loop() -> Simulated {
    let watched = Component { watchdog_ms: Some(2_000), ..component("watched") };
    let critical = Component {
        readiness: Readiness::Notify { within_ms: 5_000 },
        critical: true,
        ..component("network")
    };
    let setup = setup(vec![component("crash"), watched, critical]);
    let mut device = Device::new(setup.clone());
    device.programs[0].ends = Some((10, Exit::Signal(11)));
    device.programs[1].pings_every = Some(900);
    device.programs[2].ready_after = Some(1_200);
    device.run_until(20_000);
    device.programs[1] = Program::default();
    device.run_until(24_000);
    device.programs[1].pings_every = Some(900);
    device.run_until(300_000);
    assert_eq!(device.state.component(2), Some(supervision::State::Ready));
    Simulated { name: "crash-loop", setup, device }
}

/// An update that is good, with an app on trial beside it, a restart that a service asks for, and a power-off.
fn update() -> Simulated {
    let critical = Component {
        readiness: Readiness::Notify { within_ms: 5_000 },
        critical: true,
        ..component("network")
    };
    let components = vec![
        critical,
        Component { agrees: true, ..component("update") },
        component("manager"),
        app("hello", Package::Current),
        app("valve", Package::OnTrial),
    ];
    let setup = Setup { slot_on_trial: true, ..setup(components) };
    let mut device = Device::new(setup.clone());
    device.programs[0].ready_after = Some(1_700);
    device.at(9_000, Event::Agreed);
    let request = ManageRequest::Restart("hello".to_owned());
    device.at(12_000, Event::Manage { asking: 2, request });
    device.at(15_000, Event::EndAsked { asking: 2, end: End::PowerOff });
    device.run_until(60_000);
    assert!(device.has_ended);
    Simulated { name: "update", setup, device }
}

/// A release that is never healthy, and an app whose package is damaged and has none before it.
fn failing_trial() -> Simulated {
    let critical = Component {
        readiness: Readiness::Notify { within_ms: 2_000 },
        critical: true,
        ..component("network")
    };
    let setup = setup(vec![critical, app("hello", Package::Current)]);
    let setup = Setup { slot_on_trial: true, ..setup };
    let mut device = Device::new(setup.clone());
    device.damaged = vec![1];
    device.media.previous_refused = Some("there is no package /apps/previous".to_owned());
    device.programs[1].ends = Some((3_000, Exit::Signal(7)));
    device.run_until(120_000);
    assert!(device.has_ended);
    Simulated { name: "failing-trial", setup, device }
}

/// What stands in the tree as simulated is what the reducer does today: where that is meant to change, the files are
/// written again with `HOLDFAST_WRITE_RECORDINGS=1`.
#[test]
fn the_simulated_recordings_are_those_of_this_reducer() {
    for run in [crash_loop(), update(), failing_trial()] {
        let path = recorded().join(format!("simulated-{}.log", run.name));
        let text = recording(run);
        if std::env::var_os("HOLDFAST_WRITE_RECORDINGS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "{} is another run", path.display());
    }
}
