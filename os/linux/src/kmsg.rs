//! The kernel's log: a bounded ring with monotonic times that also reaches the console.
//!
//! Source: kernel document `ABI/testing/dev-kmsg`. One write is one record.

use crate::PathError;
use rustix::fs::{Mode, OFlags, open};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Longest text of a record in bytes, well below the kernel's own bound of about 1000.
pub const MAX_RECORD_BYTES: usize = 960;

/// How loud a record is, as in `syslog(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Something failed that should not have.
    Error = 3,
    /// Worth a look.
    Warning = 4,
    /// Part of a normal life.
    Notice = 5,
}

/// An open log.
#[derive(Debug)]
pub struct Kmsg {
    device: OwnedFd,
}

impl Kmsg {
    /// Opens `/dev/kmsg` for writing.
    ///
    /// # Errors
    /// The device is not there or may not be written.
    pub fn open() -> Result<Self, PathError> {
        let path = Path::new("/dev/kmsg");
        open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map(|device| Self { device })
            .map_err(|error| PathError::new("open", path, error))
    }

    /// Writes `tag: text` as one record. A log that cannot be written is no reason to stop, so
    /// failures are ignored.
    pub fn log(&self, level: Level, tag: &str, text: &str) {
        let _ = rustix::io::write(&self.device, &record(level, tag, text));
    }
}

/// One record, cut to size. It ends with a newline: without one, the kernel holds the record back
/// until the next, which may continue it.
fn record(level: Level, tag: &str, text: &str) -> Vec<u8> {
    let mut record = Vec::with_capacity(MAX_RECORD_BYTES);
    // Writing to memory cannot fail.
    let _ = write!(record, "<{}>{tag}: {text}", level as u8);
    record.truncate(MAX_RECORD_BYTES.saturating_sub(1));
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_with_a_newline_within_its_bound() {
        assert_eq!(record(Level::Notice, "init", "up"), b"<5>init: up\n");
        let long = record(Level::Error, "app", &"x".repeat(5000));
        assert_eq!((long.len(), long.last()), (MAX_RECORD_BYTES, Some(&b'\n')));
    }
}
