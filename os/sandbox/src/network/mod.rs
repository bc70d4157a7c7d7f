//! What an app may reach on the network: its grants, the addresses of its veth pair, and how many connections it may have.

pub mod address;
pub mod connections;
pub mod grants;
mod networked_app;

use serde::{Deserialize, Serialize};

pub use grants::{Connection, Destination, NetworkGrants, PortRange, Protocol};
pub use networked_app::NetworkedApp;

/// The network that a component sees.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Network {
    /// A namespace of its own with nothing in it.
    #[default]
    None,
    /// A namespace of its own that lasts as long as the system, with a veth pair to the system
    /// and what the network service lets through.
    Granted(NetworkGrants),
    /// The system's. The network service has it, and the probe of test images; no app can.
    System,
}

impl Network {
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, _) | (_, Self::System) => true,
            (Self::Granted(ours), Self::Granted(theirs)) => ours.is_within(theirs),
            _ => false,
        }
    }
}
