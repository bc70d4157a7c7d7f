//! Which devices a thing was seen on: counters with bounds, for what devices choose the keys of.
//!
//! Devices can make it grow, and strangers who have taken some over: so a device has a share of keys, and there is a bound of
//! keys, of devices at a key, and of both together. What is full displaces what was seen on the fewest devices: a few
//! devices that invent keys displace each other, and not what many have in common.

use holdfast_evidence::messages::DeviceId;
use std::collections::BTreeMap;

/// Most keys. In a day, a million devices try some ten thousand ports and kinds of places that no manifest grants, most of them once.
pub const MAX_KEYS: usize = 1 << 14;
/// Most devices that are kept at one key; no threshold asks for more.
pub const MAX_DEVICES: usize = 4096;
/// Most devices of all keys together.
pub const MAX_ENTRIES: usize = 1 << 17;
/// Keys that are forgotten at once where there is no room.
const DISPLACED: usize = MAX_KEYS / 16;
/// Most keys of one device.
pub const MAX_OF_DEVICE: u16 = 64;

/// A device at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When it was seen first, by the service's clock, in seconds since 1970.
    pub first: u64,
    /// When it was seen last.
    pub last: u64,
    /// The number of the record, or 0 for what is no record.
    pub record: u64,
    /// An amount, whose meaning the key has.
    pub amount: u64,
    /// The hour of the amount, by the device's clock.
    pub hour: u64,
}

impl Seen {
    /// Makes one of something seen once.
    #[must_use]
    pub fn once(at: u64, record: u64, amount: u64, hour: u64) -> Self {
        Self { first: at, last: at, record, amount, hour }
    }
}

/// What has become of a sighting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// The device was not seen at the key before.
    New,
    /// It was.
    Known,
    /// As many devices were seen at the key as are kept, and as any threshold asks for: nothing is lost.
    Enough,
    /// There was no room.
    Dropped,
}

/// Devices by what they were seen at.
#[derive(Debug, Clone)]
pub struct Sightings<K> {
    keys: BTreeMap<K, BTreeMap<DeviceId, Seen>>,
    of_device: BTreeMap<DeviceId, u16>,
    entries: usize,
    dropped: u64,
}

impl<K> Default for Sightings<K> {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), of_device: BTreeMap::new(), entries: 0, dropped: 0 }
    }
}

impl<K: Ord + Clone> Sightings<K> {
    /// Notes that the device was seen. Where it was before, `merge` changes what is known by what is new; the first
    /// and the last time are kept by themselves.
    pub fn note(
        &mut self,
        key: &K,
        device: &DeviceId,
        seen: Seen,
        merge: impl FnOnce(&mut Seen, &Seen),
    ) -> Noted {
        if let Some(known) = self.keys.get_mut(key).and_then(|devices| devices.get_mut(device)) {
            known.last = known.last.max(seen.last);
            merge(known, &seen);
            return Noted::Known;
        }
        let devices = self.keys.get(key).map_or(0, BTreeMap::len);
        if devices >= MAX_DEVICES {
            return Noted::Enough;
        }
        if !self.has_room(devices, device) {
            self.dropped = self.dropped.saturating_add(1);
            return Noted::Dropped;
        }
        self.keys.entry(key.clone()).or_default().insert(*device, seen);
        self.entries = self.entries.saturating_add(1);
        let share = self.of_device.entry(*device).or_default();
        *share = share.saturating_add(1);
        Noted::New
    }

    fn has_room(&mut self, devices: usize, device: &DeviceId) -> bool {
        if self.of_device.get(device).is_some_and(|share| *share >= MAX_OF_DEVICE) {
            return false;
        }
        if (devices == 0 && self.keys.len() >= MAX_KEYS) || self.entries >= MAX_ENTRIES {
            return self.displace(devices);
        }
        true
    }

    /// Forgets keys with the fewest devices and, of these, those that were silent longest, unless they have more devices than
    /// the one that is to come. Several at once, so that whoever invents keys makes the service search for room rarely.
    fn displace(&mut self, devices: usize) -> bool {
        let last =
            |devices: &BTreeMap<DeviceId, Seen>| devices.values().map(|seen| seen.last).max();
        let fewest = self.keys.values().map(BTreeMap::len).min().unwrap_or(0);
        if fewest > devices.saturating_add(1) {
            return false;
        }
        let smallest = self.keys.iter().filter(|(_, devices)| devices.len() == fewest);
        let mut smallest: Vec<_> =
            smallest.map(|(key, devices)| (last(devices), key.clone())).collect();
        smallest.sort();
        for (_, key) in smallest.into_iter().take(DISPLACED) {
            let forgotten = self.keys.remove(&key).unwrap_or_default();
            self.entries = self.entries.saturating_sub(forgotten.len());
            for device in forgotten.keys() {
                self.give_back(device);
            }
            self.dropped = self.dropped.saturating_add(1);
        }
        true
    }

    fn give_back(&mut self, device: &DeviceId) {
        if let Some(share) = self.of_device.get_mut(device) {
            *share = share.saturating_sub(1);
            if *share == 0 {
                self.of_device.remove(device);
            }
        }
    }

    /// Forgets what was seen last before `since`.
    pub fn forget_before(&mut self, since: u64) {
        let mut gone = Vec::new();
        self.keys.retain(|_, devices| {
            devices.retain(|device, seen| {
                let stays = seen.last >= since;
                if !stays {
                    gone.push(*device);
                }
                stays
            });
            !devices.is_empty()
        });
        self.entries = self.entries.saturating_sub(gone.len());
        for device in &gone {
            self.give_back(device);
        }
    }

    /// Returns each key that at least `least` devices were seen at, ever since something was forgotten. Whoever counts asks
    /// for the devices seen since some time.
    pub fn on_at_least(&self, least: u32) -> impl Iterator<Item = (&K, &BTreeMap<DeviceId, Seen>)> {
        let least = usize::try_from(least).unwrap_or(usize::MAX).max(1);
        self.keys.iter().filter(move |(_, devices)| devices.len() >= least)
    }

    /// Returns the devices at a key.
    #[must_use]
    pub fn at(&self, key: &K) -> Option<&BTreeMap<DeviceId, Seen>> {
        self.keys.get(key)
    }

    /// Returns how many sightings there was no room for.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns the devices of all keys together.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_possible_truncation, reason = "numbers of devices are small")]

    use super::*;
    use proptest::prelude::*;

    fn device(number: u32) -> DeviceId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        DeviceId(id)
    }

    fn see(sightings: &mut Sightings<u32>, key: u32, number: u32, at: u64) -> Noted {
        sightings.note(&key, &device(number), Seen::once(at, 1, 0, 0), |_, _| {})
    }

    #[test]
    fn a_device_that_invents_keys_has_its_share_and_no_more() {
        let mut sightings = Sightings::default();
        let kept = (0..10_000).filter(|key| see(&mut sightings, *key, 1, 0) == Noted::New).count();
        assert_eq!((kept, sightings.entries()), (usize::from(MAX_OF_DEVICE), kept));
        assert_eq!(see(&mut sightings, 99, 2, 0), Noted::New, "another device has its own");
        sightings.forget_before(1);
        assert_eq!(see(&mut sightings, 10_000, 1, 1), Noted::New, "and has it again");
    }

    #[test]
    fn devices_that_invent_keys_do_not_displace_what_many_have_in_common() {
        let mut sightings = Sightings::default();
        for number in 0..9 {
            see(&mut sightings, u32::MAX, number, 0);
        }
        for number in 100..1100u32 {
            for key in 0..u32::from(MAX_OF_DEVICE) {
                see(&mut sightings, number * 64 + key, number, 1);
            }
        }
        assert_eq!(sightings.at(&u32::MAX).map(BTreeMap::len), Some(9));
        assert!(sightings.keys.len() <= MAX_KEYS && sightings.dropped() > 0);
    }

    #[test]
    fn no_key_has_more_devices_than_are_counted() {
        let mut sightings = Sightings::default();
        for number in 0..5000 {
            see(&mut sightings, 1, number, 0);
        }
        assert_eq!(sightings.entries(), MAX_DEVICES);
        assert_eq!(see(&mut sightings, 1, 5000, 0), Noted::Enough);
        assert_eq!(sightings.dropped(), 0, "what nobody asks for is not missed");
    }

    proptest! {
        #[test]
        fn shares_and_entries_are_those_of_the_keys(
            seen in prop::collection::vec((0..40u32, 0..20u32, 0..100u64), 0..300), since in 0..100u64
        ) {
            let mut sightings = Sightings::default();
            for (key, number, at) in seen {
                see(&mut sightings, key, number, at);
            }
            sightings.forget_before(since);
            let entries: usize = sightings.keys.values().map(BTreeMap::len).sum();
            let shares: usize = sightings.of_device.values().map(|share| usize::from(*share)).sum();
            prop_assert_eq!((sightings.entries(), shares), (entries, entries));
            let devices = sightings.keys.values().flat_map(BTreeMap::values);
            prop_assert!(devices.clone().all(|seen| seen.last >= since));
        }
    }
}
