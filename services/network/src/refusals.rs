//! Reports of refused packets, with the grant that would have allowed each.

use crate::names::Names;
use crate::reports::Reports;
use holdfast_linux::netlink::{NetlinkError, NetlinkSocket};
use holdfast_networking::firewall;
use holdfast_networking::refusal;
use holdfast_sandbox::network::NetworkedApp;
use std::io;

/// The socket on which the firewall reports.
#[derive(Debug)]
pub(crate) struct Refusals {
    socket: NetlinkSocket,
}

impl Refusals {
    pub(crate) fn listen() -> Result<Self, NetlinkError> {
        let mut socket = NetlinkSocket::netfilter().map_err(NetlinkError::Socket)?;
        socket.request(vec![refusal::listen(firewall::REFUSALS)])?;
        Ok(Self { socket })
    }

    pub(crate) fn socket(&self) -> &NetlinkSocket {
        &self.socket
    }

    pub(crate) fn report(
        &self,
        apps: &[NetworkedApp],
        names: &Names,
        reports: &mut Reports,
        now: u64,
    ) -> io::Result<()> {
        let mut found = Vec::new();
        self.socket.hear(&mut |message| found.extend(refusal::read(message)))?;
        for refusal in found {
            if let Some(app) = apps.iter().find(|app| app.uid == refusal.uid) {
                let name = names.name_of(app.uid, refusal.destination);
                let why = refusal.explain(app, apps, name);
                reports.refused(now, app, format!("{refusal}: {why}"));
            }
        }
        Ok(())
    }
}
