//! Grades of evidence, and sets of them: those that a catalog or a group takes.

pub use holdfast_types::{Grade, NoGrade};
use std::fmt;
use std::str::FromStr;

/// The bit of a grade in a set.
fn bit(grade: Grade) -> u8 {
    match grade {
        Grade::Software => 1,
        Grade::Emulated => 2,
        Grade::Hardware => 4,
        Grade::HardwareVerified => 8,
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
        Self(grades.iter().fold(0, |set, grade| set | bit(*grade)))
    }

    /// True if the grade is in it.
    #[must_use]
    pub fn has(self, grade: Grade) -> bool {
        self.0 & bit(grade) != 0
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
