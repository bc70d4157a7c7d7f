//! What was refused to an app, by protocol, port and kind of place: what failure reports tell of it. Addresses are counted here and
//! told to nobody.

use crate::packet_denied::PacketDenied;
use holdfast_sandbox::network::address::is_of_apps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

/// Most groups of one app. What is refused beyond them is counted by kind of place alone.
pub const MAX_GROUPS: usize = 8;
/// Stands for any protocol in the groups of what is beyond [`MAX_GROUPS`] (IANA: reserved).
pub const OTHER_PROTOCOLS: u8 = 255;
/// Most addresses of a group that are told apart within an hour.
const MAX_ADDRESSES: usize = 64;
const HOUR_MS: u64 = 3_600_000;

/// A kind of place in networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// The Internet.
    Public,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The link (RFC 3927, RFC 4291, 2.5.6).
    Link,
    /// A group, or everybody on the link.
    Multicast,
    /// Another app of the device, or the device itself.
    Device,
}

impl Place {
    /// Returns the kind of place that an address is in.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if is_of_apps(address) || address.is_loopback() || address.is_unspecified() {
            return Self::Device;
        }
        if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Self::Multicast;
        }
        match address {
            IpAddr::V4(address) if address.is_link_local() => Self::Link,
            IpAddr::V4(address) if address.is_private() || is_shared(address) => Self::Private,
            IpAddr::V6(address) if address.is_unicast_link_local() => Self::Link,
            IpAddr::V6(address) if address.is_unique_local() => Self::Private,
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Public,
        }
    }
}

/// True for addresses between a provider and its customers (RFC 6598, 100.64.0.0/10).
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && second & 0xc0 == 64
}

/// What was refused to an app of one protocol, to one port, in one kind of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedGroup {
    /// Protocol number (IANA).
    pub protocol: u8,
    /// Destination port, where the protocol has ports and the app has not used too many.
    pub port: Option<u16>,
    /// The kind of place.
    pub place: Place,
    /// True where the app had asked for a name that it has a grant for.
    pub is_granted_name: bool,
    /// How often since the service's start, as far as the firewall has told.
    pub count: u32,
    /// How many addresses in the hour of the last one, as a power of 2 that is not more.
    pub addresses_log2: u8,
}

impl RefusedGroup {
    /// True where both are of the same protocol, port, kind of place and kind of name, whatever their counts.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let kind = |of: &Self| (of.protocol, of.port, of.place, of.is_granted_name);
        kind(self) == kind(other)
    }
}

#[derive(Debug, Clone)]
struct Group {
    told: RefusedGroup,
    /// Hashes of the addresses of this hour.
    addresses: BTreeSet<u32>,
    hour: u64,
}

/// The groups of one app.
#[derive(Debug, Clone, Default)]
pub struct RefusedTraffic {
    groups: Vec<Group>,
}

impl RefusedTraffic {
    /// Counts a packet that was denied at `now`, in milliseconds of the monotonic clock.
    pub fn add(&mut self, denied: &PacketDenied, is_granted_name: bool, now: u64) {
        let place = Place::of(denied.destination);
        let of = |protocol, port| RefusedGroup {
            protocol,
            port,
            place,
            is_granted_name,
            count: 0,
            addresses_log2: 0,
        };
        let exact = of(denied.protocol, denied.port);
        let is_full = self.groups.len() >= MAX_GROUPS;
        let rest = of(OTHER_PROTOCOLS, None);
        let known = self.position(&exact).or_else(|| self.position(&rest).filter(|_| is_full));
        let hour = now / HOUR_MS;
        let index = known.unwrap_or_else(|| {
            let told = if is_full { rest } else { exact };
            self.groups.push(Group { told, addresses: BTreeSet::new(), hour });
            self.groups.len().saturating_sub(1)
        });
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        if group.hour != hour {
            group.hour = hour;
            group.addresses.clear();
        }
        if group.addresses.len() < MAX_ADDRESSES {
            group.addresses.insert(hash(denied.destination));
        }
        group.told.count = group.told.count.saturating_add(1);
        let log2 = u32::try_from(group.addresses.len()).ok().and_then(u32::checked_ilog2);
        group.told.addresses_log2 = log2.and_then(|log2| u8::try_from(log2).ok()).unwrap_or(0);
    }

    fn position(&self, like: &RefusedGroup) -> Option<usize> {
        self.groups.iter().position(|group| group.told.is_like(like))
    }

    /// Returns the groups, the oldest first.
    #[must_use]
    pub fn groups(&self) -> Vec<RefusedGroup> {
        self.groups.iter().map(|group| group.told).collect()
    }
}

/// A hash of an address (FNV-1a), to tell addresses apart without keeping them. Whoever makes two the same is counted low.
fn hash(address: IpAddr) -> u32 {
    let bytes = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    };
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(destination: &str, port: u16) -> PacketDenied {
        PacketDenied {
            uid: 1000,
            destination: destination.parse().unwrap(),
            protocol: 6,
            port: Some(port),
            over: None,
        }
    }

    #[test]
    fn kinds_of_places_are_told_apart() {
        for (address, place) in [
            ("8.8.8.8", Place::Public),
            ("2001:4860:4860::8888", Place::Public),
            ("192.168.1.1", Place::Private),
            ("100.64.0.1", Place::Private),
            ("100.128.0.1", Place::Public),
            ("fd00::1", Place::Private),
            ("169.254.1.1", Place::Link),
            ("fe80::1", Place::Link),
            ("224.0.0.251", Place::Multicast),
            ("255.255.255.255", Place::Multicast),
            ("ff02::fb", Place::Multicast),
            ("127.0.0.1", Place::Device),
            ("::1", Place::Device),
        ] {
            assert_eq!(Place::of(address.parse().unwrap()), place, "{address}");
        }
    }

    #[test]
    fn a_scan_is_one_group_with_the_number_of_its_addresses() {
        let mut refused = RefusedTraffic::default();
        for number in 0..=255 {
            refused.add(&denied(&format!("203.0.113.{number}"), 23), false, 0);
        }
        let [group] = refused.groups()[..] else { panic!("{:?}", refused.groups()) };
        assert_eq!((group.port, group.place, group.count), (Some(23), Place::Public, 256));
        assert_eq!(1 << group.addresses_log2, MAX_ADDRESSES);
        // In the next hour it is counted anew.
        refused.add(&denied("203.0.113.1", 23), false, HOUR_MS);
        assert_eq!(refused.groups()[0].addresses_log2, 0);
        assert_eq!(refused.groups()[0].count, 257);
    }

    #[test]
    fn one_address_again_and_again_is_one() {
        let mut refused = RefusedTraffic::default();
        for _ in 0..1000 {
            refused.add(&denied("203.0.113.1", 443), true, 0);
        }
        let [group] = refused.groups()[..] else { panic!("{:?}", refused.groups()) };
        assert_eq!((group.count, group.addresses_log2), (1000, 0));
        assert!(group.is_granted_name);
    }

    #[test]
    fn an_app_that_tries_every_port_has_no_more_groups_than_there_are_kinds() {
        let mut refused = RefusedTraffic::default();
        for port in 1..=u16::MAX {
            for address in ["203.0.113.1", "192.168.0.1", "169.254.0.1", "224.0.0.1", "127.0.0.1"] {
                refused.add(&denied(address, port), port % 2 == 0, 0);
            }
        }
        let groups = refused.groups();
        assert!(groups.len() <= MAX_GROUPS + 10, "{}", groups.len());
        let all: u32 = groups.iter().map(|group| group.count).sum();
        assert_eq!(all, 5 * u32::from(u16::MAX), "each is counted");
    }
}
