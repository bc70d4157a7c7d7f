//! How much a device reports.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// How much a device reports, from nothing to everything.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
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
pub struct NoLevel;

impl Level {
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

    /// Returns the level that holds: what the service asks for, unless the device's owner has switched reports off.
    #[must_use]
    pub fn effective(asked: Self, owner_is_off: bool) -> Self {
        if owner_is_off { Self::Off } else { asked }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Level {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        Self::ALL.into_iter().find(|level| level.word() == text).ok_or(NoLevel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_of_the_owner_wins() {
        for level in Level::ALL {
            assert_eq!(level.word().parse(), Ok(level));
            assert_eq!(Level::effective(level, true), Level::Off);
            assert_eq!(Level::effective(level, false), level);
        }
        assert_eq!("none".parse::<Level>(), Err(NoLevel));
    }
}
