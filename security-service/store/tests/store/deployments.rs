//! Slots of deployments on both databases: as many as a stage allows and no more, and none once somebody was told that it is held, however
//! many devices check in at once.

use crate::databases::{Database, on_both};
use crate::{catalog, entry};
use holdfast_evidence::claims::Phase;
use holdfast_evidence::messages::{AssignmentMessage, DeviceId, Profile};
use holdfast_evidence::policy::BootDigest;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::check_in::{CheckInWrite, Decision, Issue, Verdict};
use holdfast_service_domain::deployment::plan::{Plan, Size, Stage};
use holdfast_service_domain::deployment::slot::Target;
use holdfast_service_domain::deployment::state::{Refusal, State};
use holdfast_service_domain::deployment::why::WhyNot;
use holdfast_service_domain::detection::subject::Part;
use holdfast_service_domain::device::Kind;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::measurement::Release;
use holdfast_service_domain::person::By;
use holdfast_service_domain::receipt::Receipts;
use holdfast_service_store::catalog::{Group, put_group, put_product};
use holdfast_service_store::deployment::change::{self, Action, Draft, OfPart};
use holdfast_service_store::deployment::check_in::{MOST_OF_GROUP, StagedCheckIn};
use holdfast_service_store::deployment::row::DeploymentRow;
use holdfast_service_store::device::{self, Claim};
use holdfast_service_store::{Scope, Store, StoreError, release, retirement};
use holdfast_types::Version;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) const DEVICES: u8 = 40;
pub(crate) const OLD: Release = of(0xb0, 3, 6);
pub(crate) const NEW: Release = of(0xb1, 4, 7);
const DAY_S: u64 = 86_400;

const fn of(boot: u8, minor: u32, index: u64) -> Release {
    let version = Version { major: 1, minor, patch: 0 };
    Release { boot: BootDigest([boot; 32]), version, index, withdrawn: false }
}

pub(crate) fn device(number: u8) -> DeviceId {
    DeviceId([number; 32])
}

fn group(is_update_on: Option<bool>, is_production: Option<bool>) -> Group {
    Group {
        product: "pump".to_owned(),
        name: "production".to_owned(),
        least_index: 0,
        grades: None,
        reports: None,
        is_production,
        is_update_on,
        feed: None,
        revision: 0,
    }
}

async fn set_group(store: &Store, scope: Scope, group: Group) {
    let set = store.write(move |connection| {
        Box::pin(async move { put_group(connection, scope, group, 1000).await })
    });
    set.await.unwrap();
}

/// A catalog with a group of devices that run the old release.
pub(crate) async fn fleet(store: &Store) -> Scope {
    let scope = catalog(store, 1).await;
    let made = store.write(move |connection| {
        Box::pin(async move {
            release::add(connection, scope, OLD, 1000).await?;
            release::add(connection, scope, NEW, 1000).await?;
            put_product(connection, scope, "pump".to_owned(), 1000).await?;
            put_group(connection, scope, group(None, None), 1000).await?;
            for number in 0..DEVICES {
                let claim = Claim {
                    device: device(number),
                    kind: Kind::Software,
                    grade: Grade::Software,
                    board: None,
                    serial: None,
                    group: Some(("pump".to_owned(), "production".to_owned())),
                };
                device::claim(connection, scope, claim, 1000).await?;
            }
            Ok(())
        })
    });
    made.await.unwrap();
    for number in 0..DEVICES {
        store.enrol(scope, device(number), vec![7; 65], Grade::Software, 1500).await.unwrap();
    }
    scope
}

pub(crate) fn draft(id: &str, stages: &[(u16, u64)]) -> Draft {
    let stages =
        stages.iter().map(|(share, soak_s)| Stage { size: Size::Share(*share), soak_s: *soak_s });
    Draft {
        id: id.to_owned(),
        product: "pump".to_owned(),
        group: "production".to_owned(),
        target: Target { subject: ReleaseSubject::Os, version: NEW.version },
        plan: Plan::new(stages.collect(), 500).unwrap(),
        lists: Vec::new(),
        window: None,
        deadline_s: None,
        check_every_s: None,
        begins_at: 0,
        by: By::named("ole"),
    }
}

pub(crate) async fn create(
    store: &Store,
    scope: Scope,
    draft: Draft,
) -> Result<DeploymentRow, StoreError> {
    let made = store.write(move |connection| {
        Box::pin(async move { change::create(connection, scope, draft, 2000).await })
    });
    made.await
}

pub(crate) async fn act(
    store: &Store,
    scope: Scope,
    id: &'static str,
    action: Action,
    who: &'static str,
) -> Result<DeploymentRow, StoreError> {
    act_at(store, scope, id, action, who, 3000).await
}

pub(crate) async fn act_at(
    store: &Store,
    scope: Scope,
    id: &'static str,
    action: Action,
    who: &'static str,
    now: u64,
) -> Result<DeploymentRow, StoreError> {
    let made = store.write(move |connection| {
        Box::pin(
            async move { change::act(connection, scope, id, action, By::named(who), now).await },
        )
    });
    made.await
}

/// A deployment whose first stage runs.
pub(crate) async fn running(store: &Store, scope: Scope, stages: &[(u16, u64)]) {
    create(store, scope, draft("d1", stages)).await.unwrap();
    act(store, scope, "d1", Action::Approve, "ole").await.unwrap();
    let row = store.tend_deployment(scope, "d1".to_owned(), 3000).await.unwrap();
    assert_eq!(row.state.state(), State::Running);
}

fn claims(release: &Release, phase: &str) -> Vec<u8> {
    let (digest, version) = (holdfast_types::hex::hex(&release.boot.0), release.version);
    let (boot, index) = ("6b".repeat(16), release.index);
    format!(
        r#"{{"v":1,"boot":"{boot}","image":"pump","board":"qemu-virt","os":{{"version":"{version}","index":{index},
        "digest":"{digest}","slot":"a","phase":"{phase}"}},"apps":[],"debug":false,"clock":"network","reset":"reboot","tpm":"none"}}"#
    )
    .into_bytes()
}

/// Checks a device in that attests this, on its row as it is.
pub(crate) async fn check_in(
    store: &Store,
    scope: Scope,
    number: u8,
    (release, phase): (Release, Phase),
    at: u64,
) -> Vec<AssignmentMessage> {
    loop {
        let id = device(number);
        let before = store.device(scope, &id).await.unwrap().unwrap();
        let write = CheckInWrite {
            revision: before.device.revision,
            receipts: Receipts { newest: 2, returned: 1 },
            clock: None,
            verdict: "full",
            release: Some(release),
            phase,
            certificate_end: Some(at + 2 * DAY_S),
            next_at: Some(at + DAY_S),
            findings: vec![],
            at,
        };
        let issue = Issue {
            profile: Profile::Full,
            reasons: vec![],
            leaves: vec![],
            until: at + 2 * DAY_S,
            next_s: 86_400,
            receipt: 2,
        };
        let word = match phase {
            Phase::Committed => "committed",
            Phase::Staged => "staged",
            Phase::Trying => "trying",
            Phase::FallingBack => "falling-back",
        };
        let check_in = StagedCheckIn {
            id,
            decision: Decision { verdict: Verdict::Issue(issue), write },
            measured: release.pcr(),
            claims: claims(&release, word),
            update: None,
        };
        match store.check_in_with_deployments(scope, check_in).await {
            Ok(assignments) => return assignments,
            Err(StoreError::Overtaken) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

pub(crate) const OLD_COMMITTED: (Release, Phase) = (OLD, Phase::Committed);
pub(crate) const NEW_COMMITTED: (Release, Phase) = (NEW, Phase::Committed);
const FELL_BACK: (Release, Phase) = (OLD, Phase::FallingBack);

async fn slots(database: &Database) -> i64 {
    database.count("SELECT COUNT(*) AS n FROM slot_given").await
}

/// The counters are those of the rows.
pub(crate) async fn counters_are_rows(database: &Database) {
    for query in [
        "SELECT COUNT(*) AS n FROM deployment p WHERE slots <> (SELECT COUNT(*) FROM slot_given s WHERE s.deployment = p.id)",
        "SELECT COUNT(*) AS n FROM deployment p WHERE granted <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.forgiven = 0)",
        "SELECT COUNT(*) AS n FROM deployment p WHERE committed <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.outcome = 'committed')",
        "SELECT COUNT(*) AS n FROM deployment p WHERE failed <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.outcome IN ('fell-back', 'refused') AND s.forgiven = 0)",
        "SELECT COUNT(*) AS n FROM deployment p WHERE silent <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.outcome = 'silent' AND s.forgiven = 0)",
        "SELECT COUNT(*) AS n FROM deployment p WHERE stage_granted <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.stage = p.stage AND s.forgiven = 0)",
        "SELECT COUNT(*) AS n FROM deployment p WHERE stage_committed <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.stage = p.stage AND s.outcome = 'committed')",
        "SELECT COUNT(*) AS n FROM deployment p WHERE stage_failed <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.stage = p.stage AND s.outcome IN ('fell-back', 'refused')
            AND s.forgiven = 0)",
        "SELECT COUNT(*) AS n FROM deployment p WHERE stage_silent <> (SELECT COUNT(*) FROM slot_given s
            WHERE s.deployment = p.id AND s.stage = p.stage AND s.outcome = 'silent' AND s.forgiven = 0)",
    ] {
        assert_eq!(database.count(query).await, 0, "{query}");
    }
}

#[test]
fn of_many_devices_at_once_as_many_are_given_a_slot_as_the_stage_allows() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(100, 3600), (1000, 0)]).await;
        let jobs: Vec<_> = (0..DEVICES)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(
                    async move { check_in(&store, scope, number, OLD_COMMITTED, 4000).await },
                )
            })
            .collect();
        let mut allowed = 0;
        for job in jobs {
            let assignments = job.await.unwrap();
            let [os] = assignments.as_slice() else { panic!("{assignments:?}") };
            assert_eq!(os.component, "os");
            match os.newest.as_str() {
                "1.4.0" => allowed += 1,
                "1.3.0" => assert_eq!(os.deployment, ""),
                other => panic!("{other}"),
            }
        }
        assert_eq!((allowed, slots(database).await), (4, 4), "a tenth of 40");
        counters_are_rows(database).await;
        store.close().await;
    });
}

/// Devices that leave the place of their stage to others are not replaced: rows count, and not devices that are there.
#[test]
fn a_stage_of_all_devices_is_given_to_each_of_them_once() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(1000, 0)]).await;
        for round in 0..2 {
            let jobs: Vec<_> = (0..DEVICES)
                .flat_map(|number| [number, number])
                .map(|number| {
                    let store = store.clone();
                    let at = 4000 + round;
                    tokio::spawn(
                        async move { check_in(&store, scope, number, OLD_COMMITTED, at).await },
                    )
                })
                .collect();
            for job in jobs {
                job.await.unwrap();
            }
            assert_eq!(slots(database).await, i64::from(DEVICES));
        }
        counters_are_rows(database).await;
        store.close().await;
    });
}

/// Whoever holds it, by whichever means, is told so; from then on no slot is given, whatever was under way.
async fn holds(database: &Database, hold: impl AsyncFn(&Store, Scope)) {
    let store = database.open().await;
    let scope = fleet(&store).await;
    running(&store, scope, &[(1000, 0)]).await;
    let is_held = Arc::new(AtomicBool::new(false));
    let jobs: Vec<_> = (0..DEVICES)
        .map(|number| {
            let (store, is_held) = (store.clone(), is_held.clone());
            tokio::spawn(async move {
                // Some are under way before, some meanwhile, and some come after.
                tokio::time::sleep(std::time::Duration::from_millis(u64::from(number) * 3)).await;
                let came_after = is_held.load(Ordering::SeqCst);
                let assignments = check_in(&store, scope, number, OLD_COMMITTED, 4000).await;
                (came_after, assignments)
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    hold(&store, scope).await;
    is_held.store(true, Ordering::SeqCst);
    let told = slots(database).await;
    for job in jobs {
        let (came_after, assignments) = job.await.unwrap();
        let given = assignments.iter().any(|of| of.newest == "1.4.0");
        assert!(!(came_after && given), "{assignments:?}");
    }
    assert_eq!(slots(database).await, told, "nobody new");
    assert!(told < i64::from(DEVICES), "some came after: {told}");
    counters_are_rows(database).await;
    store.close().await;
}

#[test]
fn paused_halted_and_off_mean_nobody_new_while_devices_check_in() {
    on_both(async |database| {
        holds(database, async |store, scope| {
            act(store, scope, "d1", Action::Pause, "ole").await.unwrap();
        })
        .await;
    });
    on_both(async |database| {
        holds(database, async |store, scope| {
            act(store, scope, "d1", Action::Halt, "ole").await.unwrap();
        })
        .await;
    });
    on_both(async |database| {
        holds(database, async |store, scope| {
            set_group(store, scope, group(Some(false), None)).await;
        })
        .await;
    });
}

#[test]
fn it_halts_at_the_third_failure_and_a_person_has_it_go_on() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(1000, 0)]).await;
        for number in 0..10 {
            check_in(&store, scope, number, OLD_COMMITTED, 4000).await;
        }
        // Three at once: each counts, and the third halts it.
        check_in(&store, scope, 0, NEW_COMMITTED, 5000).await;
        let jobs: Vec<_> = (1..4)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move { check_in(&store, scope, number, FELL_BACK, 5000).await })
            })
            .collect();
        for job in jobs {
            job.await.unwrap();
        }
        let row = store.deployment(scope, "d1").await.unwrap();
        assert_eq!(
            (row.state.state(), row.tallies.all.failed, row.tallies.all.committed),
            (State::Halted, 3, 1)
        );
        counters_are_rows(database).await;
        // Who was given it and has not taken it does not any more; who runs it stays.
        let waiting = check_in(&store, scope, 4, OLD_COMMITTED, 6000).await;
        assert_eq!(waiting[0].newest, "1.3.0");
        let has = check_in(&store, scope, 0, NEW_COMMITTED, 6000).await;
        assert_eq!(has[0].newest, "1.4.0");
        store.tend_deployments(scope, 7000).await.unwrap();
        assert_eq!(store.deployment(scope, "d1").await.unwrap().state.state(), State::Halted);
        act(&store, scope, "d1", Action::Resume, "ole").await.unwrap();
        let row = store.tend_deployment(scope, "d1".to_owned(), 7000).await.unwrap();
        assert_eq!(
            (row.state.state(), row.tallies.all.failed, row.tallies.all.granted),
            (State::Running, 0, 7)
        );
        counters_are_rows(database).await;
        // What was forgiven counts again when it changes.
        check_in(&store, scope, 1, NEW_COMMITTED, 8000).await;
        counters_are_rows(database).await;
        assert_eq!(store.deployment(scope, "d1").await.unwrap().tallies.all.committed, 2);
        store.close().await;
    });
}

#[test]
fn devices_that_are_late_are_silent_and_those_that_have_left_are_not_waited_for() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(1000, 0)]).await;
        for number in 0..6 {
            check_in(&store, scope, number, OLD_COMMITTED, 4000).await;
        }
        let gone = store.write(move |connection| {
            Box::pin(async move { retirement::retire(connection, scope, &device(0)).await })
        });
        gone.await.unwrap();
        store.tend_deployments(scope, 4000 + DAY_S).await.unwrap();
        let row = store.deployment(scope, "d1").await.unwrap();
        assert_eq!(
            (row.tallies.all.silent, row.tallies.all.granted),
            (0, 6),
            "an hour late is late"
        );
        for number in 3..6 {
            check_in(&store, scope, number, NEW_COMMITTED, 5000 + DAY_S).await;
        }
        store.tend_deployments(scope, 4000 + DAY_S + 3600).await.unwrap();
        let row = store.deployment(scope, "d1").await.unwrap();
        assert_eq!(
            (row.tallies.all.silent, row.tallies.all.granted, row.tallies.all.committed),
            (2, 5, 3)
        );
        assert_eq!(row.state.state(), State::Running, "two are not too many");
        counters_are_rows(database).await;
        let places = store.whereabouts(scope, "d1", 200_000, "", 100).await.unwrap();
        let why = |number: u8| {
            let of = places.iter().find(|of| of.device == device(number)).unwrap();
            of.why
        };
        assert_eq!(places.len(), 39, "but the retired one");
        assert_eq!((why(1), why(3), why(20)), (Some(WhyNot::Silent), None, Some(WhyNot::Offline)));
        store.close().await;
    });
}

#[test]
fn nobody_approves_his_own_draft_for_production_and_one_deployment_runs_at_a_time() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        set_group(&store, scope, group(None, Some(true))).await;
        create(&store, scope, draft("d1", &[(1000, 0)])).await.unwrap();
        // Taking the mark away changes nothing for what was drafted under it.
        set_group(&store, scope, group(None, Some(false))).await;
        let own = act(&store, scope, "d1", Action::Approve, "ole").await.unwrap_err();
        assert!(matches!(own, StoreError::Deployment(Refusal::OwnDraft)), "{own:?}");
        act(&store, scope, "d1", Action::Approve, "ines").await.unwrap();
        create(&store, scope, draft("d2", &[(1000, 0)])).await.unwrap();
        let (one, two) = (store.clone(), store.clone());
        let second = act(&store, scope, "d2", Action::Approve, "ines").await.unwrap_err();
        assert!(matches!(second, StoreError::Deployment(Refusal::AnotherRuns)), "{second:?}");
        act(&store, scope, "d1", Action::Halt, "ole").await.unwrap();
        // Of one that is resumed and one that is approved at the same moment, one goes on.
        let resumed =
            tokio::spawn(async move { act(&one, scope, "d1", Action::Resume, "ole").await });
        let approved =
            tokio::spawn(async move { act(&two, scope, "d2", Action::Approve, "ines").await });
        let went = [resumed.await.unwrap().is_ok(), approved.await.unwrap().is_ok()];
        assert_ne!(went[0], went[1]);
        let unknown = Draft {
            target: Target {
                subject: ReleaseSubject::Os,
                version: Version { major: 9, minor: 0, patch: 0 },
            },
            ..draft("d3", &[(1000, 0)])
        };
        act(&store, scope, "d1", Action::Withdraw, "ole").await.unwrap();
        act(&store, scope, "d2", Action::Withdraw, "ole").await.unwrap();
        create(&store, scope, unknown).await.unwrap();
        let unknown = act(&store, scope, "d3", Action::Approve, "ines").await.unwrap_err();
        assert!(matches!(unknown, StoreError::Missing(_)), "{unknown:?}");
        store.close().await;
    });
}

#[test]
fn a_group_has_so_many_deployments_and_the_oldest_that_ended_goes_first() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        for number in 0..MOST_OF_GROUP {
            create(&store, scope, draft(&format!("e{number:03}"), &[(1000, 0)])).await.unwrap();
        }
        let full = create(&store, scope, draft("f", &[(1000, 0)])).await.unwrap_err();
        assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
        act(&store, scope, "e005", Action::Withdraw, "ole").await.unwrap();
        create(&store, scope, draft("f", &[(1000, 0)])).await.unwrap();
        assert!(matches!(store.deployment(scope, "e005").await, Err(StoreError::Missing(_))));
        assert_eq!(
            database.count("SELECT COUNT(*) AS n FROM deployment").await,
            i64::from(MOST_OF_GROUP)
        );
        // Steps of the service are in the audit log as those of people are.
        let before = store.audit_rows(scope, 0, 1000).await.unwrap().len();
        let changed = store
            .change(scope, entry("deployment.approve", 1), None, |connection, scope| {
                Box::pin(async move {
                    change::act(connection, scope, "f", Action::Approve, By::named("ines"), 3000)
                        .await?;
                    Ok(holdfast_service_store::change::Answer { status: 200, body: String::new() })
                })
            })
            .await;
        changed.unwrap();
        store.tend_deployments(scope, 3000).await.unwrap();
        let rows = store.audit_rows(scope, 0, 1000).await.unwrap();
        let verbs: Vec<&str> = rows[before..].iter().map(|(row, _)| row.verb.as_str()).collect();
        assert_eq!(verbs, ["deployment.approve", "deployment.begin"]);
        assert_eq!(rows.last().unwrap().0.who, "service");
        store.verify_audit(scope).await.unwrap().unwrap();
        store.close().await;
    });
}

#[test]
fn what_is_contained_halts_its_deployments_in_the_group_and_no_others() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(1000, 0)]).await;
        let halt = async |part: Part| {
            let work = store.write(move |connection| {
                Box::pin(async move {
                    let of = ("pump", "production");
                    change::halt_part(connection, scope, of, &part, 4000).await
                })
            });
            work.await.unwrap()
        };
        let app = Part::App(holdfast_types::ComponentId([7; 16]));
        let names = |of: &OfPart| of.halted.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
        assert_eq!(halt(app).await, OfPart::default(), "of another component");
        let of_part = halt(Part::Os).await;
        assert_eq!((names(&of_part), of_part.done), (vec!["d1".to_owned()], None));
        assert_eq!(halt(Part::Os).await, OfPart::default(), "it has halted");
        let row = act(&store, scope, "d1", Action::Resume, "ole").await.unwrap();
        assert_eq!(row.state.hold, holdfast_service_domain::deployment::state::Hold::None);
        // What is done is not halted, and named: the newest, which devices may take.
        for number in 0..DEVICES {
            check_in(&store, scope, number, OLD_COMMITTED, 5000).await;
            check_in(&store, scope, number, NEW_COMMITTED, 5000).await;
        }
        let row = store.tend_deployment(scope, "d1".to_owned(), 6000).await.unwrap();
        assert_eq!(row.state.state(), State::Done);
        let of_part = halt(Part::Os).await;
        assert_eq!(of_part.halted, []);
        assert_eq!(of_part.done.map(|row| row.id), Some("d1".to_owned()));
        store.close().await;
    });
}
