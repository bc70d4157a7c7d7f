//! The `sd_notify` datagrams that a component sends to its stub, and nothing else of that protocol.
//!
//! The stub hands on to init what it has understood, one byte for each datagram that says something: a datagram can
//! carry descriptors, and a byte in a pipe cannot. The bytes come from a component and are hostile: parsing is total, bounded by
//! [`MAX_DATAGRAM_BYTES`] and allocates nothing. Source: `sd_notify(3)`.

/// Longest datagram that is looked at; a longer one is dropped whole.
pub const MAX_DATAGRAM_BYTES: usize = 512;

/// State that a component has notified (`sd_notify`), in one datagram or in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`: start-up is complete.
    pub ready: bool,
    /// `WATCHDOG=1`: still alive.
    pub watchdog: bool,
    /// `STOPPING=1`: it is ending on purpose.
    pub stopping: bool,
}

impl Notification {
    const READY: u8 = 1;
    const WATCHDOG: u8 = 2;
    const STOPPING: u8 = 4;

    /// True when nothing was said that init would act on.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The byte by which the stub tells init.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        flag(self.ready, Self::READY)
            | flag(self.watchdog, Self::WATCHDOG)
            | flag(self.stopping, Self::STOPPING)
    }

    /// Decodes the byte that the stub hands on. Flags that do not exist are ignored.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        Self {
            ready: byte & Self::READY != 0,
            watchdog: byte & Self::WATCHDOG != 0,
            stopping: byte & Self::STOPPING != 0,
        }
    }

    /// This, and another that came before or after it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::from_byte(self.to_byte() | other.to_byte())
    }
}

/// Reads one datagram of newline-separated assignments. Unknown assignments are ignored, as the
/// protocol demands; a datagram that is too long says nothing.
#[must_use]
pub fn parse(datagram: &[u8]) -> Notification {
    let mut notification = Notification::default();
    if datagram.len() > MAX_DATAGRAM_BYTES {
        return notification;
    }
    for line in datagram.split(|byte| *byte == b'\n') {
        match line {
            b"READY=1" => notification.ready = true,
            b"WATCHDOG=1" => notification.watchdog = true,
            b"STOPPING=1" => notification.stopping = true,
            _ => {}
        }
    }
    notification
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_assignments_in_one_datagram_are_all_seen() {
        let seen = parse(b"STATUS=warm\nREADY=1\nWATCHDOG=1");
        assert_eq!(seen, Notification { ready: true, watchdog: true, stopping: false });
    }

    #[test]
    fn near_misses_say_nothing() {
        for datagram in [&b"READY=10"[..], b" READY=1", b"READY=1 ", b"ready=1", b"READY=1\0", b""]
        {
            assert_eq!(parse(datagram), Notification::default(), "{datagram:?}");
        }
    }

    #[test]
    fn a_datagram_that_is_too_long_says_nothing() {
        let mut datagram = b"READY=1\n".to_vec();
        datagram.resize(MAX_DATAGRAM_BYTES + 1, b'x');
        assert_eq!(parse(&datagram), Notification::default());
    }

    proptest! {
        #[test]
        fn a_byte_says_what_the_datagram_did(ready: bool, watchdog: bool, stopping: bool, noise in 0u8..32) {
            let said = Notification { ready, watchdog, stopping };
            prop_assert_eq!(Notification::from_byte(said.to_byte() | noise << 3), said);
            prop_assert_eq!(said.is_empty(), said.to_byte() == 0);
            prop_assert_eq!(said.and(Notification::default()), said);
        }

        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }
    }
}
