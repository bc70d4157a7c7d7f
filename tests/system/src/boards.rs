//! What the machines of QEMU lack of the boards that they stand for, and the checks that need it.

use crate::Artefacts;
use crate::boot::{ANSWER, BOOT};
use crate::suite::{Lack, Suite};
use anyhow::{Result, ensure};
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

const ORANGEPI_PC: &[Lack] = &[];

pub(crate) fn run(suite: &mut Suite, artefacts: &Artefacts) {
    if artefacts.board != "orangepi-pc" {
        return;
    }
    let image = artefacts.image("peripherals");
    suite.share(
        || Ok(Machine::new(&image, 64).start(None)?),
        &[("an_app_has_the_peripherals_that_it_is_granted", granted)],
    );
}

/// It sets its light, and sends and receives on its line.
fn granted(guest: &mut Guest) -> Result<()> {
    guest.wait("blink: blink 3", BOOT)?;
    let mut line = guest.serial_line()?;
    line.set_read_timeout(Some(Duration::from_secs(20)))?;
    let counts = Regex::new(r"blink \d+\r\n")?;
    let (mut heard, deadline) = (String::new(), Instant::now() + ANSWER);
    while !counts.is_match(&heard) {
        ensure!(Instant::now() < deadline, "the line says {heard:?}");
        let mut bytes = [0; 64];
        let length = line.read(&mut bytes)?;
        heard.push_str(&String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()));
    }
    line.write_all(b"x")?;
    guest.wait("blink: heard x", ANSWER)?;
    Ok(())
}
