//! The machines of QEMU that images run on, and what each of them has.

use crate::HarnessError;
use crate::console::Console;
use crate::qmp::Qmp;
use crate::settings;
use holdfast_images::{boot_loader, build, disk};
use regex::Regex;
use std::path::Path;
use std::time::Duration;

/// init's last line before the machine restarts, and the kernel's where nothing can switch it off.
const LAST_LINES: &str =
    r"init: rebooting event=rebooting\n|reboot: Power off not available: System halted instead";

/// A machine of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// `virt`, with the devices of our board `qemu-virt`.
    Virt,
    /// `orangepi-pc`, which starts what is on the card as the board's boot ROM does.
    OrangePiPc,
    /// `mcimx6ul-evk`, which has no boot ROM and refuses registers that U-Boot begins with: the kernel and the
    /// device tree of slot A are started without them, unverified, and with the watchdog armed as U-Boot leaves it.
    Imx6ulEvk,
}

impl Model {
    /// The machine that the image at `image` runs on: `virt` where its boot loader lies beside it, and
    /// otherwise that of the board that the boot loader in it is for.
    ///
    /// # Errors
    /// There is no boot loader, or QEMU has no such machine.
    pub fn of(image: &Path) -> Result<Self, HarnessError> {
        if build::rom_path(image).is_file() {
            return Ok(Self::Virt);
        }
        let no_machine =
            |reason: String| HarnessError::NoMachine { image: image.to_owned(), reason };
        let loader = disk::read_boot_loader(image).map_err(|e| no_machine(e.to_string()))?;
        let board = boot_loader::board(&loader).map_err(|error| no_machine(error.to_string()))?;
        match board.as_str() {
            "orangepi-pc" => Ok(Self::OrangePiPc),
            "imx6ul-evk" => Ok(Self::Imx6ulEvk),
            other => Err(no_machine(format!("QEMU has no machine for the board {other}"))),
        }
    }

    /// The part of the command line that decides what the device tree says.
    #[must_use]
    pub fn arguments(self, memory_mib: u32) -> Vec<String> {
        let memory = format!("{memory_mib}M");
        let words: &[&str] = match self {
            Self::Virt => &[
                "-M",
                "virt,highmem=off,gic-version=2,dtb-randomness=off",
                "-cpu",
                "cortex-a7",
                "-m",
                &memory,
            ],
            // It has 1 GiB and four processors, whatever is asked for. QEMU's counter would run at
            // 62.5 MHz, while the SPL tells the kernel 24 MHz, which the board's has.
            Self::OrangePiPc => {
                &["-M", "orangepi-pc", "-m", "1G", "-global", "cortex-a7-arm-cpu.cntfrq=24000000"]
            }
            Self::Imx6ulEvk => &["-M", "mcimx6ul-evk", "-m", "512M"],
        };
        ["-nodefaults", "-no-user-config"].iter().chain(words).map(|w| (*w).to_owned()).collect()
    }

    /// How many times longer it may take than deadlines say: the patience of the settings, and that for a machine
    /// with more processors than those of a test, whatever the host has for them: one has four.
    pub(crate) fn patience(self) -> u32 {
        let of_model = match self {
            Self::Virt | Self::Imx6ulEvk => 1,
            Self::OrangePiPc => 3,
        };
        settings::get().patience.max(1).saturating_mul(of_model)
    }

    /// The card that the image is on, as QEMU's `-drive` takes it.
    pub(crate) fn card(self) -> &'static str {
        match self {
            Self::Virt => "if=none,id=disk",
            Self::OrangePiPc => "if=sd,id=disk",
            Self::Imx6ulEvk => "if=sd,index=1,id=disk",
        }
    }

    /// Its second serial line, on QEMU's character device `probe`.
    pub(crate) fn second_line(self) -> [&'static str; 2] {
        match self {
            Self::Virt => ["-device", "virtserialport,chardev=probe,name=probe"],
            Self::OrangePiPc | Self::Imx6ulEvk => ["-serial", "chardev:probe"],
        }
    }

    /// Does what the machine's own devices should, or who stands beside the board: QEMU's `orangepi-pc` has no
    /// watchdog, by which the board resets itself, so that it is reset from outside when init has said its
    /// last line; and where a board cannot switch itself off, somebody pulls the plug.
    pub(crate) fn stand_in(self, console: &Console, mut qmp: Qmp) {
        if self == Self::Virt {
            return;
        }
        let console = console.clone();
        std::thread::spawn(move || {
            let Ok(last_line) = Regex::new(LAST_LINES) else { return };
            let mut from = 0;
            // Ends when the console does.
            while let Ok((said, end)) = console.wait_from(from, &last_line, Duration::MAX) {
                from = end;
                // The kernel has nothing to write any more: it only stops its processors.
                std::thread::sleep(settings::scaled(Duration::from_millis(500)));
                let command = if said.contains("rebooting") { "system_reset" } else { "quit" };
                if qmp.execute(command, &serde_json::json!({})).is_err() {
                    return;
                }
            }
        });
    }
}
