//! Options of sockets that the libraries have no name for (socket(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option of `SOL_SOCKET` to these bytes.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn set(socket: impl AsFd, option: libc::c_int, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the pointer and the length are those of a live slice, which the kernel copies.
    let set = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, option, value.as_ptr().cast(), length)
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
