//! Which records have room kept for them: what an app can bring about as often as it likes uses up no more than a part of what there is.
//!
//! Shares of records, places to wait and blocks of the medium are bounded. Without this, an app that ends again and again in ways that are not
//! the same would use them up, and what is rare would wait behind it, or not be kept: that a release was not kept, or that the device starts again.

use crate::record::{Body, End, Ended};

/// What a record is next to others, from the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// What an app, or whoever has taken `uplink` over, can bring about as often as it likes.
    Usual,
    /// A start of the device, and an end that sound apps do not have. A hostile app can have them again and again.
    Alarm,
    /// What has become of a release. No app can bring it about.
    Release,
}

impl Priority {
    /// Returns the priority of what has happened.
    #[must_use]
    pub fn of(body: &Body) -> Self {
        match body {
            Body::Update(_) => Self::Release,
            Body::Boot(_) | Body::Ended(Ended { end: End::Sandbox | End::Verity, .. }) => {
                Self::Alarm
            }
            Body::Ended(_)
            | Body::Refused(_)
            | Body::Traffic(_)
            | Body::Used(_)
            | Body::Storage(_)
            | Body::Clock(_)
            | Body::CheckIn(_)
            | Body::Lost(_) => Self::Usual,
        }
    }

    /// Returns how many reserves it leaves to what has a higher priority.
    #[must_use]
    pub fn leaves(self) -> u8 {
        match self {
            Self::Usual => 2,
            Self::Alarm => 1,
            Self::Release => 0,
        }
    }

    /// Returns how much of a share records of this priority and of lower ones may use up together: a reserve is an eighth of it.
    #[must_use]
    pub fn part_of(self, share: u16) -> u16 {
        let reserve = share.checked_div(8).unwrap_or(0);
        share.saturating_sub(reserve.saturating_mul(self.leaves().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn each_priority_leaves_something_to_the_next_and_the_highest_has_all() {
        let parts = [Priority::Usual, Priority::Alarm, Priority::Release].map(|p| p.part_of(64));
        assert_eq!(parts, [48, 56, 64]);
    }

    #[test]
    fn what_an_app_brings_about_at_will_has_no_reserve() {
        let of = |end| Priority::of(&Body::Ended(Ended { end, ..samples::ended() }));
        for end in [End::Exit(1), End::Signal(11), End::Watchdog, End::NotReady, End::Memory] {
            assert_eq!(of(end), Priority::Usual, "{end:?}");
        }
        assert_eq!([End::Sandbox, End::Verity].map(of), [Priority::Alarm; 2]);
        assert_eq!(Priority::of(&Body::Refused(samples::refused())), Priority::Usual);
        let highest = samples::records().into_iter().map(|record| Priority::of(&record.body)).max();
        assert_eq!(highest, Some(Priority::Release));
    }
}
