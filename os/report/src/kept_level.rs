//! When a level that somebody has said is written: one that lets less be recorded at once, one that lets more once it has held for a day.
//!
//! Whoever says levels may say another one each time it is heard. Each lower one has to outlast a cut of power, whatever it costs, and there are
//! two steps down. A higher one does not: until it is written, a start begins with less than was said, and hears it again.

use crate::Level;

/// Seconds for which a higher level holds before it is written.
pub const HOLDS_FOR_S: u64 = 24 * 60 * 60;

/// A level that somebody says, and what of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptLevel {
    said: Level,
    kept: Level,
    /// Seconds since the boot at which it was said first.
    since_s: u64,
}

impl KeptLevel {
    /// Begins with what is written.
    #[must_use]
    pub fn begin(kept: Level, uptime_s: u64) -> Self {
        Self { said: kept, kept, since_s: uptime_s }
    }

    /// Returns what was said last, which holds.
    #[must_use]
    pub fn said(&self) -> Level {
        self.said
    }

    /// Takes what is said.
    pub fn say(&mut self, level: Level, uptime_s: u64) {
        if level != self.said {
            (self.said, self.since_s) = (level, uptime_s);
        }
    }

    /// Returns what is to be written now; `None` where nothing is.
    #[must_use]
    pub fn to_write(&self, uptime_s: u64) -> Option<Level> {
        let has_held = uptime_s.saturating_sub(self.since_s) >= HOLDS_FOR_S;
        (self.said < self.kept || self.said > self.kept && has_held).then_some(self.said)
    }

    /// The level was written.
    pub fn written(&mut self, level: Level) {
        self.kept = level;
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "an overflow is a failed test"
    )]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn less_is_written_at_once_and_more_after_a_day() {
        let mut level = KeptLevel::begin(Level::Full, 5);
        assert_eq!(level.to_write(u64::MAX), None);
        level.say(Level::Off, 10);
        assert_eq!((level.said(), level.to_write(10)), (Level::Off, Some(Level::Off)));
        level.written(Level::Off);
        level.say(Level::Health, 20);
        assert_eq!((level.said(), level.to_write(20 + HOLDS_FOR_S - 1)), (Level::Health, None));
        // Said again, it has held on.
        level.say(Level::Health, 1000);
        assert_eq!(level.to_write(20 + HOLDS_FOR_S), Some(Level::Health));
    }

    proptest! {
        /// Whatever is said how often: what is written is never more than what holds, and a day has three writes.
        #[test]
        fn what_is_written_is_never_more_than_what_holds(
            said in prop::collection::vec((0usize..3, 0u64..HOLDS_FOR_S / 2), 1..200),
        ) {
            let (mut level, mut kept, mut now) = (KeptLevel::begin(Level::Full, 0), Level::Full, 0);
            let mut writes: Vec<u64> = Vec::new();
            for (word, later) in said {
                now += later;
                level.say(Level::ALL[word], now);
                if let Some(to_write) = level.to_write(now) {
                    kept = to_write;
                    level.written(kept);
                    writes.push(now);
                }
                prop_assert!(kept <= level.said(), "{} is kept, {} holds", kept, level.said());
            }
            for begin in &writes {
                let of_day = writes.iter().filter(|at| (*begin..begin + HOLDS_FOR_S).contains(at));
                prop_assert!(of_day.count() <= 3);
            }
        }
    }
}
