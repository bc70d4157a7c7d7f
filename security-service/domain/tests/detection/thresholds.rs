//! Every threshold has an effect: with one value something is found that with another is not.

use crate::scene::{Scene, TWO, boot, clock, ended, refused, traffic, update};
use holdfast_failure_reports::record::{Body, End, Outcome, Reset};
use holdfast_service_domain::detection::observation::{Event, Observation};
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::subject::Network;
use holdfast_service_domain::detection::thresholds::Thresholds;
use holdfast_service_domain::device::Finding;
use holdfast_types::Version;

fn of(devices: u32, act: impl FnOnce(&mut Scene)) -> Scene {
    let mut scene = Scene::of(devices);
    act(&mut scene);
    scene
}

fn each(devices: u32, body: impl Fn() -> Body) -> impl FnOnce(&mut Scene) {
    move |scene| (0..devices).for_each(|number| scene.report(number, body()))
}

fn exploited(devices: u32, after_s: u32) -> impl FnOnce(&mut Scene) {
    move |scene| {
        for number in 0..devices {
            scene.report_at(number, 100, ended(End::Signal(11), 1));
            scene.report_at(number, 100 + after_s, refused(23, 6));
        }
    }
}

fn fallen_back(devices: u32) -> impl FnOnce(&mut Scene) {
    move |scene| {
        let to = Version { major: 3, ..TWO };
        scene.population.add_app(crate::scene::CAMERA, to, 100);
        for number in 0..devices {
            let Body::Update(of) = update(Outcome::FellBack) else { panic!("an update") };
            let of = holdfast_failure_reports::record::Update { to, ..of };
            scene.report(number, Body::Update(of));
        }
    }
}

fn missing(missed: u32, checked_in: u32) -> impl FnOnce(&mut Scene) {
    move |scene| {
        (0..missed).for_each(|number| scene.event(number, Event::Missed));
        (0..checked_in).for_each(|number| scene.event(number, Event::CheckedIn));
    }
}

fn flood(scene: &mut Scene) {
    (0..300).for_each(|number| scene.report(number, traffic(4)));
    scene.report(400, traffic(60));
}

/// Each threshold, a value of it, a scene in which the number of detections is another than by default, and the rule.
fn rows() -> Vec<(&'static str, u32, Scene, Rule)> {
    let gap = |scene: &mut Scene| {
        scene.minutes(1);
        scene.now += 15 * 60;
        scene.minutes(1);
    };
    let strangers = |scene: &mut Scene| {
        let network = Network::V4([192, 0, 2]);
        (0..21).for_each(|_| {
            let at = scene.now;
            scene.observe(&Observation::EnrolmentFailed { at, network, times: 1 });
        });
    };
    let learned = |scene: &mut Scene| each(5, || refused(23, 0))(scene);
    let shared = |scene: &mut Scene| {
        exploited(3, 10)(scene);
        (10..13).for_each(|number| scene.report(number, refused(23, 6)));
    };
    vec![
        ("scan_addresses", 65, of(9000, each(1, || refused(23, 6))), Rule::Scan),
        (
            "scan_ports",
            1,
            of(9000, |scene| {
                scene.report(1, refused(23, 4));
                scene.report(1, refused(2323, 4));
            }),
            Rule::Scan,
        ),
        ("outbreak_addresses", 65, of(9000, each(9, || refused(23, 6))), Rule::Outbreak),
        ("outbreak_devices", 10, of(9000, each(9, || refused(23, 6))), Rule::Outbreak),
        ("outbreak_permille", 2, of(9000, each(9, || refused(23, 6))), Rule::Outbreak),
        ("exploit_devices", 4, of(9000, exploited(3, 10)), Rule::ExploitThenCall),
        ("exploit_within_s", 10, of(9000, exploited(3, 11)), Rule::ExploitThenCall),
        ("exploit_share_permille", 501, of(9000, shared), Rule::ExploitThenCall),
        ("sandbox_devices", 2, of(9000, each(1, || ended(End::Sandbox, 1))), Rule::Sandbox),
        ("sandbox_severe_devices", 3, of(9000, each(2, || ended(End::Sandbox, 1))), Rule::Sandbox),
        ("new_destination_devices", 6, of(9000, each(5, || refused(23, 0))), Rule::NewDestination),
        (
            "learning_days",
            30,
            of(9000, |scene| {
                scene.now -= 60;
                learned(scene)
            }),
            Rule::NewDestination,
        ),
        ("flood_mib", 60, of(9000, flood), Rule::Flood),
        ("flood_times_p99", 20, of(9000, flood), Rule::Flood),
        ("flood_samples", 400, of(9000, flood), Rule::Flood),
        (
            "measurement_devices",
            2,
            of(9000, |scene| scene.found(1, Finding::MeasurementUnknown)),
            Rule::Measurement,
        ),
        ("clone_devices", 2, of(9000, |scene| scene.found(1, Finding::KeyChanged)), Rule::Clone),
        (
            "rollback_signature_devices",
            2,
            of(9000, each(1, || update(Outcome::RefusedSignature))),
            Rule::Rollback,
        ),
        (
            "rollback_floor_devices",
            4,
            of(9000, each(3, || update(Outcome::RefusedRollback))),
            Rule::Rollback,
        ),
        (
            "rollback_expired_devices",
            4,
            of(10, each(3, || update(Outcome::RefusedExpired))),
            Rule::Rollback,
        ),
        (
            "rollback_expired_permille",
            11,
            of(9000, each(90, || update(Outcome::RefusedExpired))),
            Rule::Rollback,
        ),
        ("fallback_devices", 9, of(9000, fallen_back(8)), Rule::Fallback),
        ("fallback_permille", 50, of(9000, fallen_back(8)), Rule::Fallback),
        (
            "boot_loop_boots",
            4,
            of(20, |scene| (0..3).for_each(|_| each(3, || boot(Reset::Verity))(scene))),
            Rule::BootLoop,
        ),
        ("silence_deviations", 9, of(9000, missing(20, 80)), Rule::Silence),
        ("silence_permille", 60, of(9000, missing(20, 80)), Rule::Silence),
        ("silence_gap_minutes", 20, of(9000, gap), Rule::Silence),
        ("clock_devices", 4, of(100, each(3, || clock(-4000, false))), Rule::Clock),
        ("clock_permille", 2, of(9000, each(9, || clock(-4000, false))), Rule::Clock),
        ("clock_skew_s", 4000, of(100, each(3, || clock(-4000, false))), Rule::Clock),
        ("enrol_failures", 21, of(9000, strangers), Rule::Enrol),
    ]
}

#[test]
fn every_threshold_has_an_effect() {
    let rows = rows();
    let names: Vec<_> = rows.iter().map(|(name, ..)| *name).collect();
    let all: Vec<_> = Thresholds::ALL.iter().map(|threshold| threshold.name).collect();
    assert_eq!(names, all);
    for (name, value, scene, rule) in rows {
        let changed = Thresholds::default().with(name, value).unwrap();
        assert_eq!(changed.check(), Ok(()), "{name}");
        let severities = |thresholds: &Thresholds| -> Vec<_> {
            scene.find_with(rule, thresholds).into_iter().map(|it| it.severity).collect()
        };
        let (by_default, by_change) = (severities(&Thresholds::default()), severities(&changed));
        assert!(!by_default.is_empty(), "{name}: nothing is found by default");
        assert_ne!(by_default, by_change, "{name} = {value} has no effect");
        let of = Thresholds::ALL.iter().find(|threshold| threshold.name == name).unwrap();
        assert!(of.rules.contains(&rule), "{name} is not said to be of {rule:?}");
    }
}

#[test]
fn of_more_devices_more_have_to_try_a_destination() {
    let found = |devices, trying| {
        let scene = of(devices, each(trying, || refused(23, 0)));
        !scene.find_with(Rule::NewDestination, &Thresholds::default()).is_empty()
    };
    for (devices, least) in [(10, 5), (99_999, 5), (400_000, 9), (1_000_000, 15)] {
        assert!(found(devices, least), "{least} of {devices}");
        assert!(!found(devices, least - 1), "fewer than {least} of {devices}");
    }
}
