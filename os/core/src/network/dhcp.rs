//! A DHCPv4 client (RFC 2131) as a state machine: it is told what time it is, what the link does and
//! what was received, and says what to send and which lease holds.
//!
//! Servers are strangers: what they say is bounded, checked against what was asked, and never
//! makes the client send more often than `SHORTEST_RENEWAL_MS` lets it.

use super::address::is_of_apps;
use super::grants::masked;
use smoltcp::wire::{DhcpMessageType, DhcpOpCode, DhcpPacket, DhcpRepr, EthernetAddress};
use std::net::{IpAddr, Ipv4Addr};

/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Port of servers.
pub const SERVER_PORT: u16 = 67;
/// Longest message that is read, in bytes; longer ones are cut, and then malformed.
pub const MAX_MESSAGE_BYTES: usize = 1500;
/// Most name servers, and most time servers, that are taken from a lease.
pub const MAX_SERVERS: usize = 3;
/// A lease shorter than this is no lease, in seconds: it would be renewed more often than it helps.
pub const LEAST_LEASE_S: u32 = 60;
/// No lease is asked about more often, in milliseconds.
const SHORTEST_RENEWAL_MS: u64 = 30_000;
/// First wait for an answer, in milliseconds; each further one is twice as long, up to the last.
const FIRST_WAIT_MS: u64 = 4_000;
const LAST_WAIT_MS: u64 = 64_000;
/// Requests without an answer after which another offer is looked for.
const REQUESTS: u32 = 4;
/// Options that are asked for: mask, router, name servers, time servers, lease times.
const ASKED: &[u8] = &[1, 3, 6, 42, 51, 54, 58, 59];
/// Numbers of options (RFC 2132).
mod option {
    pub(super) const MASK: u8 = 1;
    pub(super) const ROUTER: u8 = 3;
    pub(super) const NAME_SERVERS: u8 = 6;
    pub(super) const TIME_SERVERS: u8 = 42;
    pub(super) const LEASE: u8 = 51;
    pub(super) const KIND: u8 = 53;
    pub(super) const SERVER: u8 = 54;
    pub(super) const RENEWAL: u8 = 58;
    pub(super) const REBINDING: u8 = 59;
}

/// What a server has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of its prefix.
    pub prefix: u8,
    /// The way out, on the same link.
    pub gateway: Option<Ipv4Addr>,
    /// Servers for names.
    pub name_servers: Vec<Ipv4Addr>,
    /// Servers for time.
    pub time_servers: Vec<Ipv4Addr>,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// Seconds for which it holds; `None` for ever.
    pub seconds: Option<u32>,
    /// Seconds after which it is renewed, and rebound.
    pub renewal: (u32, u32),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Send this message from [`CLIENT_PORT`] to [`SERVER_PORT`] of the address.
    Send(Ipv4Addr, Vec<u8>),
    /// This lease holds; it may be the one that has held already.
    Acquired(Lease),
    /// No lease holds any more, for this reason.
    Lost(&'static str),
}

/// A message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    kind: DhcpMessageType,
    transaction: u32,
    hardware: [u8; 6],
    address: Ipv4Addr,
    mask: Option<Ipv4Addr>,
    routers: Vec<Ipv4Addr>,
    name_servers: Vec<Ipv4Addr>,
    time_servers: Vec<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    lease: Option<u32>,
    renewal: Option<u32>,
    rebinding: Option<u32>,
}

impl Answer {
    /// Reads a server's message; `None` when it is none.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = DhcpPacket::new_checked(bytes).ok()?;
        let ethernet = u16::from(packet.hardware_type()) == 1 && packet.hardware_len() == 6;
        if !ethernet || packet.magic_number() != 0x6382_5363 {
            return None;
        }
        let mut answer = Self {
            kind: DhcpMessageType::Unknown(0),
            transaction: packet.transaction_id(),
            hardware: packet.client_hardware_address().0,
            address: packet.your_ip(),
            mask: None,
            routers: Vec::new(),
            name_servers: Vec::new(),
            time_servers: Vec::new(),
            server: None,
            lease: None,
            renewal: None,
            rebinding: None,
        };
        for found in packet.options() {
            let one = || addresses(found.data).first().copied();
            let number = || found.data.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            match found.kind {
                option::KIND => answer.kind = DhcpMessageType::from(*found.data.first()?),
                option::MASK => answer.mask = one(),
                option::ROUTER => answer.routers = addresses(found.data),
                option::NAME_SERVERS => answer.name_servers = addresses(found.data),
                option::TIME_SERVERS => answer.time_servers = addresses(found.data),
                option::SERVER => answer.server = one(),
                option::LEASE => answer.lease = number(),
                option::RENEWAL => answer.renewal = number(),
                option::REBINDING => answer.rebinding = number(),
                _ => {}
            }
        }
        let of_server = matches!(
            answer.kind,
            DhcpMessageType::Offer | DhcpMessageType::Ack | DhcpMessageType::Nak
        );
        (of_server && packet.opcode() == DhcpOpCode::Reply).then_some(answer)
    }

    /// The lease that it offers or grants, if it is one that a device can use.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        let prefix = match self.mask {
            Some(mask) => {
                let (ones, zeros) =
                    (mask.to_bits().leading_ones(), mask.to_bits().trailing_zeros());
                let whole = ones.checked_add(zeros) == Some(32);
                u8::try_from(ones).ok().filter(|ones| whole && (8..=30).contains(ones))?
            }
            None => 24,
        };
        let seconds = self.lease.filter(|seconds| *seconds >= LEAST_LEASE_S)?;
        let seconds = Some(seconds).filter(|seconds| *seconds != u32::MAX);
        let network = |address: Ipv4Addr| masked(IpAddr::V4(address), prefix);
        let edges = {
            let bits = self.address.to_bits() & (u32::MAX >> u32::from(prefix));
            bits == 0 || bits == u32::MAX >> u32::from(prefix)
        };
        if !is_host(self.address) || edges {
            return None;
        }
        let usable = |found: &[Ipv4Addr]| -> Vec<Ipv4Addr> {
            let usable = found.iter().copied().filter(|server| is_host(*server));
            usable.take(MAX_SERVERS).collect()
        };
        let on_link = |router: &&Ipv4Addr| {
            network(**router) == network(self.address) && **router != self.address
        };
        let most = seconds.unwrap_or(u32::MAX);
        let renewal = match (self.renewal, self.rebinding) {
            (Some(first), Some(last)) if first > 0 && first < last && last < most => (first, last),
            // The RFC's own: a half, and seven eighths.
            _ => (most / 2, most.saturating_sub(most / 8)),
        };
        Some(Lease {
            address: self.address,
            prefix,
            gateway: usable(&self.routers).iter().find(on_link).copied(),
            name_servers: usable(&self.name_servers),
            time_servers: usable(&self.time_servers),
            server: self.server.filter(|server| is_host(*server))?,
            seconds,
            renewal,
        })
    }
}

fn addresses(bytes: &[u8]) -> Vec<Ipv4Addr> {
    let chunks = bytes.as_chunks().0.iter().take(16);
    chunks.map(|octets: &[u8; 4]| Ipv4Addr::from_octets(*octets)).collect()
}

/// True for an address that one host of a network can have, and that is none of our own links'.
fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && !address.is_loopback() && first < 224 && !is_of_apps(address.into())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing is plugged in.
    Down,
    /// Looking for servers.
    Selecting,
    /// Asking for what one of them has offered.
    Requesting(Lease),
    /// Asking whether the lease from before still holds here.
    Confirming,
    /// Using a lease.
    Bound,
    /// Asking the server for more time.
    Renewing,
    /// Asking all servers for more time.
    Rebinding,
}

/// The client of one link.
#[derive(Debug, Clone)]
pub struct Client {
    hardware: [u8; 6],
    random: u64,
    state: State,
    /// The lease that holds, and when it began.
    lease: Option<(Lease, u64)>,
    transaction: u32,
    /// Messages sent in this state.
    sent: u32,
    /// When the state began.
    since: u64,
    /// When to send next, or to change state.
    next: u64,
}

impl Client {
    /// A client of a link with this hardware address. `random` makes its numbers hard to guess.
    #[must_use]
    pub fn new(hardware: [u8; 6], random: u64) -> Self {
        Self {
            hardware,
            random,
            state: State::Down,
            lease: None,
            transaction: 0,
            sent: 0,
            since: 0,
            next: 0,
        }
    }

    /// The lease that holds.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref().map(|(lease, _)| lease)
    }

    /// When [`on_time`](Self::on_time) is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let expiry = self.expiry();
        match self.state {
            State::Down => expiry,
            _ => Some(expiry.map_or(self.next, |expiry| expiry.min(self.next))),
        }
    }

    /// Something was plugged in.
    pub fn link_up(&mut self, now: u64) {
        if self.state == State::Down {
            let known = self.lease.is_some();
            self.enter(if known { State::Confirming } else { State::Selecting }, now);
        }
    }

    /// Nothing is plugged in any more. The lease holds on: it may be the same network that comes back.
    pub fn link_down(&mut self) {
        self.state = State::Down;
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: u64) -> Option<Event> {
        if self.expiry().is_some_and(|expiry| now >= expiry) {
            self.lease = None;
            if self.state != State::Down {
                self.enter(State::Selecting, now);
            }
            return Some(Event::Lost("the lease has run out"));
        }
        if self.state == State::Down || now < self.next {
            return None;
        }
        match &self.state {
            State::Down => None,
            State::Bound => {
                self.enter(State::Renewing, now);
                self.send(now)
            }
            State::Renewing if now >= self.at(|lease| lease.renewal.1) => {
                self.enter(State::Rebinding, now);
                self.send(now)
            }
            State::Requesting(_) if self.sent >= REQUESTS => {
                self.enter(State::Selecting, now);
                self.send(now)
            }
            // Nobody says no: the lease holds for as long as it was given.
            State::Confirming if self.sent >= REQUESTS => {
                self.be_bound(now);
                None
            }
            _ => self.send(now),
        }
    }

    /// Takes a message that was received.
    pub fn on_message(&mut self, bytes: &[u8], now: u64) -> Option<Event> {
        let answer = Answer::parse(bytes)?;
        if answer.transaction != self.transaction || answer.hardware != self.hardware {
            return None;
        }
        match (&self.state, answer.kind) {
            (State::Selecting, DhcpMessageType::Offer) => {
                let lease = answer.lease()?;
                self.enter(State::Requesting(lease), now);
                self.send(now)
            }
            (State::Requesting(offer), DhcpMessageType::Ack) => {
                let lease = answer.lease()?;
                // Another address or another server is not what was asked for.
                if (lease.address, lease.server) != (offer.address, offer.server) {
                    return None;
                }
                self.acquire(lease, now)
            }
            (State::Renewing | State::Rebinding | State::Confirming, DhcpMessageType::Ack) => {
                let (lease, (held, _)) = (answer.lease()?, self.lease.as_ref()?);
                let other_server = self.state == State::Renewing && lease.server != held.server;
                if lease.address != held.address || other_server {
                    return None;
                }
                self.acquire(lease, now)
            }
            (State::Requesting(offer), DhcpMessageType::Nak) => {
                if answer.server != Some(offer.server) {
                    return None;
                }
                self.enter(State::Selecting, now);
                None
            }
            (State::Renewing | State::Rebinding | State::Confirming, DhcpMessageType::Nak) => {
                let (held, _) = self.lease.as_ref()?;
                if self.state == State::Renewing && answer.server != Some(held.server) {
                    return None;
                }
                self.lease = None;
                self.enter(State::Selecting, now);
                Some(Event::Lost("the server has taken the lease back"))
            }
            _ => None,
        }
    }

    fn acquire(&mut self, lease: Lease, now: u64) -> Option<Event> {
        self.lease = Some((lease.clone(), now));
        self.be_bound(now);
        Some(Event::Acquired(lease))
    }

    fn be_bound(&mut self, now: u64) {
        self.enter(State::Bound, now);
        let renewal = self.at(|lease| lease.renewal.0);
        self.next = renewal.max(now.saturating_add(SHORTEST_RENEWAL_MS));
    }

    /// So many seconds after the lease began.
    fn at(&self, seconds: impl Fn(&Lease) -> u32) -> u64 {
        self.lease.as_ref().map_or(u64::MAX, |(lease, since)| {
            since.saturating_add(u64::from(seconds(lease)).saturating_mul(1000))
        })
    }

    fn expiry(&self) -> Option<u64> {
        let (lease, _) = self.lease.as_ref()?;
        let seconds = lease.seconds?;
        Some(self.at(|_| seconds))
    }

    fn enter(&mut self, state: State, now: u64) {
        // An answer belongs to the offer it was asked with; everything else is a new exchange.
        if !matches!(state, State::Requesting(_) | State::Bound) {
            self.transaction = u32::try_from(self.draw() >> 32).unwrap_or(0);
        }
        self.state = state;
        self.sent = 0;
        self.since = now;
        self.next = now;
    }

    /// The next random number (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn send(&mut self, now: u64) -> Option<Event> {
        let wait = match self.state {
            // Half of what is left, as the RFC wants it.
            State::Renewing | State::Rebinding => {
                let rebinding = self.state == State::Rebinding;
                let end = self.at(|lease| {
                    if rebinding { lease.seconds.unwrap_or(u32::MAX) } else { lease.renewal.1 }
                });
                (end.saturating_sub(now) / 2).max(SHORTEST_RENEWAL_MS)
            }
            _ => {
                let wait = FIRST_WAIT_MS.checked_shl(self.sent).unwrap_or(LAST_WAIT_MS);
                let jitter = self.draw() % 2_000;
                wait.min(LAST_WAIT_MS).saturating_sub(1_000).saturating_add(jitter)
            }
        };
        self.sent = self.sent.saturating_add(1);
        self.next = now.saturating_add(wait);
        let bytes = self.message(now)?;
        let to = match (&self.state, &self.lease) {
            (State::Renewing, Some((lease, _))) => lease.server,
            _ => Ipv4Addr::BROADCAST,
        };
        Some(Event::Send(to, bytes))
    }

    fn message(&self, now: u64) -> Option<Vec<u8>> {
        let held = self.lease();
        let (kind, client, requested, server) = match &self.state {
            State::Selecting => (DhcpMessageType::Discover, None, None, None),
            State::Requesting(offer) => {
                (DhcpMessageType::Request, None, Some(offer.address), Some(offer.server))
            }
            State::Confirming => (DhcpMessageType::Request, None, Some(held?.address), None),
            _ => (DhcpMessageType::Request, Some(held?.address), None, None),
        };
        let hardware = EthernetAddress(self.hardware);
        let message = DhcpRepr {
            message_type: kind,
            transaction_id: self.transaction,
            secs: u16::try_from(now.saturating_sub(self.since) / 1000).unwrap_or(u16::MAX),
            client_hardware_address: hardware,
            client_ip: client.unwrap_or(Ipv4Addr::UNSPECIFIED),
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            // There is no address yet to which an answer could come, and there are no raw sockets.
            broadcast: client.is_none(),
            requested_ip: requested,
            client_identifier: Some(hardware),
            server_identifier: server,
            parameter_request_list: Some(ASKED),
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        };
        // BOOTP's least length (RFC 1542, 2.1).
        let mut bytes = vec![0u8; message.buffer_len().max(300)];
        message.emit(&mut DhcpPacket::new_unchecked(bytes.as_mut_slice())).ok()?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests;
