//! One question, asked of several name servers until one of them says something: which of them next, when, and how.
//!
//! A server that answers with an error is left for the next at once; one that says nothing is left after
//! a while, and may still answer later. Which servers were silent, and which refuse EDNS, is remembered, so that
//! the next question does not wait for the same one again. What nobody could say ends with the reason of each.

use crate::name_proxy::{Failure, Lookup, Outcome, Surroundings};
use std::net::SocketAddr;

/// Port of name servers.
pub const PORT: u16 = 53;
/// Most servers that are asked one question.
pub const MAX_SERVERS: usize = 4;
/// How long a server is waited for before the next one is asked, in milliseconds: the first time, the second,
/// the third.
const WAITS_MS: [u64; 3] = [1_000, 2_000, 3_000];
/// How long a question takes at most, in milliseconds. Apps wait a little longer
/// (`Veth::resolver_file`).
pub const WITHIN_MS: u64 = 6_000;
/// A server that was silent, or refuses everything, is asked behind the others for so long.
const ASIDE_MS: u64 = 60_000;
/// A server that refuses EDNS is asked without it for so long.
const PLAIN_MS: u64 = 900_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    server: SocketAddr,
    aside_until: u64,
    plain_until: u64,
}

/// What is remembered of name servers. It is bounded by those that there are.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    known: Vec<Standing>,
}

impl Servers {
    /// The servers in the order in which they are to be asked; others are forgotten.
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

    fn takes_edns(&self, server: SocketAddr, now: u64) -> bool {
        self.of(server).is_none_or(|known| now >= known.plain_until)
    }
}

/// How a server stands in one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    server: SocketAddr,
    /// When it was asked last.
    at: u64,
    /// What came of it so far.
    failure: Option<Failure>,
    /// It need not be asked again.
    is_done: bool,
    /// It is to be asked once more at once, in another way.
    again: bool,
}

/// A question that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    server: SocketAddr,
    id: u16,
    edns: bool,
    /// It takes one answer; who repeats it buys no further question.
    answered: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes to the server, from a port of their own; earlier questions are still waited for.
    Ask(SocketAddr, Vec<u8>),
    /// Wait until [`Exchange::deadline`], or for an answer.
    Wait,
    /// Nobody has said anything of use.
    Failed,
}

/// One question on its way.
#[derive(Debug, Clone)]
pub struct Exchange {
    asked: Vec<Asked>,
    sent: Vec<Sent>,
    /// Which time it is that servers are asked, and whose turn it is.
    round: usize,
    turn: usize,
    deadline: u64,
    end: u64,
}

impl Exchange {
    /// A question for these servers, which are asked in this order.
    #[must_use]
    pub fn new(servers: &[SocketAddr], now: u64) -> Self {
        let asked = |server: &SocketAddr| Asked {
            server: *server,
            at: 0,
            failure: None,
            is_done: false,
            again: false,
        };
        Self {
            asked: servers.iter().take(MAX_SERVERS).map(asked).collect(),
            sent: Vec::new(),
            round: 0,
            turn: 0,
            deadline: now,
            end: now.saturating_add(WITHIN_MS),
        }
    }

    /// When [`next`](Self::next) is to be called, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.deadline
    }

    /// What is to be done at this time. `id` is a random number for a question, if there is one to send.
    pub fn next(&mut self, lookup: &Lookup, servers: &mut Servers, id: u16, now: u64) -> Step {
        if now < self.deadline {
            return Step::Wait;
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
            servers.change(asked.server, |known| {
                known.aside_until = now.saturating_add(ASIDE_MS);
            });
        }
        Step::Failed
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

    /// The server could not be sent to. It may be when its turn comes again; the next one is asked at once.
    pub fn unreachable(&mut self, server: SocketAddr, now: u64) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.server == server) {
            asked.failure = Some(Failure::Unreachable);
        }
        if self.turn < self.asked.len() {
            self.deadline = now;
        }
    }

    /// Takes what a server has sent to the port of the question at this place, counted from the first. Where it is an
    /// error, [`next`](Self::next) says at once how it goes on.
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
        let refuses = answer == Err(Failure::Refused);
        servers.change(sent.server, |known| {
            known.aside_until = if refuses { now.saturating_add(ASIDE_MS) } else { 0 };
        });
        let failure = match answer {
            Ok(outcome) => {
                // Who was silent while another has answered, is asked behind it the next time.
                for other in self.asked.iter().filter(|other| other.server != sent.server) {
                    let [patience, ..] = WAITS_MS;
                    let had_time = now.saturating_sub(other.at) >= patience;
                    if other.failure == Some(Failure::Silent) && had_time {
                        servers.change(other.server, |known| {
                            known.aside_until = now.saturating_add(ASIDE_MS);
                        });
                    }
                }
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
        self.deadline = now;
        None
    }

    /// What came of each server that was asked.
    pub fn failures(&self) -> impl Iterator<Item = (SocketAddr, Failure)> {
        self.asked.iter().filter_map(|asked| Some((asked.server, asked.failure?)))
    }

    /// True when nobody has said anything at all.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        self.failures().all(|(_, failure)| failure == Failure::Silent)
    }
}

#[cfg(test)]
mod tests;
