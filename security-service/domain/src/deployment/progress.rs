//! When a stage has succeeded, when it is over, and when a deployment has to stop by itself.

use super::order::Frozen;
use super::plan::{Plan, share};
use super::slot::{Tallies, Tally};
use super::state::{Cause, Deployment, Hold, Progress, State};

/// Successes in a thousand of those that the stage has given the release to, without which nothing goes on.
pub const SUCCESS_PERMILLE: u16 = 980;
/// Successes without which nothing goes on, where a stage has as many devices.
pub const LEAST_SUCCESSES: u64 = 3;
/// Failures from which on a deployment halts, whatever share they are.
pub const LEAST_FAILURES: u64 = 3;
/// Failures in a thousand of a stage's devices from which on it halts, where that is more.
pub const FAILURES_PERMILLE: u16 = 20;
/// Silent devices from which on a deployment halts, whatever share they are.
pub const LEAST_SILENT: u64 = 3;
/// Silent devices in a thousand of a stage's devices from which on it halts, where that is more.
pub const SILENT_PERMILLE: u16 = 50;
/// Devices of a deployment with the same new crash from which on it halts.
pub const CRASHED_DEVICES: u64 = 3;

/// What follows next, and what the caller has to count for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It halts.
    Halt(Cause),
    /// The first stage begins.
    Begin,
    /// Enough of the stage has succeeded.
    Soak,
    /// The next stage begins.
    Advance,
    /// The last stage is over.
    Finish,
}

/// What stops a deployment beside what becomes of its slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Alarms {
    /// The most devices of it that have the same new crash.
    pub crashed: u64,
    /// True where a finding of severity 1 about this version is open.
    pub is_threatened: bool,
}

/// Returns the failures at which a stage of this size halts.
#[must_use]
pub fn most_failures(size: u64) -> u64 {
    share(size, FAILURES_PERMILLE).max(LEAST_FAILURES)
}

/// Returns the silent devices at which a stage of this size halts.
#[must_use]
pub fn most_silent(size: u64) -> u64 {
    share(size, SILENT_PERMILLE).max(LEAST_SILENT)
}

/// Returns the successes that a stage needs which has so many devices of its own.
#[must_use]
pub fn least_successes(size: u64, plan: &Plan) -> u64 {
    share(size, plan.quorum_permille()).max(LEAST_SUCCESSES.min(size))
}

/// True if enough of a stage has succeeded that has so many devices of its own: of the slots that it has given, and no earlier one.
#[must_use]
pub fn has_succeeded(tally: &Tally, size: u64, plan: &Plan) -> bool {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let (committed, granted) = (count(tally.committed), count(tally.granted));
    committed >= share(granted, SUCCESS_PERMILLE) && committed >= least_successes(size, plan)
}

/// Returns the cause for which it halts by itself.
#[must_use]
pub fn halts(tally: &Tally, size: u64, alarms: Alarms) -> Option<Cause> {
    let reaches = |number: i64, most: u64| u64::try_from(number).is_ok_and(|number| number >= most);
    if reaches(tally.failed, most_failures(size)) {
        Some(Cause::Failures)
    } else if reaches(tally.silent, most_silent(size)) {
        Some(Cause::Silent)
    } else {
        let threat = alarms.is_threatened.then_some(Cause::Threat);
        threat.or((alarms.crashed >= CRASHED_DEVICES).then_some(Cause::NewCrash))
    }
}

/// Returns what follows for a deployment at `now`, in seconds since 1970; nothing while it waits for devices, for time, or for a
/// person.
#[must_use]
pub fn due(
    deployment: &Deployment,
    plan: &Plan,
    tallies: &Tallies,
    alarms: Alarms,
    now: u64,
) -> Option<Due> {
    let (size, own_size) = (deployment.frozen.size(), deployment.frozen.own_size());
    let has_begun = matches!(deployment.progress, Progress::Running | Progress::Soaking);
    // A paused one halts as well: devices that have it may still fail.
    if has_begun
        && deployment.hinders()
        && let Some(cause) = halts(&tallies.all, size, alarms)
    {
        return Some(Due::Halt(cause));
    }
    if deployment.hold != Hold::None {
        return None;
    }
    let stage = plan.stage(deployment.stage)?;
    match deployment.progress {
        Progress::Approved => (now >= deployment.begins_at).then_some(Due::Begin),
        Progress::Running => has_succeeded(&tallies.stage, own_size, plan).then_some(Due::Soak),
        Progress::Soaking => {
            let is_over = now.saturating_sub(deployment.since) >= stage.soak_s;
            if !is_over || !has_succeeded(&tallies.stage, own_size, plan) {
                return None;
            }
            let next = plan.stage(deployment.stage.saturating_add(1));
            Some(next.map_or(Due::Finish, |_| Due::Advance))
        }
        Progress::Draft | Progress::Done | Progress::Withdrawn => None,
    }
}

/// True if a stage of a plan may begin that was counted so. A list of which nobody can be given the release proves nothing, and waits for one
/// who can; so does the first stage, for the group's first device.
#[must_use]
pub fn may_begin(plan: &Plan, stage: u16, counted: &Frozen) -> bool {
    let is_listed = plan.stage(stage).is_some_and(|stage| stage.size.listed().is_some());
    if is_listed { counted.own_size() > 0 } else { stage > 0 || counted.devices > 0 }
}

/// Returns in one sentence what a deployment waits for at `now`, in seconds since 1970, or what has stopped it.
#[must_use]
pub fn says(deployment: &Deployment, plan: &Plan, tallies: &Tallies, now: u64) -> String {
    let size = deployment.frozen.size();
    let Tally { failed, silent, .. } = tallies.all;
    let Tally { granted, committed, .. } = tallies.stage;
    match (deployment.state(), deployment.hold) {
        (State::Draft, _) if deployment.is_production => {
            let by = &deployment.drafted_by;
            format!("it waits for the approval of somebody else than {by}, who has drafted it")
        }
        (State::Draft, _) => "it waits for its approval".to_owned(),
        (State::Approved, _) => {
            "it waits for the time at which it begins, and for a device that can be given it"
                .to_owned()
        }
        (State::Running, _) => {
            let least = least_successes(deployment.frozen.own_size(), plan);
            let ended = tallies.stage.failed.saturating_add(tallies.stage.silent);
            // Of what was given, too much has failed for the rest to make up for it.
            let is_stuck = ended > 0 && granted > 0 && {
                let most = u64::try_from(granted.saturating_sub(ended)).unwrap_or(0);
                let given = u64::try_from(granted).unwrap_or(0);
                most < share(given, SUCCESS_PERMILLE)
            };
            let stuck = if is_stuck {
                "; too many have failed to go on, and too few to halt: `halt` and then `resume` go on in spite of them"
            } else {
                ""
            };
            format!(
                "it waits for {least} successes of this stage and for 98 % of those that the stage has given it to: {committed} of {granted}{stuck}"
            )
        }
        (State::Soaking, _) => {
            let soak_s = plan.stage(deployment.stage).map_or(0, |stage| stage.soak_s);
            let left = deployment.since.saturating_add(soak_s).saturating_sub(now);
            let minutes = left.div_ceil(60);
            let next = plan.stage(deployment.stage.saturating_add(1));
            if left == 0 && next.is_some_and(|next| next.size.listed().is_some()) {
                return "it waits for a device of the next stage's list that can be given it: withdraw it, and draft another, where none will come"
                    .to_owned();
            }
            format!(
                "{committed} of {granted} of this stage have succeeded; it is watched for {minutes} minutes more"
            )
        }
        (State::Paused, _) => "a person has paused it; `resume` has it go on".to_owned(),
        (State::Halted, Hold::Halted(Cause::Failures)) => {
            let most = most_failures(size);
            format!("{failed} devices have fallen back, and {most} are the most of {size}")
        }
        (State::Halted, Hold::Halted(Cause::Silent)) => {
            let most = most_silent(size);
            format!("{silent} devices are silent, and {most} are the most of {size}")
        }
        (State::Halted, Hold::Halted(Cause::NewCrash)) => {
            format!(
                "{CRASHED_DEVICES} devices or more have a crash that nobody knew before it; see `crash list`"
            )
        }
        (State::Halted, Hold::Halted(Cause::Threat)) => {
            "a finding of severity 1 about this version is open; see `threat list`".to_owned()
        }
        (State::Halted, _) => "a person has halted it".to_owned(),
        (State::Done, _) => "every device of the group may take it".to_owned(),
        (State::Withdrawn, _) => "it was given up; what has it keeps it".to_owned(),
    }
}
