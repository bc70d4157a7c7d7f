//! What a component writes to the medium: how fast it may, and how much in a day.
//!
//! The kernel keeps to the rate (`io.max` of the control group). How much was written in a day is counted here, from
//! what the kernel says of the group; whoever has written it all writes on slowly until the day is over. A day begins
//! with the system's start. What the journal of a file system writes is on no component's account.

use holdfast_sandbox::app_manifest::Limits;
use holdfast_types::event::{Event, init as event};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// A rate that is never gone below: what waits to be written is in the way of what others have written in the same
/// file system, and must not be so for minutes.
const SLOWEST: Rate = Rate { bytes: 64 * 1024, writes: 16 };

/// A rate of writes: the most in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub writes: u64,
}

impl Rate {
    /// Returns the rate that limits allow.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        Self {
            bytes: u64::from(limits.write_kib_per_second).saturating_mul(1024),
            writes: limits.writes_per_second.into(),
        }
    }

    /// Returns the rate for a component that has written as much as it may in a day.
    fn slow(limits: &Limits) -> Self {
        let full = Self::of(limits);
        let even = budget(limits).checked_div(DAY_MS / 1000).unwrap_or(0);
        Self {
            bytes: even.max(SLOWEST.bytes).min(full.bytes),
            writes: SLOWEST.writes.min(full.writes),
        }
    }
}

fn budget(limits: &Limits) -> u64 {
    u64::from(limits.write_mib_per_day).saturating_mul(1024 * 1024)
}

/// The writes of a group since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes.
    pub bytes: u64,
    /// Operations.
    pub writes: u64,
}

/// A step that follows from a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The kernel is told another rate.
    Set(Rate),
    /// A line for the log, behind the component's name, which ends in the event.
    Tell(Event, String),
}

/// The writes of a component today.
#[derive(Debug, Clone)]
pub struct WriteBudget {
    limits: Limits,
    /// The time at which the day began, and the bytes that had been written then.
    day: (u64, u64),
    /// The last look.
    last: (u64, Written),
    slowed: bool,
    told_of_rate: bool,
}

impl WriteBudget {
    /// The first day begins, at a time in milliseconds.
    #[must_use]
    pub fn new(limits: Limits, now: u64, written: Written) -> Self {
        Self {
            limits,
            day: (now, written.bytes),
            last: (now, written),
            slowed: false,
            told_of_rate: false,
        }
    }

    /// A look at what has been written so far. What bites is told once a day.
    pub fn look(&mut self, now: u64, written: Written) -> Vec<Step> {
        let mut steps = Vec::new();
        let (began, at_begin) = self.day;
        if now.saturating_sub(began) >= DAY_MS {
            self.day = (now, written.bytes);
            self.told_of_rate = false;
            if std::mem::take(&mut self.slowed) {
                steps.push(Step::Set(Rate::of(&self.limits)));
                let line = "may write as before: a new day has begun".to_owned();
                steps.push(Step::Tell(event::WRITE_BUDGET_RENEWED, line));
            }
        } else if !self.slowed && written.bytes.saturating_sub(at_begin) >= budget(&self.limits) {
            self.slowed = true;
            let slow = Rate::slow(&self.limits);
            steps.push(Step::Set(slow));
            let line = format!(
                "has written the {} MiB that it may in a day (WriteMiBPerDay): until the day is over it \
                 may write {} KiB and {} times a second",
                self.limits.write_mib_per_day,
                slow.bytes / 1024,
                slow.writes
            );
            steps.push(Step::Tell(event::WRITE_BUDGET_SPENT, line));
        }
        if !self.slowed && !self.told_of_rate && self.is_at_rate(now, written) {
            self.told_of_rate = true;
            let line = format!(
                "writes as much as it may: {} KiB or {} times a second (WriteKiBPerSecond, WritesPerSecond)",
                self.limits.write_kib_per_second, self.limits.writes_per_second
            );
            steps.push(Step::Tell(event::WRITE_RATE_REACHED, line));
        }
        self.last = (now, written);
        steps
    }

    /// True when at least nine tenths of what may be written since the last look were.
    fn is_at_rate(&self, now: u64, written: Written) -> bool {
        let (before, last) = self.last;
        let elapsed = now.saturating_sub(before);
        let rate = Rate::of(&self.limits);
        let reached = |most: u64, done: u64| {
            let may = most.saturating_mul(elapsed) / 1000;
            done.saturating_mul(10) >= may.saturating_mul(9)
        };
        elapsed >= 500
            && (reached(rate.bytes, written.bytes.saturating_sub(last.bytes))
                || reached(rate.writes, written.writes.saturating_sub(last.writes)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024 * 1024;

    fn limits() -> Limits {
        Limits {
            write_kib_per_second: 1024,
            writes_per_second: 100,
            write_mib_per_day: 10,
            ..Limits::default()
        }
    }

    fn told(steps: &[Step]) -> Vec<&str> {
        let lines = steps.iter().filter_map(|step| match step {
            Step::Tell(_, line) => Some(line.as_str()),
            Step::Set(_) => None,
        });
        lines.collect()
    }

    #[test]
    fn a_budget_that_is_used_up_slows_down_once_until_the_day_is_over() {
        let written = |bytes| Written { bytes, writes: 0 };
        let mut budget = WriteBudget::new(limits(), 0, written(5 * MIB));
        assert!(budget.look(60_000, written(14 * MIB)).is_empty(), "9 of 10 MiB");
        let steps = budget.look(120_000, written(15 * MIB));
        assert_eq!(steps[0], Step::Set(Rate { bytes: 64 * 1024, writes: 16 }));
        let [line] = told(&steps)[..] else { panic!("{steps:?}") };
        assert!(line.starts_with("has written the 10 MiB that it may in a day"), "{line}");
        assert!(budget.look(180_000, written(100 * MIB)).is_empty(), "told once");
        let steps = budget.look(DAY_MS, written(100 * MIB));
        assert_eq!(steps[0], Step::Set(Rate { bytes: MIB, writes: 100 }));
        assert_eq!(told(&steps).len(), 1);
        assert!(budget.look(DAY_MS + 60_000, written(109 * MIB)).is_empty());
        assert!(
            !budget.look(DAY_MS + 120_000, written(110 * MIB)).is_empty(),
            "a day like any other"
        );
    }

    #[test]
    fn a_rate_that_bites_is_told_once_a_day() {
        let mut budget = WriteBudget::new(limits(), 0, Written::default());
        assert!(budget.look(1000, Written { bytes: 1000, writes: 80 }).is_empty());
        let steps = budget.look(2000, Written { bytes: 2000, writes: 172 });
        let [line] = told(&steps)[..] else { panic!("{steps:?}") };
        assert!(line.starts_with("writes as much as it may: 1024 KiB or 100 times"), "{line}");
        assert!(budget.look(3000, Written { bytes: 3000, writes: 272 }).is_empty());
        let mut budget = WriteBudget::new(limits(), 0, Written::default());
        assert_eq!(
            told(&budget.look(1000, Written { bytes: MIB, writes: 1 })).len(),
            1,
            "by bytes"
        );
    }

    proptest! {
        /// However it writes, a component that keeps to the rates that were set writes no more in a day than its
        /// budget, what it wrote until that was noticed, and the slow rate.
        #[test]
        fn no_day_has_more_than_the_budget_and_the_slow_rate(
            mib in 1u32..2000, kib in 16u32..4096, looks in proptest::collection::vec(0u64..=100, 1..400)
        ) {
            let limits = Limits {
                write_kib_per_second: kib, write_mib_per_day: mib, ..Limits::default()
            };
            let (mut rate, mut written) = (Rate::of(&limits), Written::default());
            let mut budget = WriteBudget::new(limits, 0, written);
            let step = 60_000u64;
            let mut now = 0u64;
            for share in looks {
                now += step;
                written.bytes += rate.bytes * (step / 1000) * share / 100;
                for change in budget.look(now, written) {
                    if let Step::Set(to) = change {
                        rate = to;
                    }
                }
            }
            prop_assume!(now < DAY_MS);
            let noticed = Rate::of(&limits).bytes * (step / 1000);
            let slowly = Rate::slow(&limits).bytes * (now / 1000);
            prop_assert!(written.bytes <= super::budget(&limits) + noticed + slowly);
        }
    }
}
