//! Download strategy of a release: by a delta, of parts of the running slot, or whole; the cheapest within the budget.
//!
//! A release of the OS is decided about twice. Before the leaves of its root are there, it is known what comes at
//! least: the chunks of its FIT that the device has not, and the leaves ([`before_leaves`]). With them it is known
//! what all of it costs ([`with_leaves`]). The whole release is one step of [`Step::Fetch`].

use crate::delta;
use crate::metadata::Targets;
use crate::reuse::{self, CHUNK_BYTES, CHUNK_HASH_BYTES, Run};
use crate::{Release, Target};
use holdfast_sandbox::verity::{self, BLOCK_BYTES, DIGEST_BYTES};
use holdfast_sandbox::wire::SlotPart;
use holdfast_types::hex::hex;
use thiserror::Error;

/// Longest delta in bytes that is kept in memory and verified by its own hash before it is applied.
pub const SHORT_DELTA_BYTES: u64 = 256 * 1024;

/// A step that makes the next bytes of a new slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Copies bytes from a part of the running slot.
    Copy {
        /// The part of the running slot.
        part: SlotPart,
        /// Offset in that part.
        at: u64,
        /// Number of bytes.
        bytes: u64,
    },
    /// Fetches bytes of the release.
    Fetch {
        /// Offset in the release.
        at: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

/// Hashes of the running slot's parts; none where nothing of it is reused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hashes {
    /// Hashes of the chunks of the slot's FIT.
    pub chunks: Vec<[u8; CHUNK_HASH_BYTES]>,
    /// Leaves of the hash tree of the slot's root.
    pub leaves: Vec<[u8; DIGEST_BYTES]>,
}

/// A delta that a repository offers for a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Path of the delta's file on the server.
    pub place: String,
    /// Length of the delta in bytes.
    pub length: u64,
    /// SHA-256 of the delta.
    pub sha256: [u8; 32],
    /// The delta copies from the release that runs.
    pub needs_running: bool,
}

/// Most bytes that may be fetched for one release; `None` for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(pub Option<u64>);

/// The cheapest way to a release costs more bytes than one release may.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error(
    "it costs {bytes} bytes and one release may cost {most} here: it waits for a card, or for a smaller step"
)]
pub struct TooExpensive {
    /// Bytes that the release costs.
    pub bytes: u64,
    /// Bytes that one release may cost.
    pub most: u64,
}

/// The choice before the leaves of the new root are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First {
    /// Applies a delta.
    Delta(ByDelta),
    /// Fetches the leaves. The delta may still cost less than the parts that are missing by them.
    Leaves(Option<Delta>),
}

/// The choice once the leaves are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Second {
    /// Applies a delta.
    Delta(ByDelta),
    /// Copies and fetches parts.
    Parts {
        /// Bytes that are fetched, with those of the leaves.
        fetched: u64,
    },
}

/// A delta to apply, with its cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByDelta {
    /// The delta.
    pub delta: Delta,
    /// Bytes that are fetched, with those of the leaves where they are needed.
    pub fetched: u64,
}

impl Delta {
    /// Returns the smallest delta that the targets offer for the release at `path`, from the running release or from
    /// nothing; `None` where none is smaller than the release.
    #[must_use]
    pub fn smallest(
        targets: &Targets,
        path: &str,
        target: &Target,
        running_root_hash: Option<&[u8; DIGEST_BYTES]>,
    ) -> Option<Self> {
        let running = running_root_hash.map(|root_hash| hex(root_hash));
        let bases = [running.as_deref(), Some(delta::NOTHING)];
        let offered = bases.into_iter().flatten().filter_map(|from| {
            let path = delta::path(path, from);
            let offered = targets.targets.get(&path)?;
            let (place, length) = (offered.place(&path)?, offered.length);
            let needs_running = from != delta::NOTHING;
            let delta = Self { place, length, sha256: offered.sha256()?, needs_running };
            (1..target.length).contains(&length).then_some(delta)
        });
        offered.min_by_key(|delta| delta.length)
    }

    /// True when the delta is kept in memory and verified by its own hash. What a longer one makes is verified by the
    /// leaves.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.length <= SHORT_DELTA_BYTES
    }
}

impl Budget {
    /// True when so many bytes may be fetched for one release.
    #[must_use]
    pub fn affords(self, bytes: u64) -> bool {
        self.0.is_none_or(|most| bytes <= most)
    }

    /// Checks that so many bytes may be fetched for one release.
    ///
    /// # Errors
    /// They exceed the budget.
    pub fn afford(self, bytes: u64) -> Result<(), TooExpensive> {
        match self.0.filter(|most| bytes > *most) {
            Some(most) => Err(TooExpensive { bytes, most }),
            None => Ok(()),
        }
    }
}

/// Chooses before the leaves are fetched: `boot_bytes` of the FIT are missing, and the leaves have `leaf_bytes`.
///
/// # Errors
/// No way costs as little as it must.
pub fn before_leaves(
    delta: Option<Delta>,
    boot_bytes: u64,
    leaf_bytes: u64,
    budget: Budget,
) -> Result<First, TooExpensive> {
    let least = boot_bytes.saturating_add(leaf_bytes);
    if let Some(delta) = &delta {
        let leaves = if delta.is_short() { 0 } else { leaf_bytes };
        let fetched = delta.length.saturating_add(leaves);
        if fetched <= least || !budget.affords(least) {
            budget.afford(fetched)?;
            return Ok(First::Delta(ByDelta { delta: delta.clone(), fetched }));
        }
    }
    budget.afford(least)?;
    Ok(First::Leaves(delta))
}

/// Chooses once the leaves, of `leaf_bytes`, are fetched: parts of `part_bytes` are missing.
///
/// # Errors
/// Neither way costs as little as it must.
pub fn with_leaves(
    delta: Option<Delta>,
    part_bytes: u64,
    leaf_bytes: u64,
    budget: Budget,
) -> Result<Second, TooExpensive> {
    let smaller = delta.filter(|delta| delta.length < part_bytes);
    let bytes = smaller.as_ref().map_or(part_bytes, |delta| delta.length);
    let fetched = bytes.saturating_add(leaf_bytes);
    budget.afford(fetched)?;
    Ok(match smaller {
        Some(delta) => Second::Delta(ByDelta { delta, fetched }),
        None => Second::Parts { fetched },
    })
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Returns the steps for the FIT of a release.
#[must_use]
pub fn boot_steps(release: &Release, old: &Hashes) -> Vec<Step> {
    let Some(new) = release.boot_chunks() else {
        return vec![Step::Fetch { at: 0, bytes: release.boot_bytes }];
    };
    let runs = reuse::runs(&new, &old.chunks);
    steps(&runs, SlotPart::Boot, wide(CHUNK_BYTES), 0, release.boot_bytes)
}

/// Returns the steps for the data of a release's root, whose leaves are `new`.
#[must_use]
pub fn root_steps(release: &Release, new: &[[u8; DIGEST_BYTES]], old: &Hashes) -> Vec<Step> {
    let data_bytes = wide(new.len()).saturating_mul(wide(BLOCK_BYTES));
    let runs = reuse::runs(new, &old.leaves);
    steps(&runs, SlotPart::Root, wide(BLOCK_BYTES), release.boot_bytes, data_bytes)
}

/// Returns the number of bytes that the steps fetch.
#[must_use]
pub fn fetched(steps: &[Step]) -> u64 {
    let fetched = steps.iter().map(|step| match step {
        Step::Fetch { bytes, .. } => *bytes,
        Step::Copy { .. } => 0,
    });
    fetched.fold(0, u64::saturating_add)
}

fn steps(runs: &[Run], part: SlotPart, unit: u64, offset: u64, length: u64) -> Vec<Step> {
    let (mut steps, mut done) = (Vec::new(), 0usize);
    for run in runs {
        let begin = wide(done).saturating_mul(unit);
        // The last chunk is shorter.
        let bytes = wide(run.count()).saturating_mul(unit).min(length.saturating_sub(begin));
        steps.push(match run {
            Run::Held { from, .. } => {
                Step::Copy { part, at: wide(*from).saturating_mul(unit), bytes }
            }
            Run::Fetched { .. } => Step::Fetch { at: offset.saturating_add(begin), bytes },
        });
        done = done.saturating_add(run.count());
    }
    steps
}

/// Returns the offset of the root's leaves in a release, their length, and the length of the data below them. `None`
/// where the root is a single block.
#[must_use]
pub fn leaves_of(target: &Target, release: &Release) -> Option<(u64, u64, u64)> {
    let root_bytes = target.length.checked_sub(release.boot_bytes)?;
    let data_bytes = verity::data_bytes(root_bytes)?;
    let (at, bytes) = reuse::leaves(data_bytes)?;
    Some((release.boot_bytes.checked_add(at)?, wide(bytes), data_bytes))
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "the numbers of a test are its own")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn delta(length: u64) -> Delta {
        Delta { place: "d".to_owned(), length, sha256: [0; 32], needs_running: true }
    }

    fn by_delta(length: u64, fetched: u64) -> ByDelta {
        ByDelta { delta: delta(length), fetched }
    }

    const UNBOUNDED: Budget = Budget(None);

    #[test]
    fn steps_follow_one_another_and_end_with_the_part() {
        let runs = [
            Run::Held { from: 7, count: 2 },
            Run::Fetched { from: 2, count: 1 },
            Run::Held { from: 0, count: 1 },
        ];
        let found = steps(&runs, SlotPart::Root, 4096, 100, 4 * 4096 - 96);
        let expected = [
            Step::Copy { part: SlotPart::Root, at: 7 * 4096, bytes: 2 * 4096 },
            Step::Fetch { at: 100 + 2 * 4096, bytes: 4096 },
            Step::Copy { part: SlotPart::Root, at: 0, bytes: 4000 },
        ];
        assert_eq!(found, expected);
        assert_eq!(fetched(&found), 4096);
    }

    #[test]
    fn a_short_delta_that_costs_no_more_than_the_least_is_taken_without_leaves() {
        let chosen = |length| before_leaves(Some(delta(length)), 600, 400, UNBOUNDED);
        assert_eq!(chosen(1_000), Ok(First::Delta(by_delta(1_000, 1_000))));
        assert_eq!(chosen(1_001), Ok(First::Leaves(Some(delta(1_001)))));
        assert_eq!(before_leaves(None, 600, 400, UNBOUNDED), Ok(First::Leaves(None)));
    }

    #[test]
    fn a_long_delta_costs_its_leaves_as_well() {
        let (short, long) = (SHORT_DELTA_BYTES, SHORT_DELTA_BYTES + 1);
        assert!(delta(short).is_short() && !delta(long).is_short());
        let chosen = |length| before_leaves(Some(delta(length)), long, 400, UNBOUNDED);
        assert_eq!(chosen(long), Ok(First::Delta(by_delta(long, long + 400))));
        assert_eq!(chosen(long + 1), Ok(First::Leaves(Some(delta(long + 1)))));
        assert_eq!(chosen(short), Ok(First::Delta(by_delta(short, short))));
    }

    #[test]
    fn what_costs_less_with_the_leaves_is_taken() {
        let chosen = |part_bytes| with_leaves(Some(delta(1_000)), part_bytes, 400, UNBOUNDED);
        assert_eq!(chosen(1_001), Ok(Second::Delta(by_delta(1_000, 1_400))));
        assert_eq!(chosen(1_000), Ok(Second::Parts { fetched: 1_400 }));
        let none = with_leaves(None, 5_000, 400, UNBOUNDED);
        assert_eq!(none, Ok(Second::Parts { fetched: 5_400 }));
    }

    #[test]
    fn what_costs_more_than_one_release_may_waits() {
        let budget = |most| Budget(Some(most));
        // Exactly as much as it may.
        assert_eq!(before_leaves(None, 600, 400, budget(1_000)), Ok(First::Leaves(None)));
        let too_much = Err(TooExpensive { bytes: 1_000, most: 999 });
        assert_eq!(before_leaves(None, 600, 400, budget(999)), too_much);
        let parts = with_leaves(None, 700, 300, budget(1_000));
        assert_eq!(parts, Ok(Second::Parts { fetched: 1_000 }));
        let too_much = Err(TooExpensive { bytes: 1_001, most: 1_000 });
        assert_eq!(with_leaves(None, 701, 300, budget(1_000)), too_much);
        // A delta that costs more than the least is taken where nothing else may be.
        let last = before_leaves(Some(delta(900)), 600, 400, budget(950));
        assert_eq!(last, Ok(First::Delta(by_delta(900, 900))));
        assert!(budget(0).afford(1).is_err() && UNBOUNDED.afford(u64::MAX).is_ok());
    }

    proptest! {
        /// What is chosen is affordable, and no way that was known costs less; a delta that may be fetched is never
        /// left for something that may not.
        #[test]
        fn the_choice_costs_least_of_what_may_be_fetched(
            length in proptest::option::of(1u64..1_000_000),
            boot_bytes in 0u64..500_000,
            leaf_bytes in 0u64..100_000,
            root_bytes in 0u64..1_000_000,
            most in proptest::option::of(0u64..1_500_000),
        ) {
            let budget = Budget(most);
            let part_bytes = boot_bytes + root_bytes;
            let offered = length.map(delta);
            let cost_of_delta = length.map(|length| length + leaf_bytes);
            let chosen = match before_leaves(offered, boot_bytes, leaf_bytes, budget) {
                Ok(First::Delta(by)) => Ok(by.fetched),
                Ok(First::Leaves(delta)) => {
                    match with_leaves(delta, part_bytes, leaf_bytes, budget) {
                        Ok(Second::Delta(by)) => Ok(by.fetched),
                        Ok(Second::Parts { fetched }) => Ok(fetched),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            match chosen {
                Ok(fetched) => {
                    prop_assert!(budget.affords(fetched));
                    let costs_more =
                        |other: Option<u64>| other.is_some_and(|other| fetched > other);
                    let is_only_way = !budget.affords(boot_bytes + leaf_bytes);
                    prop_assert!(is_only_way || !costs_more(cost_of_delta));
                    prop_assert!(is_only_way || !costs_more(Some(part_bytes + leaf_bytes)));
                }
                Err(error) => {
                    prop_assert!(!budget.affords(error.bytes));
                    prop_assert!(!cost_of_delta.is_some_and(|cost| budget.affords(cost)));
                }
            }
        }
    }
}
