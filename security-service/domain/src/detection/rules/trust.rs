//! Rules on who devices are: measurements, copies, and strangers who enrol.

use crate::detection::finding::{About, Detection, Evidence, Key, MAX_NAMED, Severity};
use crate::detection::rule::Rule;
use crate::detection::view::View;
use crate::device::Finding;

/// A device has measured what is no release.
pub(crate) fn measurement(view: &View<'_>) -> Vec<Detection> {
    let kinds = [Finding::MeasurementUnknown, Finding::ClaimsDisagree];
    of_kinds(view, Rule::Measurement, kinds, view.thresholds.measurement_devices)
}

/// Two devices have one identity, or one was put back.
pub(crate) fn clone(view: &View<'_>) -> Vec<Detection> {
    let kinds = [Finding::ReceiptForked, Finding::TpmClockWentBack, Finding::KeyChanged];
    of_kinds(view, Rule::Clone, kinds, view.thresholds.clone_devices)
}

/// One detection for each kind: devices that fail alike may be one attack, or one defect of ours.
fn of_kinds(
    view: &View<'_>,
    rule: Rule,
    kinds: impl IntoIterator<Item = Finding>,
    least: u32,
) -> Vec<Detection> {
    let detection = |kind| {
        let devices = view.window.found.at(&kind)?;
        let evidence = Evidence::of(view.recent(devices));
        let key = Key { rule, about: About::Device(kind) };
        let is_found = evidence.count >= least.max(1);
        is_found.then_some(Detection { key, severity: Severity::Now, evidence })
    };
    kinds.into_iter().filter_map(detection).collect()
}

/// Somebody tries to enrol again and again. All networks are one threat: strangers choose how many there are.
pub(crate) fn enrol(view: &View<'_>) -> Vec<Detection> {
    let most = view.thresholds.enrol_failures;
    let networks = view.window.enrolments(view.now).filter(|(_, failures, _)| *failures > most);
    let networks: Vec<_> = networks.collect();
    let Some(last) = networks.iter().map(|(.., last)| *last).max() else { return Vec::new() };
    let evidence = Evidence {
        networks: networks.iter().take(MAX_NAMED).map(|(network, ..)| **network).collect(),
        first: view.now,
        last,
        ..Evidence::default()
    };
    let key = Key { rule: Rule::Enrol, about: About::Group };
    vec![Detection { key, severity: Severity::SomeDay, evidence }]
}
