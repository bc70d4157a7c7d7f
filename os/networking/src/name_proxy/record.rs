//! Record types that apps may ask for, and the records that answer them.

use holdfast_sandbox::network::grants::Destination;
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{QTYPE, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Shortest time in seconds for which the addresses of a name are open, whatever their time to live.
pub const LEAST_TTL_S: u32 = 30;
/// Longest time in seconds for which the addresses of a name are open.
pub const MOST_TTL_S: u32 = 3600;
/// Most records in one answer to an app.
pub const MAX_RECORDS: usize = 8;

/// The record type of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A: IPv4 addresses.
    A,
    /// AAAA: IPv6 addresses.
    Aaaa,
    /// PTR: instances of a DNS-SD service.
    Ptr,
    /// SRV: host and port of an instance.
    Srv,
    /// TXT: properties of an instance.
    Txt,
    /// Any other type, for which nobody is asked.
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
    /// Name of the host, in lower case.
    pub name: String,
    /// The granted service.
    pub service: Destination,
    /// Port of the instance.
    pub port: u16,
}

/// True for names below a domain.
pub(super) fn is_in(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// The status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The name exists.
    Known,
    /// There is no such name.
    NoSuchName,
    /// No server has given an answer of use.
    Failed,
}

/// A record of an answer to an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Time to live in seconds.
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

    /// Returns the address of a record of type A or AAAA.
    #[must_use]
    pub fn as_address(&self) -> Option<IpAddr> {
        match &self.data {
            RData::A(found) => Some(IpAddr::V4(Ipv4Addr::from_bits(found.address))),
            RData::AAAA(found) => Some(IpAddr::V6(Ipv6Addr::from_bits(found.address))),
            _ => None,
        }
    }

    /// Returns host and port of a record of type SRV, for an instance of this service.
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
