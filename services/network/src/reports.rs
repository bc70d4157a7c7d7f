//! Lines for the log that are not said again and again.

use std::collections::BTreeMap;

/// The same line is said again no sooner, in milliseconds.
const SAY_EVERY_MS: u64 = 60_000;
/// Lines that are remembered; while there are so many, no other is said.
const MAX_REMEMBERED: usize = 128;

/// What was said of late, and when.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    said: BTreeMap<String, u64>,
}

impl Reports {
    /// Says a line, unless it was said a moment ago.
    pub(crate) fn say(&mut self, now: u64, line: String) {
        self.said.retain(|_, said| now.saturating_sub(*said) < SAY_EVERY_MS);
        if self.said.contains_key(&line) || self.said.len() >= MAX_REMEMBERED {
            return;
        }
        println!("{line}");
        self.said.insert(line, now);
    }
}
