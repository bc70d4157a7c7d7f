//! What makes two ends of components the same failure on one device, so that the second is counted and not recorded.

use crate::record::{Body, Component, Crash, End, Ended, Panic, Protocol, Refused, Where};

/// What makes two events of one kind the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signature {
    /// A component has ended in the same way at the same place.
    Ended(Component, End, Option<Crash>, Option<Panic>),
    /// An app's packets to the same port of the same kind of place were refused.
    Refused(Component, Protocol, Option<u16>, Where, bool),
}

impl Signature {
    /// Returns the signature of what has happened; `None` for what is recorded each time.
    #[must_use]
    pub fn of(body: &Body) -> Option<Self> {
        match body {
            Body::Ended(Ended { component, end, crash, panic, .. }) => {
                // Where its watchdog has met it is not what it has failed at: it may be anywhere in a loop.
                let crash = crash.filter(|_| *end != End::Watchdog);
                Some(Self::Ended(component.clone(), *end, crash, *panic))
            }
            Body::Refused(Refused { component, protocol, port, to, is_granted_name, .. }) => {
                Some(Self::Refused(component.clone(), *protocol, *port, *to, *is_granted_name))
            }
            Body::Boot(_)
            | Body::Update(_)
            | Body::Traffic(_)
            | Body::Used(_)
            | Body::Storage(_)
            | Body::Clock(_)
            | Body::CheckIn(_)
            | Body::Lost(_) => None,
        }
    }
}
