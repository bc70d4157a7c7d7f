//! The device port against a service at this host, and against what is none.
#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use crate::service_in_tests::{
    Authority, DEVICE, IN_2026, NEW, NOW, OLD, Request, device_port, serve_with, service,
};
use holdfast_evidence::http::MAX_HEAD_BYTES;
use std::time::Instant;

const YEAR_S: u64 = 31_556_952;

/// A request of which the exporter is the body.
fn post(port: &DevicePort, moment: Moment) -> Result<Answer, PortError> {
    port.post("/x", &DEVICE, moment, |exporter| Ok(exporter.0.to_vec()))
}

/// Answers what the exporter of the connection is, if it was sent as the body.
fn echo(request: &mut Request) {
    let (body, exporter) = (request.body(), request.exporter);
    let status = if body == exporter { 200 } else { 403 };
    request.answer(status, "", &exporter);
}

/// Says what of an error is printed.
fn says(outcome: Result<Answer, PortError>) -> String {
    holdfast_types::chain(&outcome.expect_err("was taken"))
}

#[test]
fn the_exporter_is_the_connections_and_no_others() {
    let port = service(echo);
    let answers = [(); 3].map(|()| post(&port, NOW).unwrap());
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!((answer.head.status, answer.body.len()), (200, 32));
        assert!(answers[..index].iter().all(|earlier| earlier.body != answer.body));
    }
}

#[test]
fn a_service_that_is_busy_costs_no_evidence() {
    let port = service(|request| {
        assert!(request.head.contains("\r\nExpect: 100-continue\r\n"));
        request.answer(503, "Retry-After: 120\r\n", b"{}");
    });
    let no_body = |_| -> Result<Vec<u8>, PortError> { panic!("a body is made") };
    let answer = port.post("/x", &DEVICE, NOW, no_body).unwrap();
    assert_eq!((answer.head.status, answer.head.retry_after_s), (503, Some(120)));
    let port = service(|request| request.say(b"HTTP/1.1 503 Busy\r\n\r\n"));
    let answer = port.post("/x", &DEVICE, NOW, no_body).unwrap();
    assert_eq!((answer.head.status, answer.body.len()), (503, 0));
}

/// What the service says behind the body, and the error. The control is the exporter's test.
#[test]
fn an_answer_that_is_none_is_refused() {
    let too_long = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_ANSWER_BYTES + 1);
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
    let cases: [(&str, &str); 9] = [
        ("", "ends too soon"),
        ("HTTP/1.1 200 OK\r\n", "ends too soon"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", "ends too soon"),
        ("HTTP/1.1 200 OK\r\n\r\n{}", "has no length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer coding"),
        ("SSH-2.0-x\r\n\r\n", "does not begin with a status line"),
        (&too_long, "49153 bytes, more than 49152"),
        (&head, "head has more than 16384 bytes"),
        (&"HTTP/1.1 102 Wait\r\n\r\n".repeat(9), "one interim answer after the other"),
    ];
    for (said, expected) in cases {
        let said = said.to_owned();
        let port = service(move |request| {
            request.body();
            request.say(said.as_bytes());
        });
        let refused = says(post(&port, NOW));
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
}

#[test]
fn a_service_that_does_not_answer_is_given_up() {
    let port = service(|_| std::thread::sleep(Duration::from_secs(6)));
    let began = Instant::now();
    let no_body = |_| -> Result<Vec<u8>, PortError> { panic!("a body is made") };
    says(port.post("/x", &DEVICE, NOW, no_body));
    assert!(began.elapsed() < Duration::from_secs(5));
    // One that sends a byte now and then has one deadline for all of them.
    let port = service(|request| {
        for byte in b"HTTP/1.1 100 Continue\r\n\r\n" {
            request.say(&[*byte]);
            std::thread::sleep(Duration::from_millis(300));
        }
    });
    let began = Instant::now();
    says(port.post("/x", &DEVICE, NOW, no_body));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn only_the_services_authorities_vouch_for_it() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.certificate("127.0.0.1", (2025, 2027));
    let named = authority.certificate("localhost", (2025, 2027));
    let port = serve_with(good, NEW, echo);
    post(&device_port(port, vec![authority.der.clone()]), NOW).expect("the control");
    // Two may be listed, while one takes the place of the other.
    let both = vec![other.der.clone(), authority.der.clone()];
    post(&device_port(port, both), NOW).expect("the control");
    let refused = says(post(&device_port(port, vec![other.der]), NOW));
    assert!(refused.contains("UnknownIssuer") || refused.contains("BadSignature"), "{refused}");
    let port = serve_with(named, NEW, echo);
    let refused = says(post(&device_port(port, vec![authority.der]), NOW));
    assert!(refused.contains("not valid for name"), "{refused}");
    let config = ServiceConfig {
        reports: false,
        host: "127.0.0.1".to_owned(),
        port,
        authorities: vec![b"no certificate".to_vec()],
    };
    let refused = DevicePort::new(config, PATIENCE).unwrap_err();
    assert!(matches!(refused, PortConfigError::Authority(_)), "{refused}");
}

#[test]
fn an_older_tls_is_refused() {
    let authority = Authority::new();
    let port = serve_with(authority.certificate("127.0.0.1", (2025, 2027)), OLD, echo);
    let refused = says(post(&device_port(port, vec![authority.der]), NOW));
    assert!(refused.contains("cannot agree on TLS"), "{refused}");
}

/// The years of the service's certificate, the bounds of the time in years from 2026 on, and whether it is taken.
#[test]
fn a_device_at_its_floor_takes_a_certificate_that_is_good_at_some_time() {
    let authority = Authority::new();
    for (years, (earliest, latest), is_taken) in [
        // A clock that was set has one moment.
        ((2025, 2027), (0, 0), true),
        ((2027, 2028), (0, 0), false),
        ((2024, 2025), (0, 0), false),
        // One that shows its floor has 20 years.
        ((2025, 2027), (0, 20), true),
        ((2034, 2035), (0, 20), true),
        ((2045, 2046), (0, 20), true),
        ((2047, 2048), (0, 20), false),
        // What has ended before the floor has ended.
        ((2024, 2025), (0, 20), false),
        ((2025, 2027), (2, 22), false),
    ] {
        let port = serve_with(authority.certificate("127.0.0.1", years), NEW, echo);
        let moment =
            Moment { earliest_s: IN_2026 + earliest * YEAR_S, latest_s: IN_2026 + latest * YEAR_S };
        let outcome = post(&device_port(port, vec![authority.der.clone()]), moment);
        assert_eq!(outcome.is_ok(), is_taken, "{years:?} {earliest} {latest}: {outcome:?}");
    }
}

#[test]
fn nobody_at_the_port_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = says(post(&device_port(port, vec![Authority::new().der]), NOW));
    assert!(refused.contains("cannot connect"), "{refused}");
}
