//! Requests of the network service to init.

use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_linux::netlink::NetlinkSocket;
use holdfast_linux::poll::Poll;
use holdfast_sandbox::clock::Verdict;
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::wire::{ClockRequest, NetworkRequest, Reply, VethsRequest};
use std::os::fd::OwnedFd;

/// The connection to init.
#[derive(Debug)]
pub(crate) struct Init(InitSocket<NetworkRequest>);

impl Init {
    pub(crate) fn from_environment() -> Result<Self, InitError> {
        InitSocket::from_environment().map(Self)
    }

    /// Returns every component with grants on the network, with a netlink socket in its namespace.
    pub(crate) fn veths(&mut self) -> Result<Vec<(NetworkedApp, NetlinkSocket)>, InitError> {
        let uids = match self.0.ask(NetworkRequest::Veths(VethsRequest::All))? {
            (Reply::Veths(uids), _) => uids,
            (reply, _) => return Err(InitError::refused(reply)),
        };
        let mut veths = Vec::new();
        for uid in uids {
            let (reply, handed) = self.0.ask(NetworkRequest::Veths(VethsRequest::Of(uid)))?;
            match (reply, handed.into_iter().next()) {
                (Reply::Veth(app), Some(socket)) => {
                    veths.push((app, NetlinkSocket::from_descriptor(socket)));
                }
                (reply, _) => return Err(InitError::refused(reply)),
            }
        }
        Ok(veths)
    }

    /// Tells init that the clock is behind by so many microseconds, and returns what init made of it.
    pub(crate) fn set_clock(&mut self, behind_us: i64) -> Result<Verdict, InitError> {
        match self.0.ask(NetworkRequest::Clock(ClockRequest::Behind(behind_us)))? {
            (Reply::Judged(verdict), _) => Ok(verdict),
            (reply, _) => Err(InitError::refused(reply)),
        }
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        self.0.add_to(poll);
    }

    /// Returns the sockets of components that ask for the network's status and have no answer yet.
    pub(crate) fn asking(&mut self) -> Result<Vec<OwnedFd>, InitError> {
        Ok(self.0.unasked()?.into_iter().map(|(_, asking)| asking).collect())
    }
}
