//! How the clock is, and what becomes of a claim about it, as init says it to services.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What is said again sooner than this confirms nothing, in milliseconds.
pub const CONFIRM_AFTER_MS: u64 = 60_000;

/// Where the time of the clock is from, which is how far it can be trusted.
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

/// How the clock is, for whoever may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it shows, in seconds since 1970.
    pub seconds: u64,
    /// What it is never set below, in seconds since 1970.
    pub floor: u64,
    /// Where its time is from.
    pub source: Source,
    /// Seconds since time servers last agreed with it.
    pub checked_s_ago: Option<u64>,
}

/// What becomes of a claim that the clock is wrong.
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
