//! The register: findings that stay open until a person closes them, whatever becomes of the devices.
//!
//! The same threat is one finding whose evidence grows. A finding that was closed is opened again when it goes on: when a
//! rule still finds it and something of it was seen after the closing.

use super::finding::{Detection, Evidence, Key, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use thiserror::Error;

/// Most findings of a register. The oldest that are closed make room, and then open ones that are less severe.
pub const MAX_FINDINGS: usize = 1000;
/// Most open findings of one rule about one part of the software: whoever makes many of a kind leaves room for others.
pub const MAX_OF_A_KIND: usize = MAX_FINDINGS / 4;
/// Longest reason for closing, in bytes.
pub const MAX_REASON_BYTES: usize = 1000;

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetFinding {
    /// Its number in the register, from 1 on.
    pub number: u64,
    /// The threat.
    pub key: Key,
    /// The worst severity that it has had since it was opened.
    pub severity: Severity,
    /// What shows it.
    pub evidence: Evidence,
    /// When it was opened for the first time, in seconds since 1970.
    pub opened_at: u64,
    /// How often it was opened again.
    pub reopened: u32,
    /// Whether somebody has closed it.
    pub state: State,
}

/// Whether a finding is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Somebody is to look at it.
    Open,
    /// Somebody has.
    Closed(Closing),
}

/// Who has closed a finding, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who.
    pub by: String,
    /// Why: 1 to [`MAX_REASON_BYTES`] bytes.
    pub reason: String,
}

/// What has become of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Opened(u64),
    /// It was closed, and goes on.
    Reopened(u64),
    /// It is worse than it was.
    Worsened(u64),
    /// There is more evidence.
    Grown(u64),
    /// It was open, is less severe than one that is new, and is not in the register any more.
    Displaced(u64),
    /// There is no room among open findings that are as severe, and this one is not in the register.
    NoRoom,
}

/// A finding cannot be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CloseError {
    /// There is none of this number.
    #[error("there is no finding {0}")]
    NotFound(u64),
    /// Somebody has closed it before.
    #[error("finding {0} is closed")]
    Closed(u64),
    /// The reason is empty or too long.
    #[error("a reason has 1 to {MAX_REASON_BYTES} bytes")]
    Reason,
}

/// Findings of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    findings: Vec<FleetFinding>,
    last: u64,
    /// Findings that are contained: none of them makes room.
    #[serde(default)]
    kept: BTreeSet<u64>,
}

impl Register {
    /// Makes one of findings that were stored.
    #[must_use]
    pub fn new(findings: Vec<FleetFinding>) -> Self {
        let last = findings.iter().map(|finding| finding.number).max().unwrap_or(0);
        Self { findings, last, kept: BTreeSet::new() }
    }

    /// Numbers findings that are new behind `last`: the registers of a catalog's groups count together, so that a number names one finding.
    #[must_use]
    pub fn numbered_behind(self, last: u64) -> Self {
        Self { last: self.last.max(last), ..self }
    }

    /// Keeps findings, though they are closed: whoever contains one has to find it again to undo that.
    #[must_use]
    pub fn keeping(self, kept: BTreeSet<u64>) -> Self {
        Self { kept, ..self }
    }

    /// Returns the number of the newest finding.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Returns all findings.
    #[must_use]
    pub fn findings(&self) -> &[FleetFinding] {
        &self.findings
    }

    /// Returns a finding by its number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&FleetFinding> {
        self.findings.iter().find(|finding| finding.number == number)
    }

    /// Takes what rules have found at `now`, and says what has changed. What they no longer find stays as it is.
    pub fn take(&mut self, detections: &[Detection], now: u64) -> Vec<Change> {
        // The worst first: what is less severe then never takes room that it would have to give back.
        let mut worst_first: Vec<&Detection> = detections.iter().collect();
        worst_first.sort_by_key(|detection| detection.severity);
        let mut changes = Vec::new();
        for detection in worst_first {
            match self.findings.iter().position(|finding| finding.key == detection.key) {
                Some(known) => changes.extend(self.go_on(known, detection)),
                None => self.open(detection, now, &mut changes),
            }
        }
        changes
    }

    /// True where a finding of any kind can be opened, and somewhat more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let open = self.findings.iter().filter(|finding| finding.state == State::Open).count();
        open < MAX_FINDINGS.saturating_sub(MAX_FINDINGS / 10)
    }

    fn go_on(&mut self, place: usize, detection: &Detection) -> Option<Change> {
        let finding = self.findings.get_mut(place)?;
        let number = finding.number;
        if let State::Closed(closing) = &finding.state {
            if detection.evidence.last <= closing.at {
                return None;
            }
            // What was closed is over: evidence and severity begin anew.
            finding.state = State::Open;
            finding.reopened = finding.reopened.saturating_add(1);
            finding.severity = detection.severity;
            finding.evidence = detection.evidence.clone();
            return Some(Change::Reopened(number));
        }
        let before = finding.evidence.clone();
        finding.evidence.grow(&detection.evidence);
        if detection.severity < finding.severity {
            finding.severity = detection.severity;
            return Some(Change::Worsened(number));
        }
        (finding.evidence != before).then_some(Change::Grown(number))
    }

    fn open(&mut self, detection: &Detection, now: u64, changes: &mut Vec<Change>) {
        let is_open = |finding: &&FleetFinding| finding.state == State::Open;
        let kind = |key: &Key| (key.rule, key.about.subject().map(|subject| subject.part));
        let of = kind(&detection.key);
        let is_of_kind = |finding: &FleetFinding| kind(&finding.key) == of;
        let many =
            self.findings.iter().filter(is_open).filter(|finding| is_of_kind(finding)).count()
                >= MAX_OF_A_KIND;
        if many || self.findings.len() >= MAX_FINDINGS {
            let Some(place) =
                self.room_for(detection, |finding| !many || is_of_kind(finding), many)
            else {
                changes.push(Change::NoRoom);
                return;
            };
            let left = self.findings.remove(place);
            if left.state == State::Open {
                changes.push(Change::Displaced(left.number));
            }
        }
        self.last = self.last.saturating_add(1);
        self.findings.push(FleetFinding {
            number: self.last,
            key: detection.key.clone(),
            severity: detection.severity,
            evidence: detection.evidence.clone(),
            opened_at: now,
            reopened: 0,
            state: State::Open,
        });
        changes.push(Change::Opened(self.last));
    }

    /// Returns the place of the finding that makes room for another one, among those that may: the oldest that is closed where one is enough,
    /// or the least severe that is less severe, and of those the one that was seen last longest ago. What is contained never does.
    fn room_for(
        &self,
        detection: &Detection,
        may: impl Fn(&FleetFinding) -> bool,
        is_open_one: bool,
    ) -> Option<usize> {
        let mut places = Vec::new();
        for (place, finding) in self.findings.iter().enumerate() {
            if self.kept.contains(&finding.number) {
                continue;
            }
            match finding.state {
                State::Closed(_) if !is_open_one => return Some(place),
                State::Open if may(finding) && finding.severity > detection.severity => {
                    places.push((place, finding));
                }
                State::Closed(_) | State::Open => {}
            }
        }
        let worst = places.into_iter().min_by_key(|(_, finding)| {
            (std::cmp::Reverse(finding.severity), finding.evidence.last, finding.number)
        });
        worst.map(|(place, _)| place)
    }

    /// Closes a finding. Nothing else does: a device that is well again does not.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub fn close(&mut self, number: u64, closing: Closing) -> Result<(), CloseError> {
        if closing.reason.is_empty() || closing.reason.len() > MAX_REASON_BYTES {
            return Err(CloseError::Reason);
        }
        let finding = self.findings.iter_mut().find(|finding| finding.number == number);
        let finding = finding.ok_or(CloseError::NotFound(number))?;
        if matches!(finding.state, State::Closed(_)) {
            return Err(CloseError::Closed(number));
        }
        finding.state = State::Closed(closing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]

    use super::*;
    use crate::detection::finding::About;
    use crate::detection::rule::Rule;
    use crate::detection::sightings::Seen;
    use crate::detection::subject::{Destination, Part, Subject};
    use holdfast_evidence::messages::DeviceId;
    use holdfast_failure_reports::record::{Protocol, Where};
    use holdfast_types::ComponentId;
    use proptest::prelude::*;

    fn detection(about: About, severity: Severity, seen: &[(u8, u64)]) -> Detection {
        let seen: Vec<_> = seen
            .iter()
            .map(|(number, at)| (DeviceId([*number; 32]), Seen::once(*at, 1, 0, 0)))
            .collect();
        let evidence = Evidence::of(seen.iter().map(|(device, seen)| (device, seen)));
        Detection { key: Key { rule: Rule::Sandbox, about }, severity, evidence }
    }

    fn closing(at: u64) -> Closing {
        Closing { at, by: "ines".to_owned(), reason: "a defect of the app".to_owned() }
    }

    #[test]
    fn the_same_threat_is_one_finding_whose_evidence_grows() {
        let mut register = Register::default();
        let one = detection(About::Group, Severity::SomeDay, &[(1, 10)]);
        assert_eq!(register.take(std::slice::from_ref(&one), 10), [Change::Opened(1)]);
        assert_eq!(register.take(&[one], 70), []);
        let two = detection(About::Group, Severity::SomeDay, &[(1, 10), (2, 80)]);
        assert_eq!(register.take(&[two], 130), [Change::Grown(1)]);
        let worse = detection(About::Group, Severity::Now, &[(2, 80)]);
        assert_eq!(register.take(&[worse], 190), [Change::Worsened(1)]);
        let finding = register.get(1).unwrap();
        assert_eq!((finding.severity, finding.evidence.count), (Severity::Now, 2));
        assert_eq!(finding.opened_at, 10);
    }

    #[test]
    fn a_finding_stays_open_when_devices_are_well_again() {
        let mut register = Register::default();
        register.take(&[detection(About::Group, Severity::Now, &[(1, 10)])], 10);
        for minute in 0..100_000 {
            assert_eq!(register.take(&[], minute * 60), []);
        }
        assert_eq!(register.get(1).unwrap().state, State::Open);
    }

    #[test]
    fn a_closed_finding_is_opened_again_only_when_it_goes_on() {
        let mut register = Register::default();
        let old = detection(About::Group, Severity::Now, &[(1, 10)]);
        register.take(std::slice::from_ref(&old), 10);
        assert_eq!(register.close(1, closing(100)), Ok(()));
        assert_eq!(register.take(&[old], 160), [], "nothing has happened since");
        let goes_on = detection(About::Group, Severity::SomeDay, &[(1, 10), (2, 101)]);
        assert_eq!(register.take(&[goes_on], 200), [Change::Reopened(1)]);
        let finding = register.get(1).unwrap();
        assert_eq!((finding.reopened, &finding.state), (1, &State::Open));
        assert_eq!(register.findings().len(), 1);
    }

    #[test]
    fn a_finding_is_closed_once_and_with_a_reason() {
        let mut register = Register::default();
        register.take(&[detection(About::Group, Severity::Now, &[(1, 10)])], 10);
        for reason in [String::new(), "x".repeat(MAX_REASON_BYTES + 1)] {
            let closing = Closing { reason, ..closing(20) };
            assert_eq!(register.close(1, closing), Err(CloseError::Reason));
        }
        assert_eq!(register.close(2, closing(20)), Err(CloseError::NotFound(2)));
        assert_eq!(register.close(1, closing(20)), Ok(()));
        assert_eq!(register.close(1, closing(20)), Err(CloseError::Closed(1)));
    }

    /// A destination of one of so many parts that no kind has too many.
    fn about(number: usize) -> About {
        let port = u16::try_from(number).ok();
        let to = Destination { protocol: Protocol::Tcp, port, to: Where::Public };
        let part = u8::try_from(number / MAX_OF_A_KIND).unwrap();
        About::Destination(Part::App(ComponentId([part; 16])), to)
    }

    fn full(severity: Severity) -> Register {
        let mut register = Register::default();
        for number in 0..MAX_FINDINGS {
            register.take(&[detection(about(number), severity, &[(1, 10)])], 10);
        }
        assert_eq!(register.findings().len(), MAX_FINDINGS);
        register
    }

    #[test]
    fn a_full_register_forgets_what_is_closed_and_nothing_open_that_is_as_severe() {
        let mut register = full(Severity::Now);
        let more = [detection(About::Group, Severity::Now, &[(1, 10)])];
        assert_eq!(register.take(&more, 10), [Change::NoRoom]);
        assert!(!register.has_room());
        register.close(500, closing(20)).unwrap();
        assert_eq!(register.take(&more, 30), [Change::Opened(1001)]);
        assert_eq!(register.get(500), None);
    }

    #[test]
    fn a_less_severe_finding_makes_room_for_a_more_severe_one() {
        let mut register = full(Severity::SomeDay);
        let worse = [detection(About::Group, Severity::Now, &[(1, 10)])];
        assert_eq!(register.take(&worse, 30), [Change::Displaced(1), Change::Opened(1001)]);
        let as_severe = [detection(About::Service, Severity::SomeDay, &[(1, 10)])];
        assert_eq!(register.take(&as_severe, 30), [Change::NoRoom], "the control");
        assert!(register.get(1001).is_some());
    }

    #[test]
    fn findings_of_one_kind_leave_room_for_others() {
        let mut register = Register::default();
        let of_one = |port: u16, severity| {
            let to = Destination { protocol: Protocol::Tcp, port: Some(port), to: Where::Public };
            detection(About::Destination(Part::Os, to), severity, &[(1, 10)])
        };
        for port in 0..2000 {
            register.take(&[of_one(port, Severity::Today)], 10);
        }
        assert_eq!(register.findings().len(), MAX_OF_A_KIND);
        // Within its kind, what is worse has room; and all others have.
        let changes = register.take(&[of_one(3000, Severity::Now)], 10);
        assert!(matches!(changes[..], [Change::Displaced(1), Change::Opened(_)]), "{changes:?}");
        let other = [detection(About::Group, Severity::SomeDay, &[(1, 10)])];
        assert!(matches!(register.take(&other, 10)[..], [Change::Opened(_)]));
    }

    fn any_detection() -> impl Strategy<Value = Detection> {
        let severity = prop::sample::select(Severity::ALL.to_vec());
        (0usize..3000, severity, 0u64..1000).prop_map(|(number, severity, at)| {
            // Some kinds have far more than others.
            detection(about(number * number / 3000), severity, &[(1, at)])
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Whatever is found in what order: the register is bounded, what it leaves out is said, and is never worse than what its kind or the whole
        /// keeps.
        #[test]
        fn nothing_is_left_out_while_something_less_severe_is_kept(
            rounds in prop::collection::vec(prop::collection::vec(any_detection(), 0..800), 1..6),
        ) {
            let mut register = Register::default();
            for (round, detections) in rounds.iter().enumerate() {
                let known: BTreeSet<u64> = register.findings().iter().map(|f| f.number).collect();
                let changes = register.take(detections, round as u64);
                prop_assert!(register.findings().len() <= MAX_FINDINGS);
                let count = |wanted: fn(&Change) -> bool| changes.iter().filter(|c| wanted(c)).count();
                let opened = count(|change| matches!(change, Change::Opened(_)));
                let displaced = count(|change| matches!(change, Change::Displaced(_)));
                prop_assert_eq!(known.len() + opened - displaced, register.findings().len());
                let least = register.findings().iter().map(|finding| finding.severity).max();
                for detection in detections {
                    if register.findings().iter().any(|finding| finding.key == detection.key) {
                        continue;
                    }
                    let kind = |key: &Key| (key.rule, key.about.subject().map(|s| s.part));
                    let of_kind: Vec<_> = register
                        .findings()
                        .iter()
                        .filter(|finding| kind(&finding.key) == kind(&detection.key))
                        .collect();
                    let least = if of_kind.len() >= MAX_OF_A_KIND {
                        of_kind.iter().map(|finding| finding.severity).max()
                    } else {
                        least
                    };
                    prop_assert!(least.is_some_and(|least| least <= detection.severity));
                }
            }
        }
    }

    #[test]
    fn what_is_contained_does_not_make_room() {
        let mut register = full(Severity::Now);
        register.close(1, closing(20)).unwrap();
        let more = [detection(About::Group, Severity::Now, &[(1, 10)])];
        let mut kept = register.clone().keeping(BTreeSet::from([1]));
        assert_eq!(kept.take(&more, 30), [Change::NoRoom]);
        assert_eq!(register.take(&more, 30), [Change::Opened(1001)], "the control");
        // Nor does it where it is open and less severe.
        let all = (1..=1000).collect();
        let mut kept = full(Severity::SomeDay).keeping(all);
        assert_eq!(kept.take(&more, 30), [Change::NoRoom]);
    }

    #[test]
    fn registers_of_one_catalog_count_together() {
        let mut register = Register::default().numbered_behind(41);
        let new = [detection(About::Group, Severity::Now, &[(1, 10)])];
        assert_eq!((register.take(&new, 10), register.last()), (vec![Change::Opened(42)], 42));
        assert_eq!(Register::new(register.findings().to_vec()).numbered_behind(7).last(), 42);
    }

    #[test]
    fn findings_are_read_as_they_are_written() {
        let subject = Subject { part: Part::Os, version: None };
        let mut register = Register::default();
        register.take(&[detection(About::Subject(subject), Severity::Now, &[(1, 10)])], 10);
        register.close(1, closing(20)).unwrap();
        let text = serde_json::to_string(register.findings()).unwrap();
        let read: Vec<FleetFinding> = serde_json::from_str(&text).unwrap();
        assert_eq!(Register::new(read), register);
    }
}
