//! The fleet: which software each enrolled device of a catalog has attested last, so that shares are of what is true now.
//!
//! A device is about 100 bytes of memory, so a million of them are 100 MB; who is beyond [`MAX_DEVICES`] is not counted.

use super::population::Population;
use holdfast_evidence::claims::Claims;
use holdfast_evidence::messages::DeviceId;
use holdfast_types::{ComponentId, Version};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most devices of a catalog that are counted.
pub const MAX_DEVICES: usize = 1 << 21;

/// A group of a catalog: of a product, or with two empty names those devices that are in none.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName {
    /// The product.
    pub product: String,
    /// The group.
    pub group: String,
}

impl GroupName {
    /// True for devices that are in no group. What is of the whole catalog is kept there as well.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.product.is_empty()
    }
}

impl std::fmt::Display for GroupName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_none() {
            f.write_str("devices of no group")
        } else {
            write!(f, "{}/{}", self.product, self.group)
        }
    }
}

/// What a device has attested to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Software {
    /// The OS.
    pub os: Version,
    /// Apps, by their ids.
    pub apps: Vec<(ComponentId, Version)>,
}

impl Software {
    /// Returns that of claims.
    #[must_use]
    pub fn of(os: Version, claims: Option<&Claims>) -> Self {
        let apps = claims.into_iter().flat_map(|claims| &claims.apps);
        let mut apps: Vec<_> = apps.map(|app| (app.id, app.version)).collect();
        apps.sort_unstable();
        Self { os, apps }
    }
}

#[derive(Debug, Clone)]
struct Member {
    group: Arc<GroupName>,
    software: Option<Arc<Software>>,
    /// When it is to check in next, in seconds since 1970; 0 where it has come since.
    due: u64,
}

#[derive(Debug, Clone, Default)]
struct Members {
    devices: u32,
    running: BTreeMap<Arc<Software>, u32>,
    /// Made when it is asked for, and anew once a device has changed.
    population: Option<Population>,
}

/// The devices of a catalog, with what they have attested.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    devices: HashMap<DeviceId, Member>,
    groups: BTreeMap<Arc<GroupName>, Members>,
}

impl Fleet {
    /// A device is in this group, has attested this, where it has attested anything, and is to come at `due`, where it has not come since.
    pub fn put(
        &mut self,
        device: DeviceId,
        group: &GroupName,
        software: Option<Software>,
        due: u64,
    ) {
        if let Some(known) = self.devices.get_mut(&device)
            && *known.group == *group
            && known.software.as_deref() == software.as_ref()
        {
            known.due = due;
            return;
        }
        self.remove(&device);
        if self.devices.len() >= MAX_DEVICES {
            return;
        }
        let name = match self.groups.get_key_value(group) {
            Some((name, _)) => name.clone(),
            None => Arc::new(group.clone()),
        };
        let members = self.groups.entry(name.clone()).or_default();
        members.devices = members.devices.saturating_add(1);
        members.population = None;
        let software = software.map(|software| {
            let known = members.running.get_key_value(&software);
            let software = known.map_or_else(|| Arc::new(software), |(known, _)| known.clone());
            let count = members.running.entry(software.clone()).or_default();
            *count = count.saturating_add(1);
            software
        });
        self.devices.insert(device, Member { group: name, software, due });
    }

    /// A device is not enrolled any more.
    pub fn remove(&mut self, device: &DeviceId) {
        let Some(Member { group, software, .. }) = self.devices.remove(device) else { return };
        let Some(members) = self.groups.get_mut(&group) else { return };
        members.devices = members.devices.saturating_sub(1);
        members.population = None;
        if let Some(software) = software
            && let Some(count) = members.running.get_mut(&software)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                members.running.remove(&software);
            }
        }
        if members.devices == 0 {
            self.groups.remove(&group);
        }
    }

    /// Returns what the devices of a group run.
    pub fn population(&mut self, group: &GroupName) -> Population {
        let Some(members) = self.groups.get_mut(group) else { return Population::default() };
        let Members { devices, running, population } = members;
        let population = population.get_or_insert_with(|| {
            let mut population = Population::new(*devices);
            for (software, count) in running.iter() {
                population.add_os(software.os, *count);
                for (id, version) in &software.apps {
                    population.add_app(*id, *version, *count);
                }
            }
            population
        });
        population.clone()
    }

    /// Returns devices that were due behind the second `after` and until the second `until`, with their groups and when they were.
    pub fn due(
        &self,
        after: u64,
        until: u64,
    ) -> impl Iterator<Item = (&DeviceId, &GroupName, u64)> {
        let due = self.devices.iter().filter(move |(_, it)| it.due > after && it.due <= until);
        due.map(|(device, it)| (device, &*it.group, it.due))
    }

    /// True while a device is in the group.
    #[must_use]
    pub fn has(&self, group: &GroupName) -> bool {
        self.groups.contains_key(group)
    }

    /// Returns how many devices are counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// True while none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::subject::{Part, Subject};

    const CAMERA: ComponentId = ComponentId([0x25; 16]);

    fn version(minor: u32) -> Version {
        Version { major: 1, minor, patch: 0 }
    }

    fn software(os: u32, camera: u32) -> Option<Software> {
        Some(Software { os: version(os), apps: vec![(CAMERA, version(camera))] })
    }

    fn group(name: &str) -> GroupName {
        GroupName { product: "pump".to_owned(), group: name.to_owned() }
    }

    fn running(fleet: &mut Fleet, group: &GroupName, part: Part, minor: u32) -> u32 {
        fleet.population(group).running(&Subject { part, version: Some(version(minor)) })
    }

    #[test]
    fn a_device_counts_once_as_what_it_has_attested_last() {
        let (mut fleet, group) = (Fleet::default(), group("eval"));
        for number in 0..10 {
            fleet.put(DeviceId([number; 32]), &group, software(4, 1), 0);
        }
        fleet.put(DeviceId([10; 32]), &group, None, 0);
        for _ in 0..3 {
            fleet.put(DeviceId([1; 32]), &group, software(5, 2), 0);
        }
        assert_eq!(fleet.population(&group).devices(), 11);
        assert_eq!(running(&mut fleet, &group, Part::Os, 4), 9);
        assert_eq!(running(&mut fleet, &group, Part::App(CAMERA), 2), 1);
        fleet.remove(&DeviceId([2; 32]));
        fleet.remove(&DeviceId([2; 32]));
        assert_eq!(running(&mut fleet, &group, Part::Os, 4), 8);
        assert_eq!((fleet.population(&group).devices(), fleet.len()), (10, 10));
    }

    #[test]
    fn a_device_is_due_until_it_has_come() {
        let (mut fleet, group) = (Fleet::default(), group("eval"));
        for (number, due) in [(1, 100), (2, 200), (3, 0)] {
            fleet.put(DeviceId([number; 32]), &group, None, due);
        }
        let due = |fleet: &Fleet, after, until| {
            let mut due: Vec<u64> = fleet.due(after, until).map(|(_, _, due)| due).collect();
            due.sort_unstable();
            due
        };
        assert_eq!(due(&fleet, 0, 200), [100, 200]);
        assert_eq!(due(&fleet, 100, 199), Vec::<u64>::new());
        fleet.put(DeviceId([1; 32]), &group, None, 300);
        assert_eq!(due(&fleet, 0, 299), [200]);
    }

    #[test]
    fn a_device_that_moves_is_counted_where_it_is() {
        let (mut fleet, old, new) = (Fleet::default(), group("eval"), group("production"));
        let device = DeviceId([1; 32]);
        fleet.put(device, &old, software(4, 1), 0);
        fleet.put(device, &new, software(4, 1), 0);
        assert_eq!(fleet.population(&old), Population::default());
        assert_eq!(running(&mut fleet, &new, Part::Os, 4), 1);
        fleet.remove(&device);
        assert!(fleet.is_empty() && fleet.groups.is_empty());
    }
}
