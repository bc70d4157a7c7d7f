//! Packets that the firewall has denied, as the kernel reports them, and the grants that would have allowed them.

use holdfast_netlink::{ACKNOWLEDGE, Message, Received};
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::network::address::{Veth, is_of_apps};
use holdfast_sandbox::network::connections::{MAX_CONNECTIONS, MAX_INCOMING, MAX_OF_ONE_ADDRESS};
use holdfast_sandbox::network::grants::{Connection, Destination, PortRange, masked};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `NFNL_SUBSYS_ULOG`, as it stands in a message's type.
const LOG: u16 = 4 << 8;
const CONFIGURE: u16 = 1;
/// Suffix of the log prefix where an app has as many connections as it may have.
pub const OVER: &str = " over";
/// Suffix of the log prefix where the outside has as many connections to an app as it may have.
pub const CROWDED: &str = " crowded";

/// Asks the kernel for the packets that rules log to a group.
#[must_use]
pub fn listen(group: u16) -> Message {
    const BIND: u8 = 1;
    const COPY_PACKET: u8 = 2;
    let [high, low] = group.to_be_bytes();
    Message::new(LOG | CONFIGURE, ACKNOWLEDGE, &[0, 0, high, low])
        .with(1, &[BIND])
        .with(2, &[0, 0, 0, 64, COPY_PACKET, 0])
}

/// A packet that the firewall denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketDenied {
    /// Uid of the app that sent it, or that it was for.
    pub uid: u32,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Destination port, where the protocol has ports.
    pub port: Option<u16>,
    /// The side whose connections were too many, where that is the reason.
    pub over: Option<Side>,
}

/// The side that began a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The app.
    App,
    /// A host outside the device.
    Outside,
}

/// Reads a packet that the firewall logged; `None` for any other message.
#[must_use]
pub fn read(message: &Received<'_>) -> Option<PacketDenied> {
    if message.kind != LOG {
        return None;
    }
    let (_, found) = message.split(4)?;
    let prefix = found.text(10)?;
    let limits = [(OVER, Side::App), (CROWDED, Side::Outside)];
    let over = limits.into_iter().find(|(suffix, _)| prefix.ends_with(suffix));
    let uid = over.and_then(|(suffix, _)| prefix.strip_suffix(suffix)).unwrap_or(prefix);
    let (uid, over) = (uid.parse().ok()?, over.map(|(_, side)| side));
    let packet = found.find(9)?;
    let (destination, protocol, transport) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet.first()? & 0xf).checked_mul(4)?;
            let octets: [u8; 4] = *packet.get(16..)?.first_chunk()?;
            (IpAddr::V4(Ipv4Addr::from_octets(octets)), *packet.get(9)?, packet.get(header..)?)
        }
        6 => {
            let octets: [u8; 16] = *packet.get(24..)?.first_chunk()?;
            (IpAddr::V6(Ipv6Addr::from_octets(octets)), *packet.get(6)?, packet.get(40..)?)
        }
        _ => return None,
    };
    let port = match (protocol, transport) {
        (6 | 17, [_, _, high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    };
    Some(PacketDenied { uid, destination, protocol, port, over })
}

impl fmt::Display for PacketDenied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            6 => formatter.write_str("TCP to ")?,
            17 => formatter.write_str("UDP to ")?,
            1 | 58 => formatter.write_str("ICMP to ")?,
            other => write!(formatter, "protocol {other} to ")?,
        }
        match (self.destination, self.port) {
            (address, None) => write!(formatter, "{address}"),
            (IpAddr::V4(address), Some(port)) => write!(formatter, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(formatter, "[{address}]:{port}"),
        }
    }
}

impl PacketDenied {
    /// Returns why the packet was denied, and which grant would allow it. `name` is the granted name that the address
    /// belonged to a while ago, if any.
    #[must_use]
    pub fn explain(&self, app: &NetworkedApp, apps: &[NetworkedApp], name: Option<&str>) -> String {
        if self.protocol != 6 && self.protocol != 17 {
            return "apps have TCP and UDP; no grant allows anything else".to_owned();
        }
        match self.over {
            Some(Side::App) => {
                return format!(
                    "the app has {MAX_CONNECTIONS} connections, or begins too many at once, and may have no more"
                );
            }
            // Who it was is not said: a line for each would hide those of others.
            Some(Side::Outside) => {
                return format!(
                    "somebody outside has {MAX_OF_ONE_ADDRESS} connections, or all together have \
                     {MAX_INCOMING} or begin too many at once, and the app may have no more"
                );
            }
            None => {}
        }
        if is_of_apps(self.destination) {
            return self.explain_app(app, apps);
        }
        let granted = app.grants.connections.iter().find(|connection| match &connection.to {
            Destination::Prefix(address, length) => {
                masked(self.destination, *length) == Some(*address)
            }
            Destination::Name(granted) | Destination::Service(granted) => {
                Some(granted.as_str()) == name
            }
        });
        match (granted, name) {
            (Some(granted), _) if !self.is_covered(&granted.ports, granted.protocol) => {
                format!("AllowedConnections has {granted}")
            }
            (Some(Connection { to: Destination::Service(service), .. }), _) => format!(
                "no instance of {service} was found at this port, or its time is over: look for it \
                 again"
            ),
            (Some(_), Some(name)) => {
                format!("the address was one of {name}, whose time is over: ask for the name again")
            }
            (Some(granted), None) => format!("AllowedConnections has {granted}; try again"),
            (None, _) => {
                let own: Vec<&Destination> = app.grants.connections.iter().map(|c| &c.to).collect();
                let by_name = own.iter().any(|to| !matches!(to, Destination::Prefix(..)));
                let hint = if by_name { "; names are to be asked for each time" } else { "" };
                format!("AllowedConnections has no \"{}\"{hint}", self.destination)
            }
        }
    }

    fn is_covered(
        &self,
        ports: &[PortRange],
        protocol: Option<holdfast_sandbox::network::Protocol>,
    ) -> bool {
        let port = self.port.unwrap_or(0);
        protocol.is_none_or(|only| only.number() == self.protocol)
            && (ports.is_empty() || ports.iter().any(|range| range.contains(port)))
    }

    fn explain_app(&self, app: &NetworkedApp, apps: &[NetworkedApp]) -> String {
        let is = |veth: Veth| {
            self.destination == IpAddr::V4(veth.app_v4())
                || self.destination == IpAddr::V6(veth.app_v6())
        };
        let Some(other) = apps.iter().find(|other| is(other.veth())) else {
            return "nothing on the device itself can be reached but name servers".to_owned();
        };
        if !app.may_talk_to(other) {
            return format!(
                "AllowedApplicationConnections of {} must name {} and that of {} must name {}",
                app.name, other.component_id, other.name, app.component_id
            );
        }
        format!("{} has no server port {}", other.name, self.port.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_netlink::messages;
    use holdfast_sandbox::network::{Connection, NetworkGrants};
    use holdfast_types::ComponentId;
    use proptest::prelude::*;

    fn logged(prefix: &str, packet: &[u8]) -> Option<PacketDenied> {
        let message = Message::new(LOG, 0, &[2, 0, 0, 1]).with_text(10, prefix).with(9, packet);
        let bytes = message.finish(0);
        messages(&bytes).next().and_then(|message| read(&message))
    }

    fn v4(protocol: u8, destination: [u8; 4], port: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 198, 18, 0, 1];
        packet.extend(destination);
        packet.extend([4, 0]);
        packet.extend(port.to_be_bytes());
        packet
    }

    fn app(uid: u32, id: u8, grants: NetworkGrants) -> NetworkedApp {
        NetworkedApp { name: format!("app-{id}"), component_id: ComponentId([id; 16]), uid, grants }
    }

    #[test]
    fn a_denied_packet_says_what_and_which_grant_is_missing() {
        let denied = logged("1001", &v4(6, [192, 0, 2, 7], 443)).unwrap();
        assert_eq!((denied.uid, denied.to_string().as_str()), (1001, "TCP to 192.0.2.7:443"));
        let one = app(1001, 1, NetworkGrants::default());
        let says = |denied: PacketDenied, one: &NetworkedApp, name| {
            denied.explain(one, &[one.clone(), app(1002, 2, NetworkGrants::default())], name)
        };
        assert_eq!(says(denied, &one, None), "AllowedConnections has no \"192.0.2.7\"");
        let mut granted = Connection::to(Destination::parse("192.0.2.0/24").unwrap());
        granted.ports = vec![PortRange::one(80)];
        let with = |granted| {
            let grants = NetworkGrants { connections: vec![granted], ..Default::default() };
            app(1001, 1, grants)
        };
        assert_eq!(
            says(denied, &with(granted), None),
            "AllowedConnections has 192.0.2.0/24, TCP and UDP, port 80"
        );
        let named = with(Connection::to(Destination::parse("example.com").unwrap()));
        let over = says(denied, &named, Some("example.com"));
        assert!(over.contains("whose time is over"), "{over}");
        let over = logged("1001 over", &v4(6, [192, 0, 2, 7], 443)).unwrap();
        assert!(says(over, &one, None).starts_with("the app has 128 connections"));
        let crowded = logged("1001 crowded", &v4(6, [198, 18, 0, 1], 80)).unwrap();
        assert_eq!((crowded.uid, crowded.over), (1001, Some(Side::Outside)));
        assert!(says(crowded, &one, None).starts_with("somebody outside has 16 connections"));
        let other = PacketDenied { destination: IpAddr::V4(Veth::of(1002).app_v4()), ..denied };
        assert!(says(other, &one, None).contains("must name 02020202"));
        let device = PacketDenied { destination: IpAddr::V4(Veth::of(1001).system_v4()), ..denied };
        assert!(says(device, &one, None).starts_with("nothing on the device"));
        let ping = PacketDenied { protocol: 1, ..denied };
        assert!(says(ping, &one, None).starts_with("apps have TCP and UDP"));
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(
            packet in proptest::collection::vec(any::<u8>(), 0..80), prefix in "[0-9]{0,6}"
        ) {
            let _ = logged(&prefix, &packet);
        }
    }
}
