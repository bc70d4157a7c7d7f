//! The network of a device as decisions: what apps may reach, the firewall that sees to it, leases,
//! names. The `network` service carries them out.

pub mod address;
pub mod advertised;
pub mod config;
pub mod dhcp;
pub mod dhcp6;
pub mod firewall;
pub mod grants;
pub mod name_proxy;
pub mod netfilter;
pub mod netlink;
pub mod refusal;
pub mod resolution;
pub mod route;
pub mod sntp;
pub mod status;

#[cfg(test)]
mod exchanges;

pub use grants::{Connection, Destination, NetworkGrants, PortRange, Protocol};
