//! Rules on packets: scans, outbreaks, new destinations, floods.

use crate::detection::finding::{About, Detection, Evidence, Key, Severity};
use crate::detection::rule::Rule;
use crate::detection::sightings::Seen;
use crate::detection::subject::{Destination, Part, Subject};
use crate::detection::view::{View, scaled};
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::Protocol;
use std::collections::BTreeMap;

/// Devices, with when each was seen.
type Devices<'a> = Vec<(&'a DeviceId, &'a Seen)>;
/// Devices, with the destinations that they have tried.
type Trying<'a> = (Devices<'a>, Vec<Destination>);
/// Destinations of one device, with how many addresses it has tried there.
type Ports<'a> = Vec<(&'a Destination, &'a Seen)>;

/// One device tries many addresses at few ports in an hour.
pub(crate) fn scan(view: &View<'_>) -> Vec<Detection> {
    let mut by_device: BTreeMap<(&Subject, &DeviceId, u64), Ports<'_>> = BTreeMap::new();
    for ((subject, destination), devices) in view.window.wide.on_at_least(1) {
        for (device, seen) in view.recent(devices) {
            let ports = by_device.entry((subject, device, seen.hour)).or_default();
            ports.push((destination, seen));
        }
    }
    let most_ports = usize::try_from(view.thresholds.scan_ports).unwrap_or(usize::MAX);
    let mut found: BTreeMap<&Subject, Trying<'_>> = BTreeMap::new();
    for ((subject, device, _), mut ports) in by_device {
        ports.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.amount));
        ports.truncate(most_ports);
        let addresses = ports.iter().fold(0u64, |sum, (_, seen)| sum.saturating_add(seen.amount));
        if addresses >= view.thresholds.scan_addresses.into() {
            let (devices, destinations) = found.entry(subject).or_default();
            devices.extend(ports.first().map(|(_, seen)| (device, *seen)));
            destinations.extend(ports.iter().map(|(destination, _)| **destination));
        }
    }
    let detection = |(subject, (devices, destinations)): (&Subject, Trying<'_>)| Detection {
        key: Key { rule: Rule::Scan, about: About::Subject(subject.clone()) },
        severity: Severity::Today,
        evidence: Evidence::of(devices).to(destinations),
    };
    found.into_iter().map(detection).collect()
}

/// Devices of one version try many addresses at the same port.
pub(crate) fn outbreak(view: &View<'_>) -> Vec<Detection> {
    let thresholds = view.thresholds;
    let mut by_port: BTreeMap<(&Subject, Protocol, Option<u16>), Trying<'_>> = BTreeMap::new();
    for ((subject, destination), devices) in view.window.wide.on_at_least(1) {
        let port = (subject, destination.protocol, destination.port);
        let (all, destinations) = by_port.entry(port).or_default();
        let least = u64::from(thresholds.outbreak_addresses);
        all.extend(view.recent(devices).filter(|(_, seen)| seen.amount >= least));
        destinations.push(*destination);
    }
    let mut found: BTreeMap<&Subject, Trying<'_>> = BTreeMap::new();
    for ((subject, ..), (mut devices, destinations)) in by_port {
        devices.sort_by_key(|(device, _)| *device);
        devices.dedup_by_key(|(device, _)| *device);
        let running = view.population.running(subject);
        let least = scaled(thresholds.outbreak_devices, thresholds.outbreak_permille, running);
        if is_enough(devices.len(), least) {
            let (all, ports) = found.entry(subject).or_default();
            all.extend(devices);
            ports.extend(destinations);
        }
    }
    let detection = |(subject, (devices, destinations)): (&Subject, Trying<'_>)| Detection {
        key: Key { rule: Rule::Outbreak, about: About::Subject(subject.clone()) },
        severity: Severity::Now,
        evidence: Evidence::of(devices).to(destinations),
    };
    found.into_iter().map(detection).collect()
}

/// Devices of a group for each of which one more has to try a destination: what single devices try by chance, such as the port that a
/// neighbour has chosen at random, comes together the more often the more they are.
const ONE_MORE_FOR: u32 = 100_000;

/// Returns how many of so many devices have to try a destination for it to be a finding.
fn at_least(threshold: u32, devices: u32) -> u32 {
    threshold.saturating_add(devices / ONE_MORE_FOR)
}

/// Devices try a destination that is not usual for the part, in whatever version.
pub(crate) fn new_destination(view: &View<'_>) -> Vec<Detection> {
    let Some(since) = view.baseline.since() else { return Vec::new() };
    let learning_s = u64::from(view.thresholds.learning_days).saturating_mul(24 * 60 * 60);
    if view.now < since.saturating_add(learning_s) {
        return Vec::new();
    }
    let mut found: BTreeMap<(&Part, &Destination), Devices<'_>> = BTreeMap::new();
    for ((subject, destination), devices) in view.window.refusals.on_at_least(1) {
        if !view.baseline.is_usual(&subject.part, destination, view.now) {
            found.entry((&subject.part, destination)).or_default().extend(view.recent(devices));
        }
    }
    let detections = found.into_iter().map(|((part, destination), devices)| Detection {
        key: Key {
            rule: Rule::NewDestination,
            about: About::Destination(part.clone(), *destination),
        },
        severity: Severity::SomeDay,
        evidence: Evidence::of(devices).to([*destination]),
    });
    let least = at_least(view.thresholds.new_destination_devices, view.population.devices());
    detections.filter(|detection| detection.evidence.count >= least).collect()
}

/// An app sends and receives far more than its version does elsewhere; what a new version does is told by the versions before.
pub(crate) fn flood(view: &View<'_>) -> Vec<Detection> {
    let thresholds = view.thresholds;
    let mut found = Vec::new();
    for (subject, devices) in view.window.traffic.on_at_least(1) {
        let of_part = Subject { version: None, ..subject.clone() };
        let known = [subject, &of_part].into_iter().filter_map(|it| view.baseline.traffic(it));
        let Some(known) = known.into_iter().find(|it| it.samples() >= thresholds.flood_samples)
        else {
            continue;
        };
        let usual = known.p99().saturating_mul(thresholds.flood_times_p99.into());
        let most = usual.max(u64::from(thresholds.flood_mib) << 20);
        let devices: Devices<'_> =
            view.recent(devices).filter(|(_, seen)| seen.amount > most).collect();
        if !devices.is_empty() {
            found.push(Detection {
                key: Key { rule: Rule::Flood, about: About::Subject(subject.clone()) },
                severity: Severity::Today,
                evidence: Evidence::of(devices),
            });
        }
    }
    found
}

fn is_enough(devices: usize, least: u32) -> bool {
    // No more devices than these are kept at a key.
    let least = usize::try_from(least).unwrap_or(usize::MAX);
    devices >= least.min(crate::detection::sightings::MAX_DEVICES)
}
