//! The order in which devices are given a release: another one for each deployment, so that it is not always the same who are first.

use super::plan::{ALL_PERMILLE, allowance};
use holdfast_evidence::messages::DeviceId;
use holdfast_types::hex::{hex, unhex};
use sha2::{Digest, Sha256};

/// A device's place in a deployment's order: devices with a lower one are before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place([u8; 32]);

impl Place {
    /// Behind every device.
    pub const LAST: Self = Self([0xff; 32]);

    /// Returns the place of a device: `SHA-256("holdfast-deployment-1" ‖ 0 ‖ deployment ‖ 0 ‖ device)`.
    #[must_use]
    pub fn of(deployment: &str, device: &DeviceId) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"holdfast-deployment-1\0");
        hash.update(deployment.as_bytes());
        hash.update([0]);
        hash.update(device.0);
        Self(hash.finalize().into())
    }

    /// Returns its text, in hexadecimal.
    #[must_use]
    pub fn text(&self) -> String {
        hex(&self.0)
    }

    /// Reads its text.
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

/// A stage as it was counted when it began: what happens to the group later does not change how many are many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    /// Devices that could be given the release, and those that had been.
    pub devices: u64,
    /// How many may have it in this stage, those of the stages before included.
    pub allowance: u64,
    /// The place of the last device that may have it.
    pub last: Place,
    /// Slots that stages before have given.
    pub given: u64,
}

impl Frozen {
    /// Of a deployment that has not begun: nobody may have it.
    pub const NOTHING: Self = Self { devices: 0, allowance: 0, last: Place([0; 32]), given: 0 };

    /// Counts a stage of so many thousandths of devices with these places, before which so many slots were given.
    #[must_use]
    pub fn count(mut places: Vec<Place>, permille: u16, given: u64) -> Self {
        let devices = u64::try_from(places.len()).unwrap_or(u64::MAX);
        let allowance = allowance(devices, permille);
        if permille >= ALL_PERMILLE {
            return Self { devices, allowance, last: Place::LAST, given };
        }
        let at = usize::try_from(allowance.saturating_sub(1)).unwrap_or(usize::MAX);
        if at >= places.len() {
            return Self { devices, allowance, last: Place([0; 32]), given };
        }
        let (_, last, _) = places.select_nth_unstable(at);
        Self { devices, allowance, last: *last, given }
    }

    /// Returns how many devices the stage was counted to have, those of the stages before included.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.allowance.min(self.devices)
    }

    /// Returns how many devices the stage was counted to have beside those of the stages before.
    #[must_use]
    pub fn own_size(&self) -> u64 {
        self.size().saturating_sub(self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn device(number: u32) -> DeviceId {
        DeviceId(Sha256::digest(number.to_be_bytes()).into())
    }

    fn first(deployment: &str, devices: u32, permille: u16) -> BTreeSet<u32> {
        let places = (0..devices).map(|number| Place::of(deployment, &device(number))).collect();
        let frozen = Frozen::count(places, permille, 0);
        (0..devices)
            .filter(|number| Place::of(deployment, &device(*number)) <= frozen.last)
            .collect()
    }

    #[test]
    fn the_order_of_each_deployment_is_another() {
        let (one, two) = (first("d1", 10_000, 50), first("d2", 10_000, 50));
        assert_eq!((one.len(), two.len()), (500, 500));
        let both = one.intersection(&two).count();
        assert!((5..60).contains(&both), "{both} of 25 that chance has in both");
        assert_eq!(first("d1", 10_000, 50), one, "and the same one each time");
        // A name and an id cannot be cut another way.
        assert_ne!(Place::of("d1", &device(1)), Place::of("d", &device(1)));
    }

    proptest! {
        #[test]
        fn as_many_devices_are_first_as_a_stage_allows(devices in 0u32..300, permille in 1u16..=1000) {
            let expected = allowance(devices.into(), permille).min(devices.into());
            prop_assert_eq!(u64::try_from(first("d7", devices, permille).len()).unwrap(), expected);
        }

        #[test]
        fn whoever_was_first_stays_first_in_later_stages(devices in 1u32..300, one in 1u16..=1000, two in 1u16..=1000) {
            let (small, large) = (one.min(two), one.max(two));
            prop_assert!(first("d7", devices, small).is_subset(&first("d7", devices, large)));
        }
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        let place = Place::of("d1", &device(1));
        assert_eq!(Place::of_text(&place.text()), Some(place));
        assert_eq!(Place::of_text("x"), None);
        assert_eq!(Frozen::count(vec![], 10, 0), Frozen::NOTHING);
        assert_eq!(Frozen::count(vec![], 1000, 0).size(), 0);
    }
}
