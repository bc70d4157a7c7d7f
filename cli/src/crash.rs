//! `crash`: from a crash in a device's log to the line of the program, and crashes that devices have reported.

use crate::invocation::Invocation;
use crate::security_service::crash_group::{self, CrashGroupCommand};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use holdfast_builder::workspace;
use holdfast_builder::{host, process};
use holdfast_lifecycle::crash::{Crash, CrashLog};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands about crashes.
#[derive(Debug, Subcommand)]
pub enum CrashCommand {
    /// Say at which lines of their programs the crashes in a log happened.
    Decode(DecodeArgs),
    /// What devices have reported to their Security Service.
    #[command(flatten)]
    Reported(CrashGroupCommand),
}

/// Arguments of `crash decode`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads what the device's serial console has shown. Only development images say where a program \
                  was.\n\nThe symbols must be of the build that ran: `image build` and `run` keep them in \
                  target/holdfast/IMAGE.symbols, `image assemble` in IMAGE.symbols beside the image, `app pack` in \
                  target/holdfast/apps.symbols, and the next build \
                  replaces them. Those of an image with a debug port are in IMAGE-debug.symbols.\n\nExample: holdfast crash decode console.log"
)]
pub struct DecodeArgs {
    /// A log of the console; standard input when not given.
    log: Option<PathBuf>,
    /// Directory of programs with their symbols, where those of the image's last build are not the ones.
    #[arg(long, value_name = "DIR")]
    symbols: Vec<PathBuf>,
    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

/// A place in a program's source.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Place {
    function: String,
    /// `FILE:LINE`; without a line where the compiler has left none.
    line: String,
}

/// A crash with its places; those that a function was inlined into follow it.
#[derive(Debug, Serialize)]
struct Decoded {
    #[serde(flatten)]
    crash: Crash,
    /// The program with its symbols.
    program: Option<PathBuf>,
    /// Places in the source of the instruction that was executed.
    at: Vec<Place>,
    /// Places in the source of the call that had not returned.
    called_from: Vec<Place>,
}

pub(crate) fn run(invocation: &Invocation, command: &CrashCommand) -> Result<()> {
    match command {
        CrashCommand::Decode(args) => decode(invocation, args),
        CrashCommand::Reported(command) => crash_group::run(command),
    }
}

fn decode(invocation: &Invocation, args: &DecodeArgs) -> Result<()> {
    let (name, log) = workspace::read_text_or_standard_input(args.log.as_deref())?;
    let log = CrashLog::read(&log);
    if log.crashes.is_empty() && !log.of_a_device {
        bail!(
            "{name}: has no line of init's, such as `[    2.810097] init: …`; is it the log of a device's console?"
        );
    }
    if log.crashes.is_empty() {
        bail!("{name}: shows no crash; only development images say where a program was");
    }
    let directories = symbol_directories(invocation, args, &log)?;
    host::ensure(&[host::SYMBOLS])?;
    let programs: Vec<PathBuf> = directories
        .iter()
        .flat_map(|directory| directory.read_dir().into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .collect();
    let mut decoded = Vec::new();
    for crash in log.crashes {
        decoded.push(places(crash, &programs)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&decoded)?);
        return Ok(());
    }
    for each in &decoded {
        print(each);
    }
    if decoded.iter().all(|each| each.program.is_none()) {
        let searched: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "none of these programs is in {}; name their directory with --symbols",
            searched.join(", ")
        );
    }
    Ok(())
}

/// Returns the directories in which programs with symbols are looked for.
fn symbol_directories(
    invocation: &Invocation,
    args: &DecodeArgs,
    log: &CrashLog,
) -> Result<Vec<PathBuf>> {
    if let Some(missing) = args.symbols.iter().find(|path| !path.is_dir()) {
        bail!("{}: --symbols: is no directory", missing.display());
    }
    if !args.symbols.is_empty() {
        return Ok(args.symbols.clone());
    }
    let Some((image, board)) = &log.image else {
        bail!(
            "the log does not show which image this is: init's first line is not in it; name the directory with --symbols"
        );
    };
    let output = invocation
        .workspace("without --symbols, those of a checkout's last build are taken")?
        .output()?;
    let debug = if log.debugged { "-debug" } else { "" };
    let directory = format!("{image}{debug}.symbols");
    let of_board = output.join(board).join(&directory);
    let of_image = if of_board.is_dir() { of_board } else { output.join(directory) };
    Ok(vec![of_image, output.join("apps.symbols")])
}

/// Longest name that the kernel keeps of a process, in bytes (`TASK_COMM_LEN`, less its end).
const MAX_PROCESS_BYTES: usize = 15;

/// The program of a crash. An app's component is not always called like its program, and a process not always
/// like its component.
fn program<'a>(crash: &Crash, programs: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let is_called = |path: &&PathBuf, name: &str| {
        path.file_name().and_then(|file| file.to_str()).is_some_and(|file| {
            file == name || (name.len() == MAX_PROCESS_BYTES && file.starts_with(name))
        })
    };
    let of_name = |name: &str| programs.iter().find(|path| is_called(path, name));
    of_name(&crash.component).or_else(|| of_name(&crash.process))
}

fn places(crash: Crash, programs: &[PathBuf]) -> Result<Decoded> {
    let program = program(&crash, programs).cloned();
    let (at, called_from) = match &program {
        // The return address is behind the call; its lowest bit tells Thumb from ARM.
        Some(program) => {
            let call = (crash.lr & !1).saturating_sub(2);
            (lines(program, crash.pc)?, lines(program, call)?)
        }
        None => Default::default(),
    };
    Ok(Decoded { crash, program, at, called_from })
}

/// The source of an address; the function that is inlined deepest comes first.
fn lines(program: &Path, address: u32) -> Result<Vec<Place>> {
    let output = process::output(
        Command::new("arm-linux-gnueabihf-addr2line")
            .args(["--functions", "--demangle", "--inlines", "--exe"])
            .arg(program)
            .arg(format!("{address:#x}")),
    )?;
    Ok(parse(&output))
}

/// Two lines for each place; question marks where nothing is known.
fn parse(output: &str) -> Vec<Place> {
    let lines: Vec<&str> = output.lines().collect();
    let pairs = lines.chunks_exact(2).filter_map(|pair| match pair {
        [function, line] if *function != "??" => {
            let line = line.split(" (discriminator").next().unwrap_or_default();
            Some(Place { function: (*function).to_owned(), line: line.to_owned() })
        }
        _ => None,
    });
    pairs.collect()
}

fn print(decoded: &Decoded) {
    let Decoded { crash, program, at, called_from } = decoded;
    let signal = crash.signal.map_or("a signal".to_owned(), |signal| format!("signal {signal}"));
    let time = if crash.at.is_empty() {
        String::new()
    } else {
        format!(", {} s after the start", crash.at)
    };
    println!(
        "{} ended with {signal}{time} (process {}, uid {})",
        crash.component, crash.pid, crash.uid
    );
    if crash.process != crash.component {
        println!("  the process called itself {:?}", crash.process);
    }
    let show = |what: &str, address: u32, places: &[Place]| {
        println!("  {what} {address:#010x}");
        for Place { function, line } in places {
            println!("    {function} at {line}");
        }
        if places.is_empty() {
            let reason =
                if program.is_some() { "not in the program" } else { "there are no symbols" };
            println!("    {reason}");
        }
    };
    show("at", crash.pc, at);
    show("called from", crash.lr, called_from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_commands_that_there_are() {
        let cli = crate::Command::augment_subcommands(clap::Command::new("holdfast"));
        for group in cli.get_subcommands().filter(|group| group.has_subcommands()) {
            let names: Vec<&str> = group.get_subcommands().map(clap::Command::get_name).collect();
            let start = format!("`{} ", group.get_name());
            for command in cli.get_subcommands().flat_map(clap::Command::get_subcommands) {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                for named in help.split(&start).skip(1) {
                    let name = named.split([' ', '`']).next().unwrap_or_default();
                    assert!(names.contains(&name), "{}: `{start}{name}`", command.get_name());
                }
            }
        }
    }

    const LOG: &str = "CPU: 0 UID: 1 PID: 2 Comm: x Not tainted 6.12 #1\n\
                       pc : [<00000001>]    lr : [<00000002>]    psr: 60000010\n\
                       Flags: nZCv  Mode USER_32\n";

    #[test]
    fn a_program_is_found_by_its_component_or_its_process() {
        let programs = ["valve", "race", "temperature-sensor"]
            .map(|name| Path::new("hello.symbols").join(name));
        let found = |component: &str, process: &str| {
            let crash = Crash {
                component: component.to_owned(),
                process: process.to_owned(),
                ..CrashLog::read(LOG).crashes.remove(0)
            };
            let path = program(&crash, &programs)?;
            Some(path.file_name()?.to_str()?.to_owned())
        };
        assert_eq!(found("valve", "worker 1").as_deref(), Some("valve"));
        assert_eq!(found("racer", "race").as_deref(), Some("race"));
        assert_eq!(found("meter", "temperature-sen").as_deref(), Some("temperature-sensor"));
        assert_eq!(found("pump", "../valve"), None);
    }

    #[test]
    fn inlined_functions_come_with_those_they_are_in() {
        let output = "crash::descend\n/build/src/crash.rs:15 (discriminator 2)\ncrash::main\n/build/src/crash.rs:8\n";
        let place = |function: &str, line: &str| Place {
            function: function.to_owned(),
            line: line.to_owned(),
        };
        let expected = [
            place("crash::descend", "/build/src/crash.rs:15"),
            place("crash::main", "/build/src/crash.rs:8"),
        ];
        assert_eq!(parse(output), expected);
        assert_eq!(parse("??\n??:0\n"), []);
    }
}
