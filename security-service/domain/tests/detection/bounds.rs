//! What devices and strangers choose makes nothing grow without bound, and hides nothing.

use crate::scene::{DAY, Scene, TWO, app, refused, traffic};
use holdfast_failure_reports::record::{
    Body, Component, End, Ended, Name, Outcome, Protocol, Refused, Update, Where,
};
use holdfast_service_domain::detection::observation::Observation;
use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::sightings::MAX_KEYS;
use holdfast_service_domain::detection::subject::Network;
use holdfast_types::{ComponentId, Version};

#[test]
fn a_hundred_devices_that_invent_everything_hide_no_outbreak_and_fill_no_memory() {
    let mut scene = Scene::of(9000);
    (0..9).for_each(|number| scene.report(number, refused(23, 6)));
    for number in 100..200u32 {
        for step in 0..400u32 {
            let invented = number * 1000 + step;
            let version = Version { patch: invented, ..TWO };
            let refused = |component| {
                Body::Refused(Refused {
                    component,
                    protocol: Protocol::Udp,
                    port: Some(invented as u16),
                    to: Where::Private,
                    count: 1,
                    addresses_log2: 7,
                    is_granted_name: false,
                })
            };
            scene.report(number, refused(app(version)));
            let name = Name::try_from(format!("x{invented}")).unwrap();
            scene.report(number, refused(Component::Service(name)));
            let update = Update {
                app: Some(ComponentId([step as u8 | 0x80; 16])),
                from: version,
                to: version,
                outcome: Outcome::RefusedSignature,
                fetched_bytes: 0,
            };
            scene.report(number, Body::Update(update));
            let end = End::Exit(step as u8);
            let ended = Ended {
                component: app(version),
                end,
                crash: None,
                panic: None,
                ran_s: 0,
                count: u32::MAX,
            };
            scene.report(number, Body::Ended(ended));
            scene.report(number, traffic(u64::from(step)));
        }
    }
    let entries = scene.window.entries();
    assert!(entries < 4 * 100 * 64 + 1000, "{entries}");
    assert!(scene.window.dropped() > 0);
    let found = scene.find(Rule::Outbreak);
    let camera = found.iter().find(|it| it.key.about.subject().unwrap().version == Some(TWO));
    assert_eq!(camera.unwrap().evidence.count, 9);
    // Whatever they invent, what is found of it are a few findings and not one for each.
    let all: usize = Rule::ALL.into_iter().map(|rule| scene.find(rule).len()).sum();
    assert!(all <= 2 * MAX_KEYS, "{all}");
    assert_eq!(scene.find(Rule::Rollback).len(), 1, "components that nobody has attested are one");
    scene.minutes(DAY / 60 + 30);
    assert_eq!(scene.window.entries(), 0);
}

#[test]
fn strangers_from_everywhere_fill_no_memory_and_hide_nobody_who_tries_more() {
    let mut scene = Scene::of(10);
    let mut failed = |network| {
        let at = scene.now;
        scene.observe(&Observation::EnrolmentFailed { at, network, times: 1 });
    };
    for _ in 0..30 {
        failed(Network::V4([192, 0, 2]));
    }
    for a in 0..=255 {
        for b in 0..=255 {
            failed(Network::V6([0x20, 1, 0xd, 0xb8, a, b]));
        }
    }
    assert!(scene.window.entries() <= 4096);
    assert_eq!(scene.find(Rule::Enrol).len(), 1);
}
