//! What is left of a device that its owner has given up, on both databases.

use crate::databases::{Database, on_both};
use crate::{DEVICE, catalog, check_in, claim, entry, write};
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::samples;
use holdfast_service_domain::device::{Finding, State};
use holdfast_service_domain::grade::Grade;
use holdfast_service_store::change::Answer;
use holdfast_service_store::enrolment::Enrolment;
use holdfast_service_store::report::Outcome;
use holdfast_service_store::{Scope, Store, StoreError, retirement};
use std::collections::BTreeMap;

const NOW: u64 = 1_790_001_000;
const OTHER: DeviceId = DeviceId([0xee; 32]);

/// Rows of every table that has some of a device, while it is enrolled.
const ROWS: [(&str, &str); 6] = [
    ("enrolment", "SELECT COUNT(*) AS n FROM enrolment"),
    ("evidence", "SELECT COUNT(*) AS n FROM evidence"),
    ("finding", "SELECT COUNT(*) AS n FROM finding"),
    ("report_source", "SELECT COUNT(*) AS n FROM report_source"),
    ("report", "SELECT COUNT(*) AS n FROM report"),
    ("crash_device", "SELECT COUNT(*) AS n FROM crash_device"),
];

async fn known(store: &Store, scope: Scope, device: DeviceId) {
    claim(store, scope, device).await;
    store.enrol(scope, device, vec![7; 90], Grade::Hardware, NOW).await.unwrap();
    let enrolment = Enrolment {
        device,
        key: vec![7; 90],
        secret: vec![9; 32],
        grade: Grade::Hardware,
        ends_at: NOW + 60,
    };
    store.begin_enrolment(scope, &device.0, enrolment, NOW).await.unwrap();
    assert!(matches!(take(store, scope, device, 7).await, Outcome::Stored { .. }));
}

async fn take(store: &Store, scope: Scope, device: DeviceId, epoch: u8) -> Outcome {
    let batch = Batch { epoch: Epoch([epoch; 8]), records: samples::records(), unknown: 0 };
    store.take_reports(scope, device, batch, BTreeMap::new(), NOW).await.unwrap()
}

async fn retire(store: &Store, scope: Scope, device: DeviceId) -> Result<Answer, StoreError> {
    store
        .change(scope, entry("device.retire", 1), None, move |connection, scope| {
            Box::pin(async move {
                retirement::retire(connection, scope, &device).await?;
                Ok(Answer { status: 200, body: "{}".to_owned() })
            })
        })
        .await
}

async fn rows(database: &Database) -> Vec<(&'static str, i64)> {
    let mut counts = Vec::new();
    for (table, query) in ROWS {
        counts.push((table, database.count(query).await));
    }
    counts
}

#[test]
fn what_the_service_kept_of_a_retired_device_is_erased() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        known(&store, scope, OTHER).await;
        let without = rows(database).await;
        known(&store, scope, DEVICE).await;
        write(&store, scope, check_in(1, "refused", vec![Finding::KeyChanged])).await.unwrap();
        for ((table, before), (_, after)) in without.iter().zip(rows(database).await) {
            let least = if matches!(*table, "evidence" | "finding") { 0 } else { *before };
            assert!(after > least, "{table}: there is something to erase");
        }
        retire(&store, scope, DEVICE).await.unwrap();
        let left = rows(database).await;
        assert_eq!(left, without, "the other device's rows, which are the control, and no more");
        let shown = store.device(scope, &DEVICE).await.unwrap().unwrap();
        assert_eq!((shown.device.state, shown.device.key), (State::Retired, None));
        let of_owner = (shown.group, shown.board, shown.serial, shown.device.claimed_grade);
        assert_eq!(of_owner, (None, None, None, None));
        let measured = (shown.verdict, shown.version, shown.index, shown.phase, shown.seen_at);
        assert_eq!(measured, (None, None, None, None, None));
        assert_eq!(take(&store, scope, DEVICE, 8).await, Outcome::Retired);
        assert_eq!(rows(database).await, without);
        store.verify_audit(scope).await.unwrap().unwrap();
        store.close().await;
    });
}

/// Whichever comes first, nothing of the device is left.
#[test]
fn reports_that_come_as_their_device_is_retired_leave_nothing() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for number in 0..12 {
            let device = DeviceId([number; 32]);
            known(&store, scope, device).await;
            let reporting: Vec<_> = (8..12)
                .map(|epoch| {
                    let store = store.clone();
                    tokio::spawn(async move { take(&store, scope, device, epoch).await })
                })
                .collect();
            retire(&store, scope, device).await.unwrap();
            for report in reporting {
                let outcome = report.await.unwrap();
                assert!(
                    matches!(outcome, Outcome::Stored { .. } | Outcome::Retired),
                    "{outcome:?}"
                );
            }
            assert!(rows(database).await.iter().all(|(_, rows)| *rows == 0), "device {number}");
        }
        store.close().await;
    });
}
