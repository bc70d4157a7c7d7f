//! The debug port of an app, as the GDB of an OEM's engineer finds it.

use crate::harness::artefacts::Artefacts;
use crate::harness::suite::{Suite, check};
use anyhow::{Context, Result, ensure};
use holdfast_qemu::machine::{DebugLine, Machine};
use holdfast_qemu::settings;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// For each line of the console.
const WAIT: Duration = Duration::from_secs(120);
/// For a session of GDB.
const SESSION: Duration = Duration::from_secs(120);
/// For an answer to GDB.
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) fn register<'a>(suite: &mut Suite<'a>, artefacts: &'a Artefacts) {
    check!(suite, an_app_is_debugged_from_its_first_instruction_on(artefacts));
}

fn an_app_is_debugged_from_its_first_instruction_on(artefacts: &Artefacts) -> Result<()> {
    let image = artefacts.image("hello-debug");
    let symbols = image.with_extension("symbols").join("hello");
    let machine = Machine { debug_line: Some(DebugLine::Socket), ..Machine::new(&image, 64) };
    let mut guest = machine.start(None)?;
    let socket = guest.debug_socket();
    guest.wait("hello waits for a debugger", WAIT)?;
    guest.wait("the debug port of hello is open", WAIT)?;
    // Seconds later: had it begun, it would have said so.
    guest.wait("slot a committed", WAIT)?;
    ensure!(!guest.console.text().contains("hello: hello, world"), "the app did not wait");

    let seen = session(
        &socket,
        &symbols,
        &["break main.rs:14", "continue", "bt 1", "info locals", "next", "info threads", "detach"],
    )?;
    for expected in ["hello::main () at", "beat = ", "start: 1}", "tv_sec: ", "* 1 ", "detached"] {
        ensure!(seen.contains(expected), "no `{expected}` in: {seen}");
    }
    guest.wait("debug: debugger detached", WAIT)?;
    guest.wait("hello: heartbeat 3", WAIT)?;

    // Another one, who finds it in the middle of its work and ends it. It waits again, as at first.
    let seen = session(&socket, &symbols, &["kill"])?;
    ensure!(seen.contains("killed"), "{seen}");
    guest.wait("hello ended with signal 9", WAIT)?;
    guest.wait("init: hello started", WAIT)?;
    let seen = session(&socket, &symbols, &["info registers pc", "detach"])?;
    ensure!(seen.contains("<_start>"), "not at its first instruction: {seen}");
    Ok(())
}

/// What GDB has shown.
fn session(socket: &Path, symbols: &Path, commands: &[&str]) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("commands");
    let timeout = format!("set remotetimeout {}", settings::scaled(ANSWER).as_secs());
    let connect = format!("target remote {}", socket.display());
    let begin = ["set confirm off", "set pagination off", &timeout, &connect];
    let lines: Vec<&str> = begin.into_iter().chain(commands.iter().copied()).collect();
    fs::write(&script, lines.join("\n"))?;
    let output = Command::new("timeout")
        .arg(settings::scaled(SESSION).as_secs().to_string())
        .args(["gdb-multiarch", "-nx", "-batch", "-x"])
        .arg(&script)
        .arg(symbols)
        .stdin(Stdio::null())
        .output()
        .context("cannot run gdb-multiarch")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (shown, complaints) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}: {shown}\n{complaints}", output.status);
    Ok(shown)
}
