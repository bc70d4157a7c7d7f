//! Running checks, some of which share a guest, and counting them.

use anyhow::{Error, Result};
use std::process::ExitCode;
use std::time::Instant;

/// A run of checks.
#[derive(Debug)]
pub(crate) struct Suite {
    /// Parts of the names of the checks that run; none: all run.
    filters: Vec<String>,
    /// Checks that the board's machine lacks something for, with what it lacks.
    lacking: &'static [Lack],
    passed: usize,
    failed: Vec<String>,
}

/// A check on something shared, such as a booted guest.
pub(crate) type Check<T> = (&'static str, fn(&mut T) -> Result<()>);

/// What a machine lacks, and the names of the checks that need it.
pub(crate) type Lack = (&'static str, &'static [&'static str]);

impl Suite {
    pub(crate) fn new(filters: Vec<String>, lacking: &'static [Lack]) -> Self {
        Self { filters, lacking, passed: 0, failed: Vec::new() }
    }

    /// Runs one check on its own.
    pub(crate) fn check(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        if self.wants(name) {
            let started = Instant::now();
            self.record(name, started, run());
        }
    }

    /// Makes something once and runs checks on it, in order. When it cannot be made, each of them
    /// has failed.
    pub(crate) fn share<T>(&mut self, make: impl FnOnce() -> Result<T>, checks: &[Check<T>]) {
        let wanted: Vec<_> = checks.iter().filter(|(name, _)| self.wants(name)).collect();
        if wanted.is_empty() {
            return;
        }
        let mut started = Instant::now();
        let mut shared = make();
        for (name, run) in wanted {
            let result = match &mut shared {
                Ok(shared) => run(shared),
                Err(error) => Err(Error::msg(format!("{error:#}"))),
            };
            self.record(name, started, result);
            started = Instant::now();
        }
    }

    /// True when the filters let a check of this name run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let named = self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part));
        let lacks = |lack: &&Lack| lack.1.iter().any(|check| name.contains(check));
        match self.lacking.iter().find(lacks) {
            Some((what, _)) if named => {
                println!("not run here: {name} ({what})");
                false
            }
            _ => named,
        }
    }

    fn record(&mut self, name: &str, started: Instant, result: Result<()>) {
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.1} s)");
                self.passed = self.passed.saturating_add(1);
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}\n");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// Prints the result and chooses the exit code.
    pub(crate) fn finish(self) -> ExitCode {
        for name in &self.failed {
            println!("FAILED: {name}");
        }
        let result = if self.failed.is_empty() { "ok" } else { "FAILED" };
        println!("test result: {result}. {} passed; {} failed;", self.passed, self.failed.len());
        ExitCode::from(u8::from(!self.failed.is_empty()))
    }
}
