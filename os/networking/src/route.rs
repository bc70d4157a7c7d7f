//! Network devices, addresses, routes and neighbours as `rtnetlink` messages (rtnetlink(7), kernel document
//! `networking/netlink_spec`).

use holdfast_netlink::{
    ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, Message, REPLACE, Received, attributes,
};
use holdfast_sandbox::network::address::{APP_DEVICE, VETH_PREFIX_V4, VETH_PREFIX_V6, Veth};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;
const NEW_USER_OPTION: u16 = 68;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const UP: u32 = 0x1;
const RUNNING: u32 = 0x40;
const LOWER_UP: u32 = 0x1_0000;
const DEVICE_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;
const NEIGHBOUR_HEADER: usize = 12;
/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// Multicast groups of changes, as bits: links, addresses of both IP versions, and router advertisements
/// (`RTNLGRP_LINK`, `IPV4_IFADDR`, `IPV6_IFADDR`, `IPV6_IFINFO`, `ND_USEROPT`).
pub const GROUPS: u32 = 1 | 1 << 4 | 1 << 8 | 1 << 11 | 1 << 19;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Index of the device.
    pub index: u32,
    /// Name of the device, such as `eth0`.
    pub name: String,
    /// True for an Ethernet device.
    pub is_ethernet: bool,
    /// Hardware address (MAC address).
    pub hardware: [u8; 6],
    /// True where the device was switched on (`IFF_UP`).
    pub is_up: bool,
    /// True where the link is up: the device has a carrier.
    pub has_carrier: bool,
    /// Kind of a device without hardware (`IFLA_INFO_KIND`), such as `veth`.
    pub kind: Option<String>,
    /// Packets received, packets sent, bytes received and bytes sent since the device exists.
    pub traffic: [u64; 4],
}

/// An address of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAddress {
    /// Index of the device.
    pub device: u32,
    /// The address.
    pub address: IpAddr,
    /// Length of the address's prefix in bits.
    pub prefix: u8,
    /// True where the address can be used: duplicate address detection has found nobody else.
    pub is_usable: bool,
}

/// A change of devices, addresses or neighbours that the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A device was made, or has changed.
    Device(Device),
    /// The device of this index was removed.
    DeviceGone(u32),
    /// A device has a new address, or an address has changed.
    Address(DeviceAddress),
    /// A device has lost an address.
    AddressGone(DeviceAddress),
    /// The router of a device says whether a DHCPv6 server has other configuration (RFC 4861, 4.2).
    OtherConfiguration(u32, bool),
    /// A router advertises name servers on a device, for so many seconds (RFC 8106).
    NameServers(u32, Vec<Ipv6Addr>, u32),
    /// A router advertises a NAT64 prefix on a device, for so many seconds (RFC 8781): the prefix and its length.
    Translation(u32, (Ipv6Addr, u8), u32),
    /// The hardware address of a neighbour on a device, where the kernel knows it.
    Neighbour(u32, IpAddr, Option<[u8; 6]>),
}

fn device_header(index: u32, flags: u32, change: u32) -> [u8; DEVICE_HEADER] {
    let mut header = [0; DEVICE_HEADER];
    let fields = [index, flags, change];
    for (place, value) in header.as_chunks_mut().0.iter_mut().skip(1).zip(fields) {
        *place = value.to_ne_bytes();
    }
    header
}

/// Requests a list of all devices.
#[must_use]
pub fn list_devices() -> Message {
    Message::new(GET_LINK, DUMP, &device_header(0, 0, 0))
}

/// Requests a list of all addresses.
#[must_use]
pub fn list_addresses() -> Message {
    Message::new(GET_ADDRESS, DUMP, &[0; ADDRESS_HEADER])
}

/// Switches a device on.
#[must_use]
pub fn switch_on(device: u32) -> Message {
    Message::new(NEW_LINK, ACKNOWLEDGE, &device_header(device, UP, UP))
}

/// Removes a device.
#[must_use]
pub fn delete_device(device: u32) -> Message {
    Message::new(DELETE_LINK, ACKNOWLEDGE, &device_header(device, 0, 0))
}

/// Makes a veth pair within an app's namespace, of which one end is for the namespace of the process `system`, as
/// this process sees it.
#[must_use]
pub fn make_veth(veth: Veth, system: u32) -> Message {
    const VETH_PEER: u16 = 1;
    Message::new(NEW_LINK, ACKNOWLEDGE | CREATE | EXCLUSIVE, &device_header(0, 0, 0))
        .with_text(3, APP_DEVICE)
        .with_nested(18, |info| {
            info.put_text(1, "veth");
            info.put_nested(2, |data| {
                data.put_nested(VETH_PEER, |peer| {
                    peer.put_bytes(&device_header(0, 0, 0));
                    peer.put_text(3, &veth.device());
                    peer.put(19, &system.to_ne_bytes());
                });
            });
        })
}

/// Has the kernel generate no IPv6 address for a device, which has exactly those that it is given.
#[must_use]
pub fn without_own_addresses(device: u32) -> Message {
    const ADDRESS_GENERATION: u16 = 8;
    const NONE: u8 = 1;
    Message::new(NEW_LINK, ACKNOWLEDGE, &device_header(device, 0, 0)).with_nested(26, |families| {
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

/// Gives the system's end of a veth pair its address, with link scope: the kernel must not take it for packets that
/// leave by another device that has none yet.
#[must_use]
pub fn add_veth_address(device: u32, address: IpAddr, prefix: u8) -> Message {
    address_message(NEW_ADDRESS, CREATE | REPLACE, device, (address, prefix), ON_LINK)
}

/// Removes an address from a device.
#[must_use]
pub fn delete_address(device: u32, address: IpAddr, prefix: u8) -> Message {
    address_message(DELETE_ADDRESS, 0, device, (address, prefix), EVERYWHERE)
}

/// Adds the default route of a device, in the place of an earlier one.
#[must_use]
pub fn default_route(device: u32, gateway: IpAddr, metric: u32) -> Message {
    let nowhere: IpAddr = match gateway {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    add_route(device, (nowhere, 0), Some((gateway, true)), metric)
}

/// Adds a route to a prefix, in the place of an earlier one: by a gateway, with whether an address of the device
/// covers it, or straight to the link.
#[must_use]
pub fn add_route(
    device: u32,
    to: (IpAddr, u8),
    gateway: Option<(IpAddr, bool)>,
    metric: u32,
) -> Message {
    route_message(NEW_ROUTE, CREATE | REPLACE, (device, metric), to, gateway)
}

/// Removes a route to a prefix.
#[must_use]
pub fn delete_route(
    device: u32,
    to: (IpAddr, u8),
    gateway: Option<(IpAddr, bool)>,
    metric: u32,
) -> Message {
    route_message(DELETE_ROUTE, 0, (device, metric), to, gateway)
}

fn route_message(
    kind: u16,
    flags: u16,
    (device, metric): (u32, u32),
    (to, length): (IpAddr, u8),
    gateway: Option<(IpAddr, bool)>,
) -> Message {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const UNICAST: u8 = 1;
    /// `RTNH_F_ONLINK`: the gateway is on the link though no address covers it.
    const GATEWAY_ON_LINK: u8 = 4;
    let (family, bytes) = family_and_bytes(to);
    let scope = if gateway.is_some() { EVERYWHERE } else { ON_LINK };
    let is_strange = gateway.is_some_and(|(_, is_covered)| !is_covered);
    let route_flags = u32::from(if is_strange { GATEWAY_ON_LINK } else { 0 }).to_ne_bytes();
    let mut header = vec![family, length, 0, 0, MAIN_TABLE, STATIC, scope, UNICAST];
    header.extend(route_flags);
    let mut message = Message::new(kind, flags | ACKNOWLEDGE, &header);
    if length > 0 {
        message.put(1, &bytes);
    }
    message.put(4, &device.to_ne_bytes());
    if let Some((gateway, _)) = gateway {
        message.put(5, &family_and_bytes(gateway).1);
    }
    message.put(6, &metric.to_ne_bytes());
    message
}

fn family_and_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (AF_INET6, address.octets().to_vec()),
    }
}

fn neighbour_message(kind: u16, flags: u16, device: u32, address: IpAddr, use_it: bool) -> Message {
    /// `NTF_USE`: the kernel looks for the neighbour as if a packet were to be sent there.
    const USE: u8 = 1;
    let (family, bytes) = family_and_bytes(address);
    let mut header = vec![family, 0, 0, 0];
    header.extend(device.to_ne_bytes());
    header.extend([0, 0, if use_it { USE } else { 0 }, 0]);
    Message::new(kind, flags, &header).with(1, &bytes)
}

/// Has the kernel look for a neighbour on a device's link: it asks three times, a second apart. While the device has
/// no address of its own, these are the ARP probes of RFC 5227.
#[must_use]
pub fn ask_for_neighbour(device: u32, address: IpAddr) -> Message {
    neighbour_message(NEW_NEIGHBOUR, ACKNOWLEDGE | CREATE | REPLACE, device, address, true)
}

/// Removes a neighbour from the kernel's table.
#[must_use]
pub fn forget_neighbour(device: u32, address: IpAddr) -> Message {
    neighbour_message(DELETE_NEIGHBOUR, ACKNOWLEDGE, device, address, false)
}

/// Requests a neighbour of the kernel's table; the answer is [`Event::Neighbour`], or an error where it has none.
#[must_use]
pub fn find_neighbour(device: u32, address: IpAddr) -> Message {
    neighbour_message(GET_NEIGHBOUR, 0, device, address, false)
}

/// Returns the addresses of one end of an app's veth pair with the lengths of their prefixes.
#[must_use]
pub fn veth_addresses(veth: Veth, of_app: bool) -> [(IpAddr, u8); 2] {
    let (v4, v6) =
        if of_app { (veth.app_v4(), veth.app_v6()) } else { (veth.system_v4(), veth.system_v6()) };
    [(IpAddr::V4(v4), VETH_PREFIX_V4), (IpAddr::V6(v6), VETH_PREFIX_V6)]
}

/// Adds a route by which the kernel answers at once that nobody is at the addresses of a prefix.
#[must_use]
pub fn add_unreachable_route(prefix: IpAddr, length: u8) -> Message {
    const MAIN_TABLE: u8 = 254;
    const STATIC: u8 = 4;
    const UNREACHABLE: u8 = 7;
    let (family, bytes) = match prefix {
        IpAddr::V4(prefix) => (AF_INET, prefix.octets().to_vec()),
        IpAddr::V6(prefix) => (AF_INET6, prefix.octets().to_vec()),
    };
    let header = [family, length, 0, 0, MAIN_TABLE, STATIC, 0, UNREACHABLE, 0, 0, 0, 0];
    Message::new(NEW_ROUTE, ACKNOWLEDGE | CREATE | REPLACE, &header).with(1, &bytes)
}

/// Reads a message of the kernel; `None` for one that is of no interest.
#[must_use]
pub fn read(message: &Received<'_>) -> Option<Event> {
    match message.kind {
        NEW_LINK if message.body.first() == Some(&AF_INET6) => read_router_flags(message),
        NEW_LINK => Some(Event::Device(read_device(message)?)),
        DELETE_LINK => Some(Event::DeviceGone(read_device(message)?.index)),
        NEW_ADDRESS => Some(Event::Address(read_address(message)?)),
        DELETE_ADDRESS => Some(Event::AddressGone(read_address(message)?)),
        NEW_USER_OPTION => read_router_option(message),
        NEW_NEIGHBOUR => read_neighbour(message),
        _ => None,
    }
}

fn read_device(message: &Received<'_>) -> Option<Device> {
    let (header, found) = message.split(DEVICE_HEADER)?;
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

/// Reads what IPv6 says of a device: `IFLA_PROTINFO` holds the flags of its last router advertisement. Where
/// addresses are managed, other configuration is as well (RFC 4861, 4.2).
fn read_router_flags(message: &Received<'_>) -> Option<Event> {
    const MANAGED_OR_OTHER: u32 = 0x40 | 0x80;
    let (header, found) = message.split(DEVICE_HEADER)?;
    let [_, _, _, _, i0, i1, i2, i3, ..] = *header else {
        return None;
    };
    let flags = attributes(found.find(12)?).number(1)?;
    let index = u32::from_ne_bytes([i0, i1, i2, i3]);
    Some(Event::OtherConfiguration(index, flags & MANAGED_OR_OTHER != 0))
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

/// Reads `struct ndmsg` and its attributes.
fn read_neighbour(message: &Received<'_>) -> Option<Event> {
    let (header, found) = message.split(NEIGHBOUR_HEADER)?;
    let [family, _, _, _, i0, i1, i2, i3, ..] = *header else {
        return None;
    };
    let bytes = found.find(1)?;
    let address = match family {
        AF_INET => IpAddr::V4(Ipv4Addr::from_octets(bytes.try_into().ok()?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from_octets(bytes.try_into().ok()?)),
        _ => return None,
    };
    // There is one only while the kernel believes in it.
    let hardware = found.find(2).and_then(|hardware| hardware.try_into().ok());
    Some(Event::Neighbour(u32::from_ne_bytes([i0, i1, i2, i3]), address, hardware))
}

/// Reads `struct nduseroptmsg`, the option behind it, and the attributes behind that.
fn read_router_option(message: &Received<'_>) -> Option<Event> {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const RDNSS: u8 = 25;
    const PREF64: u8 = 38;
    let (header, _) = message.split(16)?;
    let [_, _, l0, l1, i0, i1, i2, i3, kind, ..] = *header else {
        return None;
    };
    let options = message.body.get(16..)?.get(..usize::from(u16::from_ne_bytes([l0, l1])))?;
    let [option, units, first, second, rest @ ..] = options else {
        return None;
    };
    let whole = usize::from(*units).checked_mul(8)? == options.len();
    if kind != ROUTER_ADVERTISEMENT || !whole {
        return None;
    }
    let index = u32::from_ne_bytes([i0, i1, i2, i3]);
    match *option {
        RDNSS => {
            let (seconds, addresses) = rest.split_first_chunk()?;
            let servers = addresses.as_chunks().0.iter().take(crate::dhcp::MAX_SERVERS);
            Some(Event::NameServers(
                index,
                servers.map(|octets: &[u8; 16]| Ipv6Addr::from_octets(*octets)).collect(),
                u32::from_be_bytes(*seconds),
            ))
        }
        PREF64 => {
            const LENGTHS: [u8; 6] = [96, 64, 56, 48, 40, 32];
            let scaled = u16::from_be_bytes([*first, *second]);
            let length = *LENGTHS.get(usize::from(scaled & 7))?;
            let mut octets = [0u8; 16];
            octets.first_chunk_mut::<12>()?.copy_from_slice(rest.first_chunk::<12>()?);
            let prefix =
                holdfast_sandbox::network::grants::masked(IpAddr::V6(octets.into()), length)?;
            let IpAddr::V6(prefix) = prefix else {
                return None;
            };
            // In units of eight seconds, which are the upper bits.
            Some(Event::Translation(index, (prefix, length), u32::from(scaled & !7)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_netlink::messages;
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

    #[test]
    fn a_prefix_for_translation_is_read() {
        let option = |scaled: u16| {
            let mut message = vec![AF_INET6, 0, 16, 0];
            message.extend(3u32.to_ne_bytes());
            message.extend([134, 0, 0, 0, 0, 0, 0, 0, 38, 2]);
            message.extend(scaled.to_be_bytes());
            message.extend([0x20, 1, 0xd, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0]);
            read_back(Message::new(NEW_USER_OPTION, 0, &message))
        };
        let prefix: Ipv6Addr = "2001:db8:64::".parse().unwrap();
        assert_eq!(option(1800), Some(Event::Translation(3, (prefix, 96), 1800)));
        assert_eq!(option(1800 | 3), Some(Event::Translation(3, (prefix, 48), 1800)));
        assert_eq!(option(1800 | 7), None, "no such length");
    }

    #[test]
    fn a_neighbour_is_asked_for_and_read() {
        let address: IpAddr = "10.0.0.5".parse().unwrap();
        assert_eq!(read_back(find_neighbour(7, address)), None, "a question is no answer");
        let unknown = read_back(ask_for_neighbour(7, address));
        assert_eq!(unknown, Some(Event::Neighbour(7, address, None)));
        let known = ask_for_neighbour(7, address).with(2, &[2, 0, 0, 0, 0, 9]);
        let found = Some([2, 0, 0, 0, 0, 9]);
        assert_eq!(read_back(known), Some(Event::Neighbour(7, address, found)));
    }

    #[test]
    fn a_route_is_laid_out_as_the_kernel_wants_it() {
        let bytes = |message: Message| message.finish(1);
        let to: IpAddr = "192.0.2.0".parse().unwrap();
        let gateway: IpAddr = "10.0.0.1".parse().unwrap();
        let header = |message: &[u8]| message[16..28].to_vec();
        let through = bytes(add_route(7, (to, 24), Some((gateway, true)), 100));
        assert_eq!(header(&through), [2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0]);
        let strange = bytes(add_route(7, (to, 24), Some((gateway, false)), 100));
        assert_eq!(header(&strange)[8], 4, "a gateway that no address covers");
        let straight = bytes(delete_route(7, (to, 24), None, 100));
        assert_eq!(header(&straight), [2, 24, 0, 0, 254, 4, 253, 1, 0, 0, 0, 0]);
        let read: Vec<_> = messages(&through).collect();
        let (_, found) = read[0].split(12).unwrap();
        assert_eq!(found.find(1), Some([192, 0, 2, 0].as_slice()));
        assert_eq!(found.find(5), Some([10, 0, 0, 1].as_slice()));
        assert_eq!((found.number(4), found.number(6)), (Some(7), Some(100)));
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(
            kind in prop_oneof![16u16..31, Just(68u16)],
            body in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let _ = read_back(Message::new(kind, 0, &body));
        }
    }
}
