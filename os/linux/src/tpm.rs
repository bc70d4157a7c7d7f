//! The TPM behind the kernel's resource manager, `/dev/tpmrm0`: one command, one response, with a deadline.
//!
//! A device that was opened with `O_NONBLOCK` takes a command at once and has it carried out by a worker of the kernel; its
//! response makes the descriptor readable, and is read whole (drivers/char/tpm/tpm-dev-common.c). Keys and sessions are those
//! of this open file, and flushed when it is closed (drivers/char/tpm/tpm2-space.c).

use crate::PathError;
use crate::clock::monotonic_ms;
use crate::poll::Poll;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Path of the device.
pub const DEVICE: &str = "/dev/tpmrm0";
/// Milliseconds within which a command must be answered. The slowest, making a key on P-256, takes a TPM some seconds.
pub const ANSWER_WITHIN_MS: u64 = 10_000;
/// Most bytes of a command or a response (`TPM_BUFSIZE` of drivers/char/tpm/tpm.h).
pub const MAX_BYTES: usize = 4096;
/// Looks at a device that says it is readable and has nothing.
const MAX_EMPTY_READS: u32 = 8;

/// Errors of a TPM. After any but [`TooLong`](Self::TooLong) it is not asked again.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The command is longer than the kernel takes.
    #[error("a command of {0} bytes is longer than a TPM's device takes")]
    TooLong(usize),
    /// The kernel did not take the command.
    #[error("cannot send the TPM a command")]
    Send(#[source] io::Error),
    /// The kernel could not carry it out, or there is no response.
    #[error("cannot read the TPM's response")]
    Receive(#[source] io::Error),
    /// There was no response in time.
    #[error("the TPM does not answer within {0} ms")]
    Silent(u64),
    /// An earlier command has failed.
    #[error("the TPM has failed before")]
    Failed,
}

/// Opens the device, without waiting, for somebody who gets the descriptor.
///
/// # Errors
/// There is none: the board has no TPM, or its driver has found none. Or somebody has opened it exclusively.
pub fn open_device() -> Result<OwnedFd, PathError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    open(DEVICE, flags, Mode::empty())
        .map_err(|error| PathError::new("open", Path::new(DEVICE), error))
}

/// A TPM's device, open with `O_NONBLOCK`.
#[derive(Debug)]
pub struct Tpm {
    device: OwnedFd,
    answer_within_ms: u64,
    has_failed: bool,
}

impl Tpm {
    /// Takes a descriptor of [`open_device`]. The deadline of a command is in milliseconds.
    #[must_use]
    pub fn from_descriptor(device: OwnedFd, answer_within_ms: u64) -> Self {
        Self { device, answer_within_ms, has_failed: false }
    }

    /// Sends a command and waits for its response.
    ///
    /// A device whose deadline is over stays open: its close would wait for the kernel's worker (`tpm_common_release`).
    ///
    /// # Errors
    /// See [`TpmError`]. The response may be an error of the TPM's, which is none here.
    pub fn transmit(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        if command.len() > MAX_BYTES {
            return Err(TpmError::TooLong(command.len()));
        }
        if self.has_failed {
            return Err(TpmError::Failed);
        }
        let response = self.exchange(command);
        self.has_failed = response.is_err();
        response
    }

    fn exchange(&self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        let sent = rustix::io::write(&self.device, command);
        match sent {
            Ok(length) if length == command.len() => {}
            Ok(_) => return Err(TpmError::Send(io::ErrorKind::WriteZero.into())),
            Err(error) => return Err(TpmError::Send(error.into())),
        }
        let until = monotonic_ms().saturating_add(self.answer_within_ms);
        let mut response = vec![0; MAX_BYTES];
        let mut empty_reads = 0u32;
        loop {
            let left = until.saturating_sub(monotonic_ms());
            if left == 0 {
                return Err(TpmError::Silent(self.answer_within_ms));
            }
            let mut poll = Poll::new();
            poll.add(&self.device);
            poll.wait(left).map_err(TpmError::Receive)?;
            if monotonic_ms() >= until {
                return Err(TpmError::Silent(self.answer_within_ms));
            }
            match rustix::io::read(&self.device, response.as_mut_slice()) {
                // The kernel reads nothing, and not EAGAIN, from a device whose response is not there.
                Ok(0) if empty_reads < MAX_EMPTY_READS => {
                    empty_reads = empty_reads.saturating_add(1);
                }
                Ok(0) => return Err(TpmError::Receive(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => {
                    response.truncate(length);
                    return Ok(response);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(TpmError::Receive(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use std::thread;
    use std::time::{Duration, Instant};

    /// A device, and the end at which a TPM would be: packets stand for commands and responses.
    fn device(answer_within_ms: u64) -> (Tpm, OwnedFd) {
        let kind = SocketType::SEQPACKET;
        let flags = SocketFlags::CLOEXEC;
        let (device, other) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::io::ioctl_fionbio(&device, true).unwrap();
        (Tpm::from_descriptor(device, answer_within_ms), other)
    }

    fn answer(other: &OwnedFd, after: Duration) -> Vec<u8> {
        let mut command = vec![0; MAX_BYTES];
        let length = rustix::io::read(other, command.as_mut_slice()).unwrap();
        thread::sleep(after);
        let _ = rustix::io::write(other, b"response");
        command.truncate(length);
        command
    }

    #[test]
    fn a_command_has_one_response() {
        let (mut tpm, other) = device(10_000);
        for after in [0, 50] {
            let other = other.try_clone().unwrap();
            let peer = thread::spawn(move || answer(&other, Duration::from_millis(after)));
            assert_eq!(tpm.transmit(b"command").unwrap(), b"response");
            assert_eq!(peer.join().unwrap(), b"command");
        }
    }

    #[test]
    fn a_tpm_that_stops_answering_is_asked_no_more() {
        let (mut tpm, other) = device(100);
        let began = Instant::now();
        assert!(matches!(tpm.transmit(b"command"), Err(TpmError::Silent(100))));
        assert!(began.elapsed() < Duration::from_secs(5));
        // The response that comes too late is none of the next command.
        answer(&other, Duration::ZERO);
        assert!(matches!(tpm.transmit(b"another"), Err(TpmError::Failed)));
    }

    #[test]
    fn a_device_that_goes_away_is_an_error() {
        let (mut tpm, other) = device(10_000);
        drop(other);
        assert!(matches!(tpm.transmit(b"command"), Err(TpmError::Send(_))));
        assert!(matches!(tpm.transmit(b"command"), Err(TpmError::Failed)));
        let (mut tpm, other) = device(10_000);
        let peer = thread::spawn(move || rustix::io::read(&other, &mut [0; 64]).unwrap());
        assert!(matches!(tpm.transmit(b"command"), Err(TpmError::Receive(_))));
        assert_eq!(peer.join().unwrap(), 7);
    }

    #[test]
    fn a_command_that_is_too_long_costs_nothing() {
        let (mut tpm, other) = device(10_000);
        let long = vec![0; MAX_BYTES + 1];
        assert!(matches!(tpm.transmit(&long), Err(TpmError::TooLong(4097))));
        let peer = thread::spawn(move || answer(&other, Duration::ZERO));
        assert_eq!(tpm.transmit(b"command").unwrap(), b"response");
        peer.join().unwrap();
    }
}
