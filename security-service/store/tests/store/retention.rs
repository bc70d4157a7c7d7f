//! Retention of everything that grows: each kind of row goes after its time, and none before.

use crate::databases::{Database, on_both};
use holdfast_service_domain::session::{Client, Times};
use holdfast_service_store::Store;

const DAY_S: u64 = 24 * 60 * 60;
const NOW: u64 = 2_000_000_000;

/// A kind of row: its table, the columns that it has besides the time, their values, the column of the time, the unit of that in
/// seconds, and for how many seconds it is kept.
type Kind = (&'static str, &'static str, &'static str, &'static str, u64, u64);

const KINDS: [Kind; 13] = [
    (
        "idempotency",
        "catalog, name, digest, status, answer",
        "'c', '#', x'00', 200, ''",
        "at",
        1,
        DAY_S,
    ),
    (
        "enrolment",
        "catalog, number, device, evidence_key, secret, grade",
        "'c', '#', 'd', x'00', x'00', 'hardware'",
        "ends_at",
        1,
        0,
    ),
    ("ticket", "hash", "'#'", "ends_at", 1, 0),
    (
        "token",
        "catalog, hash, name, role, created_at",
        "'c', '#', 'n', 'owner', 1",
        "ends_at",
        1,
        30 * DAY_S,
    ),
    (
        "finding",
        "catalog, device, kind, opened_at, last_at, times",
        "'c', '#', 'debug-build', 1, 1, 1",
        "closed_at",
        1,
        396 * DAY_S,
    ),
    (
        "report",
        "catalog, device, epoch, last_sequence, frames",
        "'c', '#', 'e', 1, x'00'",
        "received_at",
        1,
        14 * DAY_S,
    ),
    (
        "counter",
        "catalog, product, grp, component, version, kind, amount",
        "'c', 'p', 'g', '#', '1.0.0', 'k', 1",
        "hour",
        1,
        396 * DAY_S,
    ),
    (
        "exposure",
        "catalog, product, component, version, devices",
        "'c', 'p', '#', '1.0.0', 1",
        "day",
        DAY_S,
        396 * DAY_S,
    ),
    (
        "crash_group",
        "catalog, id, product, algorithm, component, name, failure, first_version, last_version, \
         first_at, events, devices, closed_at",
        "'c', '#', 'p', 1, 'k', 'n', 'f', '1.0.0', '1.0.0', 1, 1, 1, 0",
        "last_at",
        1,
        396 * DAY_S,
    ),
    (
        "crash_version",
        "catalog, crash, version, first_at, events, devices",
        "'c', '#', '1.0.0', 1, 1, 1",
        "last_at",
        1,
        396 * DAY_S,
    ),
    (
        "crash_device",
        "catalog, crash, device, version, first_at, events",
        "'c', '#', 'd', '1.0.0', 1, 1",
        "last_at",
        1,
        396 * DAY_S,
    ),
    ("enrolment_failure", "catalog, network, failures", "'c', '#', 1", "minute", 60, 2 * 60 * 60),
    (
        "alert",
        "catalog, number, product, grp, severity, kind, body",
        "'c', #, 'p', 'g', 1, 'k', 'b'",
        "at",
        1,
        30 * DAY_S,
    ),
];

async fn put(database: &Database, kind: &Kind, name: &str, at: u64) {
    let (table, columns, values, time, unit, _) = kind;
    let mut values = values.replace('#', name);
    if !database.is_sqlite() {
        values = values.replace("x'00'", "'\\x00'");
    }
    let insert =
        format!("INSERT INTO {table} ({columns}, {time}) VALUES ({values}, {})", at / unit);
    database.execute(insert).await.unwrap_or_else(|error| panic!("{table}: {error}"));
}

async fn expire(store: &Store) {
    while store.expire_reports(NOW, 2).await.unwrap()
        | store.expire_detection(NOW, 2).await.unwrap()
        | store.expire_ended(NOW, 2).await.unwrap()
    {}
}

#[test]
fn everything_that_grows_goes_after_its_time_and_not_before() {
    on_both(async |database| {
        let store = database.open().await;
        for kind in &KINDS {
            let (.., kept_s) = kind;
            let old = NOW - kept_s - 2 * DAY_S;
            // More than goes at once.
            for number in 1..=5 {
                put(database, kind, &number.to_string(), old).await;
            }
            // One of the last minute of its time, or one that has not ended.
            put(database, kind, "9", NOW - kept_s.saturating_sub(DAY_S) + 60).await;
        }
        expire(&store).await;
        for (table, ..) in KINDS {
            let query = format!("SELECT COUNT(*) AS n FROM {table}");
            assert_eq!(database.count(query).await, 1, "{table}");
        }
        store.close().await;
    });
}

#[test]
fn a_session_that_is_over_goes_and_one_that_lasts_stays() {
    on_both(async |database| {
        let store = database.open().await;
        for (index, client) in Client::ALL.into_iter().enumerate() {
            let (idle, whole) = (client.idle_s(), client.absolute_s());
            for (name, began, used, is_over) in [
                ("new", 1, 1, false),
                ("nearly idle", idle - 1, idle - 1, false),
                ("idle", idle + 1, idle + 1, true),
                ("nearly old", whole - 1, 1, false),
                ("old", whole + 1, 1, true),
            ] {
                let ends = Times { began_at: NOW - began, used_at: NOW - used };
                assert_eq!(ends.is_live(client, NOW), !is_over, "{name}");
                let insert = format!(
                    "INSERT INTO session (hash, person, client, claimed_groups, began_at, used_at)
                    VALUES ('{index} {name}', 'p', '{}', '[]', {}, {})",
                    client.word(),
                    ends.began_at,
                    ends.used_at
                );
                database.execute(insert).await.unwrap();
            }
        }
        expire(&store).await;
        for index in 0..Client::ALL.len() {
            for (name, rows) in
                [("new", 1), ("nearly idle", 1), ("idle", 0), ("nearly old", 1), ("old", 0)]
            {
                let query =
                    format!("SELECT COUNT(*) AS n FROM session WHERE hash = '{index} {name}'");
                assert_eq!(database.count(query).await, rows, "{index} {name}");
            }
        }
        store.close().await;
    });
}

#[test]
fn the_audit_log_and_what_is_open_stay_for_ever() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = crate::catalog(&store, 1).await;
        let open = "INSERT INTO finding
            (catalog, device, kind, opened_at, last_at, times, closed_at)
            VALUES ('c', 'd', 'debug-build', 1, 1, 1, 0)";
        database.execute(open).await.unwrap();
        expire(&store).await;
        assert_eq!(database.count("SELECT COUNT(*) AS n FROM finding").await, 1);
        // Its row is of second 1000 of 1970.
        assert_eq!(store.verify_audit(scope).await.unwrap(), Ok(1));
        store.close().await;
    });
}
