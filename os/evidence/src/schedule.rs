//! When a device checks in: once a boot, at the second that the service picks, at a commit, and again after failures.
//!
//! This is a reducer: times are milliseconds of a monotonic clock, and random numbers are passed in. It bounds whatever
//! the service says, so that no answer makes a device ask without a pause, or stay away for good.

/// Within so many milliseconds of a boot, of a commit, or of a change of the network, a device checks in.
pub const FIRST_WITHIN_MS: u64 = 60_000;
/// Least and most seconds between a check-in and the next one, whatever the service says.
pub const NEXT_S: (u32, u32) = (60, 2 * 86_400);
/// Least and most seconds that a device waits which nobody has claimed.
pub const WAITING_S: (u32, u32) = (60, 86_400);
/// Most seconds that `Retry-After` is followed.
pub const MOST_RETRY_AFTER_S: u32 = 86_400;
/// The ceiling of the wait after a first failure, in milliseconds; it doubles with each further one.
pub const BACKOFF_MS: u64 = 60_000;
/// The highest ceiling.
pub const MOST_BACKOFF_MS: u64 = 3_600_000;
/// Pause between two looks whether a release on trial was committed, in milliseconds.
pub const LOOK_EVERY_MS: u64 = 60_000;
/// A device without an identity asks for one so often, in milliseconds.
pub const DAY_MS: u64 = 86_400_000;

/// The next thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing for so many milliseconds.
    Wait(u64),
    /// Ask whether the release is still on trial: [`Schedule::looked`].
    Look,
    /// Check in: [`Schedule::ended`].
    CheckIn,
}

/// The end of an attempt to check in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device has checked in.
    CheckedIn {
        /// Seconds until the next one, as the service picked them.
        next_s: u32,
        /// True where the release was on trial.
        is_on_trial: bool,
    },
    /// The device is known, and nobody has claimed it.
    Unclaimed {
        /// Seconds until the device asks again.
        next_s: u32,
    },
    /// The device belongs to another catalog from now on, and is to enrol there.
    Transferred,
    /// It has failed: there was no connection, or no answer that can be used.
    Failed {
        /// Seconds of `Retry-After`.
        retry_after_s: Option<u32>,
        /// True where the service does not know the device.
        is_unknown: bool,
    },
    /// The device has no identity: its TPM fails.
    NoIdentity,
}

/// What has to be known between two attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The next attempt.
    due_ms: u64,
    /// The next look, while a release is on trial.
    look_ms: Option<u64>,
    /// Failures since the last success.
    failures: u32,
    /// The service has said that it does not know the device.
    must_enrol: bool,
}

impl Schedule {
    /// Begins with a boot, or with the start of the service.
    #[must_use]
    pub fn new(now_ms: u64, random: u64) -> Self {
        let due_ms = now_ms.saturating_add(up_to(FIRST_WITHIN_MS, random));
        Self { due_ms, look_ms: None, failures: 0, must_enrol: false }
    }

    /// Returns what is to be done.
    #[must_use]
    pub fn action(&self, now_ms: u64) -> Action {
        let left = self.due_ms.saturating_sub(now_ms);
        let until_look = self.look_ms.map(|look| look.saturating_sub(now_ms));
        match (left, until_look) {
            (0, _) => Action::CheckIn,
            (_, Some(0)) => Action::Look,
            (left, until_look) => Action::Wait(until_look.unwrap_or(left).min(left)),
        }
    }

    /// True where the next attempt begins with an enrolment, whatever the device remembers.
    #[must_use]
    pub fn must_enrol(&self) -> bool {
        self.must_enrol
    }

    /// The service has enrolled the device.
    pub fn enrolled(&mut self) {
        self.must_enrol = false;
    }

    /// A look was taken.
    pub fn looked(&mut self, is_on_trial: bool, now_ms: u64, random: u64) {
        if is_on_trial {
            self.look_ms = Some(now_ms.saturating_add(LOOK_EVERY_MS));
            return;
        }
        self.look_ms = None;
        // The service learns of a commit soon, and not of a fleet's commits at once.
        let soon = now_ms.saturating_add(up_to(FIRST_WITHIN_MS, random));
        self.due_ms = self.due_ms.min(soon);
    }

    /// An attempt has ended.
    pub fn ended(&mut self, outcome: Outcome, now_ms: u64, random: u64) {
        let seconds = |s: u32| u64::from(s).saturating_mul(1000);
        self.look_ms = None;
        let wait = match outcome {
            Outcome::CheckedIn { next_s, is_on_trial } => {
                (self.failures, self.must_enrol) = (0, false);
                self.look_ms = is_on_trial.then(|| now_ms.saturating_add(LOOK_EVERY_MS));
                // The service picks the second so that its minutes fill evenly: nothing is added.
                seconds(next_s.clamp(NEXT_S.0, NEXT_S.1))
            }
            Outcome::Unclaimed { next_s } => {
                self.failures = 0;
                seconds(next_s.clamp(WAITING_S.0, WAITING_S.1))
            }
            Outcome::Transferred => {
                (self.failures, self.must_enrol) = (0, true);
                seconds(NEXT_S.0)
            }
            Outcome::Failed { retry_after_s: Some(told), is_unknown } => {
                self.failures = self.failures.saturating_add(1);
                self.must_enrol |= is_unknown;
                // Never sooner than told, and not all that were told the same at once.
                let told = seconds(told.clamp(1, MOST_RETRY_AFTER_S));
                told.saturating_add(up_to(told / 4, random))
            }
            Outcome::Failed { retry_after_s: None, is_unknown } => {
                self.failures = self.failures.saturating_add(1);
                self.must_enrol |= is_unknown;
                let doubled = 1u64.checked_shl(self.failures.saturating_sub(1).min(16));
                let ceiling = BACKOFF_MS.saturating_mul(doubled.unwrap_or(u64::MAX));
                // Full jitter, and a second at least.
                up_to(ceiling.min(MOST_BACKOFF_MS), random).max(1000)
            }
            Outcome::NoIdentity => {
                self.failures = 0;
                DAY_MS.saturating_sub(up_to(DAY_MS / 8, random))
            }
        };
        self.due_ms = now_ms.saturating_add(wait);
    }
}

/// Returns a number from 0 to `most`.
fn up_to(most: u64, random: u64) -> u64 {
    most.checked_add(1).and_then(|range| random.checked_rem(range)).unwrap_or(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FAILED: Outcome = Outcome::Failed { retry_after_s: None, is_unknown: false };

    fn waits(schedule: &Schedule, now: u64) -> u64 {
        match schedule.action(now) {
            Action::Wait(ms) => ms,
            other => panic!("does not wait: {other:?}"),
        }
    }

    /// An outcome, the random number, and the milliseconds until the next attempt.
    #[test]
    fn each_outcome_has_its_pause_within_bounds() {
        let checked_in = |next_s| Outcome::CheckedIn { next_s, is_on_trial: false };
        let unclaimed = |next_s| Outcome::Unclaimed { next_s };
        let told = |seconds| Outcome::Failed { retry_after_s: Some(seconds), is_unknown: false };
        for (outcome, random, pause) in [
            (checked_in(86_912), 7, 86_912_000),
            (checked_in(0), 0, 60_000),
            (checked_in(u32::MAX), 0, 172_800_000),
            (unclaimed(600), 0, 600_000),
            (unclaimed(1), 0, 60_000),
            (unclaimed(u32::MAX), 0, 86_400_000),
            (told(120), 0, 120_000),
            (told(120), 30_000, 150_000),
            (told(0), 0, 1_000),
            (told(u32::MAX), 0, 86_400_000),
            (FAILED, 60_000, 60_000),
            (FAILED, 60_001, 1_000),
            (Outcome::NoIdentity, 0, 86_400_000),
            (Outcome::NoIdentity, 10_800_000, 75_600_000),
        ] {
            let mut schedule = Schedule::new(0, 0);
            schedule.ended(outcome, 5, random);
            assert_eq!(waits(&schedule, 5), pause, "{outcome:?} {random}");
        }
    }

    #[test]
    fn a_device_checks_in_within_a_minute_of_its_boot() {
        for random in [0, 1, 59_999, 60_000, 60_001, u64::MAX] {
            let schedule = Schedule::new(1_000, random);
            assert_eq!(schedule.action(61_000), Action::CheckIn, "{random}");
        }
        assert_eq!(waits(&Schedule::new(1_000, 60_000), 1_000), 60_000);
    }

    #[test]
    fn failures_double_the_ceiling_up_to_an_hour_and_a_success_ends_that() {
        let mut schedule = Schedule::new(0, 0);
        for ceiling in [60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000, 3_600_000, 3_600_000]
        {
            // The highest random number below the ceiling's range.
            schedule.ended(FAILED, 0, ceiling);
            assert_eq!(waits(&schedule, 0), ceiling);
        }
        for _ in 0..100 {
            schedule.ended(FAILED, 0, MOST_BACKOFF_MS);
        }
        assert_eq!(waits(&schedule, 0), MOST_BACKOFF_MS);
        schedule.ended(Outcome::CheckedIn { next_s: 60, is_on_trial: false }, 0, 0);
        schedule.ended(FAILED, 0, 60_000);
        assert_eq!(waits(&schedule, 0), 60_000);
    }

    #[test]
    fn a_commit_is_told_soon() {
        let mut schedule = Schedule::new(0, 0);
        schedule.ended(Outcome::CheckedIn { next_s: 7200, is_on_trial: true }, 0, 0);
        assert_eq!(waits(&schedule, 0), LOOK_EVERY_MS);
        assert_eq!(schedule.action(LOOK_EVERY_MS), Action::Look);
        schedule.looked(true, 60_000, 0);
        assert_eq!(waits(&schedule, 60_000), LOOK_EVERY_MS);
        schedule.looked(false, 120_000, 4_000);
        assert_eq!(waits(&schedule, 120_000), 4_000);
        assert_eq!(schedule.action(124_000), Action::CheckIn);
        // What is due before is not put off by a commit, nor by looks.
        schedule.ended(Outcome::CheckedIn { next_s: 60, is_on_trial: true }, 0, 0);
        assert_eq!(schedule.action(60_000), Action::CheckIn);
    }

    #[test]
    fn a_device_that_is_not_known_enrols_again_once() {
        let mut schedule = Schedule::new(0, 0);
        assert!(!schedule.must_enrol());
        schedule.ended(Outcome::Failed { retry_after_s: None, is_unknown: true }, 0, 0);
        schedule.ended(FAILED, 0, 0);
        assert!(schedule.must_enrol());
        schedule.enrolled();
        assert!(!schedule.must_enrol());
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            (any::<u32>(), any::<bool>())
                .prop_map(|(next_s, is_on_trial)| Outcome::CheckedIn { next_s, is_on_trial }),
            any::<u32>().prop_map(|next_s| Outcome::Unclaimed { next_s }),
            (any::<Option<u32>>(), any::<bool>()).prop_map(|(retry_after_s, is_unknown)| {
                Outcome::Failed { retry_after_s, is_unknown }
            }),
            Just(Outcome::NoIdentity),
            Just(Outcome::Transferred),
        ]
    }

    proptest! {
        /// Whatever the service answers, no two attempts follow each other within a second, and one comes within two
        /// days and a half.
        #[test]
        fn no_answer_makes_a_device_hurry_or_stay_away(
            outcomes in proptest::collection::vec((outcome(), any::<u64>()), 1..20)
        ) {
            let (mut schedule, mut now) = (Schedule::new(0, 0), 0u64);
            for (outcome, random) in outcomes {
                schedule.ended(outcome, now, random);
                let began = now;
                loop {
                    match schedule.action(now) {
                        Action::Wait(ms) => now = now.saturating_add(ms.max(1)),
                        Action::Look => schedule.looked(true, now, random),
                        Action::CheckIn => break,
                    }
                }
                let pause = now.saturating_sub(began);
                prop_assert!((1_000..=216_000_000).contains(&pause), "{pause}");
            }
        }
    }
}
