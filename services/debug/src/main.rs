//! The debug port of one app: GDB's remote protocol on the line that init has handed over.
//!
//! It exists only in images that were built for debugging, which are never production images. The app waits in front
//! of its program until a debugger has come; when the debugger goes, the app goes on. After the app has
//! ended, init starts it again, and it waits again.

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
use std::error::Error;
use std::fs::File;
use std::process::ExitCode;
use std::time::Duration;

/// How often is looked for a process that is not there yet.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let Some(app) = std::env::args().nth(1) else {
        eprintln!("debug: the app is missing: debug APP");
        return ExitCode::from(2);
    };
    let line = match channel::handed_over(3) {
        Ok(line) => File::from(line),
        Err(error) => {
            eprintln!("debug: there is no line: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("the debug port of {app} is open");
    loop {
        if let Err(error) = serve(&app, &line) {
            println!("{error}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// One debugger, from its first byte to its last.
fn serve(app: &str, port: &File) -> Result<(), Box<dyn Error>> {
    let line = Line::new(port)?;
    line.wait_for_peer()?;
    println!("a debugger has come");
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
            println!("the debugger has ended {app}");
        }
        Ok(DisconnectReason::TargetExited(_) | DisconnectReason::TargetTerminated(_)) => {
            println!("{app} has ended");
        }
        Ok(DisconnectReason::Disconnect) => {
            tracee.release()?;
            println!("the debugger has gone");
        }
        Err(error) => {
            tracee.release()?;
            println!("the debugger is lost: {error}");
        }
    }
    // What it says yet is not the next one's.
    Line::new(port)?.drain()?;
    Ok(())
}
