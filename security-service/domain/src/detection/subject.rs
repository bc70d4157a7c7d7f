//! What a rule speaks of: a part of the software in one version, a destination, the place of a crash, a network.

use holdfast_failure_reports::record::{Crash, End, Ended, Name, Panic, Protocol, Refused, Where};
use holdfast_types::{ComponentId, Version};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;

/// A part of a device's software.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// An app that a device of the group has attested.
    App(ComponentId),
    /// A service of the OS.
    Service(Name),
    /// The OS.
    Os,
    /// Whatever nobody has attested: all of it is one, so that a device that invents names makes one key of them.
    Unknown,
}

/// A part in one version; `None` for a version that nobody has attested.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Subject {
    /// The part.
    pub part: Part,
    /// Its version; that of a service is the OS's.
    pub version: Option<Version>,
}

/// Where refused packets were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Destination {
    /// The protocol.
    pub protocol: Protocol,
    /// The port, where the protocol has ports.
    pub port: Option<u16>,
    /// The kind of place.
    pub to: Where,
}

impl Destination {
    /// Returns the destination of refused packets.
    #[must_use]
    pub fn of(refused: &Refused) -> Self {
        Self { protocol: refused.protocol, port: refused.port, to: refused.to }
    }
}

/// What makes two ends of one component the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CrashSite {
    /// The way it ended.
    pub end: End,
    /// Where it was; `None` for one that its watchdog has ended, which may have been anywhere.
    pub crash: Option<Crash>,
    /// Where it has panicked.
    pub panic: Option<Panic>,
}

impl CrashSite {
    /// Returns that of an end.
    #[must_use]
    pub fn of(ended: &Ended) -> Self {
        let crash = ended.crash.filter(|_| ended.end != End::Watchdog);
        Self { end: ended.end, crash, panic: ended.panic }
    }
}

/// A network that strangers come from: a /24 of IPv4 or a /48 of IPv6, since one host may have all of its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// The first three bytes of an address of IPv4.
    V4([u8; 3]),
    /// The first six bytes of an address of IPv6.
    V6([u8; 6]),
}

impl Network {
    /// Returns the network of an address. An address of IPv4 within IPv6 is one of IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let [a, b, c, _] = address.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, ..] = address.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

/// The text is no network as [`Network`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is no network of /24 or /48")]
pub struct NoNetwork;

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, _) = text.split_once('/').ok_or(NoNetwork)?;
        let network = Self::of(address.parse().map_err(|_| NoNetwork)?);
        if network.to_string() == text { Ok(network) } else { Err(NoNetwork) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_of_one_network() {
        let network = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.9"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:1:2::3"), network("2001:db8:1:ffff::"));
        assert_ne!(network("2001:db8:1::"), network("2001:db8:2::"));
    }

    #[test]
    fn a_network_is_read_as_it_is_written() {
        for (text, written) in
            [("192.0.2.1", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48")]
        {
            let network = Network::of(text.parse().unwrap());
            assert_eq!((network.to_string(), written.parse()), (written.to_owned(), Ok(network)));
        }
        for text in ["192.0.2.0", "192.0.2.1/24", "192.0.2.0/16", "2001:db8::/32", "x/24"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }
}
