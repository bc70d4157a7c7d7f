//! Limits of the device port: who is slow, large or many waits for nobody but himself.

use crate::device::{SoftwareDevice, checked_in, post, software_device};
use crate::installation::Installation;
use holdfast_evidence::messages::CHECK_IN_PATH;
use holdfast_service_clients::Target;
use rustls::{ClientConfig, RootCertStore};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn client_config(authorities: &RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    config.with_root_certificates(authorities.clone()).with_no_client_auth()
}

/// Reads to the end of the connection, and returns what came and how long it took.
fn until_closed(stream: &mut impl Read) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // A connection that is closed without a word of TLS is an error here, and the end as well.
    let _ = stream.read_to_end(&mut bytes);
    (bytes, began.elapsed())
}

fn is_in_time(took: Duration, limit_s: u64) {
    let least = Duration::from_secs(limit_s.saturating_sub(2));
    let most = Duration::from_secs(limit_s + 20);
    assert!(took >= least && took < most, "{took:?} for a limit of {limit_s} s");
}

/// Three slow ones at once: of a handshake, of headers, and of a body. Devices are served meanwhile.
#[test]
fn who_is_slow_is_closed_and_nobody_waits_for_him() {
    let service = Installation::new();
    let mut device = software_device(&service);
    let address = service.device.address;
    let handshake = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[0x16, 3, 1]).unwrap();
        until_closed(&mut stream).1
    });
    let target = service.device.clone();
    let headers = std::thread::spawn(move || {
        let mut client = target.connect();
        client.stream.write_all(b"POST /device/v1/check-in HTTP/1.1\r\nHost: s").unwrap();
        client.stream.flush().unwrap();
        until_closed(&mut client.stream).1
    });
    let target = service.device.clone();
    let body = std::thread::spawn(move || {
        let mut client = target.connect();
        let head = b"POST /device/v1/check-in HTTP/1.1\r\nHost: s\r\nContent-Length: 9\r\n\r\n{";
        client.stream.write_all(head).unwrap();
        client.stream.flush().unwrap();
        let began = Instant::now();
        let answer = client.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (408, "too-slow"));
        began.elapsed()
    });
    let began = Instant::now();
    checked_in(&device.check_in(&service.device));
    assert!(began.elapsed() < Duration::from_secs(8), "a device waited for the slow ones");
    is_in_time(handshake.join().unwrap(), 10);
    is_in_time(headers.join().unwrap(), 10);
    is_in_time(body.join().unwrap(), 30);
    checked_in(&device.check_in(&service.device));
}

#[test]
fn a_body_of_more_than_16_kib_is_refused_whatever_its_headers_say() {
    let service = Installation::new();
    let ask = |length: usize| {
        // Blanks before JSON that is none of ours: what is within the bound is read, and refused for that.
        let body = [vec![b' '; length - 2], b"{}".to_vec()].concat();
        let answer = service.device.ask("POST", CHECK_IN_PATH, "", &body);
        (answer.status, answer.problem())
    };
    assert_eq!(ask(16 * 1024), (400, "malformed".to_owned()), "the control");
    assert_eq!(ask(16 * 1024 + 1), (413, "too-large".to_owned()));
    // In chunks, there is no length to be believed.
    let mut client = service.device.connect();
    let head =
        b"POST /device/v1/check-in HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.stream.write_all(head).unwrap();
    for _ in 0..17 {
        client.stream.write_all(b"400\r\n").unwrap();
        client.stream.write_all(&[b' '; 0x400]).unwrap();
        client.stream.write_all(b"\r\n").unwrap();
    }
    let answer = client.answer();
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));
    // Headers have a bound as well.
    let long = format!("X-Long: {}\r\n", "x".repeat(20 * 1024));
    assert_eq!(service.device.ask("POST", CHECK_IN_PATH, &long, b"").status, 431);
    // And so has the depth of JSON.
    let deep = ["[".repeat(8000), "]".repeat(8000)].concat();
    let answer = service.device.ask("POST", CHECK_IN_PATH, "", deep.as_bytes());
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
}

#[test]
fn a_device_is_told_to_go_on_before_it_sends_its_body_or_to_come_later() {
    let service = Installation::with(|settings| settings.device.most_requests = 1);
    let device = software_device(&service);
    let ask = |client: &mut holdfast_service_clients::Client| {
        let head = b"POST /device/v1/check-in HTTP/1.1\r\nHost: s\r\nExpect: 100-continue\r\n\
            Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        client.stream.write_all(head).unwrap();
        client.answer()
    };
    let mut first = service.device.connect();
    let told = ask(&mut first);
    assert_eq!(told.status, 100, "{told:?}");
    // The one place is taken by who was told to go on.
    let second = ask(&mut service.device.connect());
    assert_eq!((second.status, second.problem().as_str()), (503, "busy"), "{second:?}");
    assert!(second.headers.to_ascii_lowercase().contains("retry-after: "), "{second:?}");
    let request = device.request(&first.exporter(&device.id.0));
    let body = serde_json::to_vec(&request).unwrap();
    write!(first.stream, "{:x}\r\n", body.len()).unwrap();
    first.stream.write_all(&body).unwrap();
    first.stream.write_all(b"\r\n0\r\n\r\n").unwrap();
    let answer = first.answer();
    checked_in(&answer);
    let headers = answer.headers.to_ascii_lowercase();
    assert!(headers.contains("content-length: ") && !headers.contains("transfer-encoding"));
    assert_eq!(ask(&mut service.device.connect()).status, 100, "the place is free again");
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let service = Installation::with(|settings| settings.device.most_per_address = 8);
    let held: Vec<_> = (0..8).map(|_| service.device.connect()).collect();
    let mut ninth = TcpStream::connect(service.device.address).unwrap();
    let (bytes, took) = until_closed(&mut ninth);
    assert!(bytes.is_empty() && took < Duration::from_secs(8), "it was closed at once");
    drop(held);
    let deadline = Instant::now() + Duration::from_secs(20);
    let served = |target: &Target| {
        let stream = TcpStream::connect(target.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let closed = matches!((&stream).read(&mut [0]), Ok(0) | Err(_))
            && (&stream).read(&mut [0]).is_ok_and(|length| length == 0);
        !closed
    };
    while !served(&service.device) {
        assert!(Instant::now() < deadline, "places are not given back");
    }
}

#[test]
fn tls_is_1_3_without_tickets_and_without_early_data() {
    let service = Installation::new();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let old = ClientConfig::builder_with_provider(provider);
    let old = old.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let old = old.with_root_certificates(service.device.authorities.clone()).with_no_client_auth();
    let name = "service.example".try_into().unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(old), name).unwrap();
    let mut stream = TcpStream::connect(service.device.address).unwrap();
    assert!(connection.complete_io(&mut stream).is_err(), "TLS 1.2 is not offered");
    // A session that is kept is not taken up again.
    let config = client_config(&service.device.authorities);
    for _ in 0..2 {
        let mut client = service.device.connect_with(config.clone());
        assert_eq!(client.ask("GET", "/", "", b"").status, 404, "the control");
        let kind = client.stream.conn.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Full));
        assert_eq!(client.stream.conn.tls13_tickets_received(), 0);
    }
}

/// Whoever writes all that he has before he reads is no rare client. The answer waits for him, and he for nobody.
#[test]
fn who_is_refused_before_his_body_was_read_reads_why() {
    let service = Installation::new();
    let head = |path: &str, length: usize| {
        format!(
            "POST /v1/catalogs/{}{path} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\n\
             Content-Length: {length}\r\n\r\n",
            service.catalog, service.token
        )
    };
    // Longer than what the kernels of both ends keep for each other.
    let body = vec![b' '; 12 << 20];
    for (percent, status, problem) in [(50, 413, "too-large"), (4, 507, "disk-full")] {
        service.set_free_percent(percent);
        let mut client = service.management.connect();
        client.stream.write_all(head("/claims", body.len()).as_bytes()).unwrap();
        client.stream.write_all(&body).unwrap();
        let answer = client.answer();
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{answer:?}");
    }
    // Who sends without an end is closed, as if he had not been answered.
    let mut client = service.management.connect();
    client.stream.write_all(head("/claims", 1 << 30).as_bytes()).unwrap();
    let sent = (0..1u32 << 10).take_while(|_| client.stream.write_all(&body[..1 << 20]).is_ok());
    assert!(sent.count() < 64, "it is read without a bound");
    service.set_free_percent(50);
    assert_eq!(service.ask("GET", "/devices", &serde_json::Value::Null).status, 200);
}

/// What a file would be too large for is known from its length: nobody has to send it to be told so.
#[test]
fn a_file_that_is_too_large_is_refused_before_it_is_sent() {
    let service = Installation::new();
    let ask = |length: u64| {
        let mut client = service.management.connect();
        let head = format!(
            "PUT /v1/catalogs/{}/release-files/{} HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {}\r\n\
             Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n",
            service.catalog,
            "00".repeat(32),
            service.token
        );
        client.stream.write_all(head.as_bytes()).unwrap();
        client.answer()
    };
    assert_eq!(ask(256 << 20).status, 100, "the control");
    let refused = ask((256 << 20) + 1);
    assert_eq!((refused.status, refused.problem().as_str()), (413, "too-large"), "{refused:?}");
}

/// A handshake with the device's key in place of the service's: the device believes the authorities of its image alone.
#[test]
fn a_request_for_something_else_is_a_problem() {
    let service = Installation::new();
    let device = SoftwareDevice::new(service.catalog);
    for (method, path, status) in
        [("GET", "/", 404), ("GET", CHECK_IN_PATH, 405), ("POST", "/v1/catalogs", 404)]
    {
        assert_eq!(service.device.ask(method, path, "", b"").status, status, "{method} {path}");
    }
    let unknown = br#"{"catalog":"cacacaca-caca-caca-caca-cacacacacaca","extra":1}"#;
    let answer = service.device.ask("POST", CHECK_IN_PATH, "", unknown);
    assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"));
    let mut client = service.device.connect();
    let request = device.request(&client.exporter(&device.id.0));
    let answer = post(&mut client, CHECK_IN_PATH, &request);
    assert_eq!((answer.status, answer.problem().as_str()), (404, "unknown-device"));
}
