//! Starting a component: its plan is applied whole, or the program does not run.
//!
//! ```text
//! init --clone3, born in the control group, new namespaces--> stub, PID 1 of its namespace
//!   stub: says how soon it is ended where memory runs out, binds the notify socket, builds the root, forks, gives up every privilege, then reaps, forwards
//!         signals, hands on what the component says
//!     `--fork--> component: descriptors, limits, ids, capabilities, MDWE, Landlock, seccomp, execve
//! ```
//!
//! Every step that fails is reported through a pipe that `execve` closes, so that the caller knows
//! whether the program itself was started. The order of the steps is the security argument.

mod command;
mod confine;
mod descriptors;
mod report;
mod root;
mod step;
mod stub;

use crate::channel;
use crate::child::{clone, exit};
use crate::clock::monotonic_ms;
use crate::errno::errno;
use crate::poll::Poll;
use command::Program;
pub use command::{Command, Notify};
use holdfast_sandbox::policy::{Network, Root, ended_first};
use linux_raw_sys::general::{
    CLONE_CLEAR_SIGHAND, CLONE_INTO_CGROUP, CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS,
};
use report::{REPORT_BYTES, Report};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
pub use rustix::process::Pid;
use rustix::process::{Signal, kill_process};
use std::io;
use step::{Refused, Step, at};

/// The file in which a process says how soon it is ended when there is no memory left; its children begin with the same.
const ADJUSTMENT: &str = "/proc/self/oom_score_adj";

/// A start that failed.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No process could be made.
    #[error("cannot create a process")]
    Clone(#[source] io::Error),
    /// An argument of the program holds a NUL.
    #[error("an argument of the program holds a NUL")]
    Argument(#[from] std::ffi::NulError),
    /// The pipe that reports the child's steps failed.
    #[error("cannot learn whether the program was started")]
    Report(#[source] io::Error),
    /// The program did not run in time.
    #[error("the program did not run within {0} ms")]
    TooSlow(u64),
    /// A step in the child was refused; the program never ran.
    #[error("cannot {step} for the program")]
    Step {
        /// The step, as an infinitive.
        step: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

/// Starts the program and returns the pid of its stub once the kernel has replaced the child by
/// the program. The caller kills the control group when this fails.
///
/// # Errors
/// [`SpawnError`]; the program then never ran.
pub fn spawn(command: &Command<'_>) -> Result<Pid, SpawnError> {
    let (report, low) = channel::output_pipe().map_err(SpawnError::Report)?;
    // Above every number that the component's own descriptors get.
    let report_child = rustix::io::fcntl_dupfd_cloexec(&low, 64)
        .map_err(|error| SpawnError::Report(error.into()))?;
    // A number this low may be one that the component's descriptors are put at.
    drop(low);
    let program = Program::new(command)?;
    let mut flags = CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
    if matches!(command.plan.root, Root::Own(_)) {
        flags |= u64::from(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS);
    }
    // In a network of its own that nobody has set up not even the loopback device is on.
    if command.plan.network == Network::None {
        flags |= u64::from(CLONE_NEWNET);
    }
    // The child only makes system calls, and ends without returning.
    match clone(flags, Some(command.cgroup)).map_err(|error| SpawnError::Clone(error.into()))? {
        None => {
            let mut report = Report::new(report_child);
            let refused = become_stub(command, &program, &mut report);
            report.send(refused);
            exit(127)
        }
        Some(pid) => {
            // Now the pipe ends when both children have let go of it.
            drop(report_child);
            outcome(&report, command.within_ms).map(|()| pid)
        }
    }
}

/// Asks the program to end (`SIGTERM`, which its stub forwards). `pid` must be a child that was
/// not reaped yet.
///
/// # Errors
/// There is no such process.
pub fn terminate(pid: Pid) -> io::Result<()> {
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Has the program abort (`SIGABRT`, which its stub forwards), of which the kernel notes where it was. `pid` must be a child that
/// was not reaped yet.
///
/// # Errors
/// There is no such process.
pub fn abort(pid: Pid) -> io::Result<()> {
    Ok(kill_process(pid, Signal::ABORT)?)
}

/// Everything in the first child: the root, the second child, and then the life of a stub.
fn become_stub(command: &Command<'_>, program: &Program, report: &mut Report) -> Refused {
    let forked = || -> Result<(Option<Pid>, Option<OwnedFd>), Refused> {
        // Out of init's session and process group: no terminal is theirs (setsid(2)).
        rustix::process::setsid().map_err(at(Step::Session))?;
        stub::block_signals().map_err(at(Step::Signals))?;
        // While the system's root is still there, with /proc in it. A child inherits the value, and raising it takes no
        // capability; lowering it does (proc_pid_oom_score_adj(5)), so that no app makes itself the last to be ended.
        let adjustment = ended_first(command.uid).to_string();
        rustix::fs::open(ADJUSTMENT, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::write(file, adjustment.as_bytes()))
            .map_err(at(Step::EndedFirst))?;
        let notify = command.notify.map(|notify| notify.path.bind()).transpose();
        let notify = notify.map_err(|error| (Step::Notify, errno(&error.source)))?;
        // Entering a network namespace takes CAP_SYS_ADMIN, which both processes are still to lose.
        if let Network::Granted(_) = &command.plan.network {
            let namespace = command.network.ok_or((Step::Network, Errno::NOENT))?;
            namespace.enter().map_err(at(Step::Network))?;
        }
        if let Root::Own(mounts) = &command.plan.root {
            root::build(mounts, &command.trees, command.uid).map_err(at(Step::Root))?;
        }
        // Everything that both share is in place: namespaces, root and network.
        let child = clone(CLONE_CLEAR_SIGHAND, None).map_err(at(Step::Fork))?;
        Ok((child, notify))
    };
    match forked() {
        Err(refused) => refused,
        Ok((None, notify)) => {
            // It is closed by its number, as everything that is not the component's.
            std::mem::forget(notify);
            confine::become_component(command, program, report)
        }
        Ok((Some(child), notify)) => match stub::confine(command, notify, report) {
            Ok(ends) => stub::live(child, &ends),
            Err(refused) => {
                // The program must not outlive a stub that is not confined.
                let _ = kill_process(child, Signal::KILL);
                refused
            }
        },
    }
}

/// Reads the report pipe: its end means that the program runs.
fn outcome(report: &OwnedFd, within_ms: u64) -> Result<(), SpawnError> {
    let deadline = monotonic_ms().saturating_add(within_ms);
    let mut message = [0u8; REPORT_BYTES];
    loop {
        match channel::read(report, &mut message).map_err(SpawnError::Report)? {
            Some(0) => return Ok(()),
            Some(REPORT_BYTES) => {
                let [step, number @ ..] = message;
                return Err(SpawnError::Step {
                    step: Step::words(step),
                    source: io::Error::from_raw_os_error(i32::from_ne_bytes(number)),
                });
            }
            Some(_) => return Err(SpawnError::Report(io::ErrorKind::UnexpectedEof.into())),
            None => {}
        }
        let left = deadline.saturating_sub(monotonic_ms());
        if left == 0 {
            return Err(SpawnError::TooSlow(within_ms));
        }
        let mut poll = Poll::new();
        poll.add(report);
        poll.wait(left).map_err(SpawnError::Report)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_reports_nothing_is_not_waited_for() {
        let (report, child) = channel::output_pipe().unwrap();
        assert!(matches!(outcome(&report, 20), Err(SpawnError::TooSlow(20))));
        drop(child);
        assert!(outcome(&report, 20).is_ok(), "execve has closed it");
    }

    #[test]
    fn a_step_that_failed_is_named() {
        let (report, child) = channel::output_pipe().unwrap();
        let errno = Errno::NOENT.raw_os_error().to_ne_bytes();
        rustix::io::write(&child, &[&[Step::Execute as u8], errno.as_slice()].concat()).unwrap();
        let error = outcome(&report, 1_000).unwrap_err();
        assert_eq!(error.to_string(), "cannot execute for the program");
    }
}
