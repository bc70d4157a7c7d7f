//! Signals as something to poll.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal as Number};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;

/// Signals that PID 1 waits for.
const WATCHED: [Number; 3] = [Number::SIGCHLD, Number::SIGTERM, Number::SIGINT];

/// A signal that arrived, by what it asks for.
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
    descriptor: SignalFd,
}

impl SignalDescriptor {
    /// Blocks the watched signals for this thread, and opens the descriptor that reports them.
    ///
    /// # Errors
    /// The kernel refuses either.
    pub fn open() -> io::Result<Self> {
        let watched: SigSet = WATCHED.into_iter().collect();
        // Blocked first: a signal that is not blocked runs its default action, which for two of these ends the process, and
        // is never seen by the descriptor (signalfd(2)).
        watched.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { descriptor: SignalFd::with_flags(&watched, flags)? })
    }

    /// The descriptor, for polling.
    #[must_use]
    pub fn descriptor(&self) -> &SignalFd {
        &self.descriptor
    }

    /// The next pending signal, `None` when there is no more.
    ///
    /// # Errors
    /// The kernel refuses the read.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        loop {
            let number = match self.descriptor.read_signal() {
                Ok(Some(info)) => info.ssi_signo.cast_signed(),
                Ok(None) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            match Number::try_from(number) {
                Ok(Number::SIGCHLD) => return Ok(Some(Signal::Child)),
                Ok(Number::SIGTERM) => return Ok(Some(Signal::PowerOff)),
                Ok(Number::SIGINT) => return Ok(Some(Signal::Reboot)),
                // The set holds no other; one that it came to hold would be passed over.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::Poll;
    use nix::sys::signal::raise;

    /// Signals of a process with threads go to any of them; one that a thread raises goes to itself, as in PID 1, which has
    /// one thread.
    #[test]
    fn signals_that_came_are_read_and_then_there_are_none() {
        let signals = SignalDescriptor::open().unwrap();
        assert_eq!(signals.next().unwrap(), None);
        for (number, signal) in [
            (Number::SIGTERM, Signal::PowerOff),
            (Number::SIGINT, Signal::Reboot),
            (Number::SIGCHLD, Signal::Child),
        ] {
            raise(number).unwrap();
            let mut poll = Poll::new();
            poll.add(signals.descriptor());
            poll.wait(1_000).unwrap();
            assert_eq!(signals.next().unwrap(), Some(signal));
            assert_eq!(signals.next().unwrap(), None);
        }
    }
}
