//! The one firewall of a device, made from what its apps are granted.
//!
//! Everything is refused both ways but what stands here. An app's packets meet its own chain on the
//! system's side of its link, so that nothing an app does in its own namespace changes what applies to
//! it. Names are opened by putting their addresses into the app's sets for as long as they hold.

use super::address::{APPS, LINK_NAMES, Link};
use super::grants::{Destination, NetworkGrants, PortRange, Protocol};
use super::netfilter::{
    Action, AddressSet, Chain, DeviceMap, Hook, Match, Rule, Ruleset, Side, Version, state,
};
use super::{name_proxy, refusal, sntp};
use crate::app_manifest::ComponentId;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Netlink group that refused packets are reported to.
pub const REFUSALS: u16 = 1;
/// Refused packets of one app that are reported in a second.
const REPORTS_PER_SECOND: u32 = 10;
/// Connections that one app may have at once.
pub const MAX_CONNECTIONS: u32 = 128;
/// Addresses that the names of one app may have at once, of each IP version and kind of grant.
pub const MAX_ADDRESSES: u32 = 128;
/// Set of the device's own addresses on its uplinks.
const OWN_ADDRESSES: [(Version, &str); 2] = [(Version::V4, "own4"), (Version::V6, "own6")];
const LOOPBACK: &str = "lo";
/// Types of ICMPv6 (RFC 4443, RFC 4861, RFC 3810).
mod icmp6 {
    pub(super) const LISTENER_QUERY: u8 = 130;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub(super) const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub(super) const LISTENER_REPORT: u8 = 143;
}

/// An app that has grants, as the firewall knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkedApp {
    /// Component name.
    pub name: String,
    /// Its id.
    pub component_id: ComponentId,
    /// Its uid, which its link follows from.
    pub uid: u32,
    /// What it may do.
    pub grants: NetworkGrants,
}

impl NetworkedApp {
    /// Its link.
    #[must_use]
    pub fn link(&self) -> Link {
        Link::of(self.uid)
    }

    /// True when both name each other.
    #[must_use]
    pub fn may_talk_to(&self, other: &Self) -> bool {
        self.component_id != other.component_id
            && self.grants.applications.contains(&other.component_id)
            && other.grants.applications.contains(&self.component_id)
    }

    /// What is granted to names, once for each protocol and list of ports: the addresses of all names
    /// with the same conditions share sets.
    fn name_conditions(&self) -> Vec<NameCondition<'_>> {
        let mut conditions = Vec::new();
        for condition in self.grants.connections.iter().filter_map(NameCondition::of) {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
        conditions
    }

    /// The sets that an address of this destination belongs to: one for each grant that names it. Those of a
    /// service hold its port as well.
    #[must_use]
    pub fn sets_of(&self, destination: &Destination, version: Version) -> Vec<String> {
        let conditions = self.name_conditions();
        let granted = self.grants.connections.iter().filter(|c| c.to == *destination);
        let mut sets: Vec<String> = granted
            .filter_map(|granted| {
                let wanted = NameCondition::of(granted)?;
                let index = conditions.iter().position(|condition| *condition == wanted)?;
                Some(set_name(self.uid, index, version))
            })
            .collect();
        sets.dedup();
        sets
    }
}

/// What a grant to a name or a service says beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameCondition<'grant> {
    protocol: Option<Protocol>,
    ports: &'grant [PortRange],
    /// The protocol that the service's own name says: it is open at the ports that its instances name, and
    /// nowhere else (RFC 6763, 7).
    service: Option<Protocol>,
}

impl<'grant> NameCondition<'grant> {
    /// Of a grant to a name or service; `None` for one to a prefix.
    fn of(granted: &'grant super::Connection) -> Option<Self> {
        let service = match &granted.to {
            Destination::Prefix(..) => return None,
            Destination::Name(_) => None,
            Destination::Service(name) if name.ends_with("._udp.local") => Some(Protocol::Udp),
            Destination::Service(_) => Some(Protocol::Tcp),
        };
        Some(Self { protocol: granted.protocol, ports: &granted.ports, service })
    }

    /// The rules that open a set.
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

/// The set of the device's own addresses of a version.
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

fn from_uplink() -> [Match; 2] {
    [Match::FromDevices(LINK_NAMES, false), Match::FromDevices(LOOPBACK, false)]
}

fn to_uplink() -> [Match; 2] {
    [Match::ToDevices(LINK_NAMES, false), Match::ToDevices(LOOPBACK, false)]
}

/// The whole ruleset of a device with these apps, whose network service has this uid. On the devices in
/// `deaf` no router is listened to.
#[must_use]
pub fn ruleset(apps: &[NetworkedApp], service_uid: u32, deaf: &[String]) -> Ruleset {
    let mut chains = Vec::new();
    let mut sets: Vec<AddressSet> = OWN_ADDRESSES
        .map(|(version, name)| AddressSet {
            name: name.to_owned(),
            version,
            with_ports: false,
            timeouts: false,
            most: MAX_ADDRESSES,
        })
        .into();
    for app in apps {
        for (index, condition) in app.name_conditions().into_iter().enumerate() {
            for version in [Version::V4, Version::V6] {
                sets.push(AddressSet {
                    name: set_name(app.uid, index, version),
                    version,
                    with_ports: condition.service.is_some(),
                    timeouts: true,
                    most: MAX_ADDRESSES,
                });
            }
        }
        chains.push(Chain {
            name: format!("over-{}", app.uid),
            base: None,
            rules: refused_where(&[], format!("{}{}", app.uid, refusal::OVER)).to_vec(),
        });
        chains.push(to_system(app));
        chains.push(from_app(app, apps));
        chains.push(to_app(app));
    }
    let map = |name: &str, chain: &str| DeviceMap {
        name: name.to_owned(),
        chains: apps
            .iter()
            .map(|app| (app.link().device(), format!("{chain}-{}", app.uid)))
            .collect(),
    };
    let maps = vec![map("to-system", "to-system"), map("from-apps", "from"), map("to-apps", "to")];
    chains.push(input(deaf));
    chains.push(forward());
    chains.push(output(service_uid));
    chains.push(prerouting(apps));
    chains.push(postrouting());
    Ruleset { sets, maps, chains }
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

/// Somebody outside who claims to be an app.
fn outside_spoofed() -> [Rule; 2] {
    APPS.map(|(address, length)| {
        let mut matches = from_uplink().to_vec();
        matches.push(Match::Source(address, length, true));
        rule(matches, Action::Drop)
    })
}

/// `deaf`: devices on which routers are not listened to.
fn input(deaf: &[String]) -> Chain {
    let mut rules = vec![rule(vec![Match::From(LOOPBACK.to_owned())], Action::Accept)];
    rules.extend(outside_spoofed());
    for device in deaf {
        let matches = vec![Match::From(device.clone()), Match::Icmp6(icmp6::ROUTER_ADVERTISEMENT)];
        rules.push(rule(matches, Action::Drop));
    }
    rules.extend(follow_connections());
    let accept = |matches: Vec<Match>| {
        rule(from_uplink().into_iter().chain(matches).collect(), Action::Accept)
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
    rules.push(accept(udp(Some(67), 68)));
    rules.push(accept(udp(Some(547), 546)));
    rules.push(accept(udp(Some(name_proxy::LINK_PORT), name_proxy::LINK_QUERY_PORT)));
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
    // Names, leases of both versions, the time, and names of the local link.
    for port in [53, 67, 547, sntp::PORT, name_proxy::LINK_PORT] {
        let mut matches = to_uplink().to_vec();
        matches.push(Match::Owner(service_uid));
        matches.extend(udp(None, port));
        rules.push(rule(matches, Action::Accept));
    }
    base("output", Hook::Output, rules)
}

/// What an app sends to the device itself: questions to its name proxy, and to nobody else.
fn to_system(app: &NetworkedApp) -> Chain {
    let link = app.link();
    let mut rules = spoofed(link);
    for kind in [icmp6::NEIGHBOUR_SOLICITATION, icmp6::NEIGHBOUR_ADVERTISEMENT] {
        rules.push(rule(vec![Match::Icmp6(kind)], Action::Accept));
    }
    if app.grants.uses_names() {
        let mut matches = vec![Match::Destination(link.system_v4().into(), 32)];
        matches.extend(udp(None, 53));
        rules.push(rule(matches, Action::Accept));
    }
    rules.extend(refused(app));
    Chain { name: format!("to-system-{}", app.uid), base: None, rules }
}

/// An app that claims to be somebody else.
fn spoofed(link: Link) -> Vec<Rule> {
    vec![
        rule(vec![Match::Source(link.app_v4().into(), 32, false)], Action::Drop),
        rule(vec![Match::Source(link.app_v6().into(), 128, false)], Action::Drop),
    ]
}

/// The end of an app's chains: reported, and said to the app at once.
fn refused(app: &NetworkedApp) -> [Rule; 2] {
    refused_where(&[], app.uid.to_string())
}

fn refused_where(matches: &[Match], prefix: String) -> [Rule; 2] {
    let logged = matches.iter().cloned().chain([Match::Rate(REPORTS_PER_SECOND)]).collect();
    [rule(logged, Action::Log(REFUSALS, prefix)), rule(matches.to_vec(), Action::Reject)]
}

/// What an app sends anywhere else.
fn from_app(app: &NetworkedApp, apps: &[NetworkedApp]) -> Chain {
    let mut rules = spoofed(app.link());
    // Counted once, so what is done then is a chain of its own.
    rules.push(rule(
        vec![Match::OverConnections(MAX_CONNECTIONS)],
        Action::Continue(format!("over-{}", app.uid)),
    ));
    for other in apps.iter().filter(|other| app.may_talk_to(other)) {
        let link = other.link();
        for protocol in Protocol::ALL {
            for port in other.grants.server_ports(protocol) {
                for (address, length) in
                    [(IpAddr::V4(link.app_v4()), 32), (IpAddr::V6(link.app_v6()), 128)]
                {
                    let matches = vec![
                        Match::To(link.device()),
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
    let to_apps = [Match::ToDevices(LINK_NAMES, true)];
    rules.extend(refused_where(&to_apps, app.uid.to_string()));
    for (index, condition) in app.name_conditions().into_iter().enumerate() {
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

/// What the outside sends to an app: to its server ports, by way of the device's own address.
fn to_app(app: &NetworkedApp) -> Chain {
    let mut rules = Vec::new();
    for protocol in Protocol::ALL {
        for port in app.grants.server_ports(protocol) {
            let mut matches = from_uplink().to_vec();
            matches.extend([
                Match::Translated,
                Match::Protocol(protocol.number()),
                Match::Ports(PortRange::one(*port)),
            ]);
            rules.push(rule(matches, Action::Accept));
        }
    }
    rules.push(rule(Vec::new(), Action::Drop));
    Chain { name: format!("to-{}", app.uid), base: None, rules }
}

fn prerouting(apps: &[NetworkedApp]) -> Chain {
    let mut rules = Vec::new();
    for app in apps {
        let link = app.link();
        for protocol in Protocol::ALL {
            for port in app.grants.server_ports(protocol) {
                for (version, set) in OWN_ADDRESSES {
                    let to = match version {
                        Version::V4 => IpAddr::V4(link.app_v4()),
                        Version::V6 => IpAddr::V6(link.app_v6()),
                    };
                    let mut matches = from_uplink().to_vec();
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
        let mut matches = to_uplink().to_vec();
        matches.push(Match::Source(address, length, true));
        rule(matches, Action::Masquerade)
    });
    base("postrouting", Hook::Postrouting, rules.into())
}

#[cfg(test)]
mod tests;
