//! The `sd_notify` datagrams that a component sends to its stub, and nothing else of that protocol.
//!
//! The stub hands on to init what it has understood, one byte for each datagram that says something: a datagram can
//! carry descriptors, and a byte in a pipe cannot. The bytes come from a component and are hostile: parsing is total, bounded by
//! [`MAX_DATAGRAM_BYTES`] and allocates nothing. Source: `sd_notify(3)`.

use holdfast_types::ReportLevel;

/// Longest datagram that is looked at; a longer one is dropped whole.
pub const MAX_DATAGRAM_BYTES: usize = 512;
/// What stands in front of the level of reports in an assignment.
const REPORTS: &[u8] = b"X_HOLDFAST_REPORTS=";

/// State that a component has notified (`sd_notify`), in one datagram or in several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notification {
    /// `READY=1`: start-up is complete.
    pub ready: bool,
    /// `WATCHDOG=1`: still alive.
    pub watchdog: bool,
    /// `STOPPING=1`: it is ending on purpose.
    pub stopping: bool,
    /// `X_HOLDFAST_REPORTS=` with a level: the most that the device's owner lets it report, of an app that may say so. Of several
    /// that were heard at once, the least.
    pub report_level: Option<ReportLevel>,
}

impl Notification {
    const READY: u8 = 1;
    const WATCHDOG: u8 = 2;
    const STOPPING: u8 = 4;
    const REPORTS_OFF: u8 = 8;
    const REPORTS_HEALTH: u8 = 16;
    const REPORTS_FULL: u8 = 32;

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
            | self.report_level.map_or(0, |level| match level {
                ReportLevel::Off => Self::REPORTS_OFF,
                ReportLevel::Health => Self::REPORTS_HEALTH,
                ReportLevel::Full => Self::REPORTS_FULL,
            })
    }

    /// Decodes the byte that the stub hands on. Flags that do not exist are ignored.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        let levels = [
            (Self::REPORTS_OFF, ReportLevel::Off),
            (Self::REPORTS_HEALTH, ReportLevel::Health),
            (Self::REPORTS_FULL, ReportLevel::Full),
        ];
        let level = levels.into_iter().find(|(flag, _)| byte & flag != 0);
        Self {
            report_level: level.map(|(_, level)| level),
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
            line => {
                let level = line.strip_prefix(REPORTS).and_then(|level| {
                    ReportLevel::ALL.into_iter().find(|known| known.word().as_bytes() == level)
                });
                let before = notification.report_level;
                notification.report_level = before.into_iter().chain(level).min();
            }
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
        let expected = Notification { ready: true, watchdog: true, ..Notification::default() };
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_least_level_of_reports_holds_of_those_that_are_heard_at_once() {
        let level = |datagram: &[u8]| parse(datagram).report_level;
        assert_eq!(level(b"X_HOLDFAST_REPORTS=health"), Some(ReportLevel::Health));
        let both = b"X_HOLDFAST_REPORTS=full\nX_HOLDFAST_REPORTS=off";
        assert_eq!(level(both), Some(ReportLevel::Off));
        for near in [&b"X_HOLDFAST_REPORTS="[..], b"X_HOLDFAST_REPORTS=OFF", b"REPORTS=off"] {
            assert_eq!(level(near), None, "{near:?}");
        }
        let said = |level| Notification { report_level: Some(level), ..Notification::default() };
        let heard = said(ReportLevel::Full).and(said(ReportLevel::Off));
        assert_eq!(heard, said(ReportLevel::Off));
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
        fn a_byte_says_what_the_datagram_did(ready: bool, watchdog: bool, stopping: bool, level in 0usize..4, noise in 0u8..4) {
            let report_level = ReportLevel::ALL.get(level).copied();
            let said = Notification { ready, watchdog, stopping, report_level };
            prop_assert_eq!(Notification::from_byte(said.to_byte() | noise << 6), said);
            prop_assert_eq!(said.is_empty(), said.to_byte() == 0);
            prop_assert_eq!(said.and(Notification::default()), said);
        }

        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }
    }
}
