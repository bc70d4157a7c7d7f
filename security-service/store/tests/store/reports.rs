//! Reports and crash groups on both databases.

use crate::databases::{Database, on_both};
use crate::{DEVICE, catalog, check_in, claim, write};
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::record::{Body, Boot, Component, Ended, Place, Record};
use holdfast_failure_reports::samples;
use holdfast_service_domain::crash::{Address, Standing, standing};
use holdfast_service_domain::device::Finding;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::report_batch::KEPT_S;
use holdfast_service_store::catalog::Group;
use holdfast_service_store::crash::{self, CrashRow};
use holdfast_service_store::device::{self, FindingKey};
use holdfast_service_store::report::{MOST_BATCHES, MOST_EPOCHS, Outcome, ReportKey, Reported};
use holdfast_service_store::scope::Sight;
use holdfast_service_store::{Scope, Store};
use holdfast_types::Version;
use std::collections::BTreeMap;

const NOW: u64 = 1_790_001_000;
const DAY_S: u64 = 24 * 60 * 60;

async fn enrolled(store: &Store, scope: Scope, device: DeviceId) {
    claim(store, scope, device).await;
    store.enrol(scope, device, vec![7; 90], Grade::Hardware, NOW).await.unwrap();
}

async fn begun(database: &Database) -> (Store, Scope) {
    let store = database.open().await;
    let scope = catalog(&store, 1).await;
    enrolled(&store, scope, DEVICE).await;
    (store, scope)
}

fn batch(epoch: u8, records: &[Record]) -> Batch {
    Batch { epoch: Epoch([epoch; 8]), records: records.to_vec(), unknown: 1 }
}

async fn take_at(store: &Store, scope: Scope, id: DeviceId, batch: Batch, now: u64) -> Outcome {
    store.take_reports(scope, id, batch, BTreeMap::new(), now).await.unwrap()
}

async fn take(store: &Store, scope: Scope, batch: Batch) -> Outcome {
    take_at(store, scope, DEVICE, batch, NOW).await
}

async fn kept(store: &Store, scope: Scope) -> Vec<Reported> {
    store.reports(scope, &Sight::All, &ReportKey::default(), 10_000, NOW).await.unwrap()
}

async fn groups(store: &Store, scope: Scope) -> Vec<CrashRow> {
    store.crashes(scope, true, "", 10_000).await.unwrap()
}

fn ended(sequence: u64, version: Version) -> Record {
    let Component::App(app) = samples::app() else { unreachable!() };
    let component = Component::App(holdfast_failure_reports::record::App { version, ..app });
    let body = Body::Ended(Ended { component, ..samples::ended() });
    Record { sequence, body, ..samples::records()[1].clone() }
}

fn version(minor: u32) -> Version {
    Version { major: 2, minor, patch: 0 }
}

/// Sets the level of the group `old`, and commits that after a while.
async fn set_level(store: &Store, scope: Scope, level: Level, after_ms: u64) {
    let group = Group {
        product: "pump".to_owned(),
        name: "old".to_owned(),
        least_index: 3,
        grades: None,
        reports: Some(level),
        is_production: None,
        is_update_on: None,
        feed: None,
        revision: 0,
    };
    let set = store.write(move |connection| {
        Box::pin(async move {
            catalog::put_group(connection, scope, group, 2).await?;
            tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
            Ok(())
        })
    });
    set.await.unwrap();
}

/// Of many who send the same batch at once, each record is counted once.
#[test]
fn a_batch_that_is_sent_many_times_at_once_is_stored_once() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let mut senders = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            senders.spawn(async move { take(&store, scope, batch(7, &samples::records())).await });
        }
        let mut new = Vec::new();
        while let Some(sent) = senders.join_next().await {
            let Outcome::Stored { stored, records, left_out } = sent.unwrap() else { panic!() };
            assert_eq!((stored, left_out), (10, 0));
            new.push(records);
        }
        new.sort_unstable();
        assert_eq!(new, [0, 0, 0, 0, 0, 0, 0, 7]);
        let camera = groups(&store, scope).await;
        let camera = camera.iter().find(|group| group.name == "camera").unwrap();
        assert_eq!((camera.state.events, camera.state.devices), (3, 1));
        let counted =
            "SELECT CAST(SUM(amount) AS BIGINT) AS n FROM counter WHERE kind = 'ended-signal'";
        assert_eq!(database.count(counted).await, 3);
        let unknown = "SELECT unknown_frames AS n FROM report_source";
        assert_eq!(database.count(unknown).await, 1, "noted once");
        store.close().await;
    });
}

/// Devices of a product that begin the same group at once are all in it.
#[test]
fn devices_that_fail_at_once_are_in_one_group() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let mut senders = tokio::task::JoinSet::new();
        for number in 0..8 {
            let store = store.clone();
            senders.spawn(async move {
                let id = DeviceId([number; 32]);
                enrolled(&store, scope, id).await;
                take_at(&store, scope, id, batch(7, &[ended(1, version(1))]), NOW).await
            });
        }
        while let Some(sent) = senders.join_next().await {
            let expected = Outcome::Stored { stored: 1, records: 1, left_out: 0 };
            assert_eq!(sent.unwrap(), expected);
        }
        let all = groups(&store, scope).await;
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].state.events, all[0].state.devices), (24, 8));
        let (_, versions) = store.crash(scope, all[0].id).await.unwrap().unwrap();
        assert_eq!(versions.iter().map(|seen| seen.devices).sum::<u64>(), 8);
        store.close().await;
    });
}

#[test]
fn names_of_functions_make_one_group_of_two_builds() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let crash = |sequence, offset| {
            let mut record = ended(sequence, version(1));
            let Body::Ended(ended) = &mut record.body else { unreachable!() };
            ended.panic = None;
            ended.crash.as_mut().unwrap().pc.offset = offset;
            record
        };
        let records = [crash(1, 0x100), crash(2, 0x200)];
        let nameless = batch(7, &records);
        let addresses = holdfast_service_domain::report_batch::addresses(&nameless);
        let name = |address: &Address| match address {
            Address::Instruction(_) => "pump::run".to_owned(),
            Address::Return(_) => "pump::main".to_owned(),
        };
        let names = addresses.iter().map(|address| (*address, name(address))).collect();
        take(&store, scope, nameless).await;
        assert_eq!(groups(&store, scope).await.len(), 2);
        store.take_reports(scope, DEVICE, batch(8, &records), names, NOW).await.unwrap();
        let all = groups(&store, scope).await;
        assert_eq!(all.len(), 3, "those without names stay");
        let named = all.iter().find(|group| group.place.as_deref() == Some("pump::run")).unwrap();
        assert_eq!(named.called_from.as_deref(), Some("pump::main"));
        assert_eq!((named.state.events, named.state.devices), (6, 1));
        store.close().await;
    });
}

#[test]
fn another_catalogs_reports_and_groups_are_not_seen() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let other = catalog(&store, 2).await;
        take(&store, scope, batch(7, &samples::records())).await;
        assert_eq!(take(&store, other, batch(7, &samples::records())).await, Outcome::Unknown);
        assert_eq!((kept(&store, other).await, groups(&store, other).await), (vec![], vec![]));
        enrolled(&store, other, DEVICE).await;
        take(&store, other, batch(7, &[ended(1, version(1))])).await;
        let own = groups(&store, other).await;
        assert_eq!((own.len(), own[0].state.devices), (1, 1));
        let id = own[0].id;
        let close = store.write(move |connection| {
            Box::pin(async move { crash::close(connection, other, id, NOW).await })
        });
        close.await.unwrap();
        let same = store.crash(scope, id).await.unwrap().unwrap().0;
        assert_eq!((same.closed_at, same.state.events), (None, 3), "of the first catalog");
        store.close().await;
    });
}

#[test]
fn what_a_device_can_keep_of_reports_is_bounded() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let mut sequence = 0;
        for number in 0..MOST_BATCHES + 5 {
            sequence += 1;
            let record = ended(sequence, version(1));
            take_at(&store, scope, DEVICE, batch(7, &[record]), NOW + number / 4).await;
        }
        let rows = kept(&store, scope).await;
        assert_eq!(rows.len() as u64, MOST_BATCHES);
        assert_eq!(rows.first().unwrap().key.sequence, 6, "the oldest go");
        for epoch in 10..30 {
            let now = NOW + u64::from(epoch);
            take_at(&store, scope, DEVICE, batch(epoch, &[ended(1, version(1))]), now).await;
        }
        // Neither do batches of nothing, all at once, leave more.
        for epoch in 100..120 {
            take_at(&store, scope, DEVICE, batch(epoch, &[]), NOW + 10).await;
        }
        let epochs = "SELECT COUNT(*) AS n FROM report_source";
        assert_eq!(u64::try_from(database.count(epochs).await), Ok(MOST_EPOCHS));
        // The newest are known still.
        let again = batch(29, &[ended(1, version(1))]);
        let expected = Outcome::Stored { stored: 1, records: 0, left_out: 0 };
        assert_eq!(take(&store, scope, again).await, expected);
        store.close().await;
    });
}

/// A device that makes failures up displaces its own, and not what others have had.
#[test]
fn groups_of_several_devices_are_not_displaced_by_one_that_makes_some_up() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let second = DeviceId([0x22; 32]);
        enrolled(&store, scope, second).await;
        for id in [DEVICE, second] {
            take_at(&store, scope, id, batch(7, &[ended(1, version(1))]), NOW).await;
        }
        let real = groups(&store, scope).await[0].id;
        // As many as there may be, and each newer than the real one.
        let fill = "INSERT INTO crash_group (catalog, id, product, algorithm, component, name, failure,
                first_version, last_version, first_at, last_at, events, devices, closed_at)
            WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 4095)
            SELECT '01010101-0101-0101-0101-010101010101', 'made-up-' || n, '', 1, 'os', 'os', 'x',
                '1.0.0', '1.0.0', 1790001001, 1790001001, 1, 1, 0 FROM numbers";
        database.execute(fill).await.unwrap();
        let Body::Boot(boot) = samples::records()[0].body.clone() else { unreachable!() };
        let failures = (1..=100u32).map(|offset| {
            let fault = Some(Place { build_id: None, offset });
            let body = Body::Boot(Boot { fault, ..boot.clone() });
            Record { sequence: u64::from(offset), body, ..samples::records()[0].clone() }
        });
        let failures: Vec<Record> = failures.collect();
        let taken = take(&store, scope, batch(8, &failures)).await;
        let Outcome::Stored { stored, records, left_out } = taken else { panic!("{taken:?}") };
        assert_eq!((stored, records, left_out), (100, 100, 100 - 64));
        let groups = "SELECT COUNT(*) AS n FROM crash_group";
        assert_eq!(database.count(groups).await, 4096);
        assert!(store.crash(scope, real).await.unwrap().is_some());
        // Where all groups are of several devices, there is room for none.
        database.execute("UPDATE crash_group SET devices = 2").await.unwrap();
        let next = Record { sequence: 101, ..ended(101, version(9)) };
        let mut next = next;
        let Body::Ended(ended) = &mut next.body else { unreachable!() };
        ended.panic = None;
        let expected = Outcome::Stored { stored: 101, records: 1, left_out: 1 };
        assert_eq!(take(&store, scope, batch(8, &[next])).await, expected);
        store.close().await;
    });
}

#[test]
fn what_is_old_is_removed() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        take(&store, scope, batch(7, &samples::records())).await;
        assert!(!store.expire_reports(NOW + KEPT_S, 100).await.unwrap());
        assert_eq!(kept(&store, scope).await.len(), 7);
        assert!(!store.expire_reports(NOW + KEPT_S + 1, 100).await.unwrap());
        assert_eq!(kept(&store, scope).await, []);
        assert_eq!(groups(&store, scope).await.len(), 3, "they are kept for longer");
        assert!(
            store.expire_reports(NOW + crash::KEPT_S + DAY_S, 2).await.unwrap(),
            "there is more"
        );
        while store.expire_reports(NOW + crash::KEPT_S + DAY_S, 2).await.unwrap() {}
        assert_eq!(groups(&store, scope).await, []);
        for left in [
            "SELECT COUNT(*) AS n FROM counter",
            "SELECT COUNT(*) AS n FROM crash_device",
            "SELECT COUNT(*) AS n FROM crash_version",
        ] {
            assert_eq!(database.count(left).await, 0, "{left}");
        }
        // What was stored is not taken again: that is known by number.
        let expected = Outcome::Stored { stored: 10, records: 0, left_out: 0 };
        assert_eq!(take(&store, scope, batch(7, &samples::records())).await, expected);
        store.close().await;
    });
}

/// A group is gone once a later version has run without it, and what it has per device-day is counted from attested versions.
#[test]
fn a_group_that_later_versions_do_not_show_is_gone_and_comes_back() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let record = |sequence, version: Version| {
            let Body::Boot(boot) = samples::records()[0].body.clone() else { unreachable!() };
            let body = Body::Boot(Boot { version, fault: None, ..boot });
            // Without an address, each version is a group: a build id makes them one.
            let place = Place {
                build_id: Some(holdfast_failure_reports::record::BuildId([1; 20])),
                offset: 4,
            };
            let Body::Boot(boot) = body else { unreachable!() };
            Record {
                sequence,
                body: Body::Boot(Boot { fault: Some(place), ..boot }),
                ..samples::records()[0].clone()
            }
        };
        let run = async |revision, minor, day| {
            let release =
                Release { version: version(minor), index: 1, withdrawn: false, boot: crate::BOOT };
            let mut row = check_in(revision, "full", vec![]);
            row.release = Some(release);
            row.at = NOW + day * DAY_S;
            write(&store, scope, row).await.unwrap();
            store.count_exposure(scope, NOW + day * DAY_S).await.unwrap();
            // A second count of the day changes nothing.
            store.count_exposure(scope, NOW + day * DAY_S).await.unwrap();
        };
        let revision =
            async || store.device(scope, &DEVICE).await.unwrap().unwrap().device.revision;
        for day in 0..3 {
            run(revision().await, 1, day).await;
        }
        take(&store, scope, batch(7, &[record(1, version(1))])).await;
        let id = groups(&store, scope).await[0].id;
        let stands = async |day| {
            let (row, _) = store.crash(scope, id).await.unwrap().unwrap();
            let all = store.exposures(scope).await.unwrap();
            let of = (String::new(), "os".to_owned());
            standing(&row.state, &all[&of], NOW + day * DAY_S)
        };
        assert_eq!(stands(3).await, Standing::New);
        let mut day = 3;
        while stands(day).await != Standing::Gone {
            run(revision().await, 2, day).await;
            day += 1;
            assert!(day < 100, "it is never gone");
        }
        assert_eq!(day, 33, "thirty days of the later version");
        take_at(&store, scope, DEVICE, batch(7, &[record(2, version(2))]), NOW + day * DAY_S).await;
        assert_eq!(stands(day).await, Standing::Regressed);
        store.close().await;
    });
}

/// What the program of the version before writes is right in the tables of this one.
#[test]
fn what_the_release_before_writes_is_right_in_the_new_tables() {
    on_both(async |database| {
        let (store, scope) = begun(database).await;
        let old = "INSERT INTO product (catalog, name, created_at)
            VALUES ('01010101-0101-0101-0101-010101010101', 'pump', 1);
            INSERT INTO grp (catalog, product, name, least_index, grades, created_at)
            VALUES ('01010101-0101-0101-0101-010101010101', 'pump', 'old', 3, NULL, 1)
            ON CONFLICT (catalog, product, name)
            DO UPDATE SET least_index = 3, grades = NULL, revision = grp.revision + 1;";
        database.execute(old).await.unwrap();
        let level = async || store.group(scope, "pump", "old").await.unwrap().unwrap().reports;
        assert_eq!(level().await, Some(Level::Health));
        set_level(&store, scope, Level::Off, 0).await;
        let place = ("pump".to_owned(), "old".to_owned());
        let put = store.write(move |connection| {
            Box::pin(
                async move { device::move_to(connection, scope, &DEVICE, place.0, place.1).await },
            )
        });
        put.await.unwrap();
        database.execute(old.split_once(';').unwrap().1.to_owned()).await.unwrap();
        assert_eq!(level().await, Some(Level::Off), "it does not switch them on");
        let refused = take(&store, scope, batch(7, &samples::records())).await;
        assert_eq!(refused, Outcome::Off);
        // A batch that comes while somebody switches them off waits for that, and is refused.
        set_level(&store, scope, Level::Health, 0).await;
        let slow = store.clone();
        let off = tokio::spawn(async move { set_level(&slow, scope, Level::Off, 500).await });
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let refused = take(&store, scope, batch(7, &samples::records())).await;
        assert_eq!(refused, Outcome::Off);
        off.await.unwrap();
        assert_eq!(kept(&store, scope).await, []);
        let sources = "SELECT COUNT(*) AS n FROM report_source";
        assert_eq!(database.count(sources).await, 0);
        assert_eq!(scope.catalog(), CatalogId([1; 16]));
        store.close().await;
    });
}

/// Whose role is for a product or a group sees what is of its devices, page by page, and nothing of any other; with as many roles as there may be.
#[test]
fn who_sees_a_product_or_a_group_sees_reports_and_findings_of_its_devices_alone() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let places = [
            Some(("pump", "a")),
            Some(("pump", "b")),
            Some(("cam", "a")),
            None,
            Some(("cam", "a")),
        ];
        for (number, place) in (1u8..).zip(places) {
            let device = DeviceId([number; 32]);
            enrolled(&store, scope, device).await;
            let (product, group) = place.unzip();
            let text =
                |text: Option<&str>| text.map_or("NULL".to_owned(), |text| format!("'{text}'"));
            let moved = format!(
                "UPDATE device SET product = {}, grp = {} WHERE id = '{device}'",
                text(product),
                text(group)
            );
            database.execute(moved).await.unwrap();
            take_at(&store, scope, device, batch(number, &[ended(1, version(0))]), NOW).await;
            store.note_finding(scope, device, Finding::DebugBuild, NOW).await.unwrap();
        }
        let of = |parts: &[(&str, Option<&str>)]| {
            let part = |(product, group): &(&str, Option<&str>)| {
                ((*product).to_owned(), group.map(str::to_owned))
            };
            Sight::Parts(parts.iter().map(part).collect())
        };
        let many: Vec<String> = (0..1000).map(|number| format!("group-{number}")).collect();
        let many: Vec<_> = many.iter().map(|group| ("pump", Some(group.as_str()))).collect();
        for (sight, expected) in [
            (Sight::All, &[1, 2, 3, 4, 5][..]),
            (of(&[]), &[]),
            (of(&[("pump", None)]), &[1, 2]),
            (of(&[("pump", Some("b"))]), &[2]),
            (of(&[("pump", Some("b")), ("cam", None)]), &[2, 3, 5]),
            (of(&[("pump", Some("a")), ("cam", Some("b"))]), &[1]),
            (of(&[("a", None), ("' OR 1 = 1 --", Some("a"))]), &[]),
            (of(&[&[("cam", Some("a"))], &many[..]].concat()), &[3, 5]),
        ] {
            let expected: Vec<DeviceId> =
                expected.iter().map(|number| DeviceId([*number; 32])).collect();
            let (mut after, mut seen) = (FindingKey::default(), Vec::new());
            while let [row] = &store.findings(scope, &sight, false, &after, 1).await.unwrap()[..] {
                seen.push(row.device);
                let (device, kind) = (row.device.to_string(), row.kind.word().to_owned());
                after = FindingKey { device, kind, closed_at: 0 };
            }
            assert_eq!(seen, expected, "findings of {sight:?}");
            let (mut after, mut seen) = (ReportKey::default(), Vec::<DeviceId>::new());
            while let [row] = &store.reports(scope, &sight, &after, 1, NOW).await.unwrap()[..] {
                seen.push(row.key.device.parse().unwrap());
                after = row.key.clone();
            }
            assert_eq!(seen, expected, "reports of {sight:?}");
        }
        store.close().await;
    });
}
