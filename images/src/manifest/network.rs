//! `[network]` of an image manifest: interfaces, and the servers for names and time.

use crate::document::at_least_one;
use holdfast_networking::config::{Addressing, Interface, NetworkConfig};
use holdfast_sandbox::network::Destination;
use serde::Deserialize;
use std::net::IpAddr;

/// `[network]`: the network of a device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSource {
    /// Interfaces that do not get their addresses by themselves.
    #[serde(default, rename = "interface")]
    pub interfaces: Vec<InterfaceSource>,
    /// Name servers, instead of those that the network names.
    #[serde(default, deserialize_with = "at_least_one")]
    pub name_servers: Vec<IpAddr>,
    /// Time servers, by address or name, instead of those that the network names: up to 4.
    #[serde(default, deserialize_with = "at_least_one")]
    pub time_servers: Vec<String>,
}

/// `[[network.interface]]`: one interface.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InterfaceSource {
    /// Name of the device, such as `eth0`.
    pub name: String,
    /// `"auto"` (DHCP), `"off"`, or address and gateway.
    pub ipv4: Option<AddressingSource>,
    /// `"auto"` (router advertisements), `"off"`, or address and gateway.
    pub ipv6: Option<AddressingSource>,
}

/// Addressing of an interface, for IPv4 or IPv6.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum AddressingSource {
    /// `auto` or `off`.
    Word(String),
    /// A static address.
    Static {
        /// Address and length of its prefix, such as `192.168.1.5/24`.
        address: String,
        /// Address of the gateway.
        gateway: Option<IpAddr>,
    },
}

impl NetworkSource {
    /// Returns the configuration that the network service reads.
    ///
    /// # Errors
    /// The field below `network`, and what is wrong with it.
    pub fn config(&self) -> Result<NetworkConfig, (String, &'static str)> {
        let mut interfaces = Vec::new();
        for (index, source) in self.interfaces.iter().enumerate() {
            let addressing = |field: &str, source: &Option<AddressingSource>| {
                let refuse = |reason| (format!("interface[{index}].{field}"), reason);
                match source {
                    None => Ok(Addressing::Automatic),
                    Some(AddressingSource::Word(word)) => match word.as_str() {
                        "auto" => Ok(Addressing::Automatic),
                        "off" => Ok(Addressing::Off),
                        _ => Err(refuse(
                            "must be \"auto\", \"off\", or { address = \"…/24\", gateway = \"…\" }",
                        )),
                    },
                    Some(AddressingSource::Static { address, gateway }) => {
                        let parts = address.split_once('/');
                        let parsed = parts.and_then(|(address, prefix)| {
                            Some((address.parse().ok()?, prefix.parse().ok()?))
                        });
                        let (address, prefix) = parsed.ok_or_else(|| {
                            refuse("must have an address with a prefix, such as 192.168.1.5/24")
                        })?;
                        Ok(Addressing::Static { address, prefix, gateway: *gateway })
                    }
                }
            };
            interfaces.push(Interface {
                name: source.name.clone(),
                ipv4: addressing("ipv4", &source.ipv4)?,
                ipv6: addressing("ipv6", &source.ipv6)?,
            });
        }
        let mut time_servers = Vec::new();
        for (index, text) in self.time_servers.iter().enumerate() {
            let reason = "must be an address or a name, such as \"time.example.com\"";
            let refused = || (format!("time_servers[{index}]"), reason);
            time_servers.push(Destination::parse(text).ok_or_else(refused)?);
        }
        let name_servers = self.name_servers.clone();
        let config = NetworkConfig { interfaces, name_servers, time_servers };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::{GOOD, load};

    #[test]
    fn interfaces_are_automatic_off_or_static() {
        let with =
            |lines: &str| load(&format!("{GOOD}[[network.interface]]\nname = \"eth0\"\n{lines}"));
        let manifest =
            with("ipv4 = { address = \"10.0.0.5/24\", gateway = \"10.0.0.1\" }\nipv6 = \"off\"");
        let config = manifest.unwrap().network.unwrap().config().unwrap();
        assert!(matches!(
            config.of("eth0"),
            (Addressing::Static { prefix: 24, .. }, Addressing::Off)
        ));
        let message = with("ipv4 = \"static\"").unwrap_err();
        assert!(message.contains("network.interface[0].ipv4: must be \"auto\""), "{message}");
        let message = with("ipv4 = { address = \"10.0.0.5\" }").unwrap_err();
        assert!(message.contains("such as 192.168.1.5/24"), "{message}");
        assert!(load(GOOD).unwrap().network.is_none());
    }
}
