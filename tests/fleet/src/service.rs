//! The service: what it knows of devices, and what its rules find.

use crate::device::{CAMERA, Device};
use holdfast_evidence::claims::Phase;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::batch::Batch;
use holdfast_service_domain::detection::baseline::Baseline;
use holdfast_service_domain::detection::evaluation::evaluate;
use holdfast_service_domain::detection::observation::{Event, Observation, OfDevice, missed_at};
use holdfast_service_domain::detection::population::Population;
use holdfast_service_domain::detection::register::{Change, Register};
use holdfast_service_domain::detection::thresholds::Thresholds;
use holdfast_service_domain::detection::view::View;
use holdfast_service_domain::detection::window::Window;
use holdfast_service_domain::device::State;
use holdfast_service_domain::policy::{Facts, ReleaseFacts, judge};
use holdfast_service_domain::receipt::Receipts;
use holdfast_service_domain::schedule::{EVERY_S, next_s};
use holdfast_types::Version;
use std::collections::BTreeMap;

/// What the service knows of a device.
#[derive(Debug, Clone, Copy)]
struct Row {
    receipts: Receipts,
    due: u64,
    os: Version,
    camera: Version,
    /// True until it has checked in for the first time.
    is_new: bool,
}

/// The service.
#[derive(Debug, Clone)]
pub struct Service {
    rows: Vec<Row>,
    versions: BTreeMap<(Version, Version), u32>,
    population: Population,
    is_changed: bool,
    listening_since: u64,
    /// What was seen within a day.
    pub window: Window,
    /// What is usual.
    pub baseline: Baseline,
    /// The group's settings.
    pub thresholds: Thresholds,
    /// What was found.
    pub register: Register,
    /// Check-ins, records and bytes that were taken.
    pub taken: Taken,
}

/// What was taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken {
    /// Check-ins.
    pub check_ins: u64,
    /// Records.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// The most devices that the window has had at all keys.
    pub most_entries: usize,
}

impl Service {
    /// Makes one for so many devices.
    #[must_use]
    pub fn new(devices: u32, now: u64) -> Self {
        let version = Version::default();
        let (receipts, is_new) = (Receipts::default(), true);
        let row = Row { receipts, due: u64::MAX, os: version, camera: version, is_new };
        Self {
            rows: vec![row; devices as usize],
            versions: BTreeMap::new(),
            population: Population::new(devices),
            is_changed: false,
            listening_since: now,
            window: Window::default(),
            baseline: Baseline::default(),
            thresholds: Thresholds::default(),
            register: Register::default(),
            taken: Taken::default(),
        }
    }

    /// It has been away, and listens again.
    pub fn listens_again(&mut self, now: u64) {
        self.listening_since = now;
    }

    /// Takes a device's check-in, and returns the seconds to the next.
    pub fn check_in(&mut self, number: u32, device: &mut Device, now: u64) -> u32 {
        let row = &mut self.rows[number as usize];
        let (receipt, receipts) = row.receipts.accept(device.receipt, false);
        row.receipts = receipts;
        device.receipt = Some(receipts.newest);
        let release = (!device.is_tampered).then_some(ReleaseFacts {
            withdrawn: false,
            index: 1,
            agrees: true,
        });
        let (_, findings) = judge(&Facts {
            state: State::Enrolled,
            quarantined: false,
            contained: false,
            grade_is_taken: true,
            release,
            least_index: 0,
            debug: false,
            phase: Phase::Committed,
            receipt,
            clock_went_back: false,
        });
        let attested = (device.os, device.camera);
        if row.is_new || (row.os, row.camera) != attested {
            if let Some(count) =
                self.versions.get_mut(&(row.os, row.camera)).filter(|_| !row.is_new)
            {
                *count -= 1;
            }
            *self.versions.entry(attested).or_default() += 1;
            (row.os, row.camera, row.is_new) = (attested.0, attested.1, false);
            self.is_changed = true;
        }
        let next = next_s(&device.id, now, EVERY_S.1);
        row.due = now + u64::from(next);
        self.taken.check_ins += 1;
        self.observe(device.id, device.os, now, Event::CheckedIn);
        for finding in findings {
            self.observe(device.id, device.os, now, Event::Found(finding));
        }
        next
    }

    /// Returns when a device counts as missing that is known to be due; nothing where it is not.
    #[must_use]
    pub fn missed_at(&self, number: u32) -> u64 {
        missed_at(self.rows[number as usize].due, self.listening_since)
    }

    /// A device has not checked in.
    pub fn missed(&mut self, number: u32, id: DeviceId, now: u64) {
        let row = &mut self.rows[number as usize];
        // Once for each time that it was due.
        row.due = u64::MAX;
        let os = row.os;
        self.observe(id, os, now, Event::Missed);
    }

    /// Takes a batch.
    pub fn take(&mut self, device: DeviceId, os: Version, bytes: &[u8], now: u64) {
        self.refresh();
        let batch = Batch::decode(bytes).expect("a batch is read");
        assert_eq!(batch.unknown, 0);
        self.taken.records += batch.records.len() as u64;
        self.taken.bytes += bytes.len() as u64;
        for record in batch.records {
            self.observe(device, os, now, Event::Recorded(Box::new(record)));
        }
    }

    fn observe(&mut self, device: DeviceId, os: Version, at: u64, event: Event) {
        let observation = Observation::Device(OfDevice { at, device, os, event });
        self.window.observe(&observation, &self.population, &mut self.baseline);
    }

    /// Somebody's enrolment has failed.
    pub fn enrolment_failed(&mut self, observation: &Observation) {
        self.window.observe(observation, &self.population, &mut self.baseline);
    }

    fn refresh(&mut self) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        self.population = Population::new(self.rows.len() as u32);
        for ((os, camera), count) in &self.versions {
            self.population.add_os(*os, *count);
            self.population.add_app(CAMERA, *camera, *count);
        }
    }

    /// Evaluates all rules.
    pub fn evaluate(&mut self, now: u64) -> Vec<Change> {
        self.refresh();
        self.window.tick(now, &mut self.baseline, &self.thresholds);
        let Self { window, baseline, population, thresholds, .. } = &*self;
        let detections = evaluate(&View { window, baseline, population, thresholds, now });
        self.taken.most_entries = self.taken.most_entries.max(self.window.entries());
        self.register.take(&detections, now)
    }
}
