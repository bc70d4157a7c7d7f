//! The table of states: what leads where, what is refused, and at which number what halts.

use holdfast_service_domain::deployment::order::{Frozen, Place};
use holdfast_service_domain::deployment::plan::{Plan, Preset, Size, Stage};
use holdfast_service_domain::deployment::progress::{
    Alarms, Due, due, halts, has_succeeded, least_successes, most_failures, most_silent, says,
};
use holdfast_service_domain::deployment::slot::{
    LATE_S, Outcome, SILENT_S, Sighting, Slot, Tallies, Tally,
};
use holdfast_service_domain::deployment::state::{
    Cause, Command, Deployment, Event, Hold, Progress, Refusal, State,
};
use holdfast_service_domain::deployment::why::{Facts, WhyNot, why_not};
use holdfast_service_domain::person::By;

fn plan() -> Plan {
    let stage = |permille| Stage { size: Size::Share(permille), soak_s: 3600 };
    Plan::new(vec![stage(100), stage(1000)], 500).unwrap()
}

fn frozen(devices: u64, allowance: u64) -> Frozen {
    Frozen { devices, allowance, last: Place::LAST, given: 0 }
}

fn draft() -> Deployment {
    Deployment::draft(By::named("ole"), false, 5000, 1000)
}

fn approve(who: &str, is_production: bool, another_runs: bool) -> Command {
    Command::Approve { by: By::named(who), is_production, another_runs }
}

const RESUME: Command = Command::Resume { another_runs: false };

fn approved() -> Deployment {
    draft().command(&approve("ole", false, false), 2000).unwrap()
}

fn running() -> Deployment {
    approved().event(&plan(), &Event::Begin(frozen(40, 4)), 5000).unwrap()
}

fn tally(granted: i64, committed: i64, failed: i64, silent: i64) -> Tally {
    Tally { granted, committed, failed, silent }
}

/// Counts of a first stage, which are those of all.
fn first_stage(tally: Tally) -> Tallies {
    Tallies { all: tally, stage: tally }
}

fn crashed(devices: u64) -> Alarms {
    Alarms { crashed: devices, is_threatened: false }
}

#[test]
fn a_deployment_goes_through_its_states() {
    let plan = plan();
    let none = first_stage(Tally::default());
    assert_eq!(draft().state(), State::Draft);
    assert_eq!(
        due(&draft(), &plan, &none, Alarms::default(), 9999),
        None,
        "nothing begins that nobody has approved"
    );
    assert_eq!(approved().state(), State::Approved);
    assert_eq!(due(&approved(), &plan, &none, Alarms::default(), 4999), None, "before its time");
    assert_eq!(due(&approved(), &plan, &none, Alarms::default(), 5000), Some(Due::Begin));
    assert_eq!((running().state(), running().grants()), (State::Running, true));
    assert_eq!(
        due(&running(), &plan, &first_stage(tally(4, 2, 0, 0)), Alarms::default(), 6000),
        None,
        "98 of 100 are more"
    );
    assert_eq!(
        due(&running(), &plan, &first_stage(tally(2, 2, 0, 0)), Alarms::default(), 6000),
        None,
        "three are the least"
    );
    assert_eq!(
        due(&running(), &plan, &first_stage(tally(4, 4, 0, 0)), Alarms::default(), 6000),
        Some(Due::Soak)
    );
    let soaking = running().event(&plan, &Event::Soak, 6000).unwrap();
    assert_eq!(soaking.state(), State::Soaking);
    assert_eq!(
        due(&soaking, &plan, &first_stage(tally(4, 4, 0, 0)), Alarms::default(), 9599),
        None
    );
    assert_eq!(
        due(&soaking, &plan, &first_stage(tally(4, 3, 1, 0)), Alarms::default(), 9600),
        None,
        "one has failed since"
    );
    assert_eq!(
        due(&soaking, &plan, &first_stage(tally(4, 4, 0, 0)), Alarms::default(), 9600),
        Some(Due::Advance)
    );
    let second = Frozen { given: 4, ..frozen(40, u64::MAX >> 1) };
    let last = soaking.event(&plan, &Event::Advance(second), 9600).unwrap();
    assert_eq!((last.stage, last.state()), (1, State::Running));
    // What the first stage has done does not count for the second: 36 devices are its own.
    let of_second = |granted: i64, committed: i64| {
        let stage = tally(granted, committed, 0, 0);
        Tallies { all: stage.plus(tally(4, 4, 0, 0)), stage }
    };
    let next = |of: &Deployment, granted, committed, now| {
        due(of, &plan, &of_second(granted, committed), Alarms::default(), now)
    };
    assert_eq!(next(&last, 0, 0, 9700), None, "the first stage alone");
    assert_eq!(next(&last, 17, 17, 9700), None, "half of its devices are the quorum");
    assert_eq!(next(&last, 36, 35, 9700), None, "98 of 100 of all would be 39 of 40");
    assert_eq!(next(&last, 18, 18, 9700), Some(Due::Soak));
    let last = last.event(&plan, &Event::Soak, 9700).unwrap();
    assert_eq!(next(&last, 36, 36, 13_300), Some(Due::Finish));
    let done = last.event(&plan, &Event::Finish, 13_300).unwrap();
    assert_eq!((done.state(), done.is_on_its_way()), (State::Done, false));
    let withdrawn = done.command(&Command::Withdraw, 14_000).unwrap();
    assert_eq!(withdrawn.state(), State::Withdrawn);
}

#[test]
fn what_does_not_follow_is_refused_with_what_it_is() {
    let plan = plan();
    let halted = running().command(&Command::Halt, 6000).unwrap();
    let paused = running().command(&Command::Pause, 6000).unwrap();
    let withdrawn = running().command(&Command::Withdraw, 6000).unwrap();
    for (of, command, refusal) in [
        (&running(), approve("ines", false, false), Refusal::NoDraft(State::Running)),
        (&draft(), approve("ines", false, true), Refusal::AnotherRuns),
        (&draft(), Command::Pause, Refusal::NotOnItsWay(State::Draft)),
        (&draft(), Command::Halt, Refusal::NotOnItsWay(State::Draft)),
        (&draft(), RESUME, Refusal::NotHeld(State::Draft)),
        (&running(), RESUME, Refusal::NotHeld(State::Running)),
        (&halted, Command::Halt, Refusal::NotOnItsWay(State::Halted)),
        (&halted, Command::Pause, Refusal::NotOnItsWay(State::Halted)),
        (&halted, Command::Resume { another_runs: true }, Refusal::AnotherRuns),
        (&paused, Command::Pause, Refusal::NotOnItsWay(State::Paused)),
        (&withdrawn, Command::Withdraw, Refusal::Withdrawn),
        (&withdrawn, RESUME, Refusal::NotHeld(State::Withdrawn)),
        (&withdrawn, approve("ines", false, false), Refusal::NoDraft(State::Withdrawn)),
    ] {
        assert_eq!(of.command(&command, 7000), Err(refusal), "{command:?}");
    }
    for (of, event) in [
        (&draft(), Event::Begin(frozen(1, 1))),
        (&running(), Event::Begin(frozen(1, 1))),
        (&running(), Event::Advance(frozen(1, 1))),
        (&running(), Event::Finish),
        (&paused, Event::Soak),
        (&halted, Event::Soak),
        (&halted, Event::Halt(Cause::Silent)),
        (&withdrawn, Event::Halt(Cause::Failures)),
        (&draft(), Event::Halt(Cause::Failures)),
    ] {
        assert_eq!(of.event(&plan, &event, 7000), Err(Refusal::NotDue(of.state())), "{event:?}");
    }
}

#[test]
fn nobody_approves_his_own_draft_for_production() {
    assert!(draft().command(&approve("ole", false, false), 0).is_ok(), "the control");
    assert_eq!(draft().command(&approve("ole", true, false), 0), Err(Refusal::OwnDraft));
    // Taking the mark away does not help who has drafted it for production.
    let production = Deployment { is_production: true, ..draft() };
    assert_eq!(production.command(&approve("ole", false, false), 0), Err(Refusal::OwnDraft));
    let approved = production.command(&approve("ines", true, false), 0).unwrap();
    assert_eq!(approved.approved_by.as_deref(), Some("ines"));
}

#[test]
fn it_halts_at_the_number_and_not_before() {
    assert_eq!([0, 1, 100, 150, 151, 1000].map(most_failures), [3, 3, 3, 3, 4, 20]);
    assert_eq!([0, 1, 60, 61, 1000].map(most_silent), [3, 3, 3, 4, 50]);
    assert_eq!(halts(&tally(10, 0, 2, 2), 10, crashed(2)), None);
    assert_eq!(halts(&tally(10, 0, 3, 0), 10, crashed(0)), Some(Cause::Failures));
    assert_eq!(halts(&tally(10, 0, 0, 3), 10, crashed(0)), Some(Cause::Silent));
    assert_eq!(halts(&tally(10, 10, 0, 0), 10, crashed(3)), Some(Cause::NewCrash));
    let threatened = Alarms { is_threatened: true, ..Alarms::default() };
    assert_eq!(halts(&tally(10, 10, 0, 0), 10, threatened), Some(Cause::Threat));
    assert_eq!(halts(&tally(1000, 0, 19, 49), 1000, crashed(2)), None);
    assert_eq!(halts(&tally(1000, 0, 20, 0), 1000, crashed(0)), Some(Cause::Failures));
    let plan = plan();
    let paused = running().command(&Command::Pause, 6000).unwrap();
    assert_eq!(
        due(&paused, &plan, &first_stage(tally(4, 4, 0, 0)), Alarms::default(), 99_999),
        None
    );
    let failed = tally(4, 1, 3, 0);
    assert_eq!(
        due(&paused, &plan, &first_stage(failed), Alarms::default(), 6000),
        Some(Due::Halt(Cause::Failures))
    );
    let halted = running().event(&plan, &Event::Halt(Cause::Failures), 6000).unwrap();
    assert_eq!((halted.state(), halted.serves(), halted.hinders()), (State::Halted, false, false));
    assert_eq!(
        due(&halted, &plan, &first_stage(tally(4, 4, 0, 0)), Alarms::default(), 99_999),
        None,
        "until a person resumes it"
    );
    let resumed = halted.command(&RESUME, 8000).unwrap();
    assert_eq!((resumed.state(), resumed.resumed_at), (State::Running, 8000));
    let paused_only = paused.command(&RESUME, 8000).unwrap();
    assert_eq!(paused_only.resumed_at, 0, "nothing is forgiven to what was only paused");
}

#[test]
fn an_emergency_waits_for_few_and_a_small_group_for_all() {
    let emergency = Preset::Emergency.plan();
    assert_eq!([0, 1, 2, 3, 1000].map(|size| least_successes(size, &emergency)), [0, 1, 2, 3, 3]);
    assert!(has_succeeded(&tally(3, 3, 0, 0), 1000, &emergency));
    assert!(!has_succeeded(&tally(3, 3, 0, 0), 1000, &Preset::Normal.plan()));
    assert!(has_succeeded(&Tally::default(), 0, &emergency), "nobody is there to wait for");
    assert!(!has_succeeded(&tally(100, 97, 3, 0), 100, &emergency));
    assert!(has_succeeded(&tally(100, 98, 2, 0), 100, &emergency));
}

#[test]
fn a_slot_becomes_what_attestations_show() {
    let granted = Slot::grant(1000, 1000 + 86_400);
    let other = |has_fallen_back| Sighting::Other { has_fallen_back };
    let target = |is_committed| Sighting::Target { is_committed, settles: false };
    let after = |sightings: &[Sighting]| {
        let seen = sightings.iter().zip(2000..);
        seen.fold(granted, |slot, (sighting, at)| slot.seen(*sighting, at, at + 100)).outcome
    };
    for (sightings, outcome) in [
        (&[][..], Outcome::Granted),
        (&[other(false), other(false)], Outcome::Granted),
        (&[target(false)], Outcome::Trial),
        (&[target(false), target(true)], Outcome::Committed),
        (&[target(true)], Outcome::Committed),
        (&[target(false), other(false)], Outcome::FellBack),
        (&[other(true)], Outcome::FellBack),
        (&[other(true), other(false)], Outcome::FellBack),
        (&[other(true), target(true)], Outcome::Committed),
        (&[target(true), other(false)], Outcome::Committed),
        (&[Sighting::Doubted], Outcome::Granted),
        (&[target(false), Sighting::Doubted], Outcome::Trial),
    ] {
        assert_eq!(after(sightings), outcome, "{sightings:?}");
    }
    // What a device says of itself can only stop something.
    assert_eq!(granted.refuse(2000).outcome, Outcome::Refused);
    assert_eq!(Tally::of(&granted.refuse(2000)), tally(1, 0, 1, 0));
    assert_eq!(granted.refuse(2000).seen(other(false), 3000, 0).outcome, Outcome::Refused);
    assert_eq!(granted.refuse(2000).seen(target(true), 3000, 0).outcome, Outcome::Committed);
    assert_eq!(granted.seen(target(true), 2000, 0).refuse(3000).outcome, Outcome::Committed);
    // An app's claims do not say whether it is on trial.
    let app = Sighting::Target { is_committed: false, settles: true };
    let first = granted.seen(app, 2000, 3000);
    assert_eq!(first.outcome, Outcome::Trial);
    assert_eq!(first.seen(app, 5599, 9000).outcome, Outcome::Trial);
    assert_eq!(first.seen(app, 5600, 9000).outcome, Outcome::Committed);
    assert_eq!(first.seen(other(false), 5600, 9000).outcome, Outcome::FellBack);
}

#[test]
fn a_device_is_silent_when_it_is_late() {
    let granted = Slot::grant(1000, 1000 + 3600);
    assert_eq!(granted.silent_at, 1000 + SILENT_S);
    let later = Slot::grant(1000, 1000 + 36 * 3600);
    assert_eq!(later.silent_at, 1000 + 36 * 3600 + LATE_S, "it was not to come before");
    assert_eq!(granted.fall_silent(999 + SILENT_S).outcome, Outcome::Granted);
    let silent = granted.fall_silent(1000 + SILENT_S);
    assert_eq!(silent.outcome, Outcome::Silent);
    // What proves nothing is no sign of life.
    assert_eq!(granted.seen(Sighting::Doubted, 50_000, 99_999), granted);
    let back = silent.seen(Sighting::Other { has_fallen_back: false }, 200_000, 203_600);
    assert_eq!((back.outcome, back.silent_at), (Outcome::Granted, 200_000 + SILENT_S));
    let late = silent.seen(Sighting::Target { is_committed: true, settles: false }, 200_000, 0);
    assert_eq!(late.fall_silent(u64::MAX).outcome, Outcome::Committed);
    // What was forgiven counts again when it changes.
    let forgiven = Slot { is_forgiven: true, ..silent };
    assert_eq!(Tally::of(&forgiven), Tally::default());
    let back = forgiven.seen(Sighting::Target { is_committed: true, settles: false }, 200_000, 0);
    assert_eq!(Tally::of(&back), tally(1, 1, 0, 0));
}

#[test]
fn each_reason_is_given_for_its_fact() {
    let stage = Frozen {
        devices: 40,
        allowance: 4,
        last: Place::of("d1", &holdfast_evidence::messages::DeviceId([1; 32])),
        given: 0,
    };
    let running = Deployment { frozen: stage, ..running() };
    let place = stage.last;
    let facts = Facts {
        is_update_on: true,
        place,
        is_there: false,
        has_component: true,
        is_settled: true,
        outcome: None,
        seen_at: 6000,
        waits_for_window: false,
        said: None,
    };
    let done = Deployment { progress: Progress::Done, ..running.clone() };
    let halted = Deployment { hold: Hold::Halted(Cause::Person), ..running.clone() };
    let paused = Deployment { hold: Hold::Paused, ..running.clone() };
    let withdrawn = Deployment { progress: Progress::Withdrawn, ..running.clone() };
    let of = |outcome| Facts { outcome: Some(outcome), ..facts };
    let granted = of(Outcome::Granted);
    let rows: [(&Deployment, u64, Facts, Option<WhyNot>); 24] = [
        (&draft(), 0, facts, Some(WhyNot::NotApproved)),
        (&approved(), 0, facts, Some(WhyNot::NotBegun)),
        (&withdrawn, 0, facts, Some(WhyNot::Withdrawn)),
        (&halted, 0, facts, Some(WhyNot::Halted)),
        (&halted, 0, granted, Some(WhyNot::Halted)),
        (&paused, 0, facts, Some(WhyNot::Paused)),
        (&paused, 0, granted, Some(WhyNot::Fetching)),
        (&running, 0, Facts { is_update_on: false, ..facts }, Some(WhyNot::UpdateOff)),
        (&running, 0, Facts { is_update_on: false, ..granted }, Some(WhyNot::UpdateOff)),
        (&running, 0, Facts { has_component: false, ..facts }, Some(WhyNot::WithoutComponent)),
        (&running, 0, Facts { place: Place::LAST, ..facts }, Some(WhyNot::StageNotReached)),
        (&running, 0, Facts { is_settled: false, ..facts }, Some(WhyNot::Unsettled)),
        (&running, 4, facts, Some(WhyNot::ShareGiven)),
        (&running, 4, Facts { seen_at: 4999, ..facts }, Some(WhyNot::Offline)),
        (&running, 3, facts, Some(WhyNot::Offline)),
        (&running, 1, granted, Some(WhyNot::Fetching)),
        (&running, 1, Facts { waits_for_window: true, ..granted }, Some(WhyNot::Window)),
        (&running, 1, Facts { said: Some(WhyNot::Deferred), ..granted }, Some(WhyNot::Deferred)),
        (&running, 1, of(Outcome::Trial), Some(WhyNot::Trial)),
        (&running, 1, of(Outcome::FellBack), Some(WhyNot::FailedBefore)),
        (&running, 1, of(Outcome::Silent), Some(WhyNot::Silent)),
        (&running, 1, of(Outcome::Committed), None),
        (&running, 1, Facts { is_there: true, ..facts }, None),
        (&done, 4, facts, Some(WhyNot::Fetching)),
    ];
    for (deployment, given, facts, expected) in rows {
        assert_eq!(why_not(deployment, given, &facts), expected, "{facts:?}");
    }
    for why in WhyNot::ALL {
        assert_eq!(WhyNot::of_word(why.word()), Some(*why));
    }
}

#[test]
fn each_state_says_what_it_waits_for_or_was_stopped_by() {
    let plan = plan();
    let halted = |cause| running().event(&plan, &Event::Halt(cause), 6000).unwrap();
    let soaking = running().event(&plan, &Event::Soak, 6000).unwrap();
    let of =
        |deployment: &Deployment, tally: Tally| says(deployment, &plan, &first_stage(tally), 7000);
    let none = Tally::default();
    let production = Deployment { is_production: true, ..draft() };
    let waits = "it waits for 3 successes of this stage and for 98 % of those that the stage has given it to: ";
    for (text, expected) in [
        (of(&draft(), none), "it waits for its approval"),
        (
            of(&production, none),
            "it waits for the approval of somebody else than ole, who has drafted it",
        ),
        (
            of(&approved(), none),
            "it waits for the time at which it begins, and for a device that can be given it",
        ),
        (of(&running(), tally(4, 2, 0, 0)), &format!("{waits}2 of 4")),
        (
            of(&running(), tally(4, 3, 1, 0)),
            &format!(
                "{waits}3 of 4; too many have failed to go on, and too few to halt: `halt` and then `resume` go on in spite of them"
            ),
        ),
        (
            of(&soaking, tally(4, 4, 0, 0)),
            "4 of 4 of this stage have succeeded; it is watched for 44 minutes more",
        ),
        (
            of(&halted(Cause::Failures), tally(4, 1, 3, 0)),
            "3 devices have fallen back, and 3 are the most of 4",
        ),
        (
            of(&halted(Cause::Silent), tally(4, 1, 0, 3)),
            "3 devices are silent, and 3 are the most of 4",
        ),
        (
            of(&halted(Cause::NewCrash), tally(4, 4, 0, 0)),
            "3 devices or more have a crash that nobody knew before it; see `crash list`",
        ),
        (
            of(&halted(Cause::Threat), none),
            "a finding of severity 1 about this version is open; see `threat list`",
        ),
        (of(&halted(Cause::Person), none), "a person has halted it"),
    ] {
        assert_eq!(text, expected);
    }
}
