//! How a crash group stands: new, open, gone, closed, or back again.

use holdfast_types::Version;

/// A group is new for so many seconds after it was seen first.
pub const LONGEST_NEW_S: u64 = 7 * 24 * 60 * 60;
/// Fewest device-days of later versions after which a group can be gone.
const FEWEST_DEVICE_DAYS: u64 = 30;
/// Failures that would have been expected where none was seen: with three, there is one chance in twenty that the rate is as before
/// (the rule of three).
const EXPECTED: u64 = 3;

/// What is kept of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The oldest version in which it was seen.
    pub first_version: Version,
    /// The newest version in which it was seen.
    pub last_version: Version,
    /// When it was seen first, in seconds since 1970, by the service's clock.
    pub first_at: u64,
    /// When it was seen last.
    pub last_at: u64,
    /// How often it has happened, as far as devices have said.
    pub events: u64,
    /// On how many devices.
    pub devices: u64,
    /// The newest version in which it had been seen when somebody closed it; `None` while nobody has.
    pub closed: Option<Version>,
    /// When it came back after it was closed or gone, in seconds since 1970.
    pub regressed_at: Option<u64>,
}

/// What a group has in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenVersion {
    /// The version.
    pub version: Version,
    /// When it was seen first in it, in seconds since 1970.
    pub first_at: u64,
    /// When it was seen last in it.
    pub last_at: u64,
    /// How often it has happened in it.
    pub events: u64,
    /// On how many devices that ran it.
    pub devices: u64,
}

/// How much a version of a component has run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposure {
    /// The version.
    pub version: Version,
    /// Days, each counted once for every device that ran it.
    pub device_days: u64,
}

/// Failures of a group that one device has reported at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The version that has failed.
    pub version: Version,
    /// When they were reported, in seconds since 1970.
    pub at: u64,
    /// How often.
    pub count: u64,
    /// True if the device had not reported one of this group before.
    pub is_new_device: bool,
    /// True if the group was gone before ([`is_gone`]).
    pub was_gone: bool,
}

/// How a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// First seen within [`LONGEST_NEW_S`].
    New,
    /// Known for longer.
    Open,
    /// It was closed or gone, and was seen in a later version.
    Regressed,
    /// It is not seen in later versions, which have run long enough to show it.
    Gone,
    /// Somebody has closed it.
    Closed,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::New, Self::Open, Self::Regressed, Self::Gone, Self::Closed];

    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Open => "open",
            Self::Regressed => "regressed",
            Self::Gone => "gone",
            Self::Closed => "closed",
        }
    }
}

/// Adds what was reported to a group, or begins one. What is seen in a version that is later than the one a group was closed in opens it
/// again; devices that still run what was known to fail do not.
#[must_use]
pub fn take(group: Option<GroupState>, taken: &Taken) -> GroupState {
    let Taken { version, at, count, is_new_device, was_gone } = *taken;
    let Some(group) = group else {
        return GroupState {
            first_version: version,
            last_version: version,
            first_at: at,
            last_at: at,
            events: count,
            devices: 1,
            closed: None,
            regressed_at: None,
        };
    };
    let reopens = group.closed.is_some_and(|closed| version > closed);
    let is_back = was_gone && version > group.last_version;
    GroupState {
        first_version: group.first_version.min(version),
        last_version: group.last_version.max(version),
        first_at: group.first_at.min(at),
        last_at: group.last_at.max(at),
        events: group.events.saturating_add(count),
        devices: group.devices.saturating_add(u64::from(is_new_device)),
        closed: group.closed.filter(|_| !reopens),
        regressed_at: if reopens || is_back { Some(at) } else { group.regressed_at },
    }
}

/// True if a group is not seen in the versions after its last one, though they have run for so many device-days that three more devices
/// would be expected at the rate that it had.
#[must_use]
pub fn is_gone(group: &GroupState, exposures: &[Exposure]) -> bool {
    let days = |within: &dyn Fn(Version) -> bool| {
        let within = exposures.iter().filter(|exposure| within(exposure.version));
        within.fold(0u64, |sum, exposure| sum.saturating_add(exposure.device_days))
    };
    let seen = days(&|version| (group.first_version..=group.last_version).contains(&version));
    let after = days(&|version| version > group.last_version);
    // Nothing is known of how often it was, and so nothing of whether it should have been seen.
    if seen == 0 || group.devices == 0 {
        return false;
    }
    let needed = EXPECTED.saturating_mul(seen).div_ceil(group.devices);
    after >= needed.max(FEWEST_DEVICE_DAYS)
}

/// Returns how a group stands.
#[must_use]
pub fn standing(group: &GroupState, exposures: &[Exposure], now: u64) -> Standing {
    if group.closed.is_some() {
        Standing::Closed
    } else if is_gone(group, exposures) {
        Standing::Gone
    } else if group.regressed_at.is_some() {
        Standing::Regressed
    } else if now.saturating_sub(group.first_at) <= LONGEST_NEW_S {
        Standing::New
    } else {
        Standing::Open
    }
}

/// Returns devices per 1000 device-days; nothing where none are known.
#[must_use]
pub fn per_1000_device_days(devices: u64, device_days: u64) -> Option<f64> {
    let float = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    (device_days > 0).then(|| float(devices) * 1000.0 / float(device_days))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "the numbers of these tests are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(minor: u32) -> Version {
        Version { major: 1, minor, patch: 0 }
    }

    fn taken(minor: u32, at: u64) -> Taken {
        let version = version(minor);
        Taken { version, at, count: 1, is_new_device: true, was_gone: false }
    }

    fn exposure(minor: u32, device_days: u64) -> Exposure {
        Exposure { version: version(minor), device_days }
    }

    #[test]
    fn a_group_is_new_for_a_week_and_open_then() {
        let group = take(None, &taken(1, 1000));
        assert_eq!(standing(&group, &[], 1000 + LONGEST_NEW_S), Standing::New);
        assert_eq!(standing(&group, &[], 1001 + LONGEST_NEW_S), Standing::Open);
    }

    #[test]
    fn a_group_is_gone_once_later_versions_would_have_shown_it() {
        // Ten devices in 1000 device-days: three are expected in 300.
        let mut group = take(None, &taken(1, 1000));
        group.devices = 10;
        let gone = |after| is_gone(&group, &[exposure(1, 1000), exposure(2, after)]);
        assert!(!gone(0) && !gone(299) && gone(300));
        assert!(!is_gone(&group, &[exposure(0, 9000), exposure(2, 9000)]), "its rate is not known");
        assert!(
            !is_gone(&group, &[exposure(1, 1000), exposure(0, 9000)]),
            "earlier ones do not count"
        );
        // However often it was, some days have to pass.
        group.devices = 1_000_000;
        let gone = |after| is_gone(&group, &[exposure(1, 1000), exposure(2, after)]);
        assert!(!gone(29) && gone(30));
    }

    #[test]
    fn what_was_closed_or_gone_and_is_seen_in_a_later_version_is_back() {
        let mut group = take(None, &taken(1, 1000));
        group.closed = Some(version(1));
        let same = take(Some(group.clone()), &taken(1, 2000));
        assert_eq!(standing(&same, &[], 2000), Standing::Closed, "devices that still run it");
        let older = take(Some(group.clone()), &taken(0, 2000));
        assert_eq!(standing(&older, &[], 2000), Standing::Closed);
        let back = take(Some(group), &taken(2, 2000));
        assert_eq!((back.closed, back.regressed_at), (None, Some(2000)));
        assert_eq!(standing(&back, &[], 2000), Standing::Regressed);
        let open = take(None, &taken(1, 1000));
        let gone = Taken { was_gone: true, ..taken(2, 3000) };
        assert_eq!(take(Some(open.clone()), &gone).regressed_at, Some(3000));
        let same = Taken { was_gone: true, ..taken(1, 3000) };
        assert_eq!(take(Some(open), &same).regressed_at, None, "an old device has come back");
    }

    #[test]
    fn a_rate_is_of_a_thousand_device_days() {
        assert_eq!(per_1000_device_days(3, 0), None);
        assert_eq!(per_1000_device_days(3, 1500), Some(2.0));
    }

    proptest! {
        #[test]
        fn a_group_is_the_same_in_whatever_order_its_failures_come(
            events in prop::collection::vec((0u32..5, 0u64..1000, 1u64..9, any::<bool>()), 1..12),
            turn in 0usize..12,
        ) {
            let all: Vec<Taken> = events.iter().map(|(minor, at, count, is_new)| {
                Taken { count: *count, is_new_device: *is_new, ..taken(*minor, *at) }
            }).collect();
            let fold = |all: &[Taken]| {
                all.iter().fold(None, |group, taken| Some(take(group, taken))).unwrap()
            };
            let mut turned = all.clone();
            turned.rotate_left(turn % all.len());
            let (one, other) = (fold(&all), fold(&turned));
            prop_assert_eq!(one.first_version, other.first_version);
            prop_assert_eq!(one.last_version, other.last_version);
            prop_assert_eq!((one.first_at, one.last_at), (other.first_at, other.last_at));
            prop_assert_eq!(one.events, other.events);
            prop_assert_eq!(one.events, all.iter().map(|taken| taken.count).sum::<u64>());
            prop_assert!(one.first_version <= one.last_version && one.first_at <= one.last_at);
        }

        #[test]
        fn a_closed_group_is_opened_by_a_later_version_alone(
            closed in 0u32..5, versions in prop::collection::vec(0u32..5, 1..8),
        ) {
            let mut group = take(None, &taken(0, 0));
            group.closed = Some(version(closed));
            for minor in &versions {
                group = take(Some(group), &taken(*minor, 10));
            }
            let is_later = versions.iter().any(|minor| *minor > closed);
            prop_assert_eq!(group.closed.is_none(), is_later);
            prop_assert_eq!(group.regressed_at.is_some(), is_later);
        }

        #[test]
        fn more_days_without_it_never_bring_a_group_back(
            devices in 1u64..1000, seen in 0u64..100_000, after in 0u64..100_000, more in 0u64..1000,
        ) {
            let mut group = take(None, &taken(1, 0));
            group.devices = devices;
            let gone = |after| is_gone(&group, &[exposure(1, seen), exposure(2, after)]);
            prop_assert!(!gone(after) || gone(after + more));
        }
    }
}
