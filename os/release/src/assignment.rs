//! Assignments: what the Security Service lets a device take of what is signed, and when. A brake, and nothing else.
//!
//! An assignment narrows the choice that signed targets leave ([`next_release`](crate::next_release)), and can never widen it. Who
//! has taken over the service or `uplink` can delay a release by it and cannot choose one. It ends by itself, so that a service
//! that is gone does not keep a device from its fixes.

use crate::feed::Feed;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::Version;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most assignments of a device: of the OS and of each app.
pub const MAX_ASSIGNMENTS: usize = 33;
/// Most versions that one assignment excepts.
pub const MAX_EXCEPT: usize = 8;
/// Longest name of a deployment in bytes.
pub const MAX_DEPLOYMENT_BYTES: usize = 32;
/// Seconds for which an assignment holds after the certificates that came with it have ended: 14 days.
pub const HELD_AFTER_CERTIFICATE_S: u64 = 14 * 86_400;
/// Longest time in seconds for which an assignment holds, of which a device runs: that of certificates, and what follows. No clock
/// is needed for it, since one that stands still would let an assignment hold for ever.
pub const MAX_HELD_S: u64 = 48 * 3600 + HELD_AFTER_CERTIFICATE_S;
/// Least interval between checks for releases that an assignment may ask for, in seconds.
pub const LEAST_CHECK_EVERY_S: u32 = 15 * 60;
const DAY_S: u64 = 86_400;
const MINUTES_OF_A_DAY: u16 = 24 * 60;
/// Most minutes by which local time is behind or ahead of UTC.
const MOST_BEHIND_MIN: i16 = -12 * 60;
const MOST_AHEAD_MIN: i16 = 14 * 60;
const WEEKDAYS: [&str; 7] = ["mo", "tu", "we", "th", "fr", "sa", "su"];
/// 1970-01-01 was a Thursday.
const FIRST_WEEKDAY: u64 = 3;

/// A maintenance window: a period of some days of the week, in minutes of local time, which is so many minutes ahead of UTC.
///
/// As text: `02:00-04:00+60`, or `sa,su 22:30-01:00-300`. A window that lasts over midnight belongs to the day on which it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalWindow {
    /// Bit 0 is Monday.
    days: u8,
    from_min: u16,
    to_min: u16,
    ahead_min: i16,
}

/// A text is no window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be such as `02:00-04:00+60` or `sa,su 22:30-01:00-300`: days of mo,tu,we,th,fr,sa,su, \
     first and last minute, and minutes that local time is ahead of UTC, -720 to 840"
)]
pub struct NoWindow;

impl FromStr for LocalWindow {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let (days, times) = match text.split_once(' ') {
            Some((days, times)) => (weekdays(days).ok_or(NoWindow)?, times),
            None => (0b111_1111, text),
        };
        let minutes = |from: usize| {
            let two = |at: usize| {
                let digits = times.get(at..at.checked_add(2)?)?;
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                is_number.then(|| digits.parse::<u16>().ok())?
            };
            let (hour, minute) = (two(from)?, two(from.checked_add(3)?)?);
            let colon = from.checked_add(2).and_then(|at| times.as_bytes().get(at));
            let fits = colon == Some(&b':') && hour < 24 && minute < 60;
            fits.then(|| hour.saturating_mul(60).saturating_add(minute))
        };
        let (from_min, to_min) = (minutes(0).ok_or(NoWindow)?, minutes(6).ok_or(NoWindow)?);
        let ahead = times.get(11..).ok_or(NoWindow)?;
        let ahead_min = if ahead.is_empty() { 0 } else { offset(ahead).ok_or(NoWindow)? };
        if times.as_bytes().get(5) != Some(&b'-') || from_min == to_min {
            return Err(NoWindow);
        }
        Ok(Self { days, from_min, to_min, ahead_min })
    }
}

fn weekdays(text: &str) -> Option<u8> {
    let mut days = 0u8;
    for name in text.split(',') {
        let at = WEEKDAYS.iter().position(|day| *day == name)?;
        let bit = 1u8.checked_shl(u32::try_from(at).ok()?)?;
        if days & bit != 0 {
            return None;
        }
        days |= bit;
    }
    Some(days)
}

fn offset(text: &str) -> Option<i16> {
    let digits = text.strip_prefix(['+', '-'])?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let offset: i16 = is_number.then(|| text.parse().ok())??;
    (MOST_BEHIND_MIN..=MOST_AHEAD_MIN).contains(&offset).then_some(offset)
}

impl fmt::Display for LocalWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0b111_1111 {
            let named = WEEKDAYS.iter().zip(0u32..).filter(|(_, at)| self.has_day(*at));
            let names: Vec<&str> = named.map(|(name, _)| *name).collect();
            write!(f, "{} ", names.join(","))?;
        }
        let clock = |minute: u16| (minute.wrapping_div(60), minute.wrapping_rem(60));
        let ((from_h, from_m), (to_h, to_m)) = (clock(self.from_min), clock(self.to_min));
        write!(f, "{from_h:02}:{from_m:02}-{to_h:02}:{to_m:02}{:+}", self.ahead_min)
    }
}

impl LocalWindow {
    fn has_day(self, day: u32) -> bool {
        self.days & 1u8.checked_shl(day).unwrap_or(0) != 0
    }

    /// True if the fields are what [`from_str`](Self::from_str) makes.
    fn is_valid(self) -> bool {
        (1..=0b111_1111).contains(&self.days)
            && self.from_min < MINUTES_OF_A_DAY
            && self.to_min < MINUTES_OF_A_DAY
            && self.from_min != self.to_min
            && (MOST_BEHIND_MIN..=MOST_AHEAD_MIN).contains(&self.ahead_min)
    }

    /// Returns the seconds from `now`, in seconds since 1970, until the window opens; 0 while it is open.
    #[must_use]
    pub fn opens_in(self, now: u64) -> u64 {
        // Before 1970, and behind any year that counts, no window is waited for.
        let ahead_s = i64::from(self.ahead_min).saturating_mul(60);
        let Some(local) = now.checked_add_signed(ahead_s) else { return 0 };
        let (from, to) = (u64::from(self.from_min) * 60, u64::from(self.to_min) * 60);
        let length = if from < to {
            to.saturating_sub(from)
        } else {
            to.saturating_add(DAY_S).saturating_sub(from)
        };
        let today = local.checked_div(DAY_S).unwrap_or(0);
        // It may have begun yesterday; and within a week each day has come.
        (0..=8u64)
            .filter_map(|later| {
                let day = today.saturating_add(later).checked_sub(1)?;
                let weekday = day.saturating_add(FIRST_WEEKDAY).checked_rem(7)?;
                if !self.has_day(u32::try_from(weekday).ok()?) {
                    return None;
                }
                let begins = day.saturating_mul(DAY_S).saturating_add(from);
                let is_over = local >= begins.saturating_add(length);
                (!is_over).then(|| begins.saturating_sub(local))
            })
            .min()
            .unwrap_or(0)
    }
}

/// What a device may take of one component, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Name of the deployment, for logs; empty where none is the reason.
    pub deployment: String,
    /// The OS or the app.
    pub subject: ReleaseSubject,
    /// The newest version that may be taken.
    pub newest: Version,
    /// Versions up to it that may not.
    pub except: Vec<Version>,
    /// When the device may restart for it, besides the image's own window.
    pub window: Option<LocalWindow>,
    /// Time from which the window does not count any more, in seconds since 1970.
    pub deadline: Option<u64>,
    /// Interval between checks for releases, in seconds: shorter than the image's, and never longer.
    pub check_every_s: Option<u32>,
}

/// The assignments of a device, until they end.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Assigned {
    assignments: Vec<Assignment>,
    /// When they end, in seconds since 1970.
    ends_at: u64,
    /// Seconds of running that are left of them.
    left_s: u64,
    /// The feed that the device follows, where its image allows it.
    feed: Option<Feed>,
}

/// The assignments of a device as an OS from before feeds has kept them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedBefore {
    assignments: Vec<Assignment>,
    ends_at: u64,
    left_s: u64,
}

impl From<AssignedBefore> for Assigned {
    fn from(before: AssignedBefore) -> Self {
        let AssignedBefore { assignments, ends_at, left_s } = before;
        Self { assignments, ends_at, left_s, feed: None }
    }
}

impl Assigned {
    /// Name of the file on `state`.
    pub const FILE_NAME: &str = "assigned";
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 8192;

    /// Makes what a check-in has brought, with certificates that end at `until`, in seconds since 1970. Of one component the first
    /// assignment counts, and of too many the first [`MAX_ASSIGNMENTS`].
    #[must_use]
    pub fn new(assignments: impl IntoIterator<Item = Assignment>, until: u64) -> Self {
        let ends_at = until.saturating_add(HELD_AFTER_CERTIFICATE_S);
        let mut assigned =
            Self { assignments: Vec::new(), ends_at, left_s: MAX_HELD_S, feed: None };
        for mut assignment in assignments {
            let is_there = assigned.assignment(assignment.subject).is_some();
            if is_there || assigned.assignments.len() >= MAX_ASSIGNMENTS {
                continue;
            }
            assignment.except.truncate(MAX_EXCEPT);
            let name = assignment.deployment.chars();
            assignment.deployment =
                name.filter(char::is_ascii_graphic).take(MAX_DEPLOYMENT_BYTES).collect();
            assignment.window = assignment.window.filter(|window| window.is_valid());
            assigned.assignments.push(assignment);
        }
        assigned
    }

    /// Returns it with a feed.
    #[must_use]
    pub fn with_feed(self, feed: Option<Feed>) -> Self {
        Self { feed, ..self }
    }

    /// Returns the feed.
    #[must_use]
    pub fn feed(&self) -> Option<&Feed> {
        self.feed.as_ref()
    }

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        let read: Self = encoding::decode(bytes)?;
        Ok(read.bounded())
    }

    /// Returns it with each field within its bounds, whoever has written it.
    #[must_use]
    pub fn bounded(self) -> Self {
        let (ends_at, left_s, feed) = (self.ends_at, self.left_s.min(MAX_HELD_S), self.feed);
        Self { ends_at, left_s, feed, ..Self::new(self.assignments, 0) }
    }

    /// True if it says the same as another, whatever is left of either.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.says_alike(other) && self.ends_at == other.ends_at
    }

    /// True if it assigns the same as another, however long either holds.
    #[must_use]
    pub fn says_alike(&self, other: &Self) -> bool {
        self.assignments == other.assignments && self.feed == other.feed
    }

    /// True where nothing is assigned, and no feed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.assignments.is_empty() && self.feed.is_none()
    }

    /// Counts `seconds` of running down. True where some were left: the file is then to be saved.
    pub fn count_down(&mut self, seconds: u64) -> bool {
        let counts = !self.is_empty() && self.left_s > 0;
        self.left_s = self.left_s.saturating_sub(seconds);
        counts
    }

    /// Returns what still holds at `now`, in seconds since 1970; nothing once it has ended, by the clock or by the time that the device
    /// has run.
    #[must_use]
    pub fn at(&self, now: u64) -> Option<&Self> {
        (!self.is_empty() && now < self.ends_at && self.left_s > 0).then_some(self)
    }

    fn assignment(&self, subject: ReleaseSubject) -> Option<&Assignment> {
        self.assignments.iter().find(|assignment| assignment.subject == subject)
    }

    /// True if a version of this component may be taken. Nothing is said of a component without an assignment.
    #[must_use]
    pub fn allows(&self, subject: ReleaseSubject, version: Version) -> bool {
        self.assignment(subject).is_none_or(|assignment| {
            version <= assignment.newest && !assignment.except.contains(&version)
        })
    }

    /// Returns the seconds from `now`, in seconds since 1970, until the device may restart for a release of this component: 0 without
    /// a window, within it, and behind the deadline.
    #[must_use]
    pub fn opens_in(&self, subject: ReleaseSubject, now: u64) -> u64 {
        let Some(assignment) = self.assignment(subject) else { return 0 };
        let left = assignment.deadline.map_or(u64::MAX, |deadline| deadline.saturating_sub(now));
        assignment.window.map_or(0, |window| window.opens_in(now)).min(left)
    }

    /// Returns the interval between checks for releases in seconds, where the image's own is `usual`: the shortest that is asked for,
    /// within bounds, and never a longer one.
    #[must_use]
    pub fn check_every_s(&self, usual: u32) -> u32 {
        let asked = self.assignments.iter().filter_map(|assignment| assignment.check_every_s);
        asked.map(|asked| asked.max(LEAST_CHECK_EVERY_S)).chain([usual]).min().unwrap_or(usual)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow is a failed test")]

    use super::*;
    use holdfast_types::ComponentId;
    use proptest::prelude::*;

    const OS: ReleaseSubject = ReleaseSubject::Os;
    const HOUR_S: u64 = 3600;
    /// 2026-11-30, a Monday.
    const MONDAY: u64 = 1_795_996_800;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn assignment(newest: &str) -> Assignment {
        Assignment {
            deployment: "d1".to_owned(),
            subject: OS,
            newest: version(newest),
            except: Vec::new(),
            window: None,
            deadline: None,
            check_every_s: None,
        }
    }

    #[test]
    fn windows_are_read_as_they_are_written() {
        for text in ["02:00-04:00+60", "sa,su 22:30-01:00-300", "mo 00:00-23:59+840"] {
            assert_eq!(text.parse::<LocalWindow>().unwrap().to_string(), text);
        }
        assert_eq!("02:00-04:00".parse::<LocalWindow>().unwrap().to_string(), "02:00-04:00+0");
        for text in [
            "",
            "02:00",
            "2:00-4:00+0",
            "24:00-01:00+0",
            "02:60-03:00+0",
            "02:00-02:00+0",
            "xx 02:00-03:00+0",
            "mo,mo 02:00-03:00+0",
            "02:00-03:00+841",
            "02:00-03:00-721",
            "02:00-03:00+",
            "02:00-03:00 60",
            " 02:00-03:00",
            "02:00-03:0é",
            "02:00+03:00+0",
            "+2:00-03:00+0",
        ] {
            assert_eq!(text.parse::<LocalWindow>(), Err(NoWindow), "{text}");
        }
    }

    #[test]
    fn a_window_opens_at_its_minutes_of_local_time_on_its_days() {
        let window: LocalWindow = "mo 22:30-01:00+60".parse().unwrap();
        let at = |hours: u64, minutes: u64| window.opens_in(MONDAY + hours * HOUR_S + minutes * 60);
        assert_eq!(at(21, 30), 0, "22:30 on Monday an hour ahead of UTC");
        assert_eq!(at(21, 29), 60);
        assert_eq!(at(23, 59), 0, "Tuesday already, and the window is Monday's");
        assert_eq!(at(24, 0), 7 * DAY_S - 2 * HOUR_S - 1800, "a week but what it was open");
        let west: LocalWindow = "su 20:00-21:00-300".parse().unwrap();
        assert_eq!(west.opens_in(MONDAY + HOUR_S), 0, "still Sunday there");
    }

    #[test]
    fn an_assignment_narrows_and_says_nothing_of_others() {
        let mut it = assignment("1.4.0");
        it.except = vec![version("1.3.9")];
        let assigned = Assigned::new([it, assignment("9.0.0")], 1000);
        assert!(assigned.allows(OS, version("1.4.0")) && assigned.allows(OS, version("1.3.8")));
        assert!(!assigned.allows(OS, version("1.4.1")), "the first of one component counts");
        assert!(!assigned.allows(OS, version("1.3.9")));
        assert!(assigned.allows(ReleaseSubject::App(ComponentId([7; 16])), version("9.9.9")));
    }

    #[test]
    fn an_assignment_ends_by_the_clock_and_by_the_time_that_the_device_runs() {
        let mut assigned = Assigned::new([assignment("1.4.0")], 1000);
        let end = 1000 + HELD_AFTER_CERTIFICATE_S;
        assert!(assigned.at(0).is_some() && assigned.at(end - 1).is_some());
        assert!(assigned.at(end).is_none());
        assert!(assigned.count_down(MAX_HELD_S - 1));
        assert!(assigned.at(0).is_some());
        assert!(assigned.count_down(1));
        assert!(assigned.at(0).is_none(), "whatever the clock says");
        assert!(!assigned.count_down(1));
        assert!(Assigned::default().at(0).is_none());
    }

    #[test]
    fn a_feed_without_assignments_holds_as_long_as_they_would() {
        let mut assigned = Assigned::new([], 1000).with_feed("eval".parse().ok());
        let end = 1000 + HELD_AFTER_CERTIFICATE_S;
        assert!(assigned.at(end - 1).is_some_and(|it| it.feed().is_some()));
        assert!(assigned.at(end).is_none());
        assert!(assigned.allows(OS, version("9.0.0")), "it says nothing of components");
        assert!(assigned.count_down(MAX_HELD_S) && assigned.at(0).is_none());
        assert_eq!(assigned.clone().bounded(), assigned);
    }

    #[test]
    fn behind_the_deadline_no_window_is_waited_for() {
        let mut it = assignment("1.4.0");
        it.window = "02:00-04:00+0".parse().ok();
        it.deadline = Some(MONDAY + 5 * HOUR_S);
        let assigned = Assigned::new([it], MONDAY);
        assert_eq!(assigned.opens_in(OS, MONDAY), 2 * HOUR_S);
        assert_eq!(assigned.opens_in(OS, MONDAY + 3 * HOUR_S), 0);
        assert_eq!(assigned.opens_in(OS, MONDAY + 4 * HOUR_S), HOUR_S, "until the deadline");
        assert_eq!(assigned.opens_in(OS, MONDAY + 6 * HOUR_S), 0);
        assert_eq!(assigned.opens_in(ReleaseSubject::App(ComponentId([7; 16])), MONDAY), 0);
    }

    #[test]
    fn checks_are_asked_for_sooner_and_never_later() {
        let with = |every| {
            let mut it = assignment("1.4.0");
            it.check_every_s = every;
            Assigned::new([it], 0)
        };
        assert_eq!(with(None).check_every_s(7200), 7200);
        assert_eq!(with(Some(1800)).check_every_s(7200), 1800);
        assert_eq!(with(Some(1)).check_every_s(7200), LEAST_CHECK_EVERY_S);
        assert_eq!(with(Some(90_000)).check_every_s(7200), 7200);
        assert_eq!(with(Some(1800)).check_every_s(20), 20, "the image asks for more already");
    }

    #[test]
    fn the_longest_file_is_read_again() {
        let longest = |number: u8| Assignment {
            deployment: "d".repeat(100),
            subject: ReleaseSubject::App(ComponentId([number; 16])),
            newest: Version { major: u32::MAX, minor: u32::MAX, patch: u32::MAX },
            except: vec![Version { major: u32::MAX, minor: u32::MAX, patch: u32::MAX }; 20],
            window: "sa,su 22:30-01:00-300".parse().ok(),
            deadline: Some(u64::MAX),
            check_every_s: Some(u32::MAX),
        };
        let assigned = Assigned::new((0..100).map(longest), u64::MAX);
        let assigned = assigned.with_feed("1234567890123456".parse().ok());
        let bytes = assigned.encode().unwrap();
        assert!(bytes.len() <= Assigned::MAX_ENCODED_BYTES, "{}", bytes.len());
        assert_eq!(Assigned::decode(&bytes), Ok(assigned));
    }

    proptest! {
        #[test]
        fn whoever_waits_as_long_as_it_says_finds_it_open(
            days in 1u8..128, from_min in 0u16..1440, to_min in 0u16..1440, ahead_min in -720i16..=840, now in 86_400u64..1 << 40
        ) {
            prop_assume!(from_min != to_min);
            let window = LocalWindow { days, from_min, to_min, ahead_min };
            let wait = window.opens_in(now);
            prop_assert!(wait < 7 * DAY_S);
            prop_assert_eq!(window.opens_in(now + wait), 0);
            prop_assert_eq!(window.to_string().parse::<LocalWindow>(), Ok(window));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(assigned) = Assigned::decode(&bytes) {
                let _ = assigned.opens_in(OS, 0);
                prop_assert!(assigned.left_s <= MAX_HELD_S);
            }
        }
    }
}
