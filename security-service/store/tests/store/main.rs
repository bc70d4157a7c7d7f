//! The store on both databases: each check here runs on SQLite and on PostgreSQL.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

mod alerts;
mod bucket;
mod changes;
mod check_ins;
mod databases;
mod deployments;
mod detection;
mod migrations;
mod overview;
mod people;
mod reports;
mod retention;
mod retirement_of_devices;
mod stages;
mod symbols;
mod token_sessions;

use databases::on_both;
use holdfast_evidence::claims::Phase;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_evidence::policy::{BootDigest, PcrDigest};
use holdfast_service_domain::check_in::CheckInWrite;
use holdfast_service_domain::device::{Finding, Kind, State};
use holdfast_service_domain::extent::{Extent, Grant};
use holdfast_service_domain::grade::{Grade, Grades};
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::person::{By, PersonId};
use holdfast_service_domain::receipt::Receipts;
use holdfast_service_domain::role::Role;
use holdfast_service_store::audit::Entry;
use holdfast_service_store::catalog::{self, Catalog, Group};
use holdfast_service_store::change::Answer;
use holdfast_service_store::device::{self, Claim, FindingKey};
use holdfast_service_store::enrolment::{Enrolment, MAX_UNDER_WAY};
use holdfast_service_store::scope::{Actor, Sight};
use holdfast_service_store::token::Token;
use holdfast_service_store::wanted::WantedDevices;
use holdfast_service_store::{Scope, Store, StoreError, release, retirement};
use holdfast_types::Version;

const DEVICE: DeviceId = DeviceId([0xde; 32]);
const BOOT: BootDigest = BootDigest([0xb0; 32]);

fn entry(verb: &'static str, digest: u8) -> Entry {
    let (who, object) = ("ole".to_owned(), "it".to_owned());
    Entry { who, verb, object, digest: [digest; 32], at: 1000 }
}

async fn catalog(store: &Store, number: u8) -> Scope {
    let made = Catalog {
        id: CatalogId([number; 16]),
        name: format!("catalog-{number}"),
        grades: Grades::OF_NEW_CATALOGS,
        created_at: 1000,
        revision: 0,
    };
    let nothing = store
        .make_catalog(made, entry("catalog.create", 0), |_, _| Box::pin(async { Ok(()) }))
        .await;
    nothing.unwrap()
}

async fn claim(store: &Store, scope: Scope, device: DeviceId) -> State {
    let claim = Claim {
        device,
        kind: Kind::Tpm,
        grade: Grade::Hardware,
        board: Some("qemu-virt".to_owned()),
        serial: None,
        group: None,
    };
    let work = store.write(move |connection| {
        Box::pin(async move { device::claim(connection, scope, claim, 1000).await })
    });
    work.await.unwrap()
}

fn check_in(revision: u64, verdict: &'static str, findings: Vec<Finding>) -> CheckInWrite {
    CheckInWrite {
        revision,
        receipts: Receipts { newest: 2, returned: 1 },
        clock: None,
        verdict,
        release: None,
        phase: Phase::Committed,
        certificate_end: Some(5000),
        next_at: Some(4000),
        findings,
        at: 2000,
    }
}

async fn write(store: &Store, scope: Scope, write: CheckInWrite) -> Result<(), StoreError> {
    store.check_in(scope, DEVICE, write, PcrDigest([8; 32]), b"{}".to_vec()).await
}

#[test]
fn what_is_written_is_read_and_is_there_after_a_start() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        assert_eq!(claim(&store, scope, DEVICE).await, State::Claimed);
        store.enrol(scope, DEVICE, vec![7; 90], Grade::Hardware, 1500).await.unwrap();
        let before = store.device(scope, &DEVICE).await.unwrap().unwrap();
        assert_eq!((before.device.state, before.device.revision), (State::Enrolled, 1));
        write(&store, scope, check_in(1, "full", vec![])).await.unwrap();
        store.close().await;
        let store = database.open().await;
        let scope = store.scope_of_device(scope.catalog()).await.unwrap().unwrap();
        let shown = store.device(scope, &DEVICE).await.unwrap().unwrap();
        assert_eq!(shown.device.receipts, Receipts { newest: 2, returned: 1 });
        assert_eq!(shown.device.key, Some(vec![7; 90]));
        assert_eq!((shown.verdict.as_deref(), shown.certificate_end), (Some("full"), Some(5000)));
        assert_eq!((shown.board.as_deref(), shown.next_at), (Some("qemu-virt"), Some(4000)));
        assert_eq!(store.verify_audit(scope).await.unwrap(), Ok(2));
        store.close().await;
    });
}

#[test]
fn a_decision_that_was_overtaken_writes_nothing() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        claim(&store, scope, DEVICE).await;
        let finding = vec![Finding::ReceiptForked];
        let late = write(&store, scope, check_in(7, "update-only", finding.clone())).await;
        assert!(matches!(late, Err(StoreError::Overtaken)), "{late:?}");
        assert_eq!(
            store.findings(scope, &Sight::All, true, &FindingKey::default(), 10).await.unwrap(),
            []
        );
        write(&store, scope, check_in(0, "update-only", finding)).await.expect("the control");
        assert_eq!(
            store
                .findings(scope, &Sight::All, false, &FindingKey::default(), 10)
                .await
                .unwrap()
                .len(),
            1
        );
        store.close().await;
    });
}

/// Of all who are decided on the same row, one writes.
#[test]
fn two_check_ins_of_one_row_have_one_winner() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        claim(&store, scope, DEVICE).await;
        let racers: Vec<_> = (0..16)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move { write(&store, scope, check_in(0, "full", vec![])).await })
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            winners += u32::from(racer.await.unwrap().is_ok());
        }
        assert_eq!(winners, 1);
        store.close().await;
    });
}

#[test]
fn two_first_enrolments_of_one_secret_have_one_winner() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let enrolment = |device| Enrolment {
            device,
            key: vec![7; 90],
            secret: vec![5; 32],
            grade: Grade::Hardware,
            ends_at: 1600,
        };
        for round in 0..20u8 {
            let number = [round; 16];
            store.begin_enrolment(scope, &number, enrolment(DEVICE), 1000).await.unwrap();
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    let store = store.clone();
                    tokio::spawn(async move { store.take_enrolment(&number, 1100).await.unwrap() })
                })
                .collect();
            let mut taken = Vec::new();
            for racer in racers {
                taken.extend(racer.await.unwrap());
            }
            assert_eq!(taken, [(scope, enrolment(DEVICE))], "round {round}");
        }
        // One that has ended is not taken.
        store.begin_enrolment(scope, &[1; 16], enrolment(DEVICE), 1000).await.unwrap();
        assert_eq!(store.take_enrolment(&[1; 16], 1600).await.unwrap(), None);
        store.close().await;
    });
}

#[test]
fn a_stranger_who_begins_enrolments_does_not_end_the_device_s_own() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let begin = async |number: u32, now: u64| {
            let enrolment = Enrolment {
                device: DEVICE,
                key: vec![7; 90],
                secret: vec![5; 32],
                grade: Grade::Hardware,
                ends_at: now + 600,
            };
            store.begin_enrolment(scope, &number.to_be_bytes(), enrolment, now).await.unwrap();
        };
        let take = async |number: u32| {
            store.take_enrolment(&number.to_be_bytes(), 1100).await.unwrap().is_some()
        };
        // The device's own is the oldest of as many as there may be.
        begin(0, 1000).await;
        for number in 1..MAX_UNDER_WAY {
            begin(number, 1001).await;
        }
        assert!(take(0).await);
        // With one more than may be, the oldest goes: there is no end of them otherwise.
        begin(MAX_UNDER_WAY, 1000).await;
        begin(MAX_UNDER_WAY + 1, 1001).await;
        assert!(!take(MAX_UNDER_WAY).await);
        for number in (1..MAX_UNDER_WAY).chain([MAX_UNDER_WAY + 1]) {
            assert!(take(number).await, "{number}");
        }
        store.close().await;
    });
}

#[test]
fn a_device_keeps_the_key_that_it_has_enrolled_with() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let enrol = async |key: u8| store.enrol(scope, DEVICE, vec![key], Grade::Hardware, 1).await;
        assert!(matches!(enrol(1).await, Err(StoreError::Overtaken)), "nobody has claimed it");
        claim(&store, scope, DEVICE).await;
        enrol(1).await.unwrap();
        enrol(1).await.unwrap();
        assert!(matches!(enrol(2).await, Err(StoreError::Overtaken)));
        // Its owner retires it and claims it again.
        let work = store.write(move |connection| {
            Box::pin(async move { retirement::retire(connection, scope, &DEVICE).await })
        });
        work.await.unwrap();
        assert!(matches!(enrol(1).await, Err(StoreError::Overtaken)), "it is retired");
        assert_eq!(claim(&store, scope, DEVICE).await, State::Claimed);
        enrol(2).await.unwrap();
        store.close().await;
    });
}

#[test]
fn the_ticket_of_the_first_owner_is_taken_once_and_made_while_there_is_none() {
    on_both(async |database| {
        let store = database.open().await;
        let token = |hash: String| Token {
            hash,
            name: "first-owner".to_owned(),
            person: PersonId::named("first-owner"),
            role: Role::Owner,
            extent: Extent::Service,
            created_at: 1000,
            ends_at: 9000,
        };
        assert!(store.put_ticket("old".to_owned(), 900).await.unwrap());
        let late = store.take_ticket("old".to_owned(), token("a".to_owned())).await;
        assert!(!late.unwrap(), "it has ended");
        assert!(store.put_ticket("ticket".to_owned(), 2000).await.unwrap());
        let racers: Vec<_> = (0..8)
            .map(|number| {
                let (store, token) = (store.clone(), token(format!("token-{number}")));
                tokio::spawn(
                    async move { store.take_ticket("ticket".to_owned(), token).await.unwrap() },
                )
            })
            .collect();
        let mut winners = 0;
        for racer in racers {
            winners += u32::from(racer.await.unwrap());
        }
        assert_eq!(winners, 1);
        assert!(!store.put_ticket("next".to_owned(), 2000).await.unwrap(), "there is an owner");
        store.close().await;
    });
}

#[test]
fn a_catalogs_rows_are_not_seen_from_another() {
    on_both(async |database| {
        let store = database.open().await;
        let (own, other) = (catalog(&store, 1).await, catalog(&store, 2).await);
        claim(&store, own, DEVICE).await;
        assert!(store.device(own, &DEVICE).await.unwrap().is_some(), "the control");
        assert!(store.device(other, &DEVICE).await.unwrap().is_none());
        assert_eq!(
            store.wanted_devices(other, &WantedDevices::default(), "", 10).await.unwrap(),
            []
        );
        let actor = |extent| {
            let grants = vec![Grant { role: Role::Owner, extent }];
            Actor { by: By::named("ole"), grants }
        };
        let of_other = actor(Extent::Catalog(other.catalog()));
        assert_eq!(store.scope_of(&of_other, own.catalog()).await.unwrap(), None);
        assert_eq!(store.scope_of(&of_other, other.catalog()).await.unwrap(), Some(other));
        assert_eq!(
            store.scope_of(&actor(Extent::Service), own.catalog()).await.unwrap(),
            Some(own)
        );
        assert_eq!(store.catalogs(&of_other, "", 10).await.unwrap().len(), 1);
        assert_eq!(store.catalogs(&actor(Extent::Service), "", 10).await.unwrap().len(), 2);
        store.close().await;
    });
}

#[test]
fn a_repeated_request_is_answered_as_before_and_done_once() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let put = async |name: &'static str, digest, key: &str| {
            let work = store.change(scope, entry("product.put", digest), Some(key.to_owned()), {
                move |connection, scope| {
                    Box::pin(async move {
                        catalog::put_product(connection, scope, name.to_owned(), 1000).await?;
                        Ok(Answer { status: 200, body: name.to_owned() })
                    })
                }
            });
            work.await
        };
        let first = put("pump", 1, "k").await.unwrap();
        assert_eq!(put("other", 1, "k").await.unwrap(), first, "the same request");
        assert_eq!(store.products(scope, "", 10).await.unwrap(), ["pump"]);
        assert!(matches!(put("other", 2, "k").await, Err(StoreError::KeyReused)));
        put("other", 2, "l").await.unwrap();
        assert_eq!(store.products(scope, "", 10).await.unwrap(), ["other", "pump"]);
        assert_eq!(store.verify_audit(scope).await.unwrap(), Ok(3), "one row for each change");
        store.close().await;
    });
}

/// What fails leaves nothing, though others are committed with it.
#[test]
fn a_change_that_fails_takes_nothing_with_it() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let jobs: Vec<_> = (0..64u32)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move {
                    let work = store.change(
                        scope,
                        entry("product.put", 1),
                        None,
                        move |connection, scope| {
                            Box::pin(async move {
                                let name = format!("p{number:02}");
                                catalog::put_product(connection, scope, name, 1000).await?;
                                if number % 2 == 1 {
                                    return Err(StoreError::Missing("anything"));
                                }
                                Ok(Answer { status: 200, body: String::new() })
                            })
                        },
                    );
                    work.await.is_ok()
                })
            })
            .collect();
        let mut done = 0;
        for job in jobs {
            done += u32::from(job.await.unwrap());
        }
        assert_eq!(done, 32);
        let names = store.products(scope, "", 100).await.unwrap();
        assert_eq!(names.len(), 32);
        assert!(names.iter().all(|name| name.as_bytes()[2] % 2 == 0), "{names:?}");
        assert_eq!(store.verify_audit(scope).await.unwrap(), Ok(33));
        store.close().await;
    });
}

#[test]
fn the_audit_log_and_measurements_are_not_changed_by_anybody() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let version = Version { major: 1, minor: 0, patch: 0 };
        let known = Release { boot: BOOT, version, index: 7, withdrawn: false };
        let add = async |release: Release| {
            let work = store.write(move |connection| {
                Box::pin(async move { release::add(connection, scope, release, 1000).await })
            });
            work.await
        };
        add(known).await.unwrap();
        add(known).await.expect("the same again");
        let other = Release { index: 8, ..known };
        assert!(matches!(add(other).await, Err(StoreError::There("release"))));
        for statement in
            ["UPDATE audit SET who = 'nobody'", "DELETE FROM audit", "DELETE FROM measurement"]
        {
            assert!(database.execute(statement).await.is_err(), "{statement}");
        }
        database.execute("UPDATE catalog SET name = 'renamed'").await.expect("the control");
        assert_eq!(store.verify_audit(scope).await.unwrap(), Ok(1));
        // Withdrawn and restored, and never gone.
        let set = async |at: Option<u64>| {
            let work = store.write(move |connection| {
                Box::pin(async move { release::set_withdrawn(connection, scope, &BOOT, at).await })
            });
            work.await.unwrap();
            store.release(scope, &known.pcr()).await.unwrap().unwrap().withdrawn
        };
        assert!(set(Some(1000)).await);
        assert!(!set(None).await);
        store.close().await;
    });
}

#[test]
fn findings_stay_open_until_they_are_closed_and_the_newest_failures_are_kept() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        claim(&store, scope, DEVICE).await;
        for revision in 0..20 {
            let found = vec![Finding::MeasurementUnknown];
            write(&store, scope, check_in(revision, "measurement-unknown", found)).await.unwrap();
        }
        write(&store, scope, check_in(20, "full", vec![])).await.unwrap();
        let open =
            store.findings(scope, &Sight::All, false, &FindingKey::default(), 10).await.unwrap();
        assert_eq!((open.len(), open[0].times, open[0].closed_at), (1, 20, None));
        let kept = database.count("SELECT COUNT(*) AS n FROM evidence").await;
        assert_eq!(kept, 16);
        let close = store.write(move |connection| {
            Box::pin(async move {
                let kind = Finding::MeasurementUnknown;
                device::close_finding(connection, scope, &DEVICE, kind, 3000).await
            })
        });
        close.await.unwrap();
        assert_eq!(
            store.findings(scope, &Sight::All, false, &FindingKey::default(), 10).await.unwrap(),
            []
        );
        assert_eq!(
            store
                .findings(scope, &Sight::All, true, &FindingKey::default(), 10)
                .await
                .unwrap()
                .len(),
            1
        );
        store.close().await;
    });
}

#[test]
fn a_groups_rules_hold_for_its_devices() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        claim(&store, scope, DEVICE).await;
        let id = DEVICE.to_string();
        let of_catalog = store.rules(scope, &id).await.unwrap();
        assert_eq!((of_catalog.least_index, of_catalog.grades), (0, Grades::OF_NEW_CATALOGS));
        let grades = Grades::of(&[Grade::Emulated]);
        let work = store.write(move |connection| {
            Box::pin(async move {
                catalog::put_product(connection, scope, "pump".to_owned(), 1000).await?;
                let (product, name) = ("pump".to_owned(), "test".to_owned());
                let grades = Some(grades);
                let group = Group {
                    product,
                    name,
                    least_index: 9,
                    grades,
                    reports: None,
                    is_production: None,
                    is_update_on: None,
                    feed: None,
                    revision: 0,
                };
                catalog::put_group(connection, scope, group, 1000).await?;
                let (product, name) = ("pump".to_owned(), "test".to_owned());
                device::move_to(connection, scope, &DEVICE, product, name).await
            })
        });
        work.await.unwrap();
        let of_group = store.rules(scope, &id).await.unwrap();
        assert_eq!((of_group.least_index, of_group.grades), (9, grades));
        let nowhere = store.write(move |connection| {
            Box::pin(async move {
                let (product, name) = ("pump".to_owned(), "other".to_owned());
                device::move_to(connection, scope, &DEVICE, product, name).await
            })
        });
        assert!(matches!(nowhere.await, Err(StoreError::Missing("group"))));
        store.close().await;
    });
}

/// A page may end between two findings of one device.
#[test]
fn pages_of_findings_have_each_finding_once() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        let kinds = [Finding::DebugBuild, Finding::ReceiptForked, Finding::SlotFailed];
        for device in 0..5u8 {
            for kind in kinds {
                store.note_finding(scope, DeviceId([device; 32]), kind, 1000).await.unwrap();
            }
        }
        let (mut after, mut seen) = (FindingKey::default(), Vec::new());
        loop {
            let page = store.findings(scope, &Sight::All, false, &after, 4).await.unwrap();
            let Some(last) = page.last() else { break };
            let (device, kind) = (last.device.to_string(), last.kind.word().to_owned());
            after = FindingKey { device, kind, closed_at: 0 };
            seen.extend(page.iter().map(|row| (row.device, row.kind)));
        }
        let all: Vec<_> =
            (0..5u8).flat_map(|device| kinds.map(|kind| (DeviceId([device; 32]), kind))).collect();
        assert_eq!(seen, all);
        store.close().await;
    });
}

/// Pages follow each other by their last entry, while rows come and go.
#[test]
fn pages_of_a_list_have_each_device_once() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = catalog(&store, 1).await;
        for number in 0..25u8 {
            claim(&store, scope, DeviceId([number; 32])).await;
        }
        let wanted = WantedDevices { state: Some(State::Claimed), ..WantedDevices::default() };
        let (mut after, mut seen) = (String::new(), Vec::new());
        loop {
            let page = store.wanted_devices(scope, &wanted, &after, 10).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.device.id.to_string();
            seen.extend(page.iter().map(|shown| shown.device.id));
            claim(&store, scope, DeviceId([0; 32])).await;
        }
        let all: Vec<DeviceId> = (0..25u8).map(|number| DeviceId([number; 32])).collect();
        assert_eq!(seen, all);
        store.close().await;
    });
}
