//! The service is killed at each moment of a check-in and of an enrolment, on both databases: nothing is answered before it is stored,
//! what was not committed is not there, and no device is lost.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod interrupted;

use holdfast_evidence::messages::{CHECK_IN_PATH, ENROL_PATH, FINISH_PATH, Profile};
use holdfast_service_clients::{Client, SoftwareDevice, TpmDevice, checked_in, post};
use holdfast_service_store::moment::Moment;
use holdfast_service_store::postgres_harness::Postgres;
use interrupted::Interrupted;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

/// Moments of a write that is not a check-in's.
const OF_WRITES: [Moment; 3] = [Moment::Begun, Moment::Written, Moment::Committed];

/// Sends a request and does not wait for its answer.
fn send<T: Serialize>(client: &mut Client, path: &str, body: &T) {
    let body = serde_json::to_vec(body).unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: service.example\r\nContent-Length: {length}\r\n\r\n"
    );
    client.stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    client.stream.flush().unwrap();
}

/// Waits until the service has stopped, demands that it has said nothing by then, kills it, and demands that nothing comes behind.
fn kill(service: &mut Interrupted, client: &mut Client, moment: Moment) {
    service.has_stopped_at(moment);
    client.stream.sock.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let early = client.stream.read(&mut [0]).unwrap_err().kind();
    let is_silent = matches!(early, ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(is_silent, "answered at {moment:?}: {early:?}");
    service.kill();
    client.stream.sock.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "answered at {moment:?}: {}", String::from_utf8_lossy(&rest));
}

fn check_ins_survive(database: &str) {
    let mut service = Interrupted::new(database);
    let mut device = SoftwareDevice::new(service.catalog);
    service.claim(&device.id.to_string(), "software");
    assert_eq!(device.enrol(&service.device).status, 200);
    let first = checked_in(&device.check_in(&service.device));
    assert_eq!(first.profile, Profile::Full, "the control: nobody stops it");
    for moment in Moment::ALL {
        let before = service.newest_receipt(&device.id);
        service.stop_at(moment, 1);
        let mut client = service.device.connect();
        let request = device.request(&client.exporter(&device.id.0));
        send(&mut client, CHECK_IN_PATH, &request);
        kill(&mut service, &mut client, moment);
        let is_stored = service.newest_receipt(&device.id) > before;
        assert_eq!(is_stored, moment >= Moment::Committed, "killed at {moment:?}");
        service.start();
        // Whatever became of it, the device goes on with the receipt that it has.
        let next = checked_in(&device.check_in(&service.device));
        assert_eq!((next.profile, next.reasons.len()), (Profile::Full, 0), "after {moment:?}");
    }
    assert_eq!(service.ask("POST", "/audit/verify", &Value::Null)["broken"], Value::Null);
    assert_eq!(service.ask("GET", "/findings", &Value::Null)["items"], json!([]));
    // The control: a receipt that was put back is found after all these starts.
    let old = device.receipt.clone();
    checked_in(&device.check_in(&service.device));
    checked_in(&device.check_in(&service.device));
    device.receipt = old;
    assert_eq!(checked_in(&device.check_in(&service.device)).profile, Profile::UpdateOnly);
}

#[test]
fn a_kill_at_each_moment_of_a_check_in_costs_no_device_on_sqlite() {
    check_ins_survive("sqlite:service.db");
}

#[test]
fn a_kill_at_each_moment_of_a_check_in_costs_no_device_on_postgresql() {
    let postgres = Postgres::start().unwrap();
    check_ins_survive(&postgres.url());
}

/// Writes of an enrolment: the challenge; that it was taken; and that the device is enrolled, in the second request as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Challenge,
    Taken,
    Enrolled,
}

fn enrolments_survive(database: &str) {
    let mut service = Interrupted::new(database);
    for part in [Part::Challenge, Part::Taken, Part::Enrolled] {
        for moment in OF_WRITES {
            let mut device = TpmDevice::new(service.catalog);
            service.claim(&device.id.to_string(), "emulated");
            let request = device.enrol_request();
            let mut client = service.device.connect();
            if part == Part::Challenge {
                service.stop_at(moment, 1);
                send(&mut client, ENROL_PATH, &request);
            } else {
                let challenge = post(&mut service.device.connect(), ENROL_PATH, &request);
                assert_eq!(challenge.status, 200, "the control: {challenge:?}");
                let finish = device.finish_request(&challenge, &client.exporter(&device.id.0));
                service.stop_at(moment, if part == Part::Taken { 1 } else { 2 });
                send(&mut client, FINISH_PATH, &finish);
            }
            kill(&mut service, &mut client, moment);
            service.start();
            let at = format!("killed at {moment:?} of {part:?}");
            let shown = service.ask("GET", &format!("/devices/{}", device.id), &Value::Null);
            let is_enrolled = part == Part::Enrolled && moment == Moment::Committed;
            let expected = if is_enrolled { "enrolled" } else { "claimed" };
            assert_eq!(shown["state"], json!(expected), "{at}");
            // Whatever became of it, the device begins anew, with the same key.
            let again = device.enrol(&service.device);
            assert_eq!(again.status, 200, "{at}: {again:?}");
            let answer = checked_in(&device.check_in(&service.device));
            assert_eq!((answer.profile, answer.reasons.len()), (Profile::Full, 0), "{at}");
        }
    }
    assert_eq!(service.ask("GET", "/findings", &Value::Null)["items"], json!([]));
    assert_eq!(service.ask("POST", "/audit/verify", &Value::Null)["broken"], Value::Null);
}

#[test]
fn an_enrolment_that_is_killed_at_each_write_is_begun_anew_on_sqlite() {
    enrolments_survive("sqlite:service.db");
}

#[test]
fn an_enrolment_that_is_killed_at_each_write_is_begun_anew_on_postgresql() {
    let postgres = Postgres::start().unwrap();
    enrolments_survive(&postgres.url());
}
