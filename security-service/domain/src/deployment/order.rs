//! The order in which devices are given a release: those of its lists, and then another one for each deployment, so that it is not always
//! the same who are first.

use super::plan::{ALL_PERMILLE, Plan, Size, allowance};
use holdfast_evidence::messages::DeviceId;
use holdfast_types::hex::{hex, unhex};
use sha2::{Digest, Sha256};

/// What the first byte of a place has where the device is on no list of a deployment that has some.
const UNLISTED: u8 = 0x80;

/// A device's place in a deployment's order: devices with a lower one are before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place([u8; 32]);

/// Returns the first byte of places on the list of a stage. A plan has fewer stages than there are such bytes.
fn first_byte(stage: u16) -> u8 {
    u8::try_from(stage).unwrap_or(UNLISTED).min(UNLISTED - 1)
}

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

    /// Returns the place of a device that is on the list of a stage, or on none of a deployment that has lists: whoever is on a list is before
    /// who is on a later one or on none.
    #[must_use]
    pub fn of_listed(deployment: &str, device: &DeviceId, stage: Option<u16>) -> Self {
        let Self(mut place) = Self::of(deployment, device);
        let [first, ..] = &mut place;
        *first = match stage {
            Some(stage) => first_byte(stage),
            None => *first | UNLISTED,
        };
        Self(place)
    }

    /// Returns the place of a device in a deployment of these stages.
    #[must_use]
    pub fn in_plan(plan: &Plan, deployment: &str, device: &DeviceId, stage: Option<u16>) -> Self {
        match plan.has_lists() {
            true => Self::of_listed(deployment, device, stage),
            false => Self::of(deployment, device),
        }
    }

    /// Returns the last place that a device on the list of a stage can have.
    fn last_of_list(stage: u16) -> Self {
        let mut place = [0xff; 32];
        let [first, ..] = &mut place;
        *first = first_byte(stage);
        Self(place)
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

    /// Counts a stage of a plan, by its number from 0 on, of devices with these places, before which so many slots were given.
    #[must_use]
    pub fn count(mut places: Vec<Place>, plan: &Plan, stage: u16, given: u64) -> Self {
        let devices = u64::try_from(places.len()).unwrap_or(u64::MAX);
        let among = |last: Place| {
            u64::try_from(places.iter().filter(|place| **place <= last).count()).unwrap_or(u64::MAX)
        };
        let permille = match plan.stage(stage).map(|stage| stage.size) {
            Some(Size::Share(permille)) => permille,
            Some(Size::Listed(_)) => {
                let last = Place::last_of_list(stage);
                return Self { devices, allowance: among(last), last, given };
            }
            None => 0,
        };
        if permille >= ALL_PERMILLE {
            return Self {
                devices,
                allowance: allowance(devices, permille),
                last: Place::LAST,
                given,
            };
        }
        // A share that is less than the lists before it takes nothing back from those.
        let listed = if plan.has_lists() { among(Place::last_of_list(stage)) } else { 0 };
        let allowance = allowance(devices, permille).max(listed);
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
    use crate::deployment::plan::Stage;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn device(number: u32) -> DeviceId {
        DeviceId(Sha256::digest(number.to_be_bytes()).into())
    }

    /// A plan whose first stage is this share.
    fn plan(permille: u16) -> Plan {
        let shares = [permille, ALL_PERMILLE].into_iter();
        let shares: BTreeSet<u16> = shares.collect();
        let stage = |permille| Stage { size: Size::Share(permille), soak_s: 60 };
        Plan::new(shares.into_iter().map(stage).collect(), 500).unwrap()
    }

    fn first(deployment: &str, devices: u32, permille: u16) -> BTreeSet<u32> {
        let places = (0..devices).map(|number| Place::of(deployment, &device(number))).collect();
        let frozen = Frozen::count(places, &plan(permille), 0, 0);
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

    /// Lists of 3 and 5 devices, then 10 of 100, and all.
    #[test]
    fn devices_on_lists_are_before_all_others_list_by_list() {
        let sizes = [Size::Listed(3), Size::Listed(5), Size::Share(50), Size::Share(100)];
        let stages = sizes.into_iter().chain([Size::Share(1000)]);
        let stages = stages.map(|size| Stage { size, soak_s: 60 }).collect();
        let plan = Plan::new(stages, 500).unwrap();
        let stage_of = |number: u32| match number {
            40..43 => Some(0),
            7..12 => Some(1),
            _ => None,
        };
        let place = |number: u32| Place::in_plan(&plan, "d7", &device(number), stage_of(number));
        let places = || (0..100).map(place).collect::<Vec<Place>>();
        let counted = |stage: u16| {
            let frozen = Frozen::count(places(), &plan, stage, 0);
            let first = (0..100).filter(|number| place(*number) <= frozen.last);
            (frozen.size(), first.collect::<BTreeSet<u32>>())
        };
        let (one, two) = (BTreeSet::from_iter(40..43), BTreeSet::from_iter(7..12));
        let both: BTreeSet<u32> = one.union(&two).copied().collect();
        assert_eq!(counted(0), (3, one));
        assert_eq!(counted(1), (8, both.clone()));
        // Five of a hundred are less than what the lists have.
        assert_eq!(counted(2), (8, both.clone()));
        let (size, first) = counted(3);
        assert!(size == 10 && first.len() == 10 && first.is_superset(&both), "{first:?}");
        assert_eq!(counted(4).0, 100);
        // Of a list of which nobody is there, nobody is counted.
        let others = (0..100).filter(|number| stage_of(*number).is_none()).map(place).collect();
        assert_eq!(Frozen::count(others, &plan, 1, 0).size(), 0);
    }

    #[test]
    fn places_are_read_as_they_are_written() {
        let place = Place::of("d1", &device(1));
        assert_eq!(Place::of_text(&place.text()), Some(place));
        assert_eq!(Place::of_text("x"), None);
        assert_eq!(Frozen::count(vec![], &plan(10), 0, 0), Frozen::NOTHING);
        assert_eq!(Frozen::count(vec![], &plan(1000), 0, 0).size(), 0);
    }
}
