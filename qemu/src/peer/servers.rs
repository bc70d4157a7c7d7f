//! Servers of the network that the guest meets: leases, time and names, and their lies and quirks.

use super::answer::back;
use super::world::{LeaseForm, Manner, ROUTER, ROUTER_V6, TimeServer, World};
use crate::packet::{Frame, Packet, Segment, UDP};
use simple_dns::rdata::{A, AAAA, CNAME, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn dhcp(world: &World, segment: &Segment) -> Vec<Packet> {
    const OPTIONS: usize = 240;
    const FILE: usize = 108;
    let server = &world.dhcp;
    let asked = &segment.payload;
    let option = |wanted: u8| -> Option<&[u8]> {
        let mut rest = asked.get(OPTIONS..)?;
        while let [kind, length, more @ ..] = rest {
            let value = more.get(..usize::from(*length))?;
            if *kind == wanted {
                return Some(value);
            }
            rest = more.get(usize::from(*length)..)?;
        }
        None
    };
    let (Some(kind), true) = (option(53).and_then(|o| o.first()), server.serves) else {
        return Vec::new();
    };
    let requested = option(50).map(<[u8]>::to_vec);
    let current = asked.get(12..16).unwrap_or_default().to_vec();
    let wanted = requested.unwrap_or(current);
    let other = option(54).is_some_and(|id| id != ROUTER.octets());
    // Whoever renews has the address already.
    let renews = *kind == 3 && current_is_set(asked);
    let kind = match kind {
        1 => 2,
        3 if other => return Vec::new(),
        3 if wanted != server.address.octets() => 6,
        3 => 5,
        _ => return Vec::new(),
    };
    let mut body = vec![2, 1, 6, 0];
    body.extend(asked.get(4..8).unwrap_or_default());
    body.extend([0, 0, 0x80, 0, 0, 0, 0, 0]);
    body.extend(if kind == 6 { [0; 4] } else { server.address.octets() });
    body.extend(ROUTER.octets());
    body.extend([0; 4]);
    body.extend(asked.get(28..44).unwrap_or_default());
    body.extend([0; 192]);
    body.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind, 54, 4]);
    body.extend(ROUTER.octets());
    if kind != 6 {
        body.extend([51, 4]);
        body.extend(server.seconds.to_be_bytes());
        match server.form {
            LeaseForm::BareRenewals if renews => {}
            LeaseForm::Whole | LeaseForm::BareRenewals => {
                body.extend([1, 4, 255, 255, 255, 0, 3, 4]);
                body.extend(ROUTER.octets());
                put_servers(world, &mut body);
            }
            LeaseForm::HostPrefix => {
                body.extend([1, 4, 255, 255, 255, 255, 52, 1, 1]);
                put_servers(world, &mut body);
                // The router straight on the link, and everybody through it.
                let mut routes = vec![121, 14, 32];
                routes.extend(ROUTER.octets());
                routes.extend([0, 0, 0, 0, 0]);
                routes.extend(ROUTER.octets());
                routes.push(255);
                for (place, byte) in body.iter_mut().skip(FILE).zip(routes) {
                    *place = byte;
                }
            }
        }
    }
    body.push(255);
    if let Some(lie) = server.lie {
        lie(&mut body);
    }
    let segment = Segment {
        source: 67,
        destination: 68,
        sequence: 0,
        acknowledgement: 0,
        flags: 0,
        payload: body,
    };
    let packet = Packet::with(ROUTER.into(), Ipv4Addr::BROADCAST.into(), UDP, &segment);
    vec![packet; server.copies]
}

fn current_is_set(asked: &[u8]) -> bool {
    asked.get(12..16).is_some_and(|address| address != [0; 4])
}

/// Options for name servers and time servers.
fn put_servers(world: &World, body: &mut Vec<u8>) {
    let names = world.name_servers.iter().map(|(server, _)| *server);
    let time = world.time.iter().map(|server| server.address);
    for (code, servers) in [(6, names.collect::<Vec<_>>()), (42, time.collect())] {
        if !servers.is_empty() {
            body.extend([code, u8::try_from(servers.len().saturating_mul(4)).unwrap_or(0)]);
            body.extend(servers.iter().flat_map(Ipv4Addr::octets));
        }
    }
}

/// A time server that is what it says of itself, but for the time.
pub(super) fn time(world: &World, packet: &Packet, segment: &Segment) -> Option<Packet> {
    const SECONDS_FROM_1900_TO_1970: i64 = 2_208_988_800;
    let asked = |server: &&TimeServer| IpAddr::V4(server.address) == packet.destination;
    let server = world.time.iter().find(asked)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let ms = i64::try_from(now.as_millis()).ok()?.checked_add(server.ahead_ms)?;
    let seconds = ms.div_euclid(1000).checked_add(SECONDS_FROM_1900_TO_1970)?;
    let fraction = ms.rem_euclid(1000).checked_shl(32)?.checked_div(1000)?;
    // The counter of seconds has 32 bits, whatever the year.
    let stamp = (seconds.checked_shl(32)? | fraction).to_be_bytes();
    let mut payload = if server.knows { vec![0x24, 2, 6, 0xec] } else { vec![0xe4, 16, 6, 0xec] };
    payload.extend([0, 0, 1, 0]);
    // In seconds, of 16 bits before the point and as many behind it.
    let dispersion = u64::from(server.dispersion_ms).checked_shl(16)?.checked_div(1000)?;
    payload.extend(u32::try_from(dispersion.max(256)).ok()?.to_be_bytes());
    payload.extend([127, 0, 0, 1]);
    payload.extend(stamp);
    payload.extend(segment.payload.get(40..48)?);
    payload.extend(stamp);
    payload.extend(stamp);
    Some(back(packet, segment, payload))
}

/// A DHCPv6 server that knows name servers and nothing else.
pub(super) fn information(world: &World, frame: &Frame, segment: &Segment) -> Option<Packet> {
    let advertised = world.router.as_ref()?;
    let [11, a, b, c, ..] = segment.payload.as_slice() else {
        return None;
    };
    let mut payload = vec![7, *a, *b, *c, 0, 23];
    let length = advertised.by_dhcp.len().checked_mul(16)?;
    payload.extend(u16::try_from(length).ok()?.to_be_bytes());
    for server in &advertised.by_dhcp {
        payload.extend(server.octets());
    }
    let asker = frame.packet()?.source;
    let answer = Segment {
        source: 547,
        destination: 546,
        sequence: 0,
        acknowledgement: 0,
        flags: 0,
        payload,
    };
    Some(Packet::with(ROUTER_V6.into(), asker, UDP, &answer))
}

/// How whoever has this address answers questions for names.
pub(super) fn manner(world: &World, address: IpAddr) -> Manner {
    let server = world.name_servers.iter().find(|(server, _)| address == *server);
    server.map_or(Manner::Answers, |(_, manner)| *manner)
}

/// Answers a question for a name by UDP, from whichever server it was sent to.
pub(super) fn name(world: &World, packet: &Packet, segment: &Segment) -> Option<Packet> {
    let question = &segment.payload;
    let has_edns = simple_dns::Packet::parse(question).ok()?.opt().is_some();
    let payload = match manner(world, packet.destination) {
        Manner::Silent => return None,
        Manner::Refuses => error(question, 5, true)?,
        Manner::RefusesEdns if has_edns => error(question, 1, false)?,
        Manner::Truncates | Manner::TruncatesWithoutTcp => {
            let mut bytes = error(question, 0, true)?;
            // TC (RFC 1035, 4.1.1).
            *bytes.get_mut(2)? |= 0x02;
            bytes
        }
        Manner::RefusesEdns | Manner::Answers => answer(world, question)?,
    };
    Some(back(packet, segment, payload))
}

/// The answer to a question over TCP that came in one piece, behind its length as the question is.
pub(super) fn name_over_tcp(world: &World, payload: &[u8]) -> Option<Vec<u8>> {
    let (length, question) = payload.split_first_chunk()?;
    if usize::from(u16::from_be_bytes(*length)) != question.len() {
        return None;
    }
    let answer = answer(world, question)?;
    let length = u16::try_from(answer.len()).ok()?;
    Some([&length.to_be_bytes()[..], &answer].concat())
}

/// What a server says that knows every name of the world.
fn answer(world: &World, question: &[u8]) -> Option<Vec<u8>> {
    let asked = simple_dns::Packet::parse(question).ok()?;
    let question = asked.questions.first()?.clone();
    let written = question.qname.to_string();
    let written = written.to_ascii_lowercase();
    let known = world.names.iter().find(|(name, _)| match name.strip_prefix("*.") {
        Some(domain) => written.ends_with(domain),
        None => *name == written,
    });
    let found = known.map(|(_, answer)| answer);
    let instances = instances(world, &written, question.qtype);
    let mut reply = asked.clone().into_reply();
    reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE);
    reply.questions = vec![question.clone()];
    match found {
        None if !instances.is_empty() => {
            let owner = question.qname.clone();
            let record = |data| ResourceRecord::new(owner.clone(), CLASS::IN, 120, data);
            reply.answers = instances.into_iter().map(record).collect();
        }
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(answer) => {
            let mut owner = question.qname.clone();
            for alias in &answer.aliases {
                let target = Name::new(alias).ok()?.into_owned();
                let data = RData::CNAME(CNAME(target.clone()));
                reply.answers.push(ResourceRecord::new(owner, CLASS::IN, answer.ttl, data));
                owner = target;
            }
            for address in &answer.addresses {
                let data = match (question.qtype, address) {
                    (QTYPE::TYPE(TYPE::A), IpAddr::V4(found)) => {
                        RData::A(A { address: found.to_bits() })
                    }
                    (QTYPE::TYPE(TYPE::AAAA), IpAddr::V6(found)) => {
                        RData::AAAA(AAAA { address: found.to_bits() })
                    }
                    _ => continue,
                };
                let record = ResourceRecord::new(owner.clone(), CLASS::IN, answer.ttl, data);
                reply.answers.push(record);
            }
            if !matches!(question.qtype, QTYPE::TYPE(TYPE::A | TYPE::AAAA)) {
                let data = RData::TXT(TXT::new().with_string("smuggled").ok()?);
                let record = ResourceRecord::new(owner, CLASS::IN, answer.ttl, data);
                reply.answers.push(record);
            }
        }
    }
    reply.build_bytes_vec().ok()
}

/// What is known of instances of services.
fn instances(world: &World, asked: &str, kind: QTYPE) -> Vec<RData<'static>> {
    let of_name = |name: &str| Name::new(name).ok().map(Name::into_owned);
    let found = world.services.iter().filter_map(|instance| match kind {
        QTYPE::TYPE(TYPE::PTR) if instance.service == asked => {
            Some(RData::PTR(PTR(of_name(&instance.name)?)))
        }
        QTYPE::TYPE(TYPE::SRV) if instance.name.eq_ignore_ascii_case(asked) => {
            let target = of_name(&instance.host)?;
            Some(RData::SRV(SRV { priority: 0, weight: 0, port: instance.port, target }))
        }
        _ => None,
    });
    found.collect()
}

/// An error, or an answer with nothing in it: the header of a question alone, or with the question.
fn error(question: &[u8], code: u8, repeats: bool) -> Option<Vec<u8>> {
    let mut asked = simple_dns::Packet::parse(question).ok()?;
    *asked.opt_mut() = None;
    let mut bytes = asked.build_bytes_vec().ok()?;
    if !repeats {
        bytes.truncate(12);
        bytes.get_mut(4..)?.fill(0);
    }
    bytes.get_mut(2..4)?.copy_from_slice(&[0x81, 0x80 | code]);
    Some(bytes)
}
