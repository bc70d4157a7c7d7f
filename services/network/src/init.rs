//! What the network service asks init for.

use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_linux::netlink::NetlinkSocket;
use holdfast_linux::poll::Poll;
use holdfast_sandbox::clock::Verdict;
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::wire::{Reply, Request};
use std::os::fd::OwnedFd;

/// The socket to init.
#[derive(Debug)]
pub(crate) struct Init(InitSocket);

impl Init {
    pub(crate) fn from_environment() -> Result<Self, InitError> {
        InitSocket::from_environment().map(Self)
    }

    /// Everybody with grants on the network, with a socket in its namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<(NetworkedApp, NetlinkSocket)>, InitError> {
        let mut links = Vec::new();
        for at in 0u16.. {
            match self.0.ask(&Request::Link(at))? {
                (Reply::Link(app), Some(socket)) => {
                    links.push((app, NetlinkSocket::from_descriptor(socket)));
                }
                (Reply::Unknown, None) => break,
                (reply, _) => return Err(InitError::refused(reply)),
            }
        }
        Ok(links)
    }

    /// Says that the clock is behind by so many microseconds.
    pub(crate) fn set_clock(&mut self, behind_us: i64) -> Result<Verdict, InitError> {
        match self.0.ask(&Request::SetClock(behind_us))? {
            (Reply::Judged(verdict), None) => Ok(verdict),
            (reply, _) => Err(InitError::refused(reply)),
        }
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        self.0.add_to(poll);
    }

    /// Those who want to know how the network is, and whom nobody has told yet.
    pub(crate) fn asking(&mut self) -> Result<Vec<OwnedFd>, InitError> {
        Ok(self.0.unasked()?.into_iter().map(|(_, asking)| asking).collect())
    }
}
