//! Lists that routers and DHCPv6 servers advertise, each entry with its own lifetime: name servers (RFC 8106,
//! RFC 8415) and NAT64 prefixes (RFC 8781).
//!
//! Several may speak at once. What one withdraws or leaves out takes nothing of what another has said, and no
//! number of them makes the list grow.

/// Lifetime that never ends (RFC 8106, 5.1).
const FOR_EVER: u32 = u32::MAX;

/// A list of bounded length whose entries end by themselves, in the order in which they were first advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertised<T> {
    most: usize,
    /// Each with the time on the monotonic clock, in milliseconds, at which it ends; `None` for never.
    held: Vec<(T, Option<u64>)>,
}

impl<T: PartialEq + Clone> Advertised<T> {
    /// Makes an empty list that never has more than `most` entries.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, held: Vec::new() }
    }

    /// Takes the entries of one advertisement: each holds for `seconds` from `now`, whatever was said of it before; 0
    /// seconds withdraw it. Where there is no room, the entry that ends first gives way.
    pub fn take(&mut self, items: &[T], seconds: u32, now: u64) {
        let ends = (seconds != FOR_EVER)
            .then(|| now.saturating_add(u64::from(seconds).saturating_mul(1000)));
        self.held.retain(|(_, ends)| ends.is_none_or(|ends| now < ends));
        for item in items {
            let known = self.held.iter_mut().find(|(held, _)| held == item);
            match known {
                Some((_, until)) => *until = ends,
                None => self.held.push((item.clone(), ends)),
            }
        }
        self.held.retain(|(_, ends)| ends.is_none_or(|ends| now < ends));
        while self.held.len() > self.most {
            let first = self.held.iter().enumerate();
            let first = first.min_by_key(|(_, (_, ends))| ends.unwrap_or(u64::MAX));
            let Some(place) = first.map(|(place, _)| place) else {
                return;
            };
            self.held.remove(place);
        }
    }

    /// Replaces the whole list, with an answer that stands for everything that was answered before.
    pub fn replace(&mut self, items: &[T], seconds: u32, now: u64) {
        self.held.clear();
        self.take(items, seconds, now);
    }

    /// Returns the entries whose lifetime has not ended, in the order in which they were first advertised.
    pub fn at(&self, now: u64) -> impl Iterator<Item = &T> {
        let holds = move |ends: &Option<u64>| ends.is_none_or(|ends| now < ends);
        self.held.iter().filter(move |(_, ends)| holds(ends)).map(|(item, _)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(advertised: &Advertised<u8>, now: u64) -> Vec<u8> {
        advertised.at(now).copied().collect()
    }

    #[test]
    fn what_one_withdraws_or_leaves_out_leaves_the_others() {
        let mut servers = Advertised::new(4);
        // One advertisement of two options: a new server, and an old one that is withdrawn.
        servers.take(&[2], 600, 1_000);
        servers.take(&[1], 0, 1_000);
        assert_eq!(at(&servers, 1_001), [2]);
        // Two routers side by side, each with its own time.
        servers.take(&[3], 30, 2_000);
        assert_eq!(at(&servers, 31_999), [2, 3]);
        assert_eq!(at(&servers, 32_000), [2], "it ends by itself");
        servers.take(&[3], 0, 3_000);
        servers.take(&[], 600, 3_000);
        assert_eq!(at(&servers, 3_000), [2]);
        servers.take(&[2], 10, 4_000);
        assert_eq!(at(&servers, 14_000), Vec::<u8>::new(), "said anew, for less");
    }

    #[test]
    fn for_ever_has_no_end_but_can_be_withdrawn() {
        let mut servers = Advertised::new(4);
        servers.take(&[1], FOR_EVER, 0);
        assert_eq!(at(&servers, u64::MAX), [1]);
        servers.take(&[1], 0, 5);
        assert_eq!(at(&servers, 5), Vec::<u8>::new());
    }

    #[test]
    fn where_there_is_no_room_the_one_that_ends_first_gives_way() {
        let mut servers = Advertised::new(2);
        servers.take(&[1], FOR_EVER, 0);
        servers.take(&[2], 10, 0);
        servers.take(&[3], 20, 0);
        assert_eq!(at(&servers, 1), [1, 3]);
        servers.take(&[4], 5, 0);
        assert_eq!(at(&servers, 1), [1, 3]);
    }

    proptest! {
        #[test]
        fn however_much_is_said_the_list_is_bounded(
            said in proptest::collection::vec((any::<u8>(), 0u32..100, 0u64..1_000), 0..60)
        ) {
            let (mut servers, mut now) = (Advertised::new(4), 0u64);
            for (item, seconds, wait) in said {
                now = now.saturating_add(wait);
                servers.take(&[item], seconds, now);
                prop_assert!(at(&servers, now).len() <= 4);
                prop_assert_eq!(seconds == 0 && at(&servers, now).contains(&item), false);
            }
        }
    }
}
