//! Running host programs: output kept, progress shown, failures with their last lines.

use crate::progress::Step;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

/// Lines of output that a failure shows.
const TAIL_LINES: usize = 40;

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// The program cannot be started, or ends with a failure; its standard error is in the message.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, showing each line it prints as progress of `step`.
///
/// # Errors
/// The program cannot be started, or ends with a failure; its last lines are in the message.
pub fn follow(command: &mut Command, step: &mut Step) -> Result<()> {
    let mut tail = std::collections::VecDeque::new();
    let status = each_line(command, |line| {
        step.show_line(line);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line.to_owned());
    })?;
    if !status.success() {
        bail!("{} failed ({status}):\n{}", name(command), Vec::from(tail).join("\n"));
    }
    Ok(())
}

/// Runs a program to its end and hands on each line that it prints, as it comes; both of its outputs are one.
///
/// # Errors
/// The program cannot be started or waited for, or its output cannot be read.
pub fn each_line(command: &mut Command, mut line: impl FnMut(&str)) -> Result<ExitStatus> {
    let name = name(command);
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot make a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    // The command holds the writing ends; the child has its own.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    for bytes in BufReader::new(reader).split(b'\n') {
        let bytes = bytes.with_context(|| format!("cannot read the output of {name}"))?;
        line(&String::from_utf8_lossy(&bytes));
    }
    child.wait().with_context(|| format!("cannot wait for {name}"))
}

/// `text` as one word of a shell.
pub fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=,+:@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
