//! What a crash leaves: where it was, and nothing of what the program had in its memory.

use crate::harness::artefacts::Artefacts;
use crate::harness::guest::{ANSWER, BOOT, boot_probe};
use crate::harness::suite::{Suite, checks};
use anyhow::{Context, Result, bail, ensure};
use holdfast_qemu::machine::{Guest, Machine};
use object::elf::{FileHeader32, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, Object, ObjectSymbol};
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

/// A guest, and the directory with the symbols of its programs.
struct Scene {
    guest: Guest,
    symbols: PathBuf,
}

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    suite.share(
        move || {
            let image = artefacts.image("supervision");
            let guest = boot_probe(&Machine::new(&image, 64))?;
            Ok(Scene { guest, symbols: image.with_extension("symbols") })
        },
        checks![
            a_crash_says_where_it_was_and_no_memory_of_the_process,
            a_forged_core_is_the_apps_own_and_does_no_harm,
            no_process_dumps_memory
        ],
    );
}

/// The next crash of a component, as the probe reads it.
fn crash(guest: &mut Guest, name: &str) -> Result<String> {
    let started = Instant::now();
    loop {
        let crashes = guest.probe.ask("crashes", ANSWER)?;
        if let Some(line) = crashes.lines().find(|line| line.starts_with(&format!("name={name} ")))
        {
            return Ok(line.to_owned());
        }
        ensure!(started.elapsed() < guest.scaled(BOOT), "no crash of {name}, but: {crashes}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn field<'a>(line: &'a str, name: &str) -> Result<&'a str> {
    let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.with_context(|| format!("no {name}: {line}"))
}

fn a_crash_says_where_it_was_and_no_memory_of_the_process(scene: &mut Scene) -> Result<()> {
    let line = crash(&mut scene.guest, "crash")?;
    println!("{line}");
    for (name, value) in [("ended", "11"), ("signal", "11"), ("fault", "stack")] {
        ensure!(field(&line, name)? == value, "{name}: {line}");
    }
    // It overflows its stack while it copies into its frame; the copying may be a function of its own.
    let program = fs::read(scene.symbols.join("crash"))?;
    let functions = ["pc", "lr"].map(|register| function(&program, field(&line, register).ok()?));
    let descends = |name: &Option<String>| name.as_ref().is_some_and(|n| n.contains("descend"));
    ensure!(functions.iter().any(descends), "{functions:?}: {line}");

    ensure!(field(&line, "bytes")?.parse::<u32>()? <= 64 * 1024, "{line}");
    for kept in ["memory", "environment"] {
        ensure!(field(&line, kept)? == "absent", "{kept}: {line}");
    }
    // That the probe finds what is there shows this one: the kernel writes these registers, and nobody reads them.
    ensure!(field(&line, "float")? == "unread", "{line}");
    Ok(())
}

/// The function of a program that a place such as `program+0x123` is in.
fn function(program: &[u8], place: &str) -> Option<String> {
    let offset = u64::from_str_radix(place.strip_prefix("program+0x")?, 16).ok()?;
    let header = FileHeader32::<Endianness>::parse(program).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, program).ok()?;
    let first = segments.iter().find(|segment| segment.p_type(endian) == PT_LOAD)?;
    let page = u64::from(first.p_vaddr(endian) & !0xfff);
    let address = page.checked_add(offset)?;
    let file = object::File::parse(program).ok()?;
    let symbol = file.symbols().find(|symbol| {
        // The lowest bit marks Thumb code.
        let start = symbol.address() & !1;
        address.checked_sub(start).is_some_and(|inside| inside < symbol.size())
    })?;
    Some(symbol.name().ok()?.to_owned())
}

fn a_forged_core_is_the_apps_own_and_does_no_harm(scene: &mut Scene) -> Result<()> {
    let guest = &mut scene.guest;
    // One file in its own 64 KiB, which it cannot even read back. Another one begins when that one is closed: no two
    // processes of a component have the kernel put notes together at once.
    let bounds = r"forged-core: wrote 6\d KiB, second file: errno 28, reading: errno 13, beside one in use: errno 28";
    guest.wait_anywhere(bounds, BOOT)?;
    guest.wait_anywhere("forged-core ended with exit code 3", BOOT)?;
    // The control: of a crash there is something, although another process wrote over it at the same time.
    guest.wait_anywhere("forged-crash ended with signal 6", BOOT)?;
    let (mut of_crash, mut others) = (None, Vec::new());
    let started = Instant::now();
    while of_crash.is_none() {
        ensure!(started.elapsed() < guest.scaled(BOOT), "no crash, but: {others:?}");
        for line in guest.probe.ask("crashes", ANSWER)?.lines() {
            match field(line, "name")? {
                "crash" => of_crash = Some(line.to_owned()),
                "forged-crash" => {
                    println!("{line}");
                    // What it was ended by is its stub's word, and not the file's.
                    ensure!(field(line, "ended")? == "6", "{line}");
                }
                // What has missed its watchdog is ended by SIGABRT, and what has panicked ends by it.
                "silent" | "panicking" => ensure!(field(line, "ended")? == "6", "{line}"),
                other => bail!("{other} has not crashed: {line}"),
            }
            others.push(line.to_owned());
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    // Somebody else's crash says what it says.
    let of_crash = of_crash.unwrap_or_default();
    ensure!(
        field(&of_crash, "signal")? == "11" && field(&of_crash, "fault")? == "stack",
        "{of_crash}"
    );
    guest.wait("hello: heartbeat", BOOT)?;
    Ok(())
}

fn no_process_dumps_memory(scene: &mut Scene) -> Result<()> {
    let guest = &mut scene.guest;
    for (name, value) in [("core_pattern", "/crash/core"), ("core_uses_pid", "0")] {
        let found = guest.probe.ask(&format!("read /proc/sys/kernel/{name}"), ANSWER)?;
        ensure!(found.trim() == value, "{name} is {found}");
    }
    let processes = guest.probe.ask("processes", ANSWER)?;
    let mut looked_at = 0_u32;
    for process in processes.lines() {
        let pid = field(process, "pid")?;
        // Some end meanwhile, and of those that have no memory any more the kernel shows nothing.
        let Ok(filter) = guest.probe.ask(&format!("read /proc/{pid}/coredump_filter"), ANSWER)
        else {
            continue;
        };
        if !filter.trim().is_empty() {
            ensure!(filter.trim() == "00000010", "{filter}: {process}");
            looked_at = looked_at.saturating_add(1);
        }
    }
    // Services and their stubs.
    ensure!(looked_at >= 10, "only {looked_at} of:\n{processes}");
    Ok(())
}
