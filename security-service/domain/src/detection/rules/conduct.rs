//! Rules on how devices and components behave: crashes with what follows, violations, silence, clocks.

use crate::detection::finding::{About, Detection, Evidence, Key, Severity};
use crate::detection::rule::Rule;
use crate::detection::rules::release::fallback;
use crate::detection::sightings::Seen;
use crate::detection::statistics::poisson_deviations;
use crate::detection::subject::{CrashSite, Destination, Subject};
use crate::detection::view::{View, scaled};
use holdfast_evidence::messages::DeviceId;
use std::collections::{BTreeMap, BTreeSet};

/// Devices, with the destinations that they have tried.
type Trying<'a> = (Vec<(&'a DeviceId, &'a Seen)>, Vec<Destination>);

/// Devices crash at the same place, and then try what is new for the component.
pub(crate) fn exploit_then_call(view: &View<'_>) -> Vec<Detection> {
    let thresholds = view.thresholds;
    let within = u64::from(thresholds.exploit_within_s);
    let mut found: BTreeMap<(&Subject, &CrashSite), Trying<'_>> = BTreeMap::new();
    for ((subject, site, destination), devices) in view.window.calls.on_at_least(1) {
        if view.baseline.is_usual(&subject.part, destination, view.now) {
            continue;
        }
        let devices: Vec<_> =
            view.recent(devices).filter(|(_, seen)| seen.amount <= within).collect();
        // Where most devices try it without a crash, it is what the component does.
        let trying = view.window.refusals.at(&(subject.clone(), *destination));
        let trying = trying.map_or(0, |devices| view.recent(devices).count());
        let share = u32::try_from(trying).unwrap_or(u32::MAX);
        let least = scaled(0, thresholds.exploit_share_permille, share);
        if devices.len() >= usize::try_from(least).unwrap_or(usize::MAX) {
            let (all, destinations) = found.entry((subject, site)).or_default();
            all.extend(devices);
            destinations.push(*destination);
        }
    }
    let detections =
        found.into_iter().map(|((subject, site), (devices, destinations))| Detection {
            key: Key { rule: Rule::ExploitThenCall, about: About::Crash(subject.clone(), *site) },
            severity: Severity::Now,
            evidence: Evidence::of(devices).to(destinations),
        });
    detections.filter(|detection| detection.evidence.count >= thresholds.exploit_devices).collect()
}

/// A component does what its sandbox refuses, or its package does not verify.
pub(crate) fn sandbox(view: &View<'_>) -> Vec<Detection> {
    let mut found: BTreeMap<&Subject, Vec<(&DeviceId, &Seen)>> = BTreeMap::new();
    for ((subject, _), devices) in view.window.violations.on_at_least(1) {
        found.entry(subject).or_default().extend(view.recent(devices));
    }
    let detections = found.into_iter().map(|(subject, devices)| {
        let evidence = Evidence::of(devices);
        let is_severe = evidence.count >= view.thresholds.sandbox_severe_devices;
        let severity = if is_severe { Severity::Now } else { Severity::SomeDay };
        let key = Key { rule: Rule::Sandbox, about: About::Subject(subject.clone()) };
        Detection { key, severity, evidence }
    });
    let least = view.thresholds.sandbox_devices;
    detections.filter(|detection| detection.evidence.count >= least).collect()
}

/// More devices are missing than usually, or the service was away. It is worse while a release fails.
pub(crate) fn silence(view: &View<'_>) -> Vec<Detection> {
    let thresholds = view.thresholds;
    let mut found = Vec::new();
    if let Some((first, last)) = view.window.gap() {
        let most = u64::from(thresholds.silence_gap_minutes).saturating_mul(60);
        if last.saturating_sub(first) > most {
            found.push(Detection {
                key: Key { rule: Rule::Silence, about: About::Service },
                severity: Severity::Today,
                evidence: Evidence { first, last, ..Evidence::default() },
            });
        }
    }
    let (checked_in, missed) = view.window.attendance(view.now);
    let due = f64::from(checked_in.saturating_add(missed));
    let least = f64::from(thresholds.silence_permille) / 1000.0;
    let usual = due * view.baseline.usually_missing().max(least);
    if poisson_deviations(missed, usual) > f64::from(thresholds.silence_deviations) {
        let severity = if fallback(view).is_empty() { Severity::Today } else { Severity::Now };
        let since = view.window.attended_since(view.now);
        let missing = view.window.missing.at(&());
        let missing = missing.into_iter().flatten().filter(|(_, seen)| seen.last >= since);
        let evidence = Evidence { count: missed, ..Evidence::of(missing) };
        found.push(Detection {
            key: Key { rule: Rule::Silence, about: About::Group },
            severity,
            evidence,
        });
    }
    found
}

/// Clocks go back, run ahead, or are to be set to what devices refuse.
pub(crate) fn clock(view: &View<'_>) -> Vec<Detection> {
    let thresholds = view.thresholds;
    let skew = u64::from(thresholds.clock_skew_s);
    let devices = view.window.clocks.at(&());
    let devices = devices.into_iter().flat_map(|devices| view.recent(devices));
    let devices: Vec<_> = devices.filter(|(_, seen)| seen.amount > skew).collect();
    let count: BTreeSet<&DeviceId> = devices.iter().map(|(device, _)| *device).collect();
    let least =
        scaled(thresholds.clock_devices, thresholds.clock_permille, view.population.devices());
    if count.len() < usize::try_from(least).unwrap_or(usize::MAX) {
        return Vec::new();
    }
    vec![Detection {
        key: Key { rule: Rule::Clock, about: About::Group },
        severity: Severity::Today,
        evidence: Evidence::of(devices),
    }]
}
