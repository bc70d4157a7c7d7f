#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use crate::netfilter::{self, Element};
use holdfast_netlink::{attributes, messages};
use holdfast_sandbox::network::Connection;
use holdfast_sandbox::network::NetworkGrants;
use holdfast_sandbox::network::connections::{RESERVE, table_share, table_size};
use holdfast_sandbox::network::grants::masked;
use holdfast_types::ComponentId;
use proptest::prelude::*;
use std::collections::BTreeMap;

mod questions;

/// A packet, as the firewall sees it.
#[derive(Debug, Clone)]
struct Packet {
    from: String,
    to: String,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    from_port: u16,
    port: u16,
    icmp6: u8,
    state: u32,
    translated: bool,
    owner: Option<u32>,
}

const NEW: u32 = 8;
const SERVICE: u32 = 110;

#[derive(Debug, PartialEq, Eq)]
enum End {
    Accept,
    Drop,
    Reject,
    Translate(IpAddr),
    Masquerade,
    Untracked,
    Continue,
}

/// What the kernel would do, in a few lines.
struct Kernel {
    rules: Ruleset,
    elements: BTreeMap<String, Vec<IpAddr>>,
    with_ports: BTreeMap<String, Vec<(IpAddr, u16)>>,
    connections: u32,
    /// Of the address that the packet comes from.
    of_one: u32,
    too_fast: bool,
}

impl Kernel {
    fn new(apps: &[NetworkedApp]) -> Self {
        Self {
            rules: ruleset(apps, SERVICE, &[]),
            elements: BTreeMap::new(),
            with_ports: BTreeMap::new(),
            connections: 0,
            of_one: 0,
            too_fast: false,
        }
    }

    fn hook(&self, hook: Hook, packet: &Packet) -> End {
        let chain = self.rules.chains.iter().find(|chain| chain.base == Some(hook)).unwrap();
        match self.chain(chain, packet) {
            End::Continue
                if matches!(
                    hook,
                    Hook::Arriving | Hook::Sent | Hook::Prerouting | Hook::Postrouting
                ) =>
            {
                End::Accept
            }
            End::Continue => End::Drop,
            end => end,
        }
    }

    fn chain(&self, chain: &Chain, packet: &Packet) -> End {
        for rule in &chain.rules {
            if !rule.matches.iter().all(|one| self.matches(one, packet)) {
                continue;
            }
            match &rule.action {
                Action::Accept => return End::Accept,
                Action::Drop => return End::Drop,
                Action::Reject => return End::Reject,
                Action::Continue(name) => {
                    let next = self.rules.chains.iter().find(|chain| chain.name == *name);
                    return self.chain(next.unwrap(), packet);
                }
                Action::Translate(to) => return End::Translate(*to),
                Action::Masquerade => return End::Masquerade,
                Action::Log(..) | Action::Timeouts(_) => {}
                Action::Untracked => return End::Untracked,
                Action::Dispatch(side, map) => {
                    let device = if *side == Side::From { &packet.from } else { &packet.to };
                    let map = self.rules.maps.iter().find(|found| found.name == *map).unwrap();
                    let found = map.chains.iter().find(|(name, _)| name == device);
                    if let Some((_, name)) = found {
                        let next = self.rules.chains.iter().find(|chain| chain.name == *name);
                        return self.chain(next.unwrap(), packet);
                    }
                }
            }
        }
        End::Continue
    }

    fn matches(&self, one: &Match, packet: &Packet) -> bool {
        let within = |found: IpAddr, address: &IpAddr, length: u8| {
            found.is_ipv4() == address.is_ipv4() && masked(found, length) == Some(*address)
        };
        match one {
            Match::From(name) => packet.from == *name,
            Match::FromDevices(prefix, is) => packet.from.starts_with(prefix) == *is,
            Match::To(name) => packet.to == *name,
            Match::ToDevices(prefix, is) => packet.to.starts_with(prefix) == *is,
            Match::Source(address, length, is) => {
                packet.source.is_ipv4() == address.is_ipv4()
                    && within(packet.source, address, *length) == *is
            }
            Match::Destination(address, length) => within(packet.destination, address, *length),
            Match::DestinationIn(set, version) => {
                Version::of(packet.destination) == *version
                    && self.elements.get(set).is_some_and(|all| all.contains(&packet.destination))
            }
            Match::DestinationAndPortIn(set, version) => {
                let wanted = (packet.destination, packet.port);
                Version::of(packet.destination) == *version
                    && self.with_ports.get(set).is_some_and(|all| all.contains(&wanted))
            }
            Match::Protocol(protocol) => packet.protocol == *protocol,
            Match::SourcePort(port) => packet.from_port == *port,
            Match::Rate(_) => true,
            Match::OverRate(..) => self.too_fast,
            Match::OverConnectionsFrom(_, version, _, most) => {
                Version::of(packet.source) == *version && self.of_one > *most
            }
            Match::Ports(range) => range.contains(packet.port),
            Match::State(states) => packet.state & states != 0,
            Match::Translated => packet.translated,
            Match::Icmp6(kind) => packet.protocol == 58 && packet.icmp6 == *kind,
            Match::Owner(uid) => packet.owner == Some(*uid),
            Match::OverConnections(most) => self.connections > *most,
        }
    }
}

fn app(uid: u32, grants: NetworkGrants) -> NetworkedApp {
    let id = u8::try_from(uid - 1000).unwrap();
    NetworkedApp { name: format!("app-{id}"), component_id: ComponentId([id; 16]), uid, grants }
}

fn to(text: &str) -> Connection {
    Connection::to(Destination::parse(text).unwrap())
}

fn connecting(connections: Vec<Connection>) -> NetworkGrants {
    NetworkGrants { connections, ..NetworkGrants::default() }
}

/// A first packet of an app to somebody outside.
fn outward(uid: u32, destination: &str, port: u16) -> Packet {
    let destination: IpAddr = destination.parse().unwrap();
    let veth = Veth::of(uid);
    Packet {
        from: veth.device(),
        to: "eth0".to_owned(),
        source: if destination.is_ipv4() { veth.app_v4().into() } else { veth.app_v6().into() },
        destination,
        protocol: 6,
        from_port: 40_000,
        port,
        icmp6: 0,
        state: NEW,
        translated: false,
        owner: None,
    }
}

#[test]
fn an_address_is_open_with_its_ports_and_protocol_and_nothing_beside_it() {
    let mut granted = to("192.0.2.0/24");
    granted.ports = vec![PortRange::one(443), PortRange { first: 8000, last: 8010 }];
    granted.protocol = Some(Protocol::Tcp);
    let kernel = Kernel::new(&[app(1001, connecting(vec![granted]))]);
    let sent = |packet: &Packet| kernel.hook(Hook::Forward, packet);
    assert_eq!(sent(&outward(1001, "192.0.2.9", 443)), End::Accept);
    assert_eq!(sent(&outward(1001, "192.0.2.9", 8010)), End::Accept);
    assert_eq!(sent(&outward(1001, "192.0.2.9", 8011)), End::Reject);
    assert_eq!(sent(&outward(1001, "192.0.3.9", 443)), End::Reject);
    let udp = Packet { protocol: 17, ..outward(1001, "192.0.2.9", 443) };
    assert_eq!(sent(&udp), End::Reject);
    let spoofed =
        Packet { source: "198.18.0.9".parse().unwrap(), ..outward(1001, "192.0.2.9", 443) };
    assert_eq!(sent(&spoofed), End::Drop);
    let masqueraded = kernel.hook(Hook::Postrouting, &outward(1001, "192.0.2.9", 443));
    assert_eq!(masqueraded, End::Masquerade, "an app's address never leaves the device");
}

#[test]
fn a_name_is_open_while_its_address_is_in_the_set_and_for_that_app_alone() {
    let mut other = to("other.example");
    other.ports = vec![PortRange::one(8883)];
    let granted = vec![to("example.com"), other];
    let apps = [app(1001, connecting(granted.clone())), app(1002, connecting(granted))];
    let mut kernel = Kernel::new(&apps);
    let packet = outward(1001, "192.0.2.7", 443);
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Reject);
    let name = Destination::parse("other.example").unwrap();
    let [set] = sets_of(&apps[0], &name, Version::V4).try_into().unwrap();
    kernel.elements.insert(set, vec![packet.destination]);
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Reject, "another name's ports");
    let right = outward(1001, "192.0.2.7", 8883);
    assert_eq!(kernel.hook(Hook::Forward, &right), End::Accept);
    assert_eq!(kernel.hook(Hook::Forward, &outward(1002, "192.0.2.7", 8883)), End::Reject);
    kernel.connections = MAX_CONNECTIONS + 1;
    assert_eq!(kernel.hook(Hook::Forward, &right), End::Reject, "too many connections");
}

#[test]
fn a_service_is_open_at_the_port_that_it_names_and_nowhere_else() {
    let mut narrow = to("_ipp._tcp.local");
    narrow.ports = vec![PortRange { first: 600, last: 700 }];
    let mut crossed = to("_coap._udp.local");
    crossed.protocol = Some(Protocol::Tcp);
    let services = ["_http._tcp.local", "_ipp._tcp.local", "_coap._udp.local"];
    let granted = vec![to(services[0]), narrow, crossed];
    let apps = [app(1001, connecting(granted))];
    let mut kernel = Kernel::new(&apps);
    let host: IpAddr = "10.0.0.71".parse().unwrap();
    for service in services {
        let name = Destination::parse(service).unwrap();
        let [set] = sets_of(&apps[0], &name, Version::V4).try_into().unwrap();
        let found = kernel.rules.sets.iter().find(|one| one.name == set).unwrap();
        assert!(found.with_ports, "{service}");
        let port = if service == services[0] { 8080 } else { 631 };
        kernel.with_ports.insert(set, vec![(host, port), (host, 9000)]);
    }
    let sent = |port, protocol| {
        let packet = Packet { protocol, ..outward(1001, "10.0.0.71", port) };
        kernel.hook(Hook::Forward, &packet)
    };
    assert_eq!((sent(8080, 6), sent(631, 6)), (End::Accept, End::Accept));
    assert_eq!(sent(8080, 17), End::Reject, "the service is of TCP");
    assert_eq!(sent(631, 17), End::Reject, "the grant is for the other protocol");
    assert_eq!(sent(80, 6), End::Reject, "the host was found, and not this port");
    assert_eq!(sent(9000, 6), End::Accept);
    let elsewhere = kernel.hook(Hook::Forward, &outward(1001, "10.0.0.72", 8080));
    assert_eq!(elsewhere, End::Reject);
}

#[test]
fn apps_talk_where_both_name_each_other_and_nowhere_else() {
    let naming = |ids: &[u8], ports: &[u16]| NetworkGrants {
        applications: ids.iter().map(|id| ComponentId([*id; 16])).collect(),
        tcp_server_ports: ports.to_vec(),
        connections: vec![to("0.0.0.0/0"), to("::/0")],
        ..NetworkGrants::default()
    };
    let apps = [
        app(1001, naming(&[2, 3], &[])),
        app(1002, naming(&[1], &[80])),
        app(1003, naming(&[], &[80])),
    ];
    let kernel = Kernel::new(&apps);
    let between = |from, other: u32, port| {
        let veth = Veth::of(other);
        let mut packet = outward(from, &veth.app_v4().to_string(), port);
        packet.to = veth.device();
        let v6 = Packet {
            source: Veth::of(from).app_v6().into(),
            destination: veth.app_v6().into(),
            ..packet.clone()
        };
        let ends = (kernel.hook(Hook::Forward, &packet), kernel.hook(Hook::Forward, &v6));
        assert_eq!(ends.0, ends.1);
        ends.0
    };
    assert_eq!(between(1001, 1002, 80), End::Accept);
    assert_eq!(between(1001, 1002, 81), End::Reject, "no server port");
    assert_eq!(between(1001, 1003, 80), End::Reject, "named by one side only");
    assert_eq!(between(1002, 1003, 80), End::Reject, "named by nobody, whatever the prefix");
    assert_eq!(kernel.hook(Hook::Forward, &outward(1001, "203.0.113.1", 80)), End::Accept);
}

#[test]
fn the_outside_reaches_server_ports_by_the_devices_address_alone() {
    let grants = NetworkGrants { tcp_server_ports: vec![80], ..NetworkGrants::default() };
    let mut kernel = Kernel::new(&[app(1001, grants)]);
    let own: IpAddr = "10.0.0.5".parse().unwrap();
    kernel.elements.insert("own4".to_owned(), vec![own]);
    let mut packet = outward(1001, "10.0.0.5", 80);
    (packet.from, packet.source) = ("eth0".to_owned(), "10.0.0.77".parse().unwrap());
    let app_address = IpAddr::V4(Veth::of(1001).app_v4());
    assert_eq!(kernel.hook(Hook::Prerouting, &packet), End::Translate(app_address));
    let elsewhere = Packet { destination: "10.0.0.6".parse().unwrap(), ..packet.clone() };
    assert_eq!(kernel.hook(Hook::Prerouting, &elsewhere), End::Accept);
    assert_eq!(kernel.hook(Hook::Prerouting, &Packet { port: 81, ..packet.clone() }), End::Accept);
    packet.to = Veth::of(1001).device();
    packet.destination = app_address;
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Drop, "routed past the translation");
    let packet = Packet { translated: true, ..packet };
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Accept);
    kernel.of_one = MAX_OF_ONE_ADDRESS + 1;
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Drop, "too many of one address");
    (kernel.of_one, kernel.connections) = (0, MAX_INCOMING + 1);
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Drop, "too many of all");
    (kernel.connections, kernel.too_fast) = (0, true);
    assert_eq!(kernel.hook(Hook::Forward, &packet), End::Drop, "too many at once");
    let datagram = Packet { protocol: 17, ..packet };
    assert_eq!(kernel.hook(Hook::Forward, &datagram), End::Drop, "no grant");
}

/// Everything that an app is granted, and another that may talk to it.
fn serving() -> Vec<NetworkedApp> {
    let grants = |other: u8| NetworkGrants {
        connections: vec![to("example.com"), to("192.0.2.0/24"), to("_http._tcp.local")],
        tcp_server_ports: vec![80],
        udp_server_ports: vec![5683],
        applications: vec![ComponentId([other; 16])],
    };
    vec![app(1001, grants(2)), app(1002, grants(1))]
}

/// The rules that decide about a new packet which enters a chain, with those that it passed on the way there.
fn accepting<'rules>(
    rules: &'rules Ruleset,
    name: &str,
    passed: &[&'rules Rule],
    found: &mut Vec<Vec<&'rules Rule>>,
) {
    let chain = rules.chains.iter().find(|chain| chain.name == name).unwrap();
    let mut passed = passed.to_vec();
    for rule in &chain.rules {
        let states = rule.matches.iter().find_map(|one| match one {
            Match::State(states) => Some(*states),
            _ => None,
        });
        if states.is_some_and(|states| states & NEW == 0) {
            continue;
        }
        passed.push(rule);
        match &rule.action {
            Action::Accept => found.push(passed.clone()),
            Action::Continue(next) => accepting(rules, next, &passed, found),
            Action::Dispatch(_, map) => {
                let map = rules.maps.iter().find(|found| found.name == *map).unwrap();
                for (_, next) in &map.chains {
                    accepting(rules, next, &passed, found);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn no_new_connection_is_accepted_but_through_a_limit() {
    let rules = ruleset(&serving(), SERVICE, &[]);
    let mut found = Vec::new();
    accepting(&rules, "forward", &[], &mut found);
    // Two versions of two ports and protocols of the other app, three grants to others, and two server ports.
    assert!(found.len() >= 2 * (4 + 3 + 2), "{}", found.len());
    for passed in found {
        let of_all = passed.iter().any(|rule| {
            matches!(rule.matches[..], [Match::OverConnections(most)] if most <= MAX_CONNECTIONS)
        });
        let fast = passed
            .iter()
            .any(|rule| matches!(rule.matches[..], [Match::Protocol(6), Match::OverRate(..)]));
        let from_outside =
            passed.iter().flat_map(|rule| &rule.matches).any(|one| *one == Match::Translated);
        let of_one = passed
            .iter()
            .filter(|rule| matches!(rule.matches[..], [Match::OverConnectionsFrom(..)]));
        let of_one = of_one.count() == 2;
        assert!(of_all && fast && (of_one == from_outside), "{passed:?}");
    }
}

/// What reaches the device itself makes no connection in the kernel's table, whoever sends it.
#[test]
fn whatever_the_device_takes_is_not_followed() {
    let apps = serving();
    let mut kernel = Kernel::new(&apps);
    let veth = Veth::of(1001);
    let udp = |from: &str, source: &str, from_port, port| Packet {
        from: from.to_owned(),
        source: source.parse().unwrap(),
        protocol: 17,
        from_port,
        ..outward(1001, "10.0.0.5", port)
    };
    let mut question = udp(&veth.device(), &veth.app_v4().to_string(), 40_000, 53);
    question.destination = veth.system_v4().into();
    let expected = [
        question.clone(),
        udp("eth0", "10.0.0.1", 67, 68),
        udp("eth0", "10.0.0.9", 5353, name_proxy::MDNS_QUERY_PORT),
        udp("eth0", "10.0.0.9", 547, 546),
    ];
    for packet in &expected {
        assert_eq!(kernel.hook(Hook::Arriving, packet), End::Untracked, "{packet:?}");
        assert_eq!(kernel.hook(Hook::Input, packet), End::Accept, "{packet:?}");
    }
    // The control: what is not followed is what the device takes, and nothing else.
    let others = [
        Packet { destination: "198.18.0.3".parse().unwrap(), ..question.clone() },
        Packet { protocol: 6, ..question.clone() },
        Packet { from: Veth::of(1002).device(), ..question.clone() },
        udp("eth0", "10.0.0.1", 68, 68),
        udp("eth0", "10.0.0.1", 53, 53),
    ];
    for packet in &others {
        assert_eq!(kernel.hook(Hook::Arriving, packet), End::Accept, "{packet:?}");
    }
    kernel.connections = u32::MAX;
    assert_eq!(kernel.hook(Hook::Input, &question), End::Accept, "no number of connections counts");
    let answer = Packet {
        from: String::new(),
        to: veth.device(),
        owner: Some(SERVICE),
        ..udp("", "198.18.0.0", 53, 40_000)
    };
    assert_eq!(kernel.hook(Hook::Sent, &answer), End::Untracked);
    assert_eq!(kernel.hook(Hook::Output, &answer), End::Accept);
    let somebody = Packet { owner: Some(SERVICE + 1), ..answer };
    assert_eq!(kernel.hook(Hook::Output, &somebody), End::Drop);
}

#[test]
fn a_share_is_what_the_limits_on_an_apps_paths_let_through() {
    let apps = serving();
    let all = table_share(&apps[0].grants);
    let none = table_share(&NetworkGrants::default());
    assert_eq!(none, 0);
    let only = |change: fn(&mut NetworkGrants)| {
        let mut grants = NetworkGrants::default();
        change(&mut grants);
        table_share(&grants)
    };
    let begun = only(|g| g.connections = vec![to("192.0.2.0/24")]);
    let incoming = only(|g| g.udp_server_ports = vec![1]);
    let asking = only(|g| g.applications = vec![ComponentId([9; 16])]) - begun;
    assert_eq!(all, begun + incoming + asking);
    // Those that count, those that have ended, and for as long as nobody has noticed.
    assert_eq!(begun, MAX_CONNECTIONS + 64 + 20 * (5 + 10));
    assert_eq!(incoming, MAX_INCOMING + 64 + 20 * (5 + 10));
    let grants: Vec<_> = apps.iter().map(|app| &app.grants).collect();
    assert_eq!(table_size(grants.into_iter()), 2 * all + RESERVE);
}

#[test]
fn the_device_itself_answers_to_nobody() {
    let kernel = Kernel::new(&[app(1001, connecting(vec![to("example.com")]))]);
    let veth = Veth::of(1001);
    for port in [22u16, 53, 67, 68, 80, 123, 546] {
        let mut packet = outward(1001, "10.0.0.5", port);
        for protocol in [6, 17] {
            packet.protocol = protocol;
            let named = Packet { destination: veth.system_v4().into(), ..packet.clone() };
            let expected = if (protocol, port) == (17, 53) { End::Accept } else { End::Reject };
            assert_eq!(kernel.hook(Hook::Input, &named), expected, "{protocol} {port}");
            assert_eq!(kernel.hook(Hook::Input, &packet), End::Reject);
            let source = "10.0.0.9".parse().unwrap();
            let from_port = if port == 68 { 67 } else { 547 };
            let outside = Packet { from: "eth0".to_owned(), source, from_port, ..packet.clone() };
            let lease = protocol == 17 && matches!(port, 68 | 546);
            let expected = if lease { End::Accept } else { End::Drop };
            assert_eq!(kernel.hook(Hook::Input, &outside), expected, "{protocol} {port}");
        }
    }
    let advertisement = |from: &str| {
        let link_local = "fe80::1".parse().unwrap();
        let packet = Packet {
            from: from.to_owned(),
            protocol: 58,
            icmp6: 134,
            ..outward(1001, "ff02::1", 0)
        };
        kernel.hook(Hook::Input, &Packet { source: link_local, ..packet })
    };
    assert_eq!(advertisement("eth0"), End::Accept);
    assert_eq!(advertisement(&veth.device()), End::Drop, "an app is no router");
}

#[test]
fn only_the_service_speaks_for_the_device() {
    let kernel = Kernel::new(&[]);
    let mut packet = outward(1001, "203.0.113.1", 53);
    (packet.from, packet.protocol) = (String::new(), 17);
    let sent =
        |owner, packet: &Packet| kernel.hook(Hook::Output, &Packet { owner, ..packet.clone() });
    assert_eq!(sent(Some(SERVICE), &packet), End::Accept);
    assert_eq!(sent(Some(SERVICE + 1), &packet), End::Drop);
    assert_eq!(sent(None, &packet), End::Drop);
    packet.port = 443;
    assert_eq!(sent(Some(SERVICE), &packet), End::Drop);
}

#[test]
fn a_ruleset_is_one_transaction_of_whole_messages() {
    let grants = NetworkGrants {
        connections: vec![to("example.com"), to("10.0.0.0/8"), to("2001:db8::1")],
        tcp_server_ports: vec![80],
        udp_server_ports: vec![5683],
        applications: vec![ComponentId([2; 16])],
    };
    let rules = ruleset(&[app(1001, grants.clone()), app(1002, grants)], SERVICE, &[]);
    let batch = netfilter::install(&rules);
    let mut kinds = Vec::new();
    for (number, message) in batch.into_iter().enumerate() {
        let bytes = message.finish(u32::try_from(number).unwrap());
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read.len(), 1);
        let (_, mut found) = read[0].split(4).unwrap();
        assert!(found.by_ref().all(|(_, payload)| payload.len() < 60_000));
        kinds.push(read[0].kind);
    }
    assert_eq!((kinds[0], kinds.last()), (0x10, Some(&0x11)));
    assert_eq!(kinds.iter().filter(|kind| **kind == 0xa12).count(), rules.timeouts.len());
    // What a rule refers to is there before it.
    let first = |kind: u16| kinds.iter().position(|found| *found == kind);
    assert!(first(0xa12) < first(0xa06) && first(0xa09) < first(0xa06));
    let rules_sent = kinds.iter().filter(|kind| **kind == 0xa06).count();
    assert_eq!(rules_sent, rules.chains.iter().map(|chain| chain.rules.len()).sum::<usize>());
    for chain in &rules.chains {
        assert!(
            chain.name.len() < 32 && chain.rules.iter().all(|rule| !rule.to_string().is_empty())
        );
    }
    for set in &rules.sets {
        assert!(set.name.len() < 32);
    }
}

#[test]
fn an_element_carries_its_time_in_milliseconds() {
    let element = Element {
        set: "names4-1001-0".to_owned(),
        address: "192.0.2.1".parse().unwrap(),
        port: None,
        timeout_ms: Some(30_000),
    };
    let with_port = Element { port: Some(443), ..element.clone() };
    let bytes = netfilter::add_elements(&[element])[1].clone().finish(1);
    let message = messages(&bytes).next().unwrap();
    let (_, found) = message.split(4).unwrap();
    assert_eq!(found.text(2), Some("names4-1001-0"));
    let list = attributes(found.find(3).unwrap()).find(1).unwrap();
    assert_eq!(attributes(list).find(4), Some(30_000u64.to_be_bytes().as_slice()));
    let key = attributes(attributes(list).find(1).unwrap()).find(1);
    assert_eq!(key, Some([192, 0, 2, 1].as_slice()));
    let bytes = netfilter::add_elements(&[with_port])[1].clone().finish(1);
    let whole = [192, 0, 2, 1, 1, 187, 0, 0];
    assert!(bytes.windows(8).any(|window| window == whole), "{bytes:?}");
}

fn any_connection() -> impl Strategy<Value = Connection> {
    let range =
        (1u16..2000, 0u16..20).prop_map(|(first, more)| PortRange { first, last: first + more });
    let destination = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(bits, length)| {
            Destination::Prefix(masked(IpAddr::V4(bits.into()), length).unwrap(), length)
        }),
        "[a-z]{1,5}\\.example".prop_map(Destination::Name),
    ];
    let protocol = prop_oneof![Just(None), Just(Some(Protocol::Tcp)), Just(Some(Protocol::Udp))];
    (destination, protocol, proptest::collection::vec(range, 0..3))
        .prop_map(|(to, protocol, ports)| Connection { to, protocol, ports })
}

proptest! {
    /// What passes is what a grant says, and the other way round.
    #[test]
    fn a_packet_passes_exactly_where_a_grant_covers_it(
        granted in proptest::collection::vec(any_connection(), 0..5),
        bits in any::<u32>(), of in any::<prop::sample::Index>(), inside in any::<bool>(),
        port in 1u16..2020, protocol in prop_oneof![Just(6u8), Just(17), Just(1)],
    ) {
        let app = app(1001, connecting(granted.clone()));
        let kernel = Kernel::new(std::slice::from_ref(&app));
        let mut destination = IpAddr::V4(bits.into());
        if inside && !granted.is_empty()
            && let Destination::Prefix(IpAddr::V4(network), length) = granted[of.index(granted.len())].to
        {
            let host = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            destination = IpAddr::V4((network.to_bits() | (bits & host)).into());
        }
        let packet = Packet { protocol, ..outward(1001, &destination.to_string(), port) };
        let covered = granted.iter().any(|connection| {
            matches!(connection.to, Destination::Prefix(network, length)
                if masked(destination, length) == Some(network))
                && connection.protocols().iter().any(|p| p.number() == protocol)
                && (connection.ports.is_empty() || connection.ports.iter().any(|r| r.contains(port)))
        });
        let expected = if covered { End::Accept } else { End::Reject };
        prop_assert_eq!(kernel.hook(Hook::Forward, &packet), expected);
    }

    /// No grant of one app changes what another may.
    #[test]
    fn grants_of_others_open_nothing(
        granted in proptest::collection::vec(any_connection(), 0..5),
        bits in any::<u32>(), port in 1u16..2020
    ) {
        let apps = [app(1001, connecting(Vec::new())), app(1002, connecting(granted))];
        let packet = outward(1001, &IpAddr::V4(bits.into()).to_string(), port);
        prop_assert_eq!(Kernel::new(&apps).hook(Hook::Forward, &packet), End::Reject);
    }
}
