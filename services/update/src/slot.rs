//! Reading the running slot and the package that an app runs, for reuse and for deltas.

use crate::device::Slots;
use crate::install_error::InstallError;
use holdfast_linux::direct::Direct;
use holdfast_release::reuse::{self, CHUNK_BYTES};
use holdfast_release::strategy::Hashes;
use holdfast_release::{Release, Target};
use holdfast_sandbox::held::Running;
use holdfast_sandbox::package::{HEADER_BYTES, Header};
use holdfast_sandbox::verity::BLOCK_BYTES;
use holdfast_sandbox::wire::SlotPart;

/// The running slot, opened for reading.
#[derive(Debug)]
pub(crate) struct Old {
    boot: Direct,
    /// Length of the FIT in whole blocks, in bytes.
    boot_bytes: u64,
    root: Direct,
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Old {
    pub(crate) fn open(slots: &mut impl Slots) -> Result<Self, InstallError> {
        let mut boot = slots.running_part(SlotPart::Boot)?;
        let root = slots.running_part(SlotPart::Root)?;
        let room = boot.length()?;
        let head = boot.bytes(0, BLOCK_BYTES)?;
        // The length of a flattened tree stands behind its magic (Devicetree Specification 5.2).
        let length = head.get(4..).and_then(|rest| rest.first_chunk::<4>());
        let length = length.map_or(0, |length| u64::from(u32::from_be_bytes(*length)));
        let boot_bytes = length.next_multiple_of(wide(BLOCK_BYTES)).min(room);
        Ok(Self { boot, boot_bytes, root })
    }

    /// Checks that a slot has room for the release: both slots are as large.
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

    /// Reads the hashes of the slot's parts; those of its root are the leaves of its hash tree.
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

    /// Turns the slot into the origin of a delta.
    pub(crate) fn into_origin(self) -> Origin {
        Origin { parts: vec![(self.boot, Some(self.boot_bytes)), (self.root, None)] }
    }

    /// Reads a range of a part, and hands it to `take`.
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

/// Bytes of the running release in its order, from which a delta copies.
#[derive(Debug)]
pub(crate) struct Origin {
    /// Parts with their lengths; the last one, without, is read as far as a delta asks.
    parts: Vec<(Direct, Option<u64>)>,
}

impl Origin {
    /// Makes an origin without a byte.
    pub(crate) fn nothing() -> Self {
        Self { parts: Vec::new() }
    }

    /// Makes an origin of an app's package, if it is the one that runs.
    pub(crate) fn of_package(
        mut package: Direct,
        running: &Running,
    ) -> Result<Option<Self>, InstallError> {
        let start = package.bytes(0, HEADER_BYTES)?;
        let header = Header::parse(&start, package.length()?).ok();
        let runs = header.is_some_and(|header| header.root_hash == running.root_hash);
        Ok(runs.then(|| Self { parts: vec![(package, None)] }))
    }

    /// Reads a range, and hands it to `take`. What is made of it is verified when it is read back.
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
