//! Copies of this process.

use crate::errno::last_errno;
use linux_raw_sys::general::{CLONE_CLEAR_SIGHAND, CLONE_VFORK, clone_args};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::Pid;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Has a copy of this process do something, with everything that this one has open, and end. It is reaped like every other
/// child. `act` must not wait for long.
///
/// # Errors
/// There is no process to be had.
pub fn in_a_child(act: impl FnOnce()) -> io::Result<()> {
    in_child_with(CLONE_CLEAR_SIGHAND, act)
}

/// As [`in_a_child`], and waits until it has ended. `act` must not wait at all.
///
/// # Errors
/// There is no process to be had.
pub(crate) fn in_a_child_until_its_end(act: impl FnOnce()) -> io::Result<()> {
    // Without CLONE_VM the child has memory of its own; CLONE_VFORK alone has this process sleep
    // until the child is gone (clone(2)).
    in_child_with(CLONE_CLEAR_SIGHAND | u64::from(CLONE_VFORK), act)
}

fn in_child_with(flags: u64, act: impl FnOnce()) -> io::Result<()> {
    if clone(flags, None)?.is_none() {
        act();
        exit(0)
    }
    Ok(())
}

/// Exit code of a child that has panicked before it was another program.
pub const CHILD_PANICKED: i32 = 126;

/// True in every copy of this process that [`clone`] has made.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// Ends a child of [`clone`] at once: nothing of what its parent does at its own end is done by it.
pub(crate) fn end_if_child() {
    if IS_CHILD.load(Ordering::Relaxed) {
        exit(CHILD_PANICKED)
    }
}

/// Ends a child at once, without running anything that its parent does at its own end.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: a plain number goes in; nothing of this process, whose memory is a copy, is used after it.
    unsafe { libc::_exit(code) }
}

/// A copy of this process; `None` in the copy.
pub(crate) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Pid>, Errno> {
    let args = clone_args {
        flags,
        // wait4(2) without `__WALL` reaps those children alone whose end is told by SIGCHLD.
        exit_signal: u64::from(libc::SIGCHLD.unsigned_abs()),
        // The child is born in its group: all that it ever uses is on the group's account, and no
        // fork of it escapes a move.
        cgroup: cgroup.map_or(0, |cgroup| u64::from(cgroup.as_raw_fd().unsigned_abs())),
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
    };
    // SAFETY: the arguments have the layout and size that clone3(2) demands. Without CLONE_VM the
    // child has a copy of this process, which has a single thread (init never makes another, and
    // neither does a stub), so no lock can be held in it.
    //
    // The C library does not learn of it and still takes the parent's number for this thread's, 1. It uses that
    // in `raise` and `abort` alone, which a panic does not come to ([`end_if_child`]). Where something else aborts, it
    // sends its signal to number 1: to itself in a new process namespace, to its stub, which forwards it,
    // or to init, for which the kernel drops it (`SIGNAL_UNKILLABLE`); then `abort` ends the child by a fault.
    let result =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<clone_args>()) };
    match i32::try_from(result) {
        Ok(0) => {
            IS_CHILD.store(true, Ordering::Relaxed);
            Ok(None)
        }
        Ok(pid) => Pid::from_raw(pid).map(Some).ok_or_else(last_errno),
        Err(_) => Err(last_errno()),
    }
}
