//! How far alerts are delivered, on both databases: one holder of a lease, and a number that goes on by one.

use crate::databases::{Database, on_both};
use crate::{catalog, entry};
use holdfast_service_store::alert_delivery::{Record, Settled, Sink, SinkKind};
use holdfast_service_store::change::Answer;
use holdfast_service_store::webhook::{self, MAX_WEBHOOKS, Webhook};
use holdfast_service_store::{Scope, Store, StoreError};

const NOW: u64 = 10_000;
const LEASE_S: u64 = 120;

async fn put(database: &Database, scope: Scope, number: u64, at: u64) {
    let catalog = scope.catalog();
    let insert = format!(
        "INSERT INTO alert (catalog, number, product, grp, at, severity, kind, body)
         VALUES ('{catalog}', {number}, 'pump', 'eval', {at}, 1, 'finding', 'body {number}')"
    );
    database.execute(insert).await.unwrap();
}

async fn add(store: &Store, scope: Scope, name: &str) -> Result<(), StoreError> {
    let webhook = Webhook {
        name: name.to_owned(),
        url: "https://a.example/".to_owned(),
        wrapped_secret: vec![7; 60],
        who: "ole".to_owned(),
        created_at: NOW,
    };
    let work = store.write(move |connection| {
        Box::pin(async move { webhook::add(connection, scope, webhook).await })
    });
    work.await
}

async fn due(store: &Store, now: u64) -> Vec<Sink> {
    store.due_sinks(SinkKind::Webhook, now, 10).await.unwrap()
}

#[test]
fn one_holds_a_sink_and_its_number_goes_on_by_one() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        put(database, scope, 1, NOW).await;
        add(&store, scope, "ops").await.unwrap();
        assert_eq!(due(&store, NOW).await, [], "what came before it was made");
        for number in 2..=5 {
            put(database, scope, number, NOW).await;
        }
        let sink = Webhook::sink(scope, "ops");
        assert_eq!(due(&store, NOW).await, std::slice::from_ref(&sink));
        let take = async |holder: &str, now| {
            store.take_lease(sink.clone(), holder.to_owned(), now, LEASE_S).await.unwrap()
        };
        let lease = take("a", NOW).await.unwrap();
        assert_eq!((lease.number, lease.failures), (1, 0));
        assert_eq!(take("b", NOW).await, None);
        assert_eq!(due(&store, NOW).await, []);
        let alert = store.alert_after(scope, lease.number).await.unwrap().unwrap();
        assert_eq!((alert.number, alert.body.as_str()), (2, "body 2"));
        let settle =
            async |lease, settled, now| store.settle(lease, settled, now, LEASE_S).await.unwrap();
        let stale = lease.clone();
        let delivered = || Settled::Delivered { number: 2 };
        let lease = settle(lease, delivered(), NOW).await.unwrap();
        assert_eq!(lease.number, 2);
        assert_eq!(settle(stale, delivered(), NOW).await, None, "it is settled once");
        let failed = Settled::Failed { next_at: NOW + 30, failure: "é".repeat(200) };
        let lease = settle(lease, failed, NOW).await.unwrap();
        assert_eq!((lease.number, lease.failures), (2, 1));
        let record = store.delivery_record(&sink).await.unwrap();
        assert_eq!((record.failures, record.next_at), (1, Some(NOW + 30)));
        assert_eq!(record.failure.unwrap().len(), 200, "cut between characters");
        store.end_delivery_lease(lease).await.unwrap();
        assert_eq!(take("b", NOW + 29).await, None, "it is not due yet");
        let mut lease = take("b", NOW + 30).await.unwrap();
        assert_eq!(lease.failures, 1);
        let given_up = Settled::GivenUp { number: 3, failure: "f".to_owned() };
        lease = settle(lease, given_up, NOW + 31).await.unwrap();
        assert_eq!(lease.number, 3);
        let old = store.old_alerts(scope, lease.number, NOW + 1).await.unwrap();
        assert_eq!(old, Some((5, 2)));
        assert_eq!(store.old_alerts(scope, lease.number, NOW).await.unwrap(), None);
        // The holder has died: after the lease another goes on, and the first, if it lives, does not.
        let next = take("c", NOW + 31 + LEASE_S).await.unwrap();
        let dropped = Settled::Dropped { until: 5, alerts: 2 };
        assert_eq!(settle(lease, dropped.clone(), NOW + 200).await, None);
        settle(next, dropped, NOW + 200).await.unwrap();
        let record = store.delivery_record(&sink).await.unwrap();
        let expected = Record {
            delivered: 1,
            given_up: 1,
            dropped: 2,
            delivered_at: Some(NOW),
            failed_at: Some(NOW + 31),
            failure: Some("f".to_owned()),
            ..Record::default()
        };
        assert_eq!(record, expected);
        assert_eq!(due(&store, NOW + 1000).await, []);
    });
}

#[test]
fn webhooks_are_of_a_catalog_and_so_many_at_most() {
    on_both(async |database| {
        let store = database.open().await;
        let (scope, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        for number in 0..MAX_WEBHOOKS {
            add(&store, scope, &format!("hook-{number}")).await.unwrap();
        }
        assert!(matches!(add(&store, scope, "more").await, Err(StoreError::Full { .. })));
        assert!(matches!(add(&store, scope, "hook-1").await, Err(StoreError::There(_))));
        add(&store, other, "hook-1").await.unwrap();
        assert_eq!(store.webhooks(other).await.unwrap().len(), 1);
        put(database, scope, 1, NOW).await;
        let sinks = store.due_sinks(SinkKind::Webhook, NOW, 100).await.unwrap();
        assert_eq!(sinks.len(), 16);
        assert!(sinks.iter().all(|sink| sink.scope == scope), "another's alerts are not its");
        let test = async |now| {
            store.begin_webhook_test(scope, "hook-1".to_owned(), now, 10).await.unwrap()
        };
        assert_eq!(
            [test(NOW).await, test(NOW + 9).await, test(NOW + 10).await],
            [true, false, true]
        );
        let remove = async || {
            let entry = entry("webhook.remove", 1);
            store
                .change(scope, entry, None, move |connection, scope| {
                    Box::pin(async move {
                        webhook::remove(connection, scope, "hook-1").await?;
                        Ok(Answer { status: 200, body: String::new() })
                    })
                })
                .await
        };
        remove().await.unwrap();
        assert!(matches!(remove().await, Err(StoreError::Missing(_))));
        assert!(store.webhook(scope, "hook-1").await.unwrap().is_none());
        assert!(store.webhook(other, "hook-1").await.unwrap().is_some());
    });
}

#[test]
fn a_sink_of_the_installation_has_a_row_in_each_catalog() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        put(database, scope, 1, NOW).await;
        store.add_installation_sink(SinkKind::Mail).await.unwrap();
        catalog(&store, 2).await;
        store.add_installation_sink(SinkKind::Mail).await.unwrap();
        store.add_installation_sink(SinkKind::Mail).await.unwrap();
        let count = "SELECT count(*) AS n FROM alert_delivery WHERE kind = 'mail'";
        assert_eq!(database.count(count).await, 2);
        let sinks = store.due_sinks(SinkKind::Mail, NOW, 10).await.unwrap();
        assert_eq!(sinks, [Sink { scope, kind: SinkKind::Mail, name: String::new() }]);
        assert_eq!(store.due_sinks(SinkKind::Otlp, NOW, 10).await.unwrap(), []);
    });
}
