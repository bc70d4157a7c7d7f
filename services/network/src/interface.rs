//! One outer interface: its lease, its addresses, and what routers and servers say on its link.

use crate::log::log;
use crate::reports::Said;
use holdfast_linux::entropy;
use holdfast_linux::netlink::NetlinkSocket;
use holdfast_linux::udp::UdpSocket;
use holdfast_networking::advertised::Advertised;
use holdfast_networking::config::Addressing;
use holdfast_networking::dhcp::{self, Client, Lease, LeaseLost, Route};
use holdfast_networking::dhcp6;
use holdfast_networking::name_proxy;
use holdfast_networking::route::{self, Device, DeviceAddress, Event};
use holdfast_types::chain;
use holdfast_types::event::network::{
    ADDRESS_ADD_FAILED, ADDRESS_CONFLICT, ADDRESS_PROBE_FAILED, ADDRESS_REMOVE_FAILED,
    DHCP_MESSAGE_REJECTED, DHCP_NO_ANSWER, DHCP_OPTION_IGNORED, DHCP_SEND_FAILED,
    DHCP_SOCKET_FAILED, DHCPV6_MESSAGE_REJECTED, DHCPV6_SOCKET_FAILED, INTERFACE_SETUP_FAILED,
    LEASE_ACQUIRED, LEASE_EXPIRED, LEASE_REVOKED, MDNS_SOCKET_FAILED, NAME_SERVERS_CHANGED,
    PROXY_ARP_DETECTED, ROUTE_ADD_FAILED,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most name servers that routers of one link advertise, and most NAT64 prefixes.
const MAX_ADVERTISED: usize = 4;
/// Metric of an interface's default route, lower than the kernel's for routes of router advertisements (1024). Routes
/// of leases have the interface's index added.
const METRIC: u32 = 100;

/// One interface of the device.
#[derive(Debug)]
pub(crate) struct OuterInterface {
    pub(crate) device: Device,
    pub(crate) client: Option<Client>,
    /// Socket of the DHCPv4 client.
    pub(crate) socket: Option<UdpSocket>,
    /// Client of stateless DHCPv6, for what a router leaves to a DHCPv6 server.
    pub(crate) information: dhcp6::Client,
    pub(crate) information_socket: Option<UdpSocket>,
    /// Socket for questions to multicast DNS.
    pub(crate) mdns_socket: Option<UdpSocket>,
    ipv4: Addressing,
    pub(crate) ipv6: Addressing,
    /// Lease whose address and routes are in the kernel.
    pub(crate) leased: Option<Lease>,
    /// Addresses of the interface, of whatever origin.
    pub(crate) addresses: Vec<DeviceAddress>,
    /// Name servers that routers advertise.
    pub(crate) advertised: Advertised<Ipv6Addr>,
    /// Name servers of the last DHCPv6 answer.
    informed: Advertised<Ipv6Addr>,
    /// NAT64 prefixes that routers advertise.
    pub(crate) translated: Advertised<(Ipv6Addr, u8)>,
    /// Name servers of IPv6 that were logged last.
    named: Vec<Ipv6Addr>,
    /// Lines that other hosts can cause, which are rate-limited.
    said: Said,
}

impl OuterInterface {
    pub(crate) fn new(mut device: Device, ipv4: Addressing, ipv6: Addressing) -> Self {
        // Being plugged in is an event, and this device has had none yet.
        device.has_carrier = false;
        let random = entropy::random().ok().and_then(|bytes| bytes.first_chunk().copied());
        let random = u64::from_ne_bytes(random.unwrap_or_default());
        let device_hardware = device.hardware;
        let client = (ipv4 == Addressing::Automatic).then(|| Client::new(device.hardware, random));
        Self {
            device,
            client,
            socket: None,
            information: dhcp6::Client::new(device_hardware, random),
            information_socket: None,
            mdns_socket: None,
            ipv4,
            ipv6,
            leased: None,
            addresses: Vec::new(),
            advertised: Advertised::new(MAX_ADVERTISED),
            informed: Advertised::new(MAX_ADVERTISED),
            translated: Advertised::new(MAX_ADVERTISED),
            named: Vec::new(),
            said: Said::default(),
        }
    }

    /// Gives the interface its sockets, and its static addresses and routes, and switches it on.
    pub(crate) fn switch_on(&mut self, routes: &mut NetlinkSocket) {
        let (name, index) = (&self.device.name, self.device.index);
        if self.client.is_some() {
            let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT));
            match UdpSocket::on_device(name, local) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    log(DHCP_SOCKET_FAILED, format!("{name}: cannot open a DHCP socket: {error}"));
                }
            }
        }
        if self.ipv6 == Addressing::Automatic {
            let local = SocketAddr::from((Ipv6Addr::UNSPECIFIED, dhcp6::CLIENT_PORT));
            match UdpSocket::on_device(name, local) {
                Ok(socket) => self.information_socket = Some(socket),
                Err(error) => {
                    let what = "cannot open a DHCPv6 socket";
                    log(DHCPV6_SOCKET_FAILED, format!("{name}: {what}: {error}"));
                }
            }
        }
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, name_proxy::MDNS_QUERY_PORT));
        match UdpSocket::on_device(name, local) {
            Ok(socket) => self.mdns_socket = Some(socket),
            Err(error) => {
                log(MDNS_SOCKET_FAILED, format!("{name}: cannot open an mDNS socket: {error}"));
            }
        }
        let mut requests = vec![route::switch_on(index)];
        for addressing in [&self.ipv4, &self.ipv6] {
            if let Addressing::Static { address, prefix, gateway } = addressing {
                requests.push(route::add_address(index, *address, *prefix));
                if let Some(gateway) = gateway {
                    requests.push(route::default_route(index, *gateway, METRIC));
                }
            }
        }
        if let Err(error) = routes.request(requests) {
            let what = "cannot switch the interface on";
            log(INTERFACE_SETUP_FAILED, format!("{name}: {what}: {}", chain(&error)));
        }
    }

    /// Returns the name servers of IPv6, those of routers before those of DHCPv6.
    pub(crate) fn name_servers_v6(&self, now: u64) -> Vec<Ipv6Addr> {
        let mut servers: Vec<Ipv6Addr> = Vec::new();
        for server in self.advertised.at(now).chain(self.informed.at(now)) {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        servers
    }

    pub(crate) fn say_name_servers(&mut self, now: u64) {
        let servers = self.name_servers_v6(now);
        if servers != self.named {
            let line = format!("{}: name servers {}", self.device.name, list(&servers));
            self.said.say(now, NAME_SERVERS_CHANGED, line);
            self.named = servers;
        }
    }

    /// Returns the prefixes on the interface's link, and its gateways.
    pub(crate) fn near(&self) -> Vec<(IpAddr, u8)> {
        let mut near: Vec<_> = self.addresses.iter().map(|a| (a.address, a.prefix)).collect();
        for route in self.leased.iter().flat_map(|lease| &lease.routes) {
            match route.gateway {
                Some(gateway) => near.push((gateway.into(), 32)),
                // Everybody is said to be on the link: nobody is nearer than others then.
                None if route.length == 0 => {}
                None => near.push((route.destination.into(), route.length)),
            }
        }
        near
    }

    /// Takes the messages of DHCPv6 servers.
    pub(crate) fn receive_information(&mut self, now: u64) {
        let socket = self.information_socket.as_ref();
        let taken = socket.map(|s| s.take(dhcp6::SERVER_PORT, dhcp6::MAX_MESSAGE_BYTES));
        for (message, _) in taken.unwrap_or_default() {
            match self.information.on_message(&message, now) {
                None => {}
                Some(Ok(answer)) => {
                    // It is asked again in time; until that has an answer, this one holds a little longer.
                    let seconds = answer.seconds.saturating_mul(2);
                    self.informed.replace(&answer.name_servers, seconds, now);
                    self.say_name_servers(now);
                }
                Some(Err(rejected)) => {
                    let name = &self.device.name;
                    let line = format!("{name}: DHCPv6 message rejected: {rejected}");
                    self.said.say(now, DHCPV6_MESSAGE_REJECTED, line);
                }
            }
        }
    }

    /// Carries out what the DHCPv4 client decides, and tells the client what comes of it.
    pub(crate) fn act(&mut self, routes: &mut NetlinkSocket, events: Vec<dhcp::Event>, now: u64) {
        let (name, index) = (self.device.name.clone(), self.device.index);
        for event in events {
            match event {
                dhcp::Event::Send(to, message) => {
                    let to = SocketAddr::from((to, dhcp::SERVER_PORT));
                    let sent = self.socket.as_ref().map(|socket| socket.send(&message, to));
                    if let Some(Err(error)) = sent {
                        let line = format!("{name}: cannot send a DHCP message: {error}");
                        self.said.say(now, DHCP_SEND_FAILED, line);
                    }
                }
                dhcp::Event::Probe(address) => {
                    // What is known from before would be taken for an answer.
                    let _ = routes.request(vec![route::forget_neighbour(index, address.into())]);
                    let ask = route::ask_for_neighbour(index, address.into());
                    if let Err(error) = routes.request(vec![ask]) {
                        let what = format!("cannot send ARP probes for {address}");
                        log(ADDRESS_PROBE_FAILED, format!("{name}: {what}: {}", chain(&error)));
                    }
                }
                dhcp::Event::Look(address) => {
                    let find = route::find_neighbour(index, address.into());
                    let found = routes.ask(find, |message| match route::read(message) {
                        Some(Event::Neighbour(_, _, holder)) => holder,
                        _ => None,
                    });
                    let holder = found.unwrap_or_else(|error| {
                        let what = format!("cannot read the answers to ARP probes for {address}");
                        log(ADDRESS_PROBE_FAILED, format!("{name}: {what}: {}", chain(&error)));
                        None
                    });
                    let events = self.client.as_mut().map(|c| c.on_neighbour(holder, now));
                    self.act(routes, events.unwrap_or_default(), now);
                }
                dhcp::Event::Acquired(lease) => self.acquire(routes, lease),
                dhcp::Event::Lost(lost) => {
                    let event = match lost {
                        LeaseLost::Expired => LEASE_EXPIRED,
                        LeaseLost::Revoked => LEASE_REVOKED,
                    };
                    log(event, format!("{name}: {lost}"));
                    if let Some(lease) = self.leased.take() {
                        self.drop_address(routes, &lease);
                    }
                }
                dhcp::Event::Rejected(rejected) => {
                    let line = format!("{name}: DHCP message rejected: {rejected}");
                    self.said.say(now, DHCP_MESSAGE_REJECTED, line);
                }
                dhcp::Event::Ignored(ignored) => {
                    let line = format!("{name}: DHCP option ignored: {ignored}");
                    self.said.say(now, DHCP_OPTION_IGNORED, line);
                }
                dhcp::Event::Silence => {
                    log(DHCP_NO_ANSWER, format!("{name}: no DHCP server answers; asking on"));
                }
                dhcp::Event::Taken { address, holder, is_used } => {
                    let [a, b, c, d, e, f] = holder;
                    let holder = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
                    let (event, what) = if is_used {
                        let what = format!("proxy ARP: {holder} answers for every address");
                        (PROXY_ARP_DETECTED, format!("{what}; {address} is used all the same"))
                    } else {
                        let what = format!("address conflict: {holder} has {address}");
                        (ADDRESS_CONFLICT, format!("{what}; lease declined (DHCPDECLINE)"))
                    };
                    self.said.say(now, event, format!("{name}: {what}"));
                }
            }
        }
    }

    fn acquire(&mut self, routes: &mut NetlinkSocket, lease: Lease) {
        let (name, index) = (self.device.name.clone(), self.device.index);
        let is_fresh = self.leased.as_ref().is_none_or(|old| old.address != lease.address);
        let old = self.leased.take();
        if let Some(old) = &old {
            if (old.address, old.prefix) != (lease.address, lease.prefix) {
                self.drop_address(routes, old);
            } else {
                let metric = self.metric();
                for route in old.routes.iter().filter(|route| !lease.routes.contains(route)) {
                    let (to, gateway) = ways(old, route);
                    let delete = route::delete_route(index, to, gateway, metric);
                    // The kernel has taken away itself what leads nowhere any more.
                    let _ = routes.request(vec![delete]);
                }
            }
        }
        if is_fresh {
            // What came of asking for it; from now on, it is our own.
            let _ = routes.request(vec![route::forget_neighbour(index, lease.address.into())]);
        }
        let add = route::add_address(index, lease.address.into(), lease.prefix);
        if let Err(error) = routes.request(vec![add]) {
            let what = format!("cannot add leased address {}", lease.address);
            log(ADDRESS_ADD_FAILED, format!("{name}: {what}: {}", chain(&error)));
        }
        // Those straight to the link first: gateways of others may be there.
        let (straight, through): (Vec<&Route>, Vec<&Route>) =
            lease.routes.iter().partition(|route| route.gateway.is_none());
        for one in straight.into_iter().chain(through) {
            let (to, gateway) = ways(&lease, one);
            let add = route::add_route(index, to, gateway, self.metric());
            if let Err(error) = routes.request(vec![add]) {
                let what = format!("cannot add a route to {}/{}", to.0, to.1);
                log(ROUTE_ADD_FAILED, format!("{name}: {what}: {}", chain(&error)));
            }
        }
        let time = lease.seconds.map_or("for ever".to_owned(), |s| format!("for {s} s"));
        let gateway = lease.gateway().map_or("no gateway".to_owned(), |g| format!("gateway {g}"));
        let leased = format!("{}/{} from {} {time}", lease.address, lease.prefix, lease.server);
        let names = list(&lease.name_servers);
        log(LEASE_ACQUIRED, format!("{name}: leased {leased}, {gateway}, name servers {names}"));
        self.leased = Some(lease);
    }

    fn metric(&self) -> u32 {
        METRIC.saturating_add(self.device.index)
    }

    fn drop_address(&self, routes: &mut NetlinkSocket, lease: &Lease) {
        let index = self.device.index;
        let delete = route::delete_address(index, lease.address.into(), lease.prefix);
        if let Err(error) = routes.request(vec![delete]) {
            let (name, address) = (&self.device.name, lease.address);
            let what = format!("cannot remove address {address}");
            log(ADDRESS_REMOVE_FAILED, format!("{name}: {what}: {}", chain(&error)));
        }
        // The kernel takes away what the address made possible, and not what was straight to the link.
        for one in &lease.routes {
            let (to, gateway) = ways(lease, one);
            let delete = route::delete_route(index, to, gateway, self.metric());
            let _ = routes.request(vec![delete]);
        }
    }
}

/// Returns destination and gateway of a lease's route, and whether the lease's prefix covers the gateway.
fn ways(lease: &Lease, one: &Route) -> ((IpAddr, u8), Option<(IpAddr, bool)>) {
    let gateway = one.gateway.map(|gateway| (gateway.into(), lease.is_on_link(gateway)));
    ((one.destination.into(), one.length), gateway)
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
