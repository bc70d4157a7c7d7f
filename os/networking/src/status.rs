//! The status of the network as one message, which the network service writes to a socket that init has handed to it
//! and to the component that asks.

use crate::refused_traffic::RefusedGroup;
use holdfast_types::ComponentId;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Longest message in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Most refusals of one app that are remembered.
pub const MAX_REFUSALS: usize = 4;

/// The status of a device's network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Interfaces, in the order of their indexes.
    pub interfaces: Vec<InterfaceStatus>,
    /// Addresses of the name servers that are asked, the best first.
    pub name_servers: Vec<IpAddr>,
    /// Addresses of the time servers that were asked last.
    pub time_servers: Vec<IpAddr>,
    /// Apps that have grants on the network.
    pub apps: Vec<AppStatus>,
}

/// The status of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name of the network device.
    pub name: String,
    /// True where the link is up: the device has a carrier.
    pub is_up: bool,
    /// Addresses of the interface, with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Lease that holds, where there is one.
    pub lease: Option<LeaseStatus>,
}

/// A DHCPv4 lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// Leased address.
    pub address: Ipv4Addr,
    /// Address of the server that granted the lease.
    pub server: Ipv4Addr,
    /// Next hop of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// Lease time in seconds; `None` for a lease without an end.
    pub seconds: Option<u32>,
}

/// Counters of an app's veth pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets that the app has sent, whatever became of them.
    pub sent_packets: u64,
    /// Bytes of these packets.
    pub sent_bytes: u64,
    /// Packets that the app was given.
    pub received_packets: u64,
    /// Bytes of these packets.
    pub received_bytes: u64,
}

/// The status of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Name of the app's component.
    pub name: String,
    /// Traffic since the app's veth pair was made.
    pub traffic: Traffic,
    /// Number of reports that something was refused to the app: the firewall makes no more than ten a second.
    pub refused: u64,
    /// The last refusals, each with the grant that would allow it: the newest at the end.
    pub refusals: Vec<String>,
    /// The component id; that of no app for a service.
    pub component_id: ComponentId,
    /// What the firewall has refused to it, in groups.
    pub refused_groups: Vec<RefusedGroup>,
}

impl InterfaceStatus {
    /// True when the interface is up with an address that reaches beyond its link.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let reaches = |address: &IpAddr| match address {
            IpAddr::V4(address) => !address.is_link_local(),
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        };
        self.is_up && self.addresses.iter().any(|(address, _)| reaches(address))
    }
}

impl NetworkStatus {
    /// True when an interface is up with an address that reaches beyond its link.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.interfaces.iter().any(InterfaceStatus::is_connected)
    }

    /// Returns the bytes of the message, without the refusals where it would be too long with them.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn encode(mut self) -> Result<Vec<u8>, EncodingError> {
        let bytes = encoding::encode(&self)?;
        if bytes.len() <= MAX_MESSAGE_BYTES {
            return Ok(bytes);
        }
        for app in &mut self.apps {
            app.refusals.clear();
        }
        encoding::encode(&self)
    }

    /// Reads the bytes of the message.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent_packets, sent_bytes, received_packets, received_bytes } = self;
        write!(
            f,
            "sent {sent_packets} packets of {sent_bytes} bytes, received {received_packets} of \
             {received_bytes}"
        )
    }
}

impl fmt::Display for NetworkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.is_connected() { "connected" } else { "not connected" })?;
        for interface in &self.interfaces {
            let link = if interface.is_up { "link up" } else { "link down" };
            write!(f, "{}: {link}", interface.name)?;
            for (address, prefix) in &interface.addresses {
                write!(f, " {address}/{prefix}")?;
            }
            if let Some(lease) = &interface.lease {
                write!(f, ", leased {} from {}", lease.address, lease.server)?;
                if let Some(seconds) = lease.seconds {
                    write!(f, " for {seconds} s")?;
                }
            }
            writeln!(f)?;
        }
        for (what, servers) in [("names", &self.name_servers), ("time", &self.time_servers)] {
            write!(f, "{what} from")?;
            servers.iter().try_for_each(|server| write!(f, " {server}"))?;
            writeln!(f, "{}", if servers.is_empty() { " nobody" } else { "" })?;
        }
        for app in &self.apps {
            writeln!(f, "{}: {}, refused {}", app.name, app.traffic, app.refused)?;
            for refusal in &app.refusals {
                writeln!(f, "{}: refused {refusal}", app.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(apps: usize) -> NetworkStatus {
        let app = AppStatus {
            name: "sensor".to_owned(),
            traffic: Traffic { sent_packets: 3, sent_bytes: 180, ..Traffic::default() },
            refused: 7,
            refusals: vec!["TCP to 203.0.113.8:443: AllowedConnections has no …".repeat(3); 4],
            component_id: ComponentId([7; 16]),
            refused_groups: Vec::new(),
        };
        let lease = LeaseStatus {
            address: Ipv4Addr::new(10, 77, 0, 50),
            server: Ipv4Addr::new(10, 77, 0, 1),
            gateway: None,
            seconds: Some(3600),
        };
        NetworkStatus {
            interfaces: vec![InterfaceStatus {
                name: "eth0".to_owned(),
                is_up: true,
                addresses: vec![(lease.address.into(), 24)],
                lease: Some(lease),
            }],
            name_servers: vec!["10.77.0.53".parse().unwrap()],
            time_servers: Vec::new(),
            apps: vec![app; apps],
        }
    }

    #[test]
    fn a_status_survives_the_wire_and_is_readable() {
        let status = status(1);
        assert_eq!(NetworkStatus::decode(&status.clone().encode().unwrap()), Ok(status.clone()));
        let text = status.to_string();
        for line in [
            "connected\n",
            "eth0: link up 10.77.0.50/24, leased 10.77.0.50 from 10.77.0.1 for 3600 s\n",
            "names from 10.77.0.53\ntime from nobody\n",
            "sensor: sent 3 packets of 180 bytes, received 0 of 0, refused 7\n",
        ] {
            assert!(text.contains(line), "{line}\nin\n{text}");
        }
    }

    #[test]
    fn however_many_apps_there_are_the_message_has_its_length() {
        let bytes = status(400).encode().unwrap();
        assert!(bytes.len() <= MAX_MESSAGE_BYTES, "{}", bytes.len());
        assert_eq!(NetworkStatus::decode(&bytes).unwrap().apps.len(), 400);
    }

    #[test]
    fn an_address_of_the_link_alone_connects_nobody() {
        let mut status = status(0);
        assert!(status.is_connected());
        status.interfaces[0].addresses = vec![("fe80::1".parse().unwrap(), 64)];
        assert!(!status.is_connected());
        status.interfaces[0].addresses.push(("2001:db8::1".parse().unwrap(), 64));
        assert!(status.is_connected());
        status.interfaces[0].is_up = false;
        assert!(!status.is_connected());
    }
}
