//! What overviews count, what a device's past is, and lists by filter and from their end on, on both databases.

use crate::databases::on_both;
use crate::{DEVICE, catalog, check_in, claim, entry, write};
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::samples;
use holdfast_service_domain::device::{Finding, Kind, State};
use holdfast_service_domain::grade::Grade;
use holdfast_service_store::change::Answer;
use holdfast_service_store::wanted::{Standing, WantedDevices};
use std::collections::BTreeMap;

const OTHER: DeviceId = DeviceId([0xdf; 32]);
const DAY_S: u64 = 24 * 60 * 60;

#[test]
fn devices_are_counted_and_found_by_how_they_stand() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for device in [DEVICE, OTHER] {
            claim(&store, scope, device).await;
            store.enrol(scope, device, vec![7; 90], Grade::Hardware, 1500).await.unwrap();
        }
        store.wait_for_claim(scope, DeviceId([1; 32]), Kind::Tpm, "board".into(), 9).await.unwrap();
        let finding = vec![Finding::SlotFailed];
        write(&store, scope, check_in(1, "update-only", finding)).await.unwrap();
        let counts = store.device_counts(scope, 2000).await.unwrap();
        assert_eq!(counts.len(), 3, "{counts:?}");
        let of = |standing: Standing| {
            let counts = counts.iter().filter(|count| count.state == State::Enrolled);
            let counts = counts
                .filter(|count| Standing::of(count.verdict.as_deref(), count.is_fresh) == standing);
            counts.map(|count| count.devices).sum::<u64>()
        };
        assert_eq!(Standing::ALL.map(of), [0, 1, 0, 1]);
        assert!(counts.iter().all(|count| count.devices == 1));
        // Whoever is counted so is found so.
        let find = async |wanted: WantedDevices| {
            let found = store.wanted_devices(scope, &wanted, "", 10).await.unwrap();
            found.into_iter().map(|shown| shown.device.id).collect::<Vec<_>>()
        };
        let any = WantedDevices::default;
        let standing =
            |standing, since| WantedDevices { standing: Some((standing, since)), ..any() };
        assert_eq!(find(standing(Standing::UpdateOnly, 2000)).await, [DEVICE]);
        assert_eq!(find(standing(Standing::UpdateOnly, 2001)).await, []);
        assert_eq!(find(standing(Standing::Silent, 2000)).await, [OTHER]);
        assert_eq!(find(standing(Standing::Silent, 2001)).await, [DEVICE, OTHER]);
        assert_eq!(find(WantedDevices { state: Some(State::Waiting), ..any() }).await.len(), 1);
        for (text, expected) in [("de", vec![DEVICE]), ("d", vec![DEVICE, OTHER]), ("%", vec![])] {
            let wanted = WantedDevices { find: Some(text.to_owned()), ..any() };
            assert_eq!(find(wanted).await, expected, "{text}");
        }
        let product = WantedDevices { product: Some("pump".to_owned()), ..any() };
        assert_eq!(find(product).await, []);
        assert_eq!(find(any()).await.len(), 3);
        assert_eq!(store.open_findings(scope).await.unwrap(), [("slot-failed".to_owned(), 1)]);
        // Another catalog's are not counted.
        let other = catalog(&store, 2).await;
        assert_eq!(store.device_counts(other, 0).await.unwrap(), []);
        store.close().await;
    });
}

#[test]
fn a_past_is_the_devices_own_and_deeds_are_for_who_may_see_them() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for device in [DEVICE, OTHER] {
            claim(&store, scope, device).await;
            store.enrol(scope, device, vec![7; 90], Grade::Hardware, 1500).await.unwrap();
        }
        write(&store, scope, check_in(1, "update-only", vec![Finding::SlotFailed])).await.unwrap();
        let now = 20 * DAY_S + 5;
        for (device, at) in [(DEVICE, now), (OTHER, now + 2 * DAY_S)] {
            let batch = Batch { epoch: Epoch([7; 8]), records: samples::records(), unknown: 0 };
            store.take_reports(scope, device, batch, BTreeMap::new(), at).await.unwrap();
        }
        let past = store.past(scope, &DEVICE, true).await.unwrap();
        assert!(
            past.records.len() > 5
                && past.records.iter().all(|one| one.key.device == DEVICE.to_string())
        );
        let check_ins: Vec<&str> = past.check_ins.iter().map(|one| one.verdict.as_str()).collect();
        assert_eq!((check_ins, past.findings.len()), (vec!["update-only"], 1));
        let deeds: Vec<&str> = past.deeds.iter().map(|deed| deed.verb.as_str()).collect();
        assert_eq!((deeds, past.slots.len()), (vec!["device.enrol"], 0));
        let without = store.past(scope, &DEVICE, false).await.unwrap();
        assert_eq!((without.deeds.len(), &without.records), (0, &past.records));
        // Days of a group are those on which devices had it first; those that were seen last come first.
        let (open, fresh) = store.open_crashes(scope, now + 1).await.unwrap();
        assert!(open > 1 && fresh == 0, "{open} {fresh}");
        assert_eq!(store.open_crashes(scope, now).await.unwrap(), (open, open));
        let camera = store.crashes(scope, false, "", 100).await.unwrap();
        let camera = camera.iter().find(|crash| crash.name == "camera").unwrap().clone();
        let days = store.crash_days(scope, camera.id, 0).await.unwrap();
        let days: Vec<(u64, u64)> = days.iter().map(|day| (day.day, day.devices)).collect();
        assert_eq!(days, [(20, 1), (22, 1)]);
        assert_eq!(store.crash_days(scope, camera.id, now + 1).await.unwrap().len(), 1);
        let mut seen = Vec::new();
        let mut before = (u64::MAX, String::new());
        loop {
            let page = store.newest_crashes(scope, false, (before.0, &before.1), 1).await.unwrap();
            let Some(last) = page.last() else { break };
            before = (last.state.last_at, last.id.to_string());
            seen.push(before.clone());
        }
        assert_eq!(seen.len() as u64, open);
        assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");
        store.close().await;
    });
}

#[test]
fn the_audit_log_is_read_from_its_end_on() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for digest in 0..5 {
            let nothing = Answer { status: 200, body: String::new() };
            let work = store.change(scope, entry("it", digest), None, move |_, _| {
                Box::pin(async move { Ok(nothing) })
            });
            work.await.unwrap();
        }
        let (mut before, mut numbers) = (u64::MAX, Vec::new());
        loop {
            let rows = store.audit_rows_before(scope, before, 2).await.unwrap();
            let Some((last, _)) = rows.last() else { break };
            before = last.number;
            numbers.extend(rows.iter().map(|(row, _)| row.number));
        }
        assert_eq!(numbers, [6, 5, 4, 3, 2, 1]);
        store.count_exposure(scope, 40 * DAY_S).await.unwrap();
        assert_eq!(store.running_days(scope, None, "os", 0).await.unwrap(), []);
        assert_eq!(store.running_days(scope, Some("pump"), "os", 0).await.unwrap(), []);
        assert_eq!(store.delivery_records(scope).await.unwrap(), []);
        store.close().await;
    });
}
