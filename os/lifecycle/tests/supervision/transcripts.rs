//! What init says and does in cases that a guest needs minutes, or a damaged medium, to get into.

use crate::device::{Device, Media, Program, app, component, setup};
use holdfast_lifecycle::exit::Exit;
use holdfast_lifecycle::patience::END_WITHIN_MS;
use holdfast_lifecycle::reducer::{Component, Effect, End, Event, Level, Package, Setup};
use holdfast_lifecycle::supervision::{BACKOFF_CEILING_MS, STOP_GRACE_MS, State};
use holdfast_sandbox::app_manifest::RestartPolicy;
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::wire::{EndCause, ManageRequest, Reply};

/// Of a component that says when it is ready.
const NOTIFIES: Readiness = Readiness::Notify { within_ms: 1_000 };

#[test]
fn a_crash_loop_is_slowed_down_and_said_once() {
    let mut device = Device::new(setup(vec![component("a")]));
    device.programs[0].ends = Some((10, Exit::Code(1)));
    device.run_until(400_000);
    let said = device.transcript();
    assert_eq!(
        said[..8],
        [
            "0.000 a started",
            "0.010 a ended with exit code 1, memory peak 640 KiB",
            "0.010 a will be started again in 100 ms",
            "0.110 a started",
            "0.120 a ended with exit code 1, memory peak 640 KiB",
            "0.120 a will be started again in 200 ms",
            "0.320 a started",
            "0.330 a ended with exit code 1, memory peak 640 KiB",
        ]
    );
    let loops: Vec<_> = said.iter().filter(|line| line.ends_with("in a crash loop")).collect();
    assert_eq!(loops.len(), 1, "{said:#?}");
    let starts: Vec<_> =
        device.effects.iter().filter(|(_, e)| *e == Effect::Start(0)).map(|(at, _)| *at).collect();
    let last = starts[starts.len() - 1] - starts[starts.len() - 2];
    assert_eq!(last, BACKOFF_CEILING_MS + 10);
}

#[test]
fn a_component_that_cannot_be_started_is_tried_again_and_nothing_of_it_stays() {
    let mut device = Device::new(setup(vec![component("a")]));
    device.unstartable = vec![(0, "cannot open /dev/x: no such file".to_owned())];
    device.run_until(150);
    let said = device.transcript();
    assert_eq!(
        said,
        [
            "0.000 a cannot be started: cannot open /dev/x: no such file",
            "0.000 a will be started again in 100 ms",
            "0.100 a cannot be started: cannot open /dev/x: no such file",
            "0.100 a will be started again in 200 ms",
        ]
    );
    assert_eq!(device.log[0].1, Level::Error);
    let started = [Effect::Start(0), Effect::Kill(0)];
    assert_eq!(device.done(), [started.clone(), started].concat());
}

#[test]
fn a_missed_watchdog_is_a_kill_and_a_restart() {
    let watched = Component { watchdog_ms: Some(500), ..component("a") };
    let mut device = Device::new(setup(vec![watched]));
    device.programs[0].pings_every = Some(400);
    device.run_until(3_000);
    assert_eq!(device.transcript(), ["0.000 a started"], "it shows that it is alive");
    device.programs[0].pings_every = None;
    device.run_until(3_900);
    assert_eq!(
        device.transcript()[1..],
        [
            "3.700 a missed its watchdog: killed",
            "3.705 a ended with signal 6, memory peak 640 KiB",
            "3.705 a will be started again in 100 ms",
            "3.805 a started",
        ]
    );
    assert_eq!(device.log[1].1, Level::Warning);
}

#[test]
fn one_that_does_not_end_when_it_is_aborted_is_killed() {
    let watched = Component { watchdog_ms: Some(500), ..component("a") };
    let mut device = Device::new(setup(vec![watched]));
    device.programs[0].ignores_abort = true;
    device.run_until(2_600);
    assert_eq!(
        device.transcript()[1..],
        [
            "0.500 a missed its watchdog: killed",
            "2.505 a ended with signal 9, memory peak 640 KiB",
            "2.505 a will be started again in 100 ms",
        ]
    );
    let cause = device.ends.first().map(|(_, cause, _)| *cause);
    assert_eq!(cause, Some(EndCause::Watchdog));
}

#[test]
fn an_end_that_nobody_asked_for_is_recorded_with_its_cause() {
    let ends = |exit: Exit, prepare: &dyn Fn(&mut Device)| {
        let watched = Component { watchdog_ms: Some(500), ..component("a") };
        let mut device = Device::new(setup(vec![watched]));
        device.programs[0].ends = Some((10, exit));
        prepare(&mut device);
        device.run_until(550);
        device.ends.first().copied()
    };
    let alone = |exit| ends(exit, &|_| {});
    assert_eq!(alone(Exit::Signal(11)), Some((0, EndCause::Signal(11), 10)));
    assert_eq!(alone(Exit::Signal(31)), Some((0, EndCause::Sandbox, 10)));
    assert_eq!(alone(Exit::Code(3)), Some((0, EndCause::Exit(3), 10)));
    assert_eq!(alone(Exit::Code(0)), None, "it has ended well");
    let memory = ends(Exit::Signal(9), &|device| device.out_of_memory = vec![0]);
    assert_eq!(memory, Some((0, EndCause::Memory, 10)));
    let damaged = ends(Exit::Signal(7), &|device| device.damaged = vec![0]);
    assert_eq!(damaged, Some((0, EndCause::Verity, 10)));
    let silent = ends(Exit::Code(0), &|device| device.programs[0].ends = None);
    assert_eq!(silent.map(|(_, cause, _)| cause), Some(EndCause::Watchdog));
    let stop = Event::Manage { asking: 0, request: ManageRequest::Stop("a".to_owned()) };
    let asked = ends(Exit::Signal(11), &|device| device.at(5, stop.clone()));
    assert_eq!(asked, None, "it was asked to");
}

#[test]
fn what_was_said_in_time_is_no_missed_deadline_however_late_it_is_looked_at() {
    let watched = Component { watchdog_ms: Some(500), ..component("a") };
    let mut device = Device::new(setup(vec![watched]));
    device.run_until(100);
    // init was kept for nine seconds behind the moment in which it had heard everything.
    device.now = 9_100;
    device.act(Event::Deadline { heard: 100 });
    device.act(Event::Notified { component: 0, ready: false, watchdog: true });
    device.act(Event::Deadline { heard: 9_100 });
    assert_eq!(device.count(&Effect::Abort(0)), 0);
    device.act(Event::Deadline { heard: 9_600 });
    assert_eq!(device.count(&Effect::Abort(0)), 1);
}

#[test]
fn one_that_is_not_ready_in_time_is_killed_and_raises_no_floor() {
    let slow = Component { readiness: NOTIFIES, ..app("a", Package::Current) };
    let mut device = Device::new(setup(vec![slow]));
    device.programs[0].ready_after = Some(1_001);
    device.run_until(1_200);
    assert_eq!(
        device.transcript(),
        [
            "0.000 a started",
            "1.000 a was not ready in time: killed",
            "1.005 a ended with signal 9, memory peak 640 KiB",
            "1.005 a will be started again in 100 ms",
            "1.105 a started",
        ]
    );
    assert_eq!(device.count(&Effect::RaiseFloor(0)), 0);
    device.programs[0].ready_after = Some(900);
    device.run_until(20_000);
    assert!(device.transcript().iter().any(|line| line.ends_with(" a is ready")));
    assert_eq!(device.count(&Effect::RaiseFloor(0)), 1, "from when it is ready on");
}

/// A slot on trial with one service that decides about it, and an app that does not.
fn on_trial() -> Setup {
    let critical = Component { readiness: NOTIFIES, critical: true, ..component("network") };
    let setup = setup(vec![critical, app("hello", Package::Current)]);
    Setup { slot_on_trial: true, ..setup }
}

#[test]
fn a_slot_on_trial_whose_critical_component_is_not_ready_fails_and_is_not_committed() {
    let mut device = Device::new(on_trial());
    device.run_until(600_000);
    assert!(device.has_ended);
    let said = device.transcript();
    let end = said.iter().position(|line| line.contains("stopping all components")).unwrap();
    assert_eq!(
        said[end..],
        [
            "36.000 stopping all components",
            "36.000 not healthy: network does not stay ready",
            "36.005 hello ended with exit code 0, memory peak 640 KiB",
        ],
        "{said:#?}"
    );
    assert_eq!(device.count(&Effect::CommitSlot), 0);
    assert_eq!(device.count(&Effect::RenewTries), 0, "a release on trial gets no tries back");
    assert_eq!(device.done().last(), Some(&Effect::End(End::Reboot)));
}

#[test]
fn a_good_slot_that_is_not_healthy_keeps_its_tries() {
    let mut device = Device::new(Setup { slot_on_trial: false, ..on_trial() });
    device.run_until(600_000);
    assert!(device.has_ended);
    assert_eq!(device.count(&Effect::RenewTries), 1);
    assert_eq!(device.count(&Effect::CommitSlot), 0);
}

#[test]
fn a_slot_on_trial_that_is_healthy_is_committed_with_all_that_came_with_it() {
    let mut setup = on_trial();
    setup.components.push(app("new", Package::OnTrial));
    let mut device = Device::new(setup);
    device.programs[0].ready_after = Some(300);
    device.run_until(60_000);
    assert_eq!(
        device.transcript(),
        [
            "0.000 network started",
            "0.000 hello started",
            "0.000 new started",
            "0.300 network is ready",
            "5.300 slot a committed",
            "5.300 slot=a phase=committed",
            "5.300 new: its new package is committed",
        ]
    );
    assert_eq!(
        device.done()[2..],
        [
            Effect::RaiseFloor(1),
            Effect::Start(2),
            Effect::CommitSlot,
            Effect::CommitClock,
            Effect::CommitPackage(2),
            Effect::RaiseFloor(2),
            Effect::RenewBootLoader,
        ]
    );
    // The watchdog is petted behind each package.
    let committed = device.effects.iter().position(|(_, e)| *e == Effect::CommitPackage(2));
    assert_eq!(device.effects[committed.unwrap() + 2].1, Effect::Pet);
    assert!(!device.has_ended);
}

#[test]
fn an_app_on_trial_decides_and_is_given_up_where_it_fails() {
    let trial = Component { readiness: NOTIFIES, ..app("new", Package::OnTrial) };
    let mut device = Device::new(setup(vec![component("other"), trial.clone()]));
    device.run_until(600_000);
    let said = device.transcript().join("\n");
    assert!(said.contains("not healthy: new does not stay ready\n"), "{said}");
    assert!(said.contains(" new: its new package is given up\n"), "{said}");
    assert_eq!(device.count(&Effect::GiveUpPackage(1)), 1);
    assert_eq!(device.count(&Effect::RaiseFloor(1)), 0);
    // One that cannot be removed is said.
    let mut device = Device::new(setup(vec![component("other"), trial]));
    device.media.give_up_fails = Some("read-only".to_owned());
    device.run_until(600_000);
    let said = device.transcript().join("\n");
    assert!(said.contains(" new: cannot remove its new package: read-only\n"), "{said}");
    assert!(device.has_ended);
}

#[test]
fn an_app_that_was_on_trial_does_not_decide_any_more() {
    let mut device = Device::new(setup(vec![app("new", Package::OnTrial)]));
    device.run_until(10_000);
    assert_eq!(device.count(&Effect::CommitPackage(0)), 1);
    // From now on it is never ready, which is nobody's business but its own.
    device.unstartable = vec![(0, "gone".to_owned())];
    device.at(10_001, Event::StubEnded { component: 0, exit: Exit::Signal(11) });
    device.run_until(600_000);
    assert!(!device.has_ended, "{:#?}", device.transcript());
}

#[test]
fn a_package_that_cannot_be_committed_stays_on_trial_and_raises_no_floor() {
    let mut device = Device::new(setup(vec![app("new", Package::OnTrial)]));
    device.media.commit_fails = Some("no room".to_owned());
    device.run_until(30_000);
    let said = device.transcript();
    assert_eq!(said.last().unwrap(), "5.000 new: cannot commit its new package: no room");
    assert_eq!(device.count(&Effect::RaiseFloor(0)), 0);
    assert_eq!(device.count(&Effect::CommitPackage(0)), 1, "it is not tried in each turn");
}

fn damaged(package: Package, media: Media) -> Device {
    let mut device = Device::new(setup(vec![component("other"), app("a", package)]));
    device.media = media;
    device.damaged = vec![1];
    device.programs[1].ends = Some((500, Exit::Signal(7)));
    device.run_until(100_000);
    device
}

#[test]
fn a_damaged_package_gives_way_to_the_one_before() {
    let device = damaged(Package::Current, Media::default());
    assert_eq!(
        device.transcript()[2..],
        [
            "0.500 a ended with signal 7, memory peak 640 KiB",
            "0.500 a: its package is damaged; it is not started again",
            "0.500 a: its previous package takes its place",
            "0.500 stopping all components",
            "0.505 other ended with exit code 0, memory peak 640 KiB",
        ]
    );
    assert_eq!(device.done().last(), Some(&Effect::End(End::Reboot)));
    assert_eq!(device.count(&Effect::Start(1)), 1);
}

#[test]
fn a_damaged_package_without_one_before_stays_and_its_app_is_not_started_again() {
    let refused = Some("there is no package /apps/x".to_owned());
    let device = damaged(Package::Current, Media { previous_refused: refused, ..Media::default() });
    assert_eq!(
        device.transcript()[2..5],
        [
            "0.500 a ended with signal 7, memory peak 640 KiB",
            "0.500 a: its package is damaged; it is not started again",
            "0.500 a: cannot fall back to its previous package: there is no package /apps/x",
        ]
    );
    assert!(!device.has_ended, "all others go on");
    assert_eq!(device.state.component(1), Some(State::Stopped));
    assert_eq!(device.count(&Effect::Start(1)), 1);
    assert_eq!(device.count(&Effect::FallBack(1)), 0);
}

#[test]
fn a_damaged_package_whose_place_cannot_be_taken_ends_nothing() {
    let fails = Some("read-only".to_owned());
    let device = damaged(Package::Current, Media { fall_back_fails: fails, ..Media::default() });
    let said = device.transcript();
    assert_eq!(said[4], "0.500 a: cannot fall back to its previous package: read-only");
    assert!(!device.has_ended);
}

#[test]
fn a_damaged_package_on_trial_is_given_up_and_no_older_one_is_looked_for() {
    let device = damaged(Package::OnTrial, Media::default());
    assert_eq!(
        device.transcript()[2..6],
        [
            "0.500 a ended with signal 7, memory peak 640 KiB",
            "0.500 a: its package is damaged; it is not started again",
            "0.500 a: its new package is given up",
            "0.500 stopping all components",
        ]
    );
    assert_eq!(device.count(&Effect::CheckPrevious(1)), 0);
    assert!(device.has_ended);
}

#[test]
fn the_first_end_that_is_asked_for_decides_and_the_second_is_answered_too() {
    let mut device = Device::new(setup(vec![component("a"), component("manager")]));
    device.programs[0].ignores_terminate = true;
    device.at(1_000, Event::EndSignalled { end: End::PowerOff });
    device.at(2_000, Event::EndAsked { asking: 1, end: End::Reboot });
    device.programs[1].ignores_terminate = true;
    device.run_until(60_000);
    assert_eq!(
        device.transcript()[2..],
        [
            "1.000 stopping all components",
            "2.000 manager asks for Reboot",
            "4.000 a did not end when asked: killed",
            "4.000 manager did not end when asked: killed",
            "4.005 a ended with signal 9, memory peak 640 KiB",
            "4.005 manager ended with signal 9, memory peak 640 KiB",
        ]
    );
    assert_eq!(device.now, 1_000 + STOP_GRACE_MS + 5);
    assert_eq!(device.count(&Effect::Reply(1, Reply::Accepted)), 1);
    assert_eq!(device.done().last(), Some(&Effect::End(End::PowerOff)));
}

#[test]
fn an_end_that_takes_too_long_is_left_to_the_watchdog() {
    let mut device = Device::new(setup(vec![component("a")]));
    device.run_until(1_000);
    device.act(Event::EndSignalled { end: End::Reboot });
    assert!(device.state.is_alive(1_000 + END_WITHIN_MS));
    assert!(!device.state.is_alive(1_001 + END_WITHIN_MS));
}

#[test]
fn a_commit_that_cannot_be_saved_is_said_and_not_tried_again() {
    let mut device = Device::new(on_trial());
    device.programs[0].ready_after = Some(300);
    device.media.slot_fails = Some("no copy of the boot state can be written".to_owned());
    device.run_until(60_000);
    assert_eq!(
        device.transcript()[3..],
        ["5.300 cannot commit the slot: no copy of the boot state can be written"]
    );
    assert_eq!(device.count(&Effect::CommitSlot), 1);
    assert_eq!(
        device.count(&Effect::RenewBootLoader),
        0,
        "only a good slot brings its boot loader"
    );
    // The boot was healthy all the same; what fails from now on gets no tries back.
    device.unstartable = vec![(0, "gone".to_owned())];
    device.at(60_001, Event::StubEnded { component: 0, exit: Exit::Code(1) });
    device.run_until(600_000);
    assert!(device.has_ended);
    assert_eq!(device.count(&Effect::RenewTries), 0);
}

#[test]
fn a_slot_on_trial_whose_update_agent_does_not_agree_fails() {
    let mut setup = on_trial();
    setup.components.push(Component { agrees: true, ..component("update") });
    let mut device = Device::new(setup.clone());
    device.programs[0].ready_after = Some(300);
    device.run_until(600_000);
    let said = device.transcript();
    assert!(
        said.contains(&"300.000 not healthy: update does not agree to the release".to_owned()),
        "{said:#?}"
    );
    assert_eq!(device.count(&Effect::CommitSlot), 0);
    // One that agrees late still does.
    let mut device = Device::new(setup.clone());
    device.programs[0].ready_after = Some(300);
    device.at(200_000, Event::Agreed);
    device.run_until(600_000);
    assert!(device.transcript().contains(&"200.000 slot a committed".to_owned()));
    assert!(!device.has_ended);
    // And a slot that has been good before is not asked about.
    let mut device = Device::new(Setup { slot_on_trial: false, ..setup });
    device.programs[0].ready_after = Some(300);
    device.run_until(10_000);
    assert!(device.transcript().contains(&"5.300 slot a committed".to_owned()));
}

#[test]
fn a_storm_of_restarts_that_are_asked_for_is_one_start_for_each_end() {
    let manager = component("manager");
    let mut device = Device::new(setup(vec![manager, component("a")]));
    for at in 0..1_000 {
        let request = ManageRequest::Restart("a".to_owned());
        device.at(1_000 + at, Event::Manage { asking: 0, request });
    }
    device.run_until(10_000);
    assert_eq!(device.count(&Effect::Reply(0, Reply::Accepted)), 1_000);
    let (starts, ends) = (device.count(&Effect::Start(1)), device.count(&Effect::Terminate(1)));
    assert_eq!(starts, ends + 1);
    assert!(starts <= 1 + 1_000 / 5, "{starts} starts");
    assert_eq!(device.state.component(1), Some(State::Ready));
    assert!(!device.transcript().iter().any(|line| line.contains("crash loop")));
}

#[test]
fn a_component_is_stopped_and_started_by_name() {
    let once = Component { restart: RestartPolicy::Never, ..component("a") };
    let mut device = Device::new(setup(vec![component("manager"), once]));
    let asks = |request| Event::Manage { asking: 0, request };
    device.at(1_000, asks(ManageRequest::Stop("a".to_owned())));
    device.at(2_000, asks(ManageRequest::Start("a".to_owned())));
    device.at(3_000, asks(ManageRequest::Start("b".to_owned())));
    device.run_until(4_000);
    assert_eq!(
        device.transcript()[2..],
        [
            "1.000 manager asks for Stop(\"a\")",
            "1.005 a ended with exit code 0, memory peak 640 KiB",
            "2.000 manager asks for Start(\"a\")",
            "2.000 a started",
            "3.000 manager asks for Start(\"b\")",
        ]
    );
    assert_eq!(device.count(&Effect::Reply(0, Reply::NotFound)), 1);
}

#[test]
fn nothing_is_started_once_the_system_ends() {
    let mut device = Device::new(setup(vec![component("manager"), component("a")]));
    device.programs[0] = Program { ignores_terminate: true, ..Program::default() };
    device.at(1_000, Event::ResetOrdered { partitions: "data".to_owned() });
    let request = ManageRequest::Restart("a".to_owned());
    device.at(1_500, Event::Manage { asking: 0, request });
    device.run_until(60_000);
    assert_eq!(
        device.transcript()[2..4],
        ["1.000 the owner resets the device: data", "1.000 stopping all components"]
    );
    assert_eq!(device.count(&Effect::Start(1)), 1);
    assert_eq!(device.count(&Effect::HurryWrites(1)), 1);
    assert!(device.has_ended);
}
