//! Learning what became of child processes, adopted orphans included.

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait, waitpid};
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

impl Exit {
    /// How a process ended, from its raw wait status (`wait(2)`).
    #[must_use]
    pub fn from_raw(status: i32) -> Self {
        // Kept as a number: a real-time signal, of which libraries have no name, can end a process
        // too.
        if libc::WIFSIGNALED(status) {
            Self::Signal(libc::WTERMSIG(status))
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }

    /// The raw wait status, without the flag for a core.
    #[must_use]
    pub fn raw(self) -> i32 {
        match self {
            // As wait(2) packs them: a code in the second byte, a signal in the first seven bits.
            Self::Code(code) => (code & 0xff) << 8,
            Self::Signal(signal) => signal & 0x7f,
        }
    }

    /// True when it ended by itself with 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Waits for the end of a child that has just been killed, and reaps it.
///
/// # Errors
/// It is no child.
pub fn reap_killed(pid: Pid) -> io::Result<()> {
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps one child that has ended. `None` when none has.
///
/// # Errors
/// The kernel refuses for another reason than having nothing to report.
pub fn reap() -> io::Result<Option<(Pid, Exit)>> {
    loop {
        // Any child: in the system's root, PID 1 is also the parent of those whose own has ended.
        let (pid, status) = match wait(WaitOptions::NOHANG) {
            Ok(Some(ended)) => ended,
            Ok(None) | Err(Errno::CHILD) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => return Ok(Some((pid, Exit::Code(code)))),
            (None, Some(signal)) => return Ok(Some((pid, Exit::Signal(signal)))),
            // Only a traced child is reported without having ended: there is nothing to tell of it.
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_status_is_a_code_or_a_signal() {
        assert_eq!(Exit::from_raw(7 << 8), Exit::Code(7));
        assert_eq!(Exit::from_raw(11), Exit::Signal(11));
        assert_eq!(Exit::from_raw(11 | 0x80), Exit::Signal(11), "with a core");
        assert!(Exit::from_raw(0).is_success());
        for exit in [Exit::Code(7), Exit::Signal(9)] {
            assert_eq!(Exit::from_raw(exit.raw()), exit);
        }
    }
}
