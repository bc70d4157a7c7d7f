//! Stateless DHCPv6 (RFC 8415, 6.1): asking for name servers where a router says that there is somebody
//! to ask. Addresses come from router advertisements alone.

use super::dhcp::MAX_SERVERS;
use std::net::Ipv6Addr;

/// Port of clients.
pub const CLIENT_PORT: u16 = 546;
/// Port of servers.
pub const SERVER_PORT: u16 = 547;
/// Every server of a link.
pub const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Longest message that is read, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1500;
/// First wait for an answer, in milliseconds; each further one is twice as long, up to the last.
const FIRST_WAIT_MS: u64 = 1_000;
const LAST_WAIT_MS: u64 = 120_000;
/// Bounds of the seconds after which it is asked again (RFC 8415, 21.23).
const LEAST_REFRESH_S: u32 = 600;
const MOST_REFRESH_S: u32 = 86_400;

const INFORMATION_REQUEST: u8 = 11;
const REPLY: u8 = 7;
/// Numbers of options.
mod option {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const REQUESTED: u16 = 6;
    pub(super) const ELAPSED: u16 = 8;
    pub(super) const NAME_SERVERS: u16 = 23;
    pub(super) const REFRESH: u16 = 32;
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Servers for names.
    pub name_servers: Vec<Ipv6Addr>,
    /// Seconds that this holds.
    pub seconds: u32,
}

/// The client of one link.
#[derive(Debug, Clone)]
pub struct Client {
    hardware: [u8; 6],
    transaction: [u8; 3],
    /// Messages sent without an answer.
    sent: u32,
    /// When to ask, while a router says that there is somebody.
    next: Option<u64>,
}

impl Client {
    /// A client of a link with this hardware address. `random` makes its number hard to guess.
    #[must_use]
    pub fn new(hardware: [u8; 6], random: u64) -> Self {
        let [a, b, c, ..] = random.to_ne_bytes();
        Self { hardware, transaction: [a, b, c], sent: 0, next: None }
    }

    /// A router says that there is a server, or that there is none.
    pub fn on_router(&mut self, has_server: bool, now: u64) {
        if !has_server {
            self.next = None;
        } else if self.next.is_none() {
            (self.sent, self.next) = (0, Some(now));
        }
    }

    /// When [`on_time`](Self::on_time) is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.next
    }

    /// The message to send to all servers, if it is time.
    pub fn on_time(&mut self, now: u64) -> Option<Vec<u8>> {
        self.next.filter(|next| now >= *next)?;
        let wait = FIRST_WAIT_MS.checked_shl(self.sent).unwrap_or(LAST_WAIT_MS).min(LAST_WAIT_MS);
        self.sent = self.sent.saturating_add(1).min(16);
        self.next = Some(now.saturating_add(wait));
        let [a, b, c] = self.transaction;
        let mut message = vec![INFORMATION_REQUEST, a, b, c];
        // An identifier of the link layer, Ethernet (RFC 8415, 11.4).
        let identifier = [&[0, 3, 0, 1][..], &self.hardware].concat();
        for (kind, value) in [
            (option::CLIENT, identifier),
            (
                option::REQUESTED,
                [option::NAME_SERVERS, option::REFRESH].map(u16::to_be_bytes).concat(),
            ),
            (option::ELAPSED, vec![0, 0]),
        ] {
            let length = u16::try_from(value.len()).unwrap_or(0);
            message.extend(kind.to_be_bytes());
            message.extend(length.to_be_bytes());
            message.extend(value);
        }
        Some(message)
    }

    /// Takes a message; `None` when it does not answer.
    pub fn on_message(&mut self, bytes: &[u8], now: u64) -> Option<Answer> {
        let [REPLY, a, b, c, options @ ..] = bytes else {
            return None;
        };
        if [*a, *b, *c] != self.transaction || self.next.is_none() {
            return None;
        }
        let mut answer = Answer { name_servers: Vec::new(), seconds: MOST_REFRESH_S };
        let mut rest = options;
        while !rest.is_empty() {
            let [k0, k1, l0, l1, more @ ..] = rest else {
                return None;
            };
            let length = usize::from(u16::from_be_bytes([*l0, *l1]));
            let (value, behind) = more.split_at_checked(length)?;
            match u16::from_be_bytes([*k0, *k1]) {
                option::NAME_SERVERS => {
                    let servers = value.as_chunks().0.iter();
                    let servers = servers.map(|octets: &[u8; 16]| Ipv6Addr::from_octets(*octets));
                    answer.name_servers = servers
                        .filter(|s| !s.is_unspecified() && !s.is_loopback() && !s.is_multicast())
                        .take(MAX_SERVERS)
                        .collect();
                }
                option::REFRESH => {
                    let seconds = value.try_into().map_or(MOST_REFRESH_S, u32::from_be_bytes);
                    answer.seconds = seconds.clamp(LEAST_REFRESH_S, MOST_REFRESH_S);
                }
                _ => {}
            }
            rest = behind;
        }
        self.sent = 0;
        self.next = Some(now.saturating_add(u64::from(answer.seconds).saturating_mul(1000)));
        Some(answer)
    }
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
        let answer = client.on_message(&reply(&question, &options), 2_000).unwrap();
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
            assert_eq!(client.clone().on_message(&good[..length], 1), None, "{length}");
        }
        let mut other = good.clone();
        other[1] ^= 1;
        assert_eq!(client.on_message(&other, 1), None);
        assert!(client.on_message(&good, 1).is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut client = Client::new(HARDWARE, 7);
            client.on_router(true, 0);
            let question = client.on_time(0).unwrap();
            if let Some(answer) = client.on_message(&reply(&question, &bytes), 1) {
                prop_assert!(answer.name_servers.len() <= MAX_SERVERS);
                prop_assert!((LEAST_REFRESH_S..=MOST_REFRESH_S).contains(&answer.seconds));
            }
        }
    }
}
