//! Learning what became of child processes, adopted orphans included.

use holdfast_lifecycle::exit::Exit;
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, wait, waitpid};
use std::io;

/// Waits for the end of a child that has just been killed, and reaps it.
///
/// # Errors
/// The process is no child of this one.
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
