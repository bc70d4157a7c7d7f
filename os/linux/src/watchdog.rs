//! The hardware watchdog. Source: kernel document `watchdog/watchdog-api`.

use rustix::fs::{Mode, OFlags, open};
use std::os::fd::OwnedFd;

/// An armed watchdog: it resets the machine unless [`pet`](Self::pet) is called often enough.
/// Dropping it leaves it armed.
#[derive(Debug)]
pub struct Watchdog {
    device: OwnedFd,
}

impl Watchdog {
    /// Opens and thereby arms the board's watchdog; `None` where there is none.
    #[must_use]
    pub fn arm() -> Option<Self> {
        open("/dev/watchdog0", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .ok()
            .map(|device| Self { device })
    }

    /// Proves that init is alive. Any byte but `V` (which would disarm it) does.
    pub fn pet(&self) {
        // A failed write needs no handling: the watchdog then does what it is there for.
        let _ = rustix::io::write(&self.device, b"\0");
    }
}
