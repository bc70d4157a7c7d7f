//! Management: tokens and roles, idempotency, issuing certificates that are renewed, and what the doctor says.

use crate::device::{checked_in, software_device};
use crate::installation::Installation;
use holdfast_evidence::messages::Profile;
use holdfast_service::doctor::{self, Finding};
use holdfast_service_clients::SoftwareDevice;
use holdfast_service_domain::grade::Grade;
use holdfast_service_issuing::lint::verify_chain;
use holdfast_types::hex::hex;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use webpki::KeyUsage;

const DAY_S: u64 = 24 * 60 * 60;

fn token(service: &Installation, name: &str, role: &str) -> String {
    let made = service.done("POST", "/tokens", &json!({"name": name, "role": role, "days": 30}));
    made["token"].as_str().unwrap().to_owned()
}

/// Every operation with every role, without a token, and with a token of another catalog.
#[test]
fn roles_may_do_what_they_may_and_nobody_else_anything() {
    let service = Installation::new();
    let device = hex(&[0xde; 32]);
    service.claim(&device, Grade::Hardware);
    let headers = format!("Authorization: Bearer {}\r\n", service.token);
    let made = service.management.ask("POST", "/v1/catalogs", &headers, br#"{"name":"other"}"#);
    let other = made.json()["id"].as_str().unwrap().to_owned();
    let body = br#"{"name":"ole","role":"owner","days":1}"#;
    let foreign =
        service.management.ask("POST", &format!("/v1/catalogs/{other}/tokens"), &headers, body);
    let foreign = foreign.json()["token"].as_str().unwrap().to_owned();
    let roles = ["owner", "operator", "factory", "reader", "auditor"];
    let tokens = roles.map(|role| token(&service, role, role));
    let see = [true, true, false, true, true];
    let operate = [true, true, false, false, false];
    let own = [true, false, false, false, false];
    let of_device = |verb: &str| format!("/devices/{device}/{verb}");
    let nothing = Value::Null;
    let claim = json!({"devices": [{"device": device, "grade": "hardware"}]});
    let release = json!({"boot": "0".repeat(64), "version": "1.0.0", "index": 1});
    let (metadata, root) = (json!({"metadata": {}}), json!({"root": "{}"}));
    let maker = json!({"certificate": "", "grade": "hardware"});
    let finding = json!({"device": device, "kind": "debug-build"});
    let place = json!({"product": "pump", "group": "test"});
    let transfer = json!({"to": other, "root": "", "days": 1});
    let acceptance = json!({"voucher": "", "grade": "hardware"});
    let webhook = json!({"name": "ops", "url": "http://a.example/"});
    let (reason, thresholds) = (json!({"reason": "a drill"}), json!({"thresholds": {}}));
    let build = "00a1b2c3d4e5f607";
    let operations: Vec<(&str, String, &Value, [bool; 5])> = vec![
        ("GET", String::new(), &nothing, see),
        ("GET", "/overview".to_owned(), &nothing, see),
        ("GET", "/products".to_owned(), &nothing, see),
        ("PUT", "/products/pump".to_owned(), &nothing, operate),
        ("GET", "/products/pump/groups".to_owned(), &nothing, see),
        ("PUT", "/products/pump/groups/test".to_owned(), &nothing, operate),
        ("GET", "/products/pump/groups/test".to_owned(), &nothing, see),
        ("POST", "/products/pump/default-groups".to_owned(), &nothing, operate),
        ("GET", "/deployments".to_owned(), &nothing, see),
        ("POST", "/deployments".to_owned(), &nothing, operate),
        ("GET", "/deployments/d1".to_owned(), &nothing, see),
        ("GET", "/deployments/d1/devices".to_owned(), &nothing, see),
        ("GET", "/deployments/d1/reasons".to_owned(), &nothing, see),
        ("POST", "/deployments/d1/approve".to_owned(), &nothing, operate),
        ("POST", "/claims".to_owned(), &claim, [true, true, true, false, false]),
        ("GET", "/devices".to_owned(), &nothing, see),
        ("GET", format!("/devices/{device}"), &nothing, see),
        ("GET", of_device("timeline"), &nothing, see),
        ("POST", of_device("move"), &place, operate),
        ("POST", of_device("quarantine"), &nothing, operate),
        ("POST", of_device("end-quarantine"), &nothing, operate),
        ("GET", "/transfers".to_owned(), &nothing, see),
        ("POST", "/transfers/accept".to_owned(), &acceptance, [true, true, true, false, false]),
        ("GET", of_device("transfer"), &nothing, see),
        ("POST", of_device("transfer"), &transfer, own),
        ("POST", of_device("transfer/approve"), &nothing, own),
        ("GET", "/releases".to_owned(), &nothing, see),
        ("POST", "/releases".to_owned(), &release, operate),
        ("POST", "/repositories/os/metadata".to_owned(), &metadata, operate),
        ("GET", "/repositories/os".to_owned(), &nothing, see),
        ("PUT", "/repositories/os/root".to_owned(), &root, own),
        ("GET", "/release-files".to_owned(), &nothing, see),
        ("PUT", format!("/release-files/{}", "0".repeat(64)), &nothing, operate),
        ("POST", format!("/releases/{}/withdraw", "0".repeat(64)), &nothing, operate),
        ("POST", format!("/releases/{}/restore", "0".repeat(64)), &nothing, operate),
        ("GET", "/symbols".to_owned(), &nothing, see),
        ("GET", format!("/symbols/{build}"), &nothing, see),
        ("PUT", format!("/symbols/{build}"), &nothing, operate),
        ("POST", format!("/symbols/{build}/remove"), &nothing, operate),
        ("GET", "/makers".to_owned(), &nothing, see),
        ("POST", "/makers".to_owned(), &maker, own),
        ("GET", "/ca-certificates".to_owned(), &nothing, see),
        ("GET", "/findings".to_owned(), &nothing, see),
        ("POST", "/findings/close".to_owned(), &finding, operate),
        ("GET", "/threats".to_owned(), &nothing, see),
        ("GET", "/threats/1".to_owned(), &nothing, see),
        ("POST", "/threats/1/close".to_owned(), &reason, operate),
        ("POST", "/threats/1/contain".to_owned(), &nothing, operate),
        ("POST", "/threats/1/release".to_owned(), &nothing, operate),
        ("GET", "/thresholds".to_owned(), &nothing, see),
        ("PATCH", "/thresholds".to_owned(), &thresholds, operate),
        ("GET", "/products/pump/groups/test/thresholds".to_owned(), &nothing, see),
        ("PATCH", "/products/pump/groups/test/thresholds".to_owned(), &thresholds, operate),
        ("GET", "/reports".to_owned(), &nothing, see),
        ("GET", "/crashes".to_owned(), &nothing, see),
        ("GET", format!("/crashes/{}", "0".repeat(32)), &nothing, see),
        ("GET", format!("/crashes/{}/days", "0".repeat(32)), &nothing, see),
        ("POST", format!("/crashes/{}/close", "0".repeat(32)), &nothing, operate),
        ("POST", format!("/crashes/{}/reopen", "0".repeat(32)), &nothing, operate),
        ("GET", "/audit".to_owned(), &nothing, [true, false, false, false, true]),
        ("POST", "/audit/verify".to_owned(), &nothing, [true, false, false, false, true]),
        ("GET", "/tokens".to_owned(), &nothing, own),
        ("POST", "/tokens/nobody/remove".to_owned(), &nothing, own),
        ("GET", "/webhooks".to_owned(), &nothing, operate),
        ("GET", "/deliveries".to_owned(), &nothing, operate),
        ("POST", "/webhooks".to_owned(), &webhook, operate),
        ("POST", "/webhooks/nobody/test".to_owned(), &nothing, operate),
        ("POST", "/webhooks/nobody/remove".to_owned(), &nothing, operate),
        ("PATCH", String::new(), &nothing, own),
        ("POST", of_device("retire"), &nothing, operate),
    ];
    for (method, path, body, allowed) in &operations {
        for (index, token) in tokens.iter().enumerate() {
            let answer = service.ask_as(token, method, path, body);
            let is_allowed = answer.status != 403;
            assert_eq!(
                is_allowed, allowed[index],
                "{method} {path} as {}: {answer:?}",
                roles[index]
            );
            assert_ne!(answer.status, 500, "{method} {path}: {answer:?}");
        }
        let stranger = service.ask_as("hft_none", method, path, body);
        assert_eq!(stranger.status, 401, "{method} {path}");
        let of_other = service.ask_as(&foreign, method, path, body);
        assert_eq!(
            (of_other.status, of_other.problem().as_str()),
            (404, "unknown-catalog"),
            "{path}"
        );
    }
    // What the document has is what was asked here, but for what needs a token of the whole service.
    let document = service.management.ask("GET", "/openapi.json", "", b"").json();
    let mut documented = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            documented.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    assert_eq!(documented.len(), operations.len() + 5, "{documented:#?}");
    let rows = service.done("POST", "/audit/verify", &Value::Null);
    assert_eq!(rows["broken"], Value::Null);
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
        runtime.block_on(doctor::examine(&service.folder, Arc::new(move || now))).unwrap()
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
