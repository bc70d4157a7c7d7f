//! Messages of DHCPv4 servers, and the leases in them.
//!
//! Options stand in three fields of a message and may be cut into parts (RFC 2131, 4.1; RFC 3396); what a message
//! does not say stays as it was agreed before. Servers are strangers: everything is bounded, and each rejected part
//! has a reason.

use holdfast_sandbox::network::address::is_of_apps;
use holdfast_sandbox::network::grants::masked;
use smoltcp::wire::{DhcpMessageType, DhcpOpCode, DhcpPacket};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// Most name servers, and most time servers, that are taken from a lease.
pub const MAX_SERVERS: usize = 3;
/// Shortest lease that is accepted, in seconds: a shorter one could not be kept alive without a storm.
pub const LEAST_LEASE_S: u32 = 10;
/// Lease time that is assumed of a server that says none, in seconds.
pub const ASSUMED_LEASE_S: u32 = 3600;
/// Most routes that are taken from a lease, the default route included.
pub const MAX_ROUTES: usize = 16;
/// Numbers of options (RFC 2132, RFC 3442; 249 is 121 as older Windows servers number it).
pub(super) mod option {
    pub(crate) const MASK: u8 = 1;
    pub(crate) const ROUTER: u8 = 3;
    pub(crate) const NAME_SERVERS: u8 = 6;
    pub(crate) const STATIC_ROUTES: u8 = 33;
    pub(crate) const TIME_SERVERS: u8 = 42;
    pub(crate) const LEASE: u8 = 51;
    pub(crate) const OVERLOAD: u8 = 52;
    pub(crate) const KIND: u8 = 53;
    pub(crate) const SERVER: u8 = 54;
    pub(crate) const RENEWAL: u8 = 58;
    pub(crate) const REBINDING: u8 = 59;
    pub(crate) const CLASSLESS_ROUTES: u8 = 121;
    pub(crate) const CLASSLESS_ROUTES_OF_WINDOWS: u8 = 249;
}

/// A route to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// First address of the prefix.
    pub destination: Ipv4Addr,
    /// Length of the prefix in bits; 0 for the default route.
    pub length: u8,
    /// Next hop; `None` where the prefix is on the link.
    pub gateway: Option<Ipv4Addr>,
}

/// A lease, as a server has offered or granted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Address of the device.
    pub address: Ipv4Addr,
    /// Length of the address's prefix in bits; 32 where nobody but the gateway is on the link.
    pub prefix: u8,
    /// Routes by way of this interface, the default route among them.
    pub routes: Vec<Route>,
    /// Addresses of name servers, the best first.
    pub name_servers: Vec<Ipv4Addr>,
    /// Addresses of time servers.
    pub time_servers: Vec<Ipv4Addr>,
    /// Address of the server that offered or granted the lease.
    pub server: Ipv4Addr,
    /// Lease time in seconds; `None` for a lease without an end.
    pub seconds: Option<u32>,
    /// Seconds from the grant to renewal (T1) and to rebinding (T2).
    pub renewal: (u32, u32),
}

impl Lease {
    /// Returns the next hop of the default route.
    #[must_use]
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.length == 0)?.gateway
    }

    /// True for an address that the lease's prefix covers.
    #[must_use]
    pub fn is_on_link(&self, address: Ipv4Addr) -> bool {
        let network = |address: Ipv4Addr| masked(IpAddr::V4(address), self.prefix);
        network(address) == network(self.address)
    }
}

/// Reason for which a message of a DHCPv4 server, or a part of it, is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpRejected {
    /// An option is longer than what is left of its field.
    CutShort,
    /// The address is none that a host can have.
    Address(Ipv4Addr),
    /// The mask has holes, or is wider than any network.
    Mask(Ipv4Addr),
    /// The lease is shorter than [`LEAST_LEASE_S`]: so many seconds.
    Short(u32),
    /// The message does not identify its server.
    NoServer,
    /// The message grants another address than was requested.
    OtherAddress(Ipv4Addr),
    /// The message is from another server than the one that was asked.
    OtherServer(Ipv4Addr),
    /// The server does not grant what it has offered (DHCPNAK).
    Denied(Ipv4Addr),
    /// The message says no lease time; [`ASSUMED_LEASE_S`] is assumed.
    NoTime,
    /// The list of classless routes ends in the middle of one.
    RouteList,
    /// The route would lead apps' own veth pairs, or addresses that nobody has, to the network.
    Route(Ipv4Addr, u8),
    /// The message has more than [`MAX_ROUTES`] routes.
    ManyRoutes,
    /// The router, name server or time server has an address that no host can have.
    Server(Ipv4Addr),
}

impl DhcpRejected {
    /// True when both are of the same kind, whatever the numbers in them.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for DhcpRejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => formatter.write_str("an option is longer than its field"),
            Self::Address(address) => write!(formatter, "no host can have the address {address}"),
            Self::Mask(mask) => write!(formatter, "no network has the mask {mask}"),
            Self::Short(seconds) => write!(
                formatter,
                "a lease of {seconds} s ends before it could be renewed; the least is {LEAST_LEASE_S} s"
            ),
            Self::NoServer => formatter.write_str("it does not say which server it is from"),
            Self::OtherAddress(address) => {
                write!(formatter, "it grants {address}, which was not asked for")
            }
            Self::OtherServer(server) => {
                write!(formatter, "it is from {server}, which was not asked")
            }
            Self::Denied(server) => {
                write!(formatter, "{server} does not grant what it has offered (DHCPNAK)")
            }
            Self::NoTime => {
                write!(formatter, "no lease time is said; {ASSUMED_LEASE_S} s are assumed")
            }
            Self::RouteList => formatter.write_str("the list of classless routes is malformed"),
            Self::Route(address, length) => {
                write!(formatter, "the route to {address}/{length} leads where none may")
            }
            Self::ManyRoutes => write!(formatter, "there are more than {MAX_ROUTES} routes"),
            Self::Server(server) => write!(formatter, "no host can be the server {server}"),
        }
    }
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub(super) kind: DhcpMessageType,
    pub(super) transaction: u32,
    pub(super) hardware: [u8; 6],
    address: Ipv4Addr,
    /// `siaddr`, which identifies the server where option 54 does not.
    next_server: Ipv4Addr,
    is_cut_short: bool,
    options: BTreeMap<u8, Vec<u8>>,
}

/// Adds the options of one field to those that were found before; `None` when the last one is cut short.
fn walk(field: &[u8], into: &mut BTreeMap<u8, Vec<u8>>) -> Option<()> {
    const PAD: u8 = 0;
    const END: u8 = 255;
    let mut rest = field;
    loop {
        match rest {
            [] | [END, ..] => return Some(()),
            [PAD, more @ ..] => rest = more,
            [code, length, more @ ..] => {
                let (value, behind) = more.split_at_checked(usize::from(*length))?;
                into.entry(*code).or_default().extend_from_slice(value);
                rest = behind;
            }
            [_] => return None,
        }
    }
}

impl Answer {
    /// Parses a server's message; `None` for any other.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        const FIELD_FILE: std::ops::Range<usize> = 108..236;
        const FIELD_NAME: std::ops::Range<usize> = 44..108;
        const OPTIONS: usize = 240;
        let packet = DhcpPacket::new_checked(bytes).ok()?;
        let ethernet = u16::from(packet.hardware_type()) == 1 && packet.hardware_len() == 6;
        if !ethernet || packet.magic_number() != 0x6382_5363 || packet.opcode() != DhcpOpCode::Reply
        {
            return None;
        }
        let mut options = BTreeMap::new();
        let mut whole = walk(bytes.get(OPTIONS..)?, &mut options);
        let overload = options.get(&option::OVERLOAD).and_then(|value| value.first());
        let overload = overload.copied().unwrap_or(0);
        // In this order, so that an option that begins in one field goes on in the next (RFC 3396, 5).
        for (bit, field) in [(1, FIELD_FILE), (2, FIELD_NAME)] {
            if overload & bit != 0 && whole.is_some() {
                whole = walk(bytes.get(field)?, &mut options);
            }
        }
        let kind = DhcpMessageType::from(*options.get(&option::KIND)?.first()?);
        let of_server =
            matches!(kind, DhcpMessageType::Offer | DhcpMessageType::Ack | DhcpMessageType::Nak);
        of_server.then(|| Self {
            kind,
            transaction: packet.transaction_id(),
            hardware: packet.client_hardware_address().0,
            address: packet.your_ip(),
            next_server: packet.server_ip(),
            is_cut_short: whole.is_none(),
            options,
        })
    }

    fn number(&self, code: u8) -> Option<u32> {
        self.options.get(&code)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
    }

    /// Returns the addresses of an option; `None` where the option is missing or holds no whole address.
    fn addresses(&self, code: u8) -> Option<Vec<Ipv4Addr>> {
        let chunks = self.options.get(&code)?.as_chunks().0.iter().take(2 * MAX_ROUTES);
        let found: Vec<_> = chunks.map(|octets: &[u8; 4]| Ipv4Addr::from_octets(*octets)).collect();
        (!found.is_empty()).then_some(found)
    }

    /// Returns the address of the server, by option 54 or else by `siaddr`.
    #[must_use]
    pub fn server(&self) -> Option<Ipv4Addr> {
        let said = self.addresses(option::SERVER).and_then(|all| all.first().copied());
        said.or(Some(self.next_server)).filter(|server| is_host(*server))
    }

    /// True where the message says a lease time.
    pub(super) fn says_time(&self) -> bool {
        self.number(option::LEASE).is_some()
    }

    /// Returns the lease that the message offers or grants, with the parts of it that are ignored. What the message
    /// does not say is as in `earlier`: the lease that it renews, or the offer that it grants.
    ///
    /// # Errors
    /// The reason for which a device cannot use the lease.
    pub fn lease(
        &self,
        earlier: Option<&Lease>,
    ) -> Result<(Lease, Vec<DhcpRejected>), DhcpRejected> {
        let mut ignored = Vec::new();
        if self.is_cut_short {
            return Err(DhcpRejected::CutShort);
        }
        let mask = self.addresses(option::MASK).and_then(|all| all.first().copied());
        let prefix = match (mask, earlier) {
            (Some(mask), _) => length_of(mask).ok_or(DhcpRejected::Mask(mask))?,
            (None, Some(earlier)) => earlier.prefix,
            (None, None) => class_length(self.address),
        };
        let host = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let place = self.address.to_bits() & host;
        // Of two addresses both are hosts (RFC 3021), and one is one.
        if !is_host(self.address) || prefix < 31 && (place == 0 || place == host) {
            return Err(DhcpRejected::Address(self.address));
        }
        let seconds = match (self.number(option::LEASE), earlier) {
            (Some(seconds), _) if seconds < LEAST_LEASE_S => {
                return Err(DhcpRejected::Short(seconds));
            }
            (Some(u32::MAX), _) => None,
            (Some(seconds), _) => Some(seconds),
            (None, Some(earlier)) => earlier.seconds,
            (None, None) => {
                ignored.push(DhcpRejected::NoTime);
                Some(ASSUMED_LEASE_S)
            }
        };
        let server = self.server().or_else(|| earlier.map(|earlier| earlier.server));
        let mut servers = |code, earlier: Option<&Vec<Ipv4Addr>>| match self.addresses(code) {
            Some(found) => usable(&found, &mut ignored),
            None => earlier.cloned().unwrap_or_default(),
        };
        let name_servers = servers(option::NAME_SERVERS, earlier.map(|e| &e.name_servers));
        let time_servers = servers(option::TIME_SERVERS, earlier.map(|e| &e.time_servers));
        let routes = self.routes(earlier, &mut ignored);
        let lease = Lease {
            address: self.address,
            prefix,
            routes,
            name_servers,
            time_servers,
            server: server.ok_or(DhcpRejected::NoServer)?,
            seconds,
            renewal: self.renewal(seconds, earlier),
        };
        Ok((lease, ignored))
    }

    /// Returns the seconds from the grant to renewal (T1) and to rebinding (T2).
    fn renewal(&self, seconds: Option<u32>, earlier: Option<&Lease>) -> (u32, u32) {
        let most = seconds.unwrap_or(u32::MAX);
        let said = (self.number(option::RENEWAL), self.number(option::REBINDING));
        if let (None, (None, None), Some(earlier)) = (self.number(option::LEASE), said, earlier) {
            return earlier.renewal;
        }
        // The RFC's own: a half, and seven eighths.
        let usual = (most / 2, most.saturating_sub(most / 8));
        let (first, last) = (said.0.unwrap_or(usual.0), said.1.unwrap_or(usual.1));
        if first > 0 && first < last && last < most { (first, last) } else { usual }
    }

    /// Returns the routes. Classless routes stand in the place of routers and of class-based routes (RFC 3442).
    fn routes(&self, earlier: Option<&Lease>, ignored: &mut Vec<DhcpRejected>) -> Vec<Route> {
        let classless = [option::CLASSLESS_ROUTES, option::CLASSLESS_ROUTES_OF_WINDOWS];
        let classless = classless.iter().find_map(|code| self.options.get(code));
        let found = match classless.map(|bytes| classless_routes(bytes)) {
            Some(Some(routes)) => Some(routes),
            malformed => {
                ignored.extend(malformed.map(|_| DhcpRejected::RouteList));
                self.routes_by_class(ignored)
            }
        };
        let Some(found) = found else {
            return earlier.map(|earlier| earlier.routes.clone()).unwrap_or_default();
        };
        let mut routes: Vec<Route> = Vec::new();
        for mut route in found {
            // A router that has our own address means: everybody is on the link.
            route.gateway = route.gateway.filter(|gateway| *gateway != self.address);
            let known = routes.iter().any(|other| {
                (other.destination, other.length) == (route.destination, route.length)
            });
            if !leads_somewhere(route) {
                ignored.push(DhcpRejected::Route(route.destination, route.length));
            } else if routes.len() >= MAX_ROUTES {
                ignored.push(DhcpRejected::ManyRoutes);
            } else if !known {
                routes.push(route);
            }
        }
        routes
    }

    /// Returns the default route by the router option, and the class-based static routes; `None` where the message
    /// has neither.
    fn routes_by_class(&self, ignored: &mut Vec<DhcpRejected>) -> Option<Vec<Route>> {
        let routers = self.addresses(option::ROUTER);
        let to_networks = self.addresses(option::STATIC_ROUTES);
        if routers.is_none() && to_networks.is_none() {
            return None;
        }
        let mut routes = Vec::new();
        let routers = usable(&routers.unwrap_or_default(), ignored);
        routes.extend(routers.first().map(|router| Route {
            destination: Ipv4Addr::UNSPECIFIED,
            length: 0,
            gateway: Some(*router),
        }));
        for pair in to_networks.unwrap_or_default().as_chunks().0 {
            let [destination, gateway]: [Ipv4Addr; 2] = *pair;
            let length = class_length(destination);
            // The default route is not to be said this way (RFC 2132, 5.8).
            match masked(IpAddr::V4(destination), length) {
                Some(IpAddr::V4(network)) if !destination.is_unspecified() => {
                    routes.push(Route { destination: network, length, gateway: Some(gateway) });
                }
                _ => ignored.push(DhcpRejected::Route(destination, length)),
            }
        }
        Some(routes)
    }
}

/// Returns the length of the prefix of a netmask; `None` for one with holes, and for one shorter than 8 bits.
fn length_of(mask: Ipv4Addr) -> Option<u8> {
    let (ones, zeros) = (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros());
    let whole = ones.checked_add(zeros) == Some(32);
    u8::try_from(ones).ok().filter(|ones| whole && *ones >= 8)
}

/// Returns the length of the prefix of an address's class (RFC 791), for a server that says no netmask.
fn class_length(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        _ => 24,
    }
}

/// Parses the routes of option 121; `None` where it is cut short or has a prefix longer than an address.
fn classless_routes(bytes: &[u8]) -> Option<Vec<Route>> {
    let (mut rest, mut routes) = (bytes, Vec::new());
    while let [length, more @ ..] = rest {
        let (significant, behind) = more.split_at_checked(usize::from(length.div_ceil(8)))?;
        let mut octets = [0u8; 4];
        octets.get_mut(..significant.len())?.copy_from_slice(significant);
        let (gateway, behind) = behind.split_first_chunk::<4>()?;
        let Some(IpAddr::V4(destination)) = masked(IpAddr::V4(octets.into()), *length) else {
            return None;
        };
        let gateway = Some(Ipv4Addr::from_octets(*gateway)).filter(|g| !g.is_unspecified());
        routes.push(Route { destination, length: *length, gateway });
        rest = behind;
    }
    (!routes.is_empty()).then_some(routes)
}

/// True for a route that a network may ask for: none takes over the addresses of apps, and none is to or by an
/// address that nobody has.
fn leads_somewhere(route: Route) -> bool {
    let to = route.destination;
    let first = to.octets()[0];
    let is_default = route.length == 0;
    let nobody = first == 0 || to.is_loopback() || first >= 224 || is_of_apps(to.into());
    (is_default || !nobody) && route.gateway.is_none_or(is_host)
}

fn usable(found: &[Ipv4Addr], ignored: &mut Vec<DhcpRejected>) -> Vec<Ipv4Addr> {
    ignored.extend(found.iter().filter(|s| !is_host(**s)).map(|s| DhcpRejected::Server(*s)));
    let mut servers = Vec::new();
    for server in found.iter().filter(|server| is_host(**server)) {
        if servers.len() < MAX_SERVERS && !servers.contains(server) {
            servers.push(*server);
        }
    }
    servers
}

/// True for an address that one host of a network can have, and that is none of apps' veth pairs.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && !address.is_loopback() && first < 224 && !is_of_apps(address.into())
}
