//! What the components of test images share: their side of `sd_notify(3)`.

use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketType, sendto, socket};
use std::io;

/// Sends one datagram to `NOTIFY_SOCKET`.
///
/// # Errors
/// There is no such socket.
pub fn notify(message: &str) -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    let address = SocketAddrUnix::new(path.as_os_str())?;
    sendto(&socket, message.as_bytes(), SendFlags::NOSIGNAL, &address)?;
    Ok(())
}

/// Bits of a number that a program keeps in a floating-point register.
pub const FLOAT_SECRET: u64 = 0x5ec7_e7f1_0a7e_d0de;

/// Returns a text that a program keeps in its memory. It is made of two halves, so that it does not stand in the program's own file.
#[must_use]
pub fn secret() -> String {
    [std::hint::black_box("kept-in-"), std::hint::black_box("memory-alone")].concat()
}
