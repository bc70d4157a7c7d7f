//! Addressing of a device's own interfaces: the part of the image manifest that the network service reads from the
//! verified root.

use crate::dhcp::MAX_SERVERS;
use crate::sntp;
use holdfast_sandbox::network::grants::{Destination, whole};
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Name of the file, which lies beside the service's program.
pub const FILE_NAME: &str = "config";
/// Longest encoding in bytes.
pub const MAX_ENCODED_BYTES: usize = 4096;
/// Most interfaces with an entry of their own.
pub const MAX_INTERFACES: usize = 8;

/// The configuration of a device's network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// Interfaces with settings of their own; every other one gets its addresses by itself.
    pub interfaces: Vec<Interface>,
    /// Name servers, instead of those that the network names.
    pub name_servers: Vec<IpAddr>,
    /// Time servers, instead of those that the network names.
    pub time_servers: Vec<Destination>,
}

/// The settings of one interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name of the network device, such as `eth0`.
    pub name: String,
    /// Addressing of IPv4.
    pub ipv4: Addressing,
    /// Addressing of IPv6.
    pub ipv6: Addressing,
}

/// The source of an interface's addresses of one IP version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Addressing {
    /// The network gives them: DHCP for IPv4, router advertisements for IPv6.
    #[default]
    Automatic,
    /// The interface has none.
    Off,
    /// The image manifest gives one.
    Static {
        /// The address.
        address: IpAddr,
        /// Length of its prefix in bits.
        prefix: u8,
        /// The default gateway; `None` for no default route.
        gateway: Option<IpAddr>,
    },
}

impl NetworkConfig {
    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Reads the bytes of the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }

    /// Returns the addressing of an interface, IPv4 before IPv6: automatic where it has no entry.
    #[must_use]
    pub fn of(&self, name: &str) -> (Addressing, Addressing) {
        let found = self.interfaces.iter().find(|interface| interface.name == name);
        found.map_or_else(Default::default, |i| (i.ipv4.clone(), i.ipv6.clone()))
    }

    /// Checks settings that a person wrote.
    ///
    /// # Errors
    /// Names the field below `network`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        if self.interfaces.len() > MAX_INTERFACES {
            return Err(("interface".to_owned(), "there are more than 8"));
        }
        if self.name_servers.len() > MAX_SERVERS {
            return Err(("name_servers".to_owned(), "there are more than 3"));
        }
        if self.time_servers.len() > sntp::MAX_SERVERS {
            return Err(("time_servers".to_owned(), "there are more than 4"));
        }
        for (index, server) in self.time_servers.iter().enumerate() {
            let is_host = match server {
                Destination::Name(_) => true,
                Destination::Prefix(address, length) => *length == whole(*address),
                Destination::Service(_) => false,
            };
            if !is_host {
                let reason = "must be an address or a name, such as \"time.example.com\"";
                return Err((format!("time_servers[{index}]"), reason));
            }
        }
        for (index, interface) in self.interfaces.iter().enumerate() {
            let refuse = |field: &str, reason| Err((format!("interface[{index}].{field}"), reason));
            let name = &interface.name;
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || name.len() > 15 || !name.bytes().all(plain) {
                return refuse("name", "must be the name of a device, such as `eth0`");
            }
            if name == "lo" || name.starts_with(holdfast_sandbox::network::address::VETH_NAMES) {
                return refuse("name", "is one of the system's own devices");
            }
            if self.interfaces.iter().take(index).any(|earlier| earlier.name == *name) {
                return refuse("name", "is there twice");
            }
            let versions = [("ipv4", &interface.ipv4, 30), ("ipv6", &interface.ipv6, 126)];
            for (field, addressing, most) in versions {
                let Addressing::Static { address, prefix, gateway } = addressing else {
                    continue;
                };
                let is_v4 = field == "ipv4";
                if address.is_ipv4() != is_v4 || gateway.is_some_and(|g| g.is_ipv4() != is_v4) {
                    return refuse(field, "has an address of the other version");
                }
                if !(8..=most).contains(prefix) {
                    return refuse(field, "has a prefix of a length that no network has");
                }
                let network = |address| holdfast_sandbox::network::grants::masked(address, *prefix);
                let local = |gateway: &IpAddr| matches!(gateway, IpAddr::V6(g) if g.is_unicast_link_local());
                if gateway.is_some_and(|g| network(g) != network(*address) && !local(&g)) {
                    return refuse(field, "has a gateway that is not on its network");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(ipv4: Addressing) -> NetworkConfig {
        let interface = Interface { name: "eth0".to_owned(), ipv4, ipv6: Addressing::Off };
        NetworkConfig { interfaces: vec![interface], ..NetworkConfig::default() }
    }

    fn at(address: &str, prefix: u8, gateway: &str) -> Addressing {
        let gateway = gateway.parse().ok();
        Addressing::Static { address: address.parse().unwrap(), prefix, gateway }
    }

    #[test]
    fn settings_are_checked_and_survive_their_file() {
        let config = with(at("10.0.0.5", 24, "10.0.0.1"));
        assert_eq!(config.check(), Ok(()));
        assert_eq!(NetworkConfig::decode(&config.encode().unwrap()), Ok(config.clone()));
        assert_eq!(config.of("eth0").0, at("10.0.0.5", 24, "10.0.0.1"));
        assert_eq!(config.of("eth1"), (Addressing::Automatic, Addressing::Automatic));
        for wrong in [at("fd00::1", 24, ""), at("10.0.0.5", 31, ""), at("10.0.0.5", 24, "10.0.1.1")]
        {
            assert_eq!(with(wrong).check().unwrap_err().0, "interface[0].ipv4");
        }
        let mut timed = config.clone();
        for (text, good) in [
            ("time.example.com", true),
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("10.0.0.0/8", false),
            ("_ntp._udp.local", false),
        ] {
            timed.time_servers = vec![Destination::parse(text).unwrap()];
            assert_eq!(timed.check().is_ok(), good, "{text}");
        }
        timed.time_servers = vec![Destination::parse("a.example").unwrap(); 5];
        assert_eq!(timed.check().unwrap_err().0, "time_servers");
        let mut app = config;
        app.interfaces[0].name = "app1001".to_owned();
        assert_eq!(app.check().unwrap_err().0, "interface[0].name");
    }
}
