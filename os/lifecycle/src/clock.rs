//! What init does with the device's clock, and how far it can be trusted.
//!
//! The network service says by how much the clock is wrong: one integer, and nobody vouches for it.
//! init sets the clock by it within bounds that do not come from the network. The lower bound, the
//! floor, comes from signed sources alone, so that no answer of a time server lasts beyond the next
//! one that is right.

pub use holdfast_sandbox::clock::MOST_AFTER_FLOOR_S;
use holdfast_sandbox::clock::{CONFIRM_AFTER_MS, Source, Status, Verdict};
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};

/// Once the clock was set, it is brought nearer bit by bit where it is wrong by no more than this: what
/// the kernel makes good in 1,000 s (`adjtime`, 500 parts in a million).
pub const MOST_SLEWED_US: i64 = 500_000;
/// So many times in a row the clock must be said to be as wrong before it jumps again.
pub const CONFIRMATIONS: u8 = 4;
/// Two claims that are no further apart than this are one.
const SAME_US: u64 = 1_000_000;

/// The time that no clock of the device shows less than, in seconds since 1970: when the image that
/// was committed last was built, or when what a repository releases was made, as its offline keys say. It only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct TimeFloor(pub u64);

impl TimeFloor {
    /// Name of the file on the `state` partition.
    pub const FILE_NAME: &str = "time-floor";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 10;

    /// The bytes of the file.
    ///
    /// # Errors
    /// The encoder's own; never for a number.
    pub fn encode(self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(&self)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The bytes are no number, or more than one.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

/// Judges every claim about the clock since boot.
#[derive(Debug, Clone)]
pub struct Judge {
    /// When the image was built.
    built: u64,
    floor: u64,
    source: Source,
    /// When the last claim was followed, in milliseconds of the monotonic clock.
    checked: Option<u64>,
    /// A claim that waits to be confirmed: microseconds, how often it was heard, and when last.
    doubted: Option<(i64, u8, u64)>,
}

impl Judge {
    /// Begins with a clock that shows no less than `floor`, in seconds since 1970.
    #[must_use]
    pub fn new(floor: u64, source: Source) -> Self {
        Self { built: floor, floor, source, checked: None, doubted: None }
    }

    /// The floor has risen.
    pub fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// True for a time that the floor may rise to: whoever says so, never 20 years after the image was built.
    #[must_use]
    pub fn may_be_floor(&self, seconds: u64) -> bool {
        let most = self.built.saturating_add(MOST_AFTER_FLOOR_S);
        (self.floor..=most).contains(&seconds)
    }

    /// The clock was raised to the floor: what it showed before was wrong.
    pub fn forget_source(&mut self) {
        self.source = Source::Floor;
    }

    /// Judges the claim that the clock, which shows `shown_us` microseconds since 1970, is behind by
    /// `behind_us`. `now` is in milliseconds of the monotonic clock.
    pub fn judge(&mut self, shown_us: u64, behind_us: i64, now: u64) -> Verdict {
        let verdict = self.verdict(shown_us, behind_us, now);
        if matches!(verdict, Verdict::Step | Verdict::Slew) {
            self.source = Source::Network;
            self.checked = Some(now);
            self.doubted = None;
        }
        verdict
    }

    fn verdict(&mut self, shown_us: u64, behind_us: i64, now: u64) -> Verdict {
        let us = |seconds: u64| seconds.saturating_mul(1_000_000);
        let told = shown_us.checked_add_signed(behind_us);
        let Some(told) = told.filter(|told| *told >= us(self.floor)) else {
            return if behind_us < 0 { Verdict::BeforeFloor } else { Verdict::TooLate };
        };
        if told > us(self.floor.saturating_add(MOST_AFTER_FLOOR_S)) {
            return Verdict::TooLate;
        }
        if self.checked.is_none() {
            return Verdict::Step;
        }
        if behind_us.unsigned_abs() <= MOST_SLEWED_US.unsigned_abs() {
            return Verdict::Slew;
        }
        let (heard, since) = match self.doubted {
            Some((claim, heard, since)) if claim.abs_diff(behind_us) <= SAME_US => (heard, since),
            _ => (0, now),
        };
        if heard > 0 && now.saturating_sub(since) < CONFIRM_AFTER_MS {
            return Verdict::Unconfirmed;
        }
        let heard = heard.saturating_add(1);
        self.doubted = Some((behind_us, heard, now));
        if heard >= CONFIRMATIONS { Verdict::Step } else { Verdict::Unconfirmed }
    }

    /// Returns the status of a clock that shows `seconds` since 1970.
    #[must_use]
    pub fn status(&self, seconds: u64, now: u64) -> Status {
        Status {
            seconds,
            floor: self.floor,
            source: self.source,
            checked_s_ago: self.checked.map(|at| now.saturating_sub(at) / 1000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOR: u64 = 1_790_000_000;
    const FLOOR_US: u64 = FLOOR * 1_000_000;
    const HOUR_US: i64 = 3_600_000_000;

    #[test]
    fn the_first_claim_sets_the_clock_and_later_ones_slew_it() {
        let mut judge = Judge::new(FLOOR, Source::Floor);
        assert_eq!(judge.status(FLOOR, 0).source, Source::Floor);
        assert_eq!(judge.judge(FLOOR_US, 24 * HOUR_US, 5_000), Verdict::Step);
        let status = judge.status(FLOOR, 8_500);
        assert_eq!((status.source, status.checked_s_ago), (Source::Network, Some(3)));
        for behind in [-MOST_SLEWED_US, 0, MOST_SLEWED_US] {
            assert_eq!(judge.judge(FLOOR_US + 1_000_000, behind, 10_000), Verdict::Slew);
        }
    }

    #[test]
    fn nothing_leads_before_the_floor_or_20_years_beyond() {
        let mut judge = Judge::new(FLOOR, Source::Hardware);
        assert_eq!(judge.judge(FLOOR_US, -1, 0), Verdict::BeforeFloor);
        assert_eq!(judge.judge(0, i64::MIN, 0), Verdict::BeforeFloor);
        assert_eq!(judge.judge(u64::MAX, i64::MAX, 0), Verdict::TooLate);
        let most = i64::try_from(MOST_AFTER_FLOOR_S * 1_000_000).unwrap();
        assert_eq!(judge.judge(FLOOR_US, most + 1, 0), Verdict::TooLate);
        assert_eq!(judge.status(FLOOR, 0).source, Source::Hardware, "nothing was believed");
        assert_eq!(judge.judge(FLOOR_US, most, 0), Verdict::Step);
        judge.raise_floor(FLOOR + 10);
        assert_eq!(judge.judge(FLOOR_US + 10_000_000, -1, 0), Verdict::BeforeFloor);
        judge.raise_floor(FLOOR);
        assert_eq!(judge.status(0, 0).floor, FLOOR + 10, "a floor falls never");
    }

    #[test]
    fn a_clock_that_was_set_wrong_is_right_again_after_four_claims() {
        let mut judge = Judge::new(FLOOR, Source::Floor);
        // A forged answer of 2045; the time is what the floor says.
        let forged = 18 * 365 * 24 * HOUR_US;
        assert_eq!(judge.judge(FLOOR_US, forged, 0), Verdict::Step);
        let shown = FLOOR_US.checked_add_signed(forged).unwrap();
        let mut now = 0;
        for _ in 1..CONFIRMATIONS {
            now += CONFIRM_AFTER_MS;
            assert_eq!(judge.judge(shown, 1000 - forged, now), Verdict::Unconfirmed);
            assert_eq!(judge.judge(shown, 1000 - forged, now + 1), Verdict::Unconfirmed);
        }
        now += CONFIRM_AFTER_MS;
        assert_eq!(judge.judge(shown, 1000 - forged, now), Verdict::Step);
    }

    #[test]
    fn claims_that_differ_or_are_repeated_at_once_confirm_nothing() {
        let mut judge = Judge::new(FLOOR, Source::Floor);
        assert_eq!(judge.judge(FLOOR_US, 0, 0), Verdict::Step);
        for number in 0..20 {
            assert_eq!(judge.judge(FLOOR_US, HOUR_US, number), Verdict::Unconfirmed);
        }
        for number in 1..20u64 {
            let claim = HOUR_US * i64::try_from(number).unwrap();
            let now = number * CONFIRM_AFTER_MS;
            assert_eq!(judge.judge(FLOOR_US, claim, now), Verdict::Unconfirmed);
        }
    }

    #[test]
    fn the_floor_never_rises_20_years_after_the_image_was_built() {
        let mut judge = Judge::new(1_000, Source::Floor);
        assert!(!judge.may_be_floor(999) && judge.may_be_floor(1_001));
        let most = 1_000 + MOST_AFTER_FLOOR_S;
        judge.raise_floor(most);
        assert!(
            judge.may_be_floor(most) && !judge.may_be_floor(most + 1),
            "however often it has risen"
        );
    }

    #[test]
    fn a_floor_survives_its_file() {
        let floor = TimeFloor(u64::MAX);
        let bytes = floor.encode().unwrap();
        assert!(bytes.len() <= TimeFloor::MAX_ENCODED_BYTES);
        assert_eq!(TimeFloor::decode(&bytes), Ok(floor));
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_the_clock_stays_within_its_bounds(
            shown in FLOOR_US..FLOOR_US * 2,
            claims in proptest::collection::vec((any::<i64>(), 0u64..1_000_000), 1..50),
        ) {
            let mut judge = Judge::new(FLOOR, Source::Floor);
            let (mut shown, mut now) = (shown, 0);
            for (claim, later) in claims {
                now = later.saturating_add(now);
                if let Verdict::Step | Verdict::Slew = judge.judge(shown, claim, now) {
                    shown = shown.checked_add_signed(claim).unwrap();
                    prop_assert!(shown >= FLOOR_US);
                    prop_assert!(shown <= FLOOR_US + MOST_AFTER_FLOOR_S * 1_000_000);
                }
            }
        }

    }
}
