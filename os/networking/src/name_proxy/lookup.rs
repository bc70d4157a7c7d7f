//! Lookups of names for apps: the question to servers, and which addresses of an answer the name may have.

use super::record::{Kind, LEAST_TTL_S, MAX_RECORDS, MOST_TTL_S, Record, Status, is_in};
use holdfast_sandbox::network::address::is_of_apps;
use holdfast_sandbox::network::grants::{Destination, masked};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest chain of aliases (CNAME) that is followed.
pub const MAX_ALIASES: usize = 16;
/// Longest answer over TCP in bytes. That is some 250 addresses, of which [`MAX_RECORDS`] are used.
pub const MAX_TCP_ANSWER_BYTES: usize = 4096;
/// Domains outside the public tree, whose names may have private addresses.
const LOCAL_DOMAINS: [&str; 4] = ["local", "internal", "home.arpa", "lan"];

/// A name that is looked up for an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The granted destination that allows the lookup.
    pub grant: Destination,
    /// The name, in lower case.
    pub name: String,
    /// The record type.
    pub kind: Kind,
    /// True for a name of the local link (RFC 6762), for which no name server is asked.
    pub on_link: bool,
}

/// Reason for which a server's answer is of no use. The next server may say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer came.
    Silent,
    /// The server cannot be reached.
    Unreachable,
    /// FORMERR: the server does not understand the question.
    Format,
    /// SERVFAIL.
    Server,
    /// NOTIMP.
    NotImplemented,
    /// REFUSED.
    Refused,
    /// BADVERS: the server knows another version of EDNS only.
    Version,
    /// The answer has another error code.
    Other,
    /// The answer is no DNS message.
    Malformed,
    /// The answer is truncated, and holds no record of the question.
    Truncated,
    /// The answer has a chain of more than [`MAX_ALIASES`] aliases.
    LongChain,
    /// The answer is truncated, and the question was given no TCP connection in time.
    NoConnection,
    /// The answer is truncated, and the server refuses TCP connections.
    TcpRefused,
    /// The answer is truncated, and the server cannot be reached over TCP.
    TcpUnreachable,
    /// The answer is truncated, and no whole one has come over TCP in time.
    TcpSilent,
    /// The answer is truncated, and the server has closed the TCP connection before a whole one came.
    TcpClosed,
    /// The length in front of the answer over TCP is above [`MAX_TCP_ANSWER_BYTES`].
    TooLong,
    /// The message over TCP has another id or another question.
    OtherQuestion,
}

impl Failure {
    /// Returns the failure of a TCP connection to a server for which the kernel has an error of this kind.
    #[must_use]
    pub fn of_connection(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::ConnectionRefused => Self::TcpRefused,
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => Self::TcpClosed,
            ErrorKind::TimedOut => Self::TcpSilent,
            _ => Self::TcpUnreachable,
        }
    }

    /// True where the question may do better without EDNS (RFC 6891, 6.2.2 and 7): such servers and
    /// what stands before them refuse it in each of these ways.
    #[must_use]
    pub fn may_be_of_edns(self) -> bool {
        matches!(self, Self::Format | Self::NotImplemented | Self::Version)
    }

    /// True where the server is likely to do the same to a question for another name.
    #[must_use]
    pub fn is_for_every_name(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::TcpRefused
                | Self::TcpUnreachable
                | Self::TcpSilent
                | Self::TcpClosed
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Silent => "does not answer",
            Self::Unreachable => "cannot be reached",
            Self::Format => "does not understand the question (FORMERR)",
            Self::Server => "has failed (SERVFAIL)",
            Self::NotImplemented => "does not do this (NOTIMP)",
            Self::Refused => "refuses to answer (REFUSED)",
            Self::Version => "wants another version of EDNS (BADVERS)",
            Self::Other => "answers with an error",
            Self::Malformed => "answers with what is no DNS message",
            Self::Truncated => "answers with too much for a datagram",
            Self::LongChain => "answers with more than 16 aliases",
            Self::NoConnection => {
                "answers with too much for a datagram, while all TCP connections are taken"
            }
            Self::TcpRefused => "answers with too much for a datagram but refuses TCP",
            Self::TcpUnreachable => {
                "answers with too much for a datagram but cannot be reached over TCP"
            }
            Self::TcpSilent => "answers with too much for a datagram but not in time over TCP",
            Self::TcpClosed => {
                "answers with too much for a datagram but closes the TCP connection early"
            }
            Self::TooLong => "answers over TCP with more than 4096 bytes",
            Self::OtherQuestion => "answers over TCP to another question",
        })
    }
}

/// The links and NAT64 prefixes of the device, which decide where names may lead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Prefixes of one link, the one that an answer of the local link came in by, or of all links of the device.
    pub near: Vec<(IpAddr, u8)>,
    /// NAT64 prefixes of the network (RFC 6052), beside the well-known one.
    pub translated: Vec<(Ipv6Addr, u8)>,
}

impl Surroundings {
    /// True for an address on the link, or on one of them.
    #[must_use]
    pub fn is_near(&self, address: IpAddr) -> bool {
        self.near.iter().any(|(prefix, length)| {
            prefix.is_ipv4() == address.is_ipv4()
                && masked(address, *length) == masked(*prefix, *length)
        })
    }

    /// Returns the IPv4 address that a NAT64 translator makes of this one (RFC 6052, 2.2).
    fn translated(&self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        const WELL_KNOWN: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
        let is_in = |(prefix, length): &&(Ipv6Addr, u8)| {
            masked(IpAddr::V6(address), *length) == masked(IpAddr::V6(*prefix), *length)
        };
        let (_, length) = [WELL_KNOWN].iter().chain(&self.translated).find(is_in)?;
        let octets = address.octets();
        let start = usize::from(length / 8);
        // The ninth byte is left out, wherever the address begins.
        let mut bytes = octets.iter().enumerate().skip(start).filter(|(place, _)| *place != 8);
        let mut next = || bytes.next().map(|(_, byte)| *byte);
        Some(Ipv4Addr::new(next()?, next()?, next()?, next()?))
    }
}

/// The outcome of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The status that the app is told.
    pub status: Status,
    /// Records that the app is given.
    pub records: Vec<Record>,
    /// Addresses that such a name must not have, each with the reason.
    pub forbidden: Vec<(IpAddr, &'static str)>,
}

impl Outcome {
    /// Returns the outcome of a lookup that no server answered.
    #[must_use]
    pub fn failed() -> Self {
        Self { status: Status::Failed, records: Vec::new(), forbidden: Vec::new() }
    }

    /// Adds the outcome that another host's answer has.
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
    /// Encodes the question to send, under an id that is hard to guess; with EDNS, where the server takes it.
    #[must_use]
    pub fn question(&self, id: u16, edns: bool) -> Option<Vec<u8>> {
        let mut packet = Packet::new_query(id);
        if !self.on_link {
            packet.set_flags(PacketFlag::RECURSION_DESIRED);
        }
        if !self.on_link && edns {
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
    ///
    /// # Errors
    /// The inner result has the reason for which the answer is of no use.
    #[must_use]
    pub fn read_answer(
        &self,
        id: u16,
        bytes: &[u8],
        surroundings: &Surroundings,
    ) -> Option<Result<Outcome, Failure>> {
        const RESPONSE: u8 = 0x80;
        let [high, low, flags, ..] = *bytes else {
            return None;
        };
        if u16::from_be_bytes([high, low]) != id || flags & RESPONSE == 0 {
            return None;
        }
        let without_rest;
        let packet = match Packet::parse(bytes) {
            Ok(packet) => packet,
            // What stands behind the answers is not needed: there are boxes on the way that take records out
            // and leave the number of them as it was.
            Err(_) => {
                without_rest = without_rest_of(bytes)?;
                match Packet::parse(&without_rest) {
                    Ok(packet) => packet,
                    Err(_) => return Some(Err(Failure::Malformed)),
                }
            }
        };
        let failure = match packet.rcode() {
            RCODE::NoError | RCODE::NameError => None,
            RCODE::FormatError => Some(Failure::Format),
            RCODE::ServerFailure => Some(Failure::Server),
            RCODE::NotImplemented => Some(Failure::NotImplemented),
            RCODE::Refused => Some(Failure::Refused),
            RCODE::BADVERS => Some(Failure::Version),
            _ => Some(Failure::Other),
        };
        let asked = |question: &Question<'_>| {
            question.qname.to_string().eq_ignore_ascii_case(&self.name)
                && Kind::of(question.qtype) == self.kind
        };
        match packet.questions.as_slice() {
            [question] if asked(question) => {}
            // A server that understands nothing may repeat nothing.
            [] if self.on_link || failure.is_some() => {}
            _ => return None,
        }
        if let Some(failure) = failure {
            return Some(Err(failure));
        }
        let is_known = packet.rcode() == RCODE::NoError;
        let status = if is_known { Status::Known } else { Status::NoSuchName };
        let mut outcome = Outcome { status, records: Vec::new(), forbidden: Vec::new() };
        if !is_known {
            return Some(Ok(outcome));
        }
        let Some(names) = self.aliases(&packet.answers) else {
            return Some(Err(Failure::LongChain));
        };
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
                // Of no use to an app, which has no such address of its own.
                Some(IpAddr::V6(address)) if self.on_link && address.is_unicast_link_local() => {}
                Some(address) => match self.may_have(address, surroundings) {
                    Ok(()) if outcome.records.len() < MAX_RECORDS => outcome.records.push(found),
                    Ok(()) => {}
                    Err(why) => outcome.forbidden.push((address, why)),
                },
                // The parser takes a record without data for one of its type.
                None if self.kind.is_address() => {}
                None if outcome.records.len() < MAX_RECORDS => outcome.records.push(found),
                None => {}
            }
        }
        // Some of a name's addresses are as good as all of them.
        let is_empty = outcome.records.is_empty() && outcome.forbidden.is_empty();
        if packet.has_flags(PacketFlag::TRUNCATION) && is_empty {
            return Some(Err(Failure::Truncated));
        }
        Some(Ok(outcome))
    }

    /// Returns the name and every alias that the answer leads to from it; `None` where they are too many.
    fn aliases(&self, answers: &[ResourceRecord<'_>]) -> Option<Vec<String>> {
        let mut names = vec![self.name.clone()];
        loop {
            let next = answers.iter().find_map(|record| match &record.rdata {
                RData::CNAME(target) if self.kind.is_address() => {
                    let owner = record.name.to_string().to_ascii_lowercase();
                    let target = target.0.to_string().to_ascii_lowercase();
                    (Some(&owner) == names.last() && !names.contains(&target)).then_some(target)
                }
                _ => None,
            });
            match next {
                None => return Some(names),
                Some(_) if names.len() > MAX_ALIASES => return None,
                Some(next) => names.push(next),
            }
        }
    }

    /// Decides whether the name may have this address, with the reason where it may not. A name of the public tree
    /// that leads to somebody near would turn the app against its neighbours; one of the local link that leads
    /// elsewhere would let a neighbour open the way out.
    pub(super) fn may_have(
        &self,
        address: IpAddr,
        surroundings: &Surroundings,
    ) -> Result<(), &'static str> {
        if let IpAddr::V6(six) = address
            && let Some(four) = surroundings.translated(six)
            && !self.on_link
        {
            return self.may_have(IpAddr::V4(four), surroundings);
        }
        let (is_private, is_nobody) = match address {
            IpAddr::V4(address) => {
                let first = address.octets()[0];
                let shared = Ipv4Addr::new(100, 64, 0, 0);
                let shared = masked(IpAddr::V4(address), 10) == Some(IpAddr::V4(shared));
                (
                    address.is_private() || address.is_link_local() || shared,
                    first == 0 || address.is_loopback() || first >= 224,
                )
            }
            IpAddr::V6(address) => {
                // What stands for an IPv4 address is asked for as one, but for a translator's.
                let embeds_v4 = address.to_ipv4_mapped().is_some()
                    || address.to_bits() >> 32 == 0
                    || address.segments()[0] == 0x2002;
                // RFC 8215, for translators that reach what is private; RFC 3879.
                let of_translators = address.segments()[..3] == [0x64, 0xff9b, 1];
                let of_site = address.segments()[0] & 0xffc0 == 0xfec0;
                let private = address.is_unique_local() || address.is_unicast_link_local();
                (
                    private || of_translators || of_site,
                    address.is_loopback() || address.is_multicast() || embeds_v4,
                )
            }
        };
        let is_near = surroundings.is_near(address);
        // Whoever has a public IPv4 address beside the device is a server more often than a neighbour; IPv6 gives one
        // to all.
        let is_neighbour = is_near && address.is_ipv6();
        let is_local = !self.name.contains('.')
            || LOCAL_DOMAINS.iter().any(|domain| is_in(&self.name, domain));
        match () {
            () if is_of_apps(address) || is_nobody => Err("no host has this address"),
            () if self.on_link && !is_near => Err("the address is not on the link that says so"),
            () if is_local || self.on_link => Ok(()),
            () if is_private => Err("the address is not public"),
            () if is_neighbour => Err("the address is a neighbour's"),
            () => Ok(()),
        }
    }
}

/// Returns the message without what stands behind its answers.
fn without_rest_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut without = bytes.to_vec();
    // The numbers of name servers and of additional records (RFC 1035, 4.1.1).
    without.get_mut(8..12)?.fill(0);
    Some(without)
}
