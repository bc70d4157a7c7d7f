//! The other end of a guest's cable: a whole network in one thread, in user space, on a UNIX socket of
//! QEMU (`-netdev stream`). It answers for every address there is, tells the lies of its [`World`],
//! and remembers every frame that the guest has sent.

mod answer;
mod servers;
mod world;

use self::answer::back;
pub use self::world::{
    Advertisement, Answer, Dhcp, GUEST, Instance, LeaseForm, Manner, NAME_SERVER, ROUTER,
    ROUTER_V6, TimeServer, World,
};

use crate::HarnessError;
use crate::packet::{Frame, ICMP6, Packet, Segment, TCP, UDP, carried, flag, octets};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Hardware address of everybody that the guest meets.
pub const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The port at which connections are taken, and nothing that comes by them.
pub const DEAF_PORT: u16 = 9;
/// Most frames that are remembered.
const MAX_SEEN: usize = 200_000;
const POLL: Duration = Duration::from_millis(5);
/// A connection that nobody takes is tried again after this.
const RETRANSMIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Shared {
    world: World,
    seen: Vec<Frame>,
    guest: Option<[u8; 6]>,
    outgoing: Vec<Frame>,
    ended: bool,
}

/// The peer of one machine. Dropping it ends it.
#[derive(Debug)]
pub struct Peer {
    shared: Arc<Mutex<Shared>>,
    path: PathBuf,
    /// How many times longer than its deadlines the guest may take.
    patience: u32,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.lock().ended = true;
    }
}

impl Peer {
    /// Waits at `path` for QEMU to plug in, in a thread of its own. The guest may take so many times longer than
    /// deadlines say.
    ///
    /// # Errors
    /// There can be no socket at the path.
    pub fn listen(path: &Path, world: World, patience: u32) -> Result<Self, HarnessError> {
        let failed =
            |source| HarnessError::File { operation: "listen at", path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let shared = Arc::new(Mutex::new(Shared {
            world,
            seen: Vec::new(),
            guest: None,
            outgoing: Vec::new(),
            ended: false,
        }));
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || serve(&listener, &of_thread));
        Ok(Self { shared, path: path.to_owned(), patience })
    }

    /// Where QEMU plugs in.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the network.
    pub fn change(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.lock().world);
    }

    /// Every IP packet that the guest has sent, since [`forget`](Self::forget).
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.lock().seen.iter().filter_map(Frame::packet).collect()
    }

    /// Forgets what was sent so far.
    pub fn forget(&self) {
        self.lock().seen.clear();
    }

    /// Sends a packet to the guest, as anybody.
    pub fn send(&self, packet: &Packet) {
        let mut shared = self.lock();
        let to = shared.guest.unwrap_or([0xff; 6]);
        let frame = framed(packet, to);
        shared.outgoing.push(frame);
    }

    /// Waits until the guest has sent a packet like that, and no longer than that.
    fn wait_for(
        &self,
        what: &str,
        within: Duration,
        like: impl Fn(&Packet) -> bool,
    ) -> Result<Packet, HarnessError> {
        let deadline = Instant::now().checked_add(within);
        loop {
            if let Some(found) = self.packets().into_iter().find(&like) {
                return Ok(found);
            }
            if deadline.is_some_and(|at| Instant::now() >= at) {
                let seen: Vec<String> = self.packets().iter().rev().take(12).map(line).collect();
                return Err(HarnessError::Timeout {
                    waited_for: what.to_owned(),
                    within,
                    tail: format!("the guest's last packets:\n{}", seen.join("\n")),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Connects to a TCP port of the guest as somebody outside, sends `payload`, and gives what comes
    /// back first; `None` when nobody takes the connection.
    #[must_use]
    pub fn ask(&self, to: IpAddr, port: u16, payload: &[u8], within: Duration) -> Option<Vec<u8>> {
        let within = within.saturating_mul(self.patience);
        let from: IpAddr =
            if to.is_ipv4() { Ipv4Addr::new(10, 77, 0, 99).into() } else { outsider_v6().into() };
        let local = {
            let shared = self.lock();
            u16::try_from(shared.seen.len() % 10_000).unwrap_or(0).saturating_add(40_000)
        };
        let send = |sequence, acknowledgement, flags, payload: &[u8]| {
            let segment = Segment {
                source: local,
                destination: port,
                sequence,
                acknowledgement,
                flags,
                payload: payload.to_vec(),
            };
            self.send(&Packet::with(from, to, TCP, &segment));
        };
        let answer = |wanted: &dyn Fn(&Segment) -> bool, within| {
            let is = |packet: &Packet| {
                packet.destination == from
                    && packet.segment().is_some_and(|s| s.destination == local && wanted(&s))
            };
            self.wait_for("an answer to a connection", within, is).ok()?.segment()
        };
        let deadline = Instant::now().checked_add(within)?;
        let accepted = loop {
            send(1, 0, flag::SYN, &[]);
            let wait = RETRANSMIT.min(within);
            if let Some(found) = answer(&|s| s.flags & (flag::SYN | flag::RST) != 0, wait) {
                break found;
            }
            if Instant::now() >= deadline {
                return None;
            }
        };
        if accepted.flags & flag::RST != 0 {
            return None;
        }
        let next = accepted.sequence.wrapping_add(1);
        send(2, next, flag::ACK, &[]);
        send(2, next, flag::ACK, payload);
        let reply = answer(&|s| !s.payload.is_empty(), within)?;
        Some(reply.payload)
    }
}

/// Somebody on the other side of the router.
#[must_use]
pub fn outsider_v6() -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x99)
}

/// A packet in a line.
#[must_use]
pub fn line(packet: &Packet) -> String {
    let ports = packet.segment().map_or(String::new(), |s| {
        format!(
            " {} -> {} flags {:#x}, {} bytes",
            s.source,
            s.destination,
            s.flags,
            s.payload.len()
        )
    });
    format!("{} -> {} protocol {}{ports}", packet.source, packet.destination, packet.protocol)
}

fn framed(packet: &Packet, to: [u8; 6]) -> Frame {
    let (carries, body) = packet.write();
    Frame { to, from: HARDWARE, carries, body }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one guest after the other; a machine that is started anew plugs in again.
fn serve(listener: &UnixListener, shared: &Mutex<Shared>) {
    while !lock(shared).ended {
        match listener.accept() {
            Ok((stream, _)) => serve_guest(stream, shared),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Frames on the socket: four bytes of length in front of each.
fn serve_guest(mut stream: UnixStream, shared: &Mutex<Shared>) {
    if stream.set_read_timeout(Some(POLL)).is_err() {
        return;
    }
    let (mut pending, mut buffer) = (Vec::new(), vec![0u8; 65_536]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => pending.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error)
                if [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut]
                    .contains(&error.kind()) => {}
            Err(_) => return,
        }
        let mut outgoing = Vec::new();
        {
            let mut shared = lock(shared);
            while let Some(frame) = take_frame(&mut pending) {
                outgoing.extend(answers(&shared.world, &frame));
                shared.guest = Some(frame.from);
                if shared.seen.len() < MAX_SEEN {
                    shared.seen.push(frame);
                }
            }
            outgoing.append(&mut shared.outgoing);
            if shared.ended {
                return;
            }
        }
        for frame in outgoing {
            let bytes = frame.write();
            let length = u32::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
            if stream.write_all(&[&length[..], &bytes].concat()).is_err() {
                return;
            }
        }
    }
}

fn take_frame(pending: &mut Vec<u8>) -> Option<Frame> {
    let length = usize::try_from(u32::from_be_bytes(*pending.first_chunk()?)).ok()?;
    let end = length.checked_add(4)?;
    let frame = Frame::read(pending.get(4..end)?);
    pending.drain(..end);
    frame
}

/// What the network says to one frame.
fn answers(world: &World, frame: &Frame) -> Vec<Frame> {
    if frame.carries == carried::ARP {
        return arp(world, frame).into_iter().collect();
    }
    let Some(packet) = frame.packet() else {
        return Vec::new();
    };
    let packets = match (packet.protocol, packet.segment()) {
        (UDP, Some(segment)) => match segment.destination {
            67 => servers::dhcp(world, &segment),
            123 => servers::time(world, &packet, &segment).into_iter().collect(),
            53 | 5353 if simple_dns::Packet::parse(&segment.payload).is_ok() => {
                servers::name(world, &packet, &segment).into_iter().collect()
            }
            547 => servers::information(world, frame, &segment).into_iter().collect(),
            _ => vec![echo(&packet, &segment)],
        },
        (TCP, Some(segment)) => tcp(world, &packet, &segment).into_iter().collect(),
        (ICMP6, None) => icmp6(world, &packet).into_iter().collect(),
        _ => Vec::new(),
    };
    packets.iter().map(|packet| framed(packet, frame.from)).collect()
}

/// Everybody is here, but for the guest; whoever looks whether an address is taken hears of those that are. Linux looks with the
/// address of another interface where it has one (arp(7), `arp_announce`), so that the guest's own is nobody's either.
fn arp(world: &World, frame: &Frame) -> Option<Frame> {
    let [_, _, _, _, _, _, 0, 1, question @ ..] = frame.body.as_slice() else {
        return None;
    };
    let (asker, target) = (question.get(..10)?, question.get(16..20)?);
    let source = asker.get(6..10)?;
    let is_taken = world.taken.iter().any(|taken| taken.octets() == *target);
    let is_probe = source == [0; 4] || world.dhcp.address.octets() == *target;
    if is_probe && !is_taken || source == target {
        return None;
    }
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 2];
    body.extend(HARDWARE);
    body.extend(target);
    body.extend(asker);
    Some(Frame { to: frame.from, from: HARDWARE, carries: carried::ARP, body })
}

fn echo(packet: &Packet, segment: &Segment) -> Packet {
    back(packet, segment, segment.payload.clone())
}

/// Every port of every address echoes but [`DEAF_PORT`], which takes a connection and acknowledges nothing of what
/// comes there, and the name servers that truncate. What the guest acknowledges is what was sent to it, so that
/// nothing needs to be remembered on a link that loses nothing.
fn tcp(world: &World, packet: &Packet, segment: &Segment) -> Option<Packet> {
    let begins = segment.flags & flag::SYN != 0;
    if segment.flags & flag::RST != 0 || (segment.destination == DEAF_PORT && !begins) {
        return None;
    }
    let length = u32::try_from(segment.payload.len()).ok()?;
    let manner = servers::manner(world, packet.destination);
    let is_for_names = segment.destination == 53;
    let payload = match manner {
        Manner::Truncates if is_for_names && length > 0 => {
            servers::name_over_tcp(world, &segment.payload)?
        }
        _ => segment.payload.clone(),
    };
    let (sequence, advance, flags) = match segment.flags & (flag::SYN | flag::FIN) {
        flag::SYN if is_for_names && manner == Manner::TruncatesWithoutTcp => {
            (0, 1, flag::RST | flag::ACK)
        }
        flag::SYN if segment.flags & flag::ACK == 0 => (1000, 1, flag::SYN | flag::ACK),
        flag::SYN => return None,
        0 if length == 0 => return None,
        0 => (segment.acknowledgement, length, flag::ACK),
        _ => (segment.acknowledgement, length.checked_add(1)?, flag::FIN | flag::ACK),
    };
    let answer = Segment {
        source: segment.destination,
        destination: segment.source,
        sequence,
        acknowledgement: segment.sequence.wrapping_add(advance),
        flags,
        payload,
    };
    Some(Packet::with(packet.destination, packet.source, TCP, &answer))
}

/// Neighbours and the router.
fn icmp6(world: &World, packet: &Packet) -> Option<Packet> {
    match packet.body.first()? {
        133 => {
            let advertised = world.router.as_ref()?;
            Some(router_advertisement(ROUTER_V6, advertised))
        }
        135 => {
            let target: [u8; 16] = *packet.body.get(8..)?.first_chunk()?;
            if packet.source.is_unspecified() {
                return None; // It asks whether the address is taken.
            }
            let mut body = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
            body.extend(target);
            body.extend([2, 1]);
            body.extend(HARDWARE);
            let source = IpAddr::V6(Ipv6Addr::from_octets(target));
            let answer = Packet { source, destination: packet.source, protocol: ICMP6, body };
            Some(answer.with_checksum(2))
        }
        _ => None,
    }
}

/// A router advertisement to everybody (RFC 4861, RFC 8106).
#[must_use]
pub fn router_advertisement(from: Ipv6Addr, advertised: &Advertisement) -> Packet {
    let seconds = advertised.seconds.to_be_bytes();
    let lifetime = u16::try_from(advertised.seconds).unwrap_or(9000).min(9000).to_be_bytes();
    let other_configuration = if advertised.by_dhcp.is_empty() { 0 } else { 0x40 };
    let mut body = vec![134, 0, 0, 0, 64, other_configuration];
    body.extend(lifetime);
    body.extend([0; 8]);
    body.extend([1, 1]);
    body.extend(HARDWARE);
    body.extend([3, 4, 64, 0xc0]);
    body.extend(seconds);
    body.extend(seconds);
    body.extend([0; 4]);
    body.extend(advertised.prefix.octets());
    if !advertised.name_servers.is_empty() {
        let units = advertised.name_servers.len().saturating_mul(2).saturating_add(1);
        body.extend([25, u8::try_from(units).unwrap_or(u8::MAX), 0, 0]);
        body.extend(seconds);
        for server in &advertised.name_servers {
            body.extend(octets(IpAddr::V6(*server)));
        }
    }
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let packet =
        Packet { source: from.into(), destination: everybody.into(), protocol: ICMP6, body };
    packet.with_checksum(2)
}
