//! The files of the spool, and the level, in the service's directory on `state`.

use holdfast_failure_reports::Level;
use holdfast_failure_reports::spool::{Change, File, MAX_FILE_BYTES};
use holdfast_linux::{PathError, file};
use std::path::{Path, PathBuf};

/// File with the level that the service has asked for last, as a word.
const LEVEL: &str = "level";
const MAX_LEVEL_BYTES: usize = 16;

/// A directory with the spool.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
}

/// The contents of both files, where they are there.
#[derive(Debug, Default)]
pub(crate) struct Contents([Option<Vec<u8>>; 2]);

impl Contents {
    pub(crate) fn get(&self) -> [Option<&[u8]>; 2] {
        self.0.each_ref().map(|content| content.as_deref())
    }
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn path(&self, file: File) -> PathBuf {
        self.directory.join(file.name())
    }

    pub(crate) fn read(&self) -> Result<Contents, PathError> {
        let [a, b] = File::ALL;
        let read = |file| {
            let content = file::read_bounded(&self.path(file), MAX_FILE_BYTES)?;
            // What is longer is none of the spool's.
            Ok(content.filter(|content| content.len() <= MAX_FILE_BYTES))
        };
        Ok(Contents([read(a)?, read(b)?]))
    }

    pub(crate) fn carry_out(&self, change: &Change) -> Result<(), PathError> {
        match change {
            Change::Begin(file, bytes) => file::write_from(&self.path(*file), 0, bytes),
            Change::Write(file, at, bytes) => file::write_from(&self.path(*file), *at, bytes),
            Change::Remove(file) => file::remove(&self.path(*file)),
        }
    }

    /// Returns the level that was asked for last; `None` for one that was never kept or cannot be read.
    pub(crate) fn level(&self) -> Result<Option<Level>, PathError> {
        let bytes = file::read_bounded(&self.directory.join(LEVEL), MAX_LEVEL_BYTES)?;
        let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        Ok(text.and_then(|text| text.parse().ok()))
    }

    pub(crate) fn keep_level(&self, level: Level) -> Result<(), PathError> {
        file::replace(&self.directory.join(LEVEL), level.word().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;

    #[test]
    fn changes_are_carried_out_as_the_spool_means_them() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        assert_eq!(files.read().unwrap().get(), [None, None]);
        for change in [
            Change::Begin(File::B, b"begun".to_vec()),
            Change::Write(File::B, 5, b" more".to_vec()),
            Change::Write(File::B, 5, b"!".to_vec()),
        ] {
            files.carry_out(&change).unwrap();
        }
        assert_eq!(files.read().unwrap().get(), [None, Some(&b"begun!"[..])]);
        for file in File::ALL {
            files.carry_out(&Change::Remove(file)).unwrap();
        }
        assert_eq!(files.read().unwrap().get(), [None, None]);
    }

    #[test]
    fn a_level_is_kept_and_a_damaged_one_is_as_good_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        assert_eq!(files.level().unwrap(), None);
        for level in Level::ALL {
            files.keep_level(level).unwrap();
            assert_eq!(files.level().unwrap(), Some(level));
        }
        std::fs::write(directory.path().join(LEVEL), b"loud").unwrap();
        assert_eq!(files.level().unwrap(), None);
    }
}
