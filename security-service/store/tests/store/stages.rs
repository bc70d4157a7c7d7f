//! Stages that prove something of their own, what stops a deployment beside its slots, and emergencies, on both databases.

use crate::databases::on_both;
use crate::deployments::{
    DEVICES, NEW, NEW_COMMITTED, OLD, OLD_COMMITTED, act, act_at, check_in, counters_are_rows,
    create, device, draft, fleet, running,
};
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::deployment::plan::{Plan, Preset, Size, Stage};
use holdfast_service_domain::deployment::progress::says;
use holdfast_service_domain::deployment::slot::Tally;
use holdfast_service_domain::deployment::state::{Cause, Hold, State};
use holdfast_service_domain::detection::finding::{About, Detection, Evidence, Key, Severity};
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::subject::{Part, Subject};
use holdfast_service_store::deployment::change::{Action, Draft};
use holdfast_service_store::deployment::list::Whereabouts;
use holdfast_service_store::retirement;
use holdfast_types::Version;

/// The first stage is four devices and the second the other 36: what the four have done says nothing about those.
#[test]
fn what_earlier_stages_have_done_does_not_count_for_the_next() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(100, 0), (1000, 0)]).await;
        for number in 0..DEVICES {
            check_in(&store, scope, number, OLD_COMMITTED, 4000).await;
        }
        let given = store.whereabouts(scope, "d1", 4000, "", 100).await.unwrap();
        let has = |of: &&Whereabouts| of.slot.is_some();
        let first: Vec<DeviceId> = given.iter().filter(has).map(|of| of.device).collect();
        assert_eq!(first.len(), 4);
        // One of the first is late, and the other three are enough.
        for device in &first[1..] {
            check_in(&store, scope, device.0[0], NEW_COMMITTED, 5000).await;
        }
        let row = store.tend_deployment(scope, "d1".to_owned(), 5000).await.unwrap();
        assert_eq!((row.state.stage, row.state.state()), (0, State::Running), "98 of 100 are more");
        check_in(&store, scope, first[0].0[0], NEW_COMMITTED, 5000).await;
        let row = store.tend_deployment(scope, "d1".to_owned(), 5000).await.unwrap();
        assert_eq!((row.state.stage, row.state.frozen.given), (1, 4));
        assert_eq!(row.tallies.stage, Tally::default());
        let others = (0..DEVICES).filter(|number| !first.contains(&device(*number)));
        let others: Vec<u8> = others.collect();
        for number in &others[..17] {
            check_in(&store, scope, *number, OLD_COMMITTED, 6000).await;
            check_in(&store, scope, *number, NEW_COMMITTED, 6000).await;
            counters_are_rows(database).await;
        }
        let row = store.tend_deployment(scope, "d1".to_owned(), 6000).await.unwrap();
        // 21 of 40 would be half of all.
        assert_eq!((row.state.state(), row.tallies.all.committed), (State::Running, 21));
        check_in(&store, scope, others[17], OLD_COMMITTED, 6000).await;
        check_in(&store, scope, others[17], NEW_COMMITTED, 6000).await;
        let row = store.tend_deployment(scope, "d1".to_owned(), 6000).await.unwrap();
        assert_eq!((row.state.state(), row.tallies.stage.committed), (State::Done, 18));
        store.close().await;
    });
}

#[test]
fn an_open_finding_of_severity_1_about_the_version_halts_it() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        running(&store, scope, &[(1000, 0)]).await;
        store.hold_lease("one".to_owned(), 4000).await.unwrap();
        let found = async |version: Version, severity, last| {
            let subject = Subject { part: Part::Os, version: Some(version) };
            let key = Key { rule: Rule::BootLoop, about: About::Subject(subject) };
            let evidence = Evidence { count: 3, first: last, last, ..Evidence::default() };
            let group = GroupName { product: "pump".to_owned(), group: "production".to_owned() };
            let detections = vec![Detection { key, severity, evidence }];
            let taken = store.take_detections(scope, "one".to_owned(), group, detections, 4000);
            taken.await.unwrap();
            store.tend_deployment(scope, "d1".to_owned(), 4000).await.unwrap().state.hold
        };
        // The controls: of another version, and less severe.
        assert_eq!(found(OLD.version, Severity::Now, 3500).await, Hold::None);
        assert_eq!(found(NEW.version, Severity::Today, 3500).await, Hold::None);
        let halted = Hold::Halted(Cause::Threat);
        assert_eq!(found(NEW.version, Severity::Now, 3500).await, halted);
        // A person goes on in spite of it, until it is seen again.
        let resumed = act_at(&store, scope, "d1", Action::Resume, "ole", 5000).await.unwrap();
        assert_eq!(resumed.state.hold, Hold::None);
        let row = store.tend_deployment(scope, "d1".to_owned(), 5000).await.unwrap();
        assert_eq!(row.state.hold, Hold::None);
        assert_eq!(found(NEW.version, Severity::Now, 5001).await, halted);
        store.close().await;
    });
}

#[test]
fn devices_come_again_soon_while_an_emergency_is_on_its_way_in_their_group() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        let is_emergency = async || {
            let found = store.facts(scope.catalog(), &device(1), None).await.unwrap();
            found.unwrap().1.unwrap().is_emergency
        };
        create(&store, scope, draft("d1", &[(1000, 0)])).await.unwrap();
        act(&store, scope, "d1", Action::Approve, "ole").await.unwrap();
        assert!(!is_emergency().await, "of another plan");
        act(&store, scope, "d1", Action::Withdraw, "ole").await.unwrap();
        let emergency = Draft { plan: Preset::Emergency.plan(), ..draft("d2", &[(1000, 0)]) };
        create(&store, scope, emergency).await.unwrap();
        assert!(!is_emergency().await, "a draft");
        act(&store, scope, "d2", Action::Approve, "ole").await.unwrap();
        assert!(is_emergency().await);
        act(&store, scope, "d2", Action::Halt, "ole").await.unwrap();
        assert!(!is_emergency().await);
        let plan = Preset::Emergency.plan().with_soak(60).unwrap();
        create(&store, scope, Draft { plan, ..draft("d3", &[(1000, 0)]) }).await.unwrap();
        act(&store, scope, "d3", Action::Approve, "ole").await.unwrap();
        assert!(is_emergency().await, "however long it soaks");
        store.close().await;
    });
}

/// A list of which nobody is in the group proves nothing: the stage waits for one of it, and lists go with the retirement of a device.
#[test]
fn stages_by_lists_go_to_their_devices_and_wait_for_one() {
    on_both(async |database| {
        let store = database.open().await;
        let scope = fleet(&store).await;
        let sizes = [(Size::Listed(2), 0), (Size::Listed(1), 0), (Size::Share(1000), 0)];
        let stages = sizes.map(|(size, soak_s)| Stage { size, soak_s });
        let plan = Plan::new(stages.to_vec(), 500).unwrap();
        let of = |lists: &[(u8, u16)]| {
            let lists = lists.iter().map(|(number, stage)| (device(*number), *stage)).collect();
            Draft { plan: plan.clone(), lists, ..draft("d1", &[(1000, 0)]) }
        };
        for (lists, problem) in [
            ([(7, 0), (200, 0), (9, 1)], "is no device of the catalog"),
            ([(7, 0), (7, 0), (9, 1)], "is on the lists twice"),
            ([(7, 0), (3, 0), (3, 1)], "is on the lists twice"),
        ] {
            let refused = create(&store, scope, of(&lists)).await.unwrap_err().to_string();
            assert!(refused.starts_with("stages[") && refused.contains(problem), "{refused}");
        }
        let elsewhere = async |number: u8, group: &str| {
            let id = device(number);
            let moved = format!("UPDATE device SET grp = '{group}' WHERE id = '{id}'");
            database.execute(moved).await.unwrap();
        };
        elsewhere(9, "test").await;
        let lists = [(7, 0), (3, 0), (9, 1)];
        let refused = create(&store, scope, of(&lists)).await.unwrap_err().to_string();
        assert!(refused.contains("is in pump/test and not in pump/production"), "{refused}");
        assert_eq!(database.count("SELECT COUNT(*) AS n FROM deployment_listed").await, 0);
        elsewhere(9, "production").await;
        create(&store, scope, of(&lists)).await.expect("the control");
        act(&store, scope, "d1", Action::Approve, "ole").await.unwrap();
        let given = async |now: u64| {
            for number in 0..DEVICES {
                check_in(&store, scope, number, OLD_COMMITTED, now).await;
            }
            let rows = store.whereabouts(scope, "d1", now, "", 100).await.unwrap();
            let given = rows.iter().filter(|of| of.slot.is_some());
            given.map(|of| (of.device.0[0], of.listed)).collect::<Vec<_>>()
        };
        store.tend_deployment(scope, "d1".to_owned(), 4000).await.unwrap();
        assert_eq!(given(4000).await, [(3, Some(0)), (7, Some(0))]);
        elsewhere(9, "test").await;
        for number in [3, 7] {
            check_in(&store, scope, number, NEW_COMMITTED, 5000).await;
        }
        let row = store.tend_deployment(scope, "d1".to_owned(), 5000).await.unwrap();
        assert_eq!((row.state.stage, row.state.state()), (0, State::Soaking));
        let waits = says(&row.state, &row.plan, &row.tallies, 5000);
        assert!(waits.contains("the next stage's list"), "{waits}");
        elsewhere(9, "production").await;
        let row = store.tend_deployment(scope, "d1".to_owned(), 6000).await.unwrap();
        assert_eq!((row.state.stage, row.state.frozen.own_size()), (1, 1));
        assert_eq!(given(6000).await, [(3, Some(0)), (7, Some(0)), (9, Some(1))]);
        check_in(&store, scope, 9, NEW_COMMITTED, 7000).await;
        let row = store.tend_deployment(scope, "d1".to_owned(), 7000).await.unwrap();
        assert_eq!((row.state.stage, row.state.frozen.own_size()), (2, 37));
        assert_eq!(given(7000).await.len(), usize::from(DEVICES));
        counters_are_rows(database).await;
        let retired = store.write(move |connection| {
            Box::pin(async move { retirement::retire(connection, scope, &device(3)).await })
        });
        retired.await.unwrap();
        assert_eq!(database.count("SELECT COUNT(*) AS n FROM deployment_listed").await, 2);
        store.close().await;
    });
}
