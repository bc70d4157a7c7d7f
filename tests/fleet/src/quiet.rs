//! Days in which nobody attacks the fleet, and what they cost.

use crate::churn::fleet;
use crate::rates::{BEGIN, DAY_S};
use serde::Serialize;
use std::time::Instant;

/// What was counted in those days.
#[derive(Debug, Clone, Serialize)]
pub struct Quiet {
    devices: u32,
    days: u32,
    /// Seconds that it took on this machine.
    seconds: f64,
    check_ins: u64,
    records: u64,
    /// Bytes of batches that devices have sent.
    bytes: u64,
    /// What was found, each of them falsely.
    findings: Vec<String>,
    /// The most devices that the window has had at all keys.
    most_entries: usize,
    /// Devices that the window had no room for.
    dropped: u64,
}

/// Lets the days pass.
#[must_use]
pub fn run(devices: u32, days: u32) -> Quiet {
    let began = Instant::now();
    let mut simulation = fleet(devices, 1);
    simulation.run_until(BEGIN + u64::from(days) * DAY_S);
    let taken = simulation.service.taken;
    let findings = simulation.service.register.findings().iter();
    Quiet {
        devices,
        days,
        seconds: began.elapsed().as_secs_f64(),
        check_ins: taken.check_ins,
        records: taken.records,
        bytes: taken.bytes,
        findings: findings.map(|finding| format!("{:?}", finding.key)).collect(),
        most_entries: taken.most_entries,
        dropped: simulation.service.window.dropped(),
    }
}

impl Quiet {
    /// Says it in sentences.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { devices, days, seconds, check_ins, records, bytes, dropped, .. } = self;
        let findings = self.findings.len();
        format!(
            "{devices} devices have checked in {check_ins} times in {days} days, and sent {records} records in {bytes} bytes.\n\
             {findings} findings; {dropped} devices were not counted for lack of room; {seconds:.1} s on this machine.\n"
        )
    }

    /// Says what should not be.
    ///
    /// # Errors
    /// Something was found, something was dropped, or most devices have not checked in.
    pub fn check(&self) -> Result<(), String> {
        if let Some(first) = self.findings.first() {
            return Err(format!("nobody has attacked the fleet, and this was found: {first}"));
        }
        if self.dropped > 0 {
            return Err(format!("{} devices were not counted for lack of room", self.dropped));
        }
        let least = u64::from(self.devices) * u64::from(self.days) * 9 / 10;
        if self.check_ins < least {
            return Err(format!("{} check-ins, and at least {least} were due", self.check_ins));
        }
        Ok(())
    }
}
