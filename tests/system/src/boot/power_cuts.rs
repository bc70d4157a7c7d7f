//! Power lost at any moment of a stage-try-commit cycle, and bytes flipped while a device lies in
//! a drawer.
//!
//! The cycle is run once by real guests whose every write QEMU logs; the boot loader's saves are
//! among them. From that log, disks are made as a cut would leave them. Each is judged by the logic
//! of `os/lifecycle`, and some are booted.
//!
//! An SD card has no flush that the boot loader or the kernel could ask for: what it has
//! acknowledged it keeps. The model here is harsher: of the last [`WINDOW`] writes since a flush any
//! may be lost, in any combination, and one may be torn between two sectors.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::scratch::Scratch;
use crate::harness::stager::{self, Release};
use crate::harness::suite::{Suite, check, checks};
use anyhow::{Context, Result, bail, ensure};
use holdfast_images::disk::Layout;
use holdfast_images::show;
use holdfast_lifecycle::slots::{BootState, COPY_BYTES, Choice, Copies, Slot};
use holdfast_qemu::machine::{Guest, Machine};
use holdfast_qemu::write_log::Step;
use std::collections::HashMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SECTOR: usize = 512;
/// Writes that may be under way at once.
const WINDOW: usize = 16;
/// Boots within which a device must have come to a whole slot.
const BOOTS: usize = 10;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    let image = move || artefacts.image("hello");
    let effort = artefacts.effort;
    suite.share(
        move || Cycle::record(artefacts, &image()),
        checks![
            no_cut_of_power_costs_the_device,
            a_wrong_order_of_writes_is_noticed,
            disks_as_cuts_leave_them_boot
        ],
    );
    check!(suite, flipped_bytes_boot_a_verified_slot_or_halt(&image(), effort.flips));
}

/// A source of numbers that are the same in every run: xorshift64.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(1);
        usize::try_from(self.next().checked_rem(end).unwrap_or(0)).unwrap_or(0)
    }
}

/// Everything that was written in a cycle, and what it was written on.
pub(crate) struct Cycle {
    pub(crate) artefacts: Artefacts,
    scratch: Scratch,
    base: Vec<u8>,
    pub(crate) steps: Vec<Step>,
    /// The steps of the stage among them.
    stage: Range<usize>,
    places: Places,
    /// Writes that may be under way at once.
    window: usize,
}

/// Where things lie, and what a whole slot holds.
pub(crate) struct Places {
    copies: [u64; 2],
    /// Ranges of the disk in slots A and B, with what belongs there.
    slots: [Vec<(u64, Vec<u8>)>; 2],
}

impl Cycle {
    fn record(artefacts: &Artefacts, image: &Path) -> Result<Self> {
        let release = Release::of(image)?;
        let scratch = Scratch::of(image)?;
        let base = fs::read(scratch.path())?;
        let machine =
            Machine { counted: true, log_writes: true, ..Machine::new(scratch.path(), 64) };
        let mut guest = machine.start(None)?;
        guest.wait("init: slot a committed", BOOT)?;
        let mut steps = guest.written()?;
        ensure!(steps.len() > 10, "only {} writes were logged", steps.len());
        let begin = steps.len();
        let staged = stager::steps(&guest.disk(), Slot::A, &release)?;
        stager::apply(&guest.disk(), &staged)?;
        steps.extend(staged);
        let stage = begin..steps.len();
        let mut guest = machine.start_again(guest)?;
        guest.wait("init: slot b committed", BOOT)?;
        guest.wait("hello: heartbeat 8", BOOT)?;
        steps.extend(guest.written()?);
        let layout = Layout::read(&mut File::open(image)?)?;
        let places = Places::find(&layout, [&release, &release])?;
        let artefacts = artefacts.clone();
        let cycle = Self { artefacts, scratch, base, steps, stage, places, window: WINDOW };
        cycle.check_log(&guest.disk())?;
        Ok(cycle)
    }

    /// What a device has written that did all of it by itself, on a card that keeps what it has acknowledged:
    /// of the last write alone may a part be missing. `releases` are those of slots A and B.
    pub(crate) fn of_device(
        artefacts: &Artefacts,
        image: &Path,
        releases: [&Release; 2],
        guest: &mut Guest,
    ) -> Result<Self> {
        let scratch = Scratch::of(image)?;
        let base = fs::read(scratch.path())?;
        let steps = guest.written()?;
        let places = Places::find(&Layout::read(&mut File::open(image)?)?, releases)?;
        let (artefacts, stage) = (artefacts.clone(), 0..steps.len());
        let cycle = Self { artefacts, scratch, base, steps, stage, places, window: 1 };
        cycle.check_log(&guest.disk())?;
        Ok(cycle)
    }

    /// Where a slot changes from half written to on trial to tried.
    fn end_of_stage(&self) -> Range<usize> {
        let begin = self.stage.end.saturating_sub(self.window).max(self.stage.start);
        begin..self.stage.end.saturating_add(4).min(self.steps.len())
    }

    /// Makes the scratch disk what a cut leaves of it, and gives its path.
    pub(crate) fn disk_after(&self, cut: &Cut) -> Result<&Path> {
        let base = Medium::new(&self.base);
        let left = cut.leave(&base, &self.steps, 0);
        let file = File::options().write(true).open(self.scratch.path())?;
        file.write_all_at(&self.base, 0)?;
        for (sector, bytes) in left.all() {
            file.write_all_at(bytes, u64::try_from(sector.saturating_mul(SECTOR))?)?;
        }
        Ok(self.scratch.path())
    }

    /// A cut, for people: with the write that it tears.
    pub(crate) fn describe(&self, cut: &Cut) -> String {
        let torn = cut.torn.and_then(|(index, count)| match self.steps.get(index)? {
            Step::Write { at, bytes } => {
                Some(format!("{count} sectors of {} bytes at {at} came through", bytes.len()))
            }
            Step::Flush => None,
        });
        format!("{cut:?}: {}", torn.unwrap_or_default())
    }

    /// A cut anywhere.
    pub(crate) fn cut(&self, numbers: &mut Numbers) -> Cut {
        Cut::random(&self.steps, &(0..self.steps.len()), self.window, numbers)
    }

    /// The log is whole: replayed, it makes the very disk that the guests have left.
    fn check_log(&self, disk: &Path) -> Result<()> {
        let replayed = Medium::after(&self.base, &self.steps);
        let found = fs::read(disk)?;
        for (sector, bytes) in found.chunks(SECTOR).enumerate() {
            ensure!(replayed.sector(sector) == bytes, "the log lacks a write to sector {sector}");
        }
        Ok(())
    }
}

impl Places {
    fn find(layout: &Layout, [a, b]: [&Release; 2]) -> Result<Self> {
        let slot = |slot: Slot, release: &Release| -> Result<Vec<(u64, Vec<u8>)>> {
            let start = |name: &str| -> Result<u64> {
                Ok(layout.partition(&format!("{name}-{}", slot.letter()))?.start)
            };
            Ok(vec![(start("boot")?, release.boot.clone()), (start("root")?, release.root.clone())])
        };
        Ok(Self {
            copies: layout.boot_state_copies()?,
            slots: [slot(Slot::A, a)?, slot(Slot::B, b)?],
        })
    }

    /// What must lie in a sector of a slot, when it lies in one.
    fn expected(&self, sector: usize) -> Option<(Slot, &[u8])> {
        let at = u64::try_from(sector.checked_mul(SECTOR)?).ok()?;
        Slot::ALL.into_iter().zip(&self.slots).find_map(|(slot, parts)| {
            parts.iter().find_map(|(start, bytes)| {
                let offset = usize::try_from(at.checked_sub(*start)?).ok()?;
                Some((slot, bytes.get(offset..offset.checked_add(SECTOR)?)?))
            })
        })
    }
}

/// A disk: what it was, and the sectors that were written since.
struct Medium<'a> {
    base: &'a [u8],
    written: HashMap<usize, &'a [u8]>,
}

impl<'a> Medium<'a> {
    fn new(base: &'a [u8]) -> Self {
        Self { base, written: HashMap::new() }
    }

    fn after(base: &'a [u8], steps: &'a [Step]) -> Self {
        let mut medium = Self::new(base);
        steps.iter().for_each(|step| medium.written.extend(sectors(step, usize::MAX)));
        medium
    }

    fn sector(&self, sector: usize) -> &'a [u8] {
        self.written.get(&sector).copied().unwrap_or_else(|| {
            let start = sector.saturating_mul(SECTOR);
            self.base.get(start..start.saturating_add(SECTOR)).unwrap_or_default()
        })
    }
}

/// The first `count` sectors of a write, with their numbers.
fn sectors(step: &Step, count: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let (at, bytes) = match step {
        Step::Write { at, bytes } => (*at, bytes.as_slice()),
        Step::Flush => (0, &[][..]),
    };
    let first = usize::try_from(at).unwrap_or(0) / SECTOR;
    (first..).zip(bytes.chunks(SECTOR)).take(count)
}

/// A disk as a cut leaves it: one that is certain, and what came through of the last writes.
struct Left<'m, 'a> {
    certain: &'m Medium<'a>,
    last: HashMap<usize, &'a [u8]>,
}

impl<'a> Left<'_, 'a> {
    fn sector(&self, sector: usize) -> &'a [u8] {
        self.last.get(&sector).copied().unwrap_or_else(|| self.certain.sector(sector))
    }

    fn copies(&self, places: &Places) -> Copies {
        let copy = |start: u64| self.sector(usize::try_from(start).unwrap_or(0) / SECTOR);
        let [first, second] = places.copies;
        Copies::read(
            copy(first).get(..COPY_BYTES).unwrap_or_default(),
            copy(second).get(..COPY_BYTES).unwrap_or_default(),
        )
    }

    fn all(&self) -> impl Iterator<Item = (&usize, &&'a [u8])> {
        self.certain.written.iter().chain(&self.last)
    }
}

/// A cut: after so many steps, with these of the last writes lost, and one torn.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    after: usize,
    lost: Vec<usize>,
    /// Index of a step, and how many of its sectors are there.
    torn: Option<(usize, usize)>,
    window: usize,
}

impl Cut {
    /// A cut behind one of the steps in `range`.
    fn random(steps: &[Step], range: &Range<usize>, window: usize, numbers: &mut Numbers) -> Self {
        let after = range.start.saturating_add(numbers.below(range.len())).saturating_add(1);
        let under_way: Vec<usize> = (0..after)
            .rev()
            .take_while(|index| steps.get(*index) != Some(&Step::Flush))
            .take(window)
            .collect();
        let lost: Vec<usize> =
            under_way.iter().copied().filter(|_| numbers.next() & 1 == 1).collect();
        let torn = (!under_way.is_empty()).then(|| {
            let index = under_way.get(numbers.below(under_way.len())).copied().unwrap_or(0);
            let sectors = match steps.get(index) {
                Some(Step::Write { bytes, .. }) => bytes.len() / SECTOR,
                _ => 0,
            };
            (index, numbers.below(sectors.saturating_add(1)))
        });
        Self { after, lost, torn, window }
    }

    /// The disk that it leaves. `certain` is the disk before step `from`.
    fn leave<'m, 'a>(
        &self,
        certain: &'m Medium<'a>,
        steps: &'a [Step],
        from: usize,
    ) -> Left<'m, 'a> {
        let mut last = HashMap::new();
        for (index, step) in steps.iter().enumerate().take(self.after).skip(from) {
            match self.torn {
                Some((torn, count)) if torn == index => last.extend(sectors(step, count)),
                _ if self.lost.contains(&index) => {}
                _ => last.extend(sectors(step, usize::MAX)),
            }
        }
        Left { certain, last }
    }

    /// Steps before this one are on the medium, whatever the cut.
    fn certain(&self) -> usize {
        self.after.saturating_sub(self.window.saturating_mul(2))
    }
}

/// How many sectors of each slot are not as the release has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrong([usize; 2]);

impl Wrong {
    /// Takes note that a sector changes.
    fn change(&mut self, places: &Places, sector: usize, before: &[u8], after: &[u8]) {
        if let Some((slot, expected)) = places.expected(sector) {
            let [a, b] = &mut self.0;
            let count = if slot == Slot::A { a } else { b };
            match (before == expected, after == expected) {
                (true, false) => *count = count.saturating_add(1),
                (false, true) => *count = count.saturating_sub(1),
                _ => {}
            }
        }
    }

    fn whole(self) -> [bool; 2] {
        self.0.map(|count| count == 0)
    }
}

/// What must hold of every disk that a cut can leave.
fn judge(state: Option<BootState>, whole: [bool; 2]) -> Result<()> {
    let is_whole = |slot: Slot| if slot == Slot::A { whole[0] } else { whole[1] };
    if let Some(state) = state {
        for slot in Slot::ALL {
            let known = state.of(slot);
            ensure!(!known.good || is_whole(slot), "{slot:?} counts as good: {state:?}");
            // While something is good, a try is only ever given to a whole slot.
            let last_round = !state.a.good && !state.b.good;
            ensure!(
                known.tries == 0 || is_whole(slot) || last_round,
                "{slot:?} has tries, but is not whole: {state:?}"
            );
        }
    }
    let mut state = state.unwrap_or(BootState::unknown());
    for _ in 0..BOOTS {
        let (choice, next) = state.choose();
        state = next;
        if let Choice::Boot(slot) = choice {
            if is_whole(slot) {
                return Ok(());
            }
            state = state.does_not_verify(slot);
        }
    }
    bail!("no whole slot is booted")
}

/// Judges `count` cuts of these steps, those anywhere and those at the end of the stage in turn, and
/// gives what was found wrong.
fn judged(cycle: &Cycle, steps: &[Step], count: usize) -> Result<Vec<String>> {
    let mut numbers = Numbers(SEED);
    let ranges = [0..steps.len(), cycle.end_of_stage()];
    let cuts = ranges.iter().cycle().take(count);
    let random = |range| Cut::random(steps, range, cycle.window, &mut numbers);
    let mut cuts: Vec<Cut> = cuts.map(random).collect();
    cuts.sort_by_key(|cut| cut.after);
    let base = Medium::new(&cycle.base);
    // Of the slots as they are at the start: A whole, B empty.
    let slot_sectors = |slot: usize| -> usize {
        let parts = cycle.places.slots.get(slot).map_or(&[][..], Vec::as_slice);
        parts
            .iter()
            .flat_map(|(start, bytes)| {
                let first = usize::try_from(*start).unwrap_or(0) / SECTOR;
                (first..).zip(bytes.chunks(SECTOR))
            })
            .filter(|(sector, expected)| base.sector(*sector) != *expected)
            .count()
    };
    let mut wrong = Wrong([slot_sectors(0), slot_sectors(1)]);
    ensure!(wrong.0[0] == 0 && wrong.0[1] > 100, "the cycle begins with wrong sectors: {wrong:?}");
    let mut certain = base;
    let mut position = 0;
    let mut faults = Vec::new();
    for cut in cuts {
        while position < cut.certain() {
            for (sector, bytes) in
                steps.get(position).into_iter().flat_map(|s| sectors(s, usize::MAX))
            {
                wrong.change(&cycle.places, sector, certain.sector(sector), bytes);
                certain.written.insert(sector, bytes);
            }
            position = position.saturating_add(1);
        }
        let left = cut.leave(&certain, steps, position);
        let mut wrong = wrong;
        for (sector, bytes) in &left.last {
            wrong.change(&cycle.places, *sector, certain.sector(*sector), bytes);
        }
        let state = left.copies(&cycle.places).state();
        if let Err(error) = judge(state, wrong.whole()) {
            faults.push(format!("{error:#} ({cut:?})"));
        }
    }
    Ok(faults)
}

pub(crate) const SEED: u64 = 0x5eed_0fc0_ffee;

fn no_cut_of_power_costs_the_device(cycle: &mut Cycle) -> Result<()> {
    judge_all(cycle)
}

/// Judges as many cuts as the effort names; none may cost the device.
pub(crate) fn judge_all(cycle: &Cycle) -> Result<()> {
    let count = cycle.artefacts.effort.cuts;
    let faults = judged(cycle, &cycle.steps, count)?;
    ensure!(faults.is_empty(), "{} of {count} cuts: {:#?}", faults.len(), faults.first());
    Ok(())
}

/// The judge has teeth: two mistakes that a writer of slots could make.
fn a_wrong_order_of_writes_is_noticed(cycle: &mut Cycle) -> Result<()> {
    let stage = cycle.steps.get(cycle.stage.clone()).context("no stage")?;
    // Announced, flushed, then: on trial before the slot is written.
    let mut early = stage.to_vec();
    let flush = early.pop().context("no flush")?;
    let trial = early.pop().context("no save")?;
    early.insert(2, trial);
    early.push(flush);
    // On trial without waiting for the slot to be on the medium.
    let mut hasty = stage.to_vec();
    hasty.remove(hasty.len().saturating_sub(3));
    for (what, stage) in [("early", early), ("hasty", hasty)] {
        let mut steps = cycle.steps.clone();
        steps.splice(cycle.stage.clone(), stage);
        let faults = judged(cycle, &steps, cycle.artefacts.effort.cuts)?;
        ensure!(!faults.is_empty(), "nothing was noticed of the {what} writer");
    }
    Ok(())
}

fn disks_as_cuts_leave_them_boot(cycle: &mut Cycle) -> Result<()> {
    let mut numbers = Numbers(SEED);
    for number in 0..cycle.artefacts.effort.booted_cuts {
        let all = 0..cycle.steps.len();
        let range = if number % 2 == 0 { all } else { cycle.end_of_stage() };
        let cut = Cut::random(&cycle.steps, &range, cycle.window, &mut numbers);
        cycle.disk_after(&cut)?;
        let machine = Machine { counted: true, ..Machine::new(cycle.scratch.path(), 64) };
        let mut guest = machine.start(None)?;
        guest.wait("init: slot [ab] committed", BOOT).with_context(|| format!("{cut:?}"))?;
        let state = show::read_boot_state(&guest.disk())?.state().context("no boot state")?;
        ensure!(state.of(state.slot).good, "{cut:?} ends in {state:?}");
    }
    Ok(())
}

/// Both slots good; then some bytes of one partition change.
fn flipped_bytes_boot_a_verified_slot_or_halt(image: &Path, rounds: usize) -> Result<()> {
    let release = Release::of(image)?;
    let mut numbers = Numbers(SEED);
    let names = ["bootstate", "boot-a", "root-a", "boot-b", "root-b", "state", "apps", "data"];
    for name in names.iter().cycle().take(names.len().saturating_mul(rounds)) {
        let scratch = Scratch::of(image)?;
        stager::stage(scratch.path(), Slot::A, &release)?;
        let used = show::read_partition(scratch.path(), name)?;
        // Where something lies; elsewhere a flip changes nothing that anybody reads.
        let used: Vec<usize> = (0..used.len()).filter(|at| used.get(*at) != Some(&0)).collect();
        let (file, partition) = scratch.partition(name)?;
        let mut changed = Vec::new();
        for _ in 0..16 {
            let at = used.get(numbers.below(used.len())).copied().unwrap_or(0);
            let place = partition.start.saturating_add(u64::try_from(at)?);
            let mut byte = [0];
            file.read_exact_at(&mut byte, place)?;
            byte[0] ^= 1u8.checked_shl(u32::try_from(numbers.below(8))?).unwrap_or(1);
            file.write_all_at(&byte, place)?;
            changed.push(at);
        }
        drop(file);
        let machine = Machine { counted: true, ..Machine::new(scratch.path(), 64) };
        let mut guest = machine.start(None)?;
        let end = guest
            .wait(r"init: slot [ab] committed|holdfast: halted, code \d", BOOT.saturating_mul(2))
            .with_context(|| format!("{name}, bytes {changed:?}"))?;
        // A changed kernel or device tree is not the slot that is committed.
        if let Some(slot) = name.strip_prefix("boot-") {
            let committed = end.contains(&format!("slot {slot} committed"));
            ensure!(!committed, "slot {slot} runs with changed bytes {changed:?}");
        }
    }
    Ok(())
}
