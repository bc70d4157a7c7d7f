//! What is written of a batch of reports: what of it is new, what is counted, and which crash groups it adds to.
//!
//! What a device says is believed of itself alone. Its product is the one that its owner has put it in, the hour is the service's where the
//! device's clock cannot be right, and how much one batch can add is bounded, whatever is in it.

use crate::crash::{Address, Key, Subject};
use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::Batch;
use holdfast_failure_reports::record::{Body, CheckInOutcome, Component, LostWhy, Outcome, Record};
use holdfast_types::Version;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds for which reports are kept.
pub const KEPT_S: u64 = 14 * DAY_S;
/// Most crash groups that one batch adds to.
pub const MOST_GROUPS: usize = 64;
/// Most counters that one batch adds to.
pub const MOST_COUNTERS: usize = 1024;
/// Most that one record adds to a counter of events.
const MOST_EVENTS: u64 = 1_000_000;
/// Most that one record adds to a counter of bytes.
const MOST_BYTES: u64 = 1 << 40;
/// Seconds by which a device's clock may be ahead of the service's.
const MOST_AHEAD_S: u64 = 10 * 60;
const HOUR_S: u64 = 60 * 60;
const DAY_S: u64 = 24 * HOUR_S;

/// What a batch is read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reporting {
    /// The level of the device's group.
    pub level: Level,
    /// The version of the OS that the device has attested last.
    pub os: Version,
    /// The highest number that was stored of this epoch before.
    pub stored: u64,
    /// The time, in seconds since 1970.
    pub now: u64,
}

/// What a counter counts, of one component in one hour. The group is the device's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CounterKey {
    /// Begin of the hour, in seconds since 1970.
    pub hour: u64,
    /// The component.
    pub subject: Subject,
    /// Its version.
    pub version: Version,
    /// What is counted.
    pub kind: &'static str,
}

/// Failures of one key in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occurrence {
    /// The key.
    pub key: Key,
    /// The version that has failed.
    pub version: Version,
    /// How it has failed the last time, for people.
    pub failure: String,
    /// The component's name, for people.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// What is to be written of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BatchWrite {
    /// The highest number of this epoch that is stored then.
    pub stored: u64,
    /// The new records that are kept as they are.
    pub records: Vec<Record>,
    /// What is added to counters.
    pub counters: BTreeMap<CounterKey, u64>,
    /// What is added to crash groups, the same key once for each version.
    pub occurrences: Vec<Occurrence>,
    /// Failures that are in no group, and counters that were not added to, since the batch has more than may be.
    pub left_out: u64,
}

/// Returns the addresses of a batch's failures whose names [`write()`] asks for.
#[must_use]
pub fn addresses(batch: &Batch) -> BTreeSet<Address> {
    batch.records.iter().flat_map(|record| Key::addresses(&record.body)).collect()
}

/// Returns what is to be written of a batch. Records up to the highest number that was stored are known, and none that the group's level does not
/// have is kept. `names` returns the name of an address's function, where there are symbols.
pub fn write(
    batch: &Batch,
    reporting: &Reporting,
    names: impl Fn(&Address) -> Option<String>,
) -> BatchWrite {
    let mut write = BatchWrite { stored: reporting.stored, ..BatchWrite::default() };
    let mut os = reporting.os;
    let mut at: BTreeMap<(Key, Version), usize> = BTreeMap::new();
    for record in &batch.records {
        // What follows a boot was recorded by the OS that has booted.
        if let Body::Boot(boot) = &record.body {
            os = boot.version;
        }
        if record.sequence <= reporting.stored {
            continue;
        }
        write.stored = write.stored.max(record.sequence);
        if record.body.level() > reporting.level {
            continue;
        }
        let hour = hour(record, reporting.now);
        for (kind, count) in counted(&record.body) {
            let (subject, version) = subject(&record.body, os);
            write.count(CounterKey { hour, subject, version, kind }, count);
        }
        if let Some((key, version)) = Key::of(&record.body, os, &names) {
            let (failure, name, count) = described(&record.body);
            let next = write.occurrences.len();
            match at.get(&(key.clone(), version)).and_then(|at| write.occurrences.get_mut(*at)) {
                Some(known) => known.count = known.count.saturating_add(count),
                None if next < MOST_GROUPS => {
                    at.insert((key.clone(), version), next);
                    write.occurrences.push(Occurrence { key, version, failure, name, count });
                }
                None => write.left_out = write.left_out.saturating_add(1),
            }
        }
        write.records.push(record.clone());
    }
    write
}

impl BatchWrite {
    fn count(&mut self, key: CounterKey, count: u64) {
        let has_room = self.counters.len() < MOST_COUNTERS;
        match self.counters.get_mut(&key) {
            Some(counter) => *counter = counter.saturating_add(count),
            None if has_room => drop(self.counters.insert(key, count)),
            None => self.left_out = self.left_out.saturating_add(1),
        }
    }
}

/// When a record was made, in seconds since 1970: by the device's clock, unless that cannot be right.
#[must_use]
pub fn made_at(record: &Record, received_at: u64) -> u64 {
    let (oldest, newest) =
        (received_at.saturating_sub(KEPT_S), received_at.saturating_add(MOST_AHEAD_S));
    record.at.filter(|at| (oldest..=newest).contains(at)).unwrap_or(received_at)
}

fn hour(record: &Record, now: u64) -> u64 {
    let at = made_at(record, now);
    at.saturating_sub(at % HOUR_S)
}

/// The component that a record is about, and its version.
fn subject(body: &Body, os: Version) -> (Subject, Version) {
    match (body, body.component()) {
        (_, Some(Component::App(app))) => (Subject::App(app.id), app.version),
        (_, Some(service @ Component::Service(_))) => (Subject::of(service), os),
        (Body::Update(update), None) => (update.app.map_or(Subject::Os, Subject::App), update.to),
        (Body::Boot(boot), None) => (Subject::Os, boot.version),
        _ => (Subject::Os, os),
    }
}

/// What a record adds to, and how much.
fn counted(body: &Body) -> Vec<(&'static str, u64)> {
    let events = |count: u32| u64::from(count).min(MOST_EVENTS);
    match body {
        Body::Boot(boot) if boot.reset.is_failure() => vec![("boot", 1), ("boot-failed", 1)],
        Body::Boot(_) => vec![("boot", 1)],
        Body::Ended(ended) => {
            let kind = match ended.end.word() {
                "exit" => "ended-exit",
                "signal" => "ended-signal",
                "watchdog" => "ended-watchdog",
                "not-ready" => "ended-not-ready",
                "memory" => "ended-memory",
                "sandbox" => "ended-sandbox",
                "verity" => "ended-verity",
                _ => "ended",
            };
            vec![(kind, events(ended.count))]
        }
        Body::Update(update) => vec![(of_update(update.outcome), 1)],
        Body::Refused(refused) => vec![("refused", events(refused.count))],
        Body::Traffic(traffic) => vec![
            ("bytes-sent", traffic.sent_bytes.min(MOST_BYTES)),
            ("bytes-received", traffic.received_bytes.min(MOST_BYTES)),
        ],
        Body::Used(used) => vec![("restarts", events(used.restarts))],
        Body::Storage(_) => Vec::new(),
        Body::Clock(clock) if clock.is_refused => vec![("clock-refused", 1)],
        Body::Clock(_) => vec![("clock-set", 1)],
        Body::CheckIn(check_in) => vec![(of_check_in(check_in.outcome), events(check_in.count))],
        Body::Lost(lost) => vec![(of_lost(lost.why), events(lost.count))],
    }
}

/// The word for what has become of a release.
#[must_use]
pub fn of_update(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "update-committed",
        Outcome::FellBack => "update-fell-back",
        Outcome::RefusedSignature => "update-refused-signature",
        Outcome::RefusedExpired => "update-refused-expired",
        Outcome::RefusedRollback => "update-refused-rollback",
        Outcome::RefusedContent => "update-refused-content",
        Outcome::Failed => "update-failed",
        Outcome::Declined => "update-declined",
    }
}

fn of_check_in(outcome: CheckInOutcome) -> &'static str {
    match outcome {
        CheckInOutcome::Certified => "check-in-certified",
        CheckInOutcome::UpdateOnly => "check-in-update-only",
        CheckInOutcome::Refused => "check-in-refused",
        CheckInOutcome::Unreachable => "check-in-unreachable",
        CheckInOutcome::TpmFailed => "check-in-tpm-failed",
    }
}

fn of_lost(why: LostWhy) -> &'static str {
    match why {
        LostWhy::Quota => "lost-quota",
        LostWhy::Spool => "lost-spool",
        LostWhy::Torn => "lost-torn",
        LostWhy::Init => "lost-init",
    }
}

/// How a failure was, the name of what has failed, and how often it has.
fn described(body: &Body) -> (String, String, u64) {
    use crate::crash::Failure;
    match body {
        Body::Ended(ended) => {
            let name = match &ended.component {
                Component::App(app) => app.name.as_str(),
                Component::Service(name) => name.as_str(),
            };
            let count = u64::from(ended.count).clamp(1, MOST_EVENTS);
            (Failure::Ended(ended.end).to_string(), name.to_owned(), count)
        }
        Body::Boot(boot) => (Failure::Boot(boot.reset).to_string(), "os".to_owned(), 1),
        Body::Update(update) => {
            let name = update.app.map_or_else(|| "os".to_owned(), |id| id.to_string());
            (Failure::FellBack.to_string(), name, 1)
        }
        Body::Refused(_)
        | Body::Traffic(_)
        | Body::Used(_)
        | Body::Storage(_)
        | Body::Clock(_)
        | Body::CheckIn(_)
        | Body::Lost(_) => (String::new(), String::new(), 1),
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "the numbers of these tests are small")]
mod tests {
    use super::*;
    use holdfast_failure_reports::batch::Epoch;
    use holdfast_failure_reports::record::{Boot, Ended, Place};
    use holdfast_failure_reports::samples;
    use proptest::prelude::*;

    const OS: Version = Version { major: 1, minor: 4, patch: 0 };
    const NOW: u64 = 1_790_001_000;

    fn reporting(level: Level, stored: u64) -> Reporting {
        Reporting { level, os: OS, stored, now: NOW }
    }

    fn batch(records: Vec<Record>) -> Batch {
        Batch { epoch: Epoch([7; 8]), records, unknown: 0 }
    }

    fn written(records: Vec<Record>, level: Level, stored: u64) -> BatchWrite {
        write(&batch(records), &reporting(level, stored), |_| None)
    }

    #[test]
    fn what_is_known_is_not_written_again() {
        let all = written(samples::records(), Level::Full, 0);
        assert_eq!((all.stored, all.records.len(), all.occurrences.len()), (10, 10, 3));
        let rest = written(samples::records(), Level::Full, 2);
        assert_eq!((rest.stored, rest.records.len(), rest.occurrences.len()), (10, 8, 1));
        let none = written(samples::records(), Level::Full, 10);
        assert_eq!(none, BatchWrite { stored: 10, ..BatchWrite::default() });
        let ahead = written(samples::records(), Level::Full, 12);
        assert_eq!(ahead.stored, 12, "it never goes back");
    }

    #[test]
    fn no_record_above_the_level_of_the_group_is_kept() {
        let full = written(samples::records(), Level::Full, 0);
        let health = written(samples::records(), Level::Health, 0);
        assert_eq!((full.records.len(), health.records.len()), (10, 7));
        assert_eq!(health.stored, 10, "they are not sent again");
        assert!(full.counters.keys().any(|key| key.kind == "bytes-sent"), "the control");
        assert!(health.counters.keys().all(|key| !key.kind.starts_with("bytes")));
    }

    #[test]
    fn a_failure_is_counted_as_often_as_it_was_and_for_its_component() {
        let write = written(samples::records(), Level::Full, 0);
        let crash = write.occurrences.iter().find(|one| one.name == "camera").unwrap();
        assert_eq!((crash.count, crash.failure.as_str()), (3, "signal 11"));
        let counter = write.counters.iter().find(|(key, _)| key.kind == "ended-signal").unwrap();
        assert_eq!(*counter.1, 3);
        assert_eq!(counter.0.hour % 3600, 0);
        assert_eq!(counter.0.subject, Subject::of(&samples::app()));
        assert_eq!(counter.0.version, Version { major: 2, minor: 1, patch: 0 });
    }

    /// Services have the version of the OS that has booted, also where the boot was reported before.
    #[test]
    fn a_service_has_the_version_of_the_os_that_has_booted() {
        let mut records = samples::records();
        let Body::Used(used) = records[5].body.clone() else { unreachable!() };
        let service =
            Ended { component: used.component, crash: None, panic: None, ..samples::ended() };
        records.truncate(1);
        let Body::Boot(boot) = &records[0].body else { unreachable!() };
        let booted = boot.version;
        assert_ne!(booted, OS);
        records.push(Record { sequence: 2, body: Body::Ended(service), ..records[0].clone() });
        for (stored, known) in [(0, booted), (1, booted)] {
            let write = written(records.clone(), Level::Health, stored);
            assert_eq!(write.occurrences.last().unwrap().version, known);
        }
        let alone = written(records.split_off(1), Level::Health, 0);
        assert_eq!(alone.occurrences[0].version, OS, "what was attested");
    }

    #[test]
    fn a_clock_that_cannot_be_right_is_not_believed() {
        let record = |at| Record { at, ..samples::records()[0].clone() };
        for (at, made) in [
            (Some(NOW - 100), NOW - 100),
            (Some(NOW + 600), NOW + 600),
            (Some(NOW + 601), NOW),
            (Some(NOW - KEPT_S - 1), NOW),
            (Some(u64::MAX), NOW),
            (Some(0), NOW),
            (None, NOW),
        ] {
            assert_eq!(made_at(&record(at), NOW), made, "{at:?}");
        }
    }

    #[test]
    fn a_batch_of_as_many_failures_as_fit_adds_to_as_many_groups_as_it_may() {
        let template = samples::records()[0].clone();
        let Body::Boot(boot) = template.body.clone() else { unreachable!() };
        let records = (1..=2000u32).map(|number| {
            let fault = Some(Place { build_id: None, offset: number });
            let version = Version { patch: number, ..OS };
            let body = Body::Boot(Boot { fault, version, ..boot.clone() });
            Record { sequence: u64::from(number), body, ..template.clone() }
        });
        let write = written(records.collect(), Level::Health, 0);
        assert_eq!(write.occurrences.len(), MOST_GROUPS);
        assert_eq!(write.counters.len(), MOST_COUNTERS);
        assert!(write.left_out > 0);
        assert_eq!((write.stored, write.records.len()), (2000, 2000), "all is kept as it was told");
    }

    proptest! {
        /// A batch whose answer was lost is sent again, cut anywhere: what is written in all is the same.
        #[test]
        fn a_batch_in_two_parts_is_written_as_in_one(cut in 0usize..=10) {
            let whole = written(samples::records(), Level::Full, 0);
            let first = written(samples::records()[..cut].to_vec(), Level::Full, 0);
            let second = written(samples::records(), Level::Full, first.stored);
            prop_assert_eq!(second.stored, whole.stored);
            prop_assert_eq!([&first.records[..], &second.records].concat(), &whole.records[..]);
            let sum = |write: &BatchWrite| write.counters.values().sum::<u64>();
            prop_assert_eq!(sum(&first) + sum(&second), sum(&whole));
            let count = |list: &[Occurrence]| list.iter().map(|one| one.count).sum::<u64>();
            prop_assert_eq!(count(&first.occurrences) + count(&second.occurrences), count(&whole.occurrences));
        }
    }
}
