//! Error numbers of the kernel.

use rustix::io::Errno;
use std::io;

/// The number that the last call of this thread has left.
pub(crate) fn last_errno() -> Errno {
    errno(&io::Error::last_os_error())
}

/// The number of an error of nix, as rustix has it.
pub(crate) fn of_nix(error: nix::errno::Errno) -> Errno {
    // What nix has no name for is its 0, which is no number of the kernel's and becomes EIO.
    errno(&error.into())
}

/// The number of an error; `EIO` where it has none.
pub(crate) fn errno(error: &io::Error) -> Errno {
    // Errors that the standard library has made up itself have no number.
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
