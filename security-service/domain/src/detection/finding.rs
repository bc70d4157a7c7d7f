//! What rules say: what is the same threat, how bad it is, and what shows it.

use super::rule::Rule;
use super::sightings::Seen;
use super::subject::{CrashSite, Destination, Network, Part, Subject};
use crate::device;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::Outcome;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most devices, records and networks that evidence names.
pub const MAX_NAMED: usize = 20;
/// Most destinations that evidence names.
pub const MAX_DESTINATIONS: usize = 8;

/// What makes two detections the same threat, which is one finding whose evidence grows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The rule.
    pub rule: Rule,
    /// What it is about.
    pub about: About,
}

/// What a threat is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// A part of the software in a version.
    Subject(Subject),
    /// A part that tries a destination.
    Destination(Part, Destination),
    /// A part that crashes at a place.
    Crash(Subject, CrashSite),
    /// Releases of a part that were refused for this reason.
    Refusal(Part, Outcome),
    /// What the policy of check-ins has found.
    Device(device::Finding),
    /// All devices of the group.
    Group,
    /// The service itself.
    Service,
}

impl About {
    /// Returns the part of the software that it is about, with its version.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        match self {
            Self::Subject(subject) | Self::Crash(subject, _) => Some(subject.clone()),
            Self::Destination(part, _) | Self::Refusal(part, _) => {
                Some(Subject { part: part.clone(), version: None })
            }
            Self::Device(_) | Self::Group | Self::Service => None,
        }
    }
}

/// How bad a threat is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Severity {
    /// 1: somebody is to look now.
    Now,
    /// 2: somebody is to look today.
    Today,
    /// 3: somebody is to look some day.
    SomeDay,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 3] = [Self::Now, Self::Today, Self::SomeDay];
}

impl From<Severity> for u8 {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Now => 1,
            Severity::Today => 2,
            Severity::SomeDay => 3,
        }
    }
}

/// The number is no severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a severity is 1, 2 or 3")]
pub struct NoSeverity;

impl TryFrom<u8> for Severity {
    type Error = NoSeverity;

    fn try_from(number: u8) -> Result<Self, NoSeverity> {
        Self::ALL.into_iter().find(|severity| u8::from(*severity) == number).ok_or(NoSeverity)
    }
}

/// A record of a device, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordOf {
    /// The device.
    pub device: DeviceId,
    /// The record's number.
    pub record: u64,
}

/// What shows a threat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The first devices, at most [`MAX_NAMED`].
    pub devices: BTreeSet<DeviceId>,
    /// All devices that were counted at one time.
    pub count: u32,
    /// Records, at most [`MAX_NAMED`].
    pub records: BTreeSet<RecordOf>,
    /// Destinations, at most [`MAX_DESTINATIONS`].
    pub destinations: BTreeSet<Destination>,
    /// Networks, at most [`MAX_NAMED`].
    pub networks: BTreeSet<Network>,
    /// When the first of it was seen, in seconds since 1970.
    pub first: u64,
    /// When the last of it was seen.
    pub last: u64,
}

impl Evidence {
    /// Makes it of devices and when they were seen. The earliest are named.
    #[must_use]
    pub fn of<'a>(devices: impl IntoIterator<Item = (&'a DeviceId, &'a Seen)>) -> Self {
        let mut seen: Vec<(&DeviceId, &Seen)> = devices.into_iter().collect();
        seen.sort_by_key(|(device, seen)| (*device, seen.first));
        seen.dedup_by_key(|(device, _)| *device);
        seen.sort_by_key(|(device, seen)| (seen.first, *device));
        let named = || seen.iter().take(MAX_NAMED);
        let records = named().filter(|(_, seen)| seen.record > 0);
        Self {
            devices: named().map(|(device, _)| **device).collect(),
            count: u32::try_from(seen.len()).unwrap_or(u32::MAX),
            records: records
                .map(|(device, seen)| RecordOf { device: **device, record: seen.record })
                .collect(),
            destinations: BTreeSet::new(),
            networks: BTreeSet::new(),
            first: seen.first().map_or(0, |(_, seen)| seen.first),
            last: seen.iter().map(|(_, seen)| seen.last).max().unwrap_or(0),
        }
    }

    /// Names destinations.
    #[must_use]
    pub fn to(mut self, destinations: impl IntoIterator<Item = Destination>) -> Self {
        extend(&mut self.destinations, destinations, MAX_DESTINATIONS);
        self
    }

    /// Adds what a later detection of the same threat has.
    pub fn grow(&mut self, later: &Self) {
        extend(&mut self.devices, later.devices.iter().copied(), MAX_NAMED);
        extend(&mut self.records, later.records.iter().copied(), MAX_NAMED);
        extend(&mut self.destinations, later.destinations.iter().copied(), MAX_DESTINATIONS);
        extend(&mut self.networks, later.networks.iter().copied(), MAX_NAMED);
        self.count = self.count.max(later.count);
        self.first = self.first.min(later.first);
        self.last = self.last.max(later.last);
    }
}

/// Adds what there is room for.
fn extend<T: Ord>(known: &mut BTreeSet<T>, more: impl IntoIterator<Item = T>, most: usize) {
    for item in more {
        if known.len() >= most {
            return;
        }
        known.insert(item);
    }
}

/// What a rule has found at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The threat.
    pub key: Key,
    /// How bad it is.
    pub severity: Severity,
    /// What shows it.
    pub evidence: Evidence,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceId([number; 32])
    }

    #[test]
    fn evidence_names_the_first_devices_and_counts_all() {
        let seen: Vec<(DeviceId, Seen)> =
            (0..100).map(|n| (device(n), Seen::once(1000 - u64::from(n), 7, 0, 0))).collect();
        let evidence = Evidence::of(seen.iter().map(|(device, seen)| (device, seen)));
        assert_eq!((evidence.count, evidence.devices.len()), (100, MAX_NAMED));
        assert!(evidence.devices.contains(&device(99)) && !evidence.devices.contains(&device(0)));
        assert_eq!((evidence.first, evidence.last, evidence.records.len()), (901, 1000, MAX_NAMED));
        let twice = Evidence::of(seen.iter().chain(&seen).map(|(device, seen)| (device, seen)));
        assert_eq!(twice, evidence, "a device counts once");
    }

    #[test]
    fn evidence_grows_within_its_bounds() {
        let of = |numbers: std::ops::Range<u8>| {
            let seen: Vec<_> =
                numbers.map(|n| (device(n), Seen::once(n.into(), 1, 0, 0))).collect();
            Evidence::of(seen.iter().map(|(device, seen)| (device, seen)))
        };
        let mut evidence = of(10..20);
        evidence.grow(&of(0..5));
        assert_eq!((evidence.devices.len(), evidence.count, evidence.first), (15, 10, 0));
        evidence.grow(&of(30..90));
        assert_eq!((evidence.devices.len(), evidence.count, evidence.last), (MAX_NAMED, 60, 89));
        assert!(evidence.devices.contains(&device(0)), "what is named stays named");
    }

    #[test]
    fn a_severity_is_a_number() {
        for severity in Severity::ALL {
            assert_eq!(Severity::try_from(u8::from(severity)), Ok(severity));
        }
        assert_eq!(Severity::try_from(4), Err(NoSeverity));
    }
}
