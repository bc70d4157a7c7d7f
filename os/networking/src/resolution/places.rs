//! Places for TCP connections to name servers, which the questions of all apps share.
//!
//! A place is taken for as long as a connection may last, however soon it is over. So as many bound how many connections
//! there are at once and how many are begun in a time, and there is none that nobody gives back.

use holdfast_sandbox::network::connections::{TCP_QUESTION_S, TCP_QUESTIONS};

/// Longest time for a question over TCP, from the start of the connection to the end of the answer, in milliseconds.
pub const TCP_WITHIN_MS: u64 = TCP_QUESTION_S as u64 * 1000;
/// Most connections of all askers at once.
pub const MAX_CONNECTIONS: usize = 32;
/// Most connections of one asker at once.
const MAX_OF_ONE: usize = TCP_QUESTIONS as usize;

/// The places that are taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// The asker of each, and the time from which it is free, in milliseconds.
    taken: Vec<(u32, u64)>,
}

impl Places {
    /// Takes a place for a connection that this asker begins now.
    ///
    /// # Errors
    /// All places of the asker are taken, or all that there are: the time from which there may be one.
    pub(super) fn take(&mut self, asker: u32, now: u64) -> Result<(), u64> {
        self.taken.retain(|(_, until)| now < *until);
        let own = self.taken.iter().filter(|(of, _)| *of == asker);
        let first = if own.clone().count() >= MAX_OF_ONE {
            own.map(|(_, until)| *until).min()
        } else if self.taken.len() >= MAX_CONNECTIONS {
            self.taken.iter().map(|(_, until)| *until).min()
        } else {
            None
        };
        match first {
            Some(free_at) => Err(free_at),
            None => {
                self.taken.push((asker, now.saturating_add(TCP_WITHIN_MS)));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_asker_takes_its_own_places_and_no_more() {
        let mut places = Places::default();
        for number in 0..TCP_QUESTIONS {
            assert_eq!(places.take(1001, number.into()), Ok(()));
        }
        assert_eq!(places.take(1001, 10), Err(TCP_WITHIN_MS), "until the first is free");
        assert_eq!(places.take(1002, 10), Ok(()), "another asker has its own");
        assert_eq!(places.take(1001, TCP_WITHIN_MS), Ok(()));
    }

    #[test]
    fn all_askers_together_are_bounded() {
        let mut places = Places::default();
        let taken = (0..100).filter(|asker| places.take(*asker, 5).is_ok()).count();
        assert_eq!(taken, MAX_CONNECTIONS);
        assert_eq!(places.take(200, 6), Err(5 + TCP_WITHIN_MS));
        assert_eq!(places.take(200, 5 + TCP_WITHIN_MS), Ok(()));
    }

    proptest! {
        /// In no time that a connection may last are more begun than there are places, of all or of one.
        #[test]
        fn what_is_begun_in_a_time_is_bounded(
            asked in proptest::collection::vec((0u32..12, 0u64..60), 0..400)
        ) {
            let (mut places, mut begun, mut now) = (Places::default(), Vec::new(), 0);
            for (asker, after) in asked {
                now += after;
                match places.take(asker, now) {
                    Ok(()) => begun.push((asker, now)),
                    Err(free_at) => prop_assert!(free_at > now && free_at <= now + TCP_WITHIN_MS),
                }
                let lately = begun.iter().filter(|(_, at)| now < at + TCP_WITHIN_MS);
                prop_assert!(lately.clone().count() <= MAX_CONNECTIONS);
                prop_assert!(lately.filter(|(of, _)| *of == asker).count() <= MAX_OF_ONE);
            }
        }
    }
}
