//! Webhooks: signed, to public addresses alone, and bounded by whoever receives them in no way.

use crate::https::{Behaviour, Receiver, answer, https};
use holdfast_service_alerts::SinkError;
use holdfast_service_alerts::connect::{Reach, Resolver, system_resolver};
use holdfast_service_alerts::https_url::HttpsUrl;
use holdfast_service_alerts::webhook::Webhooks;
use holdfast_service_domain::detection::alert::signature;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const NAME: &str = "receiver.example";
const BODY: &str = r#"{"kind":"finding"}"#;
const NOW: u64 = 1_800_000_000;

/// A resolver to which every name has these addresses.
fn resolver(addresses: &[&str]) -> Resolver {
    let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(move |_, port| {
        let found = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Box::pin(async move { Ok(found) })
    })
}

/// Loopback is nothing that is public: a test names it, as an installation does with a receiver in the house.
fn reach(named: &[&str]) -> Reach {
    Reach::Public { and: named.iter().map(|text| text.parse().unwrap()).collect() }
}

async fn send(webhooks: &Webhooks, host: &str, port: u16) -> Result<u16, SinkError> {
    let url = HttpsUrl::read(&format!("https://{host}:{port}/hook?key=1")).unwrap();
    webhooks.send(&url, b"secret", "catalog.3", BODY, NOW).await
}

fn to(receiver: &Receiver) -> Webhooks {
    let webhooks =
        Webhooks::new(resolver(&["127.0.0.1"]), reach(&["127.0.0.1"]), receiver.trust.clone());
    webhooks.with_deadline(Duration::from_secs(2))
}

#[tokio::test]
async fn a_webhook_is_posted_and_signed() {
    let receiver = https(NAME, answer("204 No Content")).await;
    assert_eq!(send(&to(&receiver), NAME, receiver.port).await.unwrap(), 204);
    let requests = receiver.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?key=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, BODY);
    let has = |line: &str| {
        assert!(head.lines().any(|one| one.eq_ignore_ascii_case(line)), "{line}: {head}");
    };
    has(&format!("Holdfast-Signature: {}", signature(b"secret", BODY.as_bytes(), NOW)));
    has("Holdfast-Alert: catalog.3");
    has(&format!("Host: {NAME}:{}", receiver.port));
    has("Content-Type: application/json");
}

/// The names of a service's own network, by each way in which an address can be written.
#[tokio::test]
async fn a_name_that_leads_into_the_services_network_is_not_connected_to() {
    let receiver = https(NAME, answer("200 OK")).await;
    for address in [
        "127.0.0.1",
        "::ffff:127.0.0.1",
        "::1",
        "169.254.169.254",
        "10.0.0.1",
        "192.168.0.1",
        "fd00::1",
        "fe80::1",
        "64:ff9b::7f00:1",
    ] {
        let webhooks = Webhooks::new(resolver(&[address]), reach(&[]), receiver.trust.clone());
        let refused = send(&webhooks, NAME, receiver.port).await;
        assert!(matches!(refused, Err(SinkError::NoAddress)), "{address}: {refused:?}");
    }
    // By the system's resolver, to which texts are addresses that do not look like one.
    for host in
        ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:7f00:1]", "localhost"]
    {
        let webhooks = Webhooks::new(system_resolver(), reach(&[]), receiver.trust.clone());
        let refused = send(&webhooks, host, receiver.port).await;
        assert!(matches!(refused, Err(SinkError::NoAddress)), "{host}: {refused:?}");
    }
    assert_eq!(receiver.connections(), 0);
    // The controls: an address that the installation names, and none that it does not.
    for named in ["127.0.0.1", "::ffff:127.0.0.1"] {
        let webhooks =
            Webhooks::new(resolver(&["127.0.0.1"]), reach(&[named]), receiver.trust.clone());
        assert_eq!(send(&webhooks, NAME, receiver.port).await.unwrap(), 200);
    }
    let others =
        Webhooks::new(resolver(&["127.0.0.1"]), reach(&["127.0.0.2"]), receiver.trust.clone());
    assert!(matches!(send(&others, NAME, receiver.port).await, Err(SinkError::NoAddress)));
}

#[tokio::test]
async fn the_address_that_was_judged_is_the_one_that_is_connected_to() {
    let receiver = https(NAME, answer("200 OK")).await;
    // A name that is public first and private then, as one does who answers for his own zone.
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let changing: Resolver = Arc::new(move |_, port| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        let address: IpAddr = if first { [127, 0, 0, 1] } else { [169, 254, 169, 254] }.into();
        Box::pin(async move { Ok(vec![SocketAddr::new(address, port)]) })
    });
    let webhooks = Webhooks::new(changing, reach(&["127.0.0.1"]), receiver.trust.clone());
    assert_eq!(send(&webhooks, NAME, receiver.port).await.unwrap(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it is resolved once");
    // Of several addresses, those that may not be reached are passed over.
    let mixed = resolver(&["169.254.169.254", "10.0.0.1", "127.0.0.1"]);
    let webhooks = Webhooks::new(mixed, reach(&["127.0.0.1"]), receiver.trust.clone());
    assert_eq!(send(&webhooks, NAME, receiver.port).await.unwrap(), 200);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let inside = https(NAME, answer("200 OK")).await;
    let location = format!("https://127.0.0.1:{}/metadata", inside.port);
    let redirect =
        format!("HTTP/1.1 307 Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    let receiver = https(NAME, Behaviour::Answers(redirect)).await;
    let refused = send(&to(&receiver), NAME, receiver.port).await;
    assert!(matches!(refused, Err(SinkError::Status { status: 307, .. })), "{refused:?}");
    assert_eq!((receiver.requests().len(), inside.connections()), (1, 0));
}

#[tokio::test]
async fn who_is_slow_or_has_no_end_is_left() {
    for (behaviour, slow) in
        [(Behaviour::Drips, true), (Behaviour::Silent, true), (Behaviour::EndlessHeaders, false)]
    {
        let receiver = https(NAME, behaviour.clone()).await;
        let began = Instant::now();
        let failed = send(&to(&receiver), NAME, receiver.port).await.unwrap_err();
        let is_deadline = matches!(failed, SinkError::Deadline(_));
        assert_eq!(is_deadline, slow, "{behaviour:?}: {failed:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{behaviour:?}");
        assert!(!failed.is_final());
    }
    // Of a body nothing is read: what it says is no matter, and how long it is.
    let receiver = https(NAME, Behaviour::NeverEnds).await;
    assert_eq!(send(&to(&receiver), NAME, receiver.port).await.unwrap(), 200);
}

#[tokio::test]
async fn a_receiver_that_nobody_vouches_for_gets_nothing() {
    let (receiver, other) =
        (https(NAME, answer("200 OK")).await, https(NAME, answer("200 OK")).await);
    let webhooks =
        Webhooks::new(resolver(&["127.0.0.1"]), reach(&["127.0.0.1"]), other.trust.clone());
    let refused = send(&webhooks, NAME, receiver.port).await;
    assert!(matches!(refused, Err(SinkError::Handshake(_))), "{refused:?}");
    let refused = send(&to(&receiver), "other.example", receiver.port).await;
    assert!(matches!(refused, Err(SinkError::Handshake(_))), "{refused:?}");
    assert!(receiver.requests().is_empty());
    assert_eq!(send(&to(&receiver), NAME, receiver.port).await.unwrap(), 200, "the control");
}

#[tokio::test]
async fn what_is_no_success_is_told_with_when_to_come_again() {
    let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 99999999\r\nContent-Length: 0\r\n\r\n";
    let receiver = https(NAME, Behaviour::Answers(busy.to_owned())).await;
    let failed = send(&to(&receiver), NAME, receiver.port).await.unwrap_err();
    assert_eq!(failed.to_string(), "the receiver answers 503");
    assert_eq!((failed.retry_after_s(), failed.is_final()), (Some(3600), false), "an hour at most");
    let receiver = https(NAME, Behaviour::Answers("no HTTP".to_owned())).await;
    let failed = send(&to(&receiver), NAME, receiver.port).await.unwrap_err();
    assert!(matches!(failed, SinkError::Http(_)), "{failed:?}");
}
