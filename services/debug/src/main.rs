//! The debug port of one app: GDB's remote protocol on the serial line that init has handed over.
//!
//! The service exists only in images that were built for debugging, which are never production images. The app waits
//! in front of its program until a debugger connects; when the debugger detaches, the app goes on. After the app has
//! ended, init starts it again, and the app waits again.

mod line;
mod process;
mod target;
mod tracee;

use crate::line::Line;
use crate::target::{EventLoop, Target};
use crate::tracee::Tracee;
use gdbstub::conn::Connection;
use gdbstub::stub::{DisconnectReason, GdbStub};
use holdfast_linux::channel;
use holdfast_types::chain;
use holdfast_types::event::debug::{
    DEBUG_ARGUMENT_MISSING, DEBUG_LINE_MISSING, DEBUG_PORT_OPENED, DEBUG_SESSION_FAILED,
    DEBUGGED_APP_ENDED, DEBUGGER_CONNECTED, DEBUGGER_DETACHED, DEBUGGER_KILLED_APP, DEBUGGER_LOST,
};
use std::error::Error;
use std::fs::File;
use std::process::ExitCode;
use std::time::Duration;

/// Pause between two looks for a process that is not there yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let Some(app) = std::env::args().nth(1) else {
        eprintln!("the name of the app is missing: debug APP {DEBUG_ARGUMENT_MISSING}");
        return ExitCode::from(2);
    };
    let line = match channel::handed_over(3) {
        Ok(line) => File::from(line),
        Err(error) => {
            eprintln!("cannot take over the debugger's line: {error} {DEBUG_LINE_MISSING}");
            return ExitCode::FAILURE;
        }
    };
    println!("the debug port of {app} is open {DEBUG_PORT_OPENED}");
    loop {
        if let Err(error) = serve(&app, &line) {
            println!("debug session failed: {} {DEBUG_SESSION_FAILED}", chain(&*error));
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Serves one debugger, from its first byte to its last.
fn serve(app: &str, port: &File) -> Result<(), Box<dyn Error>> {
    let line = Line::new(port)?;
    line.wait_for_peer()?;
    println!("debugger connected {DEBUGGER_CONNECTED}");
    let leader = loop {
        match process::main_of(app)? {
            Some(leader) => break leader,
            None => std::thread::sleep(LOOK_EVERY),
        }
    };
    let mut target = Target::new(Tracee::attach(leader)?);
    let end = GdbStub::new(line).run_blocking::<EventLoop>(&mut target);
    let tracee = target.into_tracee();
    match end {
        Ok(DisconnectReason::Kill) => {
            tracee.kill()?;
            // GDB kills by `vKill` and waits for this, which the library leaves out.
            Line::new(port)?.write_all(b"$OK#9a")?;
            println!("{app} killed by the debugger {DEBUGGER_KILLED_APP}");
        }
        Ok(DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_)) => {
            println!("{app} ended while it was debugged {DEBUGGED_APP_ENDED}");
        }
        Ok(DisconnectReason::Disconnect) => {
            tracee.release()?;
            println!("debugger detached {DEBUGGER_DETACHED}");
        }
        Err(error) => {
            tracee.release()?;
            println!("connection to the debugger lost: {error} {DEBUGGER_LOST}");
        }
    }
    // What it says yet is not the next one's.
    Line::new(port)?.drain()?;
    Ok(())
}
