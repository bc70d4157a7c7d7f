//! Decisions about a device's network, without I/O: firewall rules, DHCP leases, name proxies, time servers. The
//! `network` service carries them out.

pub mod advertised;
pub mod config;
pub mod dhcp;
pub mod dhcp6;
pub mod firewall;
pub mod name_proxy;
pub mod netfilter;
pub mod packet_denied;
pub mod refused_traffic;
pub mod resolution;
pub mod route;
pub mod sntp;
pub mod status;
