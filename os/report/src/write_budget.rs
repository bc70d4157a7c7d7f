//! How much of the medium is written for reports: a budget of blocks that grows with time, and outlasts starts.
//!
//! A write costs the medium whole blocks, however little is written. The budget is noted in front of what each write adds, so that neither a
//! service nor a device that starts again and again writes more for it. What a file system writes beside a file's content is not in it. The last
//! blocks are a reserve: records leave as many as their [`Priority`] says, so that what is rare finds one whatever apps do.

use crate::moment::Moment;
use crate::priority::Priority;
use serde::{Deserialize, Serialize};

/// Bytes of a block, the least that is written to a medium.
pub const BLOCK_BYTES: usize = 4096;
/// Most blocks that are written at once after a long silence.
pub const MOST_BLOCKS: u32 = 6;
/// Seconds after which one block more may be written: four times in 24 hours at most.
pub const BLOCK_EVERY_S: u64 = 6 * 60 * 60;
/// Most bytes that are written in any 24 hours, those of a silence before included.
pub const MOST_BYTES_A_DAY: usize = 40 * 1024;

/// What is left of the budget after a write, as it is noted with that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    blocks: u8,
    /// Time of the clock at which the last block was added, in seconds since 1970, where the clock was set.
    renewed_at: Option<u64>,
}

/// The blocks that may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteBudget {
    blocks: u32,
    /// Seconds since the boot at which the last block was added; before it where the clock has told of time in an earlier run.
    renewed_at_s: i64,
    /// The clock's time at which an earlier run has added its last block, until the clock of this run is set.
    earlier: Option<u64>,
    /// Whether this run's time has added blocks.
    has_added: bool,
    /// The blocks at the start.
    begun_with: u32,
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

impl WriteBudget {
    /// Goes on with what was noted last, or begins where nothing was.
    #[must_use]
    pub fn begin(note: Option<Note>, uptime_s: u64) -> Self {
        let blocks = note.map_or(MOST_BLOCKS, |note| u32::from(note.blocks).min(MOST_BLOCKS));
        let earlier = note.and_then(|note| note.renewed_at);
        Self {
            blocks,
            renewed_at_s: signed(uptime_s),
            earlier,
            has_added: false,
            begun_with: blocks,
        }
    }

    /// Adds what has come since the last time, and returns the blocks that may be written.
    pub fn renew(&mut self, now: Moment) -> u32 {
        let uptime_s = signed(now.uptime_s);
        let every = signed(BLOCK_EVERY_S);
        let passed = uptime_s.saturating_sub(self.renewed_at_s).max(0);
        let blocks = u64::try_from(passed.checked_div(every).unwrap_or(0)).unwrap_or(0);
        self.renewed_at_s = uptime_s.saturating_sub(passed.checked_rem(every).unwrap_or(0));
        self.has_added |= blocks > 0;
        self.add(blocks);
        if let (Some(earlier), Some(at)) = (self.earlier, now.at) {
            self.earlier = None;
            self.add_time_before(at.saturating_sub(earlier), uptime_s);
        }
        self.blocks
    }

    /// The clock tells that so many seconds have passed since an earlier run has added its last block.
    ///
    /// Between two blocks lie never less than [`BLOCK_EVERY_S`]: where this run has added some already, nothing is added for the time before
    /// it, and where some are added now, the next one has its whole time to come.
    fn add_time_before(&mut self, passed: u64, uptime_s: i64) {
        let blocks = passed.checked_div(BLOCK_EVERY_S).unwrap_or(0);
        if self.has_added {
            return;
        }
        // Not more than there would have been room for at the start.
        self.add(blocks.min(MOST_BLOCKS.saturating_sub(self.begun_with).into()));
        let since = if blocks == 0 { passed } else { 0 };
        self.renewed_at_s = uptime_s.saturating_sub(signed(since));
    }

    fn add(&mut self, blocks: u64) {
        let more = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.blocks = self.blocks.max(self.blocks.saturating_add(more).min(MOST_BLOCKS));
    }

    /// Returns the blocks that may be written, as of the last [`renew`](Self::renew).
    #[must_use]
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Returns the blocks that may be written for records of a priority, as of the last [`renew`](Self::renew).
    #[must_use]
    pub fn blocks_for(&self, priority: Priority) -> u32 {
        self.blocks.saturating_sub(priority.leaves().into())
    }

    /// Takes the blocks of a write, and returns what is to be noted with it.
    pub fn take(&mut self, blocks: u32, now: Moment) -> Note {
        self.blocks = self.blocks.saturating_sub(blocks);
        let since = signed(now.uptime_s).saturating_sub(self.renewed_at_s).max(0);
        let since = u64::try_from(since).unwrap_or(0);
        // Without a clock nobody knows what the time before this run has added: the next one begins with what is left.
        let renewed_at = now.at.map(|at| at.saturating_sub(since));
        Note { blocks: u8::try_from(self.blocks).unwrap_or(u8::MAX), renewed_at }
    }

    /// A budget that no test uses up.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        Self { blocks: u32::MAX, ..Self::begin(None, 0) }
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

    const DAY_S: u64 = 24 * 60 * 60;

    fn moment(uptime_s: u64, at: Option<u64>) -> Moment {
        Moment { uptime_s, at }
    }

    #[test]
    fn what_a_silence_adds_and_a_day_stay_within_what_is_promised() {
        let a_day = usize::try_from(DAY_S.div_ceil(BLOCK_EVERY_S)).unwrap() + MOST_BLOCKS as usize;
        assert_eq!(a_day * BLOCK_BYTES, MOST_BYTES_A_DAY);
    }

    #[test]
    fn a_start_adds_nothing_and_the_time_between_two_starts_does() {
        let mut budget = WriteBudget::begin(None, 0);
        assert_eq!(budget.renew(moment(0, Some(1_000_000))), MOST_BLOCKS);
        let note = budget.take(MOST_BLOCKS, moment(0, Some(1_000_000)));
        for _ in 0..100 {
            assert_eq!(WriteBudget::begin(Some(note), 7).renew(moment(7, Some(1_000_001))), 0);
        }
        let later = Some(1_000_000 + 2 * BLOCK_EVERY_S);
        assert_eq!(WriteBudget::begin(Some(note), 7).renew(moment(7, later)), 2);
        // Until the clock is set, the time of this run is all that counts, and it is not counted twice.
        let mut unset = WriteBudget::begin(Some(note), 0);
        assert_eq!(unset.renew(moment(BLOCK_EVERY_S, None)), 1);
        assert_eq!(unset.renew(moment(BLOCK_EVERY_S + 1, later)), 1);
    }

    #[test]
    fn what_is_rare_finds_the_blocks_that_others_leave() {
        let mut budget = WriteBudget::begin(None, 0);
        let left = |budget: &WriteBudget| {
            [Priority::Usual, Priority::Alarm, Priority::Release].map(|p| budget.blocks_for(p))
        };
        assert_eq!(left(&budget), [4, 5, 6]);
        budget.take(4, moment(0, None));
        assert_eq!(left(&budget), [0, 1, 2]);
        budget.take(2, moment(0, None));
        // What comes again is the reserve first.
        let later = [1, 2, 3].map(|blocks| {
            budget.renew(moment(blocks * BLOCK_EVERY_S, None));
            left(&budget)
        });
        assert_eq!(later, [[0, 0, 1], [0, 1, 2], [1, 2, 3]]);
    }

    #[test]
    fn a_device_that_is_on_for_minutes_a_day_gets_its_blocks() {
        let mut note = None;
        let mut written = 0;
        for day in 0..30 {
            let mut budget = WriteBudget::begin(note, 5);
            let now = moment(600, Some(day * DAY_S));
            let blocks = budget.renew(now);
            written += blocks;
            note = Some(budget.take(blocks, now));
        }
        assert!(written >= 29 * 4, "{written}");
    }

    /// A run of a device: seconds that it is off before, writes after which its clock is set, and of each write the seconds before it and
    /// most blocks of it.
    fn run() -> impl Strategy<Value = (u64, usize, Vec<(u64, u32)>)> {
        let writes = prop::collection::vec((0..2 * BLOCK_EVERY_S, 0..=MOST_BLOCKS), 1..8);
        (0..4 * BLOCK_EVERY_S, 0usize..8, writes)
    }

    proptest! {
        /// Whatever starts again when, and whether its clock is set: no 24 hours have more blocks than the day's.
        #[test]
        fn no_day_has_more_than_its_blocks(runs in prop::collection::vec(run(), 1..30)) {
            let (mut time, mut note) = (1_000_000u64, None);
            let mut writes: Vec<(u64, u32)> = Vec::new();
            for (off, set_after, between) in runs {
                time += off;
                let booted = time;
                let mut budget = WriteBudget::begin(note, 0);
                for (write, (seconds, most)) in between.into_iter().enumerate() {
                    time += seconds;
                    let now = moment(time - booted, (write >= set_after).then_some(time));
                    let blocks = budget.renew(now).min(most);
                    note = Some(budget.take(blocks, now));
                    writes.push((time, blocks));
                }
            }
            for (begin, _) in &writes {
                let of_day = writes.iter().filter(|(at, _)| (*begin..begin + DAY_S).contains(at));
                let blocks: u32 = of_day.map(|(_, blocks)| blocks).sum();
                prop_assert!(blocks as usize * BLOCK_BYTES <= MOST_BYTES_A_DAY, "{} blocks", blocks);
            }
        }
    }
}
