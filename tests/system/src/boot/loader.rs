//! The boot loader on a card, which a good slot brings up to date, one copy after the other.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT};
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Context, Result, ensure};
use holdfast_images::boot_loader::{self, Assembled};
use holdfast_images::{disk, show};
use holdfast_lifecycle::boot_loader::{BootLoader, Found, Place};
use holdfast_qemu::machine::Machine;
use holdfast_qemu::write_log::Step;
use holdfast_sandbox::verity::BLOCK_BYTES;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SECTOR: usize = 512;
const WRITTEN: &str = "copy is written and verified";
/// Where the boot ROM leaves in a first stage what it has read it from (`boot_media` in U-Boot's
/// `include/sunxi_image.h`), and what it leaves there for the second place of a card.
const BOOT_MEDIA: u64 = 0x28;
const FROM_THE_SPARE_PLACE: u8 = 0x10;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    if !artefacts.board().is_ok_and(|board| board.boot_loader.spare.is_some()) {
        return;
    }
    let image = move || artefacts.image("hello");
    suite.share(
        move || Renewal::record(artefacts, &image()),
        checks![a_good_slot_brings_its_boot_loader, no_cut_of_power_costs_the_boot_loader],
    );
    check!(suite, the_spare_boot_loader_starts(&image()));
}

fn brought(image: &Path) -> Result<BootLoader> {
    boot_loader::brought(&show::read_root(image)?)?.context("the slot brings no boot loader")
}

/// A device whose boot loader is another than its slot brings, and what it does about it.
struct Renewal {
    /// What lay in front of the partitions.
    before: Vec<u8>,
    /// What lies there afterwards, and what the image has there.
    after: [Vec<u8>; 2],
    /// Everything that the device has written there.
    steps: Vec<(usize, Vec<u8>)>,
    /// What the console has said in that run, and in the next.
    said: [String; 2],
    old: BootLoader,
    new: BootLoader,
}

impl Renewal {
    fn record(artefacts: &Artefacts, image: &Path) -> Result<Self> {
        let scratch = Scratch::of(image)?;
        let new = brought(image)?;
        // It takes the same slots, by keys in another order.
        let keys = ["current", "recovery", "next"].map(|name| artefacts.boot_key(name));
        let [current, recovery, next] = keys;
        let keys = [current?.public(), recovery?.public(), next?.public()];
        let other = scratch.boot_loader_with(&artefacts.board()?, &keys)?;
        let Assembled::Card { first: [_, u_boot], .. } = &other else {
            anyhow::bail!("it is not on the card");
        };
        let old = BootLoader { u_boot: u_boot.bytes.clone(), ..new.clone() };
        scratch.replace_boot_loader(other)?;
        let before = disk::read_boot_loader(scratch.path())?;
        let machine = Machine { log_writes: true, ..Machine::new(scratch.path(), 64) };
        let mut guest = machine.start(None)?;
        guest.wait("init: slot a committed", BOOT)?;
        guest.wait(&format!("the boot loader's first {WRITTEN}"), ANSWER)?;
        let steps = guest.written()?.into_iter().filter_map(|step| match step {
            Step::Write { at, bytes } => Some((usize::try_from(at).ok()?, bytes)),
            Step::Flush => None,
        });
        let steps = steps.filter(|(at, _)| *at < before.len()).collect();
        let after = [disk::read_boot_loader(&guest.disk())?, disk::read_boot_loader(image)?];
        let first_run = guest.console.text();
        let mut guest = machine.start_again(guest)?;
        guest.wait("init: slot a committed", BOOT)?;
        guest.wait("hello: heartbeat 5", BOOT)?;
        let said = [first_run, guest.console.text()];
        Ok(Self { before, after, steps, said, old, new })
    }

    /// Whether a whole boot loader starts from a card: that of the first place where the boot ROM accepts
    /// something.
    fn starts(&self, card: &[u8]) -> bool {
        let [old, new] = [&self.old, &self.new].map(|loader| boot_loader::copies(card, loader));
        let started = new.iter().position(|copy| copy.starts);
        let is_current = |copies: &[Found; 2]| {
            started.and_then(|place| copies.get(place)).is_some_and(|copy| copy.is_current)
        };
        is_current(&old) || is_current(&new)
    }

    /// The number of cuts in `steps` that were tried, and of those after which nothing starts.
    fn cuts(&self, steps: &[&(usize, Vec<u8>)]) -> Result<(usize, usize)> {
        let mut card = self.before.clone();
        let (mut tried, mut lost) = (0usize, 0usize);
        for (at, bytes) in steps {
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                let at = at.saturating_add(index.saturating_mul(SECTOR));
                let place = card.get_mut(at..at.saturating_add(sector.len()));
                place.context("a write beyond the boot loader")?.copy_from_slice(sector);
                tried = tried.saturating_add(1);
                lost = lost.saturating_add(usize::from(!self.starts(&card)));
            }
        }
        Ok((tried, lost))
    }
}

fn a_good_slot_brings_its_boot_loader(renewal: &mut Renewal) -> Result<()> {
    let [first_run, second_run] = &renewal.said;
    let said = |copy: &str| first_run.find(&format!("the boot loader's {copy} {WRITTEN}"));
    let (spare, first) = (said("spare"), said("first"));
    ensure!(spare.is_some() && spare < first, "the spare copy was not written first:\n{first_run}");
    let [after, image] = &renewal.after;
    ensure!(renewal.before != *image, "there was nothing to write");
    ensure!(after == image, "the card is not as the image has it");
    ensure!(!second_run.contains(WRITTEN), "it was written again:\n{second_run}");
    Ok(())
}

fn no_cut_of_power_costs_the_boot_loader(renewal: &mut Renewal) -> Result<()> {
    let steps: Vec<_> = renewal.steps.iter().collect();
    let (tried, lost) = renewal.cuts(&steps)?;
    println!("boot loader: {tried} cuts");
    ensure!(tried > 800, "only {tried} sectors were written");
    ensure!(lost == 0, "after {lost} of {tried} cuts nothing starts");
    // And the check can fail: here the first copy is written over while the boot ROM takes it.
    let head = usize::try_from(renewal.new.copy(Place::First).at)?;
    let breaks = |(at, bytes): &(usize, Vec<u8>)| {
        (head..head.saturating_add(BLOCK_BYTES)).contains(at) && bytes.iter().all(|byte| *byte == 0)
    };
    let careless: Vec<_> = steps.into_iter().filter(|step| !breaks(step)).collect();
    let (_, lost) = renewal.cuts(&careless)?;
    ensure!(lost > 0, "a wrong order of writes was not noticed");
    Ok(())
}

/// QEMU's boot ROM looks at the first place alone. There the spare first stage is put, as the real one leaves it
/// in memory, and the U-Boot that belongs to the first place is erased.
fn the_spare_boot_loader_starts(image: &Path) -> Result<()> {
    let scratch = Scratch::of(image)?;
    let loader = brought(image)?;
    let (first, spare) = (loader.copy(Place::First), loader.copy(Place::Spare));
    let card = File::options().write(true).open(scratch.path())?;
    card.write_all_at(&spare.first_stage, first.at)?;
    card.write_all_at(&[FROM_THE_SPARE_PLACE], first.at.saturating_add(BOOT_MEDIA))?;
    card.write_all_at(&vec![0; loader.u_boot.len()], first.u_boot_at)?;
    let machine = Machine::new(scratch.path(), 64);
    let mut guest = machine.start(None)?;
    guest.wait("init: slot a committed", BOOT)?;
    // The first copy, which the boot ROM would not have taken, comes back.
    guest.wait(&format!("the boot loader's first {WRITTEN}"), ANSWER)?;
    ensure!(
        !guest.console.text().contains(&format!("spare {WRITTEN}")),
        "{}",
        guest.console.tail()
    );
    ensure!(
        disk::read_boot_loader(&guest.disk())? == disk::read_boot_loader(image)?,
        "the card is not as the image has it"
    );
    machine.start_again(guest)?.wait("hello: heartbeat 1", BOOT)?;
    Ok(())
}
