//! Devices, addresses and routes as messages of `rtnetlink` (rtnetlink(7), kernel document
//! `networking/netlink_spec`).

use super::address::{APP_DEVICE, LINK_PREFIX_V4, LINK_PREFIX_V6, Link};
use super::netlink::{
    ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, Message, REPLACE, Received, attributes,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const NEW_USER_OPTION: u16 = 68;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const UP: u32 = 0x1;
const RUNNING: u32 = 0x40;
const LOWER_UP: u32 = 0x1_0000;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// Multicast groups that say what changes, as bits: links, addresses of both versions, and what
/// routers advertise (`RTNLGRP_LINK`, `IPV4_IFADDR`, `IPV6_IFADDR`, `IPV6_IFINFO`, `ND_USEROPT`).
pub const GROUPS: u32 = 1 | 1 << 4 | 1 << 8 | 1 << 11 | 1 << 19;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// An Ethernet device.
    pub is_ethernet: bool,
    /// Its hardware address.
    pub hardware: [u8; 6],
    /// It was switched on.
    pub is_up: bool,
    /// Something is plugged in.
    pub has_carrier: bool,
    /// What it is when no hardware stands behind it, such as `veth`.
    pub kind: Option<String>,
    /// Packets that it has received, then sent, then bytes received and sent, since it exists.
    pub traffic: [u64; 4],
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAddress {
    /// Number of the device.
    pub device: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// It can be used: nobody else has it.
    pub is_usable: bool,
}

/// Something that the kernel says about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device is there, or has changed.
    Device(Device),
    /// A device is gone.
    DeviceGone(u32),
    /// A device has an address, or it has changed.
    Address(DeviceAddress),
    /// A device has an address no more.
    AddressGone(DeviceAddress),
    /// The router of a device says whether a DHCPv6 server has more to say.
    OtherConfiguration(u32, bool),
    /// A router advertises name servers on a device, for so many seconds (RFC 8106).
    NameServers(u32, Vec<Ipv6Addr>, u32),
}

fn link_header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    let fields = [index, flags, change];
    for (place, value) in header.as_chunks_mut().0.iter_mut().skip(1).zip(fields) {
        *place = value.to_ne_bytes();
    }
    header
}

/// Asks for every device.
#[must_use]
pub fn list_devices() -> Message {
    Message::new(GET_LINK, DUMP, &link_header(0, 0, 0))
}

/// Asks for every address.
#[must_use]
pub fn list_addresses() -> Message {
    Message::new(GET_ADDRESS, DUMP, &[0; ADDRESS_HEADER])
}

/// Switches a device on.
#[must_use]
pub fn switch_on(device: u32) -> Message {
    Message::new(NEW_LINK, ACKNOWLEDGE, &link_header(device, UP, UP))
}

/// Takes a device away.
#[must_use]
pub fn delete_device(device: u32) -> Message {
    Message::new(DELETE_LINK, ACKNOWLEDGE, &link_header(device, 0, 0))
}

/// Within an app's namespace: a pair of devices, of which one is for the namespace of the process
/// `system`, as this process sees it.
#[must_use]
pub fn make_link(link: Link, system: u32) -> Message {
    const VETH_PEER: u16 = 1;
    Message::new(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, &link_header(0, 0, 0))
        .with_text(3, APP_DEVICE)
        .with_nested(18, |info| {
            info.put_text(1, "veth");
            info.put_nested(2, |data| {
                data.put_nested(VETH_PEER, |peer| {
                    peer.put_bytes(&link_header(0, 0, 0));
                    peer.put_text(3, &link.device());
                    peer.put(19, &system.to_ne_bytes());
                });
            });
        })
}

/// Has the kernel make up no address for a device: it has exactly those that it is given.
#[must_use]
pub fn without_own_addresses(device: u32) -> Message {
    const ADDRESS_GENERATION: u16 = 8;
    const NONE: u8 = 1;
    Message::new(NEW_LINK, ACKNOWLEDGE, &link_header(device, 0, 0)).with_nested(26, |families| {
        families.put_nested(AF_INET6.into(), |inet6| inet6.put(ADDRESS_GENERATION, &[NONE]));
    })
}

/// `RT_SCOPE_UNIVERSE`.
const EVERYWHERE: u8 = 0;
/// `RT_SCOPE_LINK`.
const ON_LINK: u8 = 253;

fn address_message(
    kind: u16,
    flags: u16,
    device: u32,
    (address, prefix): (IpAddr, u8),
    scope: u8,
) -> Message {
    const NO_DUPLICATES: u8 = 0x02;
    let (family, flag, bytes) = match address {
        IpAddr::V4(address) => (AF_INET, 0, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, NO_DUPLICATES, address.octets().to_vec()),
    };
    let mut header = vec![family, prefix, flag, scope];
    header.extend(device.to_ne_bytes());
    let mut message = Message::new(kind, flags | ACKNOWLEDGE, &header).with(2, &bytes);
    message.put(1, &bytes);
    if let IpAddr::V4(address) = address
        && prefix < 31
    {
        let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        message.put(4, &(address.to_bits() | host).to_be_bytes());
    }
    message
}

/// Gives a device an address.
#[must_use]
pub fn add_address(device: u32, address: IpAddr, prefix: u8) -> Message {
    address_message(NEW_ADDRESS, CREATE | REPLACE, device, (address, prefix), EVERYWHERE)
}

/// Gives the system's end of a link its address, which the kernel must not take for what leaves by another
/// device that has none yet.
#[must_use]
pub fn add_link_address(device: u32, address: IpAddr, prefix: u8) -> Message {
    address_message(NEW_ADDRESS, CREATE | REPLACE, device, (address, prefix), ON_LINK)
}

/// Takes an address from a device.
#[must_use]
pub fn delete_address(device: u32, address: IpAddr, prefix: u8) -> Message {
    address_message(DELETE_ADDRESS, 0, device, (address, prefix), EVERYWHERE)
}

/// The way out of a device, in the place of an earlier one.
#[must_use]
pub fn default_route(device: u32, gateway: IpAddr, metric: u32) -> Message {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    let (family, bytes) = match gateway {
        IpAddr::V4(gateway) => (AF_INET, gateway.octets().to_vec()),
        IpAddr::V6(gateway) => (AF_INET6, gateway.octets().to_vec()),
    };
    let header = [family, 0, 0, 0, MAIN_TABLE, STATIC, 0, UNICAST, 0, 0, 0, 0];
    Message::new(NEW_ROUTE, ACKNOWLEDGE | CREATE | REPLACE, &header)
        .with(4, &device.to_ne_bytes())
        .with(5, &bytes)
        .with(6, &metric.to_ne_bytes())
}

/// The addresses of one end of an app's link with their prefixes.
#[must_use]
pub fn link_addresses(link: Link, of_app: bool) -> [(IpAddr, u8); 2] {
    let (v4, v6) =
        if of_app { (link.app_v4(), link.app_v6()) } else { (link.system_v4(), link.system_v6()) };
    [(IpAddr::V4(v4), LINK_PREFIX_V4), (IpAddr::V6(v6), LINK_PREFIX_V6)]
}

/// Reads what the kernel says; `None` for what is of no interest.
#[must_use]
pub fn read(message: &Received<'_>) -> Option<Event> {
    match message.kind {
        NEW_LINK if message.body.first() == Some(&AF_INET6) => read_router_flags(message),
        NEW_LINK => Some(Event::Device(read_device(message)?)),
        DELETE_LINK => Some(Event::DeviceGone(read_device(message)?.index)),
        NEW_ADDRESS => Some(Event::Address(read_address(message)?)),
        DELETE_ADDRESS => Some(Event::AddressGone(read_address(message)?)),
        NEW_USER_OPTION => read_name_servers(message),
        _ => None,
    }
}

fn read_device(message: &Received<'_>) -> Option<Device> {
    let (header, found) = message.split(LINK_HEADER)?;
    let [_, _, kind0, kind1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *header else {
        return None;
    };
    let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
    Some(Device {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: found.text(3)?.to_owned(),
        is_ethernet: u16::from_ne_bytes([kind0, kind1]) == ETHERNET,
        hardware: found.find(1).and_then(|h| h.try_into().ok()).unwrap_or_default(),
        is_up: flags & UP != 0,
        has_carrier: flags & (RUNNING | LOWER_UP) == RUNNING | LOWER_UP,
        kind: found.find(18).and_then(|info| attributes(info).text(1)).map(str::to_owned),
        // `struct rtnl_link_stats64` begins with just these.
        traffic: [0, 8, 16, 24].map(|at| {
            let bytes = found.find(23).and_then(|all| all.get(at..)?.first_chunk());
            bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        }),
    })
}

/// What IPv6 says of a device: `IFLA_PROTINFO` holds the flags of its last router advertisement.
fn read_router_flags(message: &Received<'_>) -> Option<Event> {
    const OTHER_CONFIGURATION: u32 = 0x80;
    let (header, found) = message.split(LINK_HEADER)?;
    let [_, _, _, _, i0, i1, i2, i3, ..] = *header else {
        return None;
    };
    let flags = attributes(found.find(12)?).number(1)?;
    let index = u32::from_ne_bytes([i0, i1, i2, i3]);
    Some(Event::OtherConfiguration(index, flags & OTHER_CONFIGURATION != 0))
}

fn read_address(message: &Received<'_>) -> Option<DeviceAddress> {
    const TENTATIVE_OR_DUPLICATE: u32 = 0x40 | 0x08;
    let (header, found) = message.split(ADDRESS_HEADER)?;
    let [family, prefix, flags, _, i0, i1, i2, i3] = *header else {
        return None;
    };
    let bytes = found.find(2).or_else(|| found.find(1))?;
    let address = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from_octets(bytes.try_into().ok()?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from_octets(bytes.try_into().ok()?)),
        _ => return None,
    };
    let flags = found.number(8).unwrap_or(u32::from(flags));
    Some(DeviceAddress {
        device: u32::from_ne_bytes([i0, i1, i2, i3]),
        address,
        prefix,
        is_usable: flags & TENTATIVE_OR_DUPLICATE == 0,
    })
}

/// `struct nduseroptmsg`, the options behind it, and attributes behind those.
fn read_name_servers(message: &Received<'_>) -> Option<Event> {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const RDNSS: u8 = 25;
    let (header, _) = message.split(16)?;
    let [_, _, l0, l1, i0, i1, i2, i3, kind, ..] = *header else {
        return None;
    };
    let options = message.body.get(16..)?.get(..usize::from(u16::from_ne_bytes([l0, l1])))?;
    let [option, units, _, _, t0, t1, t2, t3, addresses @ ..] = options else {
        return None;
    };
    let whole = usize::from(*units).checked_mul(8)? == options.len();
    if kind != ROUTER_ADVERTISEMENT || *option != RDNSS || !whole {
        return None;
    }
    let servers = addresses.as_chunks().0.iter().take(super::dhcp::MAX_SERVERS);
    Some(Event::NameServers(
        u32::from_ne_bytes([i0, i1, i2, i3]),
        servers.map(|octets: &[u8; 16]| Ipv6Addr::from_octets(*octets)).collect(),
        u32::from_be_bytes([*t0, *t1, *t2, *t3]),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::messages;
    use super::*;
    use proptest::prelude::*;

    fn read_back(message: Message) -> Option<Event> {
        let bytes = message.finish(1);
        messages(&bytes).next().and_then(|message| read(&message))
    }

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for (address, prefix) in [("10.0.0.5", 24), ("198.18.0.1", 31), ("fd00::1", 64)] {
            let address: IpAddr = address.parse().unwrap();
            let expected = DeviceAddress { device: 7, address, prefix, is_usable: true };
            assert_eq!(read_back(add_address(7, address, prefix)), Some(Event::Address(expected)));
        }
    }

    #[test]
    fn name_servers_of_a_router_are_read_and_bounded() {
        let option = |servers: usize, units: u8| {
            let mut option = vec![25, units, 0, 0, 0, 0, 2, 88];
            for _ in 0..servers {
                option.extend("fd00::53".parse::<Ipv6Addr>().unwrap().octets());
            }
            let mut header = vec![AF_INET6, 0];
            header.extend(u16::try_from(option.len()).unwrap().to_ne_bytes());
            header.extend(3u32.to_ne_bytes());
            header.extend([134, 0, 0, 0, 0, 0, 0, 0]);
            header.extend(option);
            read_back(Message::new(NEW_USER_OPTION, 0, &header))
        };
        let server: Ipv6Addr = "fd00::53".parse().unwrap();
        assert_eq!(option(1, 3), Some(Event::NameServers(3, vec![server], 600)));
        assert_eq!(option(5, 11), Some(Event::NameServers(3, vec![server; 3], 600)));
        assert_eq!(option(1, 4), None, "its length lies");
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(
            kind in prop_oneof![16u16..26, Just(68u16)],
            body in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = read_back(Message::new(kind, 0, &body));
        }
    }
}
