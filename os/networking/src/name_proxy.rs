//! Decisions of an app's name proxy (DNS proxy): the names that it resolves, and its answers to the app.
//!
//! The proxy resolves granted names only, by a fresh question that holds nothing of the app's but the granted name,
//! and hands on addresses alone. So neither direction carries anything else. Names of DNS-SD services (RFC 6763) stay
//! on the local link.

mod lookup;
mod record;

pub use lookup::{Failure, Lookup, MAX_ALIASES, MAX_TCP_ANSWER_BYTES, Outcome, Surroundings};
pub use record::{Host, Kind, LEAST_TTL_S, MAX_RECORDS, MOST_TTL_S, Record, Status};

use holdfast_sandbox::network::NetworkedApp;
use holdfast_sandbox::network::grants::Destination;
use record::is_in;
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord,
};
use std::net::{IpAddr, Ipv4Addr};

/// Port of multicast DNS (RFC 6762).
pub const MDNS_PORT: u16 = 5353;
/// Source port of questions to multicast DNS. Any host of the link may answer, so that the firewall knows an answer
/// by this port.
pub const MDNS_QUERY_PORT: u16 = 53_530;
/// Multicast group of multicast DNS (RFC 6762, 3).
pub const MDNS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Longest question of an app in bytes (RFC 1035, 4.2.1).
pub const MAX_QUESTION_BYTES: usize = 512;
/// Longest answer of a server by UDP in bytes, as EDNS offers it (RFC 6891).
pub const MAX_ANSWER_BYTES: usize = 1232;
/// Domain of the apps of this device.
pub const APP_DOMAIN: &str = "app.internal";

/// A question that an app asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    id: u16,
    /// The name as the app wrote it.
    written: String,
    /// The name in lower case.
    pub name: String,
    /// The record type that the app asked for.
    pub kind: Kind,
    number: u16,
}

/// Parses a question; `None` for what is not exactly one.
#[must_use]
pub fn read_question(bytes: &[u8]) -> Option<Asked> {
    if bytes.len() > MAX_QUESTION_BYTES {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    let [question] = packet.questions.as_slice() else {
        return None;
    };
    let internet = question.qclass == QCLASS::CLASS(CLASS::IN);
    let standard = packet.opcode() == OPCODE::StandardQuery;
    if packet.has_flags(PacketFlag::RESPONSE) || !standard || !internet {
        return None;
    }
    if !(packet.answers.is_empty() && packet.name_servers.is_empty()) {
        return None;
    }
    let written = question.qname.to_string();
    Some(Asked {
        id: packet.id(),
        name: written.to_ascii_lowercase(),
        written,
        kind: Kind::of(question.qtype),
        number: question.qtype.into(),
    })
}

/// The decision about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// A server is asked.
    Ask(Lookup),
    /// The app gets these bytes as its answer.
    Answer(Vec<u8>),
    /// No grant covers the name and this type; the app gets these bytes, which say so.
    Refuse(Vec<u8>),
}

/// Decides on a question. `hosts` are the hosts on which instances of the app's services were found.
#[must_use]
pub fn decide(
    asked: &Asked,
    app: &NetworkedApp,
    apps: &[NetworkedApp],
    hosts: &[Host],
) -> Decision {
    let ask = |grant: &Destination, on_link| {
        let grant = grant.clone();
        Decision::Ask(Lookup { grant, name: asked.name.clone(), kind: asked.kind, on_link })
    };
    let other = asked.name.strip_suffix(APP_DOMAIN).and_then(|name| name.strip_suffix('.'));
    if let Some(name) = other {
        let other = apps.iter().find(|other| other.name == name && app.may_talk_to(other));
        let Some(other) = other else {
            return Decision::Refuse(reply(asked, Status::NoSuchName, &[]));
        };
        let veth = other.veth();
        let record = match asked.kind {
            Kind::A => Some(Record::address(IpAddr::V4(veth.app_v4()), LEAST_TTL_S)),
            Kind::Aaaa => Some(Record::address(IpAddr::V6(veth.app_v6()), LEAST_TTL_S)),
            _ => None,
        };
        let records: Vec<Record> = record.into_iter().collect();
        return Decision::Answer(reply(asked, Status::Known, &records));
    }
    for connection in &app.grants.connections {
        match &connection.to {
            Destination::Name(name) if *name == asked.name => {
                if !asked.kind.is_address() {
                    return Decision::Refuse(reply(asked, Status::Known, &[]));
                }
                return ask(&connection.to, is_in(name, "local"));
            }
            Destination::Service(service) if *service == asked.name && asked.kind == Kind::Ptr => {
                return ask(&connection.to, true);
            }
            Destination::Service(service)
                if is_in(&asked.name, service) && matches!(asked.kind, Kind::Srv | Kind::Txt) =>
            {
                return ask(&connection.to, true);
            }
            _ => {}
        }
    }
    if let Some(host) = hosts.iter().find(|host| host.name == asked.name)
        && asked.kind.is_address()
    {
        return ask(&host.service, true);
    }
    Decision::Refuse(reply(asked, Status::NoSuchName, &[]))
}

/// Encodes the answer to an app.
#[must_use]
pub fn reply(asked: &Asked, status: Status, records: &[Record]) -> Vec<u8> {
    let mut packet = Packet::new_reply(asked.id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
    *packet.rcode_mut() = match status {
        Status::Known => RCODE::NoError,
        Status::NoSuchName => RCODE::NameError,
        Status::Failed => RCODE::ServerFailure,
    };
    let kind = QTYPE::try_from(asked.number).unwrap_or(QTYPE::ANY);
    let Ok(name) = Name::new(&asked.written) else {
        return Vec::new();
    };
    packet.questions.push(Question::new(name.clone(), kind, QCLASS::CLASS(CLASS::IN), false));
    for record in records.iter().take(MAX_RECORDS) {
        let answer = ResourceRecord::new(name.clone(), CLASS::IN, record.ttl, record.data.clone());
        packet.answers.push(answer);
    }
    packet.build_bytes_vec_compressed().unwrap_or_default()
}

#[cfg(test)]
mod tests;
