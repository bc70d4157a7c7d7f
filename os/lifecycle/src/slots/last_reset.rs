//! Why the machine was reset, told from what the kernel's log of that time ends with.
//!
//! That log lies in memory that a reset leaves alone (`ramoops`; kernel document
//! `admin-guide/ramoops`). A component's lines carry its name in front, so that none can pass its
//! own for the kernel's or init's.

use crate::breadcrumb::{Breadcrumb, Reason, Unhealthy};
use crate::console_line::without_time;
use std::fmt;

/// Longest cause in words, in bytes.
const MAX_CAUSE_BYTES: usize = 120;

/// The reason for which the last run of the machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LastReset {
    /// There is no log of an earlier run: the machine was switched on.
    PowerOn,
    /// Somebody who may asked for it, or init ended in order.
    Orderly,
    /// The root file system is not what was signed, or cannot be read.
    Verity,
    /// The kernel panicked.
    Panic(String),
    /// init could not go on.
    Init(String),
    /// init ended because of a critical component.
    Unhealthy(Unhealthy),
    /// The hardware watchdog was not petted in time.
    Watchdog,
    /// The log breaks off: power, a reset line, or a watchdog that does not say so.
    Unknown,
}

impl LastReset {
    /// Returns a word for it: at most 24 of `a-z` and `-`, and nothing of what the last run has logged.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::PowerOn => "power-on",
            Self::Orderly => "orderly",
            Self::Verity => "verity",
            Self::Panic(_) => "kernel-panic",
            Self::Init(_) => "init-failed",
            Self::Unhealthy(_) => "not-healthy",
            Self::Watchdog => "watchdog",
            Self::Unknown => "unknown",
        }
    }

    /// True where nothing was wrong with the last run but that the update agent did not agree to its release.
    #[must_use]
    pub fn is_disagreement(&self) -> bool {
        matches!(self, Self::Unhealthy(Unhealthy { reason: Reason::DoesNotAgree, .. }))
    }
}

impl fmt::Display for LastReset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOn => write!(f, "power-on"),
            Self::Orderly => write!(f, "orderly"),
            Self::Verity => write!(f, "the root file system does not verify"),
            Self::Panic(cause) => write!(f, "kernel panic: {cause}"),
            Self::Init(cause) => write!(f, "init failed: {cause}"),
            Self::Unhealthy(unhealthy) => unhealthy.fmt(f),
            Self::Watchdog => write!(f, "watchdog"),
            Self::Unknown => write!(f, "unknown, the log breaks off"),
        }
    }
}

/// The reason, from the end of the earlier log, where there is one, and from what the watchdog says
/// of itself.
#[must_use]
pub fn last_reset(log: Option<&str>, watchdog_fired: bool) -> LastReset {
    let Some(log) = log else {
        return if watchdog_fired { LastReset::Watchdog } else { LastReset::PowerOn };
    };
    // From the end: the last word counts.
    let told = log.lines().rev().map(without_time).find_map(|line| {
        if line.contains("dm-verity device") && line.starts_with("reboot: Restarting system") {
            return Some(LastReset::Verity);
        }
        if let Some(cause) = line.strip_prefix("Kernel panic - not syncing: ") {
            return Some(LastReset::Panic(shortened(cause)));
        }
        Some(match Breadcrumb::parse(line)? {
            Breadcrumb::Stopping => LastReset::Orderly,
            Breadcrumb::Unhealthy(unhealthy) => LastReset::Unhealthy(unhealthy),
            Breadcrumb::CannotGoOn(cause) | Breadcrumb::Panicked(cause) => {
                LastReset::Init(shortened(&cause))
            }
        })
    });
    match told {
        Some(told) => told,
        None if watchdog_fired => LastReset::Watchdog,
        None => LastReset::Unknown,
    }
}

fn shortened(cause: &str) -> String {
    let mut text: String = cause.chars().filter(|c| !c.is_control()).collect();
    while text.len() > MAX_CAUSE_BYTES {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_end_of_the_log_tells_the_reason() {
        let log = |end: &str| format!("[    0.100000] Linux version 6.12\n[    1.000000] {end}\n");
        for (end, expected) in [
            (
                "reboot: Restarting system with command 'dm-verity device corrupted'",
                LastReset::Verity,
            ),
            (
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004",
                LastReset::Panic("Attempted to kill init! exitcode=0x00000004".to_owned()),
            ),
            ("init: cannot go on: no list", LastReset::Init("no list".to_owned())),
            ("init: stopping all components", LastReset::Orderly),
            ("init: stopping all components event=components_stopping", LastReset::Orderly),
            (
                "init: panicked at a.rs:1:2: b event=init_panicked",
                LastReset::Init("a.rs:1:2: b".to_owned()),
            ),
            ("hello: heartbeat 7", LastReset::Unknown),
            // What a component says of the kernel is no word of the kernel.
            ("hello: Kernel panic - not syncing: boo", LastReset::Unknown),
        ] {
            assert_eq!(last_reset(Some(&log(end)), false), expected, "{end}");
        }
        assert_eq!(last_reset(Some(&log("hello: heartbeat 7")), true), LastReset::Watchdog);
        assert_eq!(last_reset(None, false), LastReset::PowerOn);
        for (end, disagrees) in [
            ("init: not healthy: update does not agree to the release", true),
            (
                "init: not healthy: update does not agree to the release event=release_not_agreed",
                true,
            ),
            ("init: not healthy: update does not stay ready", false),
            ("hello: not healthy: update does not agree to the release", false),
            ("init: hello: not healthy: update does not agree to the release", false),
        ] {
            assert_eq!(last_reset(Some(&log(end)), false).is_disagreement(), disagrees, "{end}");
        }
        // init says why behind the order to stop.
        let why =
            "init: stopping all components\n[    2.0] init: not healthy: pump does not stay ready";
        let told = last_reset(Some(&log(why)), false);
        let component = "pump".to_owned();
        assert_eq!(told, LastReset::Unhealthy(Unhealthy { component, reason: Reason::NotReady }));
        assert_eq!(told.to_string(), "not healthy: pump does not stay ready");
    }

    #[test]
    fn a_reason_has_one_word() {
        let component = "pump".to_owned();
        let reason = Reason::NotReady;
        for (reset, word) in [
            (LastReset::PowerOn, "power-on"),
            (LastReset::Orderly, "orderly"),
            (LastReset::Verity, "verity"),
            (LastReset::Panic("Oops, 1".to_owned()), "kernel-panic"),
            (LastReset::Init("no list".to_owned()), "init-failed"),
            (LastReset::Unhealthy(Unhealthy { component, reason }), "not-healthy"),
            (LastReset::Watchdog, "watchdog"),
            (LastReset::Unknown, "unknown"),
        ] {
            assert_eq!(reset.word(), word);
            let is_word = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(word.len() <= 24 && word.bytes().all(is_word), "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_log_has_a_short_reason(log in ".{0,400}", fired: bool) {
            prop_assert!(last_reset(Some(&log), fired).to_string().len() < 160);
        }
    }
}
