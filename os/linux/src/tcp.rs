//! TCP connections to servers, which do not block.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// A TCP connection that does not block. Dropping it ends it at once, and with it whatever was not sent yet.
#[derive(Debug)]
pub struct TcpConnection {
    socket: OwnedFd,
}

impl TcpConnection {
    /// Begins a connection, from an address and a port that the kernel chooses. The kernel keeps about `buffer_bytes` of
    /// what comes in before it is taken.
    ///
    /// # Errors
    /// No descriptors or ports are left, or there is no way to the server. That the server refuses is the error of
    /// [`send`](Self::send).
    pub fn begin(server: SocketAddr, buffer_bytes: usize) -> io::Result<Self> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // Before it connects, which is when the window is agreed on (tcp(7)).
        sockopt::set_socket_recv_buffer_size(&socket, buffer_bytes)?;
        // The end is a reset: a server that confirms no other end would leave one of the kernel's few orphans behind
        // (`tcp_max_orphans`) for minutes.
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        match connect(&socket, &server) {
            // By a signal too it goes on (connect(2)).
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Self { socket }),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the first of these bytes, and returns how many the kernel has taken: none while the server has not accepted
    /// the connection.
    ///
    /// # Errors
    /// The server has refused or ended the connection, or cannot be reached.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            return match send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => Ok(length),
                Err(Errno::AGAIN) => Ok(0),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Takes what has come, up to the length of the buffer, and returns its length: 0 once the server has ended the
    /// connection, `None` while there is nothing.
    ///
    /// # Errors
    /// The server has reset the connection, or cannot be reached any more.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            return match recv(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => Ok(Some(length)),
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

impl AsFd for TcpConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::Poll;
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;

    #[test]
    fn what_is_dropped_is_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpConnection::begin(listener.local_addr().unwrap(), 8192).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut poll = Poll::new();
        poll.add_to_send(&connection);
        poll.wait(10_000).unwrap();
        assert_eq!(connection.send(b"question").unwrap(), 8);
        let mut buffer = [0u8; 8];
        accepted.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"question");
        assert_eq!(connection.receive(&mut buffer).unwrap(), None);
        drop(connection);
        let error = accepted.read(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
