//! How much a device reports of its failures.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How much a device reports, from nothing to everything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReportLevel {
    /// Nothing is recorded, and what was recorded is erased.
    Off,
    /// Boots, ends, updates, refusals, clock and attestation.
    #[default]
    Health,
    /// Traffic and use as well.
    Full,
}

/// The text is no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be off, health or full")]
pub struct NoReportLevel;

impl ReportLevel {
    /// All levels, the least first.
    pub const ALL: [Self; 3] = [Self::Off, Self::Health, Self::Full];

    /// Returns the level as a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Health => "health",
            Self::Full => "full",
        }
    }

    /// Returns the level that holds: what the service asks for, and no more than the device's owner lets it report.
    #[must_use]
    pub fn effective(asked: Self, owner: Self) -> Self {
        asked.min(owner)
    }
}

impl fmt::Display for ReportLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for ReportLevel {
    type Err = NoReportLevel;

    fn from_str(text: &str) -> Result<Self, NoReportLevel> {
        Self::ALL.into_iter().find(|level| level.word() == text).ok_or(NoReportLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_lets_a_device_report_no_more_than_he_says() {
        for level in ReportLevel::ALL {
            assert_eq!(level.word().parse(), Ok(level));
            assert_eq!(ReportLevel::effective(level, ReportLevel::Off), ReportLevel::Off);
            assert_eq!(ReportLevel::effective(level, ReportLevel::Full), level);
        }
        assert_eq!("none".parse::<ReportLevel>(), Err(NoReportLevel));
    }
}
