//! A group of devices and one deployment, kept as the store keeps them, under any interleaving of what may happen.

use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::deployment::order::{Frozen, Place};
use holdfast_service_domain::deployment::plan::{Plan, Size, Stage, allowance};
use holdfast_service_domain::deployment::progress::{Alarms, Due, due, has_succeeded, may_begin};
use holdfast_service_domain::deployment::slot::{Outcome, Sighting, Slot, Tallies, Tally};
use holdfast_service_domain::deployment::state::{
    Cause, Command, Deployment, Event, Hold, Progress, State,
};
use holdfast_service_domain::deployment::why::{Facts, may_be_granted, why_not};
use holdfast_service_domain::person::By;
use proptest::prelude::*;
use std::collections::BTreeMap;

const DEVICES: u8 = 60;

fn device(number: u8) -> DeviceId {
    DeviceId([number; 32])
}

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    CheckIn(u8, Sighting),
    Person(Command),
    Pass(u64),
    Off(bool),
    Crash(u64),
    Threat,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sighting = prop_oneof![
        3 => Just(Sighting::Other { has_fallen_back: false }),
        1 => Just(Sighting::Other { has_fallen_back: true }),
        2 => Just(Sighting::Target { is_committed: false, settles: false }),
        4 => Just(Sighting::Target { is_committed: true, settles: false }),
        1 => Just(Sighting::Doubted),
    ];
    let who = prop_oneof![Just(By::named("ole")), Just(By::named("ines"))];
    let approve = (who, any::<bool>()).prop_map(|(by, is_production)| Command::Approve {
        by,
        is_production,
        another_runs: false,
    });
    let person = prop_oneof![
        4 => approve,
        2 => Just(Command::Pause),
        3 => Just(Command::Resume { another_runs: false }),
        1 => Just(Command::Halt),
        1 => Just(Command::Withdraw),
    ];
    let step = prop_oneof![
        20 => (0..DEVICES, sighting).prop_map(|(number, sighting)| Step::CheckIn(number, sighting)),
        3 => person.prop_map(Step::Person),
        4 => (0u64..40_000).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Off),
        1 => (0u64..4).prop_map(Step::Crash),
        1 => Just(Step::Threat),
    ];
    proptest::collection::vec(step, 0..250)
}

/// The stage on whose list a device is: of the first stage those from 50 on, of the second three more.
fn listed(number: u8) -> Option<u16> {
    match number {
        50.. => Some(0),
        20..23 => Some(1),
        _ => None,
    }
}

struct Group {
    plan: Plan,
    deployment: Deployment,
    slots: BTreeMap<u8, Slot>,
    /// The stage in which each slot was given.
    stages: BTreeMap<u8, u16>,
    counted: Tallies,
    is_off: bool,
    alarms: Alarms,
    now: u64,
}

impl Group {
    fn new() -> Self {
        Self::of(&[Size::Share(100), Size::Share(500), Size::Share(1000)])
    }

    fn with_lists() -> Self {
        Self::of(&[Size::Listed(10), Size::Listed(3), Size::Share(500), Size::Share(1000)])
    }

    fn of(sizes: &[Size]) -> Self {
        let stages = sizes.iter().map(|size| Stage { size: *size, soak_s: 3600 });
        Self {
            plan: Plan::new(stages.collect(), 500).unwrap(),
            deployment: Deployment::draft(By::named("ole"), true, 0, 1000),
            slots: BTreeMap::new(),
            stages: BTreeMap::new(),
            counted: Tallies::default(),
            is_off: false,
            alarms: Alarms::default(),
            now: 1000,
        }
    }

    fn facts(&self, number: u8) -> Facts {
        Facts {
            is_update_on: !self.is_off,
            place: self.place(number),
            is_there: false,
            has_component: true,
            is_settled: true,
            outcome: self.slots.get(&number).map(|slot| slot.outcome),
            seen_at: self.now,
            waits_for_window: false,
            said: None,
        }
    }

    fn set(&mut self, number: u8, slot: Slot) {
        let before = self.slots.insert(number, slot);
        let before = before.map_or_else(Tally::default, |before| Tally::of(&before));
        let moved = Tally::of(&slot).minus(before);
        self.counted.all = self.counted.all.plus(moved);
        if *self.stages.entry(number).or_insert(self.deployment.stage) == self.deployment.stage {
            self.counted.stage = self.counted.stage.plus(moved);
        }
    }

    fn check_in(&mut self, number: u8, sighting: Sighting) {
        let next_at = self.now + 86_400;
        if let Some(slot) = self.slots.get(&number).copied() {
            self.set(number, slot.seen(sighting, self.now, next_at));
            return;
        }
        let granted = u64::try_from(self.slots.len()).unwrap();
        let may = may_be_granted(&self.deployment, &self.facts(number)).is_ok();
        if may && self.deployment.grants() && granted < self.deployment.frozen.allowance {
            self.set(number, Slot::grant(self.now, next_at));
        }
    }

    fn place(&self, number: u8) -> Place {
        Place::in_plan(&self.plan, "d1", &device(number), listed(number))
    }

    fn freeze(&self, stage: u16) -> Frozen {
        let places = (0..DEVICES).map(|number| self.place(number));
        let given = u64::try_from(self.slots.len()).unwrap();
        let counted = Frozen::count(places.collect(), &self.plan, stage, given);
        assert!(may_begin(&self.plan, stage, &counted) || given >= counted.size());
        counted
    }

    /// As the store has it: nobody waits for slots that were forgiven.
    fn waited_for(&self) -> Deployment {
        self.deployment.waited_for(u64::try_from(self.slots.len()).unwrap(), &self.counted)
    }

    /// 98 of 100 of the very stage that is over, by its slots and no counter.
    fn assert_stage_has_succeeded(&self) {
        let of_stage = |number: &u8| self.stages.get(number) == Some(&self.deployment.stage);
        let slots = self.slots.iter().filter(|(number, _)| of_stage(number));
        let stage = slots.fold(Tally::default(), |sum, (_, slot)| sum.plus(Tally::of(slot)));
        assert_eq!(stage, self.counted.stage, "counters are what rows say");
        assert!(stage.committed * 1000 >= stage.granted * 980, "{stage:?}");
        assert!(
            has_succeeded(&stage, self.waited_for().frozen.own_size(), &self.plan),
            "{stage:?}"
        );
    }

    fn tend(&mut self) {
        let now = self.now;
        for number in 0..DEVICES {
            if let Some(slot) = self.slots.get(&number).copied() {
                self.set(number, slot.fall_silent(now));
            }
        }
        while let Some(due) = due(&self.waited_for(), &self.plan, &self.counted, self.alarms, now) {
            let event = match due {
                Due::Halt(cause) => Event::Halt(cause),
                Due::Begin => Event::Begin(self.freeze(0)),
                Due::Soak => Event::Soak,
                Due::Advance => Event::Advance(self.freeze(self.deployment.stage + 1)),
                Due::Finish => Event::Finish,
            };
            if let Event::Advance(_) | Event::Finish = event {
                self.assert_stage_has_succeeded();
            }
            self.deployment = self.deployment.event(&self.plan, &event, now).unwrap();
            if let Event::Begin(_) | Event::Advance(_) = event {
                self.counted.stage = Tally::default();
            }
        }
    }

    fn person(&mut self, command: &Command) {
        let was_halted = matches!(self.deployment.hold, Hold::Halted(_));
        let Ok(next) = self.deployment.command(command, self.now) else { return };
        self.deployment = next;
        if was_halted && matches!(command, Command::Resume { .. }) {
            self.alarms = Alarms::default();
            for number in 0..DEVICES {
                if let Some(slot) = self.slots.get(&number).copied()
                    && matches!(
                        slot.outcome,
                        Outcome::FellBack | Outcome::Refused | Outcome::Silent
                    )
                {
                    self.set(number, Slot { is_forgiven: true, ..slot });
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_more_are_granted_than_the_stage_allows_and_nobody_new_while_it_is_held(steps in steps(), has_lists in any::<bool>()) {
        let mut group = if has_lists { Group::with_lists() } else { Group::new() };
        for step in steps {
            let before = group.deployment.clone();
            let slots = group.slots.len();
            let was_off = group.is_off;
            match step.clone() {
                Step::CheckIn(number, sighting) => group.check_in(number, sighting),
                Step::Person(command) => group.person(&command),
                Step::Pass(seconds) => group.now += seconds,
                Step::Off(off) => group.is_off = off,
                Step::Crash(devices) => group.alarms.crashed = devices,
                Step::Threat => group.alarms.is_threatened = true,
            }
            let granted = u64::try_from(group.slots.len()).unwrap();
            if group.slots.len() > slots {
                prop_assert!(before.grants() && !was_off, "{step:?} {before:?}");
                let most = match (group.plan.stage(before.stage).unwrap().size, before.stage) {
                    (Size::Share(share), _) => allowance(DEVICES.into(), share),
                    (Size::Listed(_), 0) => 10,
                    (Size::Listed(_), _) => 13,
                };
                prop_assert!(granted <= most, "{before:?}");
                // Whoever is on a list has it before who is on none.
                let last = group.slots.keys().map(|number| listed(*number).unwrap_or(u16::MAX)).max();
                prop_assert!(!has_lists || before.stage > 1 || last <= Some(before.stage), "{before:?}");
            }
            group.tend();
            // Halted stays halted, and withdrawn withdrawn, whatever else happens.
            if matches!(before.hold, Hold::Halted(_)) && before.is_on_its_way() {
                let by_person = matches!(step, Step::Person(Command::Resume { .. } | Command::Withdraw));
                prop_assert!(by_person || group.deployment == before, "{step:?}");
            }
            if before.progress == Progress::Withdrawn {
                prop_assert_eq!(&group.deployment, &before);
            }
            if before.hold == Hold::Paused && before.is_on_its_way() {
                let halted = matches!(group.deployment.hold, Hold::Halted(_));
                prop_assert!(halted || group.deployment.hold == Hold::Paused || matches!(step, Step::Person(_)));
            }
            // Counters are what rows say.
            let sum = group.slots.values().fold(Tally::default(), |sum, slot| sum.plus(Tally::of(slot)));
            prop_assert_eq!(sum, group.counted.all);
            // No draft of a production group was approved by who has drafted it.
            prop_assert!(group.deployment.approved_by.as_deref() != Some("ole"));
            prop_assert!(group.deployment.progress == Progress::Draft
                || group.deployment.progress == Progress::Withdrawn
                || group.deployment.approved_by.is_some());
            // Who has the release is told nothing, and of everybody else there is an answer.
            for number in 0..DEVICES {
                let facts = group.facts(number);
                let has = facts.outcome == Some(Outcome::Committed);
                prop_assert_eq!(why_not(&group.deployment, granted, &facts).is_none(), has);
            }
        }
    }

    #[test]
    fn a_good_release_reaches_every_device_and_a_bad_one_stops(bad_from in 0i32..=60, seed in any::<u64>()) {
        let mut group = Group::new();
        group.person(&Command::Approve { by: By::named("ines"), is_production: true, another_runs: false });
        let mut taken = 0i32;
        for round in 0..40u64 {
            group.tend();
            for turn in 0..DEVICES {
                let number = u8::try_from((u64::from(turn) * 7 + seed % 60) % 60).unwrap();
                let sighting = match group.slots.get(&number).map(|slot| slot.outcome) {
                    None => Sighting::Other { has_fallen_back: false },
                    Some(Outcome::Granted) if !group.deployment.serves() => {
                        // It may not take it any more.
                        Sighting::Other { has_fallen_back: false }
                    }
                    Some(Outcome::Granted) if taken >= bad_from => Sighting::Other { has_fallen_back: true },
                    Some(Outcome::Granted) => {
                        taken += 1;
                        Sighting::Target { is_committed: true, settles: false }
                    }
                    Some(Outcome::FellBack | Outcome::Refused) => Sighting::Other { has_fallen_back: false },
                    Some(_) => Sighting::Target { is_committed: true, settles: false },
                };
                group.check_in(number, sighting);
                group.tend();
            }
            group.now += 3600 * (1 + round % 3);
        }
        if bad_from >= 60 {
            prop_assert_eq!(group.deployment.state(), State::Done);
            prop_assert!(group.counted.all.committed >= 59, "the last takes it without a slot");
        } else if let Some(size) = [6, 30, 60].into_iter().find(|size| (1..=2).contains(&(size - bad_from))) {
            // Of the last of a stage: too few to stop it, and too many to go on without a person.
            prop_assert!(group.deployment.is_on_its_way() && group.deployment.hold == Hold::None);
            prop_assert_eq!(group.counted.all.failed, i64::from(size - bad_from));
        } else {
            prop_assert_eq!(group.deployment.state(), State::Halted);
            prop_assert_eq!(group.deployment.hold, Hold::Halted(Cause::Failures));
            prop_assert_eq!((group.counted.all.failed, group.counted.all.committed), (3, i64::from(bad_from)));
        }
    }
}
