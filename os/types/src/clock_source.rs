//! The source of the clock's time, which is how far the time can be trusted.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The source of the clock's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClockSource {
    /// Nobody has said the time: it is not earlier than shown, and that is all.
    Floor,
    /// The board's clock, which nobody has checked.
    Hardware,
    /// Time servers, whose answers nobody has signed.
    Network,
}

impl fmt::Display for ClockSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Hardware => "hardware",
            Self::Network => "network",
        })
    }
}
