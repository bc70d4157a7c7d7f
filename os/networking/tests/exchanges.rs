//! Plays exchanges on networks as they are to the decisions of this crate: `exchanges/*.txt`, of which
//! `exchanges/README.md` says how they are written. Each is what a client has met somewhere, and what is to
//! come of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::tests_outside_test_module,
    reason = "a panic is a failed test"
)]

use holdfast_netlink::{Message, messages};
use holdfast_networking::advertised::Advertised;
use holdfast_networking::dhcp::{self, Lease};
use holdfast_networking::dhcp6;
use holdfast_networking::name_proxy::{Failure, Kind, Lookup, Outcome, Status, Surroundings};
use holdfast_networking::resolution::{self, Servers, Step};
use holdfast_networking::route;
use holdfast_networking::sntp::{self, Instant, Seconds};
use holdfast_sandbox::network::grants::Destination;
use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, RCODE, ResourceRecord};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Words of a line.
type Words<'a> = Vec<&'a str>;

/// One side of an exchange: ours. Everything that it says begins with `>` for what it sends and with `=` for
/// what comes of it.
trait Side {
    fn deadline(&self) -> Option<u64>;
    fn on_time(&mut self, now: u64) -> Vec<String>;
    /// Takes what the network does: a line, and the lines that stand indented beneath it.
    fn take(&mut self, line: &[&str], body: &[Words<'_>], now: u64) -> Vec<String>;
}

fn milliseconds(text: &str) -> u64 {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    whole.parse::<u64>().unwrap() * 1000 + format!("{part:0<3}").parse::<u64>().unwrap()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(" ") }
}

/// Bytes as a fixture writes them: addresses, seconds such as `3600s`, texts such as `"RATE"`, and else
/// hexadecimal digits.
fn bytes(words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in words {
        if let Ok(address) = word.parse::<IpAddr>() {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        } else if let Some(seconds) = word.strip_suffix('s') {
            bytes.extend(seconds.parse::<u32>().unwrap().to_be_bytes());
        } else {
            for place in (0..word.len()).step_by(2) {
                bytes.push(u8::from_str_radix(&word[place..place + 2], 16).unwrap());
            }
        }
    }
    bytes
}

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A DHCPv4 client.
struct Leases {
    client: dhcp::Client,
    asked: Vec<u8>,
    /// Who answers for an address that is looked for; nothing is said before it is known.
    holder: Option<Option<[u8; 6]>>,
    held: Option<Lease>,
}

impl Leases {
    fn new() -> Self {
        let client = dhcp::Client::new(HARDWARE, 7);
        Self { client, asked: Vec::new(), holder: None, held: None }
    }

    fn say(&mut self, events: Vec<dhcp::Event>, now: u64) -> Vec<String> {
        let mut said = Vec::new();
        for event in events {
            match event {
                dhcp::Event::Send(to, message) => {
                    said.push(sent(to, &message));
                    self.asked = message;
                }
                dhcp::Event::Probe(address) => said.push(format!("> arp who has {address}")),
                dhcp::Event::Look(_) => {
                    if let Some(holder) = self.holder {
                        let events = self.client.on_neighbour(holder, now);
                        said.extend(self.say(events, now));
                    }
                }
                dhcp::Event::Acquired(lease) => {
                    said.push(leased(&lease));
                    self.held = Some(lease);
                }
                dhcp::Event::Lost(why) => {
                    self.held = None;
                    said.push(format!("= lost: {why}"));
                }
                dhcp::Event::Rejected(why) => said.push(format!("= refused: {why}")),
                dhcp::Event::Ignored(why) => said.push(format!("= left out: {why}")),
                dhcp::Event::Silence => said.push("= silence".to_owned()),
                dhcp::Event::Taken { address, is_used, .. } => {
                    let used = if is_used { ", and used all the same" } else { "" };
                    said.push(format!("= {address} is taken{used}"));
                }
            }
        }
        said
    }
}

/// A message of ours in a line.
fn sent(to: Ipv4Addr, message: &[u8]) -> String {
    let address = |at: usize| Ipv4Addr::from_octets(*message[at..].first_chunk().unwrap());
    let (mut kind, mut requested, mut server, mut rest) = (0, None, None, &message[240..]);
    while let [code, length, more @ ..] = rest {
        let (value, behind) = more.split_at(usize::from(*length));
        match (*code, value.first_chunk()) {
            (53, _) => kind = value[0],
            (50, Some(octets)) => requested = Some(Ipv4Addr::from_octets(*octets)),
            (54, Some(octets)) => server = Some(Ipv4Addr::from_octets(*octets)),
            (255, _) => break,
            _ => {}
        }
        rest = behind;
    }
    match (kind, requested, server) {
        (1, ..) => "> discover".to_owned(),
        (3, Some(requested), Some(server)) => format!("> request {requested} of {server}"),
        (3, Some(requested), None) => format!("> confirm {requested}"),
        (3, None, None) if to.is_broadcast() => format!("> rebind {}", address(12)),
        (3, None, None) => format!("> renew {} with {to}", address(12)),
        (4, Some(requested), Some(server)) => format!("> decline {requested} of {server}"),
        other => panic!("{other:?}"),
    }
}

fn leased(lease: &Lease) -> String {
    let routes = lease.routes.iter().map(|route| {
        let to = format!("{}/{}", route.destination, route.length);
        route.gateway.map_or(format!("{to} on-link"), |gateway| format!("{to} by {gateway}"))
    });
    let seconds = lease.seconds.map_or("ever".to_owned(), |seconds| format!("{seconds} s"));
    format!(
        "= leased {}/{} for {seconds}, routes {}, names {}, time {}",
        lease.address,
        lease.prefix,
        list(routes),
        list(&lease.name_servers),
        list(&lease.time_servers)
    )
}

/// A server's message to a question: options in their field, and those in the fields that option 52 takes.
fn said_by_server(asked: &[u8], line: &[&str], body: &[Words<'_>]) -> Vec<u8> {
    let kind = match line[0] {
        "offer" => 2,
        "ack" => 5,
        "nak" => 6,
        other => panic!("a server does not say {other}"),
    };
    let mut message = vec![0u8; 236];
    message[..4].copy_from_slice(&[2, 1, 6, 0]);
    message[4..8].copy_from_slice(&asked[4..8]);
    message[28..44].copy_from_slice(&asked[28..44]);
    if let Some(address) = line.get(1) {
        message[16..20].copy_from_slice(&bytes(&[address]));
    }
    let mut fields = [vec![53, 1, kind], Vec::new(), Vec::new()];
    let mut is_whole = true;
    for words in body {
        match words.as_slice() {
            ["siaddr", address] => message[20..24].copy_from_slice(&bytes(&[address])),
            ["no", "end"] => is_whole = false,
            [field @ ("file" | "sname"), code, value @ ..] => {
                put_option(&mut fields[if *field == "file" { 1 } else { 2 }], code, value);
            }
            [code, value @ ..] => put_option(&mut fields[0], code, value),
            [] => {}
        }
    }
    for (field, place) in fields[1..].iter_mut().zip([108..236, 44..108]) {
        if !field.is_empty() {
            field.push(255);
            field.resize(place.len(), 0);
            message[place].copy_from_slice(field);
        }
    }
    message.extend([0x63, 0x82, 0x53, 0x63]);
    message.extend(&fields[0]);
    if is_whole {
        message.push(255);
    }
    message
}

/// An option with its length, unless the fixture says the length: `51:9`.
fn put_option(field: &mut Vec<u8>, code: &str, value: &[&str]) {
    let value = bytes(value);
    let (code, length) = code.split_once(':').unwrap_or((code, ""));
    field.push(code.parse().unwrap());
    field.push(length.parse().unwrap_or(u8::try_from(value.len()).unwrap()));
    field.extend(value);
}

impl Side for Leases {
    fn deadline(&self) -> Option<u64> {
        self.client.deadline()
    }

    fn on_time(&mut self, now: u64) -> Vec<String> {
        let events = self.client.on_time(now);
        self.say(events, now)
    }

    fn take(&mut self, line: &[&str], body: &[Words<'_>], now: u64) -> Vec<String> {
        match line {
            ["plugged", "in"] => self.client.link_up(now),
            ["unplugged"] => self.client.link_down(),
            ["arp", "silence"] => self.holder = Some(None),
            ["arp", "is", "at", holder] => {
                let octets: Vec<u8> =
                    holder.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
                self.holder = Some(Some(octets.try_into().unwrap()));
            }
            _ => {
                let message = said_by_server(&self.asked, line, body);
                let events = self.client.on_message(&message, now);
                return self.say(events, now);
            }
        }
        Vec::new()
    }
}

/// What routers and DHCPv6 servers say, as the network service takes it.
struct Routers {
    client: dhcp6::Client,
    asked: Vec<u8>,
    advertised: Advertised<Ipv6Addr>,
    informed: Advertised<Ipv6Addr>,
    named: String,
}

impl Routers {
    fn new() -> Self {
        Self {
            client: dhcp6::Client::new(HARDWARE, 7),
            asked: Vec::new(),
            advertised: Advertised::new(4),
            informed: Advertised::new(4),
            named: list::<String>([]),
        }
    }

    fn news(&mut self, now: u64) -> Vec<String> {
        let named = list(self.advertised.at(now).chain(self.informed.at(now)));
        let is_new = named != self.named;
        self.named.clone_from(&named);
        is_new.then(|| format!("= name servers {named}")).into_iter().collect()
    }
}

/// An option of a router advertisement, as the kernel hands it on.
fn heard_by_kernel(option: &[u8]) -> Option<route::Event> {
    let mut header = vec![10, 0];
    header.extend(u16::try_from(option.len()).unwrap().to_ne_bytes());
    header.extend(3u32.to_ne_bytes());
    header.extend([134, 0, 0, 0, 0, 0, 0, 0]);
    header.extend(option);
    let bytes = Message::new(68, 0, &header).finish(0);
    messages(&bytes).next().and_then(|message| route::read(&message))
}

impl Side for Routers {
    fn deadline(&self) -> Option<u64> {
        self.client.deadline()
    }

    fn on_time(&mut self, now: u64) -> Vec<String> {
        let Some(asked) = self.client.on_time(now) else {
            return Vec::new();
        };
        let elapsed = u16::from_be_bytes(*asked.last_chunk().unwrap());
        self.asked = asked;
        vec![format!("> information-request after {}.{:02} s", elapsed / 100, elapsed % 100)]
    }

    fn take(&mut self, line: &[&str], body: &[Words<'_>], now: u64) -> Vec<String> {
        match line {
            // Managed addresses, and other configuration (RFC 4861, 4.2).
            ["flags", flags] => {
                let mut message = vec![10, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                let number = u32::from(bytes(&[flags])[0]).to_ne_bytes();
                message[4..8].copy_from_slice(&3u32.to_ne_bytes());
                let message = Message::new(16, 0, &message)
                    .with_nested(12, |information| information.put(1, &number))
                    .finish(0);
                let event = messages(&message).next().and_then(|message| route::read(&message));
                let Some(route::Event::OtherConfiguration(3, wanted)) = event else {
                    panic!("{event:?}")
                };
                self.client.on_router(wanted, now);
                Vec::new()
            }
            ["option", option @ ..] => {
                if let Some(route::Event::NameServers(_, servers, seconds)) =
                    heard_by_kernel(&bytes(option))
                {
                    self.advertised.take(&servers, seconds, now);
                }
                self.news(now)
            }
            ["reply"] => {
                let mut message = vec![7];
                message.extend(&self.asked[1..4]);
                for words in body {
                    let value = bytes(&words[1..]);
                    message.extend(words[0].parse::<u16>().unwrap().to_be_bytes());
                    message.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
                    message.extend(value);
                }
                match self.client.on_message(&message, now) {
                    None => Vec::new(),
                    Some(Err(why)) => vec![format!("= refused: {why}")],
                    Some(Ok(answer)) => {
                        self.informed.replace(&answer.name_servers, answer.seconds, now);
                        self.news(now)
                    }
                }
            }
            ["look"] => self.news(now),
            other => panic!("a router does not say {other:?}"),
        }
    }
}

/// A question for a name.
#[derive(Default)]
struct Question {
    list: Vec<SocketAddr>,
    around: Surroundings,
    servers: Servers,
    asked: Option<(Lookup, resolution::Exchange)>,
    sent: Vec<(SocketAddr, Vec<u8>)>,
    /// The question that was sent last over TCP.
    over_tcp: Vec<u8>,
}

impl Question {
    fn say(&self, outcome: Option<Outcome>) -> String {
        let Some((_, exchange)) = &self.asked else { panic!("nothing was asked") };
        let Some(outcome) = outcome else {
            let failures = exchange.failures().map(|(s, why)| format!("{} {why}", s.ip()));
            let silence = if exchange.is_silence() { "silence: " } else { "" };
            return format!("= {silence}{}", failures.collect::<Vec<_>>().join(", "));
        };
        if outcome.status == Status::NoSuchName {
            return "= no such name".to_owned();
        }
        let found = list(outcome.records.iter().filter_map(|record| record.as_address()));
        let forbidden = outcome.forbidden.iter().map(|(a, why)| format!(", not {a}: {why}"));
        format!("= {found}{}", forbidden.collect::<String>())
    }
}

/// A name server's answer: a code, flags, and records beneath.
fn said_by_name_server(question: &[u8], words: &[&str], body: &[Words<'_>]) -> Vec<u8> {
    let mut reply = Packet::parse(question).unwrap().into_reply();
    *reply.opt_mut() = None;
    reply.set_flags(PacketFlag::RESPONSE);
    let (mut more, mut is_header) = (0, false);
    for word in words {
        match *word {
            "noerror" => {}
            "formerr" => *reply.rcode_mut() = RCODE::FormatError,
            "servfail" => *reply.rcode_mut() = RCODE::ServerFailure,
            "nxdomain" => *reply.rcode_mut() = RCODE::NameError,
            "notimp" => *reply.rcode_mut() = RCODE::NotImplemented,
            "refused" => *reply.rcode_mut() = RCODE::Refused,
            "truncated" => reply.set_flags(PacketFlag::TRUNCATION),
            "header-only" => is_header = true,
            "one-too-many" => more = 1,
            other => panic!("a name server does not say {other}"),
        }
    }
    for words in body {
        let [owner, ttl, kind, value] = words.as_slice() else { panic!("{words:?}") };
        let data = match *kind {
            "A" => RData::A(A { address: value.parse::<Ipv4Addr>().unwrap().to_bits() }),
            "AAAA" => RData::AAAA(AAAA { address: value.parse::<Ipv6Addr>().unwrap().to_bits() }),
            "CNAME" => RData::CNAME(CNAME(Name::new(value).unwrap().into_owned())),
            other => panic!("{other}"),
        };
        let owner = Name::new(owner).unwrap().into_owned();
        reply.answers.push(ResourceRecord::new(owner, CLASS::IN, ttl.parse().unwrap(), data));
    }
    let mut bytes = reply.build_bytes_vec_compressed().unwrap();
    bytes[11] += more;
    if is_header {
        bytes.truncate(12);
        bytes[4..].fill(0);
    }
    bytes
}

impl Side for Question {
    fn deadline(&self) -> Option<u64> {
        self.asked.as_ref().map(|(_, exchange)| exchange.deadline())
    }

    fn on_time(&mut self, now: u64) -> Vec<String> {
        let Some((lookup, exchange)) = &mut self.asked else {
            return Vec::new();
        };
        match exchange.next(lookup, &mut self.servers, 9, now) {
            Step::Wait => Vec::new(),
            Step::Ask(server, question) => {
                let how = if question[11] == 0 { "plainly" } else { "with EDNS" };
                self.sent.push((server, question));
                vec![format!("> ask {server} {how}")]
            }
            Step::Connect(server, framed) => {
                self.over_tcp = framed[2..].to_vec();
                vec![format!("> ask {server} over TCP")]
            }
            Step::Close => vec!["> close TCP".to_owned()],
            Step::Failed => {
                let said = self.say(None);
                self.asked = None;
                vec![said]
            }
        }
    }

    fn take(&mut self, line: &[&str], body: &[Words<'_>], now: u64) -> Vec<String> {
        match line {
            ["servers", servers @ ..] => {
                let server = |text: &&str| match text.split_once('%') {
                    None => SocketAddr::new(text.parse().unwrap(), resolution::PORT),
                    Some((address, link)) => {
                        let (address, link) = (address.parse().unwrap(), link.parse().unwrap());
                        std::net::SocketAddrV6::new(address, resolution::PORT, 0, link).into()
                    }
                };
                self.list = servers.iter().map(server).collect();
            }
            ["near", prefixes @ ..] => {
                for prefix in prefixes {
                    let (address, length) = prefix.split_once('/').unwrap();
                    let near = (address.parse().unwrap(), length.parse().unwrap());
                    self.around.near.push(near);
                }
            }
            ["app", "asks", name, kind] => {
                let kind = if *kind == "A" { Kind::A } else { Kind::Aaaa };
                let grant = Destination::parse(name).unwrap();
                let lookup = Lookup { grant, name: (*name).to_owned(), kind, on_link: false };
                let order = self.servers.in_order(&self.list, now);
                self.sent.clear();
                self.asked = Some((lookup, resolution::Exchange::new(1001, &order, now)));
            }
            [_, "TCP", words @ ..] => {
                let Some((lookup, exchange)) = &mut self.asked else { panic!("too late") };
                let servers = &mut self.servers;
                let outcome = match words {
                    ["refused"] => {
                        exchange.on_tcp_failure(Failure::TcpRefused, servers, now);
                        None
                    }
                    ["closed"] => {
                        exchange.on_tcp_failure(Failure::TcpClosed, servers, now);
                        None
                    }
                    _ => {
                        let bytes = said_by_name_server(&self.over_tcp, words, body);
                        exchange.on_tcp_answer(lookup, &bytes, &self.around, servers, now)
                    }
                };
                if outcome.is_some() {
                    let said = self.say(outcome);
                    self.asked = None;
                    return vec![said];
                }
            }
            [server, words @ ..] => {
                let from = |(to, _): &(SocketAddr, Vec<u8>)| to.ip().to_string() == *server;
                let place = self.sent.iter().rposition(from).expect("it was not asked");
                let bytes = said_by_name_server(&self.sent[place].1, words, body);
                let Some((lookup, exchange)) = &mut self.asked else { panic!("too late") };
                let answer = (place, bytes.as_slice());
                let servers = &mut self.servers;
                let outcome = exchange.on_answer(lookup, answer, &self.around, servers, now);
                if outcome.is_some() {
                    let said = self.say(outcome);
                    self.asked = None;
                    return vec![said];
                }
            }
            [] => {}
        }
        Vec::new()
    }
}

/// A client of time servers.
struct Time {
    client: sntp::Client,
    servers: Vec<IpAddr>,
    asked: bool,
}

const NONCE: [u8; 8] = *b"question";
const SHOWN_US: u64 = 1_790_000_000_000_000;

/// A time server's answer: `stratum 2 leap 0 delay 0 dispersion 10.2 ahead 3600`, or a kiss.
fn said_by_time_server(words: &[&str], now: u64) -> Vec<u8> {
    let (mut message, mut ahead_ms) = (vec![0u8; 48], 0);
    message[..2].copy_from_slice(&[0x24, 2]);
    message[24..32].copy_from_slice(&NONCE);
    let short = |text: &str| u32::try_from(milliseconds(text) * 65_536 / 1000).unwrap();
    for pair in words.as_chunks::<2>().0 {
        match *pair {
            ["stratum", number] => message[1] = number.parse().unwrap(),
            ["leap", number] => message[0] |= number.parse::<u8>().unwrap() << 6,
            ["version", number] => {
                message[0] = message[0] & 0xc7 | number.parse::<u8>().unwrap() << 3;
            }
            ["delay", seconds] => message[4..8].copy_from_slice(&short(seconds).to_be_bytes()),
            ["dispersion", seconds] => {
                message[8..12].copy_from_slice(&short(seconds).to_be_bytes());
            }
            ["ahead", seconds] => ahead_ms = milliseconds(seconds),
            ["kiss", code] => {
                message[1] = 0;
                message[12..16].copy_from_slice(code.as_bytes());
            }
            other => panic!("a time server does not say {other:?}"),
        }
    }
    let ms = SHOWN_US / 1000 + now + ahead_ms;
    let seconds = ms / 1000 + 2_208_988_800;
    let stamp = ((seconds << 32) | (((ms % 1000) << 32) / 1000)).to_be_bytes();
    message[32..40].copy_from_slice(&stamp);
    message[40..].copy_from_slice(&stamp);
    message
}

impl Side for Time {
    fn deadline(&self) -> Option<u64> {
        (!self.servers.is_empty()).then(|| self.client.deadline())
    }

    fn on_time(&mut self, now: u64) -> Vec<String> {
        let mut said = Vec::new();
        if self.client.is_due(now) {
            let may_ask = |server: &&IpAddr| self.client.may_ask(**server, now);
            let asked: Vec<_> = self.servers.iter().filter(may_ask).map(|s| (*s, NONCE)).collect();
            self.client.ask(&asked, now * 1000);
            said.push(format!("> ask {}", list(asked.iter().map(|(server, _)| server))));
            self.asked = true;
        }
        if self.asked
            && let Some(outcome) = self.client.on_time(now)
        {
            self.asked = false;
            for heard in self.client.heard() {
                said.push(match heard.reason {
                    Some(reason) => format!("= {} {reason}", heard.server),
                    None => format!("= no answer from {}", heard.server),
                });
            }
            said.push(match outcome {
                sntp::Outcome::Agreed { behind_us, doubt_us, agree, answered } => {
                    let behind = (behind_us + 500_000).div_euclid(1_000_000);
                    let doubt = Seconds(doubt_us.unsigned_abs());
                    format!(
                        "= {agree} of {answered} agree: behind {behind} s, give or take {doubt} s"
                    )
                }
                sntp::Outcome::Disagree(answered) => format!("= {answered} do not agree"),
                sntp::Outcome::Nobody => "= nobody says the time".to_owned(),
            });
        }
        said
    }

    fn take(&mut self, line: &[&str], _: &[Words<'_>], now: u64) -> Vec<String> {
        match line {
            ["servers", servers @ ..] => {
                self.servers = servers.iter().map(|server| server.parse().unwrap()).collect();
                Vec::new()
            }
            [server, words @ ..] => {
                let shown_us = SHOWN_US + now * 1000;
                let at = Instant { monotonic_us: now * 1000, shown_us };
                let message = said_by_time_server(words, now);
                self.client.on_message(server.parse().unwrap(), &message, at);
                self.on_time(now)
            }
            [] => Vec::new(),
        }
    }
}

/// Plays one exchange to its end.
fn play(name: &str, text: &str) {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).peekable();
    let (mut side, mut now, mut said): (Option<Box<dyn Side>>, u64, VecDeque<String>) =
        (None, 0, VecDeque::new());
    while let Some(line) = lines.next() {
        let words: Words<'_> = line.split_whitespace().collect();
        let mut body: Vec<Words<'_>> = Vec::new();
        while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
            body.push(more.split_whitespace().collect());
        }
        match (words.as_slice(), &mut side) {
            ([], _) => {}
            (["client", kind], side) => {
                *side = Some(match *kind {
                    "dhcp" => Box::new(Leases::new()),
                    "router" => Box::new(Routers::new()),
                    "names" => Box::new(Question::default()),
                    "time" => {
                        let client = sntp::Client::new();
                        Box::new(Time { client, servers: Vec::new(), asked: false })
                    }
                    other => panic!("{name}: there is no client of {other}"),
                });
            }
            (["at", seconds], Some(side)) => {
                let end = milliseconds(seconds);
                while let Some(at) = side.deadline().filter(|at| *at <= end) {
                    now = now.max(at);
                    said.extend(side.on_time(now));
                }
                now = end;
            }
            (["<", line @ ..], Some(side)) => said.extend(side.take(line, &body, now)),
            (["nothing"], Some(_)) => assert!(said.is_empty(), "{name}: {said:?}"),
            ([">" | "=", ..], Some(side)) => {
                for _ in 0..200 {
                    let at = side.deadline().filter(|_| said.is_empty());
                    let Some(at) = at else {
                        break;
                    };
                    now = now.max(at);
                    said.extend(side.on_time(now));
                }
                let found = said.pop_front();
                assert_eq!(found.as_deref(), Some(line), "{name}, at {now} ms, before {said:?}");
            }
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
    assert!(said.is_empty(), "{name}: nobody expects {said:?} at the end");
}

#[test]
fn exchanges_on_networks_as_they_are_end_as_they_should() {
    // Cargo runs tests in the directory of their package.
    let directory = Path::new("tests/exchanges");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy();
        assert!(text.starts_with("# ") && text.contains("\n= "), "{name} says what is to come");
        play(&name, &text);
    }
    assert!(files.len() >= 40, "{}", files.len());
}
