//! The device's identity for apps in C: `include/holdfast_identity.h` has the interface, and says what each function does.
//!
//! A connection is made and driven here, since no library of TLS for C gives its signer more than a hash, while the identity
//! service signs nothing but handshakes that it has put together itself.

mod connection;
mod failure;
mod memory;
mod peer;
mod peer_socket;
mod place;

pub use self::failure::HoldfastError;
pub use self::peer::{HoldfastPeer, HoldfastPolicy};

pub use self::connection::HoldfastConnection;
use self::connection::{accept_peer, connect_peer, connect_server};
use self::failure::{Code, Failure, report};
use self::memory::{reference, slice, slice_mut, socket, text};
use self::place::write_to;
use holdfast_sdk_identity::Identity;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::time::{Duration, UNIX_EPOCH};

/// The app's identity, as C has it.
#[derive(Debug)]
pub struct HoldfastIdentity(Identity);

fn boxed<T>(made: Option<T>) -> *mut T {
    made.map_or(ptr::null_mut(), |made| Box::into_raw(Box::new(made)))
}

fn status(done: Option<()>) -> c_int {
    if done.is_some() { 0 } else { -1 }
}

/// As the header says.
///
/// # Safety
/// `error` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_identity_new(error: *mut HoldfastError) -> *mut HoldfastIdentity {
    let made = Identity::connect().map(HoldfastIdentity).map_err(Failure::from);
    // SAFETY: the caller's pointer to an error is NULL or good.
    boxed(unsafe { report(error, made) })
}

/// As the header says.
///
/// # Safety
/// `address` is a text, and `error` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_identity_new_at(
    address: *const c_char,
    error: *mut HoldfastError,
) -> *mut HoldfastIdentity {
    // SAFETY: the caller's text ends in a zero byte.
    let address = unsafe { text(address, "address") };
    let made = address.and_then(|address| {
        let address = address.ok_or_else(|| Failure::argument("address is NULL"))?;
        Ok(HoldfastIdentity(Identity::connect_to(address)?))
    });
    // SAFETY: the caller's pointer to an error is NULL or good.
    boxed(unsafe { report(error, made) })
}

/// As the header says.
///
/// # Safety
/// `identity` is NULL, or was returned here and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_identity_free(identity: *mut HoldfastIdentity) {
    if !identity.is_null() {
        // SAFETY: it was made by `boxed`, and nobody else has it any more.
        drop(unsafe { Box::from_raw(identity) });
    }
}

/// As the header says.
///
/// # Safety
/// `identity` was returned here; `own` and `error` are NULL or point to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_identity_wait(
    identity: *const HoldfastIdentity,
    timeout_ms: u32,
    own: *mut HoldfastPeer,
    error: *mut HoldfastError,
) -> c_int {
    // SAFETY: the caller's identity is NULL or good.
    let identity = unsafe { reference(identity, "identity") };
    let waited = identity.and_then(|identity| {
        let credentials = identity.0.wait(Duration::from_millis(timeout_ms.into()))?;
        Ok(HoldfastPeer::new(credentials.own()))
    });
    // SAFETY: the caller's pointer to a peer is NULL or good.
    let waited = waited.map(|found| unsafe { write_to(own, found) });
    // SAFETY: the caller's pointer to an error is NULL or good.
    status(unsafe { report(error, waited) })
}

/// As the header says.
///
/// # Safety
/// `identity` was returned here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_identity_until(identity: *const HoldfastIdentity) -> u64 {
    // SAFETY: the caller's identity is NULL or good.
    let identity = unsafe { reference(identity, "identity") }.ok();
    let until = identity.and_then(|identity| identity.0.current()).map(|newest| newest.until());
    let since = until.and_then(|until| until.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// As the header says.
///
/// # Safety
/// `identity` was returned here, `fd` is a socket of the caller's, `policy` points to one, and `error` is NULL or does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_connect_peer(
    identity: *const HoldfastIdentity,
    fd: c_int,
    policy: *const HoldfastPolicy,
    error: *mut HoldfastError,
) -> *mut HoldfastConnection {
    // SAFETY: the caller gives the socket away.
    let socket = unsafe { socket(fd) };
    // SAFETY: the caller's identity is NULL or good.
    let identity = unsafe { reference(identity, "identity") };
    // SAFETY: the caller's policy is NULL or good, and so are its texts.
    let policy = unsafe { HoldfastPolicy::read(policy) };
    let made = socket.and_then(|socket| connect_peer(&identity?.0, socket, policy?));
    // SAFETY: the caller's pointer to an error is NULL or good.
    boxed(unsafe { report(error, made) })
}

/// As the header says.
///
/// # Safety
/// As [`holdfast_connect_peer`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_accept_peer(
    identity: *const HoldfastIdentity,
    fd: c_int,
    policy: *const HoldfastPolicy,
    error: *mut HoldfastError,
) -> *mut HoldfastConnection {
    // SAFETY: the caller gives the socket away.
    let socket = unsafe { socket(fd) };
    // SAFETY: the caller's identity is NULL or good.
    let identity = unsafe { reference(identity, "identity") };
    // SAFETY: the caller's policy is NULL or good, and so are its texts.
    let policy = unsafe { HoldfastPolicy::read(policy) };
    let made = socket.and_then(|socket| accept_peer(&identity?.0, socket, policy?));
    // SAFETY: the caller's pointer to an error is NULL or good.
    boxed(unsafe { report(error, made) })
}

/// As the header says.
///
/// # Safety
/// `identity` was returned here, `fd` is a socket of the caller's, `name` and `authorities` are texts, and `error` is NULL or points
/// to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_connect_server(
    identity: *const HoldfastIdentity,
    fd: c_int,
    name: *const c_char,
    authorities: *const c_char,
    error: *mut HoldfastError,
) -> *mut HoldfastConnection {
    // SAFETY: the caller gives the socket away.
    let socket = unsafe { socket(fd) };
    // SAFETY: the caller's identity is NULL or good.
    let identity = unsafe { reference(identity, "identity") };
    // SAFETY: the caller's text ends in a zero byte.
    let name = unsafe { text(name, "name") };
    // SAFETY: the caller's text ends in a zero byte.
    let authorities = unsafe { text(authorities, "authorities") };
    let made = socket.and_then(|socket| {
        let name = name?.ok_or_else(|| Failure::argument("name is NULL"))?;
        let authorities = authorities?.ok_or_else(|| Failure::argument("authorities is NULL"))?;
        connect_server(&identity?.0, socket, name, authorities)
    });
    // SAFETY: the caller's pointer to an error is NULL or good.
    boxed(unsafe { report(error, made) })
}

/// As the header says.
///
/// # Safety
/// `connection` was returned here, `peer` points to one, and `error` is NULL or does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_peer_of(
    connection: *const HoldfastConnection,
    peer: *mut HoldfastPeer,
    error: *mut HoldfastError,
) -> c_int {
    // SAFETY: the caller's connection is NULL or good.
    let connection = unsafe { reference(connection, "connection") };
    let found = connection.and_then(HoldfastConnection::peer);
    // SAFETY: the caller's pointer to a peer is NULL or good.
    let found = found.map(|found| unsafe { write_to(peer, HoldfastPeer::new(&found)) });
    // SAFETY: the caller's pointer to an error is NULL or good.
    status(unsafe { report(error, found) })
}

/// As the header says.
///
/// # Safety
/// `connection` was returned here, `buffer` has `length` bytes, and `error` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_read(
    connection: *mut HoldfastConnection,
    buffer: *mut c_void,
    length: usize,
    error: *mut HoldfastError,
) -> isize {
    // SAFETY: the caller's buffer has so many bytes, or is NULL.
    let buffer = unsafe { slice_mut(buffer, length) };
    // SAFETY: the caller's connection is NULL or good, and used by this thread alone.
    let read = match (unsafe { connection.as_mut() }, buffer) {
        (Some(connection), Ok(buffer)) => connection.read(buffer),
        (None, _) => Err(Failure::argument("connection is NULL")),
        (_, Err(failure)) => Err(failure),
    };
    let read = read.and_then(|read| {
        isize::try_from(read).map_err(|_| Failure::new(Code::Argument, "length is too large"))
    });
    // SAFETY: the caller's pointer to an error is NULL or good.
    unsafe { report(error, read) }.unwrap_or(-1)
}

/// As the header says.
///
/// # Safety
/// As [`holdfast_read`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_write(
    connection: *mut HoldfastConnection,
    buffer: *const c_void,
    length: usize,
    error: *mut HoldfastError,
) -> c_int {
    // SAFETY: the caller's buffer has so many bytes, or is NULL.
    let buffer = unsafe { slice(buffer, length) };
    // SAFETY: the caller's connection is NULL or good, and used by this thread alone.
    let written = match (unsafe { connection.as_mut() }, buffer) {
        (Some(connection), Ok(buffer)) => connection.write(buffer),
        (None, _) => Err(Failure::argument("connection is NULL")),
        (_, Err(failure)) => Err(failure),
    };
    // SAFETY: the caller's pointer to an error is NULL or good.
    status(unsafe { report(error, written) })
}

/// As the header says.
///
/// # Safety
/// `connection` is NULL, or was returned here and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn holdfast_close(connection: *mut HoldfastConnection) {
    if !connection.is_null() {
        // SAFETY: it was made by `boxed`, and nobody else has it any more.
        unsafe { Box::from_raw(connection) }.end();
    }
}
