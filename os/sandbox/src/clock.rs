//! Status of the clock, and verdicts on claims about it, as init reports them to services.

pub use holdfast_types::ClockSource as Source;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Least time between two claims of which the second confirms the first, in milliseconds.
pub const CONFIRM_AFTER_MS: u64 = 60_000;

/// The clock is set to no more than so many seconds after the floor: 20 years, which a device may lie
/// unused and be updated for.
pub const MOST_AFTER_FLOOR_S: u64 = 20 * 31_556_952;

/// Status of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Current time, in seconds since 1970.
    pub seconds: u64,
    /// Floor below which the clock is never set, in seconds since 1970.
    pub floor: u64,
    /// Source of the time.
    pub source: Source,
    /// Seconds since time servers last agreed with it.
    pub checked_s_ago: Option<u64>,
}

/// Init's verdict on a claim that the clock is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The clock jumps.
    Step,
    /// The clock is brought nearer bit by bit.
    Slew,
    /// The clock was set before, and is said to be far off now: it jumps if that is said again, no
    /// sooner than [`CONFIRM_AFTER_MS`] after.
    Unconfirmed,
    /// The time would be before the floor.
    BeforeFloor,
    /// The time would be more than 20 years after the floor.
    TooLate,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "set",
            Self::Slew => "slewed",
            Self::Unconfirmed => "left until more of this is heard",
            Self::BeforeFloor => "left: the time would be before the floor",
            Self::TooLate => "left: the time would be more than 20 years after the floor",
        })
    }
}
