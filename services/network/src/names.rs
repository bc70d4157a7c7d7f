//! Name proxies (DNS proxies): one for each app, at the system's end of its veth pair.

mod connection;

use self::connection::Connection;
use crate::interfaces::Interfaces;
use crate::log::{log, shown};
use crate::reports::{Reports, Said};
use holdfast_linux::entropy;
use holdfast_linux::poll::Poll;
use holdfast_linux::udp::UdpSocket;
use holdfast_networking::firewall;
use holdfast_networking::name_proxy::{
    self, Asked, Decision, Failure, Host, Kind, Lookup, Outcome, Status, Surroundings,
};
use holdfast_networking::netfilter::{Element, Version};
use holdfast_networking::resolution::{self, Exchange, Servers, Step};
use holdfast_sandbox::network::Destination;
use holdfast_sandbox::network::NetworkedApp;
use holdfast_types::chain;
use holdfast_types::event::network::{
    DNS_ANSWER_DENIED, FIREWALL_SET_UPDATE_FAILED, NAME_DENIED, NAME_RESOLUTION_FAILED,
};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Most questions of one app that wait for an answer at once.
const MAX_PENDING: usize = 16;
/// Questions of one app in a second, in the long run; the burst is as many again.
const QUESTIONS_PER_SECOND: u64 = 20;
/// Time for the answers of multicast DNS, in milliseconds.
const GATHER_MS: u64 = 1_000;
/// Number of times that a question is sent by multicast DNS.
const TRIES: u32 = 3;
/// Most addresses of one app whose names are remembered, and most hosts of its services.
const MAX_REMEMBERED: usize = 128;
const DATAGRAMS_PER_TURN: usize = 16;

/// The name proxy of one app.
#[derive(Debug)]
struct Proxy {
    uid: u32,
    socket: UdpSocket,
    /// Questions that the app may ask now, in thousandths, and the time of that count in milliseconds.
    credit: (u64, u64),
    /// Hosts on which instances of the app's services were found.
    hosts: VecDeque<Host>,
    /// The granted name that each address belonged to last.
    addresses: VecDeque<(IpAddr, String)>,
}

/// The origin of a question.
#[derive(Debug, PartialEq, Eq)]
enum Asker {
    /// An app: its uid, its question, and the address that the question came from.
    App(u32, Asked, SocketAddr),
    /// This service itself.
    Service,
}

impl Asker {
    /// Returns the uid of the app, or 0 for this service.
    fn uid(&self) -> u32 {
        match self {
            Self::App(uid, ..) => *uid,
            Self::Service => 0,
        }
    }

    fn is_app(&self, uid: u32) -> bool {
        matches!(self, Self::App(of, ..) if *of == uid)
    }
}

/// A question that waits for an answer of a server or neighbour.
#[derive(Debug)]
struct Pending {
    asker: Asker,
    lookup: Lookup,
    way: Way,
}

/// The servers or neighbours that a question was sent to.
#[derive(Debug)]
enum Way {
    /// Multicast DNS: id of the question, how often it was sent, when its answers are due, and the outcome where
    /// several hosts may answer.
    Multicast { id: u16, tries: u32, deadline: u64, gathered: Option<Outcome> },
    /// Name servers: for each question that was sent by UDP, its server and the socket that awaits its answer, and the
    /// one over TCP.
    Servers {
        exchange: Exchange,
        sent: Vec<(SocketAddr, Option<UdpSocket>)>,
        connection: Option<Connection>,
    },
}

/// The progress of a question.
#[derive(Debug)]
enum Progress {
    /// The question waits for an answer.
    Waits,
    /// The question has this outcome.
    Known(Outcome),
    /// The question has no answer of use, for this reason.
    Failed(String),
}

/// The name proxies of all apps, and the questions of the device itself.
#[derive(Debug)]
pub(crate) struct Names {
    proxies: Vec<Proxy>,
    pending: Vec<Pending>,
    /// Experience with name servers, which all questions share.
    servers: Servers,
    /// Addresses of names that this service itself has asked for.
    resolved: Vec<(String, Vec<IpAddr>)>,
    said: Said,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self {
            proxies: Vec::new(),
            pending: Vec::new(),
            servers: Servers::default(),
            resolved: Vec::new(),
            said: Said::default(),
        }
    }

    /// Asks for a name that the device itself needs. [`take_resolved`](Self::take_resolved) returns its addresses, or
    /// none, once for each question.
    pub(crate) fn resolve(&mut self, name: &str, kind: Kind, interfaces: &Interfaces, now: u64) {
        let grant = Destination::Name(name.to_owned());
        let lookup = Lookup { grant, name: name.to_owned(), kind, on_link: false };
        let mut pending = Pending::new(Asker::Service, lookup, interfaces, &mut self.servers, now);
        match pending.go_on(interfaces, &mut self.servers, now) {
            Progress::Failed(why) => {
                self.said.say(now, NAME_RESOLUTION_FAILED, why);
                self.resolved.push((name.to_owned(), Vec::new()));
            }
            _ => self.pending.push(pending),
        }
    }

    /// Returns the answers to questions of this service, and forgets them.
    pub(crate) fn take_resolved(&mut self) -> Vec<(String, Vec<IpAddr>)> {
        std::mem::take(&mut self.resolved)
    }

    /// Opens the socket of an app's name proxy.
    pub(crate) fn serve(&mut self, app: &NetworkedApp) -> io::Result<()> {
        let address = SocketAddr::from((app.veth().system_v4(), resolution::PORT));
        self.proxies.push(Proxy {
            uid: app.uid,
            socket: UdpSocket::bind(address)?,
            credit: (2 * QUESTIONS_PER_SECOND * 1000, 0),
            hosts: VecDeque::new(),
            addresses: VecDeque::new(),
        });
        Ok(())
    }

    /// Returns the granted name that an address has belonged to.
    pub(crate) fn name_of(&self, uid: u32, address: IpAddr) -> Option<&str> {
        let proxy = self.proxies.iter().find(|proxy| proxy.uid == uid)?;
        let found = proxy.addresses.iter().rev().find(|(of, _)| *of == address)?;
        Some(found.1.as_str())
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.pending.iter().map(Pending::deadline).min()
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        for proxy in &self.proxies {
            poll.add(&proxy.socket);
        }
        for pending in &self.pending {
            pending.add_to(poll);
        }
    }

    /// Asks again, or gives up, where nobody has answered in time.
    pub(crate) fn on_time(
        &mut self,
        apps: &[NetworkedApp],
        interfaces: &mut Interfaces,
        reports: &mut Reports,
        now: u64,
    ) {
        let due = |pending: &Pending| now >= pending.deadline();
        while let Some(at) = self.pending.iter().position(due) {
            let mut pending = self.pending.swap_remove(at);
            match pending.go_on(interfaces, &mut self.servers, now) {
                Progress::Waits => self.pending.push(pending),
                end => self.finish(&pending, end, apps, (interfaces, reports), now),
            }
        }
    }

    /// Takes questions of apps and answers to them.
    pub(crate) fn receive(
        &mut self,
        apps: &[NetworkedApp],
        interfaces: &mut Interfaces,
        reports: &mut Reports,
        now: u64,
    ) {
        for index in 0..self.proxies.len() {
            for _ in 0..DATAGRAMS_PER_TURN {
                if !self.take_question(index, apps, (interfaces, reports), now) {
                    break;
                }
            }
        }
        let on_link = interfaces.answers_on_link();
        let around = interfaces.surroundings(now);
        let mut at = 0;
        while let Some(pending) = self.pending.get_mut(at) {
            match pending.take_answers(&on_link, &around, &mut self.servers, now) {
                Some(outcome) => {
                    let pending = self.pending.swap_remove(at);
                    let known = Progress::Known(outcome);
                    self.finish(&pending, known, apps, (interfaces, reports), now);
                }
                None => at = at.saturating_add(1),
            }
        }
    }

    /// Takes one question; false when there is none.
    fn take_question(
        &mut self,
        index: usize,
        apps: &[NetworkedApp],
        (interfaces, reports): (&mut Interfaces, &mut Reports),
        now: u64,
    ) -> bool {
        let mut buffer = [0u8; name_proxy::MAX_QUESTION_BYTES + 1];
        let Some(proxy) = self.proxies.get_mut(index) else {
            return false;
        };
        let (length, from) = match proxy.socket.receive(&mut buffer) {
            Ok(Some(received)) => received,
            Ok(None) => return false,
            // What an earlier answer has met: the app has closed its socket.
            Err(_) => return true,
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let Some(app) = apps.iter().find(|app| app.uid == proxy.uid) else {
            return true;
        };
        let (Some(asked), true) = (name_proxy::read_question(bytes), proxy.pay_for_question(now))
        else {
            return true;
        };
        let hosts: Vec<_> = proxy.hosts.iter().cloned().collect();
        let reply = match name_proxy::decide(&asked, app, apps, &hosts) {
            Decision::Answer(reply) => reply,
            Decision::Refuse(reply) => {
                let name = shown(&asked.name);
                let why = if app.grants.names(&asked.name) {
                    "nothing but addresses is asked for"
                } else {
                    "AllowedConnections has no such name"
                };
                reports.refused(now, app, NAME_DENIED, format!("the name {name}: {why}"));
                reply
            }
            Decision::Ask(lookup) => {
                let of_app = self.pending.iter().filter(|pending| pending.asker.is_app(app.uid));
                let asker = Asker::App(app.uid, asked, from);
                // A resolver that says it again waits for the same answer.
                if of_app.clone().any(|known| known.asker == asker) || of_app.count() >= MAX_PENDING
                {
                    return true;
                }
                let mut pending = Pending::new(asker, lookup, interfaces, &mut self.servers, now);
                match pending.go_on(interfaces, &mut self.servers, now) {
                    Progress::Waits => self.pending.push(pending),
                    end => self.finish(&pending, end, apps, (interfaces, reports), now),
                }
                return true;
            }
        };
        let _ = proxy.socket.send(&reply, from);
        true
    }

    /// Opens the addresses that were found in the firewall and answers the app.
    fn finish(
        &mut self,
        pending: &Pending,
        end: Progress,
        apps: &[NetworkedApp],
        (interfaces, reports): (&mut Interfaces, &mut Reports),
        now: u64,
    ) {
        let (name, grant) = (&pending.lookup.name, &pending.lookup.grant);
        let (outcome, failed) = match end {
            Progress::Known(outcome) => (outcome, None),
            Progress::Failed(why) => (Outcome::failed(), Some(why)),
            Progress::Waits => return,
        };
        let Asker::App(uid, asked, from) = &pending.asker else {
            if let Some(why) = failed {
                self.said.say(now, NAME_RESOLUTION_FAILED, why);
            }
            // Private addresses too: nobody but the image has named these servers.
            let found = outcome.records.iter().filter_map(|record| record.as_address());
            let forbidden = outcome.forbidden.iter().map(|(address, _)| *address);
            self.resolved.push((name.clone(), found.chain(forbidden).collect()));
            return;
        };
        let Some(app) = apps.iter().find(|app| app.uid == *uid) else {
            return;
        };
        let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.uid == app.uid) else {
            return;
        };
        for (address, why) in &outcome.forbidden {
            let what = format!("{address} for {}: {why}", shown(name));
            reports.refused(now, app, DNS_ANSWER_DENIED, what);
        }
        let mut elements = Vec::new();
        for record in &outcome.records {
            if let Some(address) = record.as_address() {
                let timeout_ms = Some(u64::from(record.ttl).saturating_mul(1000));
                for set in firewall::sets_of(app, grant, Version::of(address)) {
                    for port in proxy.ports_of(name, grant) {
                        elements.push(Element { set: set.clone(), address, port, timeout_ms });
                    }
                }
                remember(&mut proxy.addresses, (address, grant.to_string()));
            }
            if let Some(host) = record.as_host(grant) {
                remember(&mut proxy.hosts, host);
            }
        }
        let opened = if elements.is_empty() { Ok(()) } else { interfaces.open(&elements) };
        let reply = match opened {
            Ok(()) => name_proxy::reply(asked, outcome.status, &outcome.records),
            Err(error) => {
                let what =
                    format!("cannot add addresses of {} to the firewall's sets", shown(name));
                let line = format!("{}: {what}: {}", app.name, chain(&error));
                log(FIREWALL_SET_UPDATE_FAILED, line);
                name_proxy::reply(asked, Status::Failed, &[])
            }
        };
        if let Some(why) = failed {
            reports.say(now, app, NAME_RESOLUTION_FAILED, &why);
        }
        let _ = proxy.socket.send(&reply, *from);
    }
}

fn remember<T: PartialEq>(all: &mut VecDeque<T>, one: T) {
    all.retain(|known| *known != one);
    if all.len() >= MAX_REMEMBERED {
        all.pop_front();
    }
    all.push_back(one);
}

impl Proxy {
    /// Returns the ports at which a host of a service is open; for a name that was granted itself, `None`: those of
    /// the grant.
    fn ports_of(&self, name: &str, grant: &Destination) -> Vec<Option<u16>> {
        if !matches!(grant, Destination::Service(_)) {
            return vec![None];
        }
        let found = self.hosts.iter().filter(|host| host.name == name && host.service == *grant);
        found.map(|host| Some(host.port)).collect()
    }

    /// Takes a question out of the app's credit. False where it has none left.
    fn pay_for_question(&mut self, now: u64) -> bool {
        let (credit, since) = self.credit;
        let earned = now.saturating_sub(since).saturating_mul(QUESTIONS_PER_SECOND);
        let most = 2 * QUESTIONS_PER_SECOND * 1000;
        let credit = credit.saturating_add(earned).min(most);
        let left = credit.checked_sub(1000);
        self.credit = (left.unwrap_or(credit), now);
        left.is_some()
    }
}

impl Pending {
    /// Makes a question that was not sent yet.
    fn new(
        asker: Asker,
        lookup: Lookup,
        interfaces: &Interfaces,
        servers: &mut Servers,
        now: u64,
    ) -> Self {
        let way = if lookup.on_link {
            Way::Multicast { id: 0, tries: 0, deadline: now, gathered: None }
        } else {
            let order = servers.in_order(&interfaces.name_servers(now), now);
            let exchange = Exchange::new(asker.uid(), &order, now);
            Way::Servers { exchange, sent: Vec::new(), connection: None }
        };
        Self { asker, lookup, way }
    }

    fn deadline(&self) -> u64 {
        match &self.way {
            Way::Multicast { deadline, .. } => *deadline,
            Way::Servers { exchange, .. } => exchange.deadline(),
        }
    }

    fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        if let Way::Servers { sent, connection, .. } = &self.way {
            for socket in sent.iter().filter_map(|(_, socket)| socket.as_ref()) {
                poll.add(socket);
            }
            if let Some(connection) = connection {
                connection.add_to(poll);
            }
        }
    }

    /// Sends the question to the server or group whose turn it is, each time with a new id from a new port, or gives
    /// up.
    fn go_on(&mut self, interfaces: &Interfaces, servers: &mut Servers, now: u64) -> Progress {
        let name = &shown(&self.lookup.name);
        let random = || entropy::random().ok().and_then(|bytes| bytes.first_chunk().copied());
        match &mut self.way {
            Way::Multicast { id, tries, deadline, gathered } => {
                if let Some(gathered) = gathered.take() {
                    return Progress::Known(gathered);
                }
                if *tries >= TRIES {
                    return Progress::Failed(format!(
                        "cannot resolve {name}: no host on the link answers (mDNS)"
                    ));
                }
                *tries = tries.saturating_add(1);
                *deadline = now.saturating_add(GATHER_MS);
                let Some(random) = random() else {
                    return Progress::Waits;
                };
                *id = u16::from_ne_bytes(random);
                let question = self.lookup.question(*id, false);
                if question.is_some_and(|question| interfaces.ask_on_link(&question)) {
                    return Progress::Waits;
                }
                Progress::Failed(format!("cannot resolve {name}: no link is up (mDNS)"))
            }
            Way::Servers { exchange, sent, connection } => loop {
                let Some(random) = random() else {
                    return Progress::Failed(format!(
                        "cannot resolve {name}: no entropy for the id of the question"
                    ));
                };
                let id = u16::from_ne_bytes(random);
                match exchange.next(&self.lookup, servers, id, now) {
                    Step::Wait => return Progress::Waits,
                    Step::Failed => return Progress::Failed(why_nobody(name, exchange)),
                    Step::Ask(server, question) => {
                        let asked = UdpSocket::towards(server.ip()).and_then(|socket| {
                            socket.send(&question, server)?;
                            Ok(socket)
                        });
                        if asked.is_err() {
                            exchange.unreachable(server, now);
                        }
                        sent.push((server, asked.ok()));
                    }
                    Step::Connect(server, question) => match Connection::begin(server, question) {
                        Ok(begun) => *connection = Some(begun),
                        Err(error) => {
                            let failure = Failure::of_connection(error.kind());
                            exchange.on_tcp_failure(failure, servers, now);
                        }
                    },
                    Step::Close => *connection = None,
                }
            },
        }
    }

    /// Takes answers; returns the outcome once it is certain.
    fn take_answers(
        &mut self,
        on_link: &[(Vec<u8>, Surroundings)],
        around: &Surroundings,
        servers: &mut Servers,
        now: u64,
    ) -> Option<Outcome> {
        match &mut self.way {
            Way::Multicast { id, gathered, .. } => {
                for (bytes, here) in on_link {
                    let Some(Ok(outcome)) = self.lookup.read_answer(*id, bytes, here) else {
                        continue;
                    };
                    // Several hosts may offer a service; anything else has one answer.
                    if self.lookup.kind != Kind::Ptr {
                        return Some(outcome);
                    }
                    match gathered {
                        None => *gathered = Some(outcome),
                        Some(gathered) => gathered.add(outcome),
                    }
                }
                None
            }
            Way::Servers { exchange, sent, connection } => {
                for (place, (server, socket)) in sent.iter().enumerate() {
                    let taken = socket
                        .as_ref()
                        .map(|socket| socket.take(resolution::PORT, name_proxy::MAX_ANSWER_BYTES));
                    for (bytes, from) in taken.unwrap_or_default() {
                        let answer = (place, bytes.as_slice());
                        if from == *server
                            && let Some(outcome) =
                                exchange.on_answer(&self.lookup, answer, around, servers, now)
                        {
                            return Some(outcome);
                        }
                    }
                }
                let end = connection.as_mut().and_then(Connection::go_on)?;
                *connection = None;
                match end {
                    Ok(bytes) => exchange.on_tcp_answer(&self.lookup, &bytes, around, servers, now),
                    Err(failure) => {
                        exchange.on_tcp_failure(failure, servers, now);
                        None
                    }
                }
            }
        }
    }
}

/// Returns the line on a name that no server has given an answer of use for.
fn why_nobody(name: &str, exchange: &Exchange) -> String {
    let failures: Vec<(SocketAddr, Failure)> = exchange.failures().collect();
    if failures.is_empty() {
        return format!("cannot resolve {name}: no name server is known");
    }
    if exchange.is_silence() {
        return format!("cannot resolve {name}: no name server answers");
    }
    let of_each = failures.iter().map(|(server, failure)| format!("{} {failure}", server.ip()));
    format!("cannot resolve {name}: {}", of_each.collect::<Vec<_>>().join(", "))
}
