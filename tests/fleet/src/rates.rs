//! How often things happen to devices, and which releases are rolled out.

use holdfast_types::Version;

/// When runs begin, in seconds since 1970.
pub const BEGIN: u64 = 1_800_000_000;
/// Seconds of a day.
pub const DAY_S: u64 = 24 * 60 * 60;

/// How often things happen, in events of a device in a day.
#[derive(Debug, Clone)]
pub struct Churn {
    /// Orderly restarts and lost power.
    pub restarts: f64,
    /// Boots after a failure.
    pub failures: f64,
    /// Crashes of the app.
    pub crashes: f64,
    /// Times without a network: hours, of 6 on average.
    pub offline: f64,
    /// Clocks that were ahead by hours.
    pub clocks: f64,
    /// Refused packets to some port that nobody knows.
    pub stray: f64,
    /// Releases that are rolled out.
    pub rollouts: Vec<Rollout>,
}

/// A release on its way through the fleet.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// When it begins, in seconds since 1970.
    pub at: u64,
    /// Seconds until the last device has tried it.
    pub takes_s: u64,
    /// True for the OS, false for the app.
    pub is_os: bool,
    /// The version.
    pub to: Version,
    /// How many in a thousand fall back.
    pub fails_permille: u64,
}

impl Default for Churn {
    fn default() -> Self {
        let rollout = |day, is_os, to| Rollout {
            at: BEGIN + day * DAY_S,
            takes_s: 3 * DAY_S,
            is_os,
            to,
            fails_permille: 3,
        };
        Self {
            restarts: 0.1,
            failures: 0.01,
            crashes: 0.05,
            offline: 0.03,
            clocks: 0.000_05,
            stray: 0.01,
            rollouts: vec![
                rollout(5, false, version(2, 1)),
                rollout(12, true, version(1, 1)),
                rollout(20, false, version(2, 2)),
                rollout(25, true, version(1, 2)),
            ],
        }
    }
}

/// Returns a version.
#[must_use]
pub fn version(major: u32, minor: u32) -> Version {
    Version { major, minor, patch: 0 }
}
