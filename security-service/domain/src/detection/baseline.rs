//! The baseline: what is usual in a group, learned over days, so that what is new or much can be told.
//!
//! A destination is usual once a day has passed since it was tried by as many devices as make a finding: whoever has fewer
//! devices than that cannot make one usual beforehand, and no device can fill the list.

use super::subject::{Destination, Part, Subject};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Seconds of an hour.
pub const HOUR_S: u64 = 60 * 60;
/// Seconds of a day, which is also how far a window reaches back.
pub const DAY_S: u64 = 24 * HOUR_S;
/// Most destinations that are known.
pub const MAX_DESTINATIONS: usize = 4096;
/// Most subjects whose traffic is known.
pub const MAX_TRAFFIC: usize = 512;
/// Hours of check-ins that are known: a week.
const MAX_HOURS: usize = 7 * 24;
/// A histogram forgets half of what it has when it has so many samples.
const MAX_SAMPLES: u32 = 100_000;

/// What is usual in a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// When it has begun to learn, in seconds since 1970; `None` before its first observation.
    since: Option<u64>,
    /// Destinations that as many devices have tried as make a finding, and since when, in their order.
    destinations: Vec<((Part, Destination), u64)>,
    /// Bytes in an hour.
    traffic: Vec<(Subject, Histogram)>,
    /// Check-ins by the hour, the oldest first.
    hours: VecDeque<Hour>,
}

/// Check-ins of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// Hours since 1970.
    pub hour: u64,
    /// Devices that have checked in.
    pub checked_in: u32,
    /// Devices that were found missing.
    pub missed: u32,
}

/// How often which amount was seen, in steps of a quarter of a power of 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram(BTreeMap<u8, u32>);

impl Histogram {
    /// Adds an amount.
    pub fn add(&mut self, amount: u64) {
        let count = self.0.entry(step(amount)).or_default();
        *count = count.saturating_add(1);
        if self.samples() > MAX_SAMPLES {
            self.0.retain(|_, count| {
                *count /= 2;
                *count > 0
            });
        }
    }

    /// Returns the number of amounts.
    #[must_use]
    pub fn samples(&self) -> u32 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns an amount that 99 of 100 do not exceed: the upper end of its step. 0 where there is none.
    #[must_use]
    pub fn p99(&self) -> u64 {
        let all = u64::from(self.samples());
        let mut sum = 0u64;
        for (step, count) in &self.0 {
            sum = sum.saturating_add(u64::from(*count));
            if sum.saturating_mul(100) >= all.saturating_mul(99) {
                return upper_end(*step);
            }
        }
        0
    }
}

/// Returns the step of an amount: the power of 2 times 4, and the two bits behind the highest.
fn step(amount: u64) -> u8 {
    let Some(power) = amount.checked_ilog2() else { return 0 };
    let quarter = match power.checked_sub(2) {
        Some(down) => amount.checked_shr(down),
        None => amount.checked_shl(2u32.saturating_sub(power)),
    };
    let quarter = quarter.unwrap_or(0) & 3;
    let step = u64::from(power).saturating_mul(4).saturating_add(quarter);
    u8::try_from(step).unwrap_or(u8::MAX)
}

/// Returns the greatest amount of a step.
fn upper_end(step: u8) -> u64 {
    let (power, quarter) = (u32::from(step) / 4, u64::from(step) % 4);
    let end =
        1u128.checked_shl(power).unwrap_or(0).saturating_mul(u128::from(quarter).saturating_add(5));
    u64::try_from(end / 4).unwrap_or(u64::MAX)
}

impl Baseline {
    /// Returns when it has begun to learn.
    #[must_use]
    pub fn since(&self) -> Option<u64> {
        self.since
    }

    /// The first observation was made at `at`.
    pub fn begin(&mut self, at: u64) {
        self.since.get_or_insert(at);
    }

    /// True where the destination is usual for the part at `now`: it has been known for a day.
    #[must_use]
    pub fn is_usual(&self, part: &Part, destination: &Destination, now: u64) -> bool {
        let known = self.place(part, destination).ok();
        let since = known.and_then(|place| self.destinations.get(place)).map(|(_, since)| *since);
        since.is_some_and(|since| now.saturating_sub(since) >= DAY_S)
    }

    fn place(&self, part: &Part, destination: &Destination) -> Result<usize, usize> {
        let wanted = (part, destination);
        self.destinations.binary_search_by(|((known, to), _)| (known, to).cmp(&wanted))
    }

    /// The destination has been tried by as many devices as make a finding. Once the list is full, the one that was known
    /// first is forgotten, and is a finding again where it is still tried.
    pub fn learn_destination(&mut self, part: &Part, destination: &Destination, at: u64) {
        let Err(place) = self.place(part, destination) else { return };
        self.destinations.insert(place, ((part.clone(), *destination), at));
        if self.destinations.len() > MAX_DESTINATIONS {
            let oldest = self.destinations.iter().enumerate().min_by_key(|(_, (_, since))| *since);
            if let Some(place) = oldest.map(|(place, _)| place) {
                self.destinations.remove(place);
            }
        }
    }

    /// A device's app has sent and received so many bytes in an hour.
    pub fn learn_traffic(&mut self, subject: &Subject, bytes: u64) {
        let place = self.traffic.binary_search_by(|(known, _)| known.cmp(subject));
        match place {
            Ok(place) => {
                if let Some((_, histogram)) = self.traffic.get_mut(place) {
                    histogram.add(bytes);
                }
            }
            Err(place) if self.traffic.len() < MAX_TRAFFIC => {
                let mut histogram = Histogram::default();
                histogram.add(bytes);
                self.traffic.insert(place, (subject.clone(), histogram));
            }
            // Versions that are gone make room for new ones.
            Err(_) => {
                let least = self.traffic.iter().enumerate().min_by_key(|(_, (_, it))| it.samples());
                if let Some(place) = least.map(|(place, _)| place) {
                    self.traffic.remove(place);
                }
            }
        }
    }

    /// Returns what is known of the traffic of a subject.
    #[must_use]
    pub fn traffic(&self, subject: &Subject) -> Option<&Histogram> {
        let place = self.traffic.binary_search_by(|(known, _)| known.cmp(subject)).ok()?;
        self.traffic.get(place).map(|(_, histogram)| histogram)
    }

    /// Learns the check-ins of an hour that is over.
    pub fn learn_hour(&mut self, hour: Hour) {
        if self.hours.back().is_some_and(|last| last.hour >= hour.hour) {
            return;
        }
        self.hours.push_back(hour);
        while self.hours.len() > MAX_HOURS {
            self.hours.pop_front();
        }
    }

    /// Returns the last hour that was learned, in hours since 1970.
    #[must_use]
    pub fn last_hour(&self) -> Option<u64> {
        self.hours.back().map(|hour| hour.hour)
    }

    /// Returns the share of devices that were due and missing in half of the hours of the last week or fewer, from 0 to 1.
    /// By the median, which no outage of days makes usual.
    #[must_use]
    pub fn usually_missing(&self) -> f64 {
        let shares = self.hours.iter().filter_map(|hour| {
            let all = hour.checked_in.saturating_add(hour.missed);
            (all > 0).then(|| f64::from(hour.missed) / f64::from(all))
        });
        let mut shares: Vec<f64> = shares.collect();
        shares.sort_by(f64::total_cmp);
        shares.get(shares.len() / 2).copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "an overflow is a failed test")]

    use super::*;
    use holdfast_failure_reports::record::{Protocol, Where};
    use proptest::prelude::*;

    fn tcp(port: u16) -> Destination {
        Destination { protocol: Protocol::Tcp, port: Some(port), to: Where::Public }
    }

    #[test]
    fn destinations_are_known_until_the_list_is_full() {
        let mut baseline = Baseline::default();
        let most = u16::try_from(MAX_DESTINATIONS).unwrap();
        for port in 0..=most {
            baseline.learn_destination(&Part::Os, &tcp(port), port.into());
            baseline.learn_destination(&Part::Os, &tcp(port), DAY_S);
        }
        assert_eq!(baseline.destinations.len(), MAX_DESTINATIONS);
        let is_usual = |part, port, now| baseline.is_usual(part, &tcp(port), now);
        assert!(!is_usual(&Part::Os, 0, 2 * DAY_S), "the oldest");
        assert!(is_usual(&Part::Os, 1, DAY_S + 1) && is_usual(&Part::Os, most, 2 * DAY_S));
        assert!(!is_usual(&Part::Os, 1, DAY_S), "a day has not passed");
        assert!(!is_usual(&Part::Unknown, 1, 2 * DAY_S));
    }

    #[test]
    fn an_outage_does_not_become_usual() {
        let mut baseline = Baseline::default();
        for hour in 0..200 {
            let missed = if (100..130).contains(&hour) { 100 } else { 2 };
            baseline.learn_hour(Hour { hour, checked_in: 100 - missed, missed });
        }
        assert_eq!(baseline.hours.len(), MAX_HOURS);
        assert!((baseline.usually_missing() - 0.02).abs() < 1e-9);
        assert_eq!(Baseline::default().usually_missing(), 0.0);
    }

    #[test]
    fn a_baseline_is_read_as_it_is_written() {
        let mut baseline = Baseline::default();
        baseline.begin(7);
        baseline.learn_destination(&Part::Os, &tcp(23), 8);
        baseline.learn_traffic(&Subject { part: Part::Os, version: None }, 1 << 20);
        baseline.learn_hour(Hour { hour: 1, checked_in: 2, missed: 3 });
        let text = serde_json::to_string(&baseline).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), baseline);
    }

    #[test]
    fn no_number_of_samples_makes_a_histogram_large() {
        let mut histogram = Histogram::default();
        for amount in 0..u64::from(MAX_SAMPLES) + 10 {
            histogram.add(amount.rotate_left(40));
        }
        assert!(histogram.0.len() <= 256 && histogram.samples() <= MAX_SAMPLES);
    }

    proptest! {
        #[test]
        fn a_step_ends_above_its_amounts_by_a_quarter_at_most(amount in 4u64..1 << 50) {
            let end = upper_end(step(amount));
            prop_assert!(end >= amount && end - amount <= amount / 4 + 1, "{} {}", step(amount), end);
        }

        #[test]
        fn of_100_amounts_the_greatest_but_one_is_p99(amounts in prop::collection::vec(4u64..1 << 40, 100)) {
            let mut histogram = Histogram::default();
            amounts.iter().for_each(|amount| histogram.add(*amount));
            let mut sorted = amounts;
            sorted.sort_unstable();
            prop_assert!(histogram.p99() >= sorted[98]);
            prop_assert!(histogram.p99() <= sorted[98] + sorted[98] / 4 + 1);
        }
    }
}
