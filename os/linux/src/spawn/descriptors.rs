//! Descriptors by their numbers, in a child that has forgotten their owners.

use crate::errno::last_errno;
use rustix::fd::RawFd;
use rustix::io::Errno;

/// `dup3` to a number, whoever owned it before.
pub(super) fn duplicate(from: RawFd, to: RawFd, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: plain numbers go in; what `to` was before is this child's copy, used by nobody.
    if unsafe { libc::dup3(from, to, flags) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Closes every descriptor from `first` to `last`; none when `last` is below `first`.
pub(super) fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    if last < first {
        return Ok(());
    }
    // SAFETY: closes descriptors of this child alone; callers use none of them after this and have
    // forgotten their owners.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed == 0 { Ok(()) } else { Err(last_errno()) }
}
