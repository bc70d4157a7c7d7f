//! The network that most guests are in, and its cable.

use crate::harness::guest::once_more;
use anyhow::Result;
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_qemu::peer::{Answer, World};
use std::path::Path;

/// Where the example's collector is.
pub(crate) const COLLECTOR: &str = "203.0.113.70";
/// The log line of the lease that the usual world gives, as a regular expression.
pub(crate) const LEASED: &str = "eth0: leased 10\\.77\\.0\\.50/24 from 10\\.77\\.0\\.1";

/// A network with a DHCP server and a name server that knows the collector.
pub(crate) fn usual_world() -> World {
    World {
        names: vec![("collector.example.com".to_owned(), Answer::of(&[COLLECTOR]))],
        ..World::default()
    }
}

/// The machine of an image, with one interface in this network.
pub(crate) fn machine(image: &Path, world: World) -> Machine {
    Machine { networks: vec![Network::Peer(world)], ..Machine::new(image, 64) }
}

/// Pulls the cable until the guest has noticed, and plugs it in again.
pub(crate) fn replug(guest: &mut Guest) -> Result<()> {
    once_more(guest, "network: eth0: link down", |guest| Ok(guest.plug(false)?))?;
    once_more(guest, "network: eth0: link up", |guest| Ok(guest.plug(true)?))
}
