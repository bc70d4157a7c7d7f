//! Deltas between two releases; [`holdfast_release::delta`] has their format.

use miniz_oxide::deflate::compress_to_vec;

/// Length of the key by which a place in the old release is found, in bytes.
const KEY_BYTES: usize = 16;
/// Least length of a copy in bytes: a shorter one saves nothing.
const LEAST_COPY: usize = 24;
/// Most places that are compared for one key.
const MAX_PLACES: usize = 16;
const TABLE_BITS: u32 = 20;
const NOWHERE: u32 = u32::MAX;
/// DEFLATE's densest level.
const LEVEL: u8 = 10;

/// Index of the old release by keys: the last place of each hash, and for each place the one before with the same
/// hash.
struct Places<'a> {
    bytes: &'a [u8],
    last: Vec<u32>,
    before: Vec<u32>,
}

fn slot(key: &[u8]) -> usize {
    // Multiplicative hashing by the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let (halves, _) = key.as_chunks::<8>();
    let mixed = halves.iter().fold(0u64, |mixed, half| {
        (mixed.rotate_left(29) ^ u64::from_le_bytes(*half)).wrapping_mul(FACTOR)
    });
    usize::try_from(mixed >> (64 - TABLE_BITS)).unwrap_or_default()
}

fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl<'a> Places<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut places = Self {
            bytes,
            last: vec![NOWHERE; 1 << TABLE_BITS],
            before: vec![NOWHERE; bytes.len()],
        };
        for (at, key) in bytes.windows(KEY_BYTES).enumerate() {
            let Some(last) = places.last.get_mut(slot(key)) else { continue };
            let at = u32::try_from(at).unwrap_or(NOWHERE);
            if let Some(before) = places.before.get_mut(usize::try_from(at).unwrap_or_default()) {
                *before = std::mem::replace(last, at);
            }
        }
        places
    }

    /// Returns the offset and length of the longest match for the begin of `new`. Among equal matches, that at offset
    /// `next` wins.
    fn longest(&self, new: &[u8], next: usize) -> (usize, usize) {
        let here = |at: usize| shared(new, self.bytes.get(at..).unwrap_or_default());
        let mut best = (next, here(next));
        let Some(key) = new.get(..KEY_BYTES) else { return best };
        let mut place = self.last.get(slot(key)).copied().unwrap_or(NOWHERE);
        for _ in 0..MAX_PLACES {
            let Some(at) = usize::try_from(place).ok().filter(|_| place != NOWHERE) else { break };
            let length = here(at);
            if length > best.1 {
                best = (at, length);
            }
            place = self.before.get(at).copied().unwrap_or(NOWHERE);
        }
        best
    }
}

fn number(mut number: u64, to: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            return to.push(low);
        }
        to.push(low | 0x80);
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Makes the delta from `old` to `new`.
#[must_use]
pub fn delta<'a>(old: &'a [u8], new: &'a [u8]) -> Vec<u8> {
    let places = Places::of(old);
    let mut steps = Vec::new();
    let (mut at, mut fresh, mut copied_to) = (0usize, 0usize, 0usize);
    let mut step = |fresh: &[u8], copied: usize, from: usize| {
        number(wide(fresh.len()), &mut steps);
        steps.extend_from_slice(fresh);
        number(wide(copied), &mut steps);
        if copied > 0 {
            let (from, to) = (wide(from).cast_signed(), wide(copied_to).cast_signed());
            let distance = from.wrapping_sub(to);
            number(((distance << 1) ^ (distance >> 63)).cast_unsigned(), &mut steps);
            copied_to = usize::try_from(from).unwrap_or_default().saturating_add(copied);
        }
        copied_to
    };
    let mut next = 0usize;
    while let Some(rest) = new.get(at..).filter(|rest| !rest.is_empty()) {
        // Behind bytes that differ, the old release may go on as it did.
        let ahead = next.saturating_add(at.saturating_sub(fresh));
        let (from, length) = places.longest(rest, ahead);
        if length < LEAST_COPY {
            at = at.saturating_add(1);
            continue;
        }
        // What stands before it may be there as well.
        let before =
            |bytes: &'a [u8], from: usize, to: usize| bytes.get(from..to).unwrap_or_default();
        let new_before = before(new, fresh, at).iter().rev();
        let back = new_before.zip(before(old, 0, from).iter().rev()).take_while(|(a, b)| a == b);
        let back = back.count();
        let begin = at.saturating_sub(back);
        next = step(
            new.get(fresh..begin).unwrap_or_default(),
            length.saturating_add(back),
            from.saturating_sub(back),
        );
        at = at.saturating_add(length);
        fresh = at;
    }
    let last = new.get(fresh..).unwrap_or_default();
    if !last.is_empty() {
        step(last, 0, 0);
    }
    compress_to_vec(&steps, LEVEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_release::delta::{Bytes, DeltaError, Patcher};
    use proptest::prelude::*;

    fn patched(old: &[u8], delta: &[u8], length: usize) -> Vec<u8> {
        let (mut made, mut patcher) = (Vec::new(), Patcher::new(wide(length)));
        for piece in delta.chunks(1000) {
            let taken = patcher.take(piece, |bytes| {
                match bytes {
                    Bytes::New(new) => made.extend_from_slice(new),
                    Bytes::Copied { at, bytes } => {
                        let at = usize::try_from(at).unwrap();
                        made.extend_from_slice(&old[at..][..usize::try_from(bytes).unwrap()]);
                    }
                }
                Ok::<(), DeltaError>(())
            });
            taken.unwrap();
        }
        patcher.finish().unwrap();
        made
    }

    /// Bytes without any order.
    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let step = |()| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()[7]
        };
        std::iter::repeat_n((), length).map(step).collect()
    }

    #[test]
    fn what_moved_and_what_was_changed_in_place_cost_little() {
        let old = noise(100_000, 1);
        let mut new = noise(37, 2);
        new.extend_from_slice(&old[50_000..]);
        new.extend_from_slice(&old[..50_000]);
        for at in (100..90_000).step_by(10_000) {
            new[at] ^= 0xff;
        }
        let made = delta(&old, &new);
        assert!(made.len() < 200, "{} bytes", made.len());
        assert!(patched(&old, &made, new.len()) == new);
    }

    #[test]
    fn what_has_nothing_of_the_other_is_whole() {
        let (old, new) = (noise(5000, 1), noise(5000, 2));
        let made = delta(&old, &new);
        assert!((5000..5100).contains(&made.len()), "{} bytes", made.len());
        assert!(patched(&old, &made, new.len()) == new);
    }

    proptest! {
        #[test]
        fn every_release_is_made_again(
            old in proptest::collection::vec(0u8..3, 0..400),
            new in proptest::collection::vec(0u8..3, 0..400),
        ) {
            prop_assert_eq!(patched(&old, &delta(&old, &new), new.len()), new);
        }
    }
}
