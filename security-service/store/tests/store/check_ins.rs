//! Check-ins that are committed together: each is answered as if it were alone.

use crate::databases::on_both;
use crate::{BOOT, DEVICE, catalog, check_in, claim};
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_evidence::policy::PcrDigest;
use holdfast_service_domain::check_in::CheckInWrite;
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::receipt::Receipts;
use holdfast_service_store::catalog::{put_group, put_product};
use holdfast_service_store::{Scope, Store, StoreError, catalog::Group, device, release};
use holdfast_types::Version;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(30);

/// A check-in of which every value is the device's own.
fn own(number: u8, revision: u64) -> (CheckInWrite, Vec<u8>) {
    let value = u64::from(number);
    let mut write = check_in(revision, "full", vec![]);
    write.receipts = Receipts { newest: 100 + value, returned: 50 + value };
    write.certificate_end = Some(5000 + value);
    write.next_at = (!number.is_multiple_of(3)).then_some(4000 + value);
    write.at = 2000 + value;
    (write, format!("{{\"of\":{number}}}").into_bytes())
}

async fn write_own(
    store: &Store,
    scope: Scope,
    number: u8,
    revision: u64,
) -> Result<(), StoreError> {
    let (write, claims) = own(number, revision);
    store.check_in(scope, DeviceId([number; 32]), write, PcrDigest([8; 32]), claims).await
}

#[test]
fn each_of_the_check_ins_that_are_committed_together_is_written_as_its_own() {
    on_both(async |database| {
        let store = database.open().await;
        let (scope, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        for number in 0..=200u8 {
            claim(&store, scope, DeviceId([number; 32])).await;
        }
        // Of one id in two catalogs there are two devices.
        claim(&store, other, DeviceId([0; 32])).await;
        let mut jobs = Vec::new();
        for number in 0..=200u8 {
            // Each fifth was decided on another row.
            let revision = if number % 5 == 4 { 7 } else { 0 };
            let store = store.clone();
            jobs.push(tokio::spawn(
                async move { write_own(&store, scope, number, revision).await },
            ));
        }
        for (number, job) in (0..=200u8).zip(jobs) {
            match job.await.unwrap() {
                Ok(()) => assert_ne!(number % 5, 4, "{number}"),
                Err(StoreError::Overtaken) => assert_eq!(number % 5, 4, "{number}"),
                Err(error) => panic!("{number}: {error:?}"),
            }
        }
        for number in 0..=200u8 {
            let (id, value) = (DeviceId([number; 32]), u64::from(number));
            let shown = store.device(scope, &id).await.unwrap().unwrap();
            if number % 5 == 4 {
                assert_eq!((shown.device.revision, shown.seen_at), (0, None), "{number}");
                continue;
            }
            let receipts = Receipts { newest: 100 + value, returned: 50 + value };
            assert_eq!((shown.device.revision, shown.device.receipts), (1, receipts), "{number}");
            assert_eq!(shown.certificate_end, Some(5000 + value));
            assert_eq!(shown.next_at, (!number.is_multiple_of(3)).then_some(4000 + value));
            assert_eq!(shown.seen_at, Some(2000 + value));
        }
        let untouched = store.device(other, &DeviceId([0; 32])).await.unwrap().unwrap();
        assert_eq!(untouched.device.revision, 0);
        let claims = "SELECT COUNT(*) AS n FROM device WHERE claims IS NOT NULL";
        assert_eq!(database.count(claims).await, 161);
        store.close().await;
    });
}

/// A database that refuses the row of device 39.
const REFUSING_SQLITE: &str = "CREATE TRIGGER refused BEFORE UPDATE ON device
    WHEN NEW.receipt_newest = 139 BEGIN SELECT RAISE(ABORT, 'refused'); END";
const REFUSING_POSTGRES: &str = "CREATE FUNCTION refused() RETURNS trigger AS $$
        BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql;
    CREATE TRIGGER refused BEFORE UPDATE ON device FOR EACH ROW
    WHEN (NEW.receipt_newest = 139) EXECUTE FUNCTION refused()";

/// Several statements write what is committed together; where the last one fails, those before it are undone before each check-in is
/// written alone, or each would find its own row and be told that it was overtaken.
#[test]
fn a_check_in_that_the_database_refuses_undoes_nobody_else_s() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for number in 0..40u8 {
            claim(&store, scope, DeviceId([number; 32])).await;
        }
        let refusing = if database.is_sqlite() { REFUSING_SQLITE } else { REFUSING_POSTGRES };
        database.execute(refusing).await.unwrap();
        let mut jobs = Vec::new();
        for number in 0..40u8 {
            let store = store.clone();
            jobs.push(tokio::spawn(async move { write_own(&store, scope, number, 0).await }));
        }
        for (number, job) in (0..40u8).zip(jobs) {
            let done = timeout(DEADLINE, job).await.unwrap().unwrap();
            match number {
                39 => assert!(matches!(done, Err(StoreError::Statement(_))), "{done:?}"),
                _ => assert!(done.is_ok(), "{number}: {done:?}"),
            }
        }
        let written = "SELECT COUNT(*) AS n FROM device WHERE revision = 1";
        assert_eq!(database.count(written).await, 39);
        store.close().await;
    });
}

/// Whoever holds a device's row holds up that device's check-in, and on PostgreSQL nobody else's.
#[test]
fn a_row_that_is_held_holds_up_no_other_device_s_check_in() {
    on_both(async |database| {
        if database.is_sqlite() {
            return;
        }
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for number in 0..8u8 {
            claim(&store, scope, DeviceId([number; 32])).await;
        }
        let (free, is_free) = oneshot::channel::<()>();
        let (held, is_held) = oneshot::channel::<()>();
        let holder = store.clone();
        let holding = tokio::spawn(async move {
            let work = holder.write(move |connection| {
                Box::pin(async move {
                    let id = DeviceId([0; 32]);
                    device::set_quarantine(connection, scope, &id, true).await?;
                    held.send(()).unwrap();
                    is_free.await.unwrap();
                    Ok(())
                })
            });
            work.await
        });
        timeout(DEADLINE, is_held).await.unwrap().unwrap();
        let mut jobs = (0..8u8).map(|number| {
            let store = store.clone();
            tokio::spawn(async move { write_own(&store, scope, number, 0).await })
        });
        let blocked = jobs.next().unwrap();
        for job in jobs.collect::<Vec<_>>() {
            timeout(DEADLINE, job).await.unwrap().unwrap().unwrap();
        }
        assert!(!blocked.is_finished(), "the control: its row is held");
        free.send(()).unwrap();
        timeout(DEADLINE, holding).await.unwrap().unwrap().unwrap();
        let late = timeout(DEADLINE, blocked).await.unwrap().unwrap();
        assert!(matches!(late, Err(StoreError::Overtaken)), "{late:?}");
        store.close().await;
    });
}

#[test]
fn a_check_in_is_decided_by_what_the_rows_say_at_one_moment() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let version = Version { major: 1, minor: 4, patch: 0 };
        let known = Release { boot: BOOT, version, index: 7, withdrawn: false };
        let pcr = known.pcr();
        let unknown = store.facts(CatalogId([9; 16]), &DEVICE, Some(&pcr)).await.unwrap();
        assert_eq!(unknown, None);
        let unclaimed = store.facts(scope.catalog(), &DEVICE, Some(&pcr)).await.unwrap();
        assert_eq!(unclaimed, Some((scope, None)));
        claim(&store, scope, DEVICE).await;
        let facts = async |expected: Option<PcrDigest>| {
            let facts = store.facts(scope.catalog(), &DEVICE, expected.as_ref()).await.unwrap();
            facts.unwrap().1.unwrap()
        };
        let without = facts(Some(pcr)).await;
        let shown = store.device(scope, &DEVICE).await.unwrap().unwrap();
        assert_eq!((&without.device, without.expected), (&shown.device, None));
        assert_eq!(without.rules.grades, Grades::OF_NEW_CATALOGS);
        let grades = Grades::of(&[Grade::Emulated]);
        let work = store.write(move |connection| {
            Box::pin(async move {
                release::add(connection, scope, known, 1000).await?;
                put_product(connection, scope, "pump".to_owned(), 1000).await?;
                let (product, name) = ("pump".to_owned(), "test".to_owned());
                let of = Group {
                    product,
                    name,
                    least_index: 9,
                    grades: Some(grades),
                    reports: None,
                    is_production: None,
                    is_update_on: None,
                    feed: None,
                    revision: 0,
                };
                put_group(connection, scope, of, 1000).await?;
                let (product, name) = ("pump".to_owned(), "test".to_owned());
                device::move_to(connection, scope, &DEVICE, product, name).await
            })
        });
        work.await.unwrap();
        let with = facts(Some(pcr)).await;
        assert_eq!(with.expected, Some(known));
        assert_eq!((with.rules.least_index, with.rules.grades), (9, grades));
        let id = DEVICE.to_string();
        assert_eq!(with.rules, store.rules(scope, &id).await.unwrap(), "the same as elsewhere");
        assert_eq!(facts(Some(PcrDigest([1; 32]))).await.expected, None);
        assert_eq!(facts(None).await.expected, None);
        store.close().await;
    });
}
