//! The wire to init.

use holdfast_core::clock::Verdict;
use holdfast_core::network::firewall::NetworkedApp;
use holdfast_core::wire::{self, Reply, Request, WireError};
use holdfast_linux::channel;
use holdfast_linux::netlink::NetlinkSocket;
use holdfast_linux::poll::Poll;
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
    #[error("init does not do what it was asked: {0:?}")]
    Refused(Box<Reply>),
}

/// The socket to init.
#[derive(Debug)]
pub(crate) struct Init {
    socket: OwnedFd,
    buffer: Vec<u8>,
    /// Sockets of those who want to know how the network is.
    asking: Vec<OwnedFd>,
}

/// Of those who want to know how the network is, so many wait at once.
const MAX_ASKING: usize = 4;

impl Init {
    pub(crate) fn from_environment() -> Result<Self, InitError> {
        let number = std::env::var(wire::SOCKET_VARIABLE).ok().and_then(|n| n.parse().ok());
        let socket = channel::handed_over(number.ok_or(InitError::NoSocket)?);
        Ok(Self {
            socket: socket.map_err(InitError::Socket)?,
            buffer: vec![0u8; wire::MAX_REPLY_BYTES],
            asking: Vec::new(),
        })
    }

    /// Every app with grants on the network, with a socket in its namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<(NetworkedApp, NetlinkSocket)>, InitError> {
        let mut links = Vec::new();
        for at in 0u16.. {
            match self.ask(&Request::Link(at))? {
                (Reply::Link(app), Some(socket)) => {
                    links.push((app, NetlinkSocket::from_descriptor(socket)));
                }
                (Reply::Unknown, None) => break,
                (reply, _) => return Err(InitError::Refused(Box::new(reply))),
            }
        }
        Ok(links)
    }

    /// Says that the clock is behind by so many microseconds.
    pub(crate) fn set_clock(&mut self, behind_us: i64) -> Result<Verdict, InitError> {
        match self.ask(&Request::SetClock(behind_us))? {
            (Reply::Judged(verdict), None) => Ok(verdict),
            (reply, _) => Err(InitError::Refused(Box::new(reply))),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(Reply, Option<OwnedFd>), InitError> {
        let request = wire::encode_request(request)?;
        channel::send(&self.socket, &request).map_err(InitError::Socket)?;
        loop {
            let received = channel::receive_with(&self.socket, &mut self.buffer);
            let (length, handed) = received.map_err(InitError::Socket)?;
            match (self.reply(length)?, handed) {
                (Reply::NetworkWanted, Some(asking)) => self.remember(asking),
                reply => return Ok(reply),
            }
        }
    }

    fn reply(&self, length: usize) -> Result<Reply, WireError> {
        wire::decode_reply(self.buffer.get(..length).unwrap_or_default())
    }

    fn remember(&mut self, asking: OwnedFd) {
        if self.asking.len() < MAX_ASKING {
            self.asking.push(asking);
        }
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        poll.add(&self.socket);
    }

    /// Those who want to know how the network is, and whom nobody has told yet.
    pub(crate) fn asking(&mut self) -> Result<Vec<OwnedFd>, InitError> {
        while let Some((length, handed)) =
            channel::try_receive_with(&self.socket, &mut self.buffer).map_err(InitError::Socket)?
        {
            match (self.reply(length)?, handed) {
                (Reply::NetworkWanted, Some(asking)) => self.remember(asking),
                (reply, _) => return Err(InitError::Refused(Box::new(reply))),
            }
        }
        Ok(std::mem::take(&mut self.asking))
    }
}

/// Says that the firewall is there and every link is.
pub(crate) fn notify_ready() -> io::Result<()> {
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(b"READY=1", path)?;
    Ok(())
}
