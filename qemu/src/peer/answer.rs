//! The packet that goes back where another one came from.

use super::world::ROUTER;
use crate::packet::{Packet, Segment, UDP};
use std::net::IpAddr;

/// A datagram in the other direction.
pub(super) fn back(packet: &Packet, segment: &Segment, payload: Vec<u8>) -> Packet {
    let answer = Segment {
        source: segment.destination,
        destination: segment.source,
        sequence: 0,
        acknowledgement: 0,
        flags: 0,
        payload,
    };
    // Nobody answers as a group.
    let from = match packet.destination {
        IpAddr::V4(to) if to.is_multicast() || to.is_broadcast() => ROUTER.into(),
        to => to,
    };
    Packet::with(from, packet.source, UDP, &answer)
}
