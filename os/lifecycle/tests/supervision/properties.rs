//! What holds whatever happens, in whatever order.

use crate::device::{Device, component};
use holdfast_lifecycle::exit::Exit;
use holdfast_lifecycle::reducer::{Component, Effect, End, Event, Package, Setup, State};
use holdfast_lifecycle::slots::Slot;
use holdfast_sandbox::app_manifest::RestartPolicy;
use holdfast_sandbox::policy::Readiness;
use holdfast_sandbox::wire::ManageRequest;
use holdfast_types::Millis;
use proptest::prelude::*;

/// Components that there are in these tests; events name some beyond.
const COMPONENTS: usize = 3;

fn a_component() -> impl Strategy<Value = Component> {
    let readiness = prop_oneof![
        Just(Readiness::Started),
        (1u32..3_000).prop_map(|within_ms| Readiness::Notify { within_ms }),
    ];
    let restart = prop_oneof![
        Just(RestartPolicy::Always),
        Just(RestartPolicy::OnFailure),
        Just(RestartPolicy::Never),
    ];
    let package =
        prop_oneof![Just(None), Just(Some(Package::Current)), Just(Some(Package::OnTrial))];
    let watchdog = proptest::option::of(100u32..5_000);
    (readiness, restart, package, watchdog, any::<bool>(), any::<bool>()).prop_map(
        |(readiness, restart, package, watchdog_ms, critical, agrees)| Component {
            readiness,
            restart,
            package,
            watchdog_ms,
            critical,
            agrees,
            ..component("")
        },
    )
}

fn a_setup() -> impl Strategy<Value = Setup> {
    let components = proptest::collection::vec(a_component(), COMPONENTS);
    (components, any::<bool>()).prop_map(|(mut components, slot_on_trial)| {
        for (index, component) in components.iter_mut().enumerate() {
            component.name = format!("c{index}");
        }
        Setup { components, slot: Slot::B, slot_on_trial }
    })
}

fn an_event() -> impl Strategy<Value = Event> {
    let place = 0..COMPONENTS + 2;
    let error = || proptest::option::of(Just("it fails".to_owned()));
    let exit = prop_oneof![Just(Exit::Code(0)), Just(Exit::Code(1)), Just(Exit::Signal(9))];
    let end = prop_oneof![Just(End::Reboot), Just(End::PowerOff)];
    let named = place.clone().prop_map(|index| format!("c{index}"));
    let request = prop_oneof![
        named.clone().prop_map(ManageRequest::Start),
        named.clone().prop_map(ManageRequest::Stop),
        named.prop_map(ManageRequest::Restart),
    ];
    prop_oneof![
        6 => Just(Event::Deadline { heard: 0 }),
        4 => Just(Event::Judge { heard: 0 }),
        4 => place.clone().prop_map(|component| Event::Started { component }),
        1 => place.clone().prop_map(|component| Event::StartFailed {
            component,
            error: "it fails".to_owned(),
        }),
        4 => (place.clone(), any::<bool>(), any::<bool>()).prop_map(
            |(component, ready, watchdog)| Event::Notified { component, ready, watchdog }
        ),
        2 => (place.clone(), exit.clone())
            .prop_map(|(component, exit)| Event::StubEnded { component, exit }),
        2 => (place.clone(), exit, any::<bool>(), any::<bool>()).prop_map(
            |(component, exit, package_is_damaged, was_out_of_memory)| Event::Exited {
                component,
                exit,
                memory_peak_kib: 1,
                package_is_damaged,
                was_out_of_memory,
            }
        ),
        1 => (place.clone(), error())
            .prop_map(|(component, refusal)| Event::PreviousChecked { component, refusal }),
        1 => (place.clone(), error())
            .prop_map(|(component, error)| Event::FellBack { component, error }),
        1 => (place.clone(), error())
            .prop_map(|(component, error)| Event::PackageGivenUp { component, error }),
        1 => (place.clone(), error())
            .prop_map(|(component, error)| Event::PackageCommitted { component, error }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(good, saved)| Event::SlotCommitted {
            good,
            outcome: if saved { Ok("status".to_owned()) } else { Err("it fails".to_owned()) },
        }),
        2 => (place.clone(), request)
            .prop_map(|(asking, request)| Event::Manage { asking, request }),
        1 => (place, end.clone()).prop_map(|(asking, end)| Event::EndAsked { asking, end }),
        1 => end.prop_map(|end| Event::EndSignalled { end }),
        1 => Just(Event::Agreed),
        1 => Just(Event::ResetOrdered { partitions: "data".to_owned() }),
    ]
}

/// The component that an effect is done to.
fn place(effect: &Effect) -> Option<usize> {
    match effect {
        Effect::Start(component)
        | Effect::Kill(component)
        | Effect::Abort(component)
        | Effect::Terminate(component)
        | Effect::Collect { component, .. }
        | Effect::RecordEnd { component, .. }
        | Effect::HurryWrites(component)
        | Effect::RaiseFloor(component)
        | Effect::CommitPackage(component)
        | Effect::GiveUpPackage(component)
        | Effect::CheckPrevious(component)
        | Effect::FallBack(component)
        | Effect::Reply(component, _) => Some(*component),
        Effect::Log(..)
        | Effect::LogStatus(_)
        | Effect::Pet
        | Effect::CommitSlot
        | Effect::CommitClock
        | Effect::RenewBootLoader
        | Effect::RenewTries
        | Effect::End(_) => None,
    }
}

/// What an event brings along, at a time.
fn at(event: Event, now: Millis) -> Event {
    match event {
        Event::Deadline { .. } => Event::Deadline { heard: now },
        Event::Judge { .. } => Event::Judge { heard: now },
        event => event,
    }
}

proptest! {
    /// Events in no order that a device would bring: outcomes of what was never begun, of components that are not there.
    #[test]
    fn no_order_of_events_leads_astray(
        setup in a_setup(),
        events in proptest::collection::vec((an_event(), 0u64..3_000), 0..200),
    ) {
        let packages: Vec<_> = setup.components.iter().map(|c| c.package).collect();
        let mut state = State::new(setup, 0);
        let (mut now, mut commits) = (0, 0);
        // Between `Start` and the end of what came of it.
        let mut begun = [false; COMPONENTS];
        let mut ends = false;
        for (event, passed) in events {
            now += passed;
            let event = at(event, now);
            if let Event::Exited { component, .. } | Event::StartFailed { component, .. } = event
                && component >= COMPONENTS
            {
                prop_assert_eq!(state.step(event, now), []);
                continue;
            }
            let effects = state.step(event.clone(), now);
            ends |= effects.iter().any(|effect| matches!(effect, Effect::HurryWrites(_)));
            for effect in &effects {
                if let Some(component) = place(effect) {
                    prop_assert!(component < COMPONENTS, "{event:?}: {effect:?}");
                }
                match effect {
                    Effect::Start(component) => {
                        prop_assert!(!ends, "{event:?}: a start while the system ends");
                        prop_assert!(!begun[*component], "{event:?}: started twice");
                        begun[*component] = true;
                    }
                    Effect::Kill(component)
                    | Effect::Abort(component)
                    | Effect::Terminate(component) => {
                        prop_assert!(begun[*component], "{event:?}: {effect:?} of nothing");
                    }
                    Effect::CommitSlot => commits += 1,
                    Effect::CommitPackage(component)
                    | Effect::GiveUpPackage(component)
                    | Effect::RaiseFloor(component)
                    | Effect::CheckPrevious(component) => {
                        prop_assert!(packages[*component].is_some(), "{event:?}: {effect:?}");
                    }
                    Effect::End(_) => {
                        prop_assert!(ends && begun == [false; COMPONENTS], "{event:?}: too early");
                    }
                    _ => {}
                }
            }
            // The two ways in which what was begun is over.
            match event {
                Event::StartFailed { component, .. } if !effects.is_empty() => {
                    begun[component] = false;
                }
                Event::Exited { component, .. } if !effects.is_empty() => {
                    begun[component] = false;
                }
                _ => {}
            }
        }
        prop_assert!(commits <= 1, "a slot is committed once");
    }

    /// Whatever a device's programs do: it either runs or ends, and never sleeps past what is due.
    #[test]
    fn a_device_goes_on_or_ends(
        setup in a_setup(),
        programs in proptest::collection::vec(
            (
                proptest::option::of(1u64..4_000),
                proptest::option::of(50u64..6_000),
                proptest::option::of(1u64..50_000),
                any::<bool>(),
                any::<bool>(),
            ),
            COMPONENTS,
        ),
        asked in proptest::option::of(0u64..100_000),
    ) {
        let mut device = Device::new(setup);
        for (index, (ready, pings, ends, ignores, damaged)) in programs.into_iter().enumerate() {
            let program = &mut device.programs[index];
            program.ready_after = ready;
            program.pings_every = pings;
            program.ends = ends.map(|after| (after, Exit::Code(1)));
            program.ignores_terminate = ignores;
            if damaged {
                device.damaged.push(index);
            }
        }
        if let Some(asked) = asked {
            device.at(asked, Event::EndSignalled { end: End::PowerOff });
        }
        device.run_until(110_000);
        prop_assert!(device.has_ended || asked.is_none(), "{:#?}", device.transcript());
        prop_assert!(device.count(&Effect::CommitSlot) <= 1);
        for index in 0..COMPONENTS {
            let commits = device.count(&Effect::CommitPackage(index));
            let given_up = device.count(&Effect::GiveUpPackage(index));
            prop_assert!(commits <= 1 && given_up <= 1);
        }
        if let Some(at) = device.state.deadline(device.now).filter(|_| !device.has_ended) {
            prop_assert!(at >= device.now);
        }
    }
}

#[test]
fn events_are_data_that_a_log_can_hold() {
    let events = [
        Event::Exited {
            component: 1,
            exit: Exit::Signal(11),
            memory_peak_kib: 640,
            package_is_damaged: false,
            was_out_of_memory: false,
        },
        Event::SlotCommitted { good: true, outcome: Ok("slot=a".to_owned()) },
    ];
    let written = serde_json::to_string(&events).unwrap();
    assert_eq!(
        written,
        r#"[{"exited":{"component":1,"exit":{"signal":11},"memory_peak_kib":640,"package_is_damaged":false,"was_out_of_memory":false}},{"slot-committed":{"good":true,"outcome":{"Ok":"slot=a"}}}]"#
    );
    assert_eq!(serde_json::from_str::<Vec<Event>>(&written).unwrap(), events);
}
