//! What stages print: whole lines, each with its stage in front, since several of them run at once.

use super::test_run::Counts;
use anyhow::{Result, bail};
use holdfast_builder::process;
use std::process::Command;

/// The output of one stage.
#[derive(Debug)]
pub(super) struct StageLog {
    stage: &'static str,
}

impl StageLog {
    pub(super) fn new(stage: &'static str) -> Self {
        Self { stage }
    }

    /// Prints a text, line by line.
    pub(super) fn print(&self, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            println!("{} | {line}", self.stage);
        }
    }

    /// Runs a command whose success is one passed test.
    pub(super) fn passes(&self, command: &mut Command) -> Result<Counts> {
        let status = process::each_line(command, |line| self.print(line))?;
        Ok(if status.success() { Counts::PASSED } else { Counts::FAILED })
    }

    /// Runs a command that runs tests, and adds up its `test result:` lines.
    pub(super) fn counted(&self, command: &mut Command) -> Result<Counts> {
        let mut counts = Counts::default();
        let status = process::each_line(command, |line| {
            if let Some(more) = result_line(line) {
                counts.add(more);
            } else if !line.is_empty() && !line.starts_with("running ") {
                self.print(line);
            }
        })?;
        if !status.success() && counts.failed == 0 {
            bail!("{} ended with {status}", command.get_program().to_string_lossy());
        }
        Ok(counts)
    }
}

/// The numbers in a `test result:` line.
fn result_line(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |unit: &str| -> Option<usize> {
        let part = rest.split([';', '.']).find(|part| part.trim().ends_with(unit))?;
        part.trim().split(' ').next()?.parse().ok()
    };
    Some(Counts { passed: number(" passed")?, failed: number(" failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up_and_others_are_not() {
        let line =
            "test result: FAILED. 23 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        let counts = result_line(line).unwrap();
        assert_eq!((counts.passed, counts.failed), (23, 2));
        assert!(result_line("test boots ... ok").is_none());
    }

    #[test]
    fn lines_of_both_streams_are_counted_and_a_bad_end_without_any_is_an_error() {
        let log = StageLog::new("unit");
        let run = |script: &str| log.counted(Command::new("sh").args(["-c", script]));
        let counts = run("echo 'test result: ok. 2 passed; 0 failed;'; \
             echo 'test result: FAILED. 1 passed; 3 failed;' >&2; exit 1");
        let counts = counts.unwrap();
        assert_eq!((counts.passed, counts.failed), (3, 3));
        assert!(run("exit 1").unwrap_err().to_string().contains("ended with"));
        let passes = |script: &str| log.passes(Command::new("sh").args(["-c", script])).unwrap();
        assert_eq!((passes("true").passed, passes("false").failed), (1, 1));
    }
}
