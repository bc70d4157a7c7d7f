//! Reports of the firewall on denied packets, each with the grant that would have allowed the packet.

use crate::names::Names;
use crate::reports::Reports;
use holdfast_linux::netlink::{NetlinkError, NetlinkSocket};
use holdfast_networking::firewall;
use holdfast_networking::packet_denied;
use holdfast_sandbox::network::NetworkedApp;
use holdfast_types::event::network::PACKET_DENIED;
use std::io;

/// The netlink socket on which the kernel logs denied packets (`NFLOG`).
#[derive(Debug)]
pub(crate) struct DeniedPackets {
    socket: NetlinkSocket,
}

impl DeniedPackets {
    pub(crate) fn listen() -> Result<Self, NetlinkError> {
        let mut socket = NetlinkSocket::netfilter().map_err(NetlinkError::Socket)?;
        socket.request(vec![packet_denied::listen(firewall::DENIED_PACKETS)])?;
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
        self.socket.hear(&mut |message| found.extend(packet_denied::read(message)))?;
        for denied in found {
            if let Some(app) = apps.iter().find(|app| app.uid == denied.uid) {
                let name = names.name_of(app.uid, denied.destination);
                reports.denied(now, app, &denied, name.is_some());
                let why = denied.explain(app, apps, name);
                reports.refused(now, app, PACKET_DENIED, format!("{denied}: {why}"));
            }
        }
        Ok(())
    }
}
