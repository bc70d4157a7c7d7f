//! The hardware watchdog. Source: kernel document `watchdog/watchdog-api`.

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Getter, Opcode, Updater, opcode};
use std::os::fd::OwnedFd;

/// WDIOC_GETBOOTSTATUS.
const GET_BOOT_STATUS: Opcode = opcode::read::<libc::c_int>(b'W', 2);
/// WDIOC_SETTIMEOUT.
const SET_TIMEOUT: Opcode = opcode::read_write::<libc::c_int>(b'W', 6);
/// WDIOF_CARDRESET.
const CARD_RESET: libc::c_int = 0x20;

/// An armed watchdog: it resets the machine unless [`pet`](Self::pet) is called often enough.
/// Dropping it leaves it armed.
#[derive(Debug)]
pub struct Watchdog {
    device: OwnedFd,
}

impl Watchdog {
    /// Opens and thereby arms the board's watchdog; `None` where there is none. It fires after
    /// `timeout_s` seconds, or after the time that it has from the start where it takes no other.
    #[must_use]
    pub fn arm(timeout_s: u16) -> Option<Self> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let device = open("/dev/watchdog0", flags, Mode::empty()).ok()?;
        let mut timeout = libc::c_int::from(timeout_s);
        // SAFETY: WDIOC_SETTIMEOUT reads and writes one int, which the updater borrows.
        let request = unsafe { Updater::<{ SET_TIMEOUT }, libc::c_int>::new(&mut timeout) };
        // SAFETY: as above; the descriptor is a watchdog.
        let _ = unsafe { rustix::ioctl::ioctl(&device, request) };
        Some(Self { device })
    }

    /// True when the reset before this run was the watchdog's.
    #[must_use]
    pub fn has_fired(&self) -> bool {
        // SAFETY: WDIOC_GETBOOTSTATUS writes one int, which the getter has room for.
        let status = unsafe { Getter::<{ GET_BOOT_STATUS }, libc::c_int>::new() };
        // SAFETY: as above; the descriptor is a watchdog.
        let status = unsafe { rustix::ioctl::ioctl(&self.device, status) };
        status.is_ok_and(|status| status & CARD_RESET != 0)
    }

    /// Proves that init is alive. Any byte but `V` (which would disarm it) does.
    pub fn pet(&self) {
        // A failed write needs no handling: the watchdog then does what it is there for.
        let _ = rustix::io::write(&self.device, b"\0");
    }
}
