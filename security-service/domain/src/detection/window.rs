//! The window: what was seen of a group's devices within a day, as counters that no device can make grow without bound.
//!
//! What is counted as "within a day" is when the service has learned it, which no device chooses; when something has
//! happened after something else on one device is told by that device's own seconds since its boot.

use super::baseline::{Baseline, DAY_S, HOUR_S, Hour};
use super::observation::{Event, GRACE_S, Observation, OfDevice};
use super::population::Population;
use super::sightings::{Noted, Seen, Sightings};
use super::subject::{CrashSite, Destination, Network, Part, Subject};
use super::thresholds::Thresholds;
use crate::device::Finding;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::{
    Body, Boot, Clock, End, Ended, Outcome, Record, Refused, Traffic, Update, Where,
};
use std::collections::{BTreeMap, VecDeque};

/// Addresses, as a power of 2, from which on refusals are kept as the beginning of a scan. No threshold asks for fewer.
const WIDE_LOG2: u8 = 3;
/// Most seconds between a crash and a refusal that may belong together. No threshold asks for more.
const MAX_AFTER_S: u32 = 3600;
/// Most devices whose last ends are remembered, and most ends of each.
const MAX_ENDING_DEVICES: usize = 1 << 15;
const MAX_ENDS: usize = 4;
/// Most networks of strangers that are counted.
const MAX_NETWORKS: usize = 4096;
/// Hours of check-ins that are kept by the minute: the grace of devices after the service was away, and an hour.
pub const KEPT_HOURS: u64 = 3;
/// What is over is forgotten so often.
const SWEEP_S: u64 = 15 * 60;
/// Amount of a clock that was to be set to what the device refuses.
pub const REFUSED_CLOCK: u64 = u64::MAX;

/// A way of ending that only an attack or a defect has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A system call that the sandbox refuses.
    Sandbox,
    /// A package that verity does not find as it was signed.
    Verity,
}

/// An end of a component that something may follow.
#[derive(Debug, Clone)]
struct RecentEnd {
    subject: Subject,
    site: CrashSite,
    uptime_s: u32,
    at: u64,
}

/// What was seen within a day.
#[derive(Debug, Clone, Default)]
pub struct Window {
    /// Refusals of what no manifest grants, by who tried it where.
    pub(super) refusals: Sightings<(Subject, Destination)>,
    /// Those to many addresses; the amount is the least number of addresses in the hour.
    pub(super) wide: Sightings<(Subject, Destination)>,
    /// Crashes that a refusal followed; the amount is the seconds between them.
    pub(super) calls: Sightings<(Subject, CrashSite, Destination)>,
    /// Ends that only an attack or a defect has.
    pub(super) violations: Sightings<(Subject, Violation)>,
    /// Releases that were not kept, by the version that was offered.
    pub(super) updates: Sightings<(Subject, Outcome)>,
    /// Failed boots; the amount is their number.
    pub(super) boots: Sightings<Subject>,
    /// Hours of traffic; the amount is the most bytes of one.
    pub(super) traffic: Sightings<Subject>,
    /// Clocks; the amount is seconds, or [`REFUSED_CLOCK`].
    pub(super) clocks: Sightings<()>,
    /// What the policy has found.
    pub(super) found: Sightings<Finding>,
    /// Devices that have not checked in.
    pub(super) missing: Sightings<()>,
    /// Check-ins and misses by the minute.
    attendance: BTreeMap<u64, (u32, u32)>,
    /// Failed enrolments by network and minute.
    enrolments: BTreeMap<Network, BTreeMap<u64, u32>>,
    ends: BTreeMap<DeviceId, VecDeque<RecentEnd>>,
    /// The last evaluation.
    ticked_at: Option<u64>,
    swept_at: u64,
    /// The last time without evaluations, from its first second to its last.
    gap: Option<(u64, u64)>,
}

impl Window {
    /// Takes an observation. Those of one device are to come in the order in which they were made.
    pub fn observe(
        &mut self,
        observation: &Observation,
        population: &Population,
        baseline: &mut Baseline,
    ) {
        match observation {
            Observation::EnrolmentFailed { at, network, times } => {
                self.enrolment_failed(*at, *network, *times);
            }
            Observation::Device(of) => {
                baseline.begin(of.at);
                self.of_device(of, population, baseline);
            }
        }
    }

    fn of_device(&mut self, of: &OfDevice, population: &Population, baseline: &mut Baseline) {
        let once = Seen::once(of.at, 0, 0, 0);
        match &of.event {
            Event::CheckedIn => {
                let (checked_in, _) = self.attendance.entry(of.at / 60).or_default();
                *checked_in = checked_in.saturating_add(1);
            }
            Event::Missed => {
                let (_, missed) = self.attendance.entry(of.at / 60).or_default();
                *missed = missed.saturating_add(1);
                self.missing.note(&(), &of.device, once, |_, _| {});
            }
            Event::Found(finding) => {
                self.found.note(finding, &of.device, once, |_, _| {});
            }
            Event::Recorded(record) => self.recorded(of, record, population, baseline),
        }
    }

    fn recorded(
        &mut self,
        of: &OfDevice,
        record: &Record,
        population: &Population,
        baseline: &mut Baseline,
    ) {
        let seen = |amount| {
            let own = record.at.unwrap_or_else(|| record.uptime_s.into());
            Seen::once(of.at, record.sequence, amount, own / HOUR_S)
        };
        if let Some(ahead) = record.at.and_then(|at| at.checked_sub(of.at)).filter(|s| *s > 0) {
            self.clocks.note(&(), &of.device, seen(ahead), most);
        }
        match &record.body {
            Body::Boot(Boot { version, reset, .. }) => {
                // Seconds since the boot begin anew.
                self.ends.remove(&of.device);
                if reset.is_failure() {
                    let subject = population.os(*version);
                    self.boots.note(&subject, &of.device, seen(1), sum_of_a_day);
                }
            }
            Body::Ended(ended) => {
                let subject = population.subject(&ended.component, of.os);
                let violation = match ended.end {
                    End::Sandbox => Some(Violation::Sandbox),
                    End::Verity => Some(Violation::Verity),
                    _ => None,
                };
                if let Some(violation) = violation {
                    let key = (subject.clone(), violation);
                    self.violations.note(&key, &of.device, seen(0), |_, _| {});
                }
                self.ended(of, record, ended, subject);
            }
            Body::Refused(refused) if !refused.is_granted_name => {
                let subject = population.subject(&refused.component, of.os);
                self.refused(of, record, refused, &subject, seen(addresses(refused)));
            }
            Body::Traffic(Traffic { component, sent_bytes, received_bytes }) => {
                let subject = population.subject(component, of.os);
                let bytes = sent_bytes.saturating_add(*received_bytes);
                self.traffic.note(&subject, &of.device, seen(bytes), most);
                // What any version does is known of the part as well, for versions that are new.
                baseline.learn_traffic(&subject, bytes);
                baseline.learn_traffic(&Subject { version: None, ..subject }, bytes);
            }
            Body::Update(Update { app, to, outcome, .. }) => {
                let subject = app.map_or_else(|| population.os(*to), |id| population.app(id, *to));
                let is_refused =
                    !matches!(outcome, Outcome::Committed | Outcome::Failed | Outcome::Declined);
                if is_refused {
                    self.updates.note(&(subject, *outcome), &of.device, seen(0), |_, _| {});
                }
            }
            Body::Clock(Clock { step_s, is_refused, .. }) => {
                // A clock that begins at its floor is set forward by what time the device was off.
                let back = if *step_s < 0 { step_s.unsigned_abs() } else { 0 };
                let amount = if *is_refused { REFUSED_CLOCK } else { back };
                if amount > 0 {
                    self.clocks.note(&(), &of.device, seen(amount), most);
                }
            }
            Body::Refused(_)
            | Body::Used(_)
            | Body::Storage(_)
            | Body::CheckIn(_)
            | Body::Lost(_) => {}
        }
    }

    fn ended(&mut self, of: &OfDevice, record: &Record, ended: &Ended, subject: Subject) {
        if !self.ends.contains_key(&of.device) && self.ends.len() >= MAX_ENDING_DEVICES {
            return;
        }
        let ends = self.ends.entry(of.device).or_default();
        let site = CrashSite::of(ended);
        ends.retain(|end| (&end.subject, &end.site) != (&subject, &site));
        if ends.len() >= MAX_ENDS {
            ends.pop_front();
        }
        ends.push_back(RecentEnd { subject, site, uptime_s: record.uptime_s, at: of.at });
    }

    fn refused(
        &mut self,
        of: &OfDevice,
        record: &Record,
        refused: &Refused,
        subject: &Subject,
        seen: Seen,
    ) {
        if refused.to == Where::Device {
            return;
        }
        let destination = Destination::of(refused);
        let key = (subject.clone(), destination);
        let noted = self.refusals.note(&key, &of.device, seen, |_, _| {});
        // Groups are asked by everybody who looks for a neighbour, at as many addresses as there are groups.
        if refused.addresses_log2 >= WIDE_LOG2 && refused.to != Where::Multicast {
            self.wide.note(&key, &of.device, seen, most);
        }
        if noted != Noted::New {
            return;
        }
        for end in self.ends.get(&of.device).into_iter().flatten() {
            let after = record.uptime_s.checked_sub(end.uptime_s).filter(|s| *s <= MAX_AFTER_S);
            if let Some(after) = after
                && end.subject == *subject
            {
                let key = (subject.clone(), end.site, destination);
                let call = Seen { amount: after.into(), ..seen };
                self.calls.note(&key, &of.device, call, |_, _| {});
            }
        }
    }

    fn enrolment_failed(&mut self, at: u64, network: Network, times: u32) {
        if !self.enrolments.contains_key(&network) && self.enrolments.len() >= MAX_NETWORKS {
            // Of strangers' networks, those that have tried least make room.
            let tries =
                |minutes: &BTreeMap<u64, u32>| minutes.values().map(|n| u64::from(*n)).sum::<u64>();
            let networks =
                self.enrolments.iter().map(|(network, minutes)| (tries(minutes), *network));
            let mut networks: Vec<_> = networks.collect();
            networks.sort_unstable();
            for (_, network) in networks.into_iter().take(MAX_NETWORKS / 4) {
                self.enrolments.remove(&network);
            }
        }
        let minutes = self.enrolments.entry(network).or_default();
        let count = minutes.entry(at / 60).or_default();
        *count = count.saturating_add(times);
        while minutes.len() > 60 {
            minutes.pop_first();
        }
    }

    /// A minute has passed: what is older than a day is forgotten, and what has become usual is learned. To be called before each
    /// evaluation; when it was not for long, the service was away.
    pub fn tick(&mut self, now: u64, baseline: &mut Baseline, thresholds: &Thresholds) {
        let most = u64::from(thresholds.silence_gap_minutes).saturating_mul(60);
        if let Some(before) = self.ticked_at.filter(|before| now.saturating_sub(*before) > most) {
            self.gap = Some((before, now));
        }
        self.ticked_at = Some(self.ticked_at.map_or(now, |before| before.max(now)));
        self.learn_hours(now, baseline);
        if now.saturating_sub(self.swept_at) < SWEEP_S {
            return;
        }
        self.swept_at = now;
        self.learn_destinations(now, baseline, thresholds.new_destination_devices);
        self.forget(now.saturating_sub(DAY_S), now);
    }

    /// Learns each hour that [`attendance`](Self::attendance) asks for no longer.
    fn learn_hours(&mut self, now: u64, baseline: &mut Baseline) {
        let over = (now / HOUR_S).saturating_sub(KEPT_HOURS);
        while let Some((&minute, _)) = self.attendance.first_key_value() {
            let hour = minute / 60;
            if hour >= over {
                return;
            }
            let rest = self.attendance.split_off(&(hour.saturating_add(1).saturating_mul(60)));
            let minutes = std::mem::replace(&mut self.attendance, rest);
            let (checked_in, missed) = minutes
                .values()
                .fold((0u32, 0u32), |(a, b), (c, m)| (a.saturating_add(*c), b.saturating_add(*m)));
            baseline.learn_hour(Hour { hour, checked_in, missed });
        }
    }

    /// Tells the baseline which destinations as many devices have tried within a day as make a finding. Devices of every
    /// version of a part count together, as they do for the rule.
    fn learn_destinations(&self, now: u64, baseline: &mut Baseline, devices: u32) {
        let since = now.saturating_sub(DAY_S);
        let mut by_part: BTreeMap<(&Part, &Destination), usize> = BTreeMap::new();
        for ((subject, destination), seen) in self.refusals.on_at_least(1) {
            if !baseline.is_usual(&subject.part, destination, now) {
                let count = by_part.entry((&subject.part, destination)).or_default();
                let recent = seen.values().filter(|seen| seen.last >= since).count();
                *count = count.saturating_add(recent);
            }
        }
        let enough = usize::try_from(devices).unwrap_or(usize::MAX);
        for ((part, destination), _) in by_part.into_iter().filter(|(_, count)| *count >= enough) {
            baseline.learn_destination(part, destination, now);
        }
    }

    fn forget(&mut self, since: u64, now: u64) {
        self.refusals.forget_before(since);
        self.wide.forget_before(since);
        self.calls.forget_before(since);
        self.violations.forget_before(since);
        self.updates.forget_before(since);
        self.boots.forget_before(since);
        self.traffic.forget_before(since);
        self.clocks.forget_before(since);
        self.found.forget_before(since);
        self.missing.forget_before(since);
        self.ends.retain(|_, ends| {
            ends.retain(|end| end.at >= since);
            !ends.is_empty()
        });
        let hour_ago = now.saturating_sub(HOUR_S) / 60;
        self.enrolments.retain(|_, minutes| {
            minutes.retain(|minute, _| *minute >= hour_ago);
            !minutes.is_empty()
        });
        if self.gap.is_some_and(|(_, end)| end < since) {
            self.gap = None;
        }
    }

    /// Returns how many devices have checked in and were found missing within the hour before `now`. Where the service was away
    /// shortly before, since its return: then all devices that were due meanwhile come at once, and all that do not are found
    /// missing at once, when the others have come.
    #[must_use]
    pub fn attendance(&self, now: u64) -> (u32, u32) {
        let minutes = self.attendance.range(self.attended_since(now) / 60..).map(|(_, n)| n);
        minutes.fold((0, 0), |(a, b), (c, m)| (a.saturating_add(*c), b.saturating_add(*m)))
    }

    /// Returns the second since which [`attendance`](Self::attendance) counts.
    #[must_use]
    pub fn attended_since(&self, now: u64) -> u64 {
        let hour_ago = now.saturating_sub(HOUR_S);
        let owed_since = hour_ago.saturating_sub(GRACE_S);
        let returned = self.gap.map(|(_, end)| end).filter(|end| *end >= owed_since);
        returned.map_or(hour_ago, |end| end.min(hour_ago))
    }

    /// Returns the networks with failed enrolments within the hour before `now`, and how many.
    pub fn enrolments(&self, now: u64) -> impl Iterator<Item = (&Network, u32, u64)> {
        let since = now.saturating_sub(HOUR_S) / 60;
        self.enrolments.iter().map(move |(network, minutes)| {
            let count = minutes.range(since..).fold(0u32, |sum, (_, n)| sum.saturating_add(*n));
            let last = minutes.last_key_value().map_or(0, |(minute, _)| minute.saturating_mul(60));
            (network, count, last)
        })
    }

    /// Returns the last time in which the service was away, by its first and last second, if it has ended within a day.
    #[must_use]
    pub fn gap(&self) -> Option<(u64, u64)> {
        self.gap
    }

    /// Returns for how many sightings there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        [
            self.refusals.dropped(),
            self.wide.dropped(),
            self.calls.dropped(),
            self.violations.dropped(),
            self.updates.dropped(),
            self.boots.dropped(),
            self.traffic.dropped(),
            self.clocks.dropped(),
            self.found.dropped(),
            self.missing.dropped(),
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }

    /// Returns how many devices are kept at all keys.
    #[must_use]
    pub fn entries(&self) -> usize {
        [
            self.refusals.entries(),
            self.wide.entries(),
            self.calls.entries(),
            self.violations.entries(),
            self.updates.entries(),
            self.boots.entries(),
            self.traffic.entries(),
            self.clocks.entries(),
            self.found.entries(),
            self.missing.entries(),
            self.ends.len(),
            self.enrolments.len(),
            self.attendance.len(),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }
}

/// Returns the least number of addresses that a refusal tells of.
fn addresses(refused: &Refused) -> u64 {
    1u64.checked_shl(refused.addresses_log2.into()).unwrap_or(u64::MAX)
}

/// Keeps the greater amount, with its hour and record.
fn most(known: &mut Seen, new: &Seen) {
    if new.amount > known.amount {
        *known = Seen { first: known.first, last: known.last, ..*new };
    }
}

/// Adds amounts up, and begins anew after a day.
fn sum_of_a_day(known: &mut Seen, new: &Seen) {
    if new.last.saturating_sub(known.first) > DAY_S {
        *known = *new;
    } else {
        known.amount = known.amount.saturating_add(new.amount);
        known.record = new.record;
    }
}
