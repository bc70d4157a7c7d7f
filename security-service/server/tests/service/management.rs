//! Management: tokens and roles, idempotency, issuing certificates that are renewed, and what the doctor says.

use crate::device::{checked_in, software_device};
use crate::installation::Installation;
use holdfast_evidence::messages::Profile;
use holdfast_service::doctor::{self, Finding};
use holdfast_service_clients::SoftwareDevice;
use holdfast_service_issuing::lint::verify_chain;
use holdfast_types::hex::hex;
use serde_json::{Value, json};
use std::sync::Arc;
use webpki::KeyUsage;

const DAY_S: u64 = 24 * 60 * 60;

fn token(service: &Installation, name: &str, role: &str) -> String {
    let made = service.done("POST", "/tokens", &json!({"name": name, "role": role, "days": 30}));
    made["token"].as_str().unwrap().to_owned()
}

#[test]
fn a_token_ends_and_can_be_removed() {
    let service = Installation::new();
    let short = token(&service, "short", "reader");
    assert_eq!(service.ask_as(&short, "GET", "", &Value::Null).status, 200, "the control");
    service.pass(30 * DAY_S);
    assert_eq!(service.ask_as(&short, "GET", "", &Value::Null).status, 401);
    let removed = token(&service, "removed", "reader");
    assert_eq!(service.ask_as(&removed, "GET", "", &Value::Null).status, 200, "the control");
    service.done("POST", "/tokens/removed/remove", &Value::Null);
    assert_eq!(service.ask_as(&removed, "GET", "", &Value::Null).status, 401);
}

#[test]
fn a_request_that_is_repeated_is_done_once() {
    let service = Installation::new();
    let ask = |key: &str, device: u8| {
        let headers =
            format!("Authorization: Bearer {}\r\nIdempotency-Key: {key}\r\n", service.token);
        let path = format!("/v1/catalogs/{}/claims", service.catalog);
        let body = json!({"devices": [{"device": hex(&[device; 32]), "grade": "hardware"}]});
        service.management.ask("POST", &path, &headers, body.to_string().as_bytes())
    };
    let first = ask("k1", 1);
    assert_eq!((first.status, ask("k1", 1).body), (200, first.body.clone()));
    let other = ask("k1", 2);
    assert_eq!((other.status, other.problem().as_str()), (422, "idempotency-key-reused"));
    let claims = service.done("GET", "/audit", &Value::Null);
    let claims = claims["items"].as_array().unwrap().iter();
    assert_eq!(claims.filter(|row| row["verb"] == "device.claim").count(), 1);
    assert_eq!(ask(&"k".repeat(65), 3).status, 400);
}

/// What was issued before a rotation is believed beside what was issued after it; nobody has to do anything.
#[test]
fn the_issuing_certificate_is_renewed_at_half_time_and_both_are_believed() {
    let service = Installation::new();
    let mut device = software_device(&service);
    let chain = |device: &mut SoftwareDevice| {
        let answer = checked_in(&device.check_in(&service.device));
        assert_eq!(answer.profile, Profile::Full);
        answer.certificates[0].chain.clone()
    };
    let old = chain(&mut device);
    service.pass(44 * DAY_S);
    assert_eq!(chain(&mut device)[1], old[1], "before half time");
    service.pass(DAY_S);
    let last = chain(&mut device);
    service.pass(2 * DAY_S);
    let new = chain(&mut device);
    assert_ne!(new[1], old[1]);
    let verify = |chain: &[holdfast_evidence::messages::Bytes], at| {
        verify_chain(&chain[0].0, &chain[1].0, &service.root, KeyUsage::client_auth(), at)
    };
    verify(&new, service.now()).unwrap();
    verify(&last, service.now() - 2 * DAY_S).unwrap();
    // Another start finds it, and an expired one is replaced.
    let listed = service.done("GET", "/ca-certificates", &Value::Null);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
    service.pass(200 * DAY_S);
    verify(&chain(&mut device), service.now()).unwrap();
}

/// Devices that are known check in while the root is elsewhere, until the issuing certificate has ended; then one command
/// brings it back.
#[test]
fn a_root_that_is_kept_elsewhere_is_asked_for_in_time() {
    let mut service = Installation::new();
    let mut device = software_device(&service);
    let file = service.folder.join(format!("roots/{}.key", service.catalog));
    let away = service.folder.join("usb-stick.key");
    std::fs::rename(&file, &away).unwrap();
    checked_in(&device.check_in(&service.device));
    service.pass(60 * DAY_S);
    checked_in(&device.check_in(&service.device));
    let says = |service: &mut Installation| {
        let now = service.now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(doctor::examine(&service.folder, Arc::new(move || now), false)).unwrap()
    };
    let soon = says(&mut service);
    assert!(
        soon.iter().any(|one| matches!(one, Finding::Soon(text) if text.contains("renew"))),
        "{soon:?}"
    );
    service.pass(60 * DAY_S);
    let failed = device.check_in(&service.device);
    assert_eq!((failed.status, failed.problem().as_str()), (500, "internal"));
    let wrong = says(&mut service);
    assert!(wrong.iter().any(|one| matches!(one, Finding::Wrong(_))), "{wrong:?}");
    std::fs::rename(&away, &file).unwrap();
    let again = checked_in(&device.check_in(&service.device));
    assert_eq!(again.profile, Profile::Full, "a known device survives it");
    let good = says(&mut service);
    assert!(good.iter().all(|one| matches!(one, Finding::Good(_))), "{good:?}");
}

#[test]
fn what_is_malformed_is_refused_with_its_place() {
    let service = Installation::new();
    // What a problem is stands where its type leads to.
    let kind =
        service.ask("POST", "/claims", &json!({})).json()["type"].as_str().unwrap().to_owned();
    let about = service.management.ask("GET", &kind, "", b"");
    assert_eq!((about.status, &about.body[..]), (200, &b"400: The request is malformed\n"[..]));
    assert_eq!(service.management.ask("GET", "/problems/other", "", b"").status, 404);
    let ask = |path: &str, body: Value| {
        let answer = service.ask("POST", path, &body);
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{answer:?}");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    let good = json!({"device": hex(&[1; 32]), "grade": "hardware"});
    let bad = json!({"device": "1234", "grade": "hardware"});
    let detail = ask("/claims", json!({"devices": [good, bad]}));
    assert!(detail.starts_with("devices[1].device: "), "{detail}");
    let devices = service.done("GET", "/devices", &Value::Null);
    assert_eq!(devices["items"], json!([]), "none of a list with a fault is claimed");
    let release = json!({"boot": "0".repeat(64), "version": "1", "index": 1});
    assert!(ask("/releases", release).starts_with("version: "));
    assert!(
        ask("/tokens", json!({"name": "A", "role": "reader", "days": 1})).starts_with("name: ")
    );
    for query in ["limit=x", "other=1", "limit=1&limit=2"] {
        let answer = service.ask("GET", &format!("/devices?{query}"), &Value::Null);
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{query}");
    }
    let days = json!({"name": "a", "role": "reader", "days": 91});
    assert!(ask("/tokens", days).starts_with("days: "));
}
