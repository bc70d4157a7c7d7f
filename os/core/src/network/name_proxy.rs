//! What an app's questions for names are answered with.
//!
//! Only names that the app was granted are asked for, in a fresh question that holds nothing of the
//! app's but the granted name; and of what comes back only addresses are handed on. So neither
//! direction carries anything else. Names of DNS-SD services (RFC 6763) stay on the local link.

use super::address::is_of_apps;
use super::firewall::NetworkedApp;
use super::grants::{Destination, masked};
use simple_dns::rdata::{A, AAAA, RData};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE};
use simple_dns::{ResourceRecord, TYPE};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Port of multicast DNS (RFC 6762), and the one that questions to it come from. Whoever answers says
/// so by its own address, which the firewall could not know otherwise.
pub const LINK_PORT: u16 = 5353;
/// See [`LINK_PORT`].
pub const LINK_QUERY_PORT: u16 = 53_530;
/// Where questions on the local link go.
pub const LINK_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// Longest question of an app in bytes (RFC 1035, 4.2.1).
pub const MAX_QUESTION_BYTES: usize = 512;
/// Longest answer of a server that is read, in bytes: what is offered with EDNS (RFC 6891).
pub const MAX_ANSWER_BYTES: usize = 1232;
/// A name's addresses are open for at least so many seconds, whatever its time to live.
pub const LEAST_TTL_S: u32 = 30;
/// And for at most so many.
pub const MOST_TTL_S: u32 = 3600;
/// Most records that are handed on in one answer.
pub const MAX_RECORDS: usize = 8;
/// Most names that lead from one to the next.
const MAX_ALIASES: usize = 8;
/// Domain of the apps of this device.
pub const APP_DOMAIN: &str = "app.internal";
/// Domains whose names may have private addresses, since they are not of the public tree.
const LOCAL_DOMAINS: [&str; 4] = ["local", "internal", "home.arpa", "lan"];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Instances of a service.
    Ptr,
    /// Host and port of an instance.
    Srv,
    /// What an instance says of itself.
    Txt,
    /// Anything else: never asked for.
    Other,
}

impl Kind {
    fn of(kind: QTYPE) -> Self {
        match kind {
            QTYPE::TYPE(TYPE::A) => Self::A,
            QTYPE::TYPE(TYPE::AAAA) => Self::Aaaa,
            QTYPE::TYPE(TYPE::PTR) => Self::Ptr,
            QTYPE::TYPE(TYPE::SRV) => Self::Srv,
            QTYPE::TYPE(TYPE::TXT) => Self::Txt,
            _ => Self::Other,
        }
    }

    fn number(self) -> TYPE {
        match self {
            Self::A | Self::Other => TYPE::A,
            Self::Aaaa => TYPE::AAAA,
            Self::Ptr => TYPE::PTR,
            Self::Srv => TYPE::SRV,
            Self::Txt => TYPE::TXT,
        }
    }

    fn is_address(self) -> bool {
        matches!(self, Self::A | Self::Aaaa)
    }
}

/// A question of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    id: u16,
    /// As the app wrote it.
    written: String,
    /// In lower case.
    pub name: String,
    /// What for.
    pub kind: Kind,
    number: u16,
}

/// Reads a question; `None` for what is not exactly one.
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

/// A question that is asked for an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The granted destination that allows it.
    pub grant: Destination,
    /// What is asked for.
    pub name: String,
    /// As which type.
    pub kind: Kind,
    /// On the local link (RFC 6762) instead of a name server.
    pub on_link: bool,
}

/// What becomes of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Ask somebody.
    Ask(Lookup),
    /// These bytes are the answer.
    Answer(Vec<u8>),
    /// Nothing that was granted has this name, or not of this type; the answer says so.
    Refuse(Vec<u8>),
}

/// Decides on a question. `hosts` are names that instances of the app's services were found on.
#[must_use]
pub fn decide(
    asked: &Asked,
    app: &NetworkedApp,
    apps: &[NetworkedApp],
    hosts: &[(String, Destination)],
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
        let link = other.link();
        let record = match asked.kind {
            Kind::A => Some(Record::address(IpAddr::V4(link.app_v4()), LEAST_TTL_S)),
            Kind::Aaaa => Some(Record::address(IpAddr::V6(link.app_v6()), LEAST_TTL_S)),
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
    if let Some((_, grant)) = hosts.iter().find(|(host, _)| *host == asked.name)
        && asked.kind.is_address()
    {
        return ask(grant, true);
    }
    Decision::Refuse(reply(asked, Status::NoSuchName, &[]))
}

/// True for names below a domain.
fn is_in(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// How an answer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The name exists.
    Known,
    /// There is no such name.
    NoSuchName,
    /// Nobody could say.
    Failed,
}

/// What is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Seconds that it holds.
    pub ttl: u32,
    data: RData<'static>,
}

impl Record {
    fn address(address: IpAddr, ttl: u32) -> Self {
        let data = match address {
            IpAddr::V4(address) => RData::A(A { address: address.to_bits() }),
            IpAddr::V6(address) => RData::AAAA(AAAA { address: address.to_bits() }),
        };
        Self { ttl, data }
    }

    /// The address, where it is one.
    #[must_use]
    pub fn as_address(&self) -> Option<IpAddr> {
        match &self.data {
            RData::A(found) => Some(IpAddr::V4(Ipv4Addr::from_bits(found.address))),
            RData::AAAA(found) => Some(IpAddr::V6(Ipv6Addr::from_bits(found.address))),
            _ => None,
        }
    }

    /// The host of an instance, where it says one.
    #[must_use]
    pub fn as_host(&self) -> Option<String> {
        match &self.data {
            RData::SRV(found) => Some(found.target.to_string().to_ascii_lowercase()),
            _ => None,
        }
    }
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether there is such a name.
    pub status: Status,
    /// What may be handed on.
    pub records: Vec<Record>,
    /// Addresses that such a name must not have.
    pub forbidden: Vec<IpAddr>,
}

impl Outcome {
    /// Nobody could say.
    #[must_use]
    pub fn failed() -> Self {
        Self { status: Status::Failed, records: Vec::new(), forbidden: Vec::new() }
    }

    /// Adds what somebody else said.
    pub fn add(&mut self, other: Self) {
        if other.status == Status::Known {
            self.status = Status::Known;
        }
        for record in other.records {
            if self.records.len() < MAX_RECORDS && !self.records.contains(&record) {
                self.records.push(record);
            }
        }
        self.forbidden.extend(other.forbidden);
    }
}

impl Lookup {
    /// The question to send, under an id that is hard to guess.
    #[must_use]
    pub fn question(&self, id: u16) -> Option<Vec<u8>> {
        let mut packet = Packet::new_query(id);
        if !self.on_link {
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
            *packet.opt_mut() = Some(simple_dns::rdata::OPT {
                opt_codes: Vec::new(),
                udp_packet_size: 1232,
                version: 0,
            });
        }
        packet.questions.push(Question::new(
            Name::new(&self.name).ok()?,
            QTYPE::TYPE(self.kind.number()),
            QCLASS::CLASS(CLASS::IN),
            self.on_link,
        ));
        packet.build_bytes_vec().ok()
    }

    /// Reads an answer; `None` for what does not answer this question, and is to be ignored.
    #[must_use]
    pub fn read_answer(&self, id: u16, bytes: &[u8]) -> Option<Outcome> {
        let packet = Packet::parse(bytes).ok()?;
        if packet.id() != id || !packet.has_flags(PacketFlag::RESPONSE) {
            return None;
        }
        let asked = |question: &Question<'_>| {
            question.qname.to_string().eq_ignore_ascii_case(&self.name)
                && Kind::of(question.qtype) == self.kind
        };
        match packet.questions.as_slice() {
            [question] if asked(question) => {}
            [] if self.on_link => {}
            _ => return None,
        }
        if packet.has_flags(PacketFlag::TRUNCATION) {
            return Some(Outcome::failed());
        }
        let status = match packet.rcode() {
            RCODE::NoError => Status::Known,
            RCODE::NameError => Status::NoSuchName,
            _ => Status::Failed,
        };
        let mut outcome = Outcome { status, records: Vec::new(), forbidden: Vec::new() };
        if status != Status::Known {
            return Some(outcome);
        }
        let names = self.aliases(&packet.answers);
        for record in packet.answers.iter().filter(|record| record.class == CLASS::IN) {
            let owner = record.name.to_string().to_ascii_lowercase();
            if !names.contains(&owner)
                || Kind::of(QTYPE::TYPE(record.rdata.type_code())) != self.kind
            {
                continue;
            }
            let ttl = record.ttl.clamp(LEAST_TTL_S, MOST_TTL_S);
            let found = Record { ttl, data: record.rdata.clone().into_owned() };
            match found.as_address() {
                Some(address) if !may_have(&self.name, address) => outcome.forbidden.push(address),
                // The parser takes a record without data for one of its type.
                None if self.kind.is_address() => {}
                _ if outcome.records.len() < MAX_RECORDS => outcome.records.push(found),
                _ => {}
            }
        }
        Some(outcome)
    }

    /// The name, and every name that the answer leads to from it.
    fn aliases(&self, answers: &[ResourceRecord<'_>]) -> Vec<String> {
        let mut names = vec![self.name.clone()];
        while names.len() <= MAX_ALIASES {
            let next = answers.iter().find_map(|record| match &record.rdata {
                RData::CNAME(target) if self.kind.is_address() => {
                    let owner = record.name.to_string().to_ascii_lowercase();
                    let target = target.0.to_string().to_ascii_lowercase();
                    (Some(&owner) == names.last() && !names.contains(&target)).then_some(target)
                }
                _ => None,
            });
            match next {
                Some(next) => names.push(next),
                None => return names,
            }
        }
        // Too long a way: only what is at its start counts, which is an alias and nothing else.
        names.truncate(1);
        names
    }
}

/// True when a name may have this address. A name of the public tree that leads to a private address
/// would turn the app against whoever is near it.
fn may_have(name: &str, address: IpAddr) -> bool {
    let is_local = !name.contains('.') || LOCAL_DOMAINS.iter().any(|domain| is_in(name, domain));
    let (private, never) = match address {
        IpAddr::V4(address) => {
            let first = address.octets()[0];
            let shared =
                masked(IpAddr::V4(address), 10) == Some(IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)));
            (
                address.is_private() || address.is_link_local() || shared,
                first == 0 || address.is_loopback() || first >= 224,
            )
        }
        IpAddr::V6(address) => {
            // What stands for an IPv4 address is asked for as one.
            let embeds_v4 = address.to_ipv4_mapped().is_some()
                || address.to_bits() >> 32 == 0
                || address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]
                || address.segments()[0] == 0x2002;
            (
                address.is_unique_local() || address.is_unicast_link_local(),
                address.is_loopback() || address.is_multicast() || embeds_v4,
            )
        }
    };
    !is_of_apps(address) && !never && (is_local || !private)
}

/// The answer to an app.
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
