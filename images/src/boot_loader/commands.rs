//! The text of a boot script, made of commands under names.

use std::fmt::Write;

/// Variables and commands of the script in the order in which they are set.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) text: String,
}

impl Script {
    /// Names a sequence of commands, for `run`.
    pub(super) fn define(&mut self, name: &str, lines: &[&str]) {
        debug_assert!(lines.iter().all(|line| !line.contains('\'')), "{name} holds a quote");
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "setenv {name} '{}'", lines.join("; "));
    }
}
