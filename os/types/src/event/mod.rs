//! Names of the events in the log, which stay the same whatever a line is worded like.
//!
//! A line ends in `event=NAME`; alerts and reports key on it, and a name that was released is never given to another
//! event. `docs/events.md` lists them all; a test makes it of [`COMPONENTS`], and finds the sources that use a constant
//! by its name.

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
        write!(formatter, "{MARK}{}", self.name)
    }
}

/// What stands in front of a name.
const MARK: &str = "event=";

/// Splits a line of the log into its text and the name of the event that it ends in. A line of a release that knew no
/// events has none.
#[must_use]
pub fn split(line: &str) -> (&str, Option<&str>) {
    let found = line.rsplit_once(' ').and_then(|(text, last)| {
        let name = last.strip_prefix(MARK)?;
        (!name.is_empty() && name.bytes().all(is_of_name)).then_some((text, name))
    });
    found.map_or((line, None), |(text, name)| (text, Some(name)))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Declares the events of one component as constants, each with its name (the constant's in lower case) and what it
/// means; `ALL` has them with that sentence.
macro_rules! events {
    ($($(#[doc = $meaning:literal])+ $constant:ident = $name:literal;)+) => {
        $($(#[doc = $meaning])+ pub const $constant: super::Event = super::Event { name: $name };)+

        /// Every event of the component, with what it means.
        pub const ALL: &[(super::Event, &str)] = &[$(($constant, concat!($($meaning),+))),+];
    };
}

pub mod debug;
pub mod identity;
pub mod init;
pub mod network;
pub mod report;
pub mod security_service;
pub mod update;
pub mod uplink;

/// Components and their events.
pub const COMPONENTS: &[(&str, &[(Event, &str)])] = &[
    ("init", init::ALL),
    ("network", network::ALL),
    ("update", update::ALL),
    ("uplink", uplink::ALL),
    ("identity", identity::ALL),
    ("report", report::ALL),
    ("debug", debug::ALL),
    ("holdfast-service", security_service::ALL),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Longest name, in bytes: a record of the kernel's log must have room for what has happened as well.
    const MAX_NAME_BYTES: usize = 48;

    #[test]
    fn each_name_is_given_once_in_snake_case() {
        let mut seen = BTreeSet::new();
        for (component, events) in COMPONENTS {
            for (event, meaning) in *events {
                let name = event.name();
                assert!(!name.is_empty() && name.bytes().all(is_of_name), "{component}: {name}");
                assert!(name.len() <= MAX_NAME_BYTES, "{component}: {name} is too long");
                assert!(seen.insert(name), "{component}: {name} is given twice");
                assert!(meaning.trim().ends_with('.'), "{name}: {meaning} is no sentence");
            }
        }
    }

    #[test]
    fn a_line_ends_in_the_name() {
        let line = format!("no clock {}", init::CLOCK_FLOOR_PERSIST_FAILED);
        assert_eq!(line, "no clock event=clock_floor_persist_failed");
        assert_eq!(split(&line), ("no clock", Some("clock_floor_persist_failed")));
    }

    #[test]
    fn a_line_without_an_event_is_all_text() {
        for line in ["", "no clock", "event=x", "no clock event=", "no event=x here", "a event=X"] {
            assert_eq!(split(line), (line, None));
        }
    }

    proptest! {
        #[test]
        fn every_text_comes_back_from_its_line(text in ".{0,80}") {
            let line = format!("{text} {}", init::REBOOTING);
            prop_assert_eq!(split(&line), (text.as_str(), Some("rebooting")));
        }
    }
}
