//! A group of devices whose reports are written down as a test wants them.

use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::{
    App, Body, Boot, Clock, Component, Crash, End, Ended, Fault, Name, Outcome, Place, Protocol,
    Record, Refused, Reset, Traffic, Update, Where,
};
use holdfast_service_domain::detection::baseline::Baseline;
use holdfast_service_domain::detection::evaluation::evaluate_rule;
use holdfast_service_domain::detection::finding::Detection;
use holdfast_service_domain::detection::observation::{Event, Observation, OfDevice};
use holdfast_service_domain::detection::population::Population;
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::thresholds::Thresholds;
use holdfast_service_domain::detection::view::View;
use holdfast_service_domain::detection::window::Window;
use holdfast_service_domain::device::Finding;
use holdfast_types::{ClockSource, ComponentId, Phase, Slot, Version};

/// When scenes begin, in seconds since 1970.
pub(crate) const BEGIN: u64 = 1_800_000_000;
pub(crate) const HOUR: u64 = 3600;
pub(crate) const DAY: u64 = 24 * HOUR;
pub(crate) const CAMERA: ComponentId = ComponentId([0x25; 16]);
pub(crate) const ONE: Version = Version { major: 1, minor: 0, patch: 0 };
pub(crate) const TWO: Version = Version { major: 2, minor: 0, patch: 0 };

/// A group with an OS 1.0.0 and an app 2.0.0.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    pub(crate) window: Window,
    pub(crate) baseline: Baseline,
    pub(crate) population: Population,
    pub(crate) now: u64,
    records: u64,
}

pub(crate) fn device(number: u32) -> DeviceId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    DeviceId(id)
}

pub(crate) fn app(version: Version) -> Component {
    let name = Name::try_from("camera".to_owned()).unwrap();
    Component::App(App { id: CAMERA, name, version, package: [1; 8] })
}

pub(crate) fn refused(port: u16, addresses_log2: u8) -> Body {
    refused_at(port, addresses_log2, Where::Public, false)
}

pub(crate) fn refused_at(port: u16, addresses_log2: u8, to: Where, is_granted_name: bool) -> Body {
    let (component, protocol, port, count) = (app(TWO), Protocol::Tcp, Some(port), 500);
    Body::Refused(Refused { component, protocol, port, to, count, addresses_log2, is_granted_name })
}

pub(crate) fn ended(end: End, offset: u32) -> Body {
    let pc = Place { build_id: None, offset };
    let crash = Some(Crash { pc, lr: None, fault: Fault::Code });
    Body::Ended(Ended { component: app(TWO), end, crash, panic: None, ran_s: 60, count: 1 })
}

pub(crate) fn update(outcome: Outcome) -> Body {
    Body::Update(Update { app: Some(CAMERA), from: ONE, to: TWO, outcome, fetched_bytes: 1 })
}

pub(crate) fn boot(reset: Reset) -> Body {
    let (boot_id, slot, phase) = ([0; 16], Slot::A, Phase::Committed);
    Body::Boot(Boot { boot_id, version: ONE, slot, phase, reset, fault: None })
}

pub(crate) fn clock(step_s: i64, is_refused: bool) -> Body {
    Body::Clock(Clock { source: ClockSource::Network, step_s, is_refused })
}

pub(crate) fn traffic(mib: u64) -> Body {
    let (component, received_bytes) = (app(TWO), 0);
    Body::Traffic(Traffic { component, sent_bytes: mib << 20, received_bytes })
}

impl Scene {
    /// A group of so many devices, whose destinations have been learned.
    pub(crate) fn of(devices: u32) -> Self {
        let mut population = Population::new(devices);
        population.add_os(ONE, devices);
        population.add_app(CAMERA, TWO, devices);
        let mut baseline = Baseline::default();
        baseline.begin(BEGIN - 30 * DAY);
        let window = Window::default();
        Self { window, baseline, population, now: BEGIN, records: 0 }
    }

    /// A device has reported something that has happened so many seconds after its boot.
    pub(crate) fn report_at(&mut self, number: u32, uptime_s: u32, body: Body) {
        self.records += 1;
        let record = Record { sequence: self.records, at: None, uptime_s, body };
        self.event(number, Event::Recorded(Box::new(record)));
    }

    /// A device has reported something.
    pub(crate) fn report(&mut self, number: u32, body: Body) {
        self.report_at(number, 0, body);
    }

    pub(crate) fn event(&mut self, number: u32, event: Event) {
        let of = OfDevice { at: self.now, device: device(number), os: ONE, event };
        self.observe(&Observation::Device(of));
    }

    pub(crate) fn found(&mut self, number: u32, finding: Finding) {
        self.event(number, Event::Found(finding));
    }

    pub(crate) fn observe(&mut self, observation: &Observation) {
        self.window.observe(observation, &self.population, &mut self.baseline);
    }

    /// So many minutes pass, with an evaluation at the end of each.
    pub(crate) fn minutes(&mut self, minutes: u64) {
        for _ in 0..minutes {
            self.now += 60;
            self.window.tick(self.now, &mut self.baseline, &Thresholds::default());
        }
    }

    pub(crate) fn find(&self, rule: Rule) -> Vec<Detection> {
        self.find_with(rule, &Thresholds::default())
    }

    pub(crate) fn find_with(&self, rule: Rule, thresholds: &Thresholds) -> Vec<Detection> {
        let Self { window, baseline, population, now, .. } = self;
        evaluate_rule(rule, &View { window, baseline, population, thresholds, now: *now })
    }
}
