//! How long writes of the database take: counts by bounds, which metrics show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in milliseconds. What took longer than the last is counted behind it.
pub const BOUNDS_MS: [u64; 8] = [1, 5, 10, 50, 100, 500, 1000, 5000];

/// Counts, which clones share.
#[derive(Debug, Clone, Default)]
pub struct Latency(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// One for each bound, and one for what took longer.
    within: [AtomicU64; BOUNDS_MS.len() + 1],
    micros: AtomicU64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// How many took at most as long as the bound in the same place; the last one is of those that took longer than all.
    pub within: [u64; BOUNDS_MS.len() + 1],
    /// The sum of all, in microseconds.
    pub micros: u64,
}

impl Latency {
    /// Counts a write.
    pub(crate) fn add(&self, took: Duration) {
        let millis = took.as_millis();
        let place = BOUNDS_MS.iter().position(|bound| millis < u128::from(*bound));
        let place = place.unwrap_or(BOUNDS_MS.len());
        if let Some(count) = self.0.within.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Returns what was counted.
    #[must_use]
    pub fn histogram(&self) -> Histogram {
        let within = std::array::from_fn(|place| {
            self.0.within.get(place).map_or(0, |count| count.load(Ordering::Relaxed))
        });
        Histogram { within, micros: self.0.micros.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_counted_below_its_bound() {
        let latency = Latency::default();
        for millis in [0, 3, 3, 999, 60_000] {
            latency.clone().add(Duration::from_millis(millis));
        }
        let histogram = latency.histogram();
        assert_eq!(histogram.within, [1, 2, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(histogram.micros, 61_005_000);
    }
}
