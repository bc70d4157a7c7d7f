//! A stateless DHCPv6 client (RFC 8415, 6.1), which asks for name servers where a router advertises other
//! configuration. Addresses come from router advertisements alone.

use crate::dhcp::MAX_SERVERS;
use std::fmt;
use std::net::Ipv6Addr;

/// Port of clients.
pub const CLIENT_PORT: u16 = 546;
/// Port of servers.
pub const SERVER_PORT: u16 = 547;
/// Multicast address of all servers and relay agents of a link (RFC 8415, 7.1).
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Longest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1500;
/// First wait for an answer, in milliseconds; each further one is twice as long, up to the last.
const FIRST_WAIT_MS: u64 = 1_000;
const LAST_WAIT_MS: u64 = 120_000;
/// Bounds of the information refresh time, in seconds (RFC 8415, 21.23).
const LEAST_REFRESH_S: u32 = 600;
const MOST_REFRESH_S: u32 = 86_400;

const INFORMATION_REQUEST: u8 = 11;
const REPLY: u8 = 7;
/// Numbers of options.
mod option {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const REQUESTED: u16 = 6;
    pub(super) const ELAPSED: u16 = 8;
    pub(super) const STATUS: u16 = 13;
    pub(super) const NAME_SERVERS: u16 = 23;
    pub(super) const REFRESH: u16 = 32;
}

/// The answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Addresses of name servers, the best first.
    pub name_servers: Vec<Ipv6Addr>,
    /// Information refresh time in seconds.
    pub seconds: u32,
}

/// Reason for which a message of a DHCPv6 server is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dhcp6Rejected {
    /// The server reports a failure, by this status code (RFC 8415, 21.13).
    Status(u16),
    /// An option is longer than the message.
    CutShort,
}

impl fmt::Display for Dhcp6Rejected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(1) => formatter.write_str("it says that it has failed (UnspecFail)"),
            Self::Status(number) => write!(formatter, "it says that it has failed ({number})"),
            Self::CutShort => formatter.write_str("an option is longer than the message"),
        }
    }
}

/// The DHCPv6 client of one interface.
#[derive(Debug, Clone)]
pub struct Client {
    hardware: [u8; 6],
    transaction: [u8; 3],
    /// Number of messages without an answer.
    sent: u32,
    /// Time at which the first of them was sent, in milliseconds.
    since: u64,
    /// Time of the next message, in milliseconds. It stays while no router advertises other configuration, so that
    /// routers that do not agree make nobody ask more often.
    next: u64,
    /// A router advertises other configuration.
    wanted: bool,
    /// A message has no answer yet.
    awaited: bool,
    /// Reason for which the last answer was rejected.
    rejected: Option<Dhcp6Rejected>,
}

impl Client {
    /// Makes the client of an interface with this hardware address. `random` makes its transaction id hard to guess.
    #[must_use]
    pub fn new(hardware: [u8; 6], random: u64) -> Self {
        let [a, b, c, ..] = random.to_ne_bytes();
        Self {
            hardware,
            transaction: [a, b, c],
            sent: 0,
            since: 0,
            next: 0,
            wanted: false,
            awaited: false,
            rejected: None,
        }
    }

    /// Takes the flags of a router advertisement: whether a DHCPv6 server has other configuration.
    pub fn on_router(&mut self, has_server: bool, now: u64) {
        if has_server && !self.wanted {
            self.next = self.next.max(now);
        }
        self.wanted = has_server;
    }

    /// Returns the time at which [`on_time`](Self::on_time) is to be called, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.wanted.then_some(self.next)
    }

    /// Returns the message to send to all servers, if one is due at `now`.
    pub fn on_time(&mut self, now: u64) -> Option<Vec<u8>> {
        if !self.wanted || now < self.next {
            return None;
        }
        if self.sent == 0 {
            self.since = now;
        }
        let wait = FIRST_WAIT_MS.checked_shl(self.sent).unwrap_or(LAST_WAIT_MS).min(LAST_WAIT_MS);
        self.sent = self.sent.saturating_add(1).min(16);
        self.next = now.saturating_add(wait);
        self.awaited = true;
        // In hundredths of a second, as far as they reach (RFC 8415, 21.9).
        let elapsed = now.saturating_sub(self.since) / 10;
        let elapsed = u16::try_from(elapsed).unwrap_or(u16::MAX).to_be_bytes();
        let [a, b, c] = self.transaction;
        let mut message = vec![INFORMATION_REQUEST, a, b, c];
        for (kind, value) in [
            (option::CLIENT, self.identifier()),
            (
                option::REQUESTED,
                [option::NAME_SERVERS, option::REFRESH].map(u16::to_be_bytes).concat(),
            ),
            (option::ELAPSED, elapsed.to_vec()),
        ] {
            let length = u16::try_from(value.len()).unwrap_or(0);
            message.extend(kind.to_be_bytes());
            message.extend(length.to_be_bytes());
            message.extend(value);
        }
        Some(message)
    }

    /// Returns the DUID-LL of an Ethernet interface (RFC 8415, 11.4).
    fn identifier(&self) -> Vec<u8> {
        [&[0, 3, 0, 1][..], &self.hardware].concat()
    }

    /// Takes a message; `None` when it answers nothing, or when the reason for which it is rejected was reported
    /// already. Each request takes one answer; after one that is rejected, the request is sent again when its time
    /// comes.
    pub fn on_message(&mut self, bytes: &[u8], now: u64) -> Option<Result<Answer, Dhcp6Rejected>> {
        let [REPLY, a, b, c, options @ ..] = bytes else {
            return None;
        };
        if [*a, *b, *c] != self.transaction || !self.wanted || !self.awaited {
            return None;
        }
        let answer = self.read(options)?;
        self.awaited = false;
        match answer {
            Ok(answer) => {
                (self.sent, self.rejected) = (0, None);
                let holds = u64::from(answer.seconds).saturating_mul(1000);
                self.next = now.saturating_add(holds);
                Some(Ok(answer))
            }
            Err(rejected) if self.rejected == Some(rejected) => None,
            Err(rejected) => {
                self.rejected = Some(rejected);
                Some(Err(rejected))
            }
        }
    }

    /// Reads the options of a reply; `None` for a reply to another client.
    fn read(&self, options: &[u8]) -> Option<Result<Answer, Dhcp6Rejected>> {
        let mut answer = Answer { name_servers: Vec::new(), seconds: MOST_REFRESH_S };
        let mut rest = options;
        while !rest.is_empty() {
            let [k0, k1, l0, l1, more @ ..] = rest else {
                return Some(Err(Dhcp6Rejected::CutShort));
            };
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let Some((value, behind)) = more.split_at_checked(length) else {
                return Some(Err(Dhcp6Rejected::CutShort));
            };
            match (u16::from_be_bytes([*k0, *k1]), value) {
                (option::CLIENT, other) if other != self.identifier() => return None,
                (option::STATUS, [high, low, ..]) if (*high, *low) != (0, 0) => {
                    return Some(Err(Dhcp6Rejected::Status(u16::from_be_bytes([*high, *low]))));
                }
                (option::NAME_SERVERS, _) => {
                    let servers = value.as_chunks().0.iter();
                    let servers = servers.map(|octets: &[u8; 16]| Ipv6Addr::from_octets(*octets));
                    answer.name_servers.extend(servers.filter(|s| is_host(*s)));
                    answer.name_servers.truncate(MAX_SERVERS);
                }
                (option::REFRESH, _) => {
                    let seconds = value.try_into().map_or(MOST_REFRESH_S, u32::from_be_bytes);
                    answer.seconds = seconds.clamp(LEAST_REFRESH_S, MOST_REFRESH_S);
                }
                _ => {}
            }
            rest = behind;
        }
        Some(Ok(answer))
    }
}

/// True for an address that a host can have.
#[must_use]
pub fn is_host(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn reply(question: &[u8], options: &[u8]) -> Vec<u8> {
        [&[REPLY], &question[1..4], options].concat()
    }

    fn name_server(last: u8) -> Vec<u8> {
        let mut option = vec![0, 23, 0, 16, 0x20, 1, 0xd, 0xb8];
        option.resize(19, 0);
        option.push(last);
        option
    }

    #[test]
    fn it_asks_while_a_router_says_that_somebody_is_there_and_again_when_the_time_is_over() {
        let mut client = Client::new(HARDWARE, 7);
        assert_eq!(client.on_time(0), None, "nobody is there");
        client.on_router(true, 10);
        let question = client.on_time(10).unwrap();
        assert_eq!(client.on_time(11), None, "an answer has its time");
        assert!(client.on_time(1_010).is_some());
        let options = [name_server(5), vec![0, 32, 0, 4, 0, 0, 3, 132]].concat();
        let answer = client.on_message(&reply(&question, &options), 2_000).unwrap().unwrap();
        assert_eq!(answer.name_servers, ["2001:db8::5".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!((answer.seconds, client.deadline()), (900, Some(902_000)));
        client.on_router(false, 3_000);
        assert_eq!(client.deadline(), None);
    }

    #[test]
    fn what_does_not_answer_or_is_cut_short_is_ignored() {
        let mut client = Client::new(HARDWARE, 7);
        client.on_router(true, 0);
        let question = client.on_time(0).unwrap();
        let good = reply(&question, &name_server(5));
        for length in 5..good.len() {
            let cut = client.clone().on_message(&good[..length], 1);
            assert_eq!(cut, Some(Err(Dhcp6Rejected::CutShort)), "{length}");
        }
        let mut other = good.clone();
        other[1] ^= 1;
        assert_eq!(client.on_message(&other, 1), None);
        let to_another = reply(&question, &[0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(client.on_message(&to_another, 1), None, "somebody else's answer");
        assert!(matches!(client.on_message(&good, 1), Some(Ok(_))));
        assert_eq!(client.on_message(&good, 1), None, "one question has one answer");
    }

    #[test]
    fn a_server_that_has_failed_is_asked_again_and_said_so_once() {
        let mut client = Client::new(HARDWARE, 7);
        client.on_router(true, 0);
        let failure = [0, 13, 0, 2, 0, 1];
        let mut said = Vec::new();
        for _ in 0..6 {
            let at = client.deadline().unwrap();
            let question = client.on_time(at).unwrap();
            said.extend(client.on_message(&reply(&question, &failure), at));
            // Elapsed time, at the end of the message.
            let elapsed = u64::from(u16::from_be_bytes(*question.last_chunk().unwrap()));
            assert_eq!(elapsed, at / 10);
        }
        assert_eq!(said, [Err(Dhcp6Rejected::Status(1))]);
        let waited = client.deadline().unwrap();
        assert!((32_000..=64_000).contains(&waited), "the usual wait, and not a day: {waited}");
    }

    #[test]
    fn routers_that_do_not_agree_make_nobody_ask_more_often() {
        let mut client = Client::new(HARDWARE, 7);
        let mut questions = 0;
        for now in 0..10_000 {
            client.on_router(now % 2 == 0, now);
            questions += u32::from(client.on_time(now).is_some());
        }
        assert!(questions <= 5, "{questions}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut client = Client::new(HARDWARE, 7);
            client.on_router(true, 0);
            let question = client.on_time(0).unwrap();
            if let Some(Ok(answer)) = client.on_message(&reply(&question, &bytes), 1) {
                prop_assert!(answer.name_servers.len() <= MAX_SERVERS);
                prop_assert!((LEAST_REFRESH_S..=MOST_REFRESH_S).contains(&answer.seconds));
            }
        }
    }
}
