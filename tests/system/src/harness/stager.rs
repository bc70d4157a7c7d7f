//! Writing a release into the other slot from outside, in the order in which an update must: the
//! slot is taken out of use before its first byte is written, and put on trial when all of it is
//! there.

use anyhow::{Context, Result};
use holdfast_images::disk::Layout;
use holdfast_images::show;
use holdfast_lifecycle::slots::{BootState, Copies, Slot};
use holdfast_qemu::write_log::Step;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a slot holds: its `boot` and its `root` partition.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) boot: Vec<u8>,
    pub(crate) root: Vec<u8>,
}

impl Release {
    /// The release in slot A of an image.
    pub(crate) fn of(image: &Path) -> Result<Self> {
        let read = |name| show::read_partition(image, name);
        Ok(Self { boot: read("boot-a")?, root: read("root-a")? })
    }
}

/// The steps that put `release` into the slot beside `running`.
pub(crate) fn steps(disk: &Path, running: Slot, release: &Release) -> Result<Vec<Step>> {
    let layout = Layout::read(&mut File::open(disk)?)?;
    let mut copies = show::read_boot_state(disk)?;
    let state = copies.state().context("no boot state")?;
    let announced = state.announce(running)?;
    let target = running.other().letter();
    let mut steps = vec![save(&layout, &mut copies, &announced)?, Step::Flush];
    for (name, bytes) in [("boot", &release.boot), ("root", &release.root)] {
        let start = layout.partition(&format!("{name}-{target}"))?.start;
        steps.extend(pieces(start, bytes));
    }
    steps.push(Step::Flush);
    steps.push(save(&layout, &mut copies, &announced.stage(running)?)?);
    steps.push(Step::Flush);
    Ok(steps)
}

/// The write that saves `state`; `copies` are then as they are behind it.
fn save(layout: &Layout, copies: &mut Copies, state: &BootState) -> Result<Step> {
    let (index, bytes) = copies.save(state);
    let at = *layout.boot_state_copies()?.get(index).context("no such copy")?;
    let saved = holdfast_lifecycle::slots::read_copy(&bytes);
    *copies.copies.get_mut(index).context("no such copy")? = saved;
    Ok(Step::Write { at, bytes: bytes.to_vec() })
}

/// Writes of 64 KiB each, zeros included: what lay there before must not stay. The head comes last,
/// so that what is half written has none.
fn pieces(start: u64, bytes: &[u8]) -> Vec<Step> {
    const PIECE: usize = 64 * 1024;
    let at = (start..).step_by(PIECE);
    let write = |(bytes, at): (&[u8], u64)| Step::Write { at, bytes: bytes.to_vec() };
    let mut pieces: Vec<Step> = bytes.chunks(PIECE).zip(at).map(write).collect();
    pieces.reverse();
    pieces
}

/// Carries the steps out.
pub(crate) fn apply(disk: &Path, steps: &[Step]) -> Result<()> {
    let file = File::options().write(true).open(disk)?;
    for step in steps {
        match step {
            Step::Write { at, bytes } => file.write_all_at(bytes, *at)?,
            Step::Flush => file.sync_data()?,
        }
    }
    Ok(())
}

/// Puts `release` on trial on the disk of a guest that is switched off.
pub(crate) fn stage(disk: &Path, running: Slot, release: &Release) -> Result<()> {
    apply(disk, &steps(disk, running, release)?)
}
