//! The stub: the first process of a component's namespace.
//!
//! It executes nothing, opens nothing, holds no privilege, and does three things: it reaps, it
//! forwards the signals that init sends, and it writes the program's raw wait status to a pipe.
//! Without it the program would be PID 1 of its namespace, deaf to signals it does not handle.

use super::confine::drop_privileges;
use super::{Command, Refused, Step, at, close_range, duplicate};
use rustix::fd::{AsRawFd, BorrowedFd, RawFd};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::thread::{set_name, set_no_new_privs};

/// Blocks every signal, for [`live`] to wait for them.
pub(super) fn block_signals() -> Result<(), Errno> {
    let set = full_set();
    // SAFETY: `set` is an initialised set; the old mask is not wanted.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(Errno::INVAL),
    }
}

fn full_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigfillset` initialises the whole set that the pointer leads to.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: it was initialised by the line above.
    unsafe { set.assume_init() }
}

/// Gives up everything but the status pipe, which is returned, and the report pipe, which is
/// closed last: from then on init knows that both processes are as they should be.
pub(super) fn confine(
    command: &Command<'_>,
    report: BorrowedFd<'_>,
) -> Result<BorrowedFd<'static>, Refused> {
    const STATUS: RawFd = 0;
    let descriptors = || -> Result<(), Errno> {
        let report = report.as_raw_fd();
        duplicate(command.status.as_raw_fd(), STATUS, 0)?;
        close_range(STATUS.saturating_add(1), report.saturating_sub(1))?;
        close_range(report.saturating_add(1), RawFd::MAX)
    };
    descriptors().map_err(at(Step::StubDescriptors))?;
    let _ = set_name(c"stub");
    drop_privileges(command.uid, &[]).map_err(|(_, error)| (Step::StubPrivileges, error))?;
    set_no_new_privs(true).map_err(at(Step::StubPrivileges))?;
    command.filters.stub.apply().map_err(at(Step::StubSeccomp))?;
    // SAFETY: its owner is in a frame that `live` never returns to.
    unsafe { libc::close(report.as_raw_fd()) };
    // SAFETY: number 0 is the status pipe and stays open until this process ends.
    Ok(unsafe { BorrowedFd::borrow_raw(STATUS) })
}

/// Reaps and forwards until the program has ended, and reports its status.
pub(super) fn live(program: Pid, status: &impl rustix::fd::AsFd) -> ! {
    let set = full_set();
    loop {
        // SAFETY: the set is initialised, and no information about the signal is asked for.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if signal == libc::SIGCHLD {
            while let Ok(Some((pid, ended))) = wait(WaitOptions::NOHANG) {
                if pid == program {
                    let _ = rustix::io::write(status, &ended.as_raw().to_ne_bytes());
                    // SAFETY: ends the stub at once; its namespace ends with it.
                    unsafe { libc::_exit(0) }
                }
            }
        } else if let Some(signal) = Signal::from_named_raw(signal) {
            // It may have ended a moment ago; SIGCHLD says so next.
            let _ = kill_process(program, signal);
        }
    }
}
