//! The kernel's log: a bounded ring with monotonic times that also reaches the console.
//!
//! Source: kernel document `ABI/testing/dev-kmsg`. One write is one record.

use crate::PathError;
use holdfast_types::event::Event;
use rustix::fs::{Mode, OFlags, open};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Longest text of a record in bytes, well below the kernel's own bound of about 1000.
pub const MAX_RECORD_BYTES: usize = 960;

/// The level of a record, as in `syslog(2)`.
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

    /// Writes `tag: text` as one record, with the event at its end. A log that cannot be written is no reason to
    /// stop, so failures are ignored.
    pub fn log(&self, level: Level, tag: &str, text: &str, event: Option<Event>) {
        let _ = rustix::io::write(&self.device, &record(level, tag, text, event));
    }
}

/// Makes one record of one line: a text that is too long is cut, its event is not.
fn record(level: Level, tag: &str, text: &str, event: Option<Event>) -> Vec<u8> {
    let event = event.map_or_else(String::new, |event| format!(" {event}"));
    let mut record = Vec::with_capacity(MAX_RECORD_BYTES);
    // Writing to memory cannot fail.
    let _ = write!(record, "<{}>{tag}: {text}", level as u8);
    // Alerts key on the event, so that it has its room before the text has any.
    record.truncate(MAX_RECORD_BYTES.saturating_sub(event.len()).saturating_sub(1));
    // The console shows what stands behind a newline as a line of its own: the message of a panic, or a name in an
    // error, could forge one of init's that way, and would part its own line from its event.
    record.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b' ');
    record.extend_from_slice(event.as_bytes());
    // Without a newline at its end, the kernel holds a record back until the next, which may continue it.
    record.push(b'\n');
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Option<Event> = Some(holdfast_types::event::init::REBOOTING);

    #[test]
    fn a_record_ends_with_a_newline_within_its_bound() {
        assert_eq!(record(Level::Notice, "hello", "up", None), b"<5>hello: up\n");
        assert_eq!(record(Level::Notice, "init", "up", EVENT), b"<5>init: up event=rebooting\n");
        let long = record(Level::Error, "app", &"x".repeat(5000), None);
        assert_eq!((long.len(), long.last()), (MAX_RECORD_BYTES, Some(&b'\n')));
    }

    #[test]
    fn a_text_that_is_cut_keeps_its_event() {
        let long = record(Level::Error, "init", &"x".repeat(5000), EVENT);
        assert_eq!(long.len(), MAX_RECORD_BYTES);
        assert!(long.ends_with(b"x event=rebooting\n"));
    }

    #[test]
    fn a_text_with_newlines_is_one_line() {
        let panic = record(Level::Error, "init", "a\ninit: rebooting\r\x1b[2J", EVENT);
        assert_eq!(panic, b"<3>init: a init: rebooting  [2J event=rebooting\n");
    }
}
