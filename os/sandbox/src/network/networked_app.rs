//! An app with grants on the network, as init says it to the network service.

use crate::network::address::Link;
use crate::network::grants::NetworkGrants;
use holdfast_types::ComponentId;
use serde::{Deserialize, Serialize};

/// An app that has grants, as the firewall knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkedApp {
    /// Component name.
    pub name: String,
    /// Its id.
    pub component_id: ComponentId,
    /// Its uid, which its link follows from.
    pub uid: u32,
    /// What it may do.
    pub grants: NetworkGrants,
}

impl NetworkedApp {
    /// Its link.
    #[must_use]
    pub fn link(&self) -> Link {
        Link::of(self.uid)
    }

    /// True when both name each other.
    #[must_use]
    pub fn may_talk_to(&self, other: &Self) -> bool {
        self.component_id != other.component_id
            && self.grants.applications.contains(&other.component_id)
            && other.grants.applications.contains(&self.component_id)
    }
}
