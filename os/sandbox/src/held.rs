//! Installed versions: init tells the update agent which version of the OS and of each app the device holds.

use holdfast_types::ComponentId;
use holdfast_types::Version;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One thing that is released by itself: the OS, or an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Component {
    /// The OS: what a slot holds.
    Os,
    /// An app package.
    App(ComponentId),
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os => f.write_str("os"),
            Self::App(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for Component {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "os" => Ok(Self::Os),
            _ => ComponentId::parse(text).map(Self::App).ok_or("must be `os` or a component id"),
        }
    }
}

/// The installed version of the OS or of one app, as init reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The OS, or the app's component id.
    pub component: Component,
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
    /// Version of the OS or of the package.
    pub version: Version,
    /// Rollback index of the OS or of the package.
    pub rollback_index: u64,
    /// Root hash of its verity tree.
    pub root_hash: [u8; 32],
    /// Bytes of data that the tree is over.
    pub data_bytes: u64,
    /// True on trial: the version has not been committed.
    pub on_trial: bool,
}

impl Held {
    /// The app that it is, where it is one.
    #[must_use]
    pub fn app(&self) -> Option<ComponentId> {
        match self.component {
            Component::Os => None,
            Component::App(id) => Some(id),
        }
    }
}
