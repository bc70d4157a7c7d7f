//! How init's run ends, as the last lines that it logs: what the next boot reads of them is the type that wrote them.
//!
//! The texts stay as they are: a slot reads what the release in the other one has logged. The event at the end of the
//! line is no part of them; lines of releases before there were events are read as well.

use holdfast_types::component_name::check_name;
use holdfast_types::event::{self, Event};
use std::fmt;

/// Beginning of init's lines in the kernel's log.
const OF_INIT: &str = "init: ";
const STOPPING: &str = "stopping all components";
const UNHEALTHY: &str = "not healthy: ";
const CANNOT_GO_ON: &str = "cannot go on: ";
const PANICKED: &str = "panicked at ";

/// The end of a run, in a line of init's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breadcrumb {
    /// init asks every component to end.
    Stopping,
    /// A critical component keeps the release from being healthy.
    Unhealthy(Unhealthy),
    /// init lacks something that it cannot do without; the error with its causes.
    CannotGoOn(String),
    /// init panicked: the place in the source, and the message.
    Panicked(String),
}

/// A critical component with what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unhealthy {
    /// The component's name.
    pub component: String,
    /// The reason.
    pub reason: Reason,
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{UNHEALTHY}{} {}", self.component, self.reason)
    }
}

/// The reason why a critical component keeps a release from being healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The component ends, or is not ready, again and again.
    NotReady,
    /// The release on trial is healthy, and the update agent has not agreed to it in time: it has not reached the
    /// service, which the release before could.
    DoesNotAgree,
}

impl Reason {
    const ALL: [Self; 2] = [Self::NotReady, Self::DoesNotAgree];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotReady => "does not stay ready",
            Self::DoesNotAgree => "does not agree to the release",
        })
    }
}

/// The text that init logs, behind its name.
impl fmt::Display for Breadcrumb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => f.write_str(STOPPING),
            Self::Unhealthy(unhealthy) => unhealthy.fmt(f),
            Self::CannotGoOn(cause) => write!(f, "{CANNOT_GO_ON}{cause}"),
            Self::Panicked(cause) => write!(f, "{PANICKED}{cause}"),
        }
    }
}

impl Breadcrumb {
    /// Returns the event that the line of this text ends in.
    #[must_use]
    pub fn event(&self) -> Event {
        match self {
            Self::Stopping => event::init::COMPONENTS_STOPPING,
            Self::Unhealthy(Unhealthy { reason: Reason::NotReady, .. }) => {
                event::init::BOOT_UNHEALTHY
            }
            Self::Unhealthy(Unhealthy { reason: Reason::DoesNotAgree, .. }) => {
                event::init::RELEASE_NOT_AGREED
            }
            Self::CannotGoOn(_) => event::init::INIT_FAILED,
            Self::Panicked(_) => event::init::INIT_PANICKED,
        }
    }

    /// Reads what a line of the kernel's log, without its time, says of the end of init's run; `None` for any other line,
    /// and for one of a component, which has the component's name in front.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        // A cause is shown in the status of the next boot, which has an end of its own.
        let (text, _) = event::split(line.strip_prefix(OF_INIT)?);
        if text == STOPPING {
            return Some(Self::Stopping);
        }
        if let Some(cause) = text.strip_prefix(CANNOT_GO_ON) {
            return Some(Self::CannotGoOn(cause.to_owned()));
        }
        if let Some(cause) = text.strip_prefix(PANICKED) {
            return Some(Self::Panicked(cause.to_owned()));
        }
        let (component, why) = text.strip_prefix(UNHEALTHY)?.split_once(' ')?;
        let reason = Reason::ALL.into_iter().find(|reason| reason.to_string() == why)?;
        check_name(component).ok()?;
        Some(Self::Unhealthy(Unhealthy { component: component.to_owned(), reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn breadcrumbs() -> impl Strategy<Value = Breadcrumb> {
        let reason = prop_oneof![Just(Reason::NotReady), Just(Reason::DoesNotAgree)];
        prop_oneof![
            Just(Breadcrumb::Stopping),
            ("[a-z][a-z0-9]{0,20}", reason).prop_map(|(component, reason)| Breadcrumb::Unhealthy(
                Unhealthy { component, reason }
            )),
            "[ -~]{0,80}".prop_map(Breadcrumb::CannotGoOn),
            "[ -~]{0,80}".prop_map(Breadcrumb::Panicked),
        ]
    }

    proptest! {
        #[test]
        fn what_init_logs_is_what_the_next_boot_reads(breadcrumb in breadcrumbs()) {
            let event = breadcrumb.event();
            let line = format!("init: {breadcrumb} {event}");
            prop_assert_eq!(Breadcrumb::parse(&line), Some(breadcrumb.clone()));
            // A component that says the same has its name in front.
            let by_another = format!("hello: {breadcrumb} {event}");
            prop_assert_eq!(Breadcrumb::parse(&by_another), None);
            let quoted = format!("hello: init: {breadcrumb} {event}");
            prop_assert_eq!(Breadcrumb::parse(&quoted), None);
        }
    }

    /// Releases of both slots read each other's.
    #[test]
    fn the_texts_stay_as_devices_in_the_field_log_them() {
        let unhealthy =
            |reason| Breadcrumb::Unhealthy(Unhealthy { component: "pump".to_owned(), reason });
        for (breadcrumb, text) in [
            (Breadcrumb::Stopping, "stopping all components"),
            (unhealthy(Reason::NotReady), "not healthy: pump does not stay ready"),
            (unhealthy(Reason::DoesNotAgree), "not healthy: pump does not agree to the release"),
            (Breadcrumb::CannotGoOn("no list".to_owned()), "cannot go on: no list"),
            (Breadcrumb::Panicked("a.rs:1:2: b".to_owned()), "panicked at a.rs:1:2: b"),
        ] {
            assert_eq!(breadcrumb.to_string(), text);
            // As releases before there were events have logged it.
            assert_eq!(Breadcrumb::parse(&format!("init: {text}")), Some(breadcrumb));
        }
    }

    #[test]
    fn another_line_of_inits_is_none() {
        for line in [
            "init: not healthy: pump",
            "init: not healthy: pump is tired",
            "init: not healthy: ../pump does not stay ready",
            "init: stopping all components now",
            "init: stopping all components now event=components_stopping",
            "init: slot a committed",
            "stopping all components",
            "",
        ] {
            assert_eq!(Breadcrumb::parse(line), None, "{line}");
        }
    }
}
