//! Rules on releases: those that fail, and those that are refused.

use crate::detection::finding::{About, Detection, Evidence, Key, Severity};
use crate::detection::rule::Rule;
use crate::detection::sightings::Seen;
use crate::detection::statistics::wilson_lower_bound;
use crate::detection::subject::{Part, Subject};
use crate::detection::view::{View, scaled};
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::Outcome;
use std::collections::BTreeMap;

/// A release is tried, and devices return to the one before.
pub(crate) fn fallback(view: &View<'_>) -> Vec<Detection> {
    let mut found = Vec::new();
    for ((subject, outcome), devices) in view.window.updates.on_at_least(1) {
        if *outcome != Outcome::FellBack {
            continue;
        }
        let failed: Vec<_> = view.recent(devices).collect();
        // Those that fell back run another release, and have attested that. What nobody has attested has stayed up nowhere.
        let running = if subject.version.is_some() { view.population.running(subject) } else { 0 };
        found.extend(failing(view, Rule::Fallback, subject, failed, running));
    }
    found
}

/// Devices that run a release boot again and again.
pub(crate) fn boot_loop(view: &View<'_>) -> Vec<Detection> {
    let mut found = Vec::new();
    for (subject, devices) in view.window.boots.on_at_least(1) {
        let least = u64::from(view.thresholds.boot_loop_boots);
        let failed: Vec<_> =
            view.recent(devices).filter(|(_, seen)| seen.amount >= least).collect();
        let failing_devices = u32::try_from(failed.len()).unwrap_or(u32::MAX);
        let others = view.population.running(subject).saturating_sub(failing_devices);
        found.extend(failing(view, Rule::BootLoop, subject, failed, others));
    }
    found
}

/// Finds a release that has failed on these devices and not on `others`.
fn failing(
    view: &View<'_>,
    rule: Rule,
    subject: &Subject,
    failed: Vec<(&DeviceId, &Seen)>,
    others: u32,
) -> Option<Detection> {
    let evidence = Evidence::of(failed);
    let all = evidence.count.saturating_add(others);
    let share = f64::from(view.thresholds.fallback_permille) / 1000.0;
    let is_failing = evidence.count >= view.thresholds.fallback_devices
        && wilson_lower_bound(evidence.count, all) > share;
    let key = Key { rule, about: About::Subject(subject.clone()) };
    is_failing.then_some(Detection { key, severity: Severity::Now, evidence })
}

/// Devices refuse releases: for their signature, for expired metadata, or as older than they may take.
pub(crate) fn rollback(view: &View<'_>) -> Vec<Detection> {
    let thresholds = view.thresholds;
    let mut refused: BTreeMap<(&Part, Outcome), Vec<(&DeviceId, &Seen)>> = BTreeMap::new();
    for ((subject, outcome), devices) in view.window.updates.on_at_least(1) {
        refused.entry((&subject.part, *outcome)).or_default().extend(view.recent(devices));
    }
    let mut found = Vec::new();
    for ((part, outcome), devices) in refused {
        let (least, severity) = match outcome {
            Outcome::RefusedSignature => (thresholds.rollback_signature_devices, Severity::Now),
            Outcome::RefusedRollback => (thresholds.rollback_floor_devices, Severity::Today),
            // Metadata that expires is the publisher's, who is late, or somebody's who holds newer metadata back.
            Outcome::RefusedExpired => {
                let permille = thresholds.rollback_expired_permille;
                let devices = view.population.devices();
                let least = scaled(thresholds.rollback_expired_devices, permille, devices);
                (least, Severity::Today)
            }
            Outcome::Committed
            | Outcome::FellBack
            | Outcome::RefusedContent
            | Outcome::Failed
            | Outcome::Declined => continue,
        };
        let evidence = Evidence::of(devices);
        if evidence.count >= least {
            let key = Key { rule: Rule::Rollback, about: About::Refusal(part.clone(), outcome) };
            found.push(Detection { key, severity, evidence });
        }
    }
    found
}
