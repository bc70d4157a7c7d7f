//! An app with grants on the network, as init says it to the network service.

use crate::network::address::Veth;
use crate::network::grants::NetworkGrants;
use holdfast_types::ComponentId;
use serde::{Deserialize, Serialize};

/// An app that has grants, as the firewall knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkedApp {
    /// Component name.
    pub name: String,
    /// Component id of the app.
    pub component_id: ComponentId,
    /// Its uid, which names and addresses of its veth pair follow from.
    pub uid: u32,
    /// Network grants of the app's manifest.
    pub grants: NetworkGrants,
}

impl NetworkedApp {
    /// Returns the veth pair of the app.
    #[must_use]
    pub fn veth(&self) -> Veth {
        Veth::of(self.uid)
    }

    /// True when both name each other.
    #[must_use]
    pub fn may_talk_to(&self, other: &Self) -> bool {
        self.component_id != other.component_id
            && self.grants.applications.contains(&other.component_id)
            && other.grants.applications.contains(&self.component_id)
    }
}
