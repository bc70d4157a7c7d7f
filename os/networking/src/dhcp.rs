//! A DHCPv4 client (RFC 2131) as a state machine: its inputs are the time, the state of the link, received messages
//! and the holder of an address; its outputs are messages to send and the lease that holds.
//!
//! Servers are strangers: what they say is bounded, checked against what was asked, and never
//! makes the client send in a storm. The client reports each kind of message that it rejects once, with the reason;
//! it reports that nobody answers for silence alone.

mod lease;

pub use lease::{
    ASSUMED_LEASE_S, Answer, DhcpRejected, LEAST_LEASE_S, Lease, MAX_ROUTES, MAX_SERVERS, Route,
};

use lease::option;
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr, EthernetAddress};
use std::fmt;
use std::net::Ipv4Addr;

/// Port of clients.
pub const CLIENT_PORT: u16 = 68;
/// Port of servers.
pub const SERVER_PORT: u16 = 67;
/// Longest message that is read, in bytes; longer ones are cut, and then malformed.
pub const MAX_MESSAGE_BYTES: usize = 1500;
/// Longest message as servers are told of it, in bytes: what fits any Ethernet frame without the headers below.
const OFFERED_MESSAGE_BYTES: u16 = 1472;
/// Shortest time between renewals, in milliseconds; a lease that is shorter than twice this is renewed sooner.
const SHORTEST_RENEWAL_MS: u64 = 30_000;
/// First wait for an answer, in milliseconds; each further one is twice as long, up to the last.
const FIRST_WAIT_MS: u64 = 4_000;
const LAST_WAIT_MS: u64 = 64_000;
/// Requests without an answer after which the client looks for another offer.
const REQUESTS: u32 = 4;
/// Number of looks for a host that has the address already, and milliseconds before each. The kernel sends three ARP
/// probes, a second apart (RFC 5227, 2.1.1).
const LOOKS: u32 = 3;
const LOOK_MS: u64 = 1_100;
/// Wait after an address conflict, in milliseconds (RFC 2131, 3.1.5); twice as long each time.
const DECLINED_MS: u64 = 10_000;
/// Wait after a server that has taken back what it offered, in milliseconds; twice as long each time.
const DENIED_MS: u64 = 1_000;
/// Number of different addresses, all held by one host, that show it to answer for every address (proxy ARP).
const PROXIED: usize = 3;
/// Parameter request list. Classless routes stand before routers (RFC 3442).
const ASKED: &[u8] = &[
    option::MASK,
    option::CLASSLESS_ROUTES,
    option::CLASSLESS_ROUTES_OF_WINDOWS,
    option::ROUTER,
    option::STATIC_ROUTES,
    option::NAME_SERVERS,
    option::TIME_SERVERS,
    option::LEASE,
    option::SERVER,
    option::RENEWAL,
    option::REBINDING,
];

/// An instruction to the caller, or a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The caller sends this message from [`CLIENT_PORT`] to [`SERVER_PORT`] of the address.
    Send(Ipv4Addr, Vec<u8>),
    /// The caller has the kernel send ARP probes for this address.
    Probe(Ipv4Addr),
    /// The caller looks up who has answered for this address, and calls [`Client::on_neighbour`].
    Look(Ipv4Addr),
    /// This lease holds; it may be the one that has held already.
    Acquired(Lease),
    /// The lease holds no more, for this reason.
    Lost(LeaseLost),
    /// A message of a server was rejected, for this reason.
    Rejected(DhcpRejected),
    /// A part of a lease is ignored, for this reason.
    Ignored(DhcpRejected),
    /// No server has answered.
    Silence,
    /// Another host has the address already (address conflict, RFC 5227).
    Taken {
        /// The address that a server has granted.
        address: Ipv4Addr,
        /// Hardware address of that host.
        holder: [u8; 6],
        /// True where the address is used all the same, since the host answers for every address.
        is_used: bool,
    },
}

/// Reason for which a lease holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseLost {
    /// The time of the lease is over, and no server has renewed it.
    Expired,
    /// The server has taken the lease back (DHCPNAK).
    Revoked,
}

impl fmt::Display for LeaseLost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Expired => "lease expired",
            Self::Revoked => "lease revoked by the server (DHCPNAK)",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The link is down.
    Down,
    /// The client looks for servers (DHCPDISCOVER).
    Selecting,
    /// The client requests the lease that a server has offered; true where the offer said a lease time.
    Requesting(Lease, bool),
    /// The client checks a granted lease for an address conflict: when it was granted, and how many looks found
    /// nobody.
    Probing(Lease, u64, u32),
    /// The client asks whether the lease from before the link was down still holds (INIT-REBOOT).
    Confirming,
    /// The client has a lease.
    Bound,
    /// The client asks the server of the lease for more time.
    Renewing,
    /// The client asks all servers for more time.
    Rebinding,
}

/// The DHCPv4 client of one interface.
#[derive(Debug, Clone)]
pub struct Client {
    hardware: [u8; 6],
    random: u64,
    state: State,
    /// The lease that holds, and when it began, in milliseconds.
    lease: Option<(Lease, u64)>,
    transaction: u32,
    /// Number of messages that were sent in this state.
    sent: u32,
    /// Time at which the state began, in milliseconds.
    since: u64,
    /// Time of the next message or change of state, in milliseconds.
    next: u64,
    /// A server has answered since the client looks for servers.
    heard: bool,
    /// [`Event::Silence`] was reported.
    silence_said: bool,
    /// Reasons that were reported since the link came up, one of each kind.
    said: Vec<DhcpRejected>,
    /// Number of offers in a row that servers took back.
    denied: u32,
    /// Addresses in a row that were declined, and the hardware addresses of their holders.
    declined: Vec<(Ipv4Addr, [u8; 6])>,
}

impl Client {
    /// Makes the client of an interface with this hardware address. `random` makes its transaction ids hard to guess.
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
            heard: false,
            silence_said: false,
            said: Vec::new(),
            denied: 0,
            declined: Vec::new(),
        }
    }

    /// Returns the lease that holds.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref().map(|(lease, _)| lease)
    }

    /// Returns the time at which [`on_time`](Self::on_time) is to be called, in milliseconds of the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let expiry = self.expiry();
        match self.state {
            State::Down => expiry,
            _ => Some(expiry.map_or(self.next, |expiry| expiry.min(self.next))),
        }
    }

    /// Takes note that the link came up at `now`.
    pub fn link_up(&mut self, now: u64) {
        if self.state == State::Down {
            let known = self.lease.is_some();
            (self.silence_said, self.denied) = (false, 0);
            self.said.clear();
            self.declined.clear();
            self.enter(if known { State::Confirming } else { State::Selecting }, now);
        }
    }

    /// Takes note that the link went down. The lease holds on: it may be the same network that comes back.
    pub fn link_down(&mut self) {
        self.state = State::Down;
    }

    /// Does what is due at `now`.
    pub fn on_time(&mut self, now: u64) -> Vec<Event> {
        if self.expiry().is_some_and(|expiry| now >= expiry) {
            self.lease = None;
            if self.state != State::Down {
                self.enter(State::Selecting, now);
            }
            return vec![Event::Lost(LeaseLost::Expired)];
        }
        if self.state == State::Down || now < self.next {
            return Vec::new();
        }
        match &self.state {
            State::Down => Vec::new(),
            State::Bound => {
                self.enter(State::Renewing, now);
                self.send(now)
            }
            State::Renewing if now >= self.at(|lease| lease.renewal.1) => {
                self.enter(State::Rebinding, now);
                self.send(now)
            }
            State::Requesting(..) if self.sent >= REQUESTS => {
                self.enter(State::Selecting, now);
                self.send(now)
            }
            // Nobody says no: the lease holds for as long as it was given.
            State::Confirming if self.sent >= REQUESTS => {
                self.be_bound(now);
                Vec::new()
            }
            State::Probing(lease, ..) => {
                let address = lease.address;
                self.next = now.saturating_add(LOOK_MS);
                vec![Event::Look(address)]
            }
            State::Selecting if self.sent >= REQUESTS && !self.heard && !self.silence_said => {
                self.silence_said = true;
                let mut events = vec![Event::Silence];
                events.extend(self.send(now));
                events
            }
            _ => self.send(now),
        }
    }

    /// Takes a message that was received; one that answers nothing is ignored.
    pub fn on_message(&mut self, bytes: &[u8], now: u64) -> Vec<Event> {
        let Some(answer) = Answer::parse(bytes) else {
            return Vec::new();
        };
        if answer.transaction != self.transaction || answer.hardware != self.hardware {
            return Vec::new();
        }
        self.heard = true;
        match answer.kind {
            DhcpMessageType::Offer => self.on_offer(&answer, now),
            DhcpMessageType::Ack => self.on_grant(&answer, now),
            _ => self.on_denial(&answer, now),
        }
    }

    fn on_offer(&mut self, answer: &Answer, now: u64) -> Vec<Event> {
        // While an address is being declined, no offer was asked for.
        if self.state != State::Selecting || self.sent == 0 {
            return Vec::new();
        }
        match answer.lease(None) {
            Ok((lease, mut ignored)) => {
                // There are servers that say it with the grant alone.
                let says_time = !ignored.contains(&DhcpRejected::NoTime);
                ignored.retain(|rejected| *rejected != DhcpRejected::NoTime);
                let mut events = self.ignore(ignored);
                self.enter(State::Requesting(lease, says_time), now);
                events.extend(self.send(now));
                events
            }
            Err(rejected) => self.reject(rejected),
        }
    }

    fn on_grant(&mut self, answer: &Answer, now: u64) -> Vec<Event> {
        let (earlier, had_time) = match (&self.state, &self.lease) {
            (State::Requesting(offer, says_time), _) => (offer.clone(), *says_time),
            (State::Renewing | State::Rebinding | State::Confirming, Some((held, _))) => {
                (held.clone(), true)
            }
            _ => return Vec::new(),
        };
        let (lease, mut ignored) = match answer.lease(Some(&earlier)) {
            Ok(granted) => granted,
            Err(rejected) => return self.reject(rejected),
        };
        // Another address or another server is not what was asked for.
        if lease.address != earlier.address {
            return self.reject(DhcpRejected::OtherAddress(lease.address));
        }
        let asked_one = matches!(self.state, State::Requesting(..) | State::Renewing);
        if asked_one && lease.server != earlier.server {
            return self.reject(DhcpRejected::OtherServer(lease.server));
        }
        if !had_time && !answer.says_time() {
            ignored.push(DhcpRejected::NoTime);
        }
        let mut events = self.ignore(ignored);
        if matches!(self.state, State::Requesting(..)) {
            let address = lease.address;
            self.enter(State::Probing(lease, now, 0), now);
            self.next = now.saturating_add(LOOK_MS);
            events.push(Event::Probe(address));
        } else {
            events.push(self.acquire(lease, now, now));
        }
        events
    }

    fn on_denial(&mut self, answer: &Answer, now: u64) -> Vec<Event> {
        let server = answer.server();
        match (&self.state, &self.lease) {
            (State::Requesting(offer, _), _) if server == Some(offer.server) => {
                let offered_by = offer.server;
                self.look_again(now);
                self.reject(DhcpRejected::Denied(offered_by))
            }
            (State::Renewing, Some((held, _))) if server != Some(held.server) => Vec::new(),
            (State::Renewing | State::Rebinding | State::Confirming, Some(_)) => {
                self.lease = None;
                self.look_again(now);
                vec![Event::Lost(LeaseLost::Revoked)]
            }
            _ => Vec::new(),
        }
    }

    /// Looks for servers anew: at once the first time, and later each time that an offer was taken back.
    fn look_again(&mut self, now: u64) {
        self.enter(State::Selecting, now);
        if self.denied > 0 {
            let wait = DENIED_MS.checked_shl(self.denied.saturating_sub(1)).unwrap_or(u64::MAX);
            self.next = now.saturating_add(wait.min(LAST_WAIT_MS));
        }
        self.denied = self.denied.saturating_add(1).min(16);
    }

    /// Takes the hardware address of the host that has the address of [`Event::Look`]; `None` where nobody has
    /// answered.
    pub fn on_neighbour(&mut self, holder: Option<[u8; 6]>, now: u64) -> Vec<Event> {
        let State::Probing(lease, granted, looks) = &mut self.state else {
            return Vec::new();
        };
        let Some(holder) = holder else {
            *looks = looks.saturating_add(1);
            if *looks < LOOKS {
                return Vec::new();
            }
            let (lease, granted) = (lease.clone(), *granted);
            return vec![self.acquire(lease, granted, now)];
        };
        let (lease, granted) = (lease.clone(), *granted);
        let address = lease.address;
        self.declined.retain(|(known, of)| *known != address && *of == holder);
        self.declined.push((address, holder));
        let is_used = self.declined.len() >= PROXIED;
        let taken = Event::Taken { address, holder, is_used };
        if is_used {
            return vec![taken, self.acquire(lease, granted, now)];
        }
        let sent =
            self.message(DhcpMessageType::Decline, (None, Some(address), Some(lease.server)), 0);
        let mut events = vec![taken];
        events.extend(sent.map(|bytes| Event::Send(Ipv4Addr::BROADCAST, bytes)));
        self.enter(State::Selecting, now);
        let times = u32::try_from(self.declined.len()).unwrap_or(1).saturating_sub(1);
        let wait = DECLINED_MS.checked_shl(times).unwrap_or(LAST_WAIT_MS).min(LAST_WAIT_MS);
        self.next = now.saturating_add(wait);
        events
    }

    fn acquire(&mut self, lease: Lease, granted: u64, now: u64) -> Event {
        self.lease = Some((lease.clone(), granted));
        (self.silence_said, self.denied) = (false, 0);
        self.declined.clear();
        self.be_bound(now);
        Event::Acquired(lease)
    }

    fn be_bound(&mut self, now: u64) {
        self.enter(State::Bound, now);
        let renewal = self.at(|lease| lease.renewal.0);
        let since = self.at(|_| 0);
        let earliest = since.saturating_add(self.part_of_lease(2));
        self.next = renewal.max(earliest).max(now.saturating_add(1_000));
    }

    /// Returns a part of the lease in milliseconds, or [`SHORTEST_RENEWAL_MS`] if that is less: the shortest time
    /// between requests for more time.
    fn part_of_lease(&self, parts: u64) -> u64 {
        let seconds = self.lease().and_then(|lease| lease.seconds);
        let part = seconds.map(|s| u64::from(s).saturating_mul(1000).checked_div(parts));
        part.flatten().unwrap_or(SHORTEST_RENEWAL_MS).clamp(1_000, SHORTEST_RENEWAL_MS)
    }

    /// Reports why a message is rejected, unless a reason of the kind was reported since the link came up.
    fn reject(&mut self, rejected: DhcpRejected) -> Vec<Event> {
        if self.mark_said(rejected) { Vec::new() } else { vec![Event::Rejected(rejected)] }
    }

    fn ignore(&mut self, ignored: Vec<DhcpRejected>) -> Vec<Event> {
        let news = ignored.into_iter().filter(|rejected| !self.mark_said(*rejected));
        news.map(Event::Ignored).collect()
    }

    /// Remembers a reason as reported. True where one of its kind was reported before.
    fn mark_said(&mut self, rejected: DhcpRejected) -> bool {
        let known = self.said.iter().any(|said| said.is_like(&rejected));
        if !known {
            self.said.push(rejected);
        }
        known
    }

    /// Returns the time that is so many seconds after the lease began, in milliseconds.
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
        if !matches!(state, State::Requesting(..) | State::Probing(..) | State::Bound) {
            self.transaction = u32::try_from(self.draw() >> 32).unwrap_or(0);
            self.heard = false;
        }
        self.state = state;
        self.sent = 0;
        self.since = now;
        self.next = now;
    }

    /// Returns the next random number (splitmix64).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn send(&mut self, now: u64) -> Vec<Event> {
        let next = match self.state {
            // Half of what is left, as the RFC wants it; the next state is not missed.
            State::Renewing => {
                let end = self.at(|lease| lease.renewal.1);
                let wait = (end.saturating_sub(now) / 2).max(self.part_of_lease(8));
                now.saturating_add(wait).min(end.max(now.saturating_add(1_000)))
            }
            State::Rebinding => {
                let end = self.expiry().unwrap_or(u64::MAX);
                let wait = (end.saturating_sub(now) / 2).max(self.part_of_lease(8));
                now.saturating_add(wait)
            }
            _ => {
                let wait = FIRST_WAIT_MS.checked_shl(self.sent).unwrap_or(LAST_WAIT_MS);
                let jitter = self.draw() % 2_000;
                let wait = wait.min(LAST_WAIT_MS).saturating_sub(1_000).saturating_add(jitter);
                now.saturating_add(wait)
            }
        };
        self.sent = self.sent.saturating_add(1);
        self.next = next;
        let held = self.lease().map(|lease| lease.address);
        let (kind, addresses) = match &self.state {
            State::Selecting => (DhcpMessageType::Discover, (None, None, None)),
            State::Requesting(offer, _) => {
                (DhcpMessageType::Request, (None, Some(offer.address), Some(offer.server)))
            }
            State::Confirming => (DhcpMessageType::Request, (None, held, None)),
            _ => (DhcpMessageType::Request, (held, None, None)),
        };
        let to = match (&self.state, &self.lease) {
            (State::Renewing, Some((lease, _))) => lease.server,
            _ => Ipv4Addr::BROADCAST,
        };
        let message = self.message(kind, addresses, now.saturating_sub(self.since));
        message.map(|bytes| Event::Send(to, bytes)).into_iter().collect()
    }

    /// Makes a message with the client's address, the address that it requests, and the identifier of the server.
    fn message(
        &self,
        kind: DhcpMessageType,
        (client, requested, server): (Option<Ipv4Addr>, Option<Ipv4Addr>, Option<Ipv4Addr>),
        waited_ms: u64,
    ) -> Option<Vec<u8>> {
        let hardware = EthernetAddress(self.hardware);
        let declines = kind == DhcpMessageType::Decline;
        let message = DhcpRepr {
            message_type: kind,
            transaction_id: self.transaction,
            secs: u16::try_from(waited_ms / 1000).unwrap_or(u16::MAX),
            client_hardware_address: hardware,
            client_ip: client.unwrap_or(Ipv4Addr::UNSPECIFIED),
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            // There is no address yet to which an answer could come, and there are no raw sockets.
            broadcast: client.is_none() && !declines,
            requested_ip: requested,
            client_identifier: Some(hardware),
            server_identifier: server,
            parameter_request_list: (!declines).then_some(ASKED),
            dns_servers: None,
            max_size: (!declines).then_some(OFFERED_MESSAGE_BYTES),
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
