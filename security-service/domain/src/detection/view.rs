//! What a rule looks at.

use super::baseline::{Baseline, DAY_S};
use super::population::Population;
use super::sightings::Seen;
use super::thresholds::Thresholds;
use super::window::Window;
use holdfast_evidence::messages::DeviceId;
use std::collections::BTreeMap;

/// What a rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What was seen within a day.
    pub window: &'a Window,
    /// What is usual.
    pub baseline: &'a Baseline,
    /// What devices run.
    pub population: &'a Population,
    /// The group's settings.
    pub thresholds: &'a Thresholds,
    /// The time by the service's clock, in seconds since 1970.
    pub now: u64,
}

impl View<'_> {
    /// Returns those devices of a key that were seen within a day. Windows forget in steps.
    pub fn recent<'s>(
        &self,
        devices: &'s BTreeMap<DeviceId, Seen>,
    ) -> impl Iterator<Item = (&'s DeviceId, &'s Seen)> {
        let since = self.now.saturating_sub(DAY_S);
        devices.iter().filter(move |(_, seen)| seen.last >= since)
    }
}

/// Returns the number of devices that a threshold asks for in a fleet of this size: a least number, or so many in a thousand
/// where that is more.
#[must_use]
pub fn scaled(least: u32, permille: u32, devices: u32) -> u32 {
    let share = u64::from(devices).saturating_mul(permille.into()).div_ceil(1000);
    least.max(u32::try_from(share).unwrap_or(u32::MAX))
}
