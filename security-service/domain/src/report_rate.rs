//! How often a device may report.

use holdfast_evidence::messages::{CatalogId, DeviceId};
use std::collections::HashMap;

/// Most batches of a device within an hour, once it has sent none for so long.
pub const MOST_AN_HOUR: u64 = 12;
/// Seconds after which a device may send another batch, however many it has sent.
const EVERY_S: u64 = 3600 / MOST_AN_HOUR;
/// Seconds by which a device may be ahead of one batch each [`EVERY_S`].
const AHEAD_S: u64 = 3600 - EVERY_S;
/// Devices that are remembered before those are forgotten of which there is nothing left to remember.
const FORGET_FROM: usize = 1024;

/// Returns from when on the next batch counts, if one may come `now`; otherwise the seconds to wait. `due` is what the last call has
/// returned, or 0. It is a token bucket, kept as one number (the generic cell rate algorithm of ITU-T I.371, A.1).
///
/// # Errors
/// The device has to wait.
fn take(due: u64, now: u64) -> Result<u64, u64> {
    let due = due.max(now);
    let wait = due.saturating_sub(now.saturating_add(AHEAD_S));
    if wait == 0 { Ok(due.saturating_add(EVERY_S)) } else { Err(wait) }
}

/// The rates of devices. Only those have an entry that have shown a certificate within the last hour, so that nobody else makes it grow.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    due: HashMap<(CatalogId, DeviceId), u64>,
    forget_from: usize,
}

impl Rates {
    /// Counts a batch of a device, if one may come now.
    ///
    /// # Errors
    /// It may not; returned are the seconds to wait.
    pub fn take(&mut self, catalog: CatalogId, device: DeviceId, now: u64) -> Result<(), u64> {
        if self.due.len() >= self.forget_from.max(FORGET_FROM) {
            self.due.retain(|_, due| *due > now);
            self.forget_from = self.due.len().saturating_mul(2);
        }
        let due = self.due.entry((catalog, device)).or_insert(0);
        *due = take(*due, now)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "the numbers of these tests are small")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CATALOG: CatalogId = CatalogId([1; 16]);

    #[test]
    fn twelve_may_come_at_once_and_then_one_each_five_minutes() {
        let mut rates = Rates::default();
        let mut take = |device, now| rates.take(CATALOG, DeviceId([device; 32]), now);
        for _ in 0..12 {
            assert_eq!(take(1, 1000), Ok(()));
        }
        assert_eq!(take(1, 1000), Err(300));
        assert_eq!(take(2, 1000), Ok(()), "of another device");
        assert_eq!(take(1, 1299), Err(1));
        assert_eq!(take(1, 1300), Ok(()));
        assert_eq!(take(1, 1300), Err(300));
        // After an hour of silence, all of them.
        for _ in 0..12 {
            assert_eq!(take(1, 1300 + 3600), Ok(()));
        }
    }

    #[test]
    fn devices_that_are_silent_are_forgotten() {
        let mut rates = Rates::default();
        for number in 0..100_000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            // Each of them an hour after the one before by 1024th: what is remembered stays near that.
            rates.take(CATALOG, DeviceId(id), u64::from(number) * 4).unwrap();
        }
        assert!(rates.due.len() <= 2 * FORGET_FROM, "{}", rates.due.len());
    }

    proptest! {
        #[test]
        fn no_hour_has_more_than_twice_the_batches(steps in prop::collection::vec(0u64..600, 1..300)) {
            let (mut due, mut now, mut taken) = (0, 0u64, Vec::new());
            for step in steps {
                now += step;
                match take(due, now) {
                    Ok(next) => {
                        due = next;
                        taken.push(now);
                    }
                    Err(wait) => {
                        prop_assert!(wait <= EVERY_S);
                        prop_assert!(take(due, now + wait).is_ok(), "who waits as long may come");
                    }
                }
            }
            for (index, first) in taken.iter().enumerate() {
                let within = taken[index..].iter().filter(|at| **at < first + 3600).count();
                prop_assert!(within as u64 <= 2 * MOST_AN_HOUR, "{within}");
            }
        }
    }
}
