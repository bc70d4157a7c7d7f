//! Ethernet frames as the peer reads and writes them: enough of ARP, IPv4, IPv6, ICMPv6, UDP and TCP
//! to play a network towards one guest. Whoever tests writes any field as they like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ethernet's numbers of what is carried.
pub mod carried {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// Address resolution.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
}

/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// ICMP for IPv6.
pub const ICMP6: u8 = 58;

/// Bits of a TCP header's flags.
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 1;
    /// The start of a connection.
    pub const SYN: u8 = 2;
    /// The end of one.
    pub const RST: u8 = 4;
    /// The acknowledgement counts.
    pub const ACK: u8 = 16;
}

/// What one frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Hardware address that it goes to.
    pub to: [u8; 6],
    /// Hardware address that it comes from.
    pub from: [u8; 6],
    /// What it carries, by Ethernet's number.
    pub carries: u16,
    /// Everything behind the Ethernet header.
    pub body: Vec<u8>,
}

/// What an IP packet holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Number of the protocol.
    pub protocol: u8,
    /// Everything behind the IP header.
    pub body: Vec<u8>,
}

/// What a UDP datagram or a TCP segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// TCP's sequence number.
    pub sequence: u32,
    /// TCP's acknowledgement number.
    pub acknowledgement: u32,
    /// TCP's flags; 0 for UDP.
    pub flags: u8,
    /// What is carried.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Reads a frame.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (to, rest) = bytes.split_first_chunk()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (carries, body) = rest.split_first_chunk()?;
        let carries = u16::from_be_bytes(*carries);
        Some(Self { to: *to, from: *from, carries, body: body.to_vec() })
    }

    /// Its bytes.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        [&self.to[..], &self.from, &self.carries.to_be_bytes(), &self.body].concat()
    }

    /// The IP packet in it.
    #[must_use]
    pub fn packet(&self) -> Option<Packet> {
        let body = &self.body;
        match self.carries {
            carried::IPV4 => {
                let header = usize::from(body.first()? & 0xf).checked_mul(4)?;
                let length = usize::from(u16::from_be_bytes(*body.get(2..)?.first_chunk()?));
                let address = |at: usize| -> Option<IpAddr> {
                    let octets: [u8; 4] = *body.get(at..)?.first_chunk()?;
                    Some(IpAddr::V4(Ipv4Addr::from_octets(octets)))
                };
                Some(Packet {
                    source: address(12)?,
                    destination: address(16)?,
                    protocol: *body.get(9)?,
                    body: body.get(header..length)?.to_vec(),
                })
            }
            carried::IPV6 => {
                let length = usize::from(u16::from_be_bytes(*body.get(4..)?.first_chunk()?));
                let address = |at: usize| -> Option<IpAddr> {
                    let octets: [u8; 16] = *body.get(at..)?.first_chunk()?;
                    Some(IpAddr::V6(Ipv6Addr::from_octets(octets)))
                };
                let (mut protocol, mut rest) = (*body.get(6)?, body.get(40..)?.get(..length)?);
                if protocol == 0 {
                    // Hop-by-hop options, as multicast listener reports have them.
                    let skip = usize::from(*rest.get(1)?).checked_add(1)?.checked_mul(8)?;
                    (protocol, rest) = (*rest.first()?, rest.get(skip..)?);
                }
                Some(Packet {
                    source: address(8)?,
                    destination: address(24)?,
                    protocol,
                    body: rest.to_vec(),
                })
            }
            _ => None,
        }
    }
}

impl Packet {
    /// The UDP datagram or TCP segment in it.
    #[must_use]
    pub fn segment(&self) -> Option<Segment> {
        let body = &self.body;
        let half = |at: usize| -> Option<u16> {
            Some(u16::from_be_bytes(*body.get(at..)?.first_chunk()?))
        };
        let whole = |at: usize| -> Option<u32> {
            Some(u32::from_be_bytes(*body.get(at..)?.first_chunk()?))
        };
        let (source, destination) = (half(0)?, half(2)?);
        match self.protocol {
            UDP => Some(Segment {
                source,
                destination,
                sequence: 0,
                acknowledgement: 0,
                flags: 0,
                payload: body.get(8..)?.to_vec(),
            }),
            TCP => Some(Segment {
                source,
                destination,
                sequence: whole(4)?,
                acknowledgement: whole(8)?,
                flags: *body.get(13)?,
                payload: body.get(usize::from(body.get(12)? >> 4).checked_mul(4)?..)?.to_vec(),
            }),
            _ => None,
        }
    }

    /// A packet that carries a segment, checksum and all.
    #[must_use]
    pub fn with(source: IpAddr, destination: IpAddr, protocol: u8, segment: &Segment) -> Self {
        let mut body = [segment.source.to_be_bytes(), segment.destination.to_be_bytes()].concat();
        if protocol == UDP {
            let length = segment.payload.len().saturating_add(8);
            body.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
            body.extend([0, 0]);
        } else {
            body.extend(segment.sequence.to_be_bytes());
            body.extend(segment.acknowledgement.to_be_bytes());
            body.extend([0x50, segment.flags, 0x20, 0, 0, 0, 0, 0]);
        }
        body.extend(&segment.payload);
        let place = if protocol == UDP { 6 } else { 16 };
        Self { source, destination, protocol, body }.with_checksum(place)
    }

    /// Puts the checksum over addresses and body at a place of the body.
    #[must_use]
    pub fn with_checksum(mut self, place: usize) -> Self {
        let length = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        let mut covered = octets(self.source);
        covered.extend(octets(self.destination));
        covered.extend(length.to_be_bytes());
        covered.extend(u32::from(self.protocol).to_be_bytes());
        covered.extend(&self.body);
        let sum = match checksum(&covered) {
            0 if self.protocol == UDP => 0xffff,
            sum => sum,
        };
        if let Some(at) = self.body.get_mut(place..).and_then(|body| body.first_chunk_mut()) {
            *at = sum.to_be_bytes();
        }
        self
    }

    /// Its bytes, and Ethernet's number for them.
    #[must_use]
    pub fn write(&self) -> (u16, Vec<u8>) {
        let length = |more: usize| {
            u16::try_from(self.body.len().saturating_add(more)).unwrap_or(u16::MAX).to_be_bytes()
        };
        let (source, destination) = (octets(self.source), octets(self.destination));
        if self.source.is_ipv4() {
            let mut header = vec![0x45, 0];
            header.extend(length(20));
            header.extend([0, 0, 0x40, 0, 64, self.protocol, 0, 0]);
            header.extend(source);
            header.extend(destination);
            let sum = checksum(&header).to_be_bytes();
            if let Some(at) = header.get_mut(10..12) {
                at.copy_from_slice(&sum);
            }
            return (carried::IPV4, [header, self.body.clone()].concat());
        }
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(length(0));
        // Neighbours believe only what no router has passed on.
        header.extend([self.protocol, 255]);
        header.extend(source);
        header.extend(destination);
        (carried::IPV6, [header, self.body.clone()].concat())
    }
}

/// The bytes of an address.
#[must_use]
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        let high = u64::from(pair.first().copied().unwrap_or(0));
        let low = u64::from(pair.get(1).copied().unwrap_or(0));
        sum = sum.saturating_add((high << 8) | low);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff).saturating_add(sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_its_checksum_fits() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for protocol in [UDP, TCP] {
                let segment = Segment {
                    source: 53,
                    destination: 4000,
                    sequence: if protocol == TCP { 7 } else { 0 },
                    acknowledgement: if protocol == TCP { 9 } else { 0 },
                    flags: if protocol == TCP { flag::ACK } else { 0 },
                    payload: b"abc".to_vec(),
                };
                let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
                let packet = Packet::with(source, destination, protocol, &segment);
                let (carries, body) = packet.write();
                let frame = Frame { to: [1; 6], from: [2; 6], carries, body };
                let read = Frame::read(&frame.write()).unwrap().packet().unwrap();
                assert_eq!(read.segment(), Some(segment));
                let mut covered = octets(source);
                covered.extend(octets(destination));
                covered.extend(u32::try_from(read.body.len()).unwrap().to_be_bytes());
                covered.extend(u32::from(protocol).to_be_bytes());
                covered.extend(&read.body);
                assert_eq!(checksum(&covered), 0);
            }
        }
    }
}
