//! The watch over a catalog: a window and a baseline for each of its groups, fed from what is stored and asked once a minute.
//!
//! Windows are made anew after a start from the last day's rows. What a baseline has learned of these before is not learned twice: it
//! says until when it has.

use super::baseline::{Baseline, DAY_S};
use super::evaluation::evaluate;
use super::finding::{About, Detection};
use super::fleet::{Fleet, GroupName};
use super::observation::{Event, Observation, OfDevice, missed_at};
use super::population::Population;
use super::subject::Network;
use super::thresholds::{Overrides, Thresholds};
use super::view::View;
use super::window::Window;
use holdfast_evidence::messages::DeviceId;
use holdfast_types::Version;
use std::collections::BTreeMap;

/// When the service was away and back, and when it was last known to be there, in seconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    /// The last evaluation before it was away; 0 where it never was.
    pub away_since: u64,
    /// When it was back.
    pub listening_since: u64,
    /// The last evaluation; 0 where there was none.
    pub evaluated_at: u64,
}

/// Seconds without an evaluation after which devices that were due meanwhile are owed from the return on.
pub const AWAY_S: u64 = 5 * 60;

impl Presence {
    /// An evaluation begins.
    #[must_use]
    pub fn at(self, now: u64) -> Self {
        let is_away = now.saturating_sub(self.evaluated_at) > AWAY_S;
        if is_away {
            Self { away_since: self.evaluated_at, listening_since: now, ..self }
        } else {
            self
        }
    }
}

/// A group that is watched.
#[derive(Debug, Clone, Default)]
struct GroupWatch {
    window: Window,
    baseline: Baseline,
    /// What takes in what the baseline has learned before, until the window is made.
    replayed: Option<Baseline>,
    /// Until when the baseline has learned, by when reports have come.
    learned_until: u64,
    thresholds: Thresholds,
    is_changed: bool,
}

impl GroupWatch {
    fn begin(presence: Presence, is_made: bool) -> Self {
        let mut watched = Self::default();
        if !is_made {
            // So that the window knows when the service was away.
            for at in [presence.away_since, presence.listening_since, presence.evaluated_at] {
                if at > 0 {
                    watched.window.tick(at, &mut Baseline::default(), &watched.thresholds);
                }
            }
        }
        watched
    }
}

/// A catalog that is watched.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    groups: BTreeMap<GroupName, GroupWatch>,
    /// What devices have attested.
    pub fleet: Fleet,
    populations: BTreeMap<GroupName, Population>,
    presence: Presence,
    is_made: bool,
}

impl Watch {
    /// Begins to make one, of a service that was there at these times. Devices of no group are watched from the beginning, for
    /// what is of the whole catalog is found there.
    #[must_use]
    pub fn begin(presence: Presence) -> Self {
        let mut watch = Self { presence, ..Self::default() };
        watch.group(&GroupName::default());
        watch
    }

    /// Puts the baseline of a group that was stored, which has learned of reports that came until `learned_until`.
    pub fn put_baseline(&mut self, group: &GroupName, baseline: Baseline, learned_until: u64) {
        let watched = self.group(group);
        watched.replayed = Some(baseline.clone());
        (watched.baseline, watched.learned_until) = (baseline, learned_until);
    }

    /// Sets the thresholds of a group.
    pub fn set_thresholds(&mut self, all: &BTreeMap<GroupName, Overrides>) {
        for (name, watched) in &mut self.groups {
            watched.thresholds = all.get(name).map(Thresholds::with_overrides).unwrap_or_default();
        }
    }

    /// All that was stored before is read. What comes now is learned.
    pub fn end_replay(&mut self) {
        self.is_made = true;
        for watched in self.groups.values_mut() {
            watched.replayed = None;
        }
    }

    /// Populations are to be asked for anew, since devices have attested something else.
    pub fn refresh(&mut self) {
        self.populations.clear();
    }

    fn group(&mut self, name: &GroupName) -> &mut GroupWatch {
        let (presence, is_made) = (self.presence, self.is_made);
        self.groups.entry(name.clone()).or_insert_with(|| GroupWatch::begin(presence, is_made))
    }

    /// Something was learned of a device of a group. What a record tells has come at `of.at`.
    pub fn observe(&mut self, group: &GroupName, of: OfDevice) {
        if !self.populations.contains_key(group) {
            let population = self.fleet.population(group);
            self.populations.insert(group.clone(), population);
        }
        self.group(group);
        let Some((population, watched)) =
            self.populations.get(group).zip(self.groups.get_mut(group))
        else {
            return;
        };
        let is_known = of.at <= watched.learned_until;
        let observation = Observation::Device(of);
        let GroupWatch { window, baseline, replayed, .. } = watched;
        match replayed {
            Some(scratch) if is_known => window.observe(&observation, population, scratch),
            _ => {
                window.observe(&observation, population, baseline);
                watched.is_changed = true;
            }
        }
    }

    /// A device has checked in.
    pub fn checked_in(&mut self, group: &GroupName, device: DeviceId, os: Version, at: u64) {
        self.observe(group, OfDevice { at, device, os, event: Event::CheckedIn });
    }

    /// Devices that were due behind `after` and until `until` have not come. Who was due while the service was away is owed since its return.
    pub fn missed(&mut self, after: u64, until: u64, listening_since: u64) {
        let Self { groups, fleet, presence, is_made, .. } = self;
        for (device, group, due) in fleet.due(after, until) {
            let watched = match groups.get_mut(group) {
                Some(watched) => watched,
                None => groups
                    .entry(group.clone())
                    .or_insert_with(|| GroupWatch::begin(*presence, *is_made)),
            };
            let (at, os) = (missed_at(due, listening_since), Version::default());
            let of = OfDevice { at, device: *device, os, event: Event::Missed };
            let GroupWatch { window, baseline, .. } = watched;
            window.observe(&Observation::Device(of), &Population::default(), baseline);
        }
    }

    /// Strangers have tried to enrol in vain. They are of no group.
    pub fn enrolment_failed(&mut self, at: u64, network: Network, times: u32) {
        let observation = Observation::EnrolmentFailed { at, network, times };
        let (population, mut baseline) = (Population::default(), Baseline::default());
        let watched = self.group(&GroupName::default());
        watched.window.observe(&observation, &population, &mut baseline);
    }

    /// Returns the groups that are watched.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupName> {
        self.groups.keys().cloned().collect()
    }

    /// Evaluates all rules for a group, after a minute has passed. That the service itself was away is found once in a catalog.
    pub fn evaluate(&mut self, group: &GroupName, now: u64) -> Vec<Detection> {
        let population = self.fleet.population(group);
        let Some(watched) = self.groups.get_mut(group) else { return Vec::new() };
        let GroupWatch { window, baseline, thresholds, .. } = watched;
        window.tick(now, baseline, thresholds);
        let view = View { window, baseline, population: &population, thresholds, now };
        let mut detections = evaluate(&view);
        detections.retain(|found| group.is_none() || found.key.about != About::Service);
        detections
    }

    /// Returns the baseline of a group, if it has learned something since it was stored. `until` is until when reports are read.
    pub fn changed_baseline(&mut self, group: &GroupName, until: u64) -> Option<(&Baseline, u64)> {
        let watched = self.groups.get_mut(group)?;
        if !std::mem::take(&mut watched.is_changed) {
            return None;
        }
        watched.learned_until = watched.learned_until.max(until);
        Some((&watched.baseline, watched.learned_until))
    }

    /// Forgets a group that has no device any more, and of which nothing was seen within a day.
    pub fn forget_empty(&mut self) {
        let Self { groups, fleet, .. } = self;
        groups.retain(|name, watched| {
            name.is_none() || fleet.has(name) || watched.window.entries() > 0
        });
    }

    /// Returns for how many sightings there was no room in the windows.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let dropped = self.groups.values().map(|watched| watched.window.dropped());
        dropped.fold(0, u64::saturating_add)
    }
}

/// Returns the second from which on stored rows are read to make windows anew.
#[must_use]
pub fn window_begins(now: u64) -> u64 {
    now.saturating_sub(DAY_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::fleet::Software;
    use crate::detection::rule::Rule;
    use crate::detection::subject::Subject;
    use holdfast_failure_reports::record::{Body, Component, Record, Traffic};
    use holdfast_failure_reports::samples;

    const NOW: u64 = 1_800_000_000;

    fn pump() -> GroupName {
        GroupName { product: "pump".to_owned(), group: "eval".to_owned() }
    }

    fn os() -> Version {
        Version { major: 1, minor: 4, patch: 0 }
    }

    fn with_devices(presence: Presence) -> Watch {
        let mut watch = Watch::begin(presence);
        let Component::App(app) = samples::app() else { unreachable!() };
        let software = Software { os: os(), apps: vec![(app.id, app.version)] };
        for number in 0..20 {
            watch.fleet.put(DeviceId([number; 32]), &pump(), Some(software.clone()), 0);
        }
        watch
    }

    fn recorded(at: u64, number: u8, sequence: u64, body: Body) -> OfDevice {
        let record = Record { sequence, at: None, uptime_s: 90, body };
        let event = Event::Recorded(Box::new(record));
        OfDevice { at, device: DeviceId([number; 32]), os: os(), event }
    }

    fn traffic(at: u64) -> OfDevice {
        let body = Traffic { component: samples::app(), sent_bytes: 1 << 20, received_bytes: 0 };
        recorded(at, 1, at, Body::Traffic(body))
    }

    fn samples_of(watch: &mut Watch) -> u32 {
        let Component::App(app) = samples::app() else { unreachable!() };
        let population = watch.fleet.population(&pump());
        let subject: Subject = population.app(app.id, app.version);
        watch.groups[&pump()].baseline.traffic(&subject).map_or(0, |known| known.samples())
    }

    #[test]
    fn what_was_learned_before_a_start_is_not_learned_again() {
        let mut watch = with_devices(Presence::default());
        watch.end_replay();
        for minute in 0..5 {
            watch.observe(&pump(), traffic(NOW + minute * 60));
        }
        let (stored, until) = watch.changed_baseline(&pump(), NOW + 240).unwrap();
        let stored = stored.clone();
        assert_eq!(watch.changed_baseline(&pump(), NOW + 240), None, "nothing new");
        assert_eq!(samples_of(&mut watch), 5);
        let mut again = with_devices(Presence::default());
        again.put_baseline(&pump(), stored, until);
        for minute in 0..7 {
            again.observe(&pump(), traffic(NOW + minute * 60));
        }
        again.end_replay();
        again.observe(&pump(), traffic(NOW + 420));
        assert_eq!(samples_of(&mut again), 8, "each of the eight once");
    }

    #[test]
    fn an_outbreak_is_found_in_its_group_alone() {
        let mut watch = with_devices(Presence::default());
        watch.end_replay();
        for number in 0..9 {
            let refused = recorded(NOW, number, 1, Body::Refused(samples::refused()));
            watch.observe(&pump(), refused);
        }
        let found = watch.evaluate(&pump(), NOW + 60);
        assert!(found.iter().any(|found| found.key.rule == Rule::Outbreak), "{found:?}");
        assert_eq!(watch.evaluate(&GroupName::default(), NOW + 60), [], "of no group");
        assert_eq!(watch.groups().len(), 2);
    }

    #[test]
    fn a_service_that_was_away_finds_itself_once_in_a_catalog() {
        let before = Presence { evaluated_at: NOW, listening_since: NOW, ..Presence::default() };
        let presence = before.at(NOW + 3600);
        assert_eq!((presence.away_since, presence.listening_since), (NOW, NOW + 3600));
        assert_eq!(before.at(NOW + 60), before, "it was not away");
        let mut watch = with_devices(presence);
        watch.checked_in(&pump(), DeviceId([1; 32]), os(), NOW + 3600);
        watch.end_replay();
        let found = watch.evaluate(&GroupName::default(), NOW + 3660);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].key.rule, &found[0].key.about), (Rule::Silence, &About::Service));
        assert_eq!(watch.evaluate(&pump(), NOW + 3660), []);
    }

    #[test]
    fn strangers_are_found_by_the_catalogs_threshold() {
        let mut watch = Watch::begin(Presence::default());
        watch.end_replay();
        let network = Network::V4([192, 0, 2]);
        watch.enrolment_failed(NOW, network, 21);
        let none = GroupName::default();
        assert_eq!(watch.evaluate(&none, NOW + 60).len(), 1);
        let overrides = Overrides::from([("enrol_failures".to_owned(), 30)]);
        watch.set_thresholds(&BTreeMap::from([(none.clone(), overrides)]));
        assert_eq!(watch.evaluate(&none, NOW + 120), []);
    }

    #[test]
    fn a_group_without_devices_is_forgotten() {
        let mut watch = with_devices(Presence::default());
        watch.checked_in(&pump(), DeviceId([1; 32]), os(), NOW);
        watch.forget_empty();
        assert_eq!(watch.groups().len(), 2);
        for number in 0..20 {
            watch.fleet.remove(&DeviceId([number; 32]));
        }
        watch.groups.get_mut(&pump()).unwrap().window = Window::default();
        watch.forget_empty();
        assert_eq!(watch.groups(), [GroupName::default()]);
    }
}
