//! The device's own interfaces: their leases, addresses and routes.

use crate::interface::OuterInterface;
use crate::log::log;
use crate::veth;
use holdfast_linux::netlink::{NetlinkError, NetlinkSocket};
use holdfast_linux::poll::Poll;
use holdfast_networking::config::{Addressing, NetworkConfig};
use holdfast_networking::dhcp;
use holdfast_networking::dhcp6;
use holdfast_networking::firewall;
use holdfast_networking::name_proxy::{self, Surroundings};
use holdfast_networking::netfilter::{self, Element, Version};
use holdfast_networking::resolution;
use holdfast_networking::route::{self, Device, DeviceAddress, Event};
use holdfast_networking::sntp;
use holdfast_networking::status::{InterfaceStatus, LeaseStatus};
use holdfast_sandbox::network::address::Veth;
use holdfast_types::chain;
use holdfast_types::event::network::{
    ADDRESS_ADDED, ADDRESS_REMOVE_FAILED, ADDRESS_REMOVED, DHCPV6_SEND_FAILED,
    FIREWALL_SET_UPDATE_FAILED, LINK_DOWN, LINK_UP,
};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// Most interfaces that the service looks after.
const MAX_INTERFACES: usize = 8;

/// All interfaces, and the sets of the firewall that depend on them.
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

    /// Lists devices and addresses, and takes them as if they were new.
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

    /// Takes a change that the kernel reports.
    pub(crate) fn on_event(&mut self, routes: &mut NetlinkSocket, event: Event, now: u64) {
        match event {
            Event::Device(device) => self.on_device(routes, device, now),
            Event::DeviceGone(index) => self.interfaces.retain(|u| u.device.index != index),
            Event::Address(address) if self.is_left_over(&address) => {
                let DeviceAddress { device, address, prefix, .. } = address;
                let delete = route::delete_address(device, address, prefix);
                if let Err(error) = routes.request(vec![delete]) {
                    let what = format!("cannot remove address {address} of an earlier lease");
                    log(ADDRESS_REMOVE_FAILED, format!("{what}: {}", chain(&error)));
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
                log(LINK_UP, format!("{}: link up", interface.device.name));
                if let Some(client) = &mut interface.client {
                    client.link_up(now);
                }
            }
            (true, false) => {
                log(LINK_DOWN, format!("{}: link down", interface.device.name));
                if let Some(client) = &mut interface.client {
                    client.link_down();
                }
            }
            _ => {}
        }
    }

    /// True for an address of a lease of an earlier run of this service.
    fn is_left_over(&self, found: &DeviceAddress) -> bool {
        self.interfaces.iter().any(|interface| {
            let leased = interface.leased.as_ref().map(|lease| IpAddr::V4(lease.address));
            interface.device.index == found.device
                && interface.client.is_some()
                && found.address.is_ipv4()
                && leased != Some(found.address)
        })
    }

    /// Keeps the firewall's set of own addresses current, by which the outside reaches server ports.
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
                let line = format!("{name}: address {}/{} added", address.address, address.prefix);
                log(ADDRESS_ADDED, line);
                interface.addresses.push(address);
                self.firewall.request(netfilter::add_elements(std::slice::from_ref(&element)))
            }
            (Some(at), false) => {
                log(ADDRESS_REMOVED, format!("{name}: address {} removed", address.address));
                interface.addresses.remove(at);
                self.firewall.request(netfilter::delete_elements(std::slice::from_ref(&element)))
            }
            _ => return,
        };
        if let Err(error) = changed {
            let what = format!("cannot update the firewall set {}", element.set);
            log(FIREWALL_SET_UPDATE_FAILED, format!("{name}: {what}: {}", chain(&error)));
        }
    }

    /// Adds the addresses of granted names to the firewall's sets.
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
                    let name = &interface.device.name;
                    let what = "cannot send a DHCPv6 information request";
                    log(DHCPV6_SEND_FAILED, format!("{name}: {what}: {error}"));
                }
            }
        }
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        for interface in &self.interfaces {
            let sockets = interface.socket.iter().chain(&interface.mdns_socket);
            for socket in sockets.chain(&interface.information_socket) {
                poll.add(socket);
            }
        }
    }

    /// Takes the messages of DHCP and DHCPv6 servers.
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

    /// Returns the name servers to ask, the best first, each with its port and its link.
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

    /// Returns the prefixes near the device on all of its links, and the NAT64 prefixes.
    pub(crate) fn surroundings(&self, now: u64) -> Surroundings {
        let near = self.interfaces.iter().flat_map(OuterInterface::near).collect();
        let translated =
            self.interfaces.iter().flat_map(|interface| interface.translated.at(now).copied());
        Surroundings { near, translated: translated.collect() }
    }

    /// Returns the time servers that leases name.
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

    /// Returns the status of all interfaces.
    pub(crate) fn status(&self) -> Vec<InterfaceStatus> {
        let of = |interface: &OuterInterface| InterfaceStatus {
            name: interface.device.name.clone(),
            is_up: interface.device.has_carrier,
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

    /// True when an interface is up with an address that reaches beyond its link.
    pub(crate) fn is_connected(&self) -> bool {
        self.status().iter().any(InterfaceStatus::is_connected)
    }

    /// Asks all hosts of all links for a name (multicast DNS). False when no link is up.
    pub(crate) fn ask_on_link(&self, question: &[u8]) -> bool {
        let to = SocketAddr::from((name_proxy::MDNS_GROUP, name_proxy::MDNS_PORT));
        let connected = self.interfaces.iter().filter(|interface| interface.device.has_carrier);
        let sent = connected
            .filter_map(|interface| interface.mdns_socket.as_ref()?.send(question, to).ok())
            .count();
        sent > 0
    }

    /// Returns the answers of multicast DNS, each with the prefixes on the link that it came by. An answer with a
    /// source address beyond that link is dropped (RFC 6762, 11).
    pub(crate) fn answers_on_link(&self) -> Vec<(Vec<u8>, Surroundings)> {
        let mut answers = Vec::new();
        for interface in &self.interfaces {
            let Some(socket) = &interface.mdns_socket else {
                continue;
            };
            let here = Surroundings { near: interface.near(), translated: Vec::new() };
            for (answer, from) in socket.take(name_proxy::MDNS_PORT, name_proxy::MAX_ANSWER_BYTES) {
                if here.is_near(from.ip()) {
                    answers.push((answer, here.clone()));
                }
            }
        }
        answers
    }
}
