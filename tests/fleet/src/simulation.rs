//! The run: minutes, in each of which what is due happens, and at the end of which the rules are evaluated.

use crate::device::Device;
use crate::random::Random;
use crate::rates::{BEGIN, Churn, version};
use crate::service::Service;
use holdfast_evidence::schedule::Outcome;
use holdfast_failure_reports::Level;
use holdfast_failure_reports::record::{Body, Boot, Reset};
use holdfast_service_domain::detection::register::{Change, FleetFinding};
use holdfast_service_domain::detection::rule::Rule;
use holdfast_types::{Phase, Slot};
use std::collections::BTreeMap;

/// One of so many devices reports all that it may.
const FULL_EACH: u32 = 50;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// A check-in, by the device's schedule.
    CheckIn,
    /// The service looks whether the device is missing.
    Overdue,
    /// An urgent upload.
    Upload,
    /// What waits goes into the spool.
    Flush,
    /// Another copy of the device checks in.
    CopyChecksIn,
}

/// Devices and service, with the time.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// Devices.
    pub devices: Vec<Device>,
    /// The service.
    pub service: Service,
    /// The time, in seconds since 1970: of the service, and of devices whose clocks are right.
    pub now: u64,
    /// The service is off until then.
    pub service_off_until: u64,
    /// How often things happen to devices.
    pub churn: Churn,
    /// Makes them happen.
    each_minute: fn(&mut Self),
    pub(crate) random: Random,
    pub(crate) copies: BTreeMap<u32, Device>,
    /// Devices that have not tried the release yet that is rolled out, the next one last.
    pub(crate) turns: (u64, Vec<(u64, u32)>),
    due: BTreeMap<u64, Vec<(u32, Due)>>,
    /// When each finding was opened or opened again.
    opened: Vec<(u64, u64)>,
}

impl Simulation {
    /// Makes a fleet that is switched on within its first hours. `each_minute` makes things happen to it.
    #[must_use]
    pub fn new(devices: u32, seed: u64, churn: Churn, each_minute: fn(&mut Self)) -> Self {
        let mut random = Random::new(seed);
        let (os, camera) = (version(1, 0), version(2, 0));
        let made = (0..devices).map(|n| Device::new(n, os, camera, BEGIN, random.number()));
        let devices_made: Vec<Device> = made.collect();
        let mut this = Self {
            devices: devices_made,
            service: Service::new(devices, BEGIN),
            now: BEGIN,
            service_off_until: 0,
            churn,
            each_minute,
            random,
            copies: BTreeMap::new(),
            turns: (0, Vec::new()),
            due: BTreeMap::new(),
            opened: Vec::new(),
        };
        for number in 0..devices {
            let at = BEGIN + this.random.below(6 * 3600);
            this.devices[number as usize].schedule =
                holdfast_evidence::schedule::Schedule::new(at * 1000, 0);
            this.put(at, number, Due::CheckIn);
        }
        this
    }

    pub(crate) fn put(&mut self, at: u64, number: u32, due: Due) {
        self.due.entry(at.max(self.now) / 60).or_default().push((number, due));
    }

    /// Lets minutes pass until `end`.
    pub fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.minute();
        }
    }

    /// Lets a minute pass.
    pub fn minute(&mut self) {
        (self.each_minute)(self);
        let minute = self.now / 60;
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= minute) {
            for (number, due) in entry.remove() {
                self.happen(number, due);
            }
        }
        self.now += 60;
        if self.is_listening() {
            for change in self.service.evaluate(self.now) {
                if let Change::Opened(number) | Change::Reopened(number) = change {
                    self.opened.push((self.now, number));
                }
            }
        }
    }

    fn is_listening(&self) -> bool {
        self.now >= self.service_off_until
    }

    /// The service is off for so many seconds from now on.
    pub fn switch_service_off(&mut self, seconds: u64) {
        self.service_off_until = self.now + seconds;
        self.service.listens_again(self.service_off_until);
    }

    fn happen(&mut self, number: u32, due: Due) {
        match due {
            Due::CheckIn => self.check_in(number),
            Due::Overdue if !self.is_listening() => {
                self.put(self.service_off_until, number, Due::Overdue);
            }
            Due::Overdue => {
                let at = self.service.missed_at(number);
                if at <= self.now {
                    let id = self.devices[number as usize].id;
                    self.service.missed(number, id, self.now);
                } else if at < self.now + 2 * 24 * 60 * 60 && at < u64::MAX {
                    // It has checked in meanwhile, and is looked for again, by what that check-in has put.
                    if self.service_off_until > 0 {
                        self.put(at + 60, number, Due::Overdue);
                    }
                }
            }
            Due::Upload => self.upload(number),
            Due::Flush => self.devices[number as usize].flush(self.now),
            Due::CopyChecksIn => {
                if let Some(mut copy) = self.copies.remove(&number) {
                    let next = self.service.check_in(number, &mut copy, self.now);
                    self.put(self.now + u64::from(next), number, Due::CopyChecksIn);
                    self.copies.insert(number, copy);
                }
            }
        }
    }

    fn check_in(&mut self, number: u32) {
        let (now, random) = (self.now, self.random.number());
        let is_listening = self.is_listening();
        let device = &mut self.devices[number as usize];
        // What was due and is not any more: the device has booted meanwhile, or waits.
        let due = device.due(now);
        if due > now + 59 {
            return;
        }
        if !is_listening || device.offline_until > now {
            let outcome = Outcome::Failed { retry_after_s: None, is_unknown: false };
            device.schedule.ended(outcome, now * 1000, random);
            let next = device.due(now).max(now + 60);
            return self.put(next, number, Due::CheckIn);
        }
        let next_s = self.service.check_in(number, device, now);
        let batch = device.upload(now);
        let (id, os) = (device.id, device.os);
        device.schedule.ended(
            Outcome::CheckedIn { next_s, is_on_trial: false },
            now * 1000,
            random,
        );
        let next = device.due(now);
        if let Some(batch) = batch {
            self.service.take(id, os, &batch, now);
        }
        self.put(next, number, Due::CheckIn);
        let missed_at = self.service.missed_at(number);
        self.put(missed_at + 60, number, Due::Overdue);
    }

    fn upload(&mut self, number: u32) {
        let (now, random) = (self.now, self.random.number());
        let is_listening = self.is_listening();
        let device = &mut self.devices[number as usize];
        if !device.is_urgent(now + 59) {
            return;
        }
        if !is_listening || device.offline_until > now {
            device.upload_failed(now + 59, random);
            return self.put(now + 600, number, Due::Upload);
        }
        let (id, os) = (device.id, device.os);
        if let Some(batch) = device.upload(now + 59) {
            self.service.take(id, os, &batch, now);
        }
    }

    /// Something happens on a device.
    pub fn record(&mut self, number: u32, body: Body) {
        let level = if number.is_multiple_of(FULL_EACH) { Level::Full } else { Level::Health };
        let (now, random) = (self.now, self.random.number());
        let urgent = self.devices[number as usize].record(body, level, now, random);
        if let Some(at) = urgent {
            self.put(at, number, Due::Upload);
        }
        self.put(now + 600, number, Due::Flush);
    }

    /// A device boots.
    pub fn boot(&mut self, number: u32, reset: Reset) {
        let (now, random) = (self.now, self.random.number());
        let device = &mut self.devices[number as usize];
        device.boot(now, random);
        let mut boot_id = [0; 16];
        boot_id[..8].copy_from_slice(&random.to_be_bytes());
        let (version, slot, phase) = (device.os, Slot::A, Phase::Committed);
        self.record(number, Body::Boot(Boot { boot_id, version, slot, phase, reset, fault: None }));
        self.put(now + 60, number, Due::CheckIn);
    }

    /// Returns the seconds since `since` at which a finding of the rule was opened for the first time then; nothing where none was.
    #[must_use]
    pub fn found_after(&self, rule: Rule, since: u64) -> Option<u64> {
        let of_rule = |number: u64| self.finding(number).is_some_and(|it| it.key.rule == rule);
        let first = self.opened.iter().find(|(at, number)| *at >= since && of_rule(*number));
        first.map(|(at, _)| at - since)
    }

    /// Returns a finding.
    #[must_use]
    pub fn finding(&self, number: u64) -> Option<&FleetFinding> {
        self.service.register.get(number)
    }
}
