//! Network grants of an app, in the form that the firewall is made from.

use holdfast_types::ComponentId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Most connections, ports of one kind, or applications that one app is granted.
pub const MAX_ENTRIES: usize = 64;
/// Most ranges of ports in one connection.
pub const MAX_RANGES: usize = 16;

/// Everything an app may do on the network. The default grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkGrants {
    /// Destinations that the app may connect to.
    pub connections: Vec<Connection>,
    /// TCP server ports of the app.
    pub tcp_server_ports: Vec<u16>,
    /// UDP server ports of the app.
    pub udp_server_ports: Vec<u16>,
    /// Apps that the app may connect to, where they name it as well.
    pub applications: Vec<ComponentId>,
}

/// A granted connection: destination, protocol and ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Destination: a name, an address or a prefix.
    pub to: Destination,
    /// Protocol; `None` is TCP and UDP.
    pub protocol: Option<Protocol>,
    /// Ranges of ports; all ports, where there are none.
    pub ports: Vec<PortRange>,
}

/// The destination of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Destination {
    /// The addresses that a name has: lower case, without a dot at its end.
    Name(String),
    /// Addresses that begin with so many bits of this one.
    Prefix(IpAddr, u8),
    /// Instances of a DNS-SD service on the local link, such as `_http._tcp.local`: lower case.
    Service(String),
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both protocols, in the order of their IP protocol numbers.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// The protocols that a grant covers which names this one, or none.
    #[must_use]
    pub fn of(named: Option<Self>) -> &'static [Self] {
        match named {
            None => &Self::ALL,
            Some(Self::Tcp) => &[Self::Tcp],
            Some(Self::Udp) => &[Self::Udp],
        }
    }

    /// Number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// A range such as `8000-8010`, from 1 up and not empty.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| -> Option<u16> {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|port| plain && *port > 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: number(first)?, last: number(last)? };
        (range.first <= range.last).then_some(range)
    }

    /// True for a port of the range.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}", self.first)
        } else {
            write!(formatter, "{}-{}", self.first, self.last)
        }
    }
}

/// Length of the prefix that one address alone has.
pub fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Destination {
    /// Reads a host name, an address, a prefix such as `10.0.0.0/8`, or a DNS-SD name such as
    /// `_http._tcp.local`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Prefix(address, whole(address)));
        }
        if let Some((address, length)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length: u8 = length.parse().ok().filter(|_| plain)?;
            return (masked(address, length)? == address).then_some(Self::Prefix(address, length));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !is_name(&name) {
            return None;
        }
        let labels: Vec<&str> = name.split('.').collect();
        match labels.as_slice() {
            [service, "_tcp" | "_udp", "local"] if service.starts_with('_') => {
                Some(Self::Service(name))
            }
            // All digits at the end would be an address that was not well formed.
            [.., last] if last.bytes().all(|byte| byte.is_ascii_digit()) => None,
            _ => Some(Self::Name(name)),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) | Self::Service(name) => formatter.write_str(name),
            Self::Prefix(address, length) => {
                write!(formatter, "{address}")?;
                if *length == whole(*address) { Ok(()) } else { write!(formatter, "/{length}") }
            }
        }
    }
}

impl Connection {
    /// To everything of a host, as Azure Sphere's plain entries mean it.
    #[must_use]
    pub fn to(to: Destination) -> Self {
        Self { to, protocol: None, ports: Vec::new() }
    }

    /// The protocols it covers.
    #[must_use]
    pub fn protocols(&self) -> &'static [Protocol] {
        Protocol::of(self.protocol)
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.to)?;
        match self.protocol {
            None => write!(formatter, ", TCP and UDP")?,
            Some(protocol) => write!(formatter, ", {protocol}")?,
        }
        match self.ports.as_slice() {
            [] => formatter.write_str(", every port"),
            ports => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                write!(formatter, ", port {}", ports.join(" "))
            }
        }
    }
}

impl NetworkGrants {
    /// True when there is nothing it may do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// True when the outside may reach it.
    #[must_use]
    pub fn serves(&self) -> bool {
        !self.tcp_server_ports.is_empty() || !self.udp_server_ports.is_empty()
    }

    /// True when some names are to be resolved for it.
    #[must_use]
    pub fn uses_names(&self) -> bool {
        !self.applications.is_empty()
            || self.connections.iter().any(|c| !matches!(c.to, Destination::Prefix(..)))
    }

    /// True for a name that it may connect to.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.connections.iter().any(|connection| {
            matches!(&connection.to, Destination::Name(to) | Destination::Service(to) if to == name)
        })
    }

    /// Ports on which it is reached with a protocol.
    #[must_use]
    pub fn server_ports(&self, protocol: Protocol) -> &[u16] {
        match protocol {
            Protocol::Tcp => &self.tcp_server_ports,
            Protocol::Udp => &self.udp_server_ports,
        }
    }

    /// True when everything in here is in `other` as well, entry by entry.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.connections.iter().all(|c| other.connections.contains(c))
            && self.tcp_server_ports.iter().all(|p| other.tcp_server_ports.contains(p))
            && self.udp_server_ports.iter().all(|p| other.udp_server_ports.contains(p))
            && self.applications.iter().all(|a| other.applications.contains(a))
    }

    /// Checks what no manifest could have said, for grants that came from elsewhere.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let ports = [&self.tcp_server_ports, &self.udp_server_ports];
        let entries = self.connections.len().max(self.applications.len());
        let entries = ports.iter().fold(entries, |most, ports| most.max(ports.len()));
        if entries > MAX_ENTRIES {
            return Err(("network", "has more than 64 entries of one kind"));
        }
        if ports.iter().any(|ports| ports.contains(&0)) {
            return Err(("network", "has a port 0"));
        }
        for connection in &self.connections {
            if connection.ports.len() > MAX_RANGES {
                return Err(("network", "has more than 16 ranges of ports in one connection"));
            }
            if connection.ports.iter().any(|range| range.first == 0 || range.first > range.last) {
                return Err(("network", "has an empty range of ports"));
            }
            if Destination::parse(&connection.to.to_string()).as_ref() != Some(&connection.to) {
                return Err(("network", "has a destination that is not one"));
            }
        }
        Ok(())
    }
}

/// The address with everything behind its first `length` bits cleared.
#[must_use]
pub fn masked(address: IpAddr, length: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let behind = 32u32.checked_sub(length.into())?;
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Some(IpAddr::V4((address.to_bits() & mask).into()))
        }
        IpAddr::V6(address) => {
            let behind = 128u32.checked_sub(length.into())?;
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Some(IpAddr::V6((address.to_bits() & mask).into()))
        }
    }
}

/// True for a DNS name of labels of letters, digits, `-` and `_`.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn destinations_are_names_addresses_prefixes_and_services() {
        let name = |text: &str| Destination::Name(text.to_owned());
        assert_eq!(Destination::parse("Example.COM."), Some(name("example.com")));
        assert_eq!(Destination::parse("gateway"), Some(name("gateway")));
        let prefix = |text: &str, length| Destination::Prefix(text.parse().unwrap(), length);
        assert_eq!(Destination::parse("192.168.1.2"), Some(prefix("192.168.1.2", 32)));
        assert_eq!(Destination::parse("10.0.0.0/8"), Some(prefix("10.0.0.0", 8)));
        assert_eq!(Destination::parse("0.0.0.0/0"), Some(prefix("0.0.0.0", 0)));
        assert_eq!(Destination::parse("2001:db8::/32"), Some(prefix("2001:db8::", 32)));
        assert_eq!(
            Destination::parse("_HTTP._tcp.local"),
            Some(Destination::Service("_http._tcp.local".to_owned()))
        );
        for wrong in [
            "",
            ".",
            "a..b",
            "-a",
            "a b",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "::/129",
            "1.2.3",
            "1.2.3.4.5",
            "256.1.1.1",
            "*.example.com",
            "http://example.com",
            "a/8",
        ] {
            assert_eq!(Destination::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ranges_are_read_and_never_empty() {
        assert_eq!(PortRange::parse("80"), Some(PortRange::one(80)));
        assert_eq!(PortRange::parse("1-65535"), Some(PortRange { first: 1, last: 65_535 }));
        for wrong in ["0", "0-5", "9-8", "65536", "-1", "+1", "1-", "", "a", "1-2-3"] {
            assert_eq!(PortRange::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn grants_out_of_bounds_are_refused() {
        let refused = |grants: &NetworkGrants| grants.check().is_err();
        let with =
            |connection| NetworkGrants { connections: vec![connection], ..Default::default() };
        let to = |to| Connection::to(to);
        assert!(!refused(&with(to(Destination::Name("a.b".to_owned())))));
        assert!(refused(&with(to(Destination::Name("A.b".to_owned())))));
        assert!(refused(&with(to(Destination::Prefix("10.0.0.1".parse().unwrap(), 8)))));
        let range = PortRange { first: 2, last: 1 };
        let name = Destination::Name("a".to_owned());
        assert!(refused(&with(Connection { ports: vec![range], ..to(name) })));
        assert!(refused(&NetworkGrants { tcp_server_ports: vec![0], ..Default::default() }));
        assert!(refused(&NetworkGrants { udp_server_ports: vec![1; 65], ..Default::default() }));
    }

    proptest! {
        #[test]
        fn a_destination_is_read_back_from_what_it_prints(text in "[a-zA-Z0-9_./:-]{0,40}") {
            if let Some(destination) = Destination::parse(&text) {
                prop_assert_eq!(Destination::parse(&destination.to_string()), Some(destination));
            }
        }

        #[test]
        fn a_prefix_covers_what_it_masks(bits in any::<u32>(), length in 0u8..=32) {
            let address = IpAddr::V4(bits.into());
            let network = masked(address, length).unwrap();
            prop_assert_eq!(masked(network, length), Some(network));
            let text = format!("{network}/{length}");
            prop_assert!(Destination::parse(&text).is_some());
        }
    }
}
