//! A guest that has booted, and waiting for it.

use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{Guest, Machine};
use std::time::{Duration, Instant};

/// A guest's start takes seconds; a loaded host may need many times that.
pub(crate) const BOOT: Duration = Duration::from_secs(180);
/// What the probe answers at once.
pub(crate) const ANSWER: Duration = Duration::from_secs(60);
/// For what a guest does once it has booted.
pub(crate) const WAIT: Duration = Duration::from_secs(120);

/// A guest whose probe answers.
pub(crate) fn boot_probe(machine: &Machine) -> Result<Guest> {
    let mut guest = machine.start(None)?;
    guest.wait("init: probe is ready", BOOT)?;
    Ok(guest)
}

/// Waits for a line once more than it was there.
pub(crate) fn once_more(
    guest: &mut Guest,
    line: &str,
    act: impl FnOnce(&mut Guest) -> Result<()>,
) -> Result<()> {
    let before = guest.console.text().matches(line).count();
    act(guest)?;
    let started = Instant::now();
    while guest.console.text().matches(line).count() <= before {
        ensure!(
            started.elapsed() < guest.scaled(WAIT),
            "no `{line}` in:\n{}",
            guest.console.tail()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Seconds, floor and source of the clock, as init says them.
pub(crate) fn clock(guest: &mut Guest) -> Result<(u64, u64, String)> {
    let said = guest.probe.ask("clock", ANSWER)?;
    let field = |name: &str| {
        let rest = said.split(&format!("{name}: ")).nth(1);
        let value = rest.and_then(|rest| rest.split([',', ' ']).next());
        value.map(str::to_owned).with_context(|| said.clone())
    };
    Ok((field("seconds")?.parse()?, field("floor")?.parse()?, field("source")?))
}
