//! Alerts, from the outbox to receivers on loopback: in order, once, and whatever one receiver does, the others get theirs.

use crate::installation::Installation;
use crate::receiver::{HANGS, Receiver};
use holdfast_service::deliveries::{Deliveries, MAX_AGE_S};
use holdfast_service_alerts::connect::system_resolver;
use holdfast_service_alerts::sinks::Sinks;
use holdfast_service_domain::detection::alert::{RETRY_S, signature};
use serde_json::{Value, json};
use sqlx::Connection;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;

/// A service that may reach these receivers.
fn service(receivers: &[&Receiver], scratch: &TempDir) -> Installation {
    let authorities = scratch.path().join("authorities.pem");
    Receiver::vouch_for(receivers, &authorities);
    Installation::with(|settings| {
        settings.alerts.authorities = Some(authorities);
        settings.alerts.private_receivers = vec!["127.0.0.1".parse().unwrap()];
    })
}

fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn add(service: &Installation, name: &str, url: &str) -> String {
    let made = service.done("POST", "/webhooks", &json!({"name": name, "url": url}));
    made["secret"].as_str().unwrap().to_owned()
}

/// Puts alerts into the outbox, as the evaluation of rules does.
fn put(service: &Installation, numbers: std::ops::RangeInclusive<u64>, at: u64) {
    let url = format!("sqlite:{}", service.folder.join("service.db").display());
    let catalog = service.catalog.to_string();
    service.block_on(async {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&url).await.unwrap();
        for number in numbers {
            let body = json!({
                "catalog": catalog, "product": "pump", "group": "eval", "at": at, "kind": "finding",
                "findings": [{
                    "number": number, "rule": "outbreak", "severity": 1, "about": "camera 2.1.0",
                    "devices": 9, "first": at, "last": at, "sees": "It.", "remedy": "Contain.",
                }],
            });
            let insert =
                "INSERT INTO alert (catalog, number, product, grp, at, severity, kind, body)
                VALUES ($1, $2, 'pump', 'eval', $3, 1, 'finding', $4)";
            let insert =
                sqlx::query(insert).bind(catalog.clone()).bind(i64::try_from(number).unwrap());
            let insert = insert.bind(i64::try_from(at).unwrap()).bind(body.to_string());
            insert.execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
    });
}

fn listed(service: &Installation, name: &str) -> Value {
    let list = service.done("GET", "/webhooks", &Value::Null);
    let items = list["items"].as_array().unwrap();
    items.iter().find(|item| item["name"] == name).unwrap().clone()
}

/// What delivers, as another instance on the same folder.
fn deliveries(service: &Installation) -> Arc<Deliveries> {
    let alerts = &service.settings.alerts;
    let sinks = Sinks::new(&service.folder, alerts, system_resolver()).unwrap();
    Deliveries::new(service.replica(), sinks)
}

#[test]
fn alerts_come_signed_in_order_and_once_over_a_restart() {
    let (receiver, scratch) = (Receiver::start(204), scratch());
    let mut service = service(&[&receiver], &scratch);
    put(&service, 1..=2, service.now());
    let secret = add(&service, "ops", &receiver.url);
    put(&service, 3..=12, service.now());
    receiver.wait_for(10);
    service.restart();
    put(&service, 13..=14, service.now());
    receiver.wait_for(12);
    assert_eq!(
        receiver.numbers(),
        (3..=14).collect::<Vec<_>>(),
        "what came before it was made is not sent"
    );
    let requests = receiver.requests();
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    let expected = signature(secret.as_bytes(), body.as_bytes(), service.now());
    let line = head.lines().find(|line| line.to_lowercase().starts_with("holdfast-signature"));
    assert_eq!(line.unwrap().split_once(": ").unwrap().1, expected);
    let read: Value = serde_json::from_str(body).unwrap();
    assert_eq!(read["findings"][0]["rule"], "outbreak");
    // What a receiver has, the service has stored only behind its answer: whoever ends the service waits for that.
    service.restart();
    let shown = listed(&service, "ops");
    assert_eq!((&shown["delivered"], &shown["given_up"]), (&json!(12), &json!(0)), "{shown}");
    assert_eq!(receiver.requests().len(), 12);
    assert!(!shown.to_string().contains(&secret), "the secret is told once");
}

#[test]
fn a_receiver_that_refuses_is_asked_again_by_the_clock_and_given_up() {
    let (receiver, scratch) = (Receiver::start(500), scratch());
    let mut service = service(&[&receiver], &scratch);
    add(&service, "ops", &receiver.url);
    put(&service, 1..=2, service.now());
    service.stop();
    let deliveries = deliveries(&service);
    let round = || service.block_on(deliveries.deliver_due()).unwrap();
    // The running service may have tried it once before it was stopped.
    round();
    assert_eq!(receiver.numbers(), [1]);
    for (index, seconds) in RETRY_S.iter().enumerate() {
        service.pass(seconds - 1);
        round();
        assert_eq!(receiver.numbers().len(), index + 1, "not before its time");
        service.pass(1);
        if index + 1 == RETRY_S.len() {
            break;
        }
        round();
        assert_eq!(receiver.numbers(), vec![1; index + 2]);
    }
    // The last try: it is given up, and the next one is tried at once.
    receiver.status.store(503, Ordering::SeqCst);
    round();
    let numbers = receiver.numbers();
    assert_eq!((numbers.len(), &numbers[8..]), (9, &[2][..]), "{numbers:?}");
    receiver.status.store(200, Ordering::SeqCst);
    service.pass(RETRY_S[0]);
    round();
    assert_eq!(receiver.numbers()[9..], [2]);
    service.begin();
    let shown = listed(&service, "ops");
    assert_eq!((&shown["delivered"], &shown["given_up"]), (&json!(1), &json!(1)), "{shown}");
    assert_eq!(shown["failure"], "the receiver answers 503");
    assert_eq!((&shown["failures"], &shown["next_at"]), (&json!(0), &Value::Null));
}

#[test]
fn a_receiver_that_hangs_delays_no_other() {
    let (hanging, failing, good) =
        (Receiver::start(HANGS), Receiver::start(500), Receiver::start(200));
    let scratch = scratch();
    let mut service = service(&[&hanging, &failing, &good], &scratch);
    for (name, receiver) in [("a-hangs", &hanging), ("b-fails", &failing), ("c-good", &good)] {
        add(&service, name, &receiver.url);
    }
    service.stop();
    put(&service, 1..=5, service.now());
    let deliveries = deliveries(&service);
    let mut tasks = JoinSet::new();
    service.block_on(deliveries.begin_due(&mut tasks)).unwrap();
    good.wait_for(5);
    assert_eq!(good.numbers(), [1, 2, 3, 4, 5]);
    failing.wait_for(1);
    assert_eq!((failing.numbers(), hanging.requests().len()), (vec![1], 0));
    service.block_on(async { tasks.shutdown().await });
}

#[test]
fn of_two_replicas_one_delivers() {
    let (receiver, scratch) = (Receiver::start(200), scratch());
    let mut service = service(&[&receiver], &scratch);
    add(&service, "ops", &receiver.url);
    service.stop();
    put(&service, 1..=40, service.now());
    let (first, second) = (deliveries(&service), deliveries(&service));
    service.block_on(async {
        let (first, second) = tokio::join!(first.deliver_due(), second.deliver_due());
        first.unwrap();
        second.unwrap();
    });
    assert_eq!(receiver.numbers(), (1..=40).collect::<Vec<_>>());
    // One that has died in the middle of an attempt: after its lease, the other goes on.
    put(&service, 41..=41, service.now());
    let (sink, now) = (
        holdfast_service_store::webhook::Webhook::sink(
            service.block_on(first_scope(&service)),
            "ops",
        ),
        service.now(),
    );
    let store = service.replica().store.clone();
    let lease = store.take_lease(sink, "the dead".to_owned(), now, 120);
    assert!(service.block_on(lease).unwrap().is_some());
    service.block_on(second.deliver_due()).unwrap();
    assert_eq!(receiver.numbers().len(), 40, "it is another's");
    service.pass(120);
    service.block_on(second.deliver_due()).unwrap();
    assert_eq!(receiver.numbers().last(), Some(&41));
}

async fn first_scope(service: &Installation) -> holdfast_service_store::Scope {
    let url = service.settings.database_url(&service.folder);
    let store = holdfast_service_store::Store::open(&url).await.unwrap();
    store.scope_of_device(service.catalog).await.unwrap().unwrap()
}

#[test]
fn what_is_older_than_a_day_is_dropped_and_told() {
    let (receiver, scratch) = (Receiver::start(200), scratch());
    let mut service = service(&[&receiver], &scratch);
    add(&service, "ops", &receiver.url);
    service.stop();
    put(&service, 1..=3, service.now() - MAX_AGE_S - 1);
    put(&service, 4..=4, service.now() - MAX_AGE_S);
    service.block_on(deliveries(&service).deliver_due()).unwrap();
    assert_eq!(receiver.numbers(), [4]);
    service.begin();
    let shown = listed(&service, "ops");
    assert_eq!((&shown["delivered"], &shown["dropped"]), (&json!(1), &json!(3)), "{shown}");
}

#[test]
fn webhooks_are_made_tested_and_removed() {
    let (receiver, scratch) = (Receiver::start(202), scratch());
    let service = service(&[&receiver], &scratch);
    let secret = add(&service, "ops", &receiver.url);
    assert!(secret.starts_with("hws_") && secret.len() > 40, "{secret}");
    let again = service.ask("POST", "/webhooks", &json!({"name": "ops", "url": receiver.url}));
    assert_eq!((again.status, again.problem().as_str()), (409, "conflict"));
    for url in ["http://a.example/", "https://u:p@a.example/", "ftp://a.example", "x"] {
        let refused = service.ask("POST", "/webhooks", &json!({"name": "b", "url": url}));
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(refused.status, 400, "{url}");
        assert!(detail.starts_with("url: must be an https: URL"), "{detail}");
    }
    let tested = service.done("POST", "/webhooks/ops/test", &Value::Null);
    assert_eq!(tested, json!({"delivered": true, "status": 202, "failure": null}));
    assert!(receiver.requests()[0].contains("\"kind\":\"test\""));
    let soon = service.ask("POST", "/webhooks/ops/test", &Value::Null);
    assert_eq!((soon.status, soon.problem().as_str()), (429, "too-many"));
    service.pass(10);
    receiver.status.store(500, Ordering::SeqCst);
    let tested = service.done("POST", "/webhooks/ops/test", &Value::Null);
    assert_eq!(
        (&tested["delivered"], &tested["failure"]),
        (&json!(false), &json!("the receiver answers 500"))
    );
    for number in 1..16 {
        add(&service, &format!("hook-{number}"), "https://a.example/");
    }
    let more = json!({"name": "more", "url": "https://a.example/"});
    let full = service.ask("POST", "/webhooks", &more);
    assert_eq!((full.status, full.problem().as_str()), (409, "conflict"), "{full:?}");
    service.done("POST", "/webhooks/ops/remove", &Value::Null);
    assert_eq!(service.ask("POST", "/webhooks/ops/remove", &Value::Null).status, 404);
    assert_eq!(service.ask("POST", "/webhooks/ops/test", &Value::Null).status, 404);
    service.done("POST", "/webhooks", &more);
    let rows = service.done("GET", "/audit", &Value::Null);
    let verbs = |verb: &str| {
        rows["items"].as_array().unwrap().iter().filter(|row| row["verb"] == verb).count()
    };
    let counts = ["webhook.create", "webhook.test", "webhook.remove"].map(verbs);
    assert_eq!(counts, [17, 2, 1]);
    assert_eq!(service.done("POST", "/audit/verify", &Value::Null)["broken"], Value::Null);
}

#[test]
fn a_webhook_into_the_services_own_network_is_not_tested() {
    let (receiver, scratch) = (Receiver::start(200), scratch());
    let authorities = scratch.path().join("authorities.pem");
    Receiver::vouch_for(&[&receiver], &authorities);
    let service = Installation::with(|settings| settings.alerts.authorities = Some(authorities));
    add(&service, "inside", &receiver.url);
    let tested = service.done("POST", "/webhooks/inside/test", &Value::Null);
    let said = "the name of the receiver has no public address";
    assert_eq!((&tested["delivered"], &tested["failure"]), (&json!(false), &json!(said)));
    // Whether a name is there in the service's network is told to nobody.
    add(&service, "nowhere", "https://nowhere.invalid/");
    let tested = service.done("POST", "/webhooks/nowhere/test", &Value::Null);
    assert_eq!(tested["failure"], said);
    assert!(receiver.requests().is_empty());
}

#[test]
fn a_catalogs_alerts_go_to_a_collector_of_the_installation() {
    let (receiver, scratch) = (Receiver::start(200), scratch());
    let authorities = scratch.path().join("authorities.pem");
    Receiver::vouch_for(&[&receiver], &authorities);
    let endpoint = receiver.url.clone();
    let service = Installation::with(|settings| {
        settings.alerts.authorities = Some(authorities);
        settings.alerts.otlp =
            Some(holdfast_service_domain::settings::OtlpSettings { endpoint, authorization: None });
    });
    put(&service, 1..=2, service.now());
    receiver.wait_for(2);
    std::thread::sleep(Duration::from_millis(100));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].starts_with("POST /hook/v1/logs "), "{}", requests[0]);
    let body: Value = serde_json::from_str(requests[1].split_once("\r\n\r\n").unwrap().1).unwrap();
    let record = &body["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0];
    assert_eq!(record["body"]["stringValue"], "outbreak: camera 2.1.0");
}
