//! The firewall's language: tables, chains, sets and rules as data (linux/netfilter/nf_tables.h).

mod display;
mod encoder;

pub use encoder::{add_elements, delete_elements, install};

use holdfast_sandbox::network::grants::PortRange;
use std::net::IpAddr;

const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Connection states, as bits of [`Match::State`].
pub mod state {
    /// Nothing that the kernel can follow.
    pub const INVALID: u32 = 1;
    /// Of a connection that both sides have seen.
    pub const ESTABLISHED: u32 = 2;
    /// An error about a connection.
    pub const RELATED: u32 = 4;
}

/// Where a chain begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// What came in, before its connection is looked for.
    Arriving,
    /// From this device, before its connection is looked for.
    Sent,
    /// Before routing: where destinations are translated.
    Prerouting,
    /// To this device.
    Input,
    /// Through this device.
    Forward,
    /// From this device.
    Output,
    /// After routing: where sources are translated.
    Postrouting,
}

/// What a packet must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// It came in through this device.
    From(String),
    /// It came in through a device whose name begins so, or does not.
    FromDevices(&'static str, bool),
    /// It leaves through this device.
    To(String),
    /// It leaves through a device whose name begins so, or does not.
    ToDevices(&'static str, bool),
    /// Its source is in a prefix, or is not.
    Source(IpAddr, u8, bool),
    /// Its destination is in a prefix.
    Destination(IpAddr, u8),
    /// Its destination is in a set of addresses of the IP version.
    DestinationIn(String, Version),
    /// Its destination and destination port are together in a set of the IP version.
    DestinationAndPortIn(String, Version),
    /// Its transport protocol.
    Protocol(u8),
    /// Its source port.
    SourcePort(u16),
    /// Its destination port.
    Ports(PortRange),
    /// Its connection is in one of these states.
    State(u32),
    /// Its destination was translated.
    Translated,
    /// Its ICMPv6 type.
    Icmp6(u8),
    /// The uid whose socket sent it.
    Owner(u32),
    /// More connections than this have come so far.
    OverConnections(u32),
    /// More connections than this have come so far from the same prefix of so many bits; counted in a set.
    OverConnectionsFrom(&'static str, Version, u8, u32),
    /// More than so many a second, beyond so many at once.
    OverRate(u32, u32),
    /// No more than so many a second, and as many again at once.
    Rate(u32),
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// The version of an address.
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

/// What is done with a packet that is like that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It passes.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone, and its sender is told that this is forbidden.
    Reject,
    /// Its head goes to a netlink group, under a prefix.
    Log(u16, String),
    /// A chain of its own decides, if the device it came in through, or leaves by, has one.
    Dispatch(Side, String),
    /// This chain decides.
    Continue(String),
    /// No connection is made of it; what comes next decides.
    Untracked,
    /// Its connection lasts as long as these timeouts say; what comes next decides.
    Timeouts(&'static str),
    /// Its source becomes the address of the device it leaves by.
    Masquerade,
    /// Its destination becomes this address.
    Translate(IpAddr),
}

/// By which device a packet is dispatched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one it came in through.
    From,
    /// The one it leaves by.
    To,
}

/// Matches, all of which must hold, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// In this order.
    pub matches: Vec<Match>,
    /// What is done.
    pub action: Action,
}

/// One chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets enter it; `None` for one that is dispatched to.
    pub base: Option<Hook>,
    /// In this order.
    pub rules: Vec<Rule>,
}

/// A set of addresses that changes while the rules stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet {
    /// Its name.
    pub name: String,
    /// IP version of its addresses.
    pub version: Version,
    /// A port belongs to each of them.
    pub with_ports: bool,
    /// Its elements have a time after which they are gone.
    pub timeouts: bool,
    /// Rules put elements into it, each for as long as it has connections.
    pub counts: bool,
    /// Most elements.
    pub most: u32,
}

/// How long connections of one protocol last, instead of what the kernel's settings say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// Name.
    pub name: &'static str,
    /// Number of the protocol.
    pub protocol: u8,
    /// State (linux/netfilter/nfnetlink_cttimeout.h), and seconds without a packet after which a connection in it is
    /// forgotten.
    pub seconds: &'static [(u16, u32)],
}

/// From devices to chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMap {
    /// Its name.
    pub name: String,
    /// Device and chain.
    pub chains: Vec<(String, String)>,
}

/// Everything in the one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// How long connections last that rules give timeouts to.
    pub timeouts: Vec<Timeouts>,
    /// Sets of addresses.
    pub sets: Vec<AddressSet>,
    /// Dispatches.
    pub maps: Vec<DeviceMap>,
    /// Chains; those without a base come before those that dispatch to them.
    pub chains: Vec<Chain>,
}

/// A change of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The set.
    pub set: String,
    /// Which element.
    pub address: IpAddr,
    /// The port of the element, for a set with ports.
    pub port: Option<u16>,
    /// Milliseconds that it stays, for a set with timeouts.
    pub timeout_ms: Option<u64>,
}
