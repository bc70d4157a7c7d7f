//! Grades of evidence: how far it can be trusted, by who vouches for a device's key and never by what a TPM says of itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The grade of a device's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    /// A key in the device's `state`: nothing is measured, and whoever copies the card has it.
    Software,
    /// A TPM in software, of QEMU and of CI: whoever runs the host can do as he likes.
    Emulated,
    /// A TPM that a claim list or a maker's certificate vouches for.
    Hardware,
    /// A TPM with a certificate of a listed maker, on boards whose first stage fuses or a ROM verify.
    HardwareVerified,
}

impl Grade {
    /// Every grade, from the least on.
    pub const ALL: [Self; 4] =
        [Self::Software, Self::Emulated, Self::Hardware, Self::HardwareVerified];

    /// Returns the word for it, as JSON and the database have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Emulated => "emulated",
            Self::Hardware => "hardware",
            Self::HardwareVerified => "hardware-verified",
        }
    }

    /// Returns the last arc of its certificate policy, below that of all grades.
    #[must_use]
    pub fn policy(self) -> u8 {
        match self {
            Self::HardwareVerified => 1,
            Self::Hardware => 2,
            Self::Emulated => 3,
            Self::Software => 4,
        }
    }

    /// Returns the grade whose policy ends in this arc; `None` where it is none of them.
    #[must_use]
    pub fn of_policy(policy: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|grade| u64::from(grade.policy()) == policy)
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A text is no grade.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is no grade; write software, emulated, hardware or hardware-verified")]
pub struct NoGrade(pub String);

impl FromStr for Grade {
    type Err = NoGrade;

    fn from_str(text: &str) -> Result<Self, NoGrade> {
        let found = Self::ALL.into_iter().find(|grade| grade.word() == text);
        found.ok_or_else(|| NoGrade(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_grade_has_a_word_and_a_policy_of_its_own() {
        for grade in Grade::ALL {
            assert_eq!(grade.word().parse(), Ok(grade));
            assert_eq!(Grade::of_policy(grade.policy().into()), Some(grade));
        }
        assert_eq!([0, 5, 257].map(Grade::of_policy), [None; 3]);
    }
}
