//! The stage `boards`: images for other boards than the system tests' own, looked at, and run where QEMU has
//! the machine.

use super::stage_log::StageLog;
use super::system_tests::{self, beside, program_directory};
use super::test_run::{Counts, DEFAULT_BOARD, TestRun};
use crate::test_programs;
use anyhow::{Context, Result, ensure};
use holdfast_builder::image::ImageBuilder;
use holdfast_builder::workspace;
use holdfast_images::board::{self, Board, FirstStage, Place};
use holdfast_images::{disk, show, verify};
use std::path::{Path, PathBuf};

/// Images that the checks below need.
const IMAGES: [&str; 5] = [
    "images/hello.toml",
    "tests/images/probe.toml",
    PERIPHERALS[0],
    PERIPHERALS[1],
    "tests/images/update.toml",
];
/// The board whose light and line the apps of [`PERIPHERALS`] ask for.
pub(super) const WITH_PERIPHERALS: &str = "orangepi-pc";
pub(super) const PERIPHERALS: [&str; 2] =
    ["tests/images/peripherals.toml", "tests/images/line.toml"];
/// Checks of the system tests that run on the Orange Pi PC's machine every time; `test --full --board
/// orangepi-pc` runs all that this machine has the devices for.
const ORANGEPI_PC: [&str; 13] = [
    "the_image_boots",
    "the_app_runs",
    "every_process_but_pid_1_is_unprivileged",
    "a_reboot_is_orderly_and_the_machine_starts_again",
    "an_app_has_the_peripherals_that_it_is_granted",
    "a_line_that_still_sends_keeps_nobody_waiting",
    "a_slot_that_a_key_has_signed_boots",
    "a_key_that_was_rotated_out_boots_nothing",
    "an_unsigned_slot_never_starts",
    "a_device_takes_a_release_by_itself",
    "a_good_slot_brings_its_boot_loader",
    "no_cut_of_power_costs_the_boot_loader",
    "the_spare_boot_loader_starts",
];
/// Those that run on the i.MX6UL EVK's, which starts the kernel itself.
const IMX6UL_EVK: [&str; 3] =
    ["the_image_boots", "the_app_runs", "a_watchdog_that_init_does_not_open_resets_the_board"];

/// The boards that the stage looks at.
pub(super) fn looked_at(test_run: &TestRun) -> Vec<String> {
    let mut names = board::names(&test_run.workspace.root.join("images/boards"));
    // A kernel takes minutes; one more is enough for every day.
    names.retain(|name| match name.as_str() {
        DEFAULT_BOARD => false,
        WITH_PERIPHERALS => true,
        _ => test_run.full,
    });
    names
}

pub(super) fn run(test_run: &TestRun, log: &StageLog) -> Result<Counts> {
    let builder = ImageBuilder::new(&test_run.workspace, false, false)?;
    let mut counts = Counts::default();
    let boards = test_run.workspace.root.join("images/boards");
    for name in looked_at(test_run) {
        let (images, checks): (&[&str], &[&str]) = match name.as_str() {
            WITH_PERIPHERALS => (&IMAGES, &ORANGEPI_PC),
            "imx6ul-evk" => (&IMAGES[..1], &IMX6UL_EVK),
            _ => (&IMAGES[..1], &[]),
        };
        let directory = test_run.workspace.output()?.join(&name);
        workspace::make_directory(&directory)?;
        for manifest in images {
            let path = image_path(&directory, manifest);
            let manifest = test_run.workspace.root.join(manifest);
            builder.build_for(Some(&name), &manifest, &[], Some(&path))?;
        }
        let board = Board::load(&boards, &name, Path::new("boards"))?;
        let result = is_sound(log, &board, &image_path(&directory, "hello.toml"));
        match result {
            Ok(()) => {
                log.print(format!("test the_image_of_{name}_is_sound ... ok"));
                counts.add(Counts::PASSED);
            }
            Err(error) => {
                log.print(format!("test the_image_of_{name}_is_sound ... FAILED\n{error:#}"));
                counts.add(Counts::FAILED);
            }
        }
        if !checks.is_empty() {
            test_programs::build(&test_run.workspace, &builder, &program_directory(test_run)?)?;
            let mut command = system_tests::command(test_run, &name, &directory)?;
            command.args(checks);
            if let Some(file) = &test_run.junit {
                command.arg("--junit").arg(beside(file, &name));
            }
            // Beside the system tests' own, which may be running.
            let times = test_run.workspace.output()?.join("test-times.json");
            counts.add(log.counted(command.arg("--times").arg(beside(&times, &name)))?);
        }
    }
    Ok(counts)
}

fn image_path(directory: &Path, manifest: &str) -> PathBuf {
    let stem = Path::new(manifest).file_stem().unwrap_or_default();
    directory.join(stem).with_extension("img")
}

/// What can be said of an image without its board: everything is where the boot ROM, the first stage and the
/// boot loader look for it, signed, and for this board.
fn is_sound(log: &StageLog, board: &Board, image: &Path) -> Result<()> {
    let chain = verify::verify(image, None, None)?;
    ensure!(chain.is_sound(), "the boot loader would not start it");
    ensure!(chain.board == board.name, "the boot loader is for {}", chain.board);
    let shown = show::show(image)?;
    ensure!(shown.board == board.name, "the root file system is for {}", shown.board);
    // A board's kernel has more drivers than qemu-virt's; the services are one program (decision 31).
    let most = 4_608 << 10;
    ensure!(shown.slot_bytes <= most, "the slot has {} bytes, more than {most}", shown.slot_bytes);
    log.print(format!("{}: slot {} bytes", board.name, shown.slot_bytes));
    if board.boot_loader.place == Place::Rom {
        return Ok(());
    }
    let start = disk::read_boot_loader(image)?;
    let stage = board.boot_loader.first_stage.as_ref().context("no first stage")?;
    let u_boot = board.boot_loader.u_boot.context("no U-Boot")?;
    let at = |kib: u32| usize::try_from(kib.saturating_mul(1024)).unwrap_or(usize::MAX);
    let behind = |kib: u32| start.get(at(kib)..).unwrap_or_default();
    ensure!(is_first_stage(stage, behind(stage.at_kib)), "no first stage at {} KiB", stage.at_kib);
    let magic = 0x2705_1956_u32.to_be_bytes();
    ensure!(behind(u_boot.at_kib).starts_with(&magic), "no U-Boot at {} KiB", u_boot.at_kib);
    let slot = chain.slots.first().and_then(|slot| slot.found.as_ref());
    let copies = slot.and_then(|found| found.boot_loader_copies);
    let expected = board.boot_loader.spare.as_ref().map(|_| [true; 2]);
    ensure!(copies == expected, "copies of the boot loader: {copies:?}, expected {expected:?}");
    Ok(())
}

/// By what the boot ROM of each family recognises what it starts.
fn is_first_stage(stage: &FirstStage, bytes: &[u8]) -> bool {
    match stage.file.as_str() {
        // Allwinner: U-Boot's `include/sunxi_image.h`.
        "spl/sunxi-spl.bin" => bytes.get(4..12) == Some(b"eGON.BT0"),
        // NXP: an image vector table of version 0x40 (i.MX6UL reference manual, 8.7.1).
        "SPL" => bytes.starts_with(&[0xd1, 0x00, 0x20, 0x40]),
        // TI: a table of contents with the entry CHSETTINGS (AM335x reference manual, 26.1.11).
        "MLO" => bytes.get(..64).is_some_and(|toc| toc.windows(10).any(|w| w == b"CHSETTINGS")),
        _ => bytes.iter().take(512).any(|byte| *byte != 0),
    }
}
