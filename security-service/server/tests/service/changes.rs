//! Changes by people who do not see each other: an update that would undo another's is refused.

use crate::device::{checked_in, software_device};
use crate::installation::Installation;
use holdfast_service_clients::Answer;
use serde_json::{Value, json};

fn ask(service: &Installation, method: &str, path: &str, tag: &str, body: &Value) -> Answer {
    let headers = format!("Authorization: Bearer {}\r\nIf-Match: {tag}\r\n", service.token);
    let path = format!("/v1/catalogs/{}{path}", service.catalog);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    service.management.ask(method, &path, &headers, body.as_bytes())
}

fn tag(service: &Installation, path: &str) -> String {
    let answer = service.ask("GET", path, &Value::Null);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.header("etag").unwrap()
}

fn is_refused(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.problem().as_str()),
        (412, "precondition-failed"),
        "{answer:?}"
    );
}

/// Two people read the same, and both write: the second is refused, and what the first has written stays.
#[test]
fn an_update_that_would_undo_another_is_refused() {
    let service = Installation::new();
    let group = "/products/pump/groups/test";
    service.done("PUT", "/products/pump", &Value::Null);
    service.done("PUT", group, &json!({"least_index": 1}));
    let device = software_device(&service).id.to_string();
    let of_device = format!("/devices/{device}");
    let quarantine = format!("{of_device}/quarantine");
    let nothing = Value::Null;
    let (grades, indexes) = (json!({"grades": ["software"]}), json!({"least_index": 2}));
    for (shown, method, changed, body) in [
        ("", "PATCH", "", &grades),
        (group, "PUT", group, &indexes),
        (of_device.as_str(), "POST", quarantine.as_str(), &nothing),
    ] {
        let seen = tag(&service, shown);
        let first = ask(&service, method, changed, &seen, body);
        assert_eq!(first.status, 200, "{method} {changed}: {first:?}");
        is_refused(&ask(&service, method, changed, &seen, body));
        assert_ne!(tag(&service, shown), seen);
        // Who reads again may write, and so may who does not say what he has seen.
        let seen = tag(&service, shown);
        let list = format!("\"999\", {seen}");
        assert_eq!(ask(&service, method, changed, &list, body).status, 200);
        assert_eq!(ask(&service, method, changed, "*", body).status, 200);
        assert_eq!(service.ask(method, changed, body).status, 200);
        // A weak tag is none of ours.
        let weak = format!("W/{}", tag(&service, shown));
        is_refused(&ask(&service, method, changed, &weak, body));
        for malformed in ["1", "\"1", "", "\"1\" \"2\""] {
            let answer = ask(&service, method, changed, malformed, body);
            let expected = if malformed == "\"1\" \"2\"" { 412 } else { 400 };
            assert_eq!(answer.status, expected, "{malformed}: {answer:?}");
        }
    }
    is_refused(&ask(&service, "PUT", "/products/pump/groups/other", "*", &indexes));
    let groups = service.done("GET", "/products/pump/groups", &Value::Null);
    assert_eq!(groups["items"].as_array().unwrap().len(), 1, "nothing was made");
    let log = service.done("POST", "/audit/verify", &Value::Null);
    assert_eq!(log["broken"], Value::Null);
}

/// A check-in changes what is shown of a device.
#[test]
fn a_device_that_has_checked_in_since_is_not_what_was_seen() {
    let service = Installation::new();
    let mut device = software_device(&service);
    let path = format!("/devices/{}", device.id);
    let seen = tag(&service, &path);
    checked_in(&device.check_in(&service.device));
    is_refused(&ask(&service, "POST", &format!("{path}/retire"), &seen, &Value::Null));
    let seen = tag(&service, &path);
    let retired = ask(&service, "POST", &format!("{path}/retire"), &seen, &Value::Null);
    assert_eq!(retired.status, 200, "{retired:?}");
}

/// All of many who have seen the same write at once: one gets through.
#[test]
fn of_many_updates_at_once_one_wins() {
    let service = Installation::new();
    service.done("PUT", "/products/pump", &Value::Null);
    let path = "/products/pump/groups/test";
    service.done("PUT", path, &json!({"least_index": 1}));
    let seen = tag(&service, path);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let asked = (0..16u64).map(|index| {
            let (service, seen) = (&service, &seen);
            scope.spawn(move || {
                ask(service, "PUT", path, seen, &json!({"least_index": index})).status
            })
        });
        asked.collect::<Vec<_>>().into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 15, "{statuses:?}");
}
