//! Deferral of the reboot for a staged release, by apps.

use thiserror::Error;

/// Longest time for which all apps together may defer one reboot, in minutes.
pub const MAX_DEFERRAL_MIN: u32 = 24 * 60;
/// Time that apps have for their first answer, in milliseconds.
const NOTICE_MS: u64 = 10_000;
const MINUTE_MS: u64 = 60_000;

/// Errors of an app's call to defer a reboot.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum DeferralError {
    /// No release waits for a reboot.
    #[error("no release waits for a reboot")]
    NothingWaits,
    /// The app asked for zero minutes, or for more than a day.
    #[error("a reboot is put off by 1 to {MAX_DEFERRAL_MIN} minutes")]
    Minutes,
    /// The reboot was deferred for a day already.
    #[error("this reboot was put off for as long as it may be")]
    Exhausted,
}

/// Deferrals of the reboot for a staged release. Times are milliseconds of the monotonic clock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deferral {
    waits: Option<Waits>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Waits {
    since: u64,
    /// The apps that defer, each with the end of its deferral.
    until: Vec<(String, u64)>,
    /// End of the time in which apps answer first.
    notice: u64,
}

impl Deferral {
    /// Notes that a release waits for its reboot, and only the first time. `is_heard`: an app is connected, so that
    /// the reboot waits for a first answer.
    pub fn begin(&mut self, now: u64, is_heard: bool) {
        self.waits.get_or_insert_with(|| Waits {
            since: now,
            until: Vec::new(),
            notice: if is_heard { now.saturating_add(NOTICE_MS) } else { now },
        });
    }

    /// Defers the reboot for an app by `minutes` from `now`. Returns how many minutes are granted: no more than are
    /// left of the day.
    ///
    /// # Errors
    /// See [`DeferralError`].
    pub fn defer(&mut self, app: &str, minutes: u32, now: u64) -> Result<u32, DeferralError> {
        let waits = self.waits.as_mut().ok_or(DeferralError::NothingWaits)?;
        if !(1..=MAX_DEFERRAL_MIN).contains(&minutes) {
            return Err(DeferralError::Minutes);
        }
        let last =
            waits.since.saturating_add(u64::from(MAX_DEFERRAL_MIN).saturating_mul(MINUTE_MS));
        let wanted = now.saturating_add(u64::from(minutes).saturating_mul(MINUTE_MS));
        let until = wanted.min(last);
        let granted = until.saturating_sub(now) / MINUTE_MS;
        if granted == 0 {
            return Err(DeferralError::Exhausted);
        }
        waits.until.retain(|(name, _)| name != app);
        waits.until.push((app.to_owned(), until));
        Ok(u32::try_from(granted).unwrap_or(minutes))
    }

    /// Ends an app's deferral.
    ///
    /// # Errors
    /// [`DeferralError::NothingWaits`].
    pub fn resume(&mut self, app: &str, now: u64) -> Result<(), DeferralError> {
        let waits = self.waits.as_mut().ok_or(DeferralError::NothingWaits)?;
        waits.until.retain(|(name, _)| name != app);
        waits.notice = waits.notice.min(now);
        Ok(())
    }

    /// Returns the milliseconds from `now` until the device may reboot.
    #[must_use]
    pub fn left(&self, now: u64) -> u64 {
        let Some(waits) = &self.waits else { return 0 };
        let until = waits.until.iter().map(|(_, until)| *until).chain([waits.notice]).max();
        until.unwrap_or(now).saturating_sub(now)
    }

    /// Returns the minutes from `now` by which the reboot can still be deferred.
    #[must_use]
    pub fn minutes_left(&self, now: u64) -> u32 {
        let since = self.waits.as_ref().map_or(now, |waits| waits.since);
        let last = since.saturating_add(u64::from(MAX_DEFERRAL_MIN).saturating_mul(MINUTE_MS));
        u32::try_from(last.saturating_sub(now) / MINUTE_MS).unwrap_or(MAX_DEFERRAL_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn a_reboot_waits_for_whoever_listens_and_is_put_off_by_the_last_of_them() {
        let mut deferral = Deferral::default();
        assert_eq!(deferral.left(5), 0);
        assert_eq!(deferral.defer("a", 1, 5), Err(DeferralError::NothingWaits));
        deferral.begin(1000, true);
        deferral.begin(9000, true);
        assert_eq!(deferral.left(1000), NOTICE_MS, "they are told");
        assert_eq!(deferral.left(11_000), 0, "nobody has said anything");
        assert_eq!(deferral.defer("a", 2, 1000), Ok(2));
        assert_eq!(deferral.defer("b", 1, 1000), Ok(1));
        assert_eq!(deferral.left(1000), 120_000);
        assert_eq!(deferral.resume("a", 2000), Ok(()));
        assert_eq!(deferral.left(2000), 59_000, "the other has not");
        assert_eq!(deferral.resume("b", 2000), Ok(()));
        assert_eq!(deferral.left(2000), 0);
        let mut alone = Deferral::default();
        alone.begin(1000, false);
        assert_eq!(alone.left(1000), 0, "nobody listens");
    }

    #[test]
    fn a_day_is_the_most() {
        let mut deferral = Deferral::default();
        deferral.begin(0, true);
        assert_eq!(deferral.defer("a", 0, 0), Err(DeferralError::Minutes));
        assert_eq!(deferral.defer("a", 1441, 0), Err(DeferralError::Minutes));
        assert_eq!(deferral.defer("a", 1440, 0), Ok(1440));
        assert_eq!(deferral.defer("a", 1440, DAY_MS - 120_000), Ok(2));
        assert_eq!(deferral.defer("a", 1440, DAY_MS - 1), Err(DeferralError::Exhausted));
        assert_eq!(deferral.left(DAY_MS), 0);
    }

    proptest! {
        #[test]
        fn nothing_that_apps_say_holds_a_release_for_more_than_a_day(
            said in proptest::collection::vec((0u8..3, 0u32..2000, 0u64..200_000_000, any::<bool>()), 0..40)
        ) {
            let mut deferral = Deferral::default();
            deferral.begin(0, true);
            for (app, minutes, now, resumes) in said {
                let app = app.to_string();
                let _ = if resumes {
                    deferral.resume(&app, now)
                } else {
                    deferral.defer(&app, minutes, now).map(|_| ())
                };
                prop_assert!(deferral.left(now).saturating_add(now) <= DAY_MS.max(now));
            }
            prop_assert_eq!(deferral.left(DAY_MS), 0);
        }
    }
}
