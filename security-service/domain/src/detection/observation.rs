//! Observations: what the service has learned of a device, or of somebody who would be one, at a moment of its own clock.

use super::subject::Network;
use crate::device;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::Record;
use holdfast_types::Version;

/// Seconds after the second at which a device was to check in until it counts as missing. It tries again for an hour at most
/// after a failure (`holdfast_evidence::schedule::MOST_BACKOFF_MS`), and the answer to that may take its time.
pub const GRACE_S: u64 = 90 * 60;

/// What the service has learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// Of a device.
    Device(OfDevice),
    /// An enrolment of no device that anybody knows has failed: a credential that was not opened, an unknown key.
    EnrolmentFailed {
        /// When, in seconds since 1970.
        at: u64,
        /// Where it came from.
        network: Network,
        /// How often it has failed in that minute.
        times: u32,
    },
}

/// What the service has learned of a device that is enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfDevice {
    /// When the service has learned it, in seconds since 1970 by its own clock.
    pub at: u64,
    /// The device.
    pub device: DeviceId,
    /// Version of the OS that it has attested last.
    pub os: Version,
    /// What it is.
    pub event: Event,
}

/// Something about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has checked in, with whatever verdict.
    CheckedIn,
    /// It has not checked in, and [`missed_at`] has passed. Told once for each time that it was due.
    Missed,
    /// The policy has found this about it.
    Found(device::Finding),
    /// It has reported this; each record once.
    Recorded(Box<Record>),
}

/// Returns when a device counts as missing that was to check in at `due`, where the service has listened since
/// `listening_since`: what was due before is owed from then on.
#[must_use]
pub fn missed_at(due: u64, listening_since: u64) -> u64 {
    due.max(listening_since).saturating_add(GRACE_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_evidence::schedule::MOST_BACKOFF_MS;

    #[test]
    fn a_device_may_back_off_before_it_counts_as_missing() {
        const { assert!(GRACE_S * 1000 > MOST_BACKOFF_MS) };
        assert_eq!(missed_at(1_000, 0), 1_000 + GRACE_S);
        assert_eq!(missed_at(1_000, 50_000), 50_000 + GRACE_S, "the service was away");
    }
}
