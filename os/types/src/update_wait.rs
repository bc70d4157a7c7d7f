//! Why a device does not take a release that it may take, in one word.

use serde::{Deserialize, Serialize};

/// Why a release that a device may take waits, or is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateWait {
    /// It is staged, and the maintenance window is closed.
    Window,
    /// It is staged, and an app has put the restart off.
    Deferred,
    /// It has more bytes than the image lets the device fetch for one release.
    Declined,
    /// It was tried, and has failed on this device.
    FailedBefore,
}

impl UpdateWait {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Window, Self::Deferred, Self::Declined, Self::FailedBefore];

    /// Returns the word for it, as messages have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Deferred => "deferred",
            Self::Declined => "declined",
            Self::FailedBefore => "failed-before",
        }
    }
}
