//! Threat detection on both databases: what rules look at, who evaluates, what is stored with which alerts, and what is contained.

use crate::databases::{Database, on_both};
use crate::{DEVICE, catalog, check_in, claim, write};
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::samples;
use holdfast_service_domain::detection::alert::DIGEST_S;
use holdfast_service_domain::detection::baseline::Baseline;
use holdfast_service_domain::detection::containment::{Action, Contained};
use holdfast_service_domain::detection::finding::{About, Detection, Evidence, Key, Severity};
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::register::{Change, Closing, State};
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::sightings::Seen;
use holdfast_service_domain::detection::subject::{Network, Part, Subject};
use holdfast_service_domain::detection::watch::Presence;
use holdfast_service_domain::device::Finding;
use holdfast_service_domain::grade::Grade;
use holdfast_service_store::detection::lease::LEASE_S;
use holdfast_service_store::detection::observed::{MOST_NETWORKS, TimeKey};
use holdfast_service_store::detection::threat::{self, OpenThreats, Taken, Wanted};
use holdfast_service_store::detection::{containment, threshold};
use holdfast_service_store::report::ReportKey;
use holdfast_service_store::{Scope, Store, StoreError};
use holdfast_types::Version;
use std::collections::{BTreeMap, BTreeSet};

const NOW: u64 = 1_800_000_000;
const TWO: Version = Version { major: 2, minor: 1, patch: 0 };

fn pump() -> GroupName {
    GroupName { product: "pump".to_owned(), group: "eval".to_owned() }
}

fn valve() -> GroupName {
    GroupName { product: "valve".to_owned(), group: "eval".to_owned() }
}

fn holder(name: &str) -> String {
    name.to_owned()
}

/// What a rule has found of the OS: on these devices, the last of it at `last`.
fn found(rule: Rule, severity: Severity, devices: u8, last: u64) -> Detection {
    let about = About::Subject(Subject { part: Part::Os, version: Some(TWO) });
    let seen: Vec<_> =
        (0..devices).map(|number| (DeviceId([number; 32]), Seen::once(last, 1, 0, 0))).collect();
    let evidence = Evidence::of(seen.iter().map(|(device, seen)| (device, seen)));
    Detection { key: Key { rule, about }, severity, evidence }
}

async fn take(
    store: &Store,
    scope: Scope,
    group: GroupName,
    detections: &[Detection],
    now: u64,
) -> Taken {
    let taken = store.take_detections(scope, holder("one"), group, detections.to_vec(), now);
    taken.await.unwrap()
}

async fn begun(database: &Database) -> (Store, Scope) {
    let store = database.open().await;
    let scope = catalog(&store, 1).await;
    assert!(store.hold_lease(holder("one"), NOW).await.unwrap().is_some());
    (store, scope)
}

async fn alerts(database: &Database) -> i64 {
    database.count("SELECT COUNT(*) AS n FROM alert").await
}

#[test]
fn one_of_two_instances_evaluates_until_its_lease_is_over() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let hold = async |name: &str, at: u64| store.hold_lease(holder(name), at).await.unwrap();
        assert_eq!(hold("two", NOW + LEASE_S - 1).await, None);
        let presence = Presence { away_since: 5, listening_since: 6, evaluated_at: NOW };
        store.evaluated(holder("one"), presence).await.unwrap();
        assert_eq!(hold("one", NOW + 60).await, Some(presence), "renewed by its holder");
        assert_eq!(hold("two", NOW + LEASE_S).await, None, "since then");
        // The holder is gone.
        assert_eq!(hold("two", NOW + 60 + LEASE_S).await, Some(presence));
        let late = store.take_detections(scope, holder("one"), pump(), vec![], NOW).await;
        assert!(matches!(late, Err(StoreError::NotHolder)), "{late:?}");
        let baseline = Baseline::default();
        let late = store.keep_baseline(scope, holder("one"), pump(), &baseline, NOW).await;
        assert!(matches!(late, Err(StoreError::NotHolder)), "{late:?}");
        let late = store.evaluated(holder("one"), presence).await;
        assert!(matches!(late, Err(StoreError::NotHolder)), "{late:?}");
        // Given up, it is there for the next at once; one whose end a wrong clock has set is no hindrance.
        store.end_lease(holder("two")).await.unwrap();
        assert!(hold("one", NOW + 100).await.is_some());
        assert!(hold("two", NOW - 7200).await.is_some());
        store.close().await;
    });
}

#[test]
fn a_finding_is_stored_with_its_alert_once() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let one = [found(Rule::Outbreak, Severity::Now, 3, NOW)];
        assert_eq!(take(&store, scope, pump(), &one, NOW).await.changes, [Change::Opened(1)]);
        assert_eq!(take(&store, scope, pump(), &one, NOW + 60).await.changes, []);
        // As after a start of another instance.
        assert_eq!(take(&store, scope, pump(), &one, NOW + 120).await.changes, []);
        assert_eq!(alerts(database).await, 1);
        // Another group's is another finding, and numbers of a catalog have no gaps.
        let other = take(&store, scope, valve(), &one, NOW + 60).await;
        assert_eq!(other.changes, [Change::Opened(2)]);
        let grown = [found(Rule::Outbreak, Severity::Now, 9, NOW + 60)];
        let taken = take(&store, scope, pump(), &grown, NOW + 180).await;
        assert_eq!(taken.changes, [Change::Grown(1)]);
        assert!(!taken.is_pending, "the first digest comes at once");
        let more = [found(Rule::Outbreak, Severity::Now, 10, NOW + 240)];
        assert!(take(&store, scope, pump(), &more, NOW + 240).await.is_pending);
        assert_eq!(alerts(database).await, 3);
        let owed = take(&store, scope, pump(), &more, NOW + 180 + DIGEST_S).await;
        assert!(!owed.is_pending);
        assert_eq!(alerts(database).await, 4);
        let numbers = "SELECT COUNT(DISTINCT number) AS n FROM alert WHERE number BETWEEN 1 AND 4";
        assert_eq!(database.count(numbers).await, 4);
        let kinds = "SELECT COUNT(*) AS n FROM alert WHERE kind = 'digest' AND severity = 1";
        assert_eq!(database.count(kinds).await, 2);
        let told = "SELECT COUNT(*) AS n FROM alert WHERE kind = 'finding'
            AND body LIKE '%\"rule\":\"outbreak\"%' AND body LIKE '%os 2.1.0%'";
        assert_eq!(database.count(told).await, 2);
        // Another catalog has numbers of its own.
        let other = catalog(&store, 2).await;
        let taken = take(&store, other, pump(), &one, NOW).await;
        assert_eq!(taken.changes, [Change::Opened(1)]);
        let rows = store.threats(scope, &Wanted::default(), 0, 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.finding.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[0].finding.evidence.count, 10);
        let of_valve = Wanted { product: Some("valve".to_owned()), ..Wanted::default() };
        assert_eq!(store.threats(scope, &of_valve, 0, 10).await.unwrap().len(), 1);
        let open = |count| OpenThreats { rule: Rule::Outbreak, severity: Severity::Now, count };
        assert_eq!(store.open_threats(Some(scope)).await.unwrap(), [open(2)]);
        assert_eq!(store.open_threats(None).await.unwrap(), [open(3)]);
        store.close().await;
    });
}

#[test]
fn a_threat_is_closed_with_a_reason_and_goes_on() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let one = [found(Rule::Outbreak, Severity::Now, 3, NOW)];
        take(&store, scope, pump(), &one, NOW).await;
        let close = async |number: u64| {
            let closing = Closing { at: NOW + 100, by: holder("ines"), reason: holder("a drill") };
            let work = store.write(move |connection| {
                Box::pin(async move { threat::close(connection, scope, number, closing).await })
            });
            work.await
        };
        close(1).await.unwrap();
        for number in [1, 2] {
            assert!(matches!(close(number).await, Err(StoreError::Missing(_))), "{number}");
        }
        assert_eq!(store.threats(scope, &Wanted::default(), 0, 10).await.unwrap(), []);
        let all = Wanted { closed: true, ..Wanted::default() };
        let closed = store.threats(scope, &all, 0, 10).await.unwrap().remove(0);
        assert!(
            matches!(closed.finding.state, State::Closed(Closing { at, .. }) if at == NOW + 100)
        );
        assert_eq!(take(&store, scope, pump(), &one, NOW + 160).await.changes, []);
        let goes_on = [found(Rule::Outbreak, Severity::Now, 4, NOW + 150)];
        let taken = take(&store, scope, pump(), &goes_on, NOW + 220).await;
        assert_eq!(taken.changes, [Change::Reopened(1)]);
        assert_eq!(store.open_threats(None).await.unwrap().len(), 1);
        assert_eq!(alerts(database).await, 2);
        store.close().await;
    });
}

/// A person closes findings while rounds take what rules have found: no closing is lost.
#[test]
fn a_closing_and_a_round_at_once_are_both_kept() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let part = |port: u32| {
            let version = Some(Version { patch: port, ..TWO });
            let about = About::Subject(Subject { part: Part::Os, version });
            let mut found = found(Rule::Sandbox, Severity::SomeDay, 1, NOW);
            found.key.about = about;
            found
        };
        let mut all: Vec<Detection> = (0..20).map(part).collect();
        take(&store, scope, pump(), &all, NOW).await;
        let rounds = {
            let store = store.clone();
            tokio::spawn(async move {
                for count in 2..22 {
                    for one in &mut all {
                        one.evidence.count = count;
                    }
                    take(&store, scope, pump(), &all, NOW).await;
                }
            })
        };
        for number in 1..=20 {
            let closing = Closing { at: NOW, by: holder("ines"), reason: holder("a drill") };
            let work = store.write(move |connection| {
                Box::pin(async move { threat::close(connection, scope, number, closing).await })
            });
            work.await.unwrap();
        }
        rounds.await.unwrap();
        assert_eq!(store.threats(scope, &Wanted::default(), 0, 100).await.unwrap(), []);
        store.close().await;
    });
}

#[test]
fn what_a_check_in_is_decided_by_has_what_is_contained_in_its_group() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        claim(&store, scope, DEVICE).await;
        store.enrol(scope, DEVICE, vec![7; 90], Grade::Hardware, NOW).await.unwrap();
        database.execute("UPDATE device SET product = 'pump', grp = 'eval'").await.unwrap();
        let contained = async || {
            let facts = store.facts(scope.catalog(), &DEVICE, None).await.unwrap().unwrap();
            facts.1.unwrap().contained
        };
        let detections = [
            found(Rule::Outbreak, Severity::Now, 3, NOW),
            found(Rule::ExploitThenCall, Severity::Now, 3, NOW),
            found(Rule::Silence, Severity::Now, 3, NOW),
        ];
        take(&store, scope, pump(), &detections, NOW).await;
        let contain = async |number: u64| {
            let work = store.write(move |connection| {
                let who = holder("ole");
                Box::pin(
                    async move { containment::contain(connection, scope, number, who, NOW).await },
                )
            });
            work.await
        };
        let release = async |number: u64| {
            let work = store.write(move |connection| {
                Box::pin(async move { containment::release(connection, scope, number).await })
            });
            work.await
        };
        assert!(contained().await.is_empty());
        assert_eq!(contain(1).await.unwrap().1.len(), 2);
        assert_eq!(contain(1).await.unwrap().1.len(), 2, "the same again");
        assert_eq!(contain(2).await.unwrap().1.len(), 2);
        assert!(matches!(contain(3).await, Err(StoreError::NotContainable)));
        assert!(matches!(contain(4).await, Err(StoreError::Missing("threat"))));
        let halts = |contained: &Contained, finding| {
            contained.of(finding).any(|action| *action == Action::HaltDeployments(Part::Os))
        };
        assert!(halts(&contained().await, 1) && halts(&contained().await, 2));
        assert_eq!(contained().await.findings(), BTreeSet::from([1, 2]));
        let row = store.threat(scope, 1).await.unwrap().unwrap();
        assert_eq!(row.contained, Some((NOW, holder("ole"))));
        // What another group has contained is not this one's.
        assert_eq!(store.contained(scope, &valve()).await.unwrap(), Contained::default());
        assert_eq!(store.all_contained(scope).await.unwrap().len(), 1);
        release(1).await.unwrap();
        let left = contained().await;
        assert!(!halts(&left, 1) && halts(&left, 2), "the other asks for it");
        assert!(matches!(release(1).await, Err(StoreError::Missing(_))));
        release(2).await.unwrap();
        assert!(contained().await.is_empty());
        assert_eq!(store.threat(scope, 1).await.unwrap().unwrap().contained, None);
        assert_eq!(database.count("SELECT COUNT(*) AS n FROM containment").await, 0);
        // What cannot be read contains more than nothing: no certificate is issued by it.
        contain(1).await.unwrap();
        database.execute("UPDATE containment SET contained = '{'").await.unwrap();
        let facts = store.facts(scope.catalog(), &DEVICE, None).await;
        assert!(matches!(facts, Err(StoreError::Damaged("contained"))), "{facts:?}");
        store.close().await;
    });
}

#[test]
fn a_row_that_cannot_be_read_stops_no_other_group() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let one = [found(Rule::Outbreak, Severity::Now, 3, NOW)];
        for group in [pump(), valve()] {
            take(&store, scope, group.clone(), &one, NOW).await;
            let baseline = Baseline::default();
            store.keep_baseline(scope, holder("one"), group, &baseline, NOW).await.unwrap();
        }
        database.execute("UPDATE threat SET finding = '{' WHERE product = 'pump'").await.unwrap();
        let broken = "UPDATE detection_group SET baseline = '[' WHERE product = 'pump'";
        database.execute(broken).await.unwrap();
        let taken = store.take_detections(scope, holder("one"), pump(), one.to_vec(), NOW).await;
        assert!(matches!(taken, Err(StoreError::Damaged("finding"))), "{taken:?}");
        assert_eq!(take(&store, scope, valve(), &one, NOW).await.changes, [], "the control");
        let baselines = store.baselines(scope).await.unwrap();
        let read: Vec<bool> = baselines.iter().map(|(_, baseline)| baseline.is_ok()).collect();
        assert_eq!((baselines.len(), read), (2, vec![false, true]));
        assert_eq!(alerts(database).await, 2);
        store.close().await;
    });
}

#[test]
fn thresholds_are_set_by_group_and_brought_back() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        database
            .execute(format!(
                "INSERT INTO grp (catalog, product, name, least_index, created_at)
                VALUES ('{}', 'pump', 'eval', 0, 1)",
                scope.catalog()
            ))
            .await
            .unwrap();
        let set = async |group: GroupName, name: &str, value: Option<u32>| {
            let changes = BTreeMap::from([(name.to_owned(), value)]);
            let work = store.write(move |connection| {
                Box::pin(async move { threshold::set(connection, scope, group, changes).await })
            });
            work.await
        };
        set(pump(), "outbreak_devices", Some(9)).await.unwrap();
        set(pump(), "outbreak_devices", Some(8)).await.unwrap();
        set(pump(), "flood_mib", Some(20)).await.unwrap();
        set(GroupName::default(), "enrol_failures", Some(5)).await.unwrap();
        let nowhere = set(valve(), "flood_mib", Some(20)).await;
        assert!(matches!(nowhere, Err(StoreError::Missing("group"))), "{nowhere:?}");
        set(pump(), "flood_mib", None).await.unwrap();
        let all = store.thresholds(scope).await.unwrap();
        let of = |group: &GroupName| {
            all[group].iter().map(|(name, value)| (&name[..], *value)).collect::<Vec<_>>()
        };
        assert_eq!(of(&pump()), [("outbreak_devices", 8)]);
        assert_eq!(of(&GroupName::default()), [("enrol_failures", 5)]);
        assert!(store.thresholds(catalog(&store, 2).await).await.unwrap().is_empty());
        store.close().await;
    });
}

#[test]
fn failed_enrolments_are_counted_by_network_and_minute_within_bounds() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let network = |number: u32| {
            let [_, _, a, b] = number.to_be_bytes();
            Network::V4([10, a, b])
        };
        for number in 0..=MOST_NETWORKS {
            store.note_failed_enrolment(scope, network(number), NOW).await.unwrap();
        }
        // There is no room for another network in this minute, and there is in the next.
        for _ in 0..4 {
            store.note_failed_enrolment(scope, network(0), NOW).await.unwrap();
        }
        store.note_failed_enrolment(scope, network(MOST_NETWORKS), NOW + 60).await.unwrap();
        let read = async |after: &TimeKey, until: u64, most| {
            store.failed_enrolments(scope, after, until, most).await.unwrap()
        };
        let none = TimeKey::default();
        assert_eq!(read(&none, NOW / 60, 1000).await.items, [], "the minute is not over");
        let page = read(&none, NOW / 60 + 1, 1000).await;
        assert_eq!((page.items.len(), page.next), (MOST_NETWORKS as usize, None));
        let first = page.items.iter().find(|failed| failed.network == network(0)).unwrap();
        assert_eq!((first.minute, first.times), (NOW / 60, 5));
        // In pages, each once.
        let (mut after, mut seen) = (none, 0);
        loop {
            let page = read(&after, NOW / 60 + 2, 100).await;
            seen += page.items.len();
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(seen, MOST_NETWORKS as usize + 1);
        assert!(store.expire_detection(NOW + 3 * 60 * 60, 200).await.unwrap());
        assert!(!store.expire_detection(NOW + 3 * 60 * 60, 200).await.unwrap());
        assert_eq!(database.count("SELECT COUNT(*) AS n FROM enrolment_failure").await, 0);
        store.close().await;
    });
}

#[test]
fn what_was_stored_is_read_in_pages_without_what_is_damaged() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let ids: Vec<DeviceId> = (1..=5).map(|number| DeviceId([number; 32])).collect();
        for (number, id) in ids.iter().enumerate() {
            claim(&store, scope, *id).await;
            store.enrol(scope, *id, vec![7; 90], Grade::Hardware, NOW).await.unwrap();
            let batch = Batch { epoch: Epoch([7; 8]), records: samples::records(), unknown: 0 };
            let at = NOW + number as u64;
            store.take_reports(scope, *id, batch, BTreeMap::new(), at).await.unwrap();
            store.note_finding(scope, *id, Finding::DebugBuild, at).await.unwrap();
        }
        let broken = format!("UPDATE report SET frames = epoch WHERE device = '{}'", ids[1]);
        let broken = if database.is_sqlite() {
            broken.replace("= epoch", "= x'00ff'")
        } else {
            broken.replace("= epoch", "= decode('00ff', 'hex')")
        };
        database.execute(broken).await.unwrap();
        let (mut after, mut devices, mut damaged) = (ReportKey::default(), Vec::new(), 0);
        loop {
            let page = store.reported_batches(scope, &after, NOW + 3, 2).await.unwrap();
            devices.extend(page.items.iter().map(|batch| batch.device));
            damaged += page.damaged;
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!((devices, damaged), (vec![ids[0], ids[2], ids[3]], 1), "the fifth came later");
        let (mut after, mut found) = (TimeKey { at: NOW, id: String::new() }, Vec::new());
        loop {
            let page = store.findings_noted(scope, &after, NOW + 9, 2).await.unwrap();
            found.extend(page.items.iter().map(|found| found.device));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(found, ids);
        store.close().await;
    });
}

#[test]
fn devices_are_read_by_when_they_were_seen_and_when_they_are_due() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        for id in [DEVICE, DeviceId([1; 32])] {
            claim(&store, scope, id).await;
            store.enrol(scope, id, vec![7; 90], Grade::Hardware, 1500).await.unwrap();
        }
        // Seen at 2000, due at 4000. The other has enrolled, and never checked in.
        write(&store, scope, check_in(1, "full", vec![])).await.unwrap();
        let begin = TimeKey::default();
        let seen = async |until| {
            let page = store.devices_seen(scope, &begin, until, 10).await.unwrap();
            page.items.iter().map(|device| device.device).collect::<Vec<_>>()
        };
        assert_eq!(seen(1999).await, []);
        assert_eq!(seen(2000).await, [DEVICE]);
        let due = async || {
            let page = store.devices_attested(scope, &DeviceId([1; 32]).to_string(), 10).await;
            page.unwrap().items.iter().map(|device| device.due).collect::<Vec<_>>()
        };
        assert_eq!(due().await, [4000]);
        // It has come, and was refused: its time is the old one, and it is not missing.
        let mut refused = check_in(2, "measurement-unknown", vec![]);
        (refused.at, refused.next_at) = (4100, None);
        write(&store, scope, refused).await.unwrap();
        assert_eq!(due().await, [0]);
        let all = store.devices_attested(scope, "", 1).await.unwrap();
        assert_eq!((all.items[0].device, all.items[0].is_enrolled), (DeviceId([1; 32]), true));
        let next = store.devices_attested(scope, &all.next.unwrap(), 10).await.unwrap();
        assert_eq!((next.items.len(), next.next), (1, None));
        store.close().await;
    });
}
