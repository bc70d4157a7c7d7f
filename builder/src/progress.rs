//! Showing that long work goes on: a spinner on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// One long step. Say how it ended with [`done`](Self::done); dropped without, it just vanishes.
#[derive(Debug)]
pub struct Step {
    bar: ProgressBar,
    name: String,
    started: Instant,
    lines: u64,
}

impl Step {
    /// Begins a step.
    pub fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
                bar.set_style(style);
            }
            bar.set_message(name.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            eprintln!("{name} ...");
            ProgressBar::hidden()
        };
        Self { bar, name, started: Instant::now(), lines: 0 }
    }

    /// Shows a line of output of the work, and counts it.
    pub fn show_line(&mut self, line: &str) {
        self.lines = self.lines.saturating_add(1);
        let line: String = line.trim().chars().take(60).collect();
        self.bar.set_message(format!("{} ({}) {line}", self.name, self.lines));
        if self.bar.is_hidden() && self.lines.is_multiple_of(200) {
            let seconds = self.started.elapsed().as_secs();
            eprintln!("{}: {} steps, {seconds} s", self.name, self.lines);
        }
    }

    /// Ends the step and prints its result and duration.
    pub fn done(self, result: &str) {
        self.bar.finish_and_clear();
        let seconds = self.started.elapsed().as_secs_f32();
        eprintln!("{}: {result} ({seconds:.1} s)", self.name);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes that are worked through.
#[derive(Debug)]
pub struct Bytes {
    bar: ProgressBar,
    name: &'static str,
    /// The tenth that was said last, where there is no terminal.
    tenth: u64,
}

impl Bytes {
    /// Begins a bar that is called `name`.
    pub fn begin(name: &'static str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(0);
            let template = "{msg} {bar:40} {bytes}/{total_bytes} {bytes_per_sec}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_message(name);
            bar
        } else {
            ProgressBar::hidden()
        };
        Self { bar, name, tenth: 0 }
    }

    /// Shows that `done` of `of` bytes are done.
    pub fn show(&mut self, done: u64, of: u64) {
        self.bar.set_length(of);
        self.bar.set_position(done);
        let tenth = done.saturating_mul(10).checked_div(of).unwrap_or(0);
        if self.bar.is_hidden() && tenth != self.tenth {
            self.tenth = tenth;
            eprintln!("{}: {} %", self.name, tenth.saturating_mul(10));
        }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
