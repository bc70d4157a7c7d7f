//! How the network of a peer is: what its servers do, and who is on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Router and DHCP server.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Name server.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 53);
/// Address that the guest is leased.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// Link-local address of the router.
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// How the network is.
#[derive(Debug, Clone)]
pub struct World {
    /// What the DHCP server does.
    pub dhcp: Dhcp,
    /// What the router advertises, if it does.
    pub router: Option<Advertisement>,
    /// Names by what they lead to; `*.` in front stands for every name below.
    pub names: Vec<(String, Answer)>,
    /// Instances of services on the local link.
    pub services: Vec<Instance>,
    /// Time servers, which the DHCP server names.
    pub time: Vec<TimeServer>,
    /// Name servers, which the DHCP server names, and how they are.
    pub name_servers: Vec<(Ipv4Addr, Manner)>,
    /// Addresses that somebody has, and says so.
    pub taken: Vec<Ipv4Addr>,
}

/// How a name server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers what it is asked.
    Answers,
    /// It says nothing.
    Silent,
    /// It answers with REFUSED.
    Refuses,
    /// It answers with FORMERR whatever has EDNS in it, in 12 bytes.
    RefusesEdns,
    /// It truncates every answer by UDP to nothing, and answers over TCP.
    Truncates,
    /// It truncates every answer by UDP to nothing, and refuses TCP.
    TruncatesWithoutTcp,
}

/// A time server (RFC 5905).
#[derive(Debug, Clone)]
pub struct TimeServer {
    /// Its address.
    pub address: Ipv4Addr,
    /// Milliseconds by which it is ahead of this machine's clock.
    pub ahead_ms: i64,
    /// Milliseconds that it admits to be off by.
    pub dispersion_ms: u32,
    /// It says that it knows the time.
    pub knows: bool,
}

impl TimeServer {
    /// One that knows the time.
    #[must_use]
    pub fn new(address: Ipv4Addr, ahead_ms: i64) -> Self {
        Self { address, ahead_ms, dispersion_ms: 0, knows: true }
    }
}

/// An instance of a DNS-SD service (RFC 6763).
#[derive(Debug, Clone)]
pub struct Instance {
    /// Such as `_http._tcp.local`.
    pub service: String,
    /// Its whole name.
    pub name: String,
    /// Name of the host that it is on.
    pub host: String,
    /// Port on that host.
    pub port: u16,
}

/// What a DHCP server does.
#[derive(Debug, Clone)]
pub struct Dhcp {
    /// It answers at all.
    pub serves: bool,
    /// Address that it leases.
    pub address: Ipv4Addr,
    /// Seconds of a lease.
    pub seconds: u32,
    /// Changes each answer before it is sent: lies.
    pub lie: Option<fn(&mut Vec<u8>)>,
    /// Each answer is sent so many times.
    pub copies: usize,
    /// Which of the forms of a lease it has.
    pub form: LeaseForm,
}

/// What a DHCP server says of a lease, beside its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseForm {
    /// A prefix of 24 bits, a router and name servers, each time.
    Whole,
    /// The same, and nothing but the time when it is renewed.
    BareRenewals,
    /// A prefix of one address, and classless routes that stand in the field `file`.
    HostPrefix,
}

/// What a router advertises.
#[derive(Debug, Clone)]
pub struct Advertisement {
    /// Prefix for addresses, of 64 bits.
    pub prefix: Ipv6Addr,
    /// Name servers.
    pub name_servers: Vec<Ipv6Addr>,
    /// Seconds that all of this holds.
    pub seconds: u32,
    /// Name servers that a DHCPv6 server names instead.
    pub by_dhcp: Vec<Ipv6Addr>,
}

/// What a name leads to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Other names on the way, in this order.
    pub aliases: Vec<String>,
    /// Addresses at its end.
    pub addresses: Vec<IpAddr>,
    /// Seconds that they hold.
    pub ttl: u32,
}

impl Answer {
    /// These addresses, for a minute.
    #[must_use]
    pub fn of(addresses: &[&str]) -> Self {
        let addresses = addresses.iter().filter_map(|text| text.parse().ok()).collect();
        Self { aliases: Vec::new(), addresses, ttl: 60 }
    }
}

impl Default for World {
    fn default() -> Self {
        Self {
            dhcp: Dhcp {
                serves: true,
                address: GUEST,
                seconds: 86_400,
                lie: None,
                copies: 1,
                form: LeaseForm::Whole,
            },
            router: None,
            names: Vec::new(),
            services: Vec::new(),
            time: Vec::new(),
            name_servers: vec![(NAME_SERVER, Manner::Answers)],
            taken: Vec::new(),
        }
    }
}
