//! What happened on a device and with it, as one list, the newest first.

use super::caller::{Caller, shown};
use super::devices::found;
use super::overview_shapes::EventShape;
use super::shapes::{Listed, ProblemShape};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::{Body, Outcome as UpdateOutcome};
use holdfast_service_domain::deployment::slot::Outcome;
use holdfast_service_domain::insight::Insight;
use holdfast_service_domain::role::Need;
use holdfast_service_store::timeline::{GivenSlot, Past};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Most events of a device.
const MOST: usize = 200;

fn event(at: u64, kind: &str, mood: &str, text: String) -> EventShape {
    let (kind, mood) = (kind.to_owned(), mood.to_owned());
    EventShape { at, kind, mood, text, deployment: None }
}

/// Returns the word for a record's kind, and whether it is good news.
fn kind_of(body: &Body) -> (&'static str, &'static str) {
    match body {
        Body::Boot(_) => ("boot", "plain"),
        Body::Ended(_) => ("crash", "bad"),
        Body::Update(update) => match update.outcome {
            UpdateOutcome::Committed => ("update", "good"),
            UpdateOutcome::FellBack => ("update", "bad"),
            _ => ("update", "plain"),
        },
        Body::Refused(_) => ("refused", "bad"),
        _ => ("record", "plain"),
    }
}

fn slot_events(given: &GivenSlot) -> Vec<EventShape> {
    let GivenSlot { deployment, component, version, slot } = given;
    let of = |at, kind, mood, text: String| EventShape {
        deployment: Some(deployment.clone()),
        ..event(at, kind, mood, text)
    };
    let slot = &slot.slot;
    let granted = format!("was given {component} {version} by {deployment}");
    let mut events = vec![of(slot.granted_at, "granted", "plain", granted)];
    let mood = match slot.outcome {
        Outcome::Committed => "good",
        Outcome::FellBack | Outcome::Refused | Outcome::Silent => "bad",
        Outcome::Granted | Outcome::Trial => "plain",
    };
    if slot.outcome != Outcome::Granted {
        let at = if slot.outcome == Outcome::Silent { slot.silent_at } else { slot.changed_at };
        let text = format!("{component} {version} of {deployment}: {}", slot.outcome.word());
        events.push(of(at.max(slot.granted_at), "slot", mood, text));
    }
    events
}

/// Returns the past of a device as events, the newest first.
fn events(device: DeviceId, past: &Past) -> Vec<EventShape> {
    let mut all = Vec::new();
    for reported in &past.records {
        let insight = Insight::of(device, &reported.record, reported.key.received_at);
        let (kind, mood) = kind_of(&reported.record.body);
        let times = if insight.event_count > 1 {
            format!(" ×{}", insight.event_count)
        } else {
            String::new()
        };
        all.push(event(insight.start_at, kind, mood, format!("{}{times}", insight.description)));
    }
    for failed in &past.check_ins {
        all.push(event(failed.at, "check-in", "bad", failed.verdict.clone()));
    }
    for finding in &past.findings {
        let times = if finding.times > 1 {
            format!("{}, {} times until now", finding.kind.word(), finding.times)
        } else {
            finding.kind.word().to_owned()
        };
        all.push(event(finding.opened_at, "finding", "bad", times));
        if let Some(closed_at) = finding.closed_at {
            all.push(event(closed_at, "closed", "good", finding.kind.word().to_owned()));
        }
    }
    all.extend(past.slots.iter().flat_map(slot_events));
    for deed in &past.deeds {
        all.push(event(deed.at, "change", "plain", format!("{} by {}", deed.verb, deed.who)));
    }
    all.sort_by_key(|event| std::cmp::Reverse(event.at));
    all.truncate(MOST);
    all
}

/// Shows what happened on a device and with it, the newest first: what it has reported, check-ins that failed, findings, slots of deployments, and for
/// whoever may see the audit log what people did with it.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/devices/{device}/timeline",
    params(("catalog" = String, Path), ("device" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Listed<EventShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn timeline(
    State(service): Shared,
    caller: Caller,
    Path((catalog, device)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (scope, row) = found(&service, &caller, (&catalog, &device), Need::See).await?;
    let id = row.device.id;
    let sees_audit = caller.may(scope, Need::Audit, None, None);
    let past = service.store.past(scope, &id, sees_audit).await?;
    shown(&Listed { items: events(id, &past), next: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_failure_reports::samples;
    use holdfast_service_domain::deployment::slot::Slot;
    use holdfast_service_domain::device::Finding;
    use holdfast_service_store::deployment::row::SlotRow;
    use holdfast_service_store::device::FindingRow;
    use holdfast_service_store::report::{ReportKey, Reported};
    use holdfast_service_store::timeline::{Deed, FailedCheckIn};

    const DEVICE: DeviceId = DeviceId([7; 32]);

    #[test]
    fn a_past_is_told_from_its_end_on() {
        let records = samples::records().into_iter().map(|record| Reported {
            key: ReportKey { received_at: 1_790_000_100, ..ReportKey::default() },
            record,
        });
        let slot = Slot {
            outcome: Outcome::FellBack,
            is_forgiven: false,
            granted_at: 1_790_001_000,
            tried_at: 1_790_001_100,
            changed_at: 1_790_001_200,
            silent_at: 0,
        };
        let past = Past {
            records: records.collect(),
            check_ins: vec![FailedCheckIn { at: 1_790_002_000, verdict: "update-only".into() }],
            findings: vec![FindingRow {
                device: DEVICE,
                kind: Finding::SlotFailed,
                opened_at: 1_790_003_000,
                last_at: 1_790_003_000,
                times: 1,
                closed_at: Some(1_790_004_000),
            }],
            slots: vec![GivenSlot {
                deployment: "d1".into(),
                component: "os".into(),
                version: "1.4.0".into(),
                slot: SlotRow { slot, stage: 0, said: None },
            }],
            deeds: vec![Deed { at: 5, who: "ole".into(), verb: "device.claim".into() }],
        };
        let events = events(DEVICE, &past);
        let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds[..5], ["closed", "finding", "check-in", "slot", "granted"], "{kinds:?}");
        assert_eq!(kinds.last(), Some(&"change"));
        assert_eq!(kinds.iter().filter(|kind| **kind == "crash").count(), 1);
        let slot = &events[3];
        assert_eq!((slot.deployment.as_deref(), slot.mood.as_str()), (Some("d1"), "bad"));
        assert!(events.windows(2).all(|pair| pair[0].at >= pair[1].at));
        let crash = events.iter().find(|event| event.kind == "crash").unwrap();
        assert!(crash.text.contains("camera") && crash.text.ends_with("×3"), "{}", crash.text);
    }
}
