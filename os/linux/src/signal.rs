//! Signals as something to poll.

use rustix::fd::{FromRawFd, OwnedFd};
use std::io;
use std::mem::MaybeUninit;

/// Signals that PID 1 waits for.
const WATCHED: [libc::c_int; 3] = [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT];

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A child ended.
    Child,
    /// The system is to be switched off (`SIGTERM`).
    PowerOff,
    /// The system is to be started again (`SIGINT`, which the kernel sends for Ctrl-Alt-Del).
    Reboot,
}

/// A descriptor that becomes readable when one of the watched signals is pending.
#[derive(Debug)]
pub struct SignalDescriptor {
    descriptor: OwnedFd,
}

impl SignalDescriptor {
    /// Blocks the watched signals for this thread, and opens the descriptor that reports them.
    ///
    /// # Errors
    /// The kernel refuses either.
    pub fn open() -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the whole set that the pointer leads to.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in WATCHED {
            // SAFETY: the set was initialised above, and the signals are valid numbers.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
        }
        // SAFETY: the set is initialised; a null pointer for the old mask is allowed.
        let blocked =
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) };
        if blocked != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the set is initialised, and -1 asks for a new descriptor.
        let raw = unsafe { libc::signalfd(-1, set.as_ptr(), flags) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just handed out this descriptor, and nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Self { descriptor })
    }

    /// The descriptor, for polling.
    #[must_use]
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The next pending signal, `None` when there is no more.
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        // `ssi_signo` is the first field of the 128-byte `signalfd_siginfo`: signalfd(2).
        let mut info = [0u8; 128];
        loop {
            let number = match rustix::io::read(&self.descriptor, &mut info) {
                Ok(128) => i32::from_ne_bytes([info[0], info[1], info[2], info[3]]),
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            match number {
                libc::SIGCHLD => return Ok(Some(Signal::Child)),
                libc::SIGTERM => return Ok(Some(Signal::PowerOff)),
                libc::SIGINT => return Ok(Some(Signal::Reboot)),
                _ => {}
            }
        }
    }
}
