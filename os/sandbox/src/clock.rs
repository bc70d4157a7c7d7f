//! Status of the clock, and verdicts on claims about it, as init reports them to services.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Least time between two claims of which the second confirms the first, in milliseconds.
pub const CONFIRM_AFTER_MS: u64 = 60_000;

/// The source of the clock's time, which is how far the time can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Nobody has said the time: it is not earlier than shown, and that is all.
    Floor,
    /// The board's clock, which nobody has checked.
    Hardware,
    /// Time servers, whose answers nobody has signed.
    Network,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Hardware => "hardware",
            Self::Network => "network",
        })
    }
}

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
