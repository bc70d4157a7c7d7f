//! Resolution of one name by several name servers: which is asked next, when, with EDNS or without, by UDP or TCP.
//!
//! The exchange leaves a server that answers with an error for the next at once, and one that is silent after a
//! while; it may still answer later. One whose answer is truncated to nothing is asked over TCP (RFC 7766, 5), and left
//! for the next when that fails or takes too long. Silent servers and those that refuse EDNS or TCP are remembered, so
//! that the next question does not wait for the same one again. An exchange without an answer ends with the reason of
//! each server.
//!
//! Over TCP, a stranger could make the device wait and grow: an exchange has one connection at a time and one to each
//! server, all exchanges share [places](MAX_CONNECTIONS), a connection lasts [`TCP_WITHIN_MS`] however slowly bytes
//! come, and an answer has a [bound](crate::name_proxy::MAX_TCP_ANSWER_BYTES).

mod framing;
mod places;

pub use framing::{Arriving, framed};
pub use places::{MAX_CONNECTIONS, TCP_WITHIN_MS};

use crate::name_proxy::{Failure, Lookup, Outcome, Surroundings};
use places::Places;
use std::net::SocketAddr;

/// UDP and TCP port of name servers.
pub const PORT: u16 = 53;
/// Most servers that are asked one question.
pub const MAX_SERVERS: usize = 4;
/// Wait for a server's answer before the next server is asked, in milliseconds: in the first round, the second, the
/// third.
const WAITS_MS: [u64; 3] = [1_000, 2_000, 3_000];
/// Longest time for a question, in milliseconds. The resolvers of apps wait a little longer (`Veth::resolver_file`).
pub const WITHIN_MS: u64 = 6_000;
/// Time for which a server that was silent, or refuses everything, is asked behind the others, in milliseconds.
const ASIDE_MS: u64 = 60_000;
/// Time for which a server that refuses EDNS is asked without it, in milliseconds.
const PLAIN_MS: u64 = 900_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    server: SocketAddr,
    aside_until: u64,
    plain_until: u64,
}

/// Experience with name servers, bounded by the number of those that there are, and the connections to them.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    known: Vec<Standing>,
    places: Places,
}

impl Servers {
    /// Returns the servers in the order in which they are to be asked, and forgets others.
    pub fn in_order(&mut self, servers: &[SocketAddr], now: u64) -> Vec<SocketAddr> {
        self.known.retain(|known| servers.contains(&known.server));
        let mut ordered = Vec::new();
        for server in servers {
            if !ordered.contains(server) {
                ordered.push(*server);
            }
        }
        ordered.sort_by_key(|server| self.of(*server).is_some_and(|known| now < known.aside_until));
        ordered.truncate(MAX_SERVERS);
        ordered
    }

    fn of(&self, server: SocketAddr) -> Option<&Standing> {
        self.known.iter().find(|known| known.server == server)
    }

    fn change(&mut self, server: SocketAddr, change: impl FnOnce(&mut Standing)) {
        let has_room = self.known.len() < 2 * MAX_SERVERS;
        match self.known.iter_mut().find(|known| known.server == server) {
            Some(known) => change(known),
            None if has_room => {
                let mut standing = Standing { server, aside_until: 0, plain_until: 0 };
                change(&mut standing);
                self.known.push(standing);
            }
            None => {}
        }
    }

    /// Has the server asked behind the others for a while, or no longer.
    fn set_aside(&mut self, server: SocketAddr, is_aside: bool, now: u64) {
        let until = if is_aside { now.saturating_add(ASIDE_MS) } else { 0 };
        self.change(server, |known| known.aside_until = until);
    }

    fn takes_edns(&self, server: SocketAddr, now: u64) -> bool {
        self.of(server).is_none_or(|known| now >= known.plain_until)
    }
}

/// The standing of one server in an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    server: SocketAddr,
    /// Time of the last question to it, in milliseconds.
    at: u64,
    /// Failure that the last question has come to so far.
    failure: Option<Failure>,
    /// True when the server is not asked again.
    is_done: bool,
    /// True when the server is asked once more at once, without EDNS.
    again: bool,
    over_tcp: OverTcp,
}

/// The question to one server over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OverTcp {
    /// The server has not truncated its answer.
    Unneeded,
    /// The server has, and is asked as soon as there is a place.
    Due,
    /// The server was asked, or there was no place for too long. It is not asked again.
    Done,
}

/// The connection of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    server: SocketAddr,
    id: u16,
    /// Time at which the connection is given up, in milliseconds.
    until: u64,
}

/// A question that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    server: SocketAddr,
    id: u16,
    edns: bool,
    /// True once an answer has come: who repeats it buys no further question.
    answered: bool,
}

/// The next step of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The caller sends these bytes to the server, from a port of their own, and goes on waiting for earlier
    /// questions.
    Ask(SocketAddr, Vec<u8>),
    /// The caller opens a TCP connection to the server and sends these bytes over it, the length in front of them
    /// included. It is the only one of the exchange; earlier questions may still be answered.
    Connect(SocketAddr, Vec<u8>),
    /// The caller closes the connection: its time is over.
    Close,
    /// The caller waits until [`Exchange::deadline`], or for an answer.
    Wait,
    /// No server has given an answer of use.
    Failed,
}

/// The exchange about one name, from its first question to its outcome.
#[derive(Debug, Clone)]
pub struct Exchange {
    asker: u32,
    asked: Vec<Asked>,
    sent: Vec<Sent>,
    connection: Option<Connection>,
    /// Time until which a place for a connection is waited for, in milliseconds.
    place_until: Option<u64>,
    /// Number of the round in which servers are asked, and place of the next server in it.
    round: usize,
    turn: usize,
    deadline: u64,
    end: u64,
}

impl Exchange {
    /// Makes an exchange with these servers, which are asked in this order. `asker` is the uid of the app that asks: each
    /// has places of its own for connections.
    #[must_use]
    pub fn new(asker: u32, servers: &[SocketAddr], now: u64) -> Self {
        let asked = |server: &SocketAddr| Asked {
            server: *server,
            at: 0,
            failure: None,
            is_done: false,
            again: false,
            over_tcp: OverTcp::Unneeded,
        };
        Self {
            asker,
            asked: servers.iter().take(MAX_SERVERS).map(asked).collect(),
            sent: Vec::new(),
            connection: None,
            place_until: None,
            round: 0,
            turn: 0,
            deadline: now,
            end: now.saturating_add(WITHIN_MS),
        }
    }

    /// Returns the time at which [`next`](Self::next) is to be called, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// Decides the step at `now`. `id` is a random number for a question, if there is one to send.
    pub fn next(&mut self, lookup: &Lookup, servers: &mut Servers, id: u16, now: u64) -> Step {
        if now < self.deadline {
            return Step::Wait;
        }
        if let Some(connection) = self.connection {
            if now < connection.until {
                // An answer by UDP has brought the deadline forward, and was of no use.
                self.deadline = connection.until;
                return Step::Wait;
            }
            self.on_tcp_failure(Failure::TcpSilent, servers, now);
            return Step::Close;
        }
        if now < self.end
            && let Some(step) = self.next_over_tcp(lookup, servers, id, now)
        {
            return step;
        }
        if now < self.end
            && let Some(server) = self.whose_turn(now)
        {
            let edns = self.round == 0 && servers.takes_edns(server, now);
            let wait = WAITS_MS.get(self.round).copied().unwrap_or(WITHIN_MS);
            self.deadline = now.saturating_add(wait).min(self.end);
            if let Some(question) = lookup.question(id, edns) {
                self.sent.push(Sent { server, id, edns, answered: false });
                return Step::Ask(server, question);
            }
        } else if now < self.end && !self.asked.iter().all(|asked| asked.is_done) {
            // Everybody was asked; somebody may still answer.
            self.deadline = self.end;
            return Step::Wait;
        }
        for asked in self.asked.iter().filter(|asked| asked.failure == Some(Failure::Silent)) {
            servers.set_aside(asked.server, true, now);
        }
        Step::Failed
    }

    /// Decides about the servers that have truncated their answers; `None` when none of them is to be asked over TCP.
    fn next_over_tcp(
        &mut self,
        lookup: &Lookup,
        servers: &mut Servers,
        id: u16,
        now: u64,
    ) -> Option<Step> {
        loop {
            let asked = self.asked.iter_mut().find(|asked| asked.over_tcp == OverTcp::Due)?;
            let longest = now.saturating_add(TCP_WITHIN_MS).min(self.end);
            match servers.places.take(self.asker, now) {
                Ok(()) => {
                    (asked.over_tcp, self.place_until) = (OverTcp::Done, None);
                    // Without EDNS: there is no datagram of which the size would have to be said.
                    let question = lookup.question(id, false).and_then(|bytes| framed(&bytes))?;
                    self.connection = Some(Connection { server: asked.server, id, until: longest });
                    self.deadline = longest;
                    return Some(Step::Connect(asked.server, question));
                }
                Err(free_at) => {
                    let until = *self.place_until.get_or_insert(longest);
                    if now < until {
                        self.deadline = free_at.min(until);
                        return Some(Step::Wait);
                    }
                    (asked.over_tcp, self.place_until) = (OverTcp::Done, None);
                    asked.failure = Some(Failure::NoConnection);
                }
            }
        }
    }

    fn whose_turn(&mut self, now: u64) -> Option<SocketAddr> {
        if let Some(again) = self.asked.iter_mut().find(|asked| asked.again) {
            (again.again, again.at) = (false, now);
            return Some(again.server);
        }
        while self.round < WAITS_MS.len() {
            while let Some(asked) = self.asked.get_mut(self.turn) {
                self.turn = self.turn.saturating_add(1);
                if !asked.is_done {
                    asked.at = now;
                    asked.failure.get_or_insert(Failure::Silent);
                    return Some(asked.server);
                }
            }
            (self.round, self.turn) = (self.round.saturating_add(1), 0);
        }
        None
    }

    /// Takes note that the server cannot be reached. It may be when its turn comes again; the next one is asked at
    /// once.
    pub fn unreachable(&mut self, server: SocketAddr, now: u64) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.server == server) {
            asked.failure = Some(Failure::Unreachable);
        }
        if self.turn < self.asked.len() {
            self.deadline = now;
        }
    }

    /// Takes a message that came to the port of the question at this place, counted from the first. Where it is an
    /// error, [`next`](Self::next) goes on at once.
    pub fn on_answer(
        &mut self,
        lookup: &Lookup,
        (place, bytes): (usize, &[u8]),
        surroundings: &Surroundings,
        servers: &mut Servers,
        now: u64,
    ) -> Option<Outcome> {
        let question = self.sent.get_mut(place).filter(|sent| !sent.answered)?;
        let answer = lookup.read_answer(question.id, bytes, surroundings)?;
        question.answered = true;
        let sent = *question;
        let asked = self.asked.iter_mut().find(|asked| asked.server == sent.server)?;
        servers.set_aside(sent.server, answer == Err(Failure::Refused), now);
        let failure = match answer {
            Ok(outcome) => {
                self.set_silent_aside(sent.server, servers, now);
                return Some(outcome);
            }
            Err(failure) => failure,
        };
        if asked.is_done {
            return None;
        }
        asked.failure = Some(failure);
        if sent.edns && failure.may_be_of_edns() {
            servers.change(sent.server, |known| {
                known.plain_until = now.saturating_add(PLAIN_MS);
            });
            asked.again = true;
        } else {
            // SERVFAIL may be all that a server has for EDNS: it is asked once more, after the others.
            asked.is_done = !(sent.edns && failure == Failure::Server);
        }
        if failure == Failure::Truncated && asked.over_tcp == OverTcp::Unneeded {
            asked.over_tcp = OverTcp::Due;
        }
        self.deadline = now;
        None
    }

    /// Has servers that were silent while `server` has answered asked behind it the next time.
    fn set_silent_aside(&self, server: SocketAddr, servers: &mut Servers, now: u64) {
        for other in self.asked.iter().filter(|other| other.server != server) {
            let [patience, ..] = WAITS_MS;
            let had_time = now.saturating_sub(other.at) >= patience;
            if other.failure == Some(Failure::Silent) && had_time {
                servers.set_aside(other.server, true, now);
            }
        }
    }

    /// Takes the whole message that came over the connection of [`Step::Connect`], which the caller has closed. Where it
    /// is no answer of use, [`next`](Self::next) goes on at once.
    pub fn on_tcp_answer(
        &mut self,
        lookup: &Lookup,
        bytes: &[u8],
        surroundings: &Surroundings,
        servers: &mut Servers,
        now: u64,
    ) -> Option<Outcome> {
        let connection = self.connection?;
        // Nobody but the server can have sent it, and nothing else was asked there: what is ignored by UDP is an error.
        let answer = lookup
            .read_answer(connection.id, bytes, surroundings)
            .unwrap_or(Err(Failure::OtherQuestion));
        match answer {
            Ok(outcome) => {
                self.connection = None;
                servers.set_aside(connection.server, false, now);
                self.set_silent_aside(connection.server, servers, now);
                Some(outcome)
            }
            Err(failure) => {
                self.on_tcp_failure(failure, servers, now);
                None
            }
        }
    }

    /// Takes note that the connection of [`Step::Connect`] has failed, and is closed. [`next`](Self::next) goes on at
    /// once.
    pub fn on_tcp_failure(&mut self, failure: Failure, servers: &mut Servers, now: u64) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.server == connection.server) {
            asked.failure = Some(failure);
        }
        servers.set_aside(connection.server, failure.is_for_every_name(), now);
        self.deadline = now;
    }

    /// Returns the failure of each server that was asked.
    pub fn failures(&self) -> impl Iterator<Item = (SocketAddr, Failure)> {
        self.asked.iter().filter_map(|asked| Some((asked.server, asked.failure?)))
    }

    /// True when no server has answered at all.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        self.failures().all(|(_, failure)| failure == Failure::Silent)
    }
}

#[cfg(test)]
mod tests;
