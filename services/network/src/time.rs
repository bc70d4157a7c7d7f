//! Rounds of questions to time servers, whose outcome init is told.

use crate::init::Init;
use crate::interfaces::Interfaces;
use crate::log::log;
use crate::names::Names;
use holdfast_linux::init_socket::InitError;
use holdfast_linux::poll::Poll;
use holdfast_linux::udp::UdpSocket;
use holdfast_linux::{clock, entropy};
use holdfast_networking::name_proxy::Kind;
use holdfast_networking::sntp::{self, Client, Instant, Outcome, Seconds};
use holdfast_sandbox::clock::Verdict;
use holdfast_sandbox::network::Destination;
use holdfast_types::event::Event;
use holdfast_types::event::network::{
    TIME_AGREED, TIME_DISAGREED, TIME_NO_ANSWER, TIME_SERVER_UNKNOWN, TIME_SERVERS_RESTING,
};
use std::net::{IpAddr, SocketAddr};

/// Smallest error that servers admit which is logged, in microseconds.
const WORTH_SAYING_US: u64 = 1_000_000;

/// The phase of a round.
#[derive(Debug)]
enum Phase {
    /// No round goes on.
    Idle,
    /// The names of servers are resolved; so many answers are missing.
    Resolving(usize),
    /// Servers are asked.
    Asking,
}

/// The client of time servers, with its sockets.
#[derive(Debug)]
pub(crate) struct Time {
    /// Servers of the image; where it names none, those of leases are asked.
    configured: Vec<Destination>,
    client: Client,
    phase: Phase,
    /// Addresses of each of the configured names.
    found: Vec<(String, Vec<IpAddr>)>,
    sockets: Vec<(SocketAddr, UdpSocket)>,
    was_connected: bool,
    /// The meaning of the last line, which is not logged again.
    said: String,
    /// True where known servers are not asked, since they want to be left alone.
    some_rest: bool,
}

impl Time {
    pub(crate) fn new(configured: Vec<Destination>) -> Self {
        Self {
            configured,
            client: Client::new(),
            phase: Phase::Idle,
            found: Vec::new(),
            sockets: Vec::new(),
            was_connected: false,
            said: String::new(),
            some_rest: false,
        }
    }

    /// Returns the servers that were asked last.
    pub(crate) fn servers(&self) -> Vec<IpAddr> {
        self.sockets.iter().map(|(server, _)| server.ip()).collect()
    }

    /// Returns the time at which there is something to do, in milliseconds of the monotonic clock.
    pub(crate) fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Idle if !self.was_connected => None,
            Phase::Idle | Phase::Asking => Some(self.client.deadline()),
            Phase::Resolving(_) => None,
        }
    }

    pub(crate) fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        if matches!(self.phase, Phase::Asking) {
            for (_, socket) in &self.sockets {
                poll.add(socket);
            }
        }
    }

    /// Takes answers, ends rounds and begins them.
    pub(crate) fn on_time(
        &mut self,
        init: &mut Init,
        interfaces: &Interfaces,
        names: &mut Names,
        now: u64,
    ) -> Result<(), InitError> {
        let connected = interfaces.is_connected();
        if connected && !self.was_connected {
            self.client.hurry(now);
        }
        self.was_connected = connected;
        match &mut self.phase {
            Phase::Idle if connected && self.client.is_due(now) => {
                let asked = self.configured.iter().filter_map(|server| match server {
                    Destination::Name(name) => Some(name.as_str()),
                    _ => None,
                });
                self.found.clear();
                let mut open = 0usize;
                for name in asked {
                    self.found.push((name.to_owned(), Vec::new()));
                    for kind in [Kind::A, Kind::Aaaa] {
                        names.resolve(name, kind, interfaces, now);
                        open = open.saturating_add(1);
                    }
                }
                self.phase = Phase::Resolving(open);
                self.take_names(names, interfaces, now);
            }
            Phase::Idle => {}
            Phase::Resolving(_) => self.take_names(names, interfaces, now),
            Phase::Asking => {
                self.take_answers();
                if let Some(outcome) = self.client.on_time(now) {
                    self.phase = Phase::Idle;
                    return self.tell(init, outcome, now);
                }
            }
        }
        Ok(())
    }

    fn take_names(&mut self, names: &mut Names, interfaces: &Interfaces, now: u64) {
        let Phase::Resolving(open) = &mut self.phase else {
            return;
        };
        for (name, addresses) in names.take_resolved() {
            *open = open.saturating_sub(1);
            if let Some((_, found)) = self.found.iter_mut().find(|(of, _)| *of == name) {
                found.extend(addresses);
            }
        }
        if *open == 0 {
            self.ask(interfaces, now);
        }
    }

    /// Returns the addresses to ask: one of each server, then a second of each, and so on.
    fn addresses(&self, interfaces: &Interfaces) -> Vec<IpAddr> {
        if self.configured.is_empty() {
            return interfaces.time_servers();
        }
        let of_server = |server: &Destination| match server {
            Destination::Prefix(address, _) => vec![*address],
            Destination::Name(name) | Destination::Service(name) => {
                let found = self.found.iter().find(|(of, _)| of == name);
                found.map(|(_, addresses)| addresses.clone()).unwrap_or_default()
            }
        };
        let each: Vec<_> = self.configured.iter().map(of_server).collect();
        let mut addresses = Vec::new();
        for place in 0..sntp::MAX_SERVERS {
            for address in each.iter().filter_map(|of| of.get(place)) {
                if !addresses.contains(address) {
                    addresses.push(*address);
                }
            }
        }
        addresses.truncate(sntp::MAX_SERVERS);
        addresses
    }

    fn ask(&mut self, interfaces: &Interfaces, now: u64) {
        self.sockets.clear();
        let mut asked = Vec::new();
        let known = self.addresses(interfaces);
        let may_ask = |address: &IpAddr| self.client.may_ask(*address, now);
        self.some_rest = !known.iter().all(may_ask);
        for address in known.into_iter().filter(may_ask).collect::<Vec<_>>() {
            let random = entropy::random().ok().and_then(|bytes| bytes.first_chunk().copied());
            let (Some(nonce), Ok(socket)) = (random, UdpSocket::towards(address)) else {
                continue;
            };
            let server = SocketAddr::new(address, sntp::PORT);
            // One that cannot be reached does not answer.
            let _ = socket.send(&sntp::question(nonce), server);
            self.sockets.push((server, socket));
            asked.push((address, nonce));
        }
        self.client.ask(&asked, monotonic_us());
        self.phase = Phase::Asking;
    }

    fn take_answers(&mut self) {
        for (server, socket) in &self.sockets {
            for (bytes, from) in socket.take(sntp::PORT, sntp::MESSAGE_BYTES) {
                if from == *server {
                    let shown_us = clock::realtime_us();
                    let at = Instant { monotonic_us: monotonic_us(), shown_us };
                    self.client.on_message(from.ip(), &bytes, at);
                }
            }
        }
    }

    /// Tells init what the majority says, and logs the outcome of the round.
    fn tell(&mut self, init: &mut Init, outcome: Outcome, now: u64) -> Result<(), InitError> {
        let asked = self.sockets.len();
        match outcome {
            Outcome::Agreed { behind_us, doubt_us, agree, answered } => {
                let verdict = init.set_clock(behind_us)?;
                if verdict == Verdict::Unconfirmed {
                    self.client.confirm(now);
                }
                let agreed = format!("time: {agree} of {answered} servers agree");
                let doubt = u64::try_from(doubt_us).unwrap_or(0);
                let coarse = match doubt {
                    0..WORTH_SAYING_US => String::new(),
                    _ => format!(", give or take {} s", Seconds(doubt)),
                };
                let what = format!("{agreed}, {verdict}");
                let line = format!("{agreed}{coarse}; the clock is {verdict}");
                self.say_as(what, TIME_AGREED, &line);
            }
            Outcome::Disagree(answered) => {
                let line = format!("time: {answered} servers answer, and no majority agrees");
                self.say(TIME_DISAGREED, line);
            }
            Outcome::Nobody if asked == 0 && self.some_rest => {
                let why = "each known one has asked for a pause (kiss-o'-death)";
                self.say(TIME_SERVERS_RESTING, format!("time: no server is asked: {why}"));
            }
            Outcome::Nobody if asked == 0 => {
                self.say(TIME_SERVER_UNKNOWN, "time: no server is known".to_owned());
            }
            Outcome::Nobody => {
                let of_each = self.client.heard().iter().map(|heard| match heard.reason {
                    Some(reason) => format!("{} answers, but {reason}", heard.server),
                    None => format!("no answer from {}", heard.server),
                });
                let line = of_each.collect::<Vec<_>>().join(", ");
                let kinds = self.client.heard().iter().map(|heard| {
                    (heard.server, heard.reason.map(|reason| std::mem::discriminant(&reason)))
                });
                let what = format!("{:?}", kinds.collect::<Vec<_>>());
                self.say_as(what, TIME_NO_ANSWER, &format!("time: {line}"));
            }
        }
        Ok(())
    }

    fn say(&mut self, event: Event, line: String) {
        self.say_as(line.clone(), event, &line);
    }

    /// Logs a line that means `what`, whatever the numbers in it, unless the last line meant the same.
    fn say_as(&mut self, what: String, event: Event, line: &str) {
        if what != self.said {
            log(event, line);
            self.said = what;
        }
    }
}

fn monotonic_us() -> u64 {
    u64::try_from(clock::monotonic().as_micros()).unwrap_or(u64::MAX)
}
