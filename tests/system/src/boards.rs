//! What the machines of QEMU lack of the boards that they stand for, and the checks that need it.

use crate::boot::integrity::ASLEEP;
use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT};
use crate::harness::suite::{Lack, Suite, check, checks};
use crate::sandbox::crowd::longest_of;
use anyhow::{Result, ensure};
use holdfast_images::root::Root;
use holdfast_images::variant;
use holdfast_qemu::machine::{Guest, Machine};
use regex::Regex;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// What the machine of `board` lacks. `docs/boards.md` says the same.
pub(crate) fn lacking(board: &str) -> &'static [Lack] {
    match board {
        "orangepi-pc" => ORANGEPI_PC,
        _ => &[],
    }
}

const ORANGEPI_PC: &[Lack] = &[
    (
        "a watchdog, by which the kernel restarts the board and the hardware resets it",
        &[
            "a_killed_init_reboots",
            "a_panicking_init_reboots",
            "an_init_that_hangs_is_reset",
            "a_kernel_that_hangs_is_reset",
            "a_flipped_byte_in_the_root_file_system_reboots",
            "flipped_bytes_boot_a_verified_slot_or_halt",
            "an_init_that_is_killed_uses_up_the_tries",
            "an_init_that_panics_uses_up_the_tries",
            "a_root_that_does_not_verify_uses_up_the_tries",
        ],
    ),
    (
        "a clock that can be set from outside",
        &[
            "time_goes_on_beyond_2038",
            "the_clock_never_shows_less_than_the_build_time",
            "a_clock_that_is_far_ahead_stops_updates_and_nothing_else",
        ],
    ),
    (
        "a second card",
        &[
            "a_release_on_a_card_is_verified_and_taken",
            "a_device_is_reset_by_its_owner_and_updates_again",
        ],
    ),
    (
        "a second network device",
        &[
            "an_app_fetches_a_page_over_https",
            "a_server_that_nobody_vouches_for_is_not_believed",
            "a_server_with_the_certificate_of_another_is_not_believed",
        ],
    ),
    ("a ROM that QEMU could protect", &["the_rom_cannot_be_written"]),
    (
        "a clock that advances with its instructions, and while nothing runs in no time",
        &[
            "a_restart_storm_does_not_delay_others",
            "a_lease_is_renewed_again_and_again",
            "a_lease_runs_out_when_its_server_is_gone_and_comes_back_with_it",
            "a_rogue_dhcp_server_is_not_believed",
            "a_lease_storm_is_harmless",
            "a_critical_app_that_crashes_uses_up_the_tries",
            "an_app_that_crashes_gives_way_to_its_former_package",
        ],
    ),
];

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    if artefacts.board == "imx6ul-evk" {
        check!(suite, a_watchdog_that_init_does_not_open_resets_the_board(artefacts));
    }
    if artefacts.board != "orangepi-pc" {
        return;
    }
    let image = move || artefacts.image("peripherals");
    suite.share(
        move || Ok(Machine::new(&image(), 64).start(None)?),
        checks![an_app_has_the_peripherals_that_it_is_granted],
    );
    let image = move || artefacts.image("line");
    suite.share(
        move || Ok(Machine::new(&image(), 64).start(None)?),
        checks![a_line_that_still_sends_keeps_nobody_waiting],
    );
}

/// The time within which init must open a watchdog that U-Boot has armed (`WATCHDOG_OPEN_TIMEOUT`): the kernel pets it for the
/// last time so that it fires when that time is over.
const OPENED_WITHIN: Duration = Duration::from_secs(60);

/// The watchdog runs from U-Boot on. The kernel pets it until init opens it, and for a minute at most: an init that
/// never comes so far is reset, and not before that minute. A kernel that petted it for good would never be. That init in time
/// opens it is what `the_app_runs` shows, on the same machine.
fn a_watchdog_that_init_does_not_open_resets_the_board(artefacts: &Artefacts) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let variant = directory.path().join("variant.img");
    let asleep = |root: &mut Root| root.add("sbin/init", sleeping_program(), true);
    variant::with_root(&artefacts.image("hello"), &variant, &artefacts.signer()?, asleep)?;
    let mut guest = Machine::new(&variant, 512).start(None)?;
    let began = Instant::now();
    guest.wait_reset(OPENED_WITHIN.saturating_add(BOOT))?;
    let took = began.elapsed();
    ensure!(took >= OPENED_WITHIN, "it was reset after {took:?}:\n{}", guest.console.tail());
    let text = guest.console.text();
    ensure!(!text.contains("Kernel panic"), "the kernel itself has given up:\n{text}");
    Ok(())
}

/// A static program that sleeps for good: an ELF header, one segment of code, and [`ASLEEP`] as ARM code.
fn sleeping_program() -> Vec<u8> {
    const BASE: u32 = 0x1_0000;
    const HEADERS: u32 = 52 + 32;
    let [_, code] = ASLEEP;
    let length = HEADERS.saturating_add(u32::try_from(code.len()).unwrap_or_default());
    // ELF32, little-endian, executable, ARM, EABI version 5 (ELF for the Arm Architecture, 5.2).
    let mut program = b"\x7fELF\x01\x01\x01".to_vec();
    program.resize(16, 0);
    for half in [2_u16, 40] {
        program.extend(half.to_le_bytes());
    }
    for word in [1, BASE + HEADERS, 52, 0, 0x0500_0000_u32] {
        program.extend(word.to_le_bytes());
    }
    for half in [52_u16, 32, 1, 40, 0, 0] {
        program.extend(half.to_le_bytes());
    }
    // PT_LOAD of the whole file, readable and executable.
    for word in [1, 0, BASE, BASE, length, length, 5, 0x1000_u32] {
        program.extend(word.to_le_bytes());
    }
    program.extend_from_slice(code);
    program
}

/// The longest time in which init may answer a service, in microseconds. The kernel would have it wait for 30 seconds.
const ANSWERS_WITHIN_US: u64 = 5_000_000;

/// Somebody is at the line's other end and reads nothing, so that it sends no more once it is full; its app ends, and is
/// started again.
fn a_line_that_still_sends_keeps_nobody_waiting(guest: &mut Guest) -> Result<()> {
    let _reads_nothing = guest.serial_line()?;
    for _ in 0..2 {
        guest.wait("line: the line is full after ", BOOT)?;
        // While its end waits for the line, and before it is started again: that takes init long on a machine under load.
        let time = longest_of(5, guest, BOOT)?;
        ensure!(time <= ANSWERS_WITHIN_US, "init took {time} us to answer");
        guest.wait("line: begins", BOOT)?;
    }
    Ok(())
}

/// It sets its light, and sends and receives on its line.
fn an_app_has_the_peripherals_that_it_is_granted(guest: &mut Guest) -> Result<()> {
    guest.wait("blink: blink 3", BOOT)?;
    let mut line = guest.serial_line()?;
    line.set_read_timeout(Some(guest.scaled(Duration::from_secs(20))))?;
    let counts = Regex::new(r"blink \d+\r\n")?;
    let (mut heard, began) = (String::new(), Instant::now());
    while !counts.is_match(&heard) {
        ensure!(began.elapsed() < guest.scaled(ANSWER), "the line says {heard:?}");
        let mut bytes = [0; 64];
        let length = line.read(&mut bytes)?;
        heard.push_str(&String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()));
    }
    line.write_all(b"x")?;
    guest.wait("blink: heard x", ANSWER)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_page_on_boards_names_what_is_missing_and_the_tests_it_takes_away() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/boards.md");
        let page = std::fs::read_to_string(page).unwrap();
        for (what, checks) in ORANGEPI_PC {
            assert!(page.contains(what), "docs/boards.md: not a word of: {what}");
            for check in *checks {
                assert!(
                    page.contains(&format!("`{check}`")),
                    "docs/boards.md: not a word of {check}"
                );
            }
        }
    }
}
