//! What a device holds of everything that is released for it, as init says it to the update agent.

use holdfast_types::ComponentId;
use holdfast_types::Version;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The subject of a release: what one signed version is a version of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReleaseSubject {
    /// The OS, which a slot holds.
    Os,
    /// The app with this component id, which a package holds.
    App(ComponentId),
}

impl fmt::Display for ReleaseSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os => f.write_str("os"),
            Self::App(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for ReleaseSubject {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "os" => Ok(Self::Os),
            _ => ComponentId::parse(text).map(Self::App).ok_or("must be `os` or a component id"),
        }
    }
}

/// The state of one release subject on this device, as init reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The OS or the app that this is about.
    pub subject: ReleaseSubject,
    /// The least rollback index that init still takes of it.
    pub floor: u64,
    /// The version that runs; `None` for an app without a usable package.
    pub running: Option<Running>,
    /// A release of it is staged, and waits for the next start.
    pub waits: bool,
    /// The run before this one was healthy, and was ended since its `update` had not reached the service.
    pub disagreed: bool,
}

/// A release that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its version.
    pub version: Version,
    /// Its rollback index.
    pub rollback_index: u64,
    /// Root hash of its verity tree.
    pub root_hash: [u8; 32],
    /// Bytes of data that the tree is over.
    pub data_bytes: u64,
    /// It has not been committed.
    pub on_trial: bool,
}

impl Held {
    /// The app that it is, where it is one.
    #[must_use]
    pub fn app(&self) -> Option<ComponentId> {
        match self.subject {
            ReleaseSubject::Os => None,
            ReleaseSubject::App(id) => Some(id),
        }
    }
}
