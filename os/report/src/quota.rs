//! What is recorded of what happens: the same failure is counted, and no component has more than its share.
//!
//! Of each share, a part is kept for what is rare: see [`Priority`].

use crate::Level;
use crate::priority::Priority;
use crate::record::{Body, CheckIn, Component, Ended, Lost, LostWhy, Refused};
use crate::signature::Signature;
use std::collections::BTreeMap;

/// Most records of one component in an hour.
pub const RECORDS_AN_HOUR: u16 = 32;
/// Most records in an hour that are of no component.
pub const SYSTEM_RECORDS_AN_HOUR: u16 = 64;
/// Most records of a device in a day, so that those of a week fit a file of the spool.
pub const RECORDS_A_DAY: u16 = 144;
/// Most events that wait to be recorded.
pub const MAX_WAITING: u16 = 256;
/// Most components whose shares are kept apart: those of a device, and some that were updated within the hour.
const MAX_COMPONENTS: usize = 64;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 24 * HOUR_S;

/// An event that waits to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Seconds since the boot at which it happened first.
    pub uptime_s: u64,
    /// Seconds since 1970 by the clock at that time, if the clock was set.
    pub at: Option<u64>,
    /// What has happened.
    pub body: Body,
}

/// What waits to be recorded, and the shares of this hour.
#[derive(Debug, Clone)]
pub struct Quota {
    level: Level,
    waiting: Vec<Waiting>,
    hour: u64,
    taken: BTreeMap<Option<Component>, u16>,
    day: u64,
    taken_today: u16,
    lost: u32,
}

impl Quota {
    /// Makes one for a device that records at this level.
    #[must_use]
    pub fn new(level: Level) -> Self {
        Self {
            level,
            waiting: Vec::new(),
            hour: 0,
            taken: BTreeMap::new(),
            day: 0,
            taken_today: 0,
            lost: 0,
        }
    }

    /// Returns the level.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// Records at another level from now on. What waits and is above it is forgotten.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
        self.waiting.retain(|waiting| is_recorded(&waiting.body, level));
        if level == Level::Off {
            self.lost = 0;
        }
    }

    /// Takes what has happened at `uptime_s`, when the clock showed `at`. True if it is recorded, or counted with one that is.
    pub fn take(&mut self, body: Body, uptime_s: u64, at: Option<u64>) -> bool {
        if !is_recorded(&body, self.level) {
            return false;
        }
        let hour = uptime_s.checked_div(HOUR_S).unwrap_or(0);
        if hour != self.hour {
            self.hour = hour;
            self.taken.clear();
        }
        let day = uptime_s.checked_div(DAY_S).unwrap_or(0);
        if day != self.day {
            self.day = day;
            self.taken_today = 0;
        }
        if self.waiting.iter_mut().any(|waiting| merge(&mut waiting.body, &body)) {
            return true;
        }
        let component = body.component().cloned();
        let most = if component.is_some() { RECORDS_AN_HOUR } else { SYSTEM_RECORDS_AN_HOUR };
        let priority = Priority::of(&body);
        // What is of no component needs no place beside those of components.
        let is_room = component.is_none()
            || self.taken.len() < MAX_COMPONENTS
            || self.taken.contains_key(&component);
        let is_full = self.waiting.len() >= usize::from(priority.part_of(MAX_WAITING))
            || self.taken_today >= priority.part_of(RECORDS_A_DAY);
        if !is_room || is_full {
            self.lost = self.lost.saturating_add(1);
            return false;
        }
        let taken = self.taken.entry(component).or_default();
        if *taken >= priority.part_of(most) {
            self.lost = self.lost.saturating_add(1);
            return false;
        }
        *taken = taken.saturating_add(1);
        self.taken_today = self.taken_today.saturating_add(1);
        self.waiting.push(Waiting { uptime_s, at, body });
        true
    }

    /// Returns what waits.
    #[must_use]
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// True where nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lost == 0
    }

    /// Returns what waits, with what was not kept as its last.
    pub fn flush(&mut self, uptime_s: u64, at: Option<u64>) -> Vec<Waiting> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let count = std::mem::take(&mut self.lost);
        if count > 0 {
            let body = Body::Lost(Lost { why: LostWhy::Quota, count });
            waiting.push(Waiting { uptime_s, at, body });
        }
        waiting
    }
}

impl Quota {
    /// Puts back what could not be written yet, in front of what has happened since.
    pub fn put_back(&mut self, mut waiting: Vec<Waiting>) {
        // What was not kept is counted on, and told when there is room.
        if let Some(Waiting { body: Body::Lost(Lost { why: LostWhy::Quota, count }), .. }) =
            waiting.last()
        {
            self.lost = self.lost.saturating_add(*count);
            waiting.pop();
        }
        waiting.append(&mut self.waiting);
        self.waiting = waiting;
    }
}

fn is_recorded(body: &Body, level: Level) -> bool {
    level != Level::Off && body.level() <= level
}

/// Counts `new` with a record that waits, where both are the same failure.
fn merge(known: &mut Body, new: &Body) -> bool {
    if let (Body::CheckIn(known), Body::CheckIn(CheckIn { outcome, count })) = (&mut *known, new)
        && known.outcome == *outcome
    {
        known.count = known.count.saturating_add(*count);
        return true;
    }
    let signature = Signature::of(known);
    if signature.is_none() || signature != Signature::of(new) {
        return false;
    }
    match (known, new) {
        (Body::Ended(known), Body::Ended(Ended { count, .. })) => {
            known.count = known.count.saturating_add(*count);
            true
        }
        (Body::Refused(known), Body::Refused(Refused { count, addresses_log2, .. })) => {
            known.count = known.count.saturating_add(*count);
            known.addresses_log2 = known.addresses_log2.max(*addresses_log2);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{App, CheckInOutcome, Clock, Crash, End, Name, Place, Traffic, Update};
    use crate::samples;
    use holdfast_types::{ClockSource, Version};
    use proptest::prelude::*;

    fn ended(code: u8) -> Body {
        Body::Ended(Ended { end: End::Exit(code), count: 1, ..samples::ended() })
    }

    #[test]
    fn the_same_failure_is_counted_and_not_recorded_again() {
        let mut quota = Quota::new(Level::Health);
        for second in 0..100_000 {
            assert!(quota.take(ended(1), second % HOUR_S, Some(second)));
        }
        let records = quota.flush(0, None);
        let [Waiting { body: Body::Ended(ended), at, .. }] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!((ended.count, *at), (100_000, Some(0)), "the first time is kept");
        assert!(quota.is_empty());
    }

    #[test]
    fn a_component_has_its_share_and_others_keep_theirs() {
        let mut quota = Quota::new(Level::Health);
        let most = Priority::Usual.part_of(RECORDS_AN_HOUR);
        for code in 0..=255 {
            assert_eq!(quota.take(ended(code), 0, None), u16::from(code) < most);
        }
        let check_in = CheckIn { outcome: CheckInOutcome::Refused, count: 1 };
        assert!(quota.take(Body::CheckIn(check_in), 0, None));
        let records = quota.flush(7, None);
        assert_eq!(records.len(), usize::from(most) + 2);
        let lost = Lost { why: LostWhy::Quota, count: 256 - u32::from(most) };
        assert_eq!(records.last().unwrap().body, Body::Lost(lost));
        // Within the hour the share stays used, in the next it is there again.
        assert!(!quota.take(ended(1), HOUR_S - 1, None));
        assert!(quota.take(ended(1), HOUR_S, None));
    }

    #[test]
    fn a_device_has_its_share_of_a_day() {
        let mut quota = Quota::new(Level::Health);
        let mut kept = 0;
        for minute in 0..24 * 60 {
            kept += u16::from(quota.take(ended((minute % 251) as u8), minute * 60, None));
            quota.flush(0, None);
        }
        assert_eq!(kept, Priority::Usual.part_of(RECORDS_A_DAY));
        assert!(quota.take(ended(1), DAY_S, None));
    }

    /// Every share is used up by what apps bring about at will: that of a component, of an hour, of a day, and the places to wait.
    #[test]
    fn what_is_rare_is_kept_whatever_apps_do() {
        let camera = |number: u32| {
            let name = Name::try_from(format!("camera-{number}")).unwrap();
            let Component::App(app) = samples::app() else { panic!("the sample is an app") };
            Component::App(App { name, ..app })
        };
        let update = |patch| {
            let record = samples::records().into_iter().find_map(|record| match record.body {
                Body::Update(update) => Some(update),
                _ => None,
            });
            let to = Version { patch, ..Version::default() };
            Body::Update(Update { to, ..record.unwrap() })
        };
        let boot = samples::records().into_iter().next().unwrap().body;
        for flushes in [true, false] {
            let mut quota = Quota::new(Level::Full);
            for minute in (0..2 * 24 * 60).step_by(15) {
                let now = u64::from(minute) * 60;
                // One more than have places.
                for number in 0..65 {
                    let pc = Place { build_id: None, offset: minute };
                    let crash = samples::ended().crash.map(|crash| Crash { pc, ..crash });
                    let ended = Ended { component: camera(number), crash, ..samples::ended() };
                    for end in [End::Exit((minute % 251) as u8), End::Sandbox] {
                        quota.take(Body::Ended(Ended { end, ..ended.clone() }), now, None);
                    }
                }
                quota.take(
                    Body::CheckIn(CheckIn { outcome: CheckInOutcome::Refused, count: 1 }),
                    now,
                    None,
                );
                let step_s = i64::from(minute);
                let clock = Clock { source: ClockSource::Network, step_s, is_refused: false };
                quota.take(Body::Clock(clock), now, None);
                if minute % 180 == 165 {
                    assert!(quota.take(update(minute), now, None), "{flushes} {minute}");
                    // The control: what happens at will has no room at that time.
                    let ended = Ended { end: End::Memory, ..samples::ended() };
                    assert!(!quota.take(Body::Ended(ended), now, None), "{flushes} {minute}");
                }
                if minute % 1440 == 990 && flushes {
                    quota.flush(now, None);
                }
            }
            assert!(flushes || quota.waiting().len() <= usize::from(MAX_WAITING));
            assert_eq!(
                quota.take(boot.clone(), 3 * DAY_S, None),
                flushes,
                "apps have alarms at will"
            );
        }
    }

    #[test]
    fn what_is_above_the_level_is_not_recorded() {
        for level in Level::ALL {
            let mut quota = Quota::new(level);
            for record in samples::records() {
                let recorded = quota.take(record.body.clone(), 0, None);
                assert_eq!(recorded, level != Level::Off && record.body.level() <= level);
            }
        }
    }

    #[test]
    fn a_lower_level_forgets_what_waits() {
        let mut quota = Quota::new(Level::Full);
        let traffic = Traffic { component: samples::app(), sent_bytes: 1, received_bytes: 1 };
        assert!(quota.take(Body::Traffic(traffic), 0, None));
        assert!(quota.take(ended(1), 0, None));
        quota.set_level(Level::Health);
        assert_eq!(quota.flush(0, None).len(), 1);
        for code in 0..=255 {
            quota.take(ended(code), 0, None);
        }
        quota.set_level(Level::Off);
        assert!(quota.is_empty(), "what was recorded before is not even counted");
    }

    proptest! {
        #[test]
        fn nothing_that_is_not_recorded_goes_uncounted(codes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut quota = Quota::new(Level::Health);
            for code in &codes {
                quota.take(ended(*code), 0, None);
            }
            let told = quota.flush(0, None).iter().map(|waiting| match &waiting.body {
                Body::Ended(ended) => ended.count,
                Body::Lost(lost) => lost.count,
                _ => 0,
            }).sum::<u32>();
            prop_assert_eq!(told as usize, codes.len());
        }
    }
}
