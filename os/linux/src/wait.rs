//! Learning what became of child processes, adopted orphans included.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait};
use std::fmt;
use std::io;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

/// Reaps one child that has ended. `None` when none has.
///
/// # Errors
/// The kernel refuses for another reason than having nothing to report.
pub fn reap() -> io::Result<Option<(Pid, Exit)>> {
    loop {
        let (pid, status) = match wait(WaitOptions::NOHANG) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => return Ok(Some((pid, Exit::Code(code)))),
            (None, Some(signal)) => return Ok(Some((pid, Exit::Signal(signal)))),
            (None, None) => {}
        }
    }
}
