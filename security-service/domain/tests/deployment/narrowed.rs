//! What deployments leave a device to take.

use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::deployment::assignment::{Narrowed, Offered, narrow};
use holdfast_service_domain::deployment::slot::{Outcome, Target};
use holdfast_service_domain::deployment::state::{Cause, Deployment, Hold, Progress};
use holdfast_service_domain::person::By;
use holdfast_types::Version;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn deployment(progress: Progress, hold: Hold) -> Deployment {
    Deployment { progress, hold, ..Deployment::draft(By::named("ole"), false, 0, 1000) }
}

fn offered<'a>(text: &str, deployment: &'a Deployment, slot: Option<Outcome>) -> Offered<'a> {
    Offered {
        name: "d1",
        target: Target { subject: ReleaseSubject::Os, version: version(text) },
        deployment,
        slot: slot.map(|outcome| (outcome, 5000)),
        window: "02:00-04:00+60".parse().ok(),
        deadline_s: Some(600),
        check_every_s: Some(1800),
    }
}

fn newest(offered: &[Offered<'_>], is_update_on: bool) -> String {
    narrow(version("1.3.0"), offered, is_update_on).newest.to_string()
}

#[test]
fn who_has_a_slot_may_take_it_and_nobody_else() {
    let running = deployment(Progress::Running, Hold::None);
    let granted = [offered("1.4.0", &running, Some(Outcome::Granted))];
    let narrowed = narrow(version("1.3.0"), &granted, true);
    let expected = Narrowed {
        name: "d1",
        newest: version("1.4.0"),
        except: vec![],
        window: "02:00-04:00+60".parse().ok(),
        deadline: Some(5600),
        check_every_s: Some(1800),
    };
    assert_eq!(narrowed, expected);
    assert_eq!(newest(&[offered("1.4.0", &running, None)], true), "1.3.0");
    assert_eq!(newest(&granted, false), "1.3.0", "updates are off");
    let paused = deployment(Progress::Running, Hold::Paused);
    assert_eq!(newest(&[offered("1.4.0", &paused, Some(Outcome::Granted))], true), "1.4.0");
    let halted = deployment(Progress::Running, Hold::Halted(Cause::Failures));
    assert_eq!(newest(&[offered("1.4.0", &halted, Some(Outcome::Granted))], true), "1.3.0");
    for progress in [Progress::Draft, Progress::Approved, Progress::Withdrawn] {
        let it = deployment(progress, Hold::None);
        assert_eq!(newest(&[offered("1.4.0", &it, None)], true), "1.3.0", "{progress}");
    }
}

#[test]
fn who_runs_what_was_halted_keeps_it() {
    let halted = deployment(Progress::Running, Hold::Halted(Cause::Failures));
    let of = [offered("1.4.0", &halted, Some(Outcome::Trial))];
    assert_eq!(narrow(version("1.4.0"), &of, true).newest, version("1.4.0"));
    let done = deployment(Progress::Done, Hold::None);
    let older = narrow(version("1.5.0"), &[offered("1.4.0", &done, None)], true);
    assert_eq!((older.name, older.newest), ("", version("1.5.0")), "a later one stays as well");
}

/// Where 1.4.1 mends 1.4.0, a device whose 1.4.1 has failed must not be left with 1.4.0.
#[test]
fn what_was_halted_is_excepted_from_what_is_older_than_its_correction() {
    let halted = deployment(Progress::Running, Hold::Halted(Cause::Failures));
    let done = deployment(Progress::Done, Hold::None);
    let all = [
        offered("1.4.0", &halted, None),
        offered("1.4.1", &done, None),
        offered("1.3.5", &done, None),
    ];
    let narrowed = narrow(version("1.3.0"), &all, true);
    assert_eq!((narrowed.newest, narrowed.except), (version("1.4.1"), vec![version("1.4.0")]));
    // The same version deployed again is open.
    let again = [
        offered("1.4.0", &halted, None),
        offered("1.4.0", &done, None),
        offered("1.4.1", &done, None),
    ];
    assert_eq!(narrow(version("1.3.0"), &again, true).except, vec![]);
    let many: Vec<_> =
        (1..=20).map(|patch| offered(&format!("1.4.{patch}"), &halted, None)).collect();
    let many: Vec<_> = many.into_iter().chain([offered("2.0.0", &done, None)]).collect();
    let except = narrow(version("1.3.0"), &many, true).except;
    assert_eq!((except.len(), except[0]), (8, version("1.4.20")), "the newest of them");
}
