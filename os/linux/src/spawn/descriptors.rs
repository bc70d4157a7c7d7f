//! Descriptors by their numbers, in a child that has forgotten their owners.

use crate::errno::last_errno;
use rustix::fd::RawFd;
use rustix::io::Errno;

/// `dup3` to a number, whoever owned it before.
pub(super) fn duplicate(from: RawFd, to: RawFd) -> Result<(), Errno> {
    // SAFETY: plain numbers go in; what `to` was before is this child's copy, used by nobody.
    if unsafe { libc::dup3(from, to, 0) } < 0 { Err(last_errno()) } else { Ok(()) }
}

/// Closes every descriptor but these.
pub(super) fn close_all_but(kept: &[RawFd]) -> Result<(), Errno> {
    let mut first = 0;
    // There are few of them: looking for the next one takes less room in PID 1 than sorting them.
    while let Some(next) = kept.iter().copied().filter(|number| *number >= first).min() {
        close_range(first, next.saturating_sub(1))?;
        first = next.saturating_add(1);
    }
    close_range(first, RawFd::MAX)
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
