//! What names are asked for, and the records that a name has.

use holdfast_sandbox::network::grants::Destination;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{QTYPE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name's addresses are open for at least so many seconds, whatever its time to live.
pub const LEAST_TTL_S: u32 = 30;
/// And for at most so many.
pub const MOST_TTL_S: u32 = 3600;
/// Most records that are handed on in one answer.
pub const MAX_RECORDS: usize = 8;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Instances of a service.
    Ptr,
    /// Host and port of an instance.
    Srv,
    /// What an instance says of itself.
    Txt,
    /// Anything else: never asked for.
    Other,
}

impl Kind {
    pub(super) fn of(kind: QTYPE) -> Self {
        match kind {
            QTYPE::TYPE(TYPE::A) => Self::A,
            QTYPE::TYPE(TYPE::AAAA) => Self::Aaaa,
            QTYPE::TYPE(TYPE::PTR) => Self::Ptr,
            QTYPE::TYPE(TYPE::SRV) => Self::Srv,
            QTYPE::TYPE(TYPE::TXT) => Self::Txt,
            _ => Self::Other,
        }
    }

    pub(super) fn number(self) -> TYPE {
        match self {
            Self::A | Self::Other => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Ptr => TYPE::PTR,
            Self::Srv => TYPE::SRV,
            Self::Txt => TYPE::TXT,
        }
    }

    pub(super) fn is_address(self) -> bool {
        matches!(self, Self::A | Self::Aaaa)
    }
}

/// A host on which an instance of a service was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, in lower case.
    pub name: String,
    /// The service that was granted.
    pub service: Destination,
    /// The port that the instance is at.
    pub port: u16,
}

/// True for names below a domain.
pub(super) fn is_in(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// How an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The name exists.
    Known,
    /// There is no such name.
    NoSuchName,
    /// Nobody could say.
    Failed,
}

/// What is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Seconds that it holds.
    pub ttl: u32,
    pub(super) data: RData<'static>,
}

impl Record {
    pub(super) fn address(address: IpAddr, ttl: u32) -> Self {
        let data = match address {
            IpAddr::V4(address) => RData::A(A { address: address.to_bits() }),
            IpAddr::V6(address) => RData::AAAA(AAAA { address: address.to_bits() }),
        };
        Self { ttl, data }
    }

    /// The address, where it is one.
    #[must_use]
    pub fn as_address(&self) -> Option<IpAddr> {
        match &self.data {
            RData::A(found) => Some(IpAddr::V4(Ipv4Addr::from_bits(found.address))),
            RData::AAAA(found) => Some(IpAddr::V6(Ipv6Addr::from_bits(found.address))),
            _ => None,
        }
    }

    /// The host of an instance of a service and its port, where it says them.
    #[must_use]
    pub fn as_host(&self, service: &Destination) -> Option<Host> {
        match &self.data {
            RData::SRV(found) => Some(Host {
                name: found.target.to_string().to_ascii_lowercase(),
                service: service.clone(),
                port: Some(found.port).filter(|port| *port > 0)?,
            }),
            _ => None,
        }
    }
}
