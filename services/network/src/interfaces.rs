//! The device's own interfaces: their leases, addresses and ways out.

use crate::reports::Said;
use crate::veth;
use holdfast_linux::entropy;
use holdfast_linux::netlink::{NetlinkError, NetlinkSocket};
use holdfast_linux::poll::Poll;
use holdfast_linux::udp::UdpSocket;
use holdfast_networking::advertised::Advertised;
use holdfast_networking::config::{Addressing, NetworkConfig};
use holdfast_networking::dhcp::{self, Client, Lease, Route};
use holdfast_networking::dhcp6;
use holdfast_networking::firewall;
use holdfast_networking::name_proxy::{self, Surroundings};
use holdfast_networking::netfilter::{self, Element, Version};
use holdfast_networking::resolution;
use holdfast_networking::route::{self, Device, DeviceAddress, Event};
use holdfast_networking::sntp;
use holdfast_networking::status::{InterfaceStatus, LeaseStatus};
use holdfast_sandbox::network::address::Veth;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Most devices that are looked after.
const MAX_INTERFACES: usize = 8;
/// Most name servers that routers of one link advertise, and as many prefixes of translators.
const MAX_ADVERTISED: usize = 4;
/// How much a way out costs: less than what the kernel makes of router advertisements (1024).
const METRIC: u32 = 100;

/// One interface.
#[derive(Debug)]
struct OuterInterface {
    device: Device,
    client: Option<Client>,
    /// For leases.
    socket: Option<UdpSocket>,
    /// Asks for what the router leaves to a DHCPv6 server.
    information: dhcp6::Client,
    information_socket: Option<UdpSocket>,
    /// For names of the local link.
    link_names: Option<UdpSocket>,
    ipv4: Addressing,
    ipv6: Addressing,
    /// The address of the lease that is in place.
    leased: Option<Lease>,
    /// Addresses that it has, of whatever origin.
    addresses: Vec<DeviceAddress>,
    /// Name servers that routers advertise.
    advertised: Advertised<Ipv6Addr>,
    /// Name servers that a DHCPv6 server names.
    informed: Advertised<Ipv6Addr>,
    /// Prefixes behind which routers translate to IPv4.
    translated: Advertised<(Ipv6Addr, u8)>,
    /// Name servers of IPv6 that were said last.
    named: Vec<Ipv6Addr>,
    /// What strangers bring about is said so often and no more.
    said: Said,
}

/// All interfaces, and the firewall's view of them.
#[derive(Debug)]
pub(crate) struct Interfaces {
    config: NetworkConfig,
    firewall: NetlinkSocket,
    interfaces: Vec<OuterInterface>,
}

impl Interfaces {
    pub(crate) fn new(config: NetworkConfig, firewall: NetlinkSocket) -> Self {
        Self { config, firewall, interfaces: Vec::new() }
    }

    /// Looks for devices and their addresses.
    pub(crate) fn find(&mut self, routes: &mut NetlinkSocket) -> Result<(), NetlinkError> {
        let devices = veth::devices(routes)?;
        let mut addresses = Vec::new();
        routes.dump(route::list_addresses(), &mut |message| {
            addresses.extend(route::read(message));
        })?;
        let now = holdfast_linux::clock::monotonic_ms();
        for event in devices.into_iter().map(Event::Device).chain(addresses) {
            self.on_event(routes, event, now);
        }
        Ok(())
    }

    /// Takes what the kernel says.
    pub(crate) fn on_event(&mut self, routes: &mut NetlinkSocket, event: Event, now: u64) {
        match event {
            Event::Device(device) => self.on_device(routes, device, now),
            Event::DeviceGone(index) => self.interfaces.retain(|u| u.device.index != index),
            Event::Address(address) if self.is_left_over(&address) => {
                let DeviceAddress { device, address, prefix, .. } = address;
                let delete = route::delete_address(device, address, prefix);
                if let Err(error) = routes.request(vec![delete]) {
                    println!("{address} of an earlier lease stays: {error:?}");
                }
            }
            Event::Address(address) => self.on_address(address, address.is_usable),
            Event::AddressGone(address) => self.on_address(address, false),
            Event::NameServers(index, servers, seconds) => {
                if let Some(interface) = self.automatic_v6(index) {
                    let servers: Vec<_> =
                        servers.into_iter().filter(|s| dhcp6::is_host(*s)).collect();
                    interface.advertised.take(&servers, seconds, now);
                    interface.say_name_servers(now);
                }
            }
            Event::Translation(index, prefix, seconds) => {
                if let Some(interface) = self.automatic_v6(index) {
                    interface.translated.take(&[prefix], seconds, now);
                }
            }
            Event::Neighbour(..) => {}
            Event::OtherConfiguration(index, has_server) => {
                if let Some(interface) = self.automatic_v6(index) {
                    interface.information.on_router(has_server, now);
                }
            }
        }
    }

    fn automatic_v6(&mut self, index: u32) -> Option<&mut OuterInterface> {
        let found = self.interfaces.iter_mut().find(|interface| interface.device.index == index);
        found.filter(|interface| interface.ipv6 == Addressing::Automatic)
    }

    fn on_device(&mut self, routes: &mut NetlinkSocket, device: Device, now: u64) {
        let own = device.name == "lo" || Veth::uid_of_device(&device.name).is_some();
        if own || !device.is_ethernet || device.kind.is_some() {
            return;
        }
        let is_new = self.interfaces.iter().all(|interface| interface.device.index != device.index);
        if is_new {
            if self.interfaces.len() >= MAX_INTERFACES {
                return;
            }
            let (ipv4, ipv6) = self.config.of(&device.name);
            self.interfaces.push(OuterInterface::new(device.clone(), ipv4, ipv6));
        }
        let known =
            self.interfaces.iter_mut().find(|interface| interface.device.index == device.index);
        let Some(interface) = known else {
            return;
        };
        let had_carrier = interface.device.has_carrier;
        interface.device = device;
        // A device that is new to this process may have been switched on by an earlier one.
        if is_new || !interface.device.is_up {
            interface.switch_on(routes);
        }
        match (had_carrier, interface.device.has_carrier) {
            (false, true) => {
                println!("{}: plugged in", interface.device.name);
                if let Some(client) = &mut interface.client {
                    client.link_up(now);
                }
            }
            (true, false) => {
                println!("{}: unplugged", interface.device.name);
                if let Some(client) = &mut interface.client {
                    client.link_down();
                }
            }
            _ => {}
        }
    }

    /// True for an address that an earlier run of this service has leased.
    fn is_left_over(&self, found: &DeviceAddress) -> bool {
        self.interfaces.iter().any(|interface| {
            let leased = interface.leased.as_ref().map(|lease| IpAddr::V4(lease.address));
            interface.device.index == found.device
                && interface.client.is_some()
                && found.address.is_ipv4()
                && leased != Some(found.address)
        })
    }

    /// The firewall knows the addresses by which the outside reaches server ports.
    fn on_address(&mut self, address: DeviceAddress, is_there: bool) {
        let Some(interface) = self.interfaces.iter_mut().find(|u| u.device.index == address.device)
        else {
            return;
        };
        let known = interface.addresses.iter().position(|a| a.address == address.address);
        let element = Element {
            set: firewall::own_addresses(Version::of(address.address)).to_owned(),
            address: address.address,
            port: None,
            timeout_ms: None,
        };
        let name = &interface.device.name;
        let changed = match (known, is_there) {
            (None, true) => {
                println!("{name}: address {}/{}", address.address, address.prefix);
                interface.addresses.push(address);
                self.firewall.request(netfilter::add_elements(&[element]))
            }
            (Some(at), false) => {
                println!("{name}: address {} is gone", address.address);
                interface.addresses.remove(at);
                self.firewall.request(netfilter::delete_elements(&[element]))
            }
            _ => return,
        };
        if let Err(error) = changed {
            println!("{name}: the firewall does not take the address: {error:?}");
        }
    }

    /// Opens addresses of names.
    pub(crate) fn open(&mut self, elements: &[Element]) -> Result<(), NetlinkError> {
        self.firewall.request(netfilter::add_elements(elements))
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        let leases = self.interfaces.iter().filter_map(|u| u.client.as_ref()?.deadline());
        leases.chain(self.interfaces.iter().filter_map(|u| u.information.deadline())).min()
    }

    pub(crate) fn on_time(&mut self, routes: &mut NetlinkSocket, now: u64) {
        for interface in &mut self.interfaces {
            let events = interface.client.as_mut().map(|client| client.on_time(now));
            interface.act(routes, events.unwrap_or_default(), now);
            if let (Some(question), Some(socket)) =
                (interface.information.on_time(now), &interface.information_socket)
            {
                let to = SocketAddr::from((dhcp6::SERVERS, dhcp6::SERVER_PORT));
                if let Err(error) = socket.send(&question, to) {
                    println!("{}: cannot ask DHCPv6 servers: {error}", interface.device.name);
                }
            }
        }
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        for interface in &self.interfaces {
            let sockets = interface.socket.iter().chain(&interface.link_names);
            for socket in sockets.chain(&interface.information_socket) {
                poll.add(socket);
            }
        }
    }

    /// Takes what servers have sent.
    pub(crate) fn receive(&mut self, routes: &mut NetlinkSocket, now: u64) {
        for interface in &mut self.interfaces {
            let socket = interface.socket.as_ref();
            let taken = socket.map(|s| s.take(dhcp::SERVER_PORT, dhcp::MAX_MESSAGE_BYTES));
            for (message, _) in taken.unwrap_or_default() {
                let events = interface.client.as_mut().map(|c| c.on_message(&message, now));
                interface.act(routes, events.unwrap_or_default(), now);
            }
            interface.receive_information(now);
        }
    }

    /// Servers for names, the best first, each with its port and the link that it is on.
    pub(crate) fn name_servers(&self, now: u64) -> Vec<SocketAddr> {
        if !self.config.name_servers.is_empty() {
            let configured = self.config.name_servers.iter();
            return configured.map(|server| SocketAddr::new(*server, resolution::PORT)).collect();
        }
        let mut servers: Vec<SocketAddr> = Vec::new();
        for interface in self.interfaces.iter().filter(|interface| interface.device.has_carrier) {
            let leased = interface.leased.iter().flat_map(|lease| lease.name_servers.clone());
            servers.extend(leased.map(|server| SocketAddr::from((server, resolution::PORT))));
            for server in interface.name_servers_v6(now) {
                // An address of the link says nothing without the link.
                let link = if server.is_unicast_link_local() { interface.device.index } else { 0 };
                servers.push(SocketAddrV6::new(server, resolution::PORT, 0, link).into());
            }
        }
        servers
    }

    /// What is near the device, on all of its links.
    pub(crate) fn surroundings(&self, now: u64) -> Surroundings {
        let near = self.interfaces.iter().flat_map(OuterInterface::near).collect();
        let translated =
            self.interfaces.iter().flat_map(|interface| interface.translated.at(now).copied());
        Surroundings { near, translated: translated.collect() }
    }

    /// Servers for time that leases name.
    pub(crate) fn time_servers(&self) -> Vec<IpAddr> {
        let connected = self.interfaces.iter().filter(|interface| interface.device.has_carrier);
        let leases = connected.filter_map(|interface| interface.leased.as_ref());
        let mut servers: Vec<IpAddr> = Vec::new();
        for server in leases.flat_map(|lease| &lease.time_servers) {
            if !servers.contains(&IpAddr::V4(*server)) {
                servers.push(IpAddr::V4(*server));
            }
        }
        servers.truncate(sntp::MAX_SERVERS);
        servers
    }

    /// How the interfaces are.
    pub(crate) fn status(&self) -> Vec<InterfaceStatus> {
        let of = |interface: &OuterInterface| InterfaceStatus {
            name: interface.device.name.clone(),
            plugged_in: interface.device.has_carrier,
            addresses: interface.addresses.iter().map(|a| (a.address, a.prefix)).collect(),
            lease: interface.leased.as_ref().map(|lease| LeaseStatus {
                address: lease.address,
                server: lease.server,
                gateway: lease.gateway(),
                seconds: lease.seconds,
            }),
        };
        self.interfaces.iter().map(of).collect()
    }

    /// True when others can be reached.
    pub(crate) fn is_connected(&self) -> bool {
        self.status().iter().any(InterfaceStatus::is_connected)
    }

    /// Asks everybody on the local link for a name. False when there is no link.
    pub(crate) fn ask_on_link(&self, question: &[u8]) -> bool {
        let to = SocketAddr::from((name_proxy::LINK_GROUP, name_proxy::LINK_PORT));
        let connected = self.interfaces.iter().filter(|interface| interface.device.has_carrier);
        let sent = connected
            .filter_map(|interface| interface.link_names.as_ref()?.send(question, to).ok())
            .count();
        sent > 0
    }

    /// What was answered on local links, with what is near on the link that it came by. What claims to come from
    /// elsewhere is none of it (RFC 6762, 11).
    pub(crate) fn answers_on_link(&self) -> Vec<(Vec<u8>, Surroundings)> {
        let mut answers = Vec::new();
        for interface in &self.interfaces {
            let Some(socket) = &interface.link_names else {
                continue;
            };
            let here = Surroundings { near: interface.near(), translated: Vec::new() };
            for (answer, from) in socket.take(name_proxy::LINK_PORT, name_proxy::MAX_ANSWER_BYTES) {
                if here.is_near(from.ip()) {
                    answers.push((answer, here.clone()));
                }
            }
        }
        answers
    }
}

impl OuterInterface {
    fn new(mut device: Device, ipv4: Addressing, ipv6: Addressing) -> Self {
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
            link_names: None,
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

    /// Gives the device what it has without anybody's help, and switches it on.
    fn switch_on(&mut self, routes: &mut NetlinkSocket) {
        let (name, index) = (&self.device.name, self.device.index);
        if self.client.is_some() {
            let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, dhcp::CLIENT_PORT));
            match UdpSocket::on_device(name, local) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => println!("{name}: cannot listen to DHCP servers: {error}"),
            }
        }
        if self.ipv6 == Addressing::Automatic {
            let local = SocketAddr::from((Ipv6Addr::UNSPECIFIED, dhcp6::CLIENT_PORT));
            match UdpSocket::on_device(name, local) {
                Ok(socket) => self.information_socket = Some(socket),
                Err(error) => println!("{name}: cannot listen to DHCPv6 servers: {error}"),
            }
        }
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, name_proxy::LINK_QUERY_PORT));
        match UdpSocket::on_device(name, local) {
            Ok(socket) => self.link_names = Some(socket),
            Err(error) => println!("{name}: cannot ask for names of the link: {error}"),
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
            println!("{name}: cannot be switched on: {error:?}");
        }
    }

    /// Name servers of IPv6, those of routers first.
    fn name_servers_v6(&self, now: u64) -> Vec<Ipv6Addr> {
        let mut servers: Vec<Ipv6Addr> = Vec::new();
        for server in self.advertised.at(now).chain(self.informed.at(now)) {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        servers
    }

    fn say_name_servers(&mut self, now: u64) {
        let servers = self.name_servers_v6(now);
        if servers != self.named {
            let line = format!("{}: name servers {}", self.device.name, list(&servers));
            self.said.say(now, line);
            self.named = servers;
        }
    }

    /// Prefixes on its link, and whoever forwards there.
    fn near(&self) -> Vec<(IpAddr, u8)> {
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

    /// Takes what DHCPv6 servers have sent.
    fn receive_information(&mut self, now: u64) {
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
                Some(Err(refusal)) => {
                    let name = &self.device.name;
                    let line = format!("{name}: a DHCPv6 server answers, but {refusal}");
                    self.said.say(now, line);
                }
            }
        }
    }

    /// Does what the client of leases wants; what that comes to, it is told.
    fn act(&mut self, routes: &mut NetlinkSocket, events: Vec<dhcp::Event>, now: u64) {
        let (name, index) = (self.device.name.clone(), self.device.index);
        for event in events {
            match event {
                dhcp::Event::Send(to, message) => {
                    let to = SocketAddr::from((to, dhcp::SERVER_PORT));
                    let sent = self.socket.as_ref().map(|socket| socket.send(&message, to));
                    if let Some(Err(error)) = sent {
                        self.said.say(now, format!("{name}: cannot ask for a lease: {error}"));
                    }
                }
                dhcp::Event::Probe(address) => {
                    // What is known from before would be taken for an answer.
                    let _ = routes.request(vec![route::forget_neighbour(index, address.into())]);
                    let ask = route::ask_for_neighbour(index, address.into());
                    if let Err(error) = routes.request(vec![ask]) {
                        println!("{name}: cannot ask whether somebody has {address}: {error:?}");
                    }
                }
                dhcp::Event::Look(address) => {
                    let find = route::find_neighbour(index, address.into());
                    let found = routes.ask(find, |message| match route::read(message) {
                        Some(Event::Neighbour(_, _, holder)) => holder,
                        _ => None,
                    });
                    let holder = found.unwrap_or_else(|error| {
                        println!("{name}: cannot tell whether somebody has {address}: {error:?}");
                        None
                    });
                    let events = self.client.as_mut().map(|c| c.on_neighbour(holder, now));
                    self.act(routes, events.unwrap_or_default(), now);
                }
                dhcp::Event::Acquired(lease) => self.acquire(routes, lease),
                dhcp::Event::Lost(reason) => {
                    println!("{name}: {reason}");
                    if let Some(lease) = self.leased.take() {
                        self.drop_address(routes, &lease);
                    }
                }
                dhcp::Event::Refused(refusal) => {
                    let line = format!("{name}: a DHCP server answers, but {refusal}");
                    self.said.say(now, line);
                }
                dhcp::Event::LeftOut(refusal) => {
                    self.said.say(now, format!("{name}: of the lease is not used: {refusal}"));
                }
                dhcp::Event::Silence => {
                    println!("{name}: no answer from a DHCP server; it is asked on");
                }
                dhcp::Event::Taken { address, holder, is_used } => {
                    let [a, b, c, d, e, f] = holder;
                    let holder = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
                    let what = if is_used {
                        format!(
                            "{holder} answers for every address; {address} is used all the same"
                        )
                    } else {
                        format!("{holder} has {address} already; the lease is declined")
                    };
                    self.said.say(now, format!("{name}: {what}"));
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
            println!("{name}: the lease cannot be used: {error:?}");
        }
        // Those straight to the link first: gateways of others may be there.
        let (straight, through): (Vec<&Route>, Vec<&Route>) =
            lease.routes.iter().partition(|route| route.gateway.is_none());
        for one in straight.into_iter().chain(through) {
            let (to, gateway) = ways(&lease, one);
            let add = route::add_route(index, to, gateway, self.metric());
            if let Err(error) = routes.request(vec![add]) {
                println!("{name}: no route to {}/{}: {error:?}", to.0, to.1);
            }
        }
        let time = lease.seconds.map_or("for ever".to_owned(), |s| format!("for {s} s"));
        let gateway = lease.gateway().map_or("no gateway".to_owned(), |g| format!("gateway {g}"));
        println!(
            "{name}: leased {}/{} from {} {time}, {gateway}, name servers {}",
            lease.address,
            lease.prefix,
            lease.server,
            list(&lease.name_servers)
        );
        self.leased = Some(lease);
    }

    fn metric(&self) -> u32 {
        METRIC.saturating_add(self.device.index)
    }

    fn drop_address(&self, routes: &mut NetlinkSocket, lease: &Lease) {
        let index = self.device.index;
        let delete = route::delete_address(index, lease.address.into(), lease.prefix);
        if let Err(error) = routes.request(vec![delete]) {
            println!("{}: cannot give up an address: {error:?}", self.device.name);
        }
        // The kernel takes away what the address made possible, and not what was straight to the link.
        for one in &lease.routes {
            let (to, gateway) = ways(lease, one);
            let delete = route::delete_route(index, to, gateway, self.metric());
            let _ = routes.request(vec![delete]);
        }
    }
}

/// Where a route of a lease leads, and through whom; and whether the lease's prefix covers who that is.
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
