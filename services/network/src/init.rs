//! The wire to init.

use holdfast_core::network::firewall::NetworkedApp;
use holdfast_core::wire::{self, Reply, Request, WireError};
use holdfast_linux::channel;
use holdfast_linux::netlink::NetlinkSocket;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

/// Why init could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InitError {
    #[error("init has handed over no socket ({})", wire::SOCKET_VARIABLE)]
    NoSocket,
    #[error("cannot talk to init")]
    Socket(#[source] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("init does not hand over the links of apps: {0:?}")]
    Refused(Box<Reply>),
}

/// The socket to init.
#[derive(Debug)]
pub(crate) struct Init {
    socket: OwnedFd,
}

impl Init {
    pub(crate) fn from_environment() -> Result<Self, InitError> {
        let number = std::env::var(wire::SOCKET_VARIABLE).ok().and_then(|n| n.parse().ok());
        let socket = channel::handed_over(number.ok_or(InitError::NoSocket)?);
        Ok(Self { socket: socket.map_err(InitError::Socket)? })
    }

    /// Every app with grants on the network, with a socket in its namespace.
    pub(crate) fn links(&self) -> Result<Vec<(NetworkedApp, NetlinkSocket)>, InitError> {
        let mut links = Vec::new();
        let mut buffer = vec![0u8; wire::MAX_REPLY_BYTES];
        for at in 0u16.. {
            let request = wire::encode_request(&Request::Link(at))?;
            channel::send(&self.socket, &request).map_err(InitError::Socket)?;
            let (length, socket) =
                channel::receive_with(&self.socket, &mut buffer).map_err(InitError::Socket)?;
            let reply = wire::decode_reply(buffer.get(..length).unwrap_or_default())?;
            match (reply, socket) {
                (Reply::Link(app), Some(socket)) => {
                    links.push((app, NetlinkSocket::from_descriptor(socket)));
                }
                (Reply::Unknown, None) => break,
                (reply, _) => return Err(InitError::Refused(Box::new(reply))),
            }
        }
        Ok(links)
    }
}

/// Says that the firewall is there and every link is.
pub(crate) fn notify_ready() -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(b"READY=1", path)?;
    Ok(())
}
