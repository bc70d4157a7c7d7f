//! What each rule finds, and what it does not.

use crate::scene::{
    BEGIN, CAMERA, DAY, HOUR, ONE, Scene, TWO, app, boot, clock, device, ended, refused,
    refused_at, traffic, update,
};
use holdfast_failure_reports::record::{Body, End, Outcome, Record, Refused, Reset, Where};
use holdfast_service_domain::detection::finding::{About, MAX_NAMED, Severity};
use holdfast_service_domain::detection::observation::{Event, Observation};
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::subject::{Network, Part};
use holdfast_service_domain::device::Finding;
use holdfast_types::Version;

#[test]
fn one_device_that_tries_32_addresses_at_3_ports_is_a_scan() {
    let mut scene = Scene::of(1000);
    scene.report(1, refused(23, 4));
    assert_eq!(scene.find(Rule::Scan), [], "16 addresses");
    scene.report(1, refused(2323, 4));
    let found = scene.find(Rule::Scan);
    assert_eq!((found.len(), found[0].severity), (1, Severity::Today));
    assert!(found[0].evidence.devices.contains(&device(1)));
    assert_eq!(found[0].evidence.destinations.len(), 2);
    assert_eq!(scene.find(Rule::Outbreak), [], "one device");
}

#[test]
fn many_ports_hours_granted_names_and_groups_are_no_scan() {
    let mut scene = Scene::of(1000);
    for port in 1..60 {
        scene.report(1, refused(port, 3));
    }
    assert_eq!(scene.find(Rule::Scan), [], "a peer of many");
    scene.report(2, refused_at(443, 7, Where::Public, true));
    scene.report(3, refused_at(5353, 7, Where::Multicast, false));
    scene.report(4, refused_at(80, 7, Where::Device, false));
    for hour in 0..24 {
        scene.report_at(5, hour * 3600, refused(100 + (hour as u16), 4));
    }
    assert_eq!(scene.find(Rule::Scan), []);
}

#[test]
fn nine_devices_of_9000_that_scan_the_same_port_are_an_outbreak_and_eight_are_not() {
    let mut scene = Scene::of(9000);
    for number in 0..8 {
        scene.report(number, refused(23, 6));
        scene.report(number, refused(2323, 6));
    }
    assert_eq!(scene.find(Rule::Outbreak), []);
    scene.report(8, refused(23, 6));
    let found = scene.find(Rule::Outbreak);
    assert_eq!((found.len(), found[0].severity, found[0].evidence.count), (1, Severity::Now, 9));
    let subject = found[0].key.about.subject().unwrap();
    assert_eq!((subject.part, subject.version), (Part::App(CAMERA), Some(TWO)));
    // Both ports are one finding.
    scene.report(8, refused(2323, 6));
    let found = scene.find(Rule::Outbreak);
    assert_eq!((found.len(), found[0].evidence.destinations.len()), (1, 2));
    scene.minutes(24 * 60 + 1);
    assert_eq!(scene.find(Rule::Outbreak), [], "a day is over");
}

#[test]
fn a_crash_with_a_new_destination_behind_it_on_three_devices_is_found() {
    let mut scene = Scene::of(9000);
    let mut with = |number, crash_s, refused_s, offset| {
        scene.report_at(number, crash_s, ended(End::Signal(11), offset));
        scene.report_at(number, refused_s, refused(23, 6));
        scene.find(Rule::ExploitThenCall)
    };
    assert_eq!(with(1, 1000, 1060, 0x100), []);
    assert_eq!(with(2, 1000, 1060, 0x200), [], "another crash");
    assert_eq!(with(3, 1000, 1601, 0x100), [], "too late");
    assert_eq!(with(4, 1000, 990, 0x100), [], "before");
    assert_eq!(with(5, 1000, 1600, 0x100), []);
    let found = with(6, 1000, 1000, 0x100);
    assert_eq!((found.len(), found[0].evidence.count), (1, 3));
    assert!(matches!(found[0].key.about, About::Crash(..)));
}

#[test]
fn what_a_component_tries_without_a_crash_is_not_called_after_one() {
    let mut scene = Scene::of(9000);
    for number in 0..20 {
        scene.report_at(number, 5, refused(123, 2));
        // It crashes later, and tries the same again.
        scene.report_at(number, 1000, ended(End::Signal(11), 0x100));
        scene.report_at(number, 1010, refused(123, 2));
    }
    assert_eq!(scene.find(Rule::ExploitThenCall), []);
    // On devices that crash at once, it is what others do without.
    for number in 20..30 {
        scene.report_at(number, 5, ended(End::Signal(11), 0x100));
        scene.report_at(number, 6, refused(123, 2));
    }
    assert_eq!(scene.find(Rule::ExploitThenCall), []);
}

#[test]
fn a_boot_between_crash_and_refusal_parts_them() {
    let mut scene = Scene::of(9000);
    for number in 0..5 {
        scene.report_at(number, 1000, ended(End::Signal(11), 0x100));
        scene.report_at(number, 5, boot(Reset::PowerOn));
        scene.report_at(number, 1100, refused(23, 6));
    }
    assert_eq!(scene.find(Rule::ExploitThenCall), []);
}

#[test]
fn a_refused_system_call_is_found_on_one_device_and_severe_on_two() {
    for end in [End::Sandbox, End::Verity] {
        let mut scene = Scene::of(9000);
        scene.report(1, ended(End::Signal(11), 0x100));
        assert_eq!(scene.find(Rule::Sandbox), []);
        scene.report(1, ended(end, 0x100));
        scene.report(1, ended(end, 0x200));
        assert_eq!(scene.find(Rule::Sandbox)[0].severity, Severity::SomeDay);
        scene.report(2, ended(end, 0x300));
        assert_eq!(scene.find(Rule::Sandbox)[0].severity, Severity::Now);
    }
}

#[test]
fn a_destination_is_new_for_a_day_and_usual_afterwards() {
    let mut scene = Scene::of(9000);
    for number in 0..4 {
        scene.report(number, refused(4444, 0));
    }
    scene.minutes(1);
    assert_eq!(scene.find(Rule::NewDestination), [], "four devices");
    scene.report(4, refused(4444, 0));
    let found = scene.find(Rule::NewDestination);
    assert_eq!((found.len(), found[0].severity), (1, Severity::SomeDay));
    for _ in 0..25 {
        for number in 0..40 {
            scene.report(number, refused(4444, 0));
        }
        scene.minutes(60);
    }
    assert_eq!(scene.find(Rule::NewDestination), [], "it is usual");
    for number in 0..40 {
        scene.report(number, refused_at(4444, 0, Where::Private, false));
    }
    assert_eq!(scene.find(Rule::NewDestination).len(), 1, "another kind of place");
}

#[test]
fn four_devices_cannot_make_a_destination_usual_beforehand() {
    let mut scene = Scene::of(9000);
    for _ in 0..10 * 24 {
        (0..4).for_each(|number| scene.report(number, refused(4444, 0)));
        scene.minutes(60);
    }
    scene.report(4, refused(4444, 0));
    assert_eq!(scene.find(Rule::NewDestination).len(), 1);
}

#[test]
fn traffic_is_a_flood_against_what_the_version_does_elsewhere() {
    let mut scene = Scene::of(9000);
    scene.report(1, traffic(5000));
    assert_eq!(scene.find(Rule::Flood), [], "nothing is known of it");
    for number in 0..5000 {
        scene.report(number + 10, traffic(4));
    }
    assert_eq!(scene.find(Rule::Flood)[0].evidence.count, 1);
    let mut scene = Scene::of(9000);
    for number in 0..1000 {
        scene.report(number, traffic(1));
    }
    scene.report(2000, traffic(9));
    assert_eq!(scene.find(Rule::Flood), [], "less than 10 MiB");
    scene.report(2001, traffic(11));
    assert_eq!(scene.find(Rule::Flood)[0].evidence.count, 1);
    // A version that few devices have is judged by what the app has done before.
    scene.population.add_app(CAMERA, ONE, 1);
    let Body::Traffic(of) = traffic(50) else { panic!("traffic") };
    let of = holdfast_failure_reports::record::Traffic { component: app(ONE), ..of };
    scene.report(3000, Body::Traffic(of));
    assert_eq!(scene.find(Rule::Flood).len(), 2);
}

#[test]
fn one_unknown_measurement_is_found() {
    for (finding, is_found) in [
        (Finding::MeasurementUnknown, true),
        (Finding::ClaimsDisagree, true),
        (Finding::ReleaseWithdrawn, false),
        (Finding::BelowLeastIndex, false),
        (Finding::DebugBuild, false),
        (Finding::SlotFailed, false),
        (Finding::KeyChanged, false),
    ] {
        let mut scene = Scene::of(9000);
        scene.found(1, finding);
        assert_eq!(scene.find(Rule::Measurement).len(), usize::from(is_found), "{finding:?}");
    }
}

#[test]
fn copies_are_found_by_kind_and_not_each_by_itself() {
    let mut scene = Scene::of(9000);
    scene.found(1, Finding::MeasurementUnknown);
    assert_eq!(scene.find(Rule::Clone), []);
    for number in 0..100 {
        scene.found(number, Finding::ReceiptForked);
    }
    scene.found(1, Finding::TpmClockWentBack);
    scene.found(1, Finding::KeyChanged);
    let found = scene.find(Rule::Clone);
    assert_eq!(found.len(), 3);
    let forked = found.iter().find(|it| it.key.about == About::Device(Finding::ReceiptForked));
    let evidence = &forked.unwrap().evidence;
    assert_eq!((evidence.count, evidence.devices.len()), (100, MAX_NAMED));
}

#[test]
fn one_refused_signature_is_found_and_expiry_when_many_have_it() {
    let mut scene = Scene::of(9000);
    for outcome in [Outcome::Committed, Outcome::Failed, Outcome::RefusedContent] {
        (0..500).for_each(|number| scene.report(number, update(outcome)));
    }
    for number in 0..89 {
        scene.report(number, update(Outcome::RefusedExpired));
    }
    (0..2).for_each(|number| scene.report(number, update(Outcome::RefusedRollback)));
    assert_eq!(scene.find(Rule::Rollback), []);
    scene.report(2, update(Outcome::RefusedRollback));
    scene.report(90, update(Outcome::RefusedExpired));
    scene.report(91, update(Outcome::RefusedSignature));
    let found: Vec<_> =
        scene.find(Rule::Rollback).into_iter().map(|it| (it.severity, it.evidence.count)).collect();
    assert_eq!(found, [(Severity::Now, 1), (Severity::Today, 90), (Severity::Today, 3)]);
}

#[test]
fn a_release_that_fails_is_found_by_wilsons_bound() {
    for (running, failed, is_found) in [
        (0, 2, false),
        (0, 3, true),
        (20, 3, true),
        (200, 3, false),
        (200, 12, true),
        (9000, 150, false),
    ] {
        let mut scene = Scene::of(9000);
        let third = Version { major: 3, ..TWO };
        scene.population.add_app(CAMERA, third, running);
        for number in 0..failed {
            let Body::Update(of) = update(Outcome::FellBack) else { panic!("an update") };
            let of = holdfast_failure_reports::record::Update { to: third, ..of };
            scene.report(number, Body::Update(of));
        }
        let found = scene.find(Rule::Fallback);
        assert_eq!(found.len(), usize::from(is_found), "{failed} and {running}");
    }
}

#[test]
fn devices_that_boot_again_and_again_are_found() {
    let mut scene = Scene::of(50);
    for _ in 0..2 {
        for number in 0..5 {
            scene.report(number, boot(Reset::KernelPanic));
        }
    }
    for _ in 0..9 {
        (10..50).for_each(|number| scene.report(number, boot(Reset::Orderly)));
        (10..50).for_each(|number| scene.report(number, boot(Reset::PowerOn)));
    }
    assert_eq!(scene.find(Rule::BootLoop), []);
    for number in 0..5 {
        scene.report(number, boot(Reset::Watchdog));
    }
    let found = scene.find(Rule::BootLoop);
    assert_eq!((found.len(), found[0].evidence.count), (1, 5));
}

/// A week in which 100 devices check in each hour, and three are missing.
fn week() -> Scene {
    let mut scene = Scene::of(2400);
    for hour in 0..7 * 24 {
        for number in 0..100 {
            scene.event(hour * 100 + number, Event::CheckedIn);
        }
        for number in 0..3 {
            scene.event(number, Event::Missed);
        }
        scene.minutes(60);
        assert_eq!(scene.find(Rule::Silence), [], "hour {hour}");
    }
    scene
}

#[test]
fn more_missing_devices_than_chance_explains_are_silence() {
    let mut scene = week();
    scene.minutes(1);
    // 17 of 103 are five deviations above three: 2 (sqrt 18 - sqrt 3) > 5.
    for number in 0..17 {
        scene.event(100 + number, Event::Missed);
    }
    for number in 0..86 {
        scene.event(1000 + number, Event::CheckedIn);
    }
    assert_eq!(scene.find(Rule::Silence), []);
    scene.event(200, Event::Missed);
    scene.event(201, Event::Missed);
    let found = scene.find(Rule::Silence);
    assert_eq!((found.len(), found[0].severity), (1, Severity::Today));
    assert_eq!(found[0].evidence.count, 19);
    for number in 0..3 {
        let Body::Update(of) = update(Outcome::FellBack) else { panic!("an update") };
        let to = Version { major: 3, ..TWO };
        scene.report(number, Body::Update(holdfast_failure_reports::record::Update { to, ..of }));
    }
    assert_eq!(scene.find(Rule::Silence)[0].severity, Severity::Now, "a release fails");
}

#[test]
fn a_service_that_was_away_is_found_as_itself() {
    let mut scene = week();
    scene.now += 26 * HOUR;
    scene.minutes(1);
    let found = scene.find(Rule::Silence);
    assert_eq!((found.len(), &found[0].key.about), (1, &About::Service));
    assert!(found[0].evidence.last - found[0].evidence.first > 26 * HOUR);
}

#[test]
fn clocks_that_go_back_or_ahead_are_found_and_those_that_were_behind_are_not() {
    let mut scene = Scene::of(1000);
    for number in 0..200 {
        // A floor, two days old.
        scene.report(number, clock(2 * 86_400, false));
        scene.report(number, clock(-3600, false));
    }
    assert_eq!(scene.find(Rule::Clock), []);
    scene.report(1, clock(-3601, false));
    scene.report(2, clock(10, true));
    assert_eq!(scene.find(Rule::Clock), []);
    let at = Some(BEGIN + 2 * HOUR);
    let record = Record { sequence: 9, at, uptime_s: 5, body: boot(Reset::PowerOn) };
    scene.event(3, Event::Recorded(Box::new(record)));
    assert_eq!(scene.find(Rule::Clock)[0].evidence.count, 3);
    let mut larger = Scene::of(10_000);
    (0..9).for_each(|number| larger.report(number, clock(10, true)));
    assert_eq!(larger.find(Rule::Clock), [], "one in a thousand");
    larger.report(9, clock(10, true));
    assert_eq!(larger.find(Rule::Clock).len(), 1);
}

#[test]
fn a_network_that_enrols_in_vain_is_found_within_an_hour() {
    let mut scene = Scene::of(10);
    let network = |text: &str| Network::of(text.parse().unwrap());
    let failed = |scene: &mut Scene, text| {
        let (at, network) = (scene.now, network(text));
        scene.observe(&Observation::EnrolmentFailed { at, network, times: 1 });
    };
    for _ in 0..20 {
        failed(&mut scene, "192.0.2.1");
        failed(&mut scene, "198.51.100.1");
        scene.minutes(3);
    }
    assert_eq!(scene.find(Rule::Enrol), []);
    failed(&mut scene, "192.0.2.77");
    failed(&mut scene, "192.0.2.78");
    let found = scene.find(Rule::Enrol);
    assert_eq!(found.len(), 1);
    assert!(found[0].evidence.networks.iter().eq([&network("192.0.2.0")]));
    scene.minutes(61);
    assert_eq!(scene.find(Rule::Enrol), []);
}

#[test]
fn a_component_that_nobody_has_attested_is_one_subject() {
    let mut scene = Scene::of(3000);
    for number in 0..9u32 {
        let Body::Refused(of) = refused(23, 6) else { panic!("refused") };
        let version = Version { patch: number + 1, ..TWO };
        scene.report(number, Body::Refused(Refused { component: app(version), ..of }));
    }
    let found = scene.find(Rule::Outbreak);
    assert_eq!((found.len(), found[0].evidence.count), (1, 9), "versions that are made up");
    assert_eq!(found[0].key.about.subject().unwrap().version, None);
}

#[test]
fn a_day_after_everything_no_rule_finds_anything() {
    let mut scene = Scene::of(100);
    for number in 0..10 {
        scene.report(number, ended(End::Sandbox, 1));
        scene.report(number, refused(23, 9));
        scene.report(number, update(Outcome::RefusedSignature));
        scene.report(number, clock(0, true));
        scene.found(number, Finding::ReceiptForked);
        scene.found(number, Finding::MeasurementUnknown);
    }
    let found =
        |scene: &Scene| Rule::ALL.into_iter().map(|rule| scene.find(rule).len()).sum::<usize>();
    assert!(found(&scene) >= 7, "{}", found(&scene));
    scene.minutes(DAY / 60 + 30);
    assert_eq!(found(&scene), 0);
    assert_eq!(scene.window.entries(), 0, "nothing is kept");
}
