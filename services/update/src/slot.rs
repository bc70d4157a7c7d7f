//! Fetching a slot: what the running one has of it is taken from there.

use crate::install_error::InstallError;
use holdfast_linux::direct::Direct;
use holdfast_linux::init_socket::InitSocket;
use holdfast_release::reuse::{self, CHUNK_BYTES, CHUNK_HASH_BYTES, Run};
use holdfast_release::{Release, Target};
use holdfast_sandbox::held::Running;
use holdfast_sandbox::package::{HEADER_BYTES, Header};
use holdfast_sandbox::verity::{self, BLOCK_BYTES, DIGEST_BYTES};
use holdfast_sandbox::wire::{SlotPart, UpdateRequest};

/// The slot that runs.
#[derive(Debug)]
pub(crate) struct Old {
    boot: Direct,
    /// Of its kernel and device trees, whole blocks.
    boot_bytes: u64,
    root: Direct,
}

/// The hashes of what a slot holds.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    chunks: Vec<[u8; CHUNK_HASH_BYTES]>,
    leaves: Vec<[u8; DIGEST_BYTES]>,
}

/// What is done for a new slot, one step behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes are copied from a place in a part of the old slot.
    Copy {
        /// From which part.
        part: SlotPart,
        /// From which byte on.
        at: u64,
        /// How many.
        bytes: u64,
    },
    /// So many bytes of the release are fetched.
    Fetch {
        /// From which byte on.
        at: u64,
        /// How many.
        bytes: u64,
    },
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Old {
    pub(crate) fn open(init: &mut InitSocket<UpdateRequest>) -> Result<Self, InstallError> {
        let mut open = |part: SlotPart| {
            let descriptor =
                init.tell(UpdateRequest::RunningSlot(part))?.ok_or(InstallError::NoHash)?;
            Ok::<_, InstallError>(Direct::from_descriptor(descriptor, part.name()))
        };
        let (mut boot, root) = (open(SlotPart::Boot)?, open(SlotPart::Root)?);
        let room = boot.length()?;
        let head = boot.bytes(0, BLOCK_BYTES)?;
        // The length of a flattened tree stands behind its magic (Devicetree Specification 5.2).
        let length = head.get(4..).and_then(|rest| rest.first_chunk::<4>());
        let length = length.map_or(0, |length| u64::from(u32::from_be_bytes(*length)));
        let boot_bytes = length.next_multiple_of(wide(BLOCK_BYTES)).min(room);
        Ok(Self { boot, boot_bytes, root })
    }

    /// Refuses what a slot has no room for: both are as large.
    pub(crate) fn has_room(
        &mut self,
        target: &Target,
        release: &Release,
    ) -> Result<(), InstallError> {
        let root_bytes = target.length.saturating_sub(release.boot_bytes);
        for (disk, part, bytes) in [
            (&mut self.boot, SlotPart::Boot, release.boot_bytes),
            (&mut self.root, SlotPart::Root, root_bytes),
        ] {
            if disk.length()? < bytes {
                return Err(InstallError::Room { part: part.name(), bytes });
            }
        }
        Ok(())
    }

    /// Reads the hashes of what it holds; those of its root are the leaves of its tree.
    pub(crate) fn hashes(&self, running: &Running) -> Result<Hashes, InstallError> {
        let (mut chunks, mut part) = (Vec::new(), Vec::new());
        self.boot.read(self.boot_bytes, |piece| {
            part.extend_from_slice(piece);
            while part.len() >= CHUNK_BYTES {
                let rest = part.split_off(CHUNK_BYTES);
                chunks.push(reuse::chunk_hash(&part));
                part = rest;
            }
        })?;
        if !part.is_empty() {
            chunks.push(reuse::chunk_hash(&part));
        }
        let level = match reuse::leaves(running.data_bytes) {
            Some((at, bytes)) => self.root.bytes(at, bytes)?,
            None => Vec::new(),
        };
        let leaves = reuse::digests(&level, running.data_bytes).unwrap_or_default();
        Ok(Hashes { chunks, leaves })
    }

    /// The release that it holds, for a delta.
    pub(crate) fn into_origin(self) -> Origin {
        Origin { parts: vec![(self.boot, Some(self.boot_bytes)), (self.root, None)] }
    }

    /// Hands on so many bytes of one of its parts.
    pub(crate) fn copy(
        &self,
        part: SlotPart,
        at: u64,
        bytes: u64,
        take: impl FnMut(&[u8]) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let disk = if part == SlotPart::Boot { &self.boot } else { &self.root };
        disk.read_from(at, bytes, take)
    }
}

/// The bytes of the release that runs, in the order in which it was released: what a delta copies from.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Each with its length; the last one has whatever is wanted of it.
    parts: Vec<(Direct, Option<u64>)>,
}

impl Origin {
    /// A release without a byte.
    pub(crate) fn nothing() -> Self {
        Self { parts: Vec::new() }
    }

    /// The package of an app, if it is the one that runs.
    pub(crate) fn of_package(
        mut package: Direct,
        running: &Running,
    ) -> Result<Option<Self>, InstallError> {
        let start = package.bytes(0, HEADER_BYTES)?;
        let header = Header::parse(&start, package.length()?).ok();
        let runs = header.is_some_and(|header| header.root_hash == running.root_hash);
        Ok(runs.then(|| Self { parts: vec![(package, None)] }))
    }

    /// Hands on what is copied. What comes of it is judged when it is read back.
    pub(crate) fn copy(
        &self,
        at: u64,
        bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let (mut at, mut bytes) = (at, bytes);
        for (part, length) in &self.parts {
            let here = length.map_or(bytes, |length| length.saturating_sub(at).min(bytes));
            if here > 0 {
                part.read_from(at, here, &mut take)?;
            }
            at = at.saturating_add(here).saturating_sub(length.unwrap_or(0));
            bytes = bytes.saturating_sub(here);
        }
        Ok(())
    }
}

/// Steps for the kernel's part of a release.
pub(crate) fn boot_steps(release: &Release, old: &Hashes) -> Vec<Step> {
    let Some(new) = release.boot_chunks() else {
        return vec![Step::Fetch { at: 0, bytes: release.boot_bytes }];
    };
    let runs = reuse::runs(&new, &old.chunks);
    steps(&runs, SlotPart::Boot, wide(CHUNK_BYTES), 0, release.boot_bytes)
}

/// Steps for the data of its root, whose leaves were fetched.
pub(crate) fn root_steps(
    release: &Release,
    new: &[[u8; DIGEST_BYTES]],
    data_bytes: u64,
    old: &Hashes,
) -> Vec<Step> {
    let runs = reuse::runs(new, &old.leaves);
    steps(&runs, SlotPart::Root, wide(BLOCK_BYTES), release.boot_bytes, data_bytes)
}

/// How many bytes are fetched in these steps.
pub(crate) fn fetched(steps: &[Step]) -> u64 {
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

/// Where the leaves of a release's root lie in it, and how many bytes they are.
pub(crate) fn leaves_of(target: &Target, release: &Release) -> Option<(u64, u64, u64)> {
    let root_bytes = target.length.checked_sub(release.boot_bytes)?;
    let data_bytes = verity::data_bytes(root_bytes)?;
    let (at, bytes) = reuse::leaves(data_bytes)?;
    Some((release.boot_bytes.checked_add(at)?, wide(bytes), data_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
