//! Bounds of downloads, in bytes and in time, and the interval between checks for releases.

use crate::config::UpdateConfig;

/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// Time in milliseconds before the rate of a download is judged.
const PATIENCE_MS: u64 = 30_000;
/// Least average rate of a download from then on, in bytes a second.
const LEAST_BYTES_A_SECOND: u64 = 1024;

/// True when a download of so many bytes in so many milliseconds is too slow, and to be ended.
#[must_use]
pub fn is_too_slow(bytes: u64, ms: u64) -> bool {
    let due = ms.saturating_sub(PATIENCE_MS) / 1000;
    bytes < due.saturating_mul(LEAST_BYTES_A_SECOND)
}

/// Returns the longest time in milliseconds for a download of so many bytes.
#[must_use]
pub fn longest_ms(bytes: u64) -> u64 {
    let at_least = bytes.checked_div(LEAST_BYTES_A_SECOND).unwrap_or(0);
    at_least.saturating_mul(1000).saturating_add(PATIENCE_MS)
}

/// The bytes that may still be fetched today.
#[derive(Debug, Clone)]
pub struct DailyBudget {
    a_day: u64,
    left: u64,
    /// Begin of the day, in milliseconds of the monotonic clock.
    since: u64,
}

impl DailyBudget {
    /// Begins a day at `now`, with a budget of `a_day` bytes for each.
    #[must_use]
    pub fn new(a_day: u64, now: u64) -> Self {
        Self { a_day, left: a_day, since: now }
    }

    /// Returns the bytes that are left at `now`, and begins the next day when this one is over.
    pub fn left(&mut self, now: u64) -> u64 {
        if now.saturating_sub(self.since) >= DAY_MS {
            *self = Self::new(self.a_day, now);
        }
        self.left
    }

    /// Takes fetched bytes off the budget of the day.
    pub fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }
}

impl UpdateConfig {
    /// Returns it with another interval between checks.
    #[must_use]
    pub fn every(&self, check_every_s: u32) -> Self {
        let retry_after_s = self.retry_after_s.min(check_every_s);
        Self { check_every_s, retry_after_s, ..self.clone() }
    }

    /// Returns the milliseconds until the next check for releases, after so many failures in a row. `random` spreads
    /// the checks of a fleet: by up to a tenth more or less, and by up to twice the time after a failure.
    #[must_use]
    pub fn next_check_ms(&self, failures: u32, random: u32) -> u64 {
        let usual = u64::from(self.check_every_s).saturating_mul(1000);
        if failures == 0 {
            let tenth = usual / 10;
            let spread = spread(tenth.saturating_mul(2), random);
            return usual.saturating_sub(tenth).saturating_add(spread);
        }
        let doubled = 1u64.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(1);
        let least = u64::from(self.retry_after_s).saturating_mul(1000).saturating_mul(doubled);
        let least = least.min(usual);
        least.saturating_add(spread(least, random))
    }
}

fn spread(most: u64, random: u32) -> u64 {
    let scaled = u128::from(most).saturating_mul(u128::from(random)) >> 32;
    u64::try_from(scaled).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use holdfast_types::Version;
    use proptest::prelude::*;

    fn config() -> UpdateConfig {
        let device =
            Device { product: String::new(), board: String::new(), os: Version::default() };
        let repositories = Vec::new();
        UpdateConfig {
            device,
            repositories,
            check_every_s: 3600,
            retry_after_s: 60,
            window: None,
            most_bytes_a_release: None,
            feeds: Vec::new(),
        }
    }

    #[test]
    fn a_server_that_drips_is_not_waited_for() {
        assert!(!is_too_slow(0, 30_999), "it has time to begin");
        assert!(is_too_slow(0, 31_000));
        assert!(is_too_slow(1023, 31_000) && !is_too_slow(1024, 31_000));
        assert!(is_too_slow(100_000, 300_000));
        assert_eq!(longest_ms(1 << 20), 30_000 + 1_024_000);
    }

    #[test]
    fn a_budget_is_for_a_day() {
        let mut budget = DailyBudget::new(100, 5);
        budget.spend(60);
        assert_eq!(budget.left(6), 40);
        budget.spend(60);
        assert_eq!(budget.left(DAY_MS), 0);
        assert_eq!(budget.left(DAY_MS + 5), 100);
    }

    proptest! {
        #[test]
        fn looks_are_spread_and_failures_are_further_apart(failures in 0u32..100, random: u32) {
            let wait = config().next_check_ms(failures, random);
            match failures {
                0 => prop_assert!((3_240_000..=3_960_000).contains(&wait)),
                1 => prop_assert!((60_000..=120_000).contains(&wait)),
                2 => prop_assert!((120_000..=240_000).contains(&wait)),
                _ => prop_assert!((240_000..=7_200_000).contains(&wait)),
            }
        }
    }
}
