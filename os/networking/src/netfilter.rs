//! The firewall's ruleset as data: tables, chains, sets and rules of nftables (linux/netfilter/nf_tables.h).

mod display;
mod encoder;

pub use encoder::{add_elements, delete_elements, install};

use holdfast_sandbox::network::grants::PortRange;
use std::net::IpAddr;

const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Connection states, as bits of [`Match::State`].
pub mod state {
    /// The kernel cannot follow the packet.
    pub const INVALID: u32 = 1;
    /// The packet belongs to a connection that both sides have seen.
    pub const ESTABLISHED: u32 = 2;
    /// The packet reports an error about a connection.
    pub const RELATED: u32 = 4;
}

/// The hook at which packets enter a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Prerouting, with raw priority: before connection tracking.
    Arriving,
    /// Output, with raw priority: before connection tracking.
    Sent,
    /// Prerouting, for the translation of destinations.
    Prerouting,
    /// Input: packets to this device.
    Input,
    /// Forward: packets through this device.
    Forward,
    /// Output: packets from this device.
    Output,
    /// Postrouting, for the translation of sources.
    Postrouting,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// The packet came in through this network device.
    From(String),
    /// The packet came in through a network device whose name has this prefix, or has not.
    FromDevices(&'static str, bool),
    /// The packet leaves through this network device.
    To(String),
    /// The packet leaves through a network device whose name has this prefix, or has not.
    ToDevices(&'static str, bool),
    /// The source address is in a prefix, or is not.
    Source(IpAddr, u8, bool),
    /// The destination address is in a prefix.
    Destination(IpAddr, u8),
    /// The destination address is in a set, of this IP version.
    DestinationIn(String, Version),
    /// Destination address and destination port are together in a set, of this IP version.
    DestinationAndPortIn(String, Version),
    /// The transport protocol has this number.
    Protocol(u8),
    /// The source port.
    SourcePort(u16),
    /// The destination port is in this range.
    Ports(PortRange),
    /// The connection is in one of these states.
    State(u32),
    /// The destination address was translated.
    Translated,
    /// The packet is an ICMPv6 message of this type.
    Icmp6(u8),
    /// The socket that sent the packet belongs to this uid.
    Owner(u32),
    /// More connections than this have met the rule.
    OverConnections(u32),
    /// More connections than this have met the rule from one prefix, of so many bits; counted in this set.
    OverConnectionsFrom(&'static str, Version, u8, u32),
    /// More packets a second than the first number, beyond a burst of the second.
    OverRate(u32, u32),
    /// At most so many packets a second, with a burst of as many.
    Rate(u32),
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Returns the version of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn family(self) -> u8 {
        match self {
            Self::V4 => IPV4,
            Self::V6 => IPV6,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }
}

/// The verdict or statement of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The packet passes.
    Accept,
    /// The packet is dropped.
    Drop,
    /// The packet is dropped, and its sender gets an ICMP error (administratively prohibited).
    Reject,
    /// The head of the packet goes to a netlink group (`NFLOG`), under a prefix.
    Log(u16, String),
    /// A chain of the network device decides, where the map has one for it.
    Dispatch(Side, String),
    /// This chain decides.
    Continue(String),
    /// Connection tracking leaves the packet out; the next rule decides.
    Untracked,
    /// The connection has these timeouts; the next rule decides.
    Timeouts(&'static str),
    /// The source becomes the address of the device that the packet leaves by.
    Masquerade,
    /// The destination becomes this address.
    Translate(IpAddr),
}

/// The network device by which a packet is dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The device that the packet came in through.
    From,
    /// The device that the packet leaves by.
    To,
}

/// A rule: conditions that must all hold, and the action then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Conditions, in the order in which the kernel looks at them.
    pub matches: Vec<Match>,
    /// Action where all conditions hold.
    pub action: Action,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Name of the chain.
    pub name: String,
    /// Hook of a base chain; `None` for a chain that others dispatch to.
    pub base: Option<Hook>,
    /// Rules, in the order in which the kernel looks at them.
    pub rules: Vec<Rule>,
}

/// A set of addresses that changes while the rules stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet {
    /// Name of the set.
    pub name: String,
    /// IP version of the addresses.
    pub version: Version,
    /// True where each element is an address with a port.
    pub with_ports: bool,
    /// True where elements have a timeout after which the kernel removes them.
    pub timeouts: bool,
    /// True where rules add elements, each for as long as it has connections.
    pub counts: bool,
    /// Most elements that the set may have.
    pub most: u32,
}

/// Timeouts of connections of one protocol, in the place of the kernel's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Name of the object.
    pub name: &'static str,
    /// Protocol number (IANA).
    pub protocol: u8,
    /// State (linux/netfilter/nfnetlink_cttimeout.h), and seconds without a packet after which a connection in it is
    /// forgotten.
    pub seconds: &'static [(u16, u32)],
}

/// A map from network devices to chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMap {
    /// Name of the map.
    pub name: String,
    /// Names of network devices, each with the name of its chain.
    pub chains: Vec<(String, String)>,
}

/// The whole content of the firewall's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Timeouts that rules give to connections.
    pub timeouts: Vec<Timeouts>,
    /// Sets of addresses.
    pub sets: Vec<AddressSet>,
    /// Maps from network devices to chains.
    pub maps: Vec<DeviceMap>,
    /// Chains; those without a base come before those that dispatch to them.
    pub chains: Vec<Chain>,
}

/// An element that is added to a set, or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Name of the set.
    pub set: String,
    /// Address of the element.
    pub address: IpAddr,
    /// The port of the element, for a set with ports.
    pub port: Option<u16>,
    /// Milliseconds after which the kernel removes the element, for a set with timeouts.
    pub timeout_ms: Option<u64>,
}
