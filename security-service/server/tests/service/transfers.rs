//! A device goes from one catalog of a service to another: two owners of the first, a voucher, and an owner of the second.

use crate::device::{SoftwareDevice, checked_in, software_device};
use crate::installation::Installation;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_evidence::config::IdentityConfig;
use holdfast_evidence::messages::{CatalogId, EnrolAnswer};
use holdfast_evidence::service::Ring;
use holdfast_evidence::transfer::{Voucher, follow};
use holdfast_service_clients::Answer;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// Another catalog of the service, with its owner's token.
struct Other {
    id: CatalogId,
    root: Vec<u8>,
    token: String,
}

fn other(service: &Installation) -> Other {
    let headers = format!("Authorization: Bearer {}\r\n", service.token);
    let ask = |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = service.management.ask(method, path, &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let made = ask("POST", "/v1/catalogs", json!({"name": "other"}));
    let id = made["id"].as_str().unwrap();
    let listed = ask("GET", &format!("/v1/catalogs/{id}/ca-certificates"), Value::Null);
    let root = listed["items"].as_array().unwrap().iter().find(|row| row["kind"] == "root");
    let root = root.unwrap()["pem"].as_str().unwrap();
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap().to_vec();
    let owner = json!({"name": "theirs", "role": "owner", "days": 1});
    let token = ask("POST", &format!("/v1/catalogs/{id}/tokens"), owner);
    let token = token["token"].as_str().unwrap().to_owned();
    Other { id: CatalogId::parse(id).unwrap(), root, token }
}

fn in_other(service: &Installation, other: &Other, path: &str, body: &Value) -> Answer {
    let headers = format!("Authorization: Bearer {}\r\n", other.token);
    let path = format!("/v1/catalogs/{}{path}", other.id);
    service.management.ask("POST", &path, &headers, body.to_string().as_bytes())
}

fn second_owner(service: &Installation) -> String {
    let made = json!({"name": "ines", "role": "owner", "days": 90, "person": "ines"});
    let made = service.done("POST", "/tokens", &made);
    made["token"].as_str().unwrap().to_owned()
}

fn offer(other: &Other) -> Value {
    json!({"to": other.id.to_string(), "root": STANDARD.encode(&other.root), "days": 30})
}

fn is_refused(answer: &Answer, status: u16, says: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains(says), "{says}: {text}");
}

/// The owner that a device has by the voucher which it is handed.
fn followed(service: &Installation, device: &SoftwareDevice, voucher: &[u8]) -> IdentityConfig {
    let own =
        IdentityConfig { catalog: service.catalog, catalog_root: service.root.clone(), epoch: 0 };
    let voucher = Voucher::decode(voucher).unwrap();
    follow(&own, &voucher, &device.id, Some(service.now()), &Ring).unwrap()
}

#[test]
fn a_device_goes_to_another_catalog_by_a_voucher_of_two_owners() {
    let service = Installation::new();
    let (other, ines) = (other(&service), second_owner(&service));
    let mut device = software_device(&service);
    let path = format!("/devices/{}/transfer", device.id);
    assert_eq!(checked_in(&device.check_in(&service.device)).transfer, None, "nobody offers it");

    service.done("POST", &path, &offer(&other));
    is_refused(&service.ask("POST", &path, &offer(&other)), 409, "under way");
    assert_eq!(checked_in(&device.check_in(&service.device)).transfer, None, "nobody has approved");
    let alone = service.ask("POST", &format!("{path}/approve"), &Value::Null);
    is_refused(&alone, 409, "another owner has to");
    let wrong = json!({"signature": STANDARD.encode([0x30, 0x06, 2, 1, 1, 2, 1, 1])});
    let wrong = service.ask_as(&ines, "POST", &format!("{path}/approve"), &wrong);
    is_refused(&wrong, 400, "not that of the catalog's root");
    let approved = service.ask_as(&ines, "POST", &format!("{path}/approve"), &Value::Null);
    assert_eq!(approved.status, 200, "{approved:?}");
    let again = service.ask_as(&ines, "POST", &format!("{path}/approve"), &Value::Null);
    is_refused(&again, 409, "does not wait");

    let voucher = checked_in(&device.check_in(&service.device)).transfer.unwrap();
    let owner = followed(&service, &device, &voucher.0);
    assert_eq!((owner.catalog, owner.epoch), (other.id, 1));
    assert_eq!(owner.catalog_root, other.root);
    assert_eq!(service.done("GET", &path, &Value::Null)["state"], "sent");
    let late = service.ask("POST", &format!("{path}/withdraw"), &Value::Null);
    is_refused(&late, 409, "may have gone");

    // The other catalog takes it, and no other does.
    let accept = json!({"voucher": STANDARD.encode(&voucher.0), "grade": "software"});
    is_refused(&service.ask("POST", "/transfers/accept", &accept), 400, "to another catalog");
    let cut = json!({"voucher": STANDARD.encode(&voucher.0[1..]), "grade": "software"});
    is_refused(&in_other(&service, &other, "/transfers/accept", &cut), 400, "voucher");
    let accepted = in_other(&service, &other, "/transfers/accept", &accept);
    assert_eq!((accepted.status, &accepted.json()["state"]), (200, &json!("claimed")));
    assert_eq!(checked_in(&device.check_in(&service.device)).transfer, Some(voucher.clone()));
    device.catalog = other.id;
    let enrolled = device.enrol(&service.device);
    assert_eq!(enrolled.status, 200, "{enrolled:?}");

    // The first catalog has given it up, and keeps the voucher for a device that has lost what it knew.
    let shown = service.done("GET", &path, &Value::Null);
    assert_eq!((&shown["state"], &shown["approved_by"]), (&json!("followed"), &json!("ines")));
    assert_eq!(service.device(&device.id.to_string())["state"], "retired");
    device.catalog = service.catalog;
    assert_eq!(device.check_in(&service.device).problem(), "released");
    let sent_on: EnrolAnswer = serde_json::from_slice(&device.enrol(&service.device).body).unwrap();
    assert_eq!(sent_on, EnrolAnswer::Transferred { voucher });
    let listed = service.done("GET", "/transfers", &Value::Null);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let verified = service.done("POST", "/audit/verify", &Value::Null);
    assert_eq!(verified["broken"], Value::Null);
    service.pass(31 * 24 * 60 * 60);
    assert_eq!(device.enrol(&service.device).problem(), "released", "the voucher has ended");
}

#[test]
fn a_transfer_that_the_device_was_not_told_of_is_withdrawn() {
    let service = Installation::new();
    let (other, ines) = (other(&service), second_owner(&service));
    let mut device = software_device(&service);
    let path = format!("/devices/{}/transfer", device.id);
    service.done("POST", &path, &offer(&other));
    let approved = service.ask_as(&ines, "POST", &format!("{path}/approve"), &Value::Null);
    assert_eq!(approved.status, 200, "{approved:?}");
    service.done("POST", &format!("{path}/withdraw"), &Value::Null);
    assert_eq!(checked_in(&device.check_in(&service.device)).transfer, None);
    assert_eq!(service.ask("GET", &path, &Value::Null).status, 404);
    let gone = service.ask("POST", &format!("{path}/withdraw"), &Value::Null);
    is_refused(&gone, 404, "no such transfer");
    // What is offered is read before it is kept.
    for (field, value) in [("to", json!("x")), ("root", json!("AA==")), ("days", json!(0))] {
        let mut wrong = offer(&other);
        wrong[field] = value;
        is_refused(&service.ask("POST", &path, &wrong), 400, field);
    }
    let mut own = offer(&other);
    own["to"] = json!(service.catalog.to_string());
    is_refused(&service.ask("POST", &path, &own), 409, "belongs to this catalog");
    let stranger = format!("/devices/{}/transfer", "0".repeat(64));
    is_refused(&service.ask("POST", &stranger, &offer(&other)), 404, "unknown-device");
    service.done("POST", &path, &offer(&other));
}
