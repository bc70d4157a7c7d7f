//! How many devices run what, as they have attested it: what shares are shares of.

use super::subject::{Part, Subject};
use holdfast_failure_reports::record::Component;
use holdfast_types::{ComponentId, Version};
use std::collections::BTreeMap;

/// The devices of a group, from the evidence of their last check-ins. A report never changes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// Devices that are enrolled.
    devices: u32,
    running: BTreeMap<Subject, u32>,
    /// Devices that run an app of this id in any version.
    apps: BTreeMap<ComponentId, u32>,
}

impl Population {
    /// Makes one of `devices` devices, of which none has attested anything.
    #[must_use]
    pub fn new(devices: u32) -> Self {
        Self { devices, ..Self::default() }
    }

    /// Counts `devices` more that have attested this version of the OS.
    pub fn add_os(&mut self, version: Version, devices: u32) {
        self.add(Subject { part: Part::Os, version: Some(version) }, devices);
    }

    /// Counts `devices` more that have attested this version of an app.
    pub fn add_app(&mut self, id: ComponentId, version: Version, devices: u32) {
        self.add(Subject { part: Part::App(id), version: Some(version) }, devices);
        let count = self.apps.entry(id).or_default();
        *count = count.saturating_add(devices);
    }

    fn add(&mut self, subject: Subject, devices: u32) {
        let count = self.running.entry(subject).or_default();
        *count = count.saturating_add(devices);
    }

    /// Returns the number of devices.
    #[must_use]
    pub fn devices(&self) -> u32 {
        self.devices
    }

    /// Returns the number of devices that run it. Services are parts of the OS, and what is unknown may be on any device.
    #[must_use]
    pub fn running(&self, subject: &Subject) -> u32 {
        match &subject.part {
            Part::App(id) if subject.version.is_none() => self.apps.get(id).copied().unwrap_or(0),
            Part::App(_) | Part::Os => self.running.get(subject).copied().unwrap_or(0),
            Part::Service(_) => {
                let os = Subject { part: Part::Os, version: subject.version };
                self.running.get(&os).copied().unwrap_or(0)
            }
            Part::Unknown => self.devices,
        }
    }

    /// Returns the subject that a component of a report is, on a device that runs the OS of version `os`.
    #[must_use]
    pub fn subject(&self, component: &Component, os: Version) -> Subject {
        match component {
            Component::App(app) => self.app(app.id, app.version),
            Component::Service(name) => {
                Subject { part: Part::Service(name.clone()), version: self.os(os).version }
            }
        }
    }

    /// Returns the subject of an app in a version that a report names.
    #[must_use]
    pub fn app(&self, id: ComponentId, version: Version) -> Subject {
        if !self.apps.contains_key(&id) {
            return Subject { part: Part::Unknown, version: None };
        }
        self.attested(Subject { part: Part::App(id), version: Some(version) })
    }

    /// Returns the subject of the OS in a version that a report names.
    #[must_use]
    pub fn os(&self, version: Version) -> Subject {
        self.attested(Subject { part: Part::Os, version: Some(version) })
    }

    fn attested(&self, subject: Subject) -> Subject {
        if self.running.contains_key(&subject) {
            subject
        } else {
            Subject { version: None, ..subject }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_failure_reports::samples;

    const ONE: Version = Version { major: 1, minor: 0, patch: 0 };

    #[test]
    fn what_nobody_has_attested_is_one_subject() {
        let mut population = Population::new(10);
        let Component::App(app) = samples::app() else { panic!("an app") };
        let unknown = Subject { part: Part::Unknown, version: None };
        assert_eq!(population.subject(&samples::app(), ONE), unknown);
        population.add_app(app.id, ONE, 4);
        let no_version = population.subject(&samples::app(), ONE);
        assert_eq!(no_version, Subject { part: Part::App(app.id), version: None });
        assert_eq!(population.running(&no_version), 4);
        population.add_app(app.id, app.version, 3);
        let known = population.subject(&samples::app(), ONE);
        assert_eq!((known.version, population.running(&known)), (Some(app.version), 3));
        assert_eq!(population.running(&unknown), 10);
    }
}
