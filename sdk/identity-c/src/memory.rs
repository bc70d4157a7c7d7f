//! What C hands over, as what Rust takes: texts, buffers and sockets.

use crate::failure::Failure;
use crate::peer_socket::PeerSocket;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd};

/// Returns a text, or nothing for NULL.
///
/// # Safety
/// `pointer` is NULL or a text that ends in a zero byte and stays for as long as what is returned.
pub(crate) unsafe fn text<'a>(
    pointer: *const c_char,
    name: &str,
) -> Result<Option<&'a str>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: it is not NULL, and the caller's text ends in a zero byte.
    let text = unsafe { CStr::from_ptr(pointer) }.to_str();
    text.map(Some).map_err(|_| Failure::argument(&format!("{name} is no UTF-8")))
}

/// Returns what a pointer leads to.
///
/// # Safety
/// `pointer` is NULL, or leads to a `T` that stays for as long as what is returned.
pub(crate) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller says so.
    let found = unsafe { pointer.as_ref() };
    found.ok_or_else(|| Failure::argument(&format!("{name} is NULL")))
}

/// Returns a buffer that is read from.
///
/// # Safety
/// `pointer` is NULL, or leads to so many bytes that stay unchanged for as long as what is returned.
pub(crate) unsafe fn slice<'a>(pointer: *const c_void, length: usize) -> Result<&'a [u8], Failure> {
    check(pointer, length)?;
    if length == 0 {
        return Ok(&[]);
    }
    // SAFETY: the caller says so, and it is neither NULL nor longer than an object can be.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

/// Returns a buffer that is written to.
///
/// # Safety
/// `pointer` is NULL, or leads to so many bytes that nobody else uses for as long as what is returned.
pub(crate) unsafe fn slice_mut<'a>(
    pointer: *mut c_void,
    length: usize,
) -> Result<&'a mut [u8], Failure> {
    check(pointer, length)?;
    if length == 0 {
        return Ok(&mut []);
    }
    // SAFETY: the caller says so, and it is neither NULL nor longer than an object can be.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer.cast(), length) })
}

fn check(pointer: *const c_void, length: usize) -> Result<(), Failure> {
    if length > 0 && pointer.is_null() {
        return Err(Failure::argument("buffer is NULL"));
    }
    isize::try_from(length).map(|_| ()).map_err(|_| Failure::argument("length is too large"))
}

/// Takes a socket over.
///
/// # Safety
/// It is nobody else's from then on.
pub(crate) unsafe fn socket(fd: c_int) -> Result<PeerSocket, Failure> {
    if fd < 0 {
        return Err(Failure::argument("socket is negative"));
    }
    // SAFETY: the caller gives it away, and it is not -1.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok(PeerSocket::new(TcpStream::from(socket)))
}
