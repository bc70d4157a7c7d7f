//! Names of the events in the log, which stay the same whatever a line is worded like.
//!
//! A line ends in `event=NAME`; alerts and reports key on it, and a name that was released is never given to another
//! event. `docs/events.md` lists them all.

use core::fmt;

/// An event that init or a service logs.
///
/// Its [`Display`](fmt::Display) is what stands at the end of a line: `event=clock_floor_persist_failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    name: &'static str,
}

impl Event {
    /// The name, in `snake_case`: what it is about, then what became of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "event={}", self.name)
    }
}

/// The events of one component as constants, each with its name and what it means; `ALL` has them with that sentence.
macro_rules! events {
    ($($(#[doc = $meaning:literal])+ $constant:ident = $name:literal;)+) => {
        $($(#[doc = $meaning])+ pub const $constant: super::Event = super::Event { name: $name };)+

        /// Every event of the component, with what it means.
        pub const ALL: &[(super::Event, &str)] = &[$(($constant, concat!($($meaning),+))),+];
    };
}

pub mod debug;
pub mod init;
pub mod network;
pub mod update;
pub mod uplink;

/// Components and their events.
pub const COMPONENTS: &[(&str, &[(Event, &str)])] = &[
    ("init", init::ALL),
    ("network", network::ALL),
    ("update", update::ALL),
    ("uplink", uplink::ALL),
    ("debug", debug::ALL),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_name_is_given_once_in_snake_case() {
        let mut seen = BTreeSet::new();
        for (component, events) in COMPONENTS {
            for (event, meaning) in *events {
                let name = event.name();
                let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                assert!(!name.is_empty() && name.chars().all(is_word), "{component}: {name}");
                assert!(seen.insert(name), "{component}: {name} is given twice");
                assert!(meaning.trim().ends_with('.'), "{name}: {meaning} is no sentence");
            }
        }
    }

    #[test]
    fn a_line_ends_in_the_name() {
        let line = format!("no clock {}", init::CLOCK_FLOOR_PERSIST_FAILED);
        assert_eq!(line, "no clock event=clock_floor_persist_failed");
    }
}
