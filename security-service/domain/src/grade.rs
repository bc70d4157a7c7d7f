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

    fn bit(self) -> u8 {
        match self {
            Self::Software => 1,
            Self::Emulated => 2,
            Self::Hardware => 4,
            Self::HardwareVerified => 8,
        }
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

/// A set of grades: those that a catalog or a group takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grades(u8);

impl Grades {
    /// What a new catalog takes: everything but emulated TPMs, which a production catalog has no business with.
    pub const OF_NEW_CATALOGS: Self = Self(1 | 4 | 8);

    /// Returns the set of these.
    #[must_use]
    pub fn of(grades: &[Grade]) -> Self {
        Self(grades.iter().fold(0, |set, grade| set | grade.bit()))
    }

    /// True if the grade is in it.
    #[must_use]
    pub fn has(self, grade: Grade) -> bool {
        self.0 & grade.bit() != 0
    }

    /// Returns the grades in it, from the least on.
    #[must_use]
    pub fn list(self) -> Vec<Grade> {
        Grade::ALL.into_iter().filter(|grade| self.has(*grade)).collect()
    }
}

impl fmt::Display for Grades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.list().into_iter().map(Grade::word).collect();
        f.write_str(&words.join(","))
    }
}

impl FromStr for Grades {
    type Err = NoGrade;

    /// Reads grades with commas between them; no text is no grades.
    fn from_str(text: &str) -> Result<Self, NoGrade> {
        let words = text.split(',').filter(|word| !word.is_empty());
        Ok(Self::of(&words.map(str::parse).collect::<Result<Vec<Grade>, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_grades_is_read_as_it_is_written() {
        for bits in 0..16 {
            let grades = Grades(bits);
            assert_eq!(grades.to_string().parse(), Ok(grades));
            assert_eq!(Grades::of(&grades.list()), grades);
        }
        assert_eq!("hard".parse::<Grade>(), Err(NoGrade("hard".to_owned())));
        "software,hard".parse::<Grades>().unwrap_err();
    }

    #[test]
    fn a_new_catalog_takes_no_emulated_tpm() {
        let taken = Grade::ALL.map(|grade| Grades::OF_NEW_CATALOGS.has(grade));
        assert_eq!(taken, [true, false, true, true]);
    }
}
