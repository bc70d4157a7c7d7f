//! The ruleset of the firewall of a device, made from the grants of its apps.
//!
//! The firewall denies everything both ways that no rule here accepts. An app's packets meet the app's own chain at
//! the system's end of its veth pair, so that nothing an app does in its own namespace changes what applies to it. A
//! granted name is opened by putting its addresses into the app's sets for as long as they hold.
//!
//! The kernel has one connection tracking table for the whole device. Nobody takes more of it than a share:
//! connections that an app begins, and those that the outside begins towards it, pass a limit on their way to every
//! `accept`, and traffic of the device itself with apps and neighbours is not in the table at all. The size of the
//! table follows from the same limits: `holdfast_sandbox::network::table_share`.

use crate::netfilter::{
    Action, AddressSet, Chain, DeviceMap, Hook, Match, Rule, Ruleset, Side, Timeouts, Version,
    state,
};
use crate::{name_proxy, packet_denied, resolution, sntp};
use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::network::address::{APPS, VETH_NAMES, Veth};
use holdfast_sandbox::network::connections::{
    BEGUN_AT_ONCE, BEGUN_PER_SECOND, ENDED_S, MAX_CONNECTIONS, MAX_INCOMING, MAX_OF_ONE_ADDRESS,
    QUESTION_S,
};
use holdfast_sandbox::network::grants::{Destination, PortRange, Protocol};
use std::net::IpAddr;

/// Netlink group (`NFLOG`) that denied packets are logged to.
pub const DENIED_PACKETS: u16 = 1;
/// Denied packets of one app that are logged in a second.
const REPORTS_PER_SECOND: u32 = 10;
/// Most addresses that the names of one app have at once, of each IP version and kind of grant.
pub const MAX_ADDRESSES: u32 = 128;
/// Sets of the device's own addresses on its outer interfaces.
const OWN_ADDRESSES: [(Version, &str); 2] = [(Version::V4, "own4"), (Version::V6, "own6")];
const LOOPBACK: &str = "lo";
/// Sets in which connections are counted by the prefix that began them, and the bits of that prefix. Whoever has one
/// IPv6 address has all of its /64.
const OUTSIDE: [(&str, Version, u8); 2] =
    [("outside4", Version::V4, 32), ("outside6", Version::V6, 64)];
/// Most prefixes that are counted at once. The connections of one more are counted with those of its app alone.
const MAX_COUNTED: u32 = 1024;
/// Timeouts of connections that the outside began: one without a packet for ten minutes has to begin anew. That it
/// has begun at all shows no more than that an answer reached its other end.
const INCOMING: Timeouts = Timeouts {
    name: "incoming",
    protocol: 6,
    // SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE.
    seconds: &[(1, 10), (2, 10), (3, 600), (4, 30), (5, 60), (6, 10), (7, ENDED_S), (8, ENDED_S)],
};
/// Timeouts of questions of the device to name servers.
const ASKED: Timeouts =
    Timeouts { name: "asked", protocol: 17, seconds: &[(1, QUESTION_S), (2, QUESTION_S)] };
/// Timeouts of questions of the device to name servers over TCP, each of which is over sooner than any of these. A
/// server that takes no connection, or does not hear of its end, would have one in the table for hours.
const ASKED_OVER_TCP: Timeouts = Timeouts {
    name: "asked-tcp",
    protocol: 6,
    // SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK, TIME_WAIT, CLOSE.
    seconds: &[
        (1, QUESTION_S),
        (2, QUESTION_S),
        (3, QUESTION_S),
        (4, QUESTION_S),
        (5, QUESTION_S),
        (6, QUESTION_S),
        (7, QUESTION_S),
        (8, QUESTION_S),
    ],
};
/// Types of ICMPv6 (RFC 4443, RFC 4861, RFC 3810).
mod icmp6 {
    pub(super) const LISTENER_QUERY: u8 = 130;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const LISTENER_REPORT: u8 = 143;
}

/// Returns the conditions of grants to names and services, one for each protocol and list of ports: the addresses of
/// all names with the same conditions share sets.
fn name_conditions(app: &NetworkedApp) -> Vec<NameCondition<'_>> {
    let mut conditions = Vec::new();
    for condition in app.grants.connections.iter().filter_map(NameCondition::of) {
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    conditions
}

/// Returns the sets that an address of this destination belongs to, one for each grant that names it. Sets of a
/// service hold the port of its instance as well.
#[must_use]
pub fn sets_of(app: &NetworkedApp, destination: &Destination, version: Version) -> Vec<String> {
    let conditions = name_conditions(app);
    let granted = app.grants.connections.iter().filter(|c| c.to == *destination);
    let mut sets: Vec<String> = granted
        .filter_map(|granted| {
            let wanted = NameCondition::of(granted)?;
            let index = conditions.iter().position(|condition| *condition == wanted)?;
            Some(set_name(app.uid, index, version))
        })
        .collect();
    sets.dedup();
    sets
}

/// The conditions of a grant to a name or a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameCondition<'grant> {
    protocol: Option<Protocol>,
    ports: &'grant [PortRange],
    /// The protocol in the name of a service: it is open at the ports that its instances name, and nowhere else (RFC
    /// 6763, 7).
    service: Option<Protocol>,
}

impl<'grant> NameCondition<'grant> {
    /// Returns the conditions of a grant to a name or service; `None` for one to a prefix.
    fn of(granted: &'grant holdfast_sandbox::network::Connection) -> Option<Self> {
        let service = match &granted.to {
            Destination::Prefix(..) => return None,
            Destination::Name(_) => None,
            Destination::Service(name) if name.ends_with("._udp.local") => Some(Protocol::Udp),
            Destination::Service(_) => Some(Protocol::Tcp),
        };
        Some(Self { protocol: granted.protocol, ports: &granted.ports, service })
    }

    /// Returns the rules that open a set.
    fn rules(self, set: String, version: Version) -> Vec<Rule> {
        let Some(service) = self.service else {
            return allowed(&Match::DestinationIn(set, version), self.protocol, self.ports);
        };
        if self.protocol.is_some_and(|granted| granted != service) {
            return Vec::new();
        }
        allowed(&Match::DestinationAndPortIn(set, version), Some(service), self.ports)
    }
}

fn set_name(uid: u32, condition: usize, version: Version) -> String {
    let version = if version == Version::V4 { 4 } else { 6 };
    format!("names{version}-{uid}-{condition}")
}

/// Returns the name of the set of the device's own addresses of a version.
#[must_use]
pub fn own_addresses(version: Version) -> &'static str {
    OWN_ADDRESSES.iter().find(|(of, _)| *of == version).map_or("", |(_, name)| name)
}

fn rule(matches: Vec<Match>, action: Action) -> Rule {
    Rule { matches, action }
}

fn udp(source: Option<u16>, destination: u16) -> Vec<Match> {
    let mut matches = vec![Match::Protocol(Protocol::Udp.number())];
    matches.extend(source.map(Match::SourcePort));
    matches.push(Match::Ports(PortRange::one(destination)));
    matches
}

fn from_outside() -> [Match; 2] {
    [Match::FromDevices(VETH_NAMES, false), Match::FromDevices(LOOPBACK, false)]
}

fn to_outside() -> [Match; 2] {
    [Match::ToDevices(VETH_NAMES, false), Match::ToDevices(LOOPBACK, false)]
}

/// Returns the whole ruleset of a device with these apps, whose network service has this uid. Router advertisements
/// on the devices in `deaf` are dropped.
#[must_use]
pub fn ruleset(apps: &[NetworkedApp], service_uid: u32, deaf: &[String]) -> Ruleset {
    let mut chains = Vec::new();
    let mut sets: Vec<AddressSet> = OWN_ADDRESSES
        .map(|(version, name)| AddressSet {
            name: name.to_owned(),
            version,
            with_ports: false,
            timeouts: false,
            counts: false,
            most: MAX_ADDRESSES,
        })
        .into();
    sets.extend(OUTSIDE.map(|(name, version, _)| AddressSet {
        name: name.to_owned(),
        version,
        with_ports: false,
        timeouts: false,
        counts: true,
        most: MAX_COUNTED,
    }));
    for app in apps {
        for (index, condition) in name_conditions(app).into_iter().enumerate() {
            for version in [Version::V4, Version::V6] {
                sets.push(AddressSet {
                    name: set_name(app.uid, index, version),
                    version,
                    with_ports: condition.service.is_some(),
                    timeouts: true,
                    counts: false,
                    most: MAX_ADDRESSES,
                });
            }
        }
        chains.extend(limits(app));
        chains.push(asks(app));
        chains.push(to_system(app));
        chains.push(from_app(app, apps));
        chains.push(to_app(app));
    }
    let map = |name: &str, chain: &str| DeviceMap {
        name: name.to_owned(),
        chains: apps
            .iter()
            .map(|app| (app.veth().device(), format!("{chain}-{}", app.uid)))
            .collect(),
    };
    let maps = vec![
        map("asks", "asks"),
        map("to-system", "to-system"),
        map("from-apps", "from"),
        map("to-apps", "to"),
    ];
    chains.push(arriving());
    chains.push(sent());
    chains.push(input(deaf));
    chains.push(forward());
    chains.push(output(service_uid));
    chains.push(prerouting(apps));
    chains.push(postrouting());
    Ruleset { timeouts: vec![INCOMING, ASKED, ASKED_OVER_TCP], sets, maps, chains }
}

fn chain(name: &str, uid: u32, rules: Vec<Rule>) -> Chain {
    Chain { name: format!("{name}-{uid}"), base: None, rules }
}

/// Returns the chains with an app's limits, which every new connection of the app that a grant covers passes, and
/// every one to its server ports: no connection is accepted anywhere else.
fn limits(app: &NetworkedApp) -> [Chain; 4] {
    let uid = app.uid;
    let tcp = Match::Protocol(Protocol::Tcp.number());
    let fast = || vec![tcp.clone(), Match::OverRate(BEGUN_PER_SECOND, BEGUN_AT_ONCE)];
    let to = |name: &str| Action::Continue(format!("{name}-{uid}"));
    let over = refused_where(&[], format!("{uid}{}", packet_denied::OVER)).to_vec();
    let begun = vec![
        rule(fast(), to("over")),
        // Counted once, so what is done then is a chain of its own.
        rule(vec![Match::OverConnections(MAX_CONNECTIONS)], to("over")),
        rule(Vec::new(), Action::Accept),
    ];
    // Those outside are told nothing; the log says it.
    let prefix = format!("{uid}{}", packet_denied::CROWDED);
    let crowded = vec![
        rule(vec![Match::Rate(REPORTS_PER_SECOND)], Action::Log(DENIED_PACKETS, prefix)),
        rule(Vec::new(), Action::Drop),
    ];
    let mut incoming: Vec<Rule> = OUTSIDE
        .into_iter()
        .map(|(set, version, length)| {
            let one = Match::OverConnectionsFrom(set, version, length, MAX_OF_ONE_ADDRESS);
            rule(vec![one], to("crowded"))
        })
        .collect();
    incoming.extend([
        rule(fast(), to("crowded")),
        rule(vec![Match::OverConnections(MAX_INCOMING)], to("crowded")),
        rule(vec![tcp.clone()], Action::Timeouts(INCOMING.name)),
        rule(Vec::new(), Action::Accept),
    ]);
    [
        chain("over", uid, over),
        chain("begun", uid, begun),
        chain("crowded", uid, crowded),
        chain("incoming", uid, incoming),
    ]
}

/// Returns the chain that takes packets out of connection tracking as they arrive: questions of apps to their name
/// proxies, and expected answers of neighbours. Neither can fill the table then.
fn arriving() -> Chain {
    let mut rules = Vec::new();
    rules.push(rule(udp(None, 53), Action::Dispatch(Side::From, "asks".to_owned())));
    for expected in expected() {
        let matches = from_outside().into_iter().chain(expected).collect();
        rules.push(rule(matches, Action::Untracked));
    }
    base("arriving", Hook::Arriving, rules)
}

/// Returns the chain that takes the answers of name proxies out of connection tracking.
fn sent() -> Chain {
    let answers = vec![
        Match::ToDevices(VETH_NAMES, true),
        Match::Protocol(Protocol::Udp.number()),
        Match::SourcePort(53),
    ];
    base("sent", Hook::Sent, vec![rule(answers, Action::Untracked)])
}

fn asks(app: &NetworkedApp) -> Chain {
    let mut rules = Vec::new();
    if app.grants.uses_names() {
        rules.push(rule(to_proxy(app), Action::Untracked));
    }
    chain("asks", app.uid, rules)
}

/// Returns the conditions on an app's questions to its name proxy.
fn to_proxy(app: &NetworkedApp) -> Vec<Match> {
    let mut matches = vec![Match::Destination(app.veth().system_v4().into(), 32)];
    matches.extend(udp(None, 53));
    matches
}

/// Returns the conditions on packets that neighbours may send to the device's services: leases of both IP versions,
/// and names of the local link.
fn expected() -> [Vec<Match>; 3] {
    [
        udp(Some(67), 68),
        udp(Some(547), 546),
        udp(Some(name_proxy::MDNS_PORT), name_proxy::MDNS_QUERY_PORT),
    ]
}

fn base(name: &str, hook: Hook, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_owned(), base: Some(hook), rules }
}

fn follow_connections() -> [Rule; 2] {
    [
        rule(vec![Match::State(state::INVALID)], Action::Drop),
        rule(vec![Match::State(state::ESTABLISHED | state::RELATED)], Action::Accept),
    ]
}

/// Returns the rules that drop packets of the outside with an app's source address.
fn outside_spoofed() -> [Rule; 2] {
    APPS.map(|(address, length)| {
        let mut matches = from_outside().to_vec();
        matches.push(Match::Source(address, length, true));
        rule(matches, Action::Drop)
    })
}

/// Returns the chain of packets to the device. Router advertisements on the devices in `deaf` are dropped.
fn input(deaf: &[String]) -> Chain {
    let mut rules = vec![rule(vec![Match::From(LOOPBACK.to_owned())], Action::Accept)];
    rules.extend(outside_spoofed());
    for device in deaf {
        let matches = vec![Match::From(device.clone()), Match::Icmp6(icmp6::ROUTER_ADVERTISEMENT)];
        rules.push(rule(matches, Action::Drop));
    }
    rules.extend(follow_connections());
    let accept = |matches: Vec<Match>| {
        rule(from_outside().into_iter().chain(matches).collect(), Action::Accept)
    };
    rules.push(rule(Vec::new(), Action::Dispatch(Side::From, "to-system".to_owned())));
    for kind in [
        icmp6::LISTENER_QUERY,
        icmp6::ROUTER_ADVERTISEMENT,
        icmp6::NEIGHBOUR_SOLICITATION,
        icmp6::NEIGHBOUR_ADVERTISEMENT,
    ] {
        rules.push(accept(vec![Match::Icmp6(kind)]));
    }
    rules.extend(expected().map(accept));
    base("input", Hook::Input, rules)
}

fn forward() -> Chain {
    let mut rules = outside_spoofed().to_vec();
    rules.extend(follow_connections());
    rules.push(rule(Vec::new(), Action::Dispatch(Side::From, "from-apps".to_owned())));
    rules.push(rule(Vec::new(), Action::Dispatch(Side::To, "to-apps".to_owned())));
    base("forward", Hook::Forward, rules)
}

fn output(service_uid: u32) -> Chain {
    let mut rules = vec![rule(vec![Match::To(LOOPBACK.to_owned())], Action::Accept)];
    rules.extend(follow_connections());
    for kind in [
        icmp6::ROUTER_SOLICITATION,
        icmp6::NEIGHBOUR_SOLICITATION,
        icmp6::NEIGHBOUR_ADVERTISEMENT,
        icmp6::LISTENER_REPORT,
    ] {
        rules.push(rule(vec![Match::Icmp6(kind)], Action::Accept));
    }
    // Answers to apps, of which no connection is made.
    rules.push(rule(
        vec![
            Match::ToDevices(VETH_NAMES, true),
            Match::Owner(service_uid),
            Match::Protocol(Protocol::Udp.number()),
            Match::SourcePort(53),
        ],
        Action::Accept,
    ));
    let of_service = |matches: Vec<Match>| {
        let mut all = to_outside().to_vec();
        all.push(Match::Owner(service_uid));
        all.extend(matches);
        all
    };
    let names = udp(None, resolution::PORT);
    rules.push(rule(of_service(names), Action::Timeouts(ASKED.name)));
    // Names, leases of both versions, the time, and names of the local link.
    for port in [resolution::PORT, 67, 547, sntp::PORT, name_proxy::MDNS_PORT] {
        rules.push(rule(of_service(udp(None, port)), Action::Accept));
    }
    // Names whose answers fit no datagram, and nothing else by TCP.
    let names = vec![
        Match::Protocol(Protocol::Tcp.number()),
        Match::Ports(PortRange::one(resolution::PORT)),
    ];
    rules.push(rule(of_service(names.clone()), Action::Timeouts(ASKED_OVER_TCP.name)));
    rules.push(rule(of_service(names), Action::Accept));
    base("output", Hook::Output, rules)
}

/// Returns the chain of an app's packets to the device itself: it accepts questions to the app's name proxy, and
/// nothing else.
fn to_system(app: &NetworkedApp) -> Chain {
    let veth = app.veth();
    let mut rules = spoofed(veth);
    for kind in [icmp6::NEIGHBOUR_SOLICITATION, icmp6::NEIGHBOUR_ADVERTISEMENT] {
        rules.push(rule(vec![Match::Icmp6(kind)], Action::Accept));
    }
    if app.grants.uses_names() {
        rules.push(rule(to_proxy(app), Action::Accept));
    }
    rules.extend(refused(app));
    Chain { name: format!("to-system-{}", app.uid), base: None, rules }
}

/// Returns the rules that drop an app's packets with another source address than its own.
fn spoofed(veth: Veth) -> Vec<Rule> {
    vec![
        rule(vec![Match::Source(veth.app_v4().into(), 32, false)], Action::Drop),
        rule(vec![Match::Source(veth.app_v6().into(), 128, false)], Action::Drop),
    ]
}

/// Returns the end of an app's chains: the packet is logged, and its sender is told at once.
fn refused(app: &NetworkedApp) -> [Rule; 2] {
    refused_where(&[], app.uid.to_string())
}

fn refused_where(matches: &[Match], prefix: String) -> [Rule; 2] {
    let logged = matches.iter().cloned().chain([Match::Rate(REPORTS_PER_SECOND)]).collect();
    [rule(logged, Action::Log(DENIED_PACKETS, prefix)), rule(matches.to_vec(), Action::Reject)]
}

/// Returns the chain of an app's packets to others than the device itself.
fn from_app(app: &NetworkedApp, apps: &[NetworkedApp]) -> Chain {
    let mut rules = spoofed(app.veth());
    for other in apps.iter().filter(|other| app.may_talk_to(other)) {
        let veth = other.veth();
        for protocol in Protocol::ALL {
            for port in other.grants.server_ports(protocol) {
                for (address, length) in
                    [(IpAddr::V4(veth.app_v4()), 32), (IpAddr::V6(veth.app_v6()), 128)]
                {
                    let matches = vec![
                        Match::To(veth.device()),
                        Match::Destination(address, length),
                        Match::Protocol(protocol.number()),
                        Match::Ports(PortRange::one(*port)),
                    ];
                    rules.push(rule(matches, Action::Accept));
                }
            }
        }
    }
    // No prefix and no name, however wide, leads to other apps.
    let to_apps = [Match::ToDevices(VETH_NAMES, true)];
    rules.extend(refused_where(&to_apps, app.uid.to_string()));
    for (index, condition) in name_conditions(app).into_iter().enumerate() {
        for version in [Version::V4, Version::V6] {
            rules.extend(condition.rules(set_name(app.uid, index, version), version));
        }
    }
    for connection in &app.grants.connections {
        if let Destination::Prefix(address, length) = connection.to {
            let to = Match::Destination(address, length);
            rules.extend(allowed(&to, connection.protocol, &connection.ports));
        }
    }
    // Whatever covers it, it passes the app's limits.
    for rule in rules.iter_mut().filter(|rule| rule.action == Action::Accept) {
        rule.action = Action::Continue(format!("begun-{}", app.uid));
    }
    rules.extend(refused(app));
    Chain { name: format!("from-{}", app.uid), base: None, rules }
}

fn allowed(to: &Match, protocol: Option<Protocol>, ports: &[PortRange]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for of in Protocol::of(protocol) {
        // The protocol first: a port is looked at where there is one.
        let matches = vec![Match::Protocol(of.number()), to.clone()];
        if ports.is_empty() {
            rules.push(rule(matches, Action::Accept));
            continue;
        }
        for range in ports {
            let mut matches = matches.clone();
            matches.push(Match::Ports(*range));
            rules.push(rule(matches, Action::Accept));
        }
    }
    rules
}

/// Returns the chain of packets from outside to an app, which reach its server ports by way of the device's own
/// address.
fn to_app(app: &NetworkedApp) -> Chain {
    let mut rules = Vec::new();
    for protocol in Protocol::ALL {
        for port in app.grants.server_ports(protocol) {
            let mut matches = from_outside().to_vec();
            matches.extend([
                Match::Translated,
                Match::Protocol(protocol.number()),
                Match::Ports(PortRange::one(*port)),
            ]);
            rules.push(rule(matches, Action::Continue(format!("incoming-{}", app.uid))));
        }
    }
    rules.push(rule(Vec::new(), Action::Drop));
    Chain { name: format!("to-{}", app.uid), base: None, rules }
}

fn prerouting(apps: &[NetworkedApp]) -> Chain {
    let mut rules = Vec::new();
    for app in apps {
        let veth = app.veth();
        for protocol in Protocol::ALL {
            for port in app.grants.server_ports(protocol) {
                for (version, set) in OWN_ADDRESSES {
                    let to = match version {
                        Version::V4 => IpAddr::V4(veth.app_v4()),
                        Version::V6 => IpAddr::V6(veth.app_v6()),
                    };
                    let mut matches = from_outside().to_vec();
                    matches.extend([
                        Match::DestinationIn(set.to_owned(), version),
                        Match::Protocol(protocol.number()),
                        Match::Ports(PortRange::one(*port)),
                    ]);
                    rules.push(rule(matches, Action::Translate(to)));
                }
            }
        }
    }
    base("prerouting", Hook::Prerouting, rules)
}

fn postrouting() -> Chain {
    let rules = APPS.map(|(address, length)| {
        let mut matches = to_outside().to_vec();
        matches.push(Match::Source(address, length, true));
        rule(matches, Action::Masquerade)
    });
    base("postrouting", Hook::Postrouting, rules.into())
}

#[cfg(test)]
mod tests;
