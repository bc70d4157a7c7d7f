//! UDP sockets that stay on one device or address.

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::BindToDevice;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, recvfrom, sendto,
    socket_with, sockopt,
};
use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A UDP socket that does not block.
#[derive(Debug)]
pub struct UdpSocket {
    socket: OwnedFd,
}

impl UdpSocket {
    /// A socket at a local address; port 0 is one that the kernel picks at random.
    ///
    /// # Errors
    /// The address is not there or taken.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Self::of_version(address.ip())?;
        bind(&socket.socket, &address)?;
        Ok(socket)
    }

    /// A socket for whatever comes in through one device, which may send to all on its link. `local` is
    /// the unspecified address of an IP version, and a port.
    ///
    /// # Errors
    /// There is no such device.
    pub fn on_device(device: &str, local: SocketAddr) -> io::Result<Self> {
        let socket = Self::of_version(local.ip())?;
        sockopt::set_socket_reuseaddr(&socket.socket, true)?;
        sockopt::set_socket_broadcast(&socket.socket, true)?;
        // Before it has a port: in between it would take what comes in through other devices. A socket that is bound to no
        // device yet may set it without a capability.
        setsockopt(&socket.socket, BindToDevice, &OsString::from(device))?;
        bind(&socket.socket, &local)?;
        Ok(socket)
    }

    /// A socket for one exchange with a server.
    ///
    /// # Errors
    /// No descriptors or ports are left.
    pub fn towards(server: IpAddr) -> io::Result<Self> {
        // A port of its own for each exchange: who answers without having seen the question must guess that as well
        // (RFC 5452, section 9.2).
        let any: IpAddr = match server {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        Self::bind(SocketAddr::new(any, 0))
    }

    fn of_version(address: IpAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
        Ok(Self { socket })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// There is no way to the address.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        sendto(&self.socket, bytes, SendFlags::NOSIGNAL, &to)?;
        Ok(())
    }

    /// Takes one datagram, cut to the buffer, and who sent it; `None` when there is none.
    ///
    /// # Errors
    /// The socket reports an error, possibly that of an earlier datagram.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        loop {
            return match recvfrom(&self.socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, from)) => {
                    let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                    Ok(from.map(|from| (length, from)))
                }
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }
}

/// Datagrams that [`UdpSocket::take`] takes at most, so that other sockets have their turn.
const DATAGRAMS_PER_TURN: usize = 16;

impl UdpSocket {
    /// Takes the datagrams, up to 16, that were sent from a port and are not longer than `most` bytes;
    /// longer ones are cut.
    #[must_use]
    pub fn take(&self, port: u16, most: usize) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0u8; most];
        let mut taken = Vec::new();
        for _ in 0..DATAGRAMS_PER_TURN {
            let Ok(Some((length, from))) = self.receive(&mut buffer) else {
                break;
            };
            // Who sends from another port was not asked.
            if from.port() == port {
                taken.push((buffer.get(..length).unwrap_or_default().to_vec(), from));
            }
        }
        taken
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
