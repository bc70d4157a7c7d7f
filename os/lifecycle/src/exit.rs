//! How a process ended.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bits of a raw wait status (`wait(2)`) that hold the signal; 0 where the process ended by itself.
const SIGNAL_BITS: i32 = 0x7f;
/// Bit of a raw wait status of a signal that says that the kernel has dumped a core (`WCOREDUMP`).
const CORE_BIT: i32 = 0x80;
/// Bits of an exit code.
const CODE_BITS: i32 = 0xff;

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

impl Exit {
    /// Reads a raw wait status.
    #[must_use]
    pub fn from_raw(status: i32) -> Self {
        match status & SIGNAL_BITS {
            0 => Self::Code((status >> 8) & CODE_BITS),
            signal => Self::Signal(signal),
        }
    }

    /// The raw wait status, without the flag for a core.
    #[must_use]
    pub fn raw(self) -> i32 {
        match self {
            Self::Code(code) => (code & CODE_BITS) << 8,
            Self::Signal(signal) => signal & SIGNAL_BITS,
        }
    }

    /// True where a panic of a program in Rust may have been its end.
    #[must_use]
    pub fn may_be_panic(self) -> bool {
        matches!(self, Self::Code(PANIC_CODE) | Self::Signal(SIGABRT))
    }

    /// True when it ended by itself with 0.
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

/// Exit code of a program in Rust whose main thread has panicked.
const PANIC_CODE: i32 = 101;
/// Signal of a program that has called `abort` (signal(7); the same number on ARM and x86).
pub const SIGABRT: i32 = 6;

/// Returns the signal in a raw wait status for which the kernel has dumped a core; `None` where it has dumped none. A program
/// that has only left a file in the place of one does not set the bit.
#[must_use]
pub fn dumped(status: i32) -> Option<i32> {
    match status & SIGNAL_BITS {
        0 => None,
        signal => (status & CORE_BIT != 0).then_some(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_status_is_a_code_or_a_signal() {
        assert_eq!(Exit::from_raw(7 << 8), Exit::Code(7));
        assert_eq!(Exit::from_raw(11), Exit::Signal(11));
        assert_eq!(Exit::from_raw(11 | 0x80), Exit::Signal(11), "with a core");
        assert_eq!(dumped(11 | 0x80), Some(11));
        for without in [11, 0, 7 << 8, 0x80 << 8, 0x80] {
            assert_eq!(dumped(without), None, "{without:x}");
        }
        assert!(Exit::from_raw(0).is_success());
        let panics = [Exit::Code(101), Exit::Signal(6)];
        assert!(panics.into_iter().all(Exit::may_be_panic));
        assert!(!Exit::Code(1).may_be_panic() && !Exit::Signal(11).may_be_panic());
        for exit in [Exit::Code(7), Exit::Signal(9)] {
            assert_eq!(Exit::from_raw(exit.raw()), exit);
        }
    }
}
