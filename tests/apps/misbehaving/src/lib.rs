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
