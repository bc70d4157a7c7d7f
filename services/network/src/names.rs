//! Names: one proxy for each app, at the system's end of its link.

use crate::reports::Reports;
use crate::uplinks::Uplinks;
use holdfast_core::network::Destination;
use holdfast_core::network::firewall::NetworkedApp;
use holdfast_core::network::name_proxy::{self, Asked, Decision, Kind, Lookup, Outcome, Status};
use holdfast_core::network::netfilter::{Element, Version};
use holdfast_linux::entropy;
use holdfast_linux::poll::Poll;
use holdfast_linux::udp::UdpSocket;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const PORT: u16 = 53;
/// Questions of one app that are being asked at once.
const MAX_PENDING: usize = 16;
/// Questions of one app in a second, in the long run; and as many again at once.
const QUESTIONS_PER_SECOND: u64 = 20;
/// Milliseconds that a server has.
const ANSWER_WITHIN_MS: u64 = 2_000;
/// Milliseconds in which everybody on the local link may answer.
const GATHER_MS: u64 = 1_000;
/// Times that a question is asked.
const TRIES: u32 = 3;
/// Addresses of one app of which the names are remembered, and hosts of its services.
const MAX_REMEMBERED: usize = 128;
const DATAGRAMS_PER_TURN: usize = 16;

/// One app's proxy.
#[derive(Debug)]
struct Proxy {
    uid: u32,
    socket: UdpSocket,
    /// Questions that it may ask now, in thousandths, and when that was so.
    credit: (u64, u64),
    /// Hosts on which instances of its services were found.
    hosts: VecDeque<(String, Destination)>,
    /// Which name an address belonged to last.
    addresses: VecDeque<(IpAddr, String)>,
}

/// Who wants to know.
#[derive(Debug)]
enum Asker {
    /// An app of this uid, whose question came from this address.
    App(u32, Asked, SocketAddr),
    /// This service itself.
    Service,
}

impl Asker {
    fn is_app(&self, uid: u32) -> bool {
        matches!(self, Self::App(of, ..) if *of == uid)
    }
}

/// A question that somebody else is to answer.
#[derive(Debug)]
struct Pending {
    asker: Asker,
    lookup: Lookup,
    id: u16,
    /// The name server that was asked, and the socket that awaits its answer.
    server: IpAddr,
    socket: Option<UdpSocket>,
    tries: u32,
    deadline: u64,
    /// What came so far from the local link, where several may answer.
    gathered: Option<Outcome>,
}

/// All proxies.
#[derive(Debug)]
pub(crate) struct Names {
    proxies: Vec<Proxy>,
    pending: Vec<Pending>,
    /// What this service itself has asked for.
    resolved: Vec<(String, Vec<IpAddr>)>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { proxies: Vec::new(), pending: Vec::new(), resolved: Vec::new() }
    }

    /// Asks for a name that the device itself needs. Its addresses, or none, come by
    /// [`take_resolved`](Self::take_resolved), once for each question.
    pub(crate) fn resolve(&mut self, name: &str, kind: Kind, uplinks: &Uplinks, now: u64) {
        let grant = Destination::Name(name.to_owned());
        let lookup = Lookup { grant, name: name.to_owned(), kind, on_link: false };
        let mut pending = Pending::new(Asker::Service, lookup);
        if pending.ask(uplinks, now) {
            self.pending.push(pending);
        } else {
            self.resolved.push((name.to_owned(), Vec::new()));
        }
    }

    /// Answers to questions of this service.
    pub(crate) fn take_resolved(&mut self) -> Vec<(String, Vec<IpAddr>)> {
        std::mem::take(&mut self.resolved)
    }

    /// Answers an app's questions from now on.
    pub(crate) fn serve(&mut self, app: &NetworkedApp) -> io::Result<()> {
        let address = SocketAddr::from((app.link().system_v4(), PORT));
        self.proxies.push(Proxy {
            uid: app.uid,
            socket: UdpSocket::bind(address)?,
            credit: (2 * QUESTIONS_PER_SECOND * 1000, 0),
            hosts: VecDeque::new(),
            addresses: VecDeque::new(),
        });
        Ok(())
    }

    /// The granted name that an address has belonged to.
    pub(crate) fn name_of(&self, uid: u32, address: IpAddr) -> Option<&str> {
        let proxy = self.proxies.iter().find(|proxy| proxy.uid == uid)?;
        let found = proxy.addresses.iter().rev().find(|(of, _)| *of == address)?;
        Some(found.1.as_str())
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.deadline).min()
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        for proxy in &self.proxies {
            poll.add(&proxy.socket);
        }
        for socket in self.pending.iter().filter_map(|pending| pending.socket.as_ref()) {
            poll.add(socket);
        }
    }

    /// Asks again, or gives up, where nobody has answered in time.
    pub(crate) fn on_time(
        &mut self,
        apps: &[NetworkedApp],
        uplinks: &mut Uplinks,
        reports: &mut Reports,
        now: u64,
    ) {
        let due = |pending: &Pending| now >= pending.deadline;
        while let Some(at) = self.pending.iter().position(due) {
            let mut pending = self.pending.swap_remove(at);
            let gathered = pending.gathered.take();
            let again = gathered.is_none() && pending.tries < TRIES && pending.ask(uplinks, now);
            if again {
                self.pending.push(pending);
            } else {
                let outcome = gathered.unwrap_or_else(Outcome::failed);
                self.finish(&pending, &outcome, apps, (uplinks, reports), now);
            }
        }
    }

    /// Takes questions and answers.
    pub(crate) fn receive(
        &mut self,
        apps: &[NetworkedApp],
        uplinks: &mut Uplinks,
        reports: &mut Reports,
        now: u64,
    ) {
        for index in 0..self.proxies.len() {
            for _ in 0..DATAGRAMS_PER_TURN {
                if !self.take_question(index, apps, (uplinks, reports), now) {
                    break;
                }
            }
        }
        let on_link = uplinks.answers_on_link();
        let mut at = 0;
        while let Some(pending) = self.pending.get_mut(at) {
            match pending.take_answers(&on_link) {
                Some(outcome) => {
                    let pending = self.pending.swap_remove(at);
                    self.finish(&pending, &outcome, apps, (uplinks, reports), now);
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
        (uplinks, reports): (&mut Uplinks, &mut Reports),
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
        let (Some(asked), true) = (name_proxy::read_question(bytes), proxy.may_ask(now)) else {
            return true;
        };
        let hosts: Vec<_> = proxy.hosts.iter().cloned().collect();
        let reply = match name_proxy::decide(&asked, app, apps, &hosts) {
            Decision::Answer(reply) => reply,
            Decision::Refuse(reply) => {
                let name = holdfast_core::log_line::escape(asked.name.as_bytes());
                let why = if app.grants.names(&asked.name) {
                    "nothing but addresses is asked for"
                } else {
                    "AllowedConnections has no such name"
                };
                reports.refused(now, app, format!("the name {name}: {why}"));
                reply
            }
            Decision::Ask(lookup) => {
                let of_app = self.pending.iter().filter(|pending| pending.asker.is_app(app.uid));
                if of_app.count() >= MAX_PENDING {
                    return true;
                }
                let mut pending = Pending::new(Asker::App(app.uid, asked, from), lookup);
                if pending.ask(uplinks, now) {
                    self.pending.push(pending);
                } else {
                    self.finish(&pending, &Outcome::failed(), apps, (uplinks, reports), now);
                }
                return true;
            }
        };
        let _ = proxy.socket.send(&reply, from);
        true
    }

    /// Opens what was found and answers the app.
    fn finish(
        &mut self,
        pending: &Pending,
        outcome: &Outcome,
        apps: &[NetworkedApp],
        (uplinks, reports): (&mut Uplinks, &mut Reports),
        now: u64,
    ) {
        let Asker::App(uid, asked, from) = &pending.asker else {
            // Private addresses too: nobody but the image has named these servers.
            let found = outcome.records.iter().filter_map(|record| record.as_address());
            let addresses = found.chain(outcome.forbidden.iter().copied()).collect();
            self.resolved.push((pending.lookup.name.clone(), addresses));
            return;
        };
        let Some(app) = apps.iter().find(|app| app.uid == *uid) else {
            return;
        };
        let Some(proxy) = self.proxies.iter_mut().find(|proxy| proxy.uid == app.uid) else {
            return;
        };
        let (name, grant) = (&pending.lookup.name, &pending.lookup.grant);
        for address in &outcome.forbidden {
            let what = format!("{address} for {name}: the address is not public");
            reports.refused(now, app, what);
        }
        let mut elements = Vec::new();
        for record in &outcome.records {
            if let Some(address) = record.as_address() {
                for set in app.sets_of(grant, Version::of(address)) {
                    let timeout_ms = Some(u64::from(record.ttl).saturating_mul(1000));
                    elements.push(Element { set, address, timeout_ms });
                }
                remember(&mut proxy.addresses, (address, grant.to_string()));
            }
            if let Some(host) = record.as_host() {
                remember(&mut proxy.hosts, (host, grant.clone()));
            }
        }
        let opened = if elements.is_empty() { Ok(()) } else { uplinks.open(&elements) };
        let reply = match opened {
            Ok(()) => name_proxy::reply(asked, outcome.status, &outcome.records),
            Err(error) => {
                println!("{}: the firewall does not take {name}: {error:?}", app.name);
                name_proxy::reply(asked, Status::Failed, &[])
            }
        };
        if outcome.status == Status::Failed {
            reports.say(now, app, &format!("nobody answers for {name}"));
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
    /// Pays for a question, if there is anything to pay with.
    fn may_ask(&mut self, now: u64) -> bool {
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
    fn new(asker: Asker, lookup: Lookup) -> Self {
        Self {
            asker,
            lookup,
            id: 0,
            server: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            socket: None,
            tries: 0,
            deadline: 0,
            gathered: None,
        }
    }

    /// Asks, each time another server, with a new id from a new port. False when nobody can be asked.
    fn ask(&mut self, uplinks: &Uplinks, now: u64) -> bool {
        let random = entropy::random().ok().and_then(|bytes| bytes.first_chunk().copied());
        let Some(random) = random else {
            return false;
        };
        self.id = u16::from_ne_bytes(random);
        let Some(question) = self.lookup.question(self.id) else {
            return false;
        };
        self.socket = None;
        let tries = self.tries;
        self.tries = tries.saturating_add(1);
        if self.lookup.on_link {
            self.deadline = now.saturating_add(GATHER_MS);
            return uplinks.ask_on_link(&question);
        }
        self.deadline = now.saturating_add(ANSWER_WITHIN_MS);
        let servers = uplinks.name_servers(now);
        let turn = usize::try_from(tries).ok().and_then(|turn| turn.checked_rem(servers.len()));
        let Some(server) = turn.and_then(|at| servers.get(at)) else {
            return false;
        };
        let asked = UdpSocket::towards(*server).and_then(|socket| {
            socket.send(&question, SocketAddr::new(*server, PORT))?;
            Ok(socket)
        });
        self.server = *server;
        // A server that cannot be reached now may be by the next try.
        self.socket = asked.ok();
        true
    }

    /// Takes answers; gives what they come to once that is certain.
    fn take_answers(&mut self, on_link: &[Vec<u8>]) -> Option<Outcome> {
        if self.lookup.on_link {
            return on_link.iter().find_map(|bytes| self.take_answer(bytes));
        }
        let taken = self.socket.as_ref()?.take(PORT, name_proxy::MAX_ANSWER_BYTES);
        let server = SocketAddr::new(self.server, PORT);
        let answers = taken.iter().filter(|(_, from)| *from == server);
        answers.map(|(bytes, _)| bytes).find_map(|bytes| self.take_answer(bytes))
    }

    fn take_answer(&mut self, bytes: &[u8]) -> Option<Outcome> {
        let outcome = self.lookup.read_answer(self.id, bytes)?;
        // Several hosts may offer a service; anything else has one answer.
        if self.lookup.kind != Kind::Ptr {
            return Some(outcome);
        }
        match &mut self.gathered {
            None => self.gathered = Some(outcome),
            Some(gathered) => gathered.add(outcome),
        }
        None
    }
}
