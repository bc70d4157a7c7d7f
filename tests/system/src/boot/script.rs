//! The boot loader's script decides as `BootState::choose` does.
//!
//! Both slots hold nothing that verifies, so one power-on takes the script from a state through every
//! choice that it can lead to, down to the halt.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::BOOT;
use crate::harness::scratch::Scratch;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_images::boot_loader::script::halt;
use holdfast_images::show;
use holdfast_lifecycle::slots::{self, BootState, Choice, Slot, SlotState, TRIES};
use std::os::unix::fs::FileExt;
use std::path::Path;

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, the_boot_script_chooses_as_os_core_does(artefacts));
}

fn the_boot_script_chooses_as_os_core_does(artefacts: &Artefacts) -> Result<()> {
    let image = artefacts.image("hello");
    let states = all_states();
    let step = states.len().checked_div(artefacts.effort.boot_states).unwrap_or(1);
    // Ages around the places where they wrap, and both copies as the one that holds.
    let ages = [(1, 0), (0, 255), (255, 254), (7, 9), (255, 0), (3, 3)];
    for (state, ages) in states.into_iter().step_by(step.max(1)).zip(ages.into_iter().cycle()) {
        decides(&image, state, ages).with_context(move || format!("{state:?}, ages {ages:?}"))?;
    }
    Ok(())
}

fn all_states() -> Vec<BootState> {
    let of_slot: Vec<SlotState> =
        (0..=TRIES).flat_map(|tries| [false, true].map(|good| SlotState { tries, good })).collect();
    let mut states = Vec::new();
    for a in &of_slot {
        for b in &of_slot {
            states.extend(Slot::ALL.map(|slot| BootState { slot, a: *a, b: *b }));
        }
    }
    states
}

/// The choices down to the halt, with the tries that are left behind each, and the state at the end.
fn expected(mut state: BootState) -> (Vec<(Slot, u8)>, BootState, u8) {
    let mut choices = Vec::new();
    let mut saves = 0u8;
    loop {
        let (choice, next) = state.choose();
        saves = saves.wrapping_add(1);
        match choice {
            Choice::Boot(slot) => {
                choices.push((slot, next.of(slot).tries));
                state = next.does_not_verify(slot);
            }
            Choice::Halt => return (choices, next, saves),
        }
    }
}

fn decides(image: &Path, state: BootState, ages: (u8, u8)) -> Result<()> {
    let scratch = Scratch::of(image)?;
    let (file, partition) = scratch.partition("bootstate")?;
    let other = BootState { slot: state.slot.other(), a: state.b, b: state.a };
    let first_holds =
        slots::Copies::read(&slots::copy(&state, ages.0), &slots::copy(&state, ages.1)).younger()
            == Some(0);
    let (first, second) = if first_holds { (state, other) } else { (other, state) };
    file.write_all_at(&slots::copy(&first, ages.0), partition.start)?;
    let [_, half] =
        slots::copy_offsets(partition.length).map(|at| partition.start.saturating_add(at));
    file.write_all_at(&slots::copy(&second, ages.1), half)?;
    let (mut file, partition) = scratch.partition("boot-a")?;
    partition.replace(&mut file, scratch.path(), "nothing", &[])?;
    let mut guest = scratch.start()?;
    guest.wait(&format!("holdfast: halted, code {}", halt::EXHAUSTED), BOOT)?;
    let text = guest.console.text();
    let said: Vec<(Slot, u8)> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("holdfast: slot ")?.split_once(" tries left")?.0.split_once(", ")
        })
        .filter_map(|(slot, tries)| Some((Slot::from_letter(slot)?, tries.parse().ok()?)))
        .collect();
    let (choices, last, saves) = expected(state);
    ensure!(said == choices, "the script chose {said:?}, not {choices:?}");
    let copies = show::read_boot_state(&guest.disk())?;
    ensure!(copies.state() == Some(last), "the script saved {:?}, not {last:?}", copies.state());
    let age = copies.younger().and_then(|younger| copies.copies.get(younger)?.ok()).map(|c| c.1);
    let before = if first_holds { ages.0 } else { ages.1 };
    ensure!(age == Some(before.wrapping_add(saves)), "the age is {age:?} behind {saves} saves");
    Ok(())
}
