//! Crash groups as logs of OpenTelemetry, by its semantic conventions for exceptions in logs and for the event `app.crash`.

use super::report_shapes::CrashShape;
use holdfast_service_alerts::otlp::{Attribute, Logs, Record, Severity, number, text};

/// Returns crash groups as logs, which were read at `now`, seconds since 1970.
pub(super) fn logs(groups: &[CrashShape], now: u64) -> Logs {
    let mut logs = Logs::default();
    for group in groups {
        logs.add(resource(group), vec![record(group, now)]);
    }
    logs
}

/// The program that fails, in the newest version that does.
fn resource(group: &CrashShape) -> Vec<Attribute> {
    let mut attributes =
        vec![text("service.name", &group.name), text("service.version", &group.last_version)];
    if let Some(product) = &group.product {
        attributes.push(text("service.namespace", product));
    }
    attributes
}

fn record(group: &CrashShape, now: u64) -> Record {
    let at = group.at.as_deref();
    let message = at.map_or_else(|| group.kind.clone(), |at| format!("{} at {at}", group.kind));
    let mut attributes = vec![
        text("exception.type", &group.kind),
        text("exception.message", &message),
        text("holdfast.crash.group", &group.group),
        number("holdfast.crash.algorithm", group.algorithm),
        text("holdfast.crash.state", &group.state),
        text("holdfast.crash.component", &group.component),
        text("holdfast.crash.first_version", &group.first_version),
        text("holdfast.crash.last_version", &group.last_version),
        number("holdfast.crash.first_at", group.first_at),
        number("holdfast.crash.events", group.events),
        number("holdfast.crash.devices", group.devices),
        number("holdfast.crash.device_days", group.device_days),
    ];
    // The frames that are known, the one that failed first.
    let frames: Vec<&str> = at.into_iter().chain(group.called_from.as_deref()).collect();
    if !frames.is_empty() {
        attributes.push(text("exception.stacktrace", frames.join("\n")));
    }
    let body = format!("{} {}: {message}", group.name, group.last_version);
    Record::new("app.crash", Severity::Fatal, (group.last_at, now), body, attributes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn group(called_from: Option<&str>) -> CrashShape {
        CrashShape {
            group: "07".repeat(16),
            algorithm: 1,
            state: "new".to_owned(),
            product: Some("pump".to_owned()),
            component: "25025d2c-66da-4448-bae1-ac26fcdd3627".to_owned(),
            name: "camera".to_owned(),
            kind: "signal 11".to_owned(),
            at: Some("read in pump::valve::position".to_owned()),
            called_from: called_from.map(str::to_owned),
            first_version: "2.0.0".to_owned(),
            last_version: "2.1.0".to_owned(),
            first_at: 1_800_000_000,
            last_at: 1_800_000_060,
            events: 12,
            devices: 4,
            device_days: 100,
            rate: Some(40.0),
            regressed_at: None,
            closed_at: None,
        }
    }

    #[test]
    fn a_crash_group_is_an_event_with_an_exception() {
        let logs = serde_json::to_value(logs(&[group(Some("main"))], 1_800_000_100)).unwrap();
        let of_resource = &logs["resourceLogs"][0];
        let has = |attributes: &Value, key: &str, value: Value| {
            let expected = json!({"key": key, "value": value});
            assert!(attributes.as_array().unwrap().contains(&expected), "{key}: {attributes}");
        };
        let resource = &of_resource["resource"]["attributes"];
        has(resource, "service.name", json!({"stringValue": "camera"}));
        has(resource, "service.version", json!({"stringValue": "2.1.0"}));
        has(resource, "service.namespace", json!({"stringValue": "pump"}));
        let record = &of_resource["scopeLogs"][0]["logRecords"][0];
        assert_eq!(
            (&record["eventName"], &record["severityNumber"]),
            (&json!("app.crash"), &json!(21))
        );
        assert_eq!(record["timeUnixNano"], "1800000060000000000");
        let attributes = &record["attributes"];
        has(attributes, "exception.type", json!({"stringValue": "signal 11"}));
        let frames = "read in pump::valve::position\nmain";
        has(attributes, "exception.stacktrace", json!({"stringValue": frames}));
        has(attributes, "holdfast.crash.events", json!({"intValue": "12"}));
    }
}
