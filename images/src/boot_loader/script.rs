//! The script that the boot loader runs: it picks a slot, counts its try down, saves, and boots.
//!
//! The script carries out [`BootState::choose`](holdfast_lifecycle::slots::BootState::choose) in U-Boot's shell.
//! Where that shell replaces `$name` by a value, it parses the result once more, and a value with
//! the right control character in it ends the quotes around it and goes on as commands. So nothing
//! that was read from the medium is ever expanded: the five variables are compared in memory
//! (`itest.s`) and set anew to what they were found equal to, and what is not equal to anything
//! expected makes the copy invalid.

use super::commands::Script;
use super::measuring::{self, Measuring};
use crate::board::Board;
use crate::disk::{Layout, SECTOR_BYTES};
use holdfast_lifecycle::slots::{COPY_BYTES, Slot};
use std::fmt::Write;

/// Codes that a halted boot loader prints, as `halted, code N`.
pub mod halt {
    /// The medium does not answer.
    pub const NO_MEDIUM: u32 = 1;
    /// Both slots have used up their tries, the last ones too.
    pub const EXHAUSTED: u32 = 2;
    /// The boot state cannot be saved, and no committed slot boots.
    pub const CANNOT_SAVE: u32 = 3;
}

/// Places on the medium, in sectors, and in memory.
#[derive(Debug, Clone, Copy)]
struct Places {
    copies: [u64; 2],
    boot: [u64; 2],
    /// Longest FIT that is read.
    room: u64,
    memory: u32,
    measuring: Option<Measuring>,
}

/// Returns the whole script for a board and a disk.
#[must_use]
pub fn write(board: &Board, layout: &Layout) -> Option<String> {
    let addresses = &board.addresses;
    let sector =
        |name: &str| layout.partition(name).ok().map(|partition| partition.start / SECTOR_BYTES);
    let mut script = Script::default();
    let places = Places {
        copies: layout.boot_state_copies().ok()?.map(|start| start / SECTOR_BYTES),
        boot: [sector("boot-a")?, sector("boot-b")?],
        room: layout.partition("boot-a").ok()?.length.min(addresses.fit_room()),
        memory: addresses.fit,
        measuring: measuring::define(&mut script, board),
    };
    define_halt(&mut script, board.boot_loader.watchdog.as_deref());
    define_copies(&mut script, &places);
    define_choice(&mut script);
    define_saving(&mut script, &places);
    for slot in Slot::ALL {
        define_slot(&mut script, slot, &board.name, &places);
    }
    let medium = board.boot_loader.medium;
    let begin = places.measuring.map(|measuring| format!("run {}\n", measuring.begin));
    let begin = begin.unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(
        script.text,
        "echo holdfast: boot loader\n\
         mmc list\n\
         if mmc dev {medium}; then setenv code 0; else setenv code 1; setenv why no medium; run halt; fi\n\
         run load\n\
         {begin}\
         while test 1 = 1; do run choose; run save; if test $saved = 1; then run boot; else run unsaved; \
         fi; done\n"
    );
    Some(script.text)
}

/// Halting is for good: only somebody who switches the device off and on starts it again. U-Boot's driver model counts
/// the time between two pets in 32 bits of microseconds and pets no more after 71 minutes, so that its watchdog is stopped.
fn define_halt(script: &mut Script, watchdog: Option<&str>) {
    let stop = watchdog.map(|name| format!("if wdt dev {name}; then wdt stop; fi"));
    let mut lines = vec!["echo holdfast: halted, code $code: $why"];
    lines.extend(stop.as_deref());
    lines.push("while test 1 = 1; do sleep 3600; done");
    script.define("halt", &lines);
}

/// Returns the address that copy `index` of the boot state is read to.
fn copy_at(places: &Places, index: usize) -> u32 {
    let offset = if index == 0 { 0 } else { COPY_BYTES };
    places.memory.saturating_add(u32::try_from(offset).unwrap_or(0))
}

/// Reading both copies and taking over the younger one.
fn define_copies(script: &mut Script, places: &Places) {
    const VARIABLES: [(&str, &[&str]); 5] = [
        ("good_a", &["0", "1"]),
        ("good_b", &["0", "1"]),
        ("slot", &["a", "b"]),
        ("tries_a", &["0", "1", "2", "3"]),
        ("tries_b", &["0", "1", "2", "3"]),
    ];
    for index in [0, 1] {
        let base = copy_at(places, index);
        // `take_N` sets the variables; each is found at the place where it must be, or not at all.
        let mut at = base.saturating_add(5);
        let mut takes = Vec::new();
        for (name, values) in VARIABLES {
            let mut text = String::new();
            for value in values {
                let word = if text.is_empty() { "if" } else { "elif" };
                let _ = write!(
                    text,
                    "{word} itest.s *{at:x} == {name}={value}; then setenv {name} {value}; "
                );
            }
            let _ = write!(text, "else setenv valid 0; fi");
            takes.push(text);
            at = at.saturating_add(u32::try_from(name.len()).unwrap_or(0)).saturating_add(3);
        }
        // Nothing but zeros may follow.
        takes.push(format!("if itest.b *{at:x} != 0; then setenv valid 0; fi"));
        let takes: Vec<&str> = takes.iter().map(String::as_str).collect();
        script.define(&format!("take_{index}"), &takes);
        let sector = places.copies.get(index).copied().unwrap_or(0);
        let load = format!(
            "if mmc read {base:x} {sector:x} 1; then if env import -c {base:x} {COPY_BYTES:x} slot \
             tries_a tries_b good_a good_b; then setenv valid 1; run take_{index}; fi; fi"
        );
        script.define(&format!("load_{index}"), &["setenv valid 0", &load]);
    }
    let age = |index| copy_at(places, index).saturating_add(4);
    let (first, second) = (age(0), age(1));
    script.define(
        "younger",
        &[
            "setenv young 0",
            &format!("if itest.b *{second:x} -gt *{first:x}; then setenv young 1; fi"),
            &format!(
                "if itest.b *{first:x} == ff; then if itest.b *{second:x} == 0; then setenv young 1; \
                 fi; fi"
            ),
            &format!(
                "if itest.b *{second:x} == ff; then if itest.b *{first:x} == 0; then setenv young 0; \
                 fi; fi"
            ),
        ],
    );
    script.define(
        "unknown",
        &[
            "echo holdfast: no valid boot state",
            "setenv young 1",
            "setenv age 1",
            "setenv slot a",
            "setenv tries_a 1",
            "setenv tries_b 1",
            "setenv good_a 0",
            "setenv good_b 0",
            "setenv boot_unsaved_a 1",
            "setenv boot_unsaved_b 1",
        ],
    );
    script.define(
        "known",
        &[
            "run load_$young",
            "run age_$young",
            "setenv boot_unsaved_a $good_a",
            "setenv boot_unsaved_b $good_b",
        ],
    );
    script.define("age_0", &[&format!("setexpr.b age *{first:x} + 1")]);
    script.define("age_1", &[&format!("setexpr.b age *{second:x} + 1")]);
    script.define(
        "load",
        &[
            "run load_0",
            "setenv valid_0 $valid",
            "run load_1",
            "setenv valid_1 $valid",
            "if test $valid_0$valid_1 = 11; then run younger; run known; \
             elif test $valid_0 = 1; then setenv young 0; run known; \
             elif test $valid_1 = 1; then setenv young 1; run known; else run unknown; fi",
            "setenv first_unsaved $slot",
            "setenv saved 1",
        ],
    );
}

/// Defines the commands that choose a slot and count its try down.
fn define_choice(script: &mut Script) {
    for slot in Slot::ALL {
        let (this, other) = (slot.letter(), slot.other().letter());
        script.define(
            &format!("choose_{this}"),
            &[&format!(
                "if test $tries_{this} != 0; then setenv try {this}; \
                 elif test $tries_{other} != 0; then setenv try {other}; \
                 elif test $good_a$good_b = 00; then setenv try none; run last; \
                 elif test $good_{this} = 1; then setenv try {this}; run last; \
                 else setenv try {other}; setenv slot {other}; run last; fi"
            )],
        );
        script.define(
            &format!("count_{this}"),
            &[&format!(
                "if test $tries_{this} = 3; then setenv tries_{this} 2; \
                 elif test $tries_{this} = 2; then setenv tries_{this} 1; \
                 else setenv tries_{this} 0; fi"
            )],
        );
    }
    script.define("count_none", &["echo holdfast: both slots are exhausted"]);
    script.define(
        "last",
        &["setenv tries_a 1", "setenv tries_b 1", "setenv good_a 0", "setenv good_b 0"],
    );
    script.define("choose", &["run choose_$slot", "run count_$try"]);
}

/// Saving to the older copy, and what is done when that fails.
fn define_saving(script: &mut Script, places: &Places) {
    let image = copy_at(places, 1).saturating_add(0x200);
    let back = image.saturating_add(0x200);
    let (age, bytes) = (image.saturating_add(4), COPY_BYTES);
    for (index, sector) in places.copies.iter().enumerate() {
        let this = format!(
            "if mmc write {image:x} {sector:x} 1; then mw.b {back:x} 0 {bytes:x}; \
             if mmc read {back:x} {sector:x} 1; then if cmp.b {image:x} {back:x} {bytes:x}; \
             then setenv saved 1; setenv young {index}; fi; fi; fi"
        );
        script.define(&format!("write_{index}"), &[&this]);
    }
    // One that has failed is not tried again before the next start.
    script.define(
        "save",
        &[
            "if test $saved = 1; then setenv saved 0; run export; fi",
            "if test $saved = 1; then setexpr age $age + 1; fi",
        ],
    );
    script.define(
        "export",
        &[&format!(
            "if env export -c -s {bytes:x} {image:x} good_a good_b slot tries_a tries_b; then \
             mw.b {age:x} $age; if test $young = 0; then run write_1; else run write_0; fi; fi"
        )],
    );
    script.define(
        "unsaved",
        &[
            "echo holdfast: the boot state cannot be saved",
            "if test $first_unsaved = a; then setenv second_unsaved b; \
             else setenv second_unsaved a; fi",
            "run unsaved_$first_unsaved",
            "run unsaved_$second_unsaved",
            "setenv code 3",
            "setenv why no committed slot boots",
            "run halt",
        ],
    );
    script.define("boot", &["run boot_$try"]);
    script
        .define("boot_none", &["setenv code 2", "setenv why both slots are exhausted", "run halt"]);
}

/// Booting one slot; comes back when it does not verify.
fn define_slot(script: &mut Script, slot: Slot, board: &str, places: &Places) {
    let letter = slot.letter();
    let sector = match slot {
        Slot::A => places.boot[0],
        Slot::B => places.boot[1],
    };
    let Places { memory, room, measuring, .. } = places;
    // The length stands in the FIT itself. It is compared as a signed number, so both ends count.
    script.define(
        &format!("read_{letter}"),
        &[
            "setenv fit 0",
            &format!(
                "if mmc read {memory:x} {sector:x} 1; then if fdt addr {memory:x}; then \
                 fdt header get length totalsize; if itest $length -gt 0; then \
                 if itest $length -le {room:x}; then setexpr sectors $length + 1ff; \
                 setexpr sectors $sectors / 200; \
                 if mmc read {memory:x} {sector:x} $sectors; then setenv fit 1; fi; fi; fi; fi; fi"
            ),
        ],
    );
    // What is measured is what lies in memory, before it is verified. What was verified and copied to where the kernel
    // finds it is told of the TPM, so that `bootm` is called by its steps; each is part of one command, which keeps the name
    // of the configuration for as long as the steps need it.
    let boot = match measuring {
        None => format!("bootm {memory:x}#slot-{letter}"),
        Some(Measuring { measure, tell, .. }) => format!(
            "run {measure}; if bootm start {memory:x}#slot-{letter}; then run {tell}; \
             if bootm loados; then if bootm prep; then bootm go; fi; fi; fi"
        ),
    };
    script.define(
        &format!("start_{letter}"),
        &[&format!(
            "if fdt addr {memory:x}; then \
             if fdt get addr of_board /configurations/slot-{letter} compatible; then \
             if itest.s *$of_board == {}; then {boot}; \
             else echo holdfast: for another board; fi; fi; fi",
            crate::board::compatible(board)
        )],
    );
    script.define(
        &format!("boot_{letter}"),
        &[
            &format!("echo holdfast: slot {letter}, $tries_{letter} tries left behind this one"),
            &format!("run read_{letter}"),
            &format!("if test $fit = 1; then run start_{letter}; fi"),
            &format!("echo holdfast: slot {letter} does not verify"),
            &format!("setenv tries_{letter} 0"),
        ],
    );
    script.define(
        &format!("unsaved_{letter}"),
        &[&format!("if test $boot_unsaved_{letter} = 1; then run boot_{letter}; fi")],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_is_not_petted_for_ever_is_stopped_before_a_halt() {
        let halt = |watchdog| {
            let mut script = Script::default();
            define_halt(&mut script, watchdog);
            script.text
        };
        let (without, with) = (halt(None), halt(Some("watchdog@1c20ca0")));
        assert!(!without.contains("wdt"), "{without}");
        let stop = with.find("; if wdt dev watchdog@1c20ca0; then wdt stop; fi; while ");
        assert!(stop > with.find("halted, code"), "{with}");
    }
}
