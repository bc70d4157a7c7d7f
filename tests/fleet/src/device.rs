//! A device: its schedule of check-ins, and what it records and sends, by the product's own code.

use holdfast_evidence::messages::DeviceId;
use holdfast_evidence::schedule::{Action, Schedule};
use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::{self, Epoch};
use holdfast_failure_reports::frame;
use holdfast_failure_reports::quota::Quota;
use holdfast_failure_reports::record::{App, Body, Component, Name, Record};
use holdfast_failure_reports::urgent::Urgency;
use holdfast_types::{ComponentId, Version};

/// Id of the app that every device has.
pub const CAMERA: ComponentId = ComponentId([0x25; 16]);

/// A device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Version of its OS.
    pub os: Version,
    /// Version of its app.
    pub camera: Version,
    /// When it has booted.
    pub booted_at: u64,
    /// Until when it reaches nobody.
    pub offline_until: u64,
    /// Number of the receipt that it keeps.
    pub receipt: Option<u64>,
    /// True where what it measures is no release.
    pub is_tampered: bool,
    /// Its schedule.
    pub schedule: Schedule,
    reports: Option<Box<Reports>>,
    sequence: u64,
}

/// What a device has recorded.
#[derive(Debug, Clone)]
struct Reports {
    quota: Quota,
    urgency: Urgency,
    spool: Vec<Record>,
}

impl Device {
    /// Makes one that has booted.
    #[must_use]
    pub fn new(number: u32, os: Version, camera: Version, now: u64, random: u64) -> Self {
        let mut id = [0; 32];
        // Ids are hashes: the first bytes decide about the second of check-ins.
        id[..8].copy_from_slice(&random.to_be_bytes());
        id[8..12].copy_from_slice(&number.to_be_bytes());
        Self {
            id: DeviceId(id),
            os,
            camera,
            booted_at: now,
            offline_until: 0,
            receipt: None,
            is_tampered: false,
            schedule: Schedule::new(now * 1000, random),
            reports: None,
            sequence: 0,
        }
    }

    /// Returns the app as it runs.
    #[must_use]
    pub fn app(&self) -> Component {
        let name = Name::try_from("camera".to_owned()).expect("a name");
        Component::App(App { id: CAMERA, name, version: self.camera, package: [7; 8] })
    }

    /// Returns the second at which it is to check in, if not now.
    #[must_use]
    pub fn due(&self, now: u64) -> u64 {
        match self.schedule.action(now * 1000) {
            Action::CheckIn | Action::Look => now,
            Action::Wait(ms) => now + ms.div_ceil(1000),
        }
    }

    /// Begins a boot, which forgets what was urgent.
    pub fn boot(&mut self, now: u64, random: u64) {
        self.booted_at = now;
        self.schedule = Schedule::new(now * 1000, random);
        if let Some(reports) = &mut self.reports {
            flush(reports, &mut self.sequence, now);
            reports.urgency = Urgency::default();
        }
    }

    /// Something happens. Returns the second at which it is sent, if it is urgent.
    pub fn record(&mut self, body: Body, level: Level, now: u64, random: u64) -> Option<u64> {
        let uptime = now - self.booted_at;
        let reports = self.reports.get_or_insert_with(|| {
            let (quota, urgency, spool) = (Quota::new(level), Urgency::default(), Vec::new());
            Box::new(Reports { quota, urgency, spool })
        });
        reports.quota.set_level(level);
        let was_due = reports.urgency.is_due(u64::MAX);
        reports.urgency.take(&body, uptime, random);
        reports.quota.take(body, uptime, Some(now));
        let is_new = !was_due && reports.urgency.is_due(u64::MAX);
        let wait = (0..=holdfast_failure_reports::urgent::JITTER_S)
            .find(|wait| reports.urgency.is_due(uptime + wait));
        wait.filter(|_| is_new).map(|wait| now + wait)
    }

    /// Puts what waits into the spool, as it does each ten minutes.
    pub fn flush(&mut self, now: u64) {
        if let Some(reports) = &mut self.reports {
            flush(reports, &mut self.sequence, now);
        }
    }

    /// True where an urgent upload is due.
    #[must_use]
    pub fn is_urgent(&self, now: u64) -> bool {
        let uptime = now.saturating_sub(self.booted_at);
        self.reports.as_ref().is_some_and(|reports| reports.urgency.is_due(uptime))
    }

    /// An urgent upload has failed.
    pub fn upload_failed(&mut self, now: u64, random: u64) {
        if let Some(reports) = &mut self.reports {
            reports.urgency.failed(now - self.booted_at, random);
        }
    }

    /// Returns the batch of all that is recorded, and forgets it; nothing where nothing is.
    pub fn upload(&mut self, now: u64) -> Option<Vec<u8>> {
        let mut reports = self.reports.take()?;
        flush(&mut reports, &mut self.sequence, now);
        reports.urgency.uploaded(now - self.booted_at);
        let mut bytes = batch::begin(Epoch([1; 8]));
        for record in reports.spool.drain(..) {
            bytes.extend(frame::encode(&record).expect("a record is encoded"));
        }
        self.reports = Some(reports);
        (bytes.len() > batch::HEADER_BYTES).then_some(bytes)
    }
}

fn flush(reports: &mut Reports, sequence: &mut u64, now: u64) {
    for waiting in reports.quota.flush(0, Some(now)) {
        *sequence += 1;
        let uptime_s = waiting.uptime_s.try_into().unwrap_or(u32::MAX);
        let (at, body) = (waiting.at, waiting.body);
        reports.spool.push(Record { sequence: *sequence, at, uptime_s, body });
    }
}
