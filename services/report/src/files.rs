//! The files of the spool, and the level, in the service's directory on `state`.

use holdfast_failure_reports::Level;
use holdfast_failure_reports::recorder::Recorder;
use holdfast_failure_reports::spool::{Change, File, Found, MAX_FILE_BYTES};
use holdfast_linux::{PathError, file};
use std::path::{Path, PathBuf};

/// File with the level that the service has asked for last, as a word.
const LEVEL: &str = "level";
/// File with the most that the device's owner lets it report, as a word.
const OWNER_LEVEL: &str = "owner-level";
const MAX_LEVEL_BYTES: usize = 16;

/// A directory with the spool.
#[derive(Debug)]
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn path(&self, file: File) -> PathBuf {
        self.directory.join(file.name())
    }

    /// Reads a file of the spool; `None` where there is none. What is longer than one is none of the spool's, and counts as missing.
    pub(crate) fn read(&self, file: File) -> Result<Option<Vec<u8>>, PathError> {
        let content = file::read_bounded(&self.path(file), MAX_FILE_BYTES)?;
        Ok(content.filter(|content| content.len() <= MAX_FILE_BYTES))
    }

    /// Returns what both files hold, of which one at a time is in memory.
    pub(crate) fn found(&self) -> Result<[Option<Option<Found>>; 2], PathError> {
        let [a, b] = File::ALL;
        let found = |file| Ok(self.read(file)?.map(|content| Found::read(&content)));
        Ok([found(a)?, found(b)?])
    }

    /// Returns the next batch of what is to be sent, with the number of its last record. It is of one file, so that one is in memory.
    pub(crate) fn batch(&self, recorder: &Recorder) -> Result<Option<(Vec<u8>, u64)>, PathError> {
        for file in recorder.unsent() {
            let content = self.read(file)?;
            let contents = File::ALL.map(|of| content.as_deref().filter(|_| of == file));
            if let Some(batch) = recorder.batch(contents) {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    pub(crate) fn carry_out(&self, change: &Change) -> Result<(), PathError> {
        match change {
            Change::Begin(file, bytes) => file::write_from(&self.path(*file), 0, bytes),
            Change::Write(file, at, bytes) => file::write_from(&self.path(*file), *at, bytes),
            Change::Remove(file) => file::erase(&self.path(*file)),
        }
    }

    /// Returns the level that was asked for last; `None` for one that was never kept or cannot be read.
    pub(crate) fn level(&self) -> Result<Option<Level>, PathError> {
        let bytes = file::read_bounded(&self.directory.join(LEVEL), MAX_LEVEL_BYTES)?;
        Ok(bytes.and_then(|bytes| level_of(&bytes)))
    }

    pub(crate) fn keep_level(&self, level: Level) -> Result<(), PathError> {
        file::replace(&self.directory.join(LEVEL), level.word().as_bytes())
    }

    /// Returns the most that the device's owner lets it report; `None` for what he has never said. What cannot be read is
    /// `off`: he has said something.
    pub(crate) fn owner_level(&self) -> Result<Option<Level>, PathError> {
        let bytes = file::read_bounded(&self.directory.join(OWNER_LEVEL), MAX_LEVEL_BYTES)?;
        Ok(bytes.map(|bytes| level_of(&bytes).unwrap_or(Level::Off)))
    }

    pub(crate) fn keep_owner_level(&self, level: Level) -> Result<(), PathError> {
        file::replace(&self.directory.join(OWNER_LEVEL), level.word().as_bytes())
    }
}

fn level_of(word: &[u8]) -> Option<Level> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is a failed test")]
    use super::*;
    use holdfast_failure_reports::batch::Epoch;
    use holdfast_failure_reports::moment::Moment;
    use holdfast_failure_reports::record::Body;
    use holdfast_failure_reports::samples;

    #[test]
    fn changes_are_carried_out_as_the_spool_means_them() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        assert_eq!(File::ALL.map(|file| files.read(file).unwrap()), [None, None]);
        for change in [
            Change::Begin(File::B, b"begun".to_vec()),
            Change::Write(File::B, 5, b" more".to_vec()),
            Change::Write(File::B, 5, b"!".to_vec()),
        ] {
            files.carry_out(&change).unwrap();
        }
        assert_eq!(
            File::ALL.map(|file| files.read(file).unwrap()),
            [None, Some(b"begun!".to_vec())]
        );
        for file in File::ALL {
            files.carry_out(&Change::Remove(file)).unwrap();
        }
        assert_eq!(File::ALL.map(|file| files.read(file).unwrap()), [None, None]);
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

    #[test]
    fn what_the_owner_has_said_is_kept_and_cannot_be_read_as_more() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        assert_eq!(files.owner_level().unwrap(), None);
        files.keep_owner_level(Level::Health).unwrap();
        assert_eq!(files.owner_level().unwrap(), Some(Level::Health));
        for damaged in [&b""[..], b"loud", b"full and something else"] {
            std::fs::write(directory.path().join(OWNER_LEVEL), damaged).unwrap();
            assert_eq!(files.owner_level().unwrap(), Some(Level::Off), "{damaged:?}");
        }
    }

    #[test]
    fn off_erases_what_lies_there_and_on_again_brings_nothing_back() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        let now = Moment { uptime_s: 1, at: None };
        let begin = |level| Recorder::begin(level, files.found().unwrap(), Epoch([1; 8]), now);
        let carry_out = |changes: Vec<Change>| {
            changes.iter().try_for_each(|change| files.carry_out(change)).unwrap();
        };
        let mut recorder = begin(Level::Full);
        recorder.record(Body::Ended(samples::ended()), now, 0);
        carry_out(recorder.write(now).unwrap());
        let spool = std::fs::read(directory.path().join(File::A.name())).unwrap();
        let name = b"camera";
        assert!(spool.windows(name.len()).any(|part| part == name), "the control");
        assert!(files.batch(&recorder).unwrap().is_some(), "the control");
        carry_out(recorder.set_level(Level::effective(Level::Full, Level::Off)));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        for level in [Level::Off, Level::Health, Level::Full] {
            carry_out(recorder.set_level(level));
            assert_eq!(files.batch(&recorder).unwrap(), None, "{level}");
            assert_eq!(files.batch(&begin(level)).unwrap(), None, "{level}");
        }
    }

    #[test]
    fn a_file_that_is_removed_leaves_no_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path());
        files.carry_out(&Change::Begin(File::A, vec![7; 5000])).unwrap();
        // What another name of the file shows is what lies on the medium.
        let other = directory.path().join("other");
        std::fs::hard_link(directory.path().join(File::A.name()), &other).unwrap();
        files.carry_out(&Change::Remove(File::A)).unwrap();
        assert_eq!(File::ALL.map(|file| files.read(file).unwrap()), [None, None]);
        assert_eq!(std::fs::read(&other).unwrap(), [0; 5000]);
    }
}
