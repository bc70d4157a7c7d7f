//! What stands between QEMU and swtpm where a TPM is to fail: it carries both connections, and does to the commands what the
//! fault says.
//!
//! The control connection carries one request and one answer at a time; with `CMD_SET_DATAFD` comes a descriptor, by which the
//! TPM's commands go then. Source: swtpm's `include/swtpm/tpm_ioctl.h` and `man/man3/swtpm_ioctls.pod`.

use super::fault::TpmFault;
use crate::HarnessError;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

const CMD_INIT: u32 = 2;
const CMD_CANCEL_TPM_CMD: u32 = 9;
const CMD_SET_DATAFD: u32 = 16;
/// Longest message of either connection: the TPM's buffer has 4096 bytes at most.
const MAX_BYTES: usize = 4096;
const HEADER_BYTES: usize = 10;
/// `TPM_RC_FAILURE`, and `TPM_RC_CANCELED`: TPM 2.0 Library, part 2, 6.6.3.
const FAILURE: [u8; HEADER_BYTES] = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1];
const CANCELED: [u8; HEADER_BYTES] = [0x80, 1, 0, 0, 0, 10, 0, 0, 9, 9];

#[derive(Debug, Default)]
struct Shared {
    /// QEMU asks before it resets the TPM which version it is of; that is no part of the fault.
    powered: bool,
    commands: Vec<u32>,
    /// A command waits for an answer that does not come.
    waits: bool,
    cancelled: bool,
    ended: bool,
}

/// A relay. It ends with QEMU.
#[derive(Debug)]
pub(super) struct Relay {
    shared: Arc<(Mutex<Shared>, Condvar)>,
}

fn lock(shared: &(Mutex<Shared>, Condvar)) -> MutexGuard<'_, Shared> {
    shared.0.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// Waits at `path` for QEMU in a thread of its own; `swtpm` is a connection to the control socket of the TPM.
    ///
    /// # Errors
    /// There can be no socket at the path.
    pub(super) fn listen(
        path: &Path,
        swtpm: UnixStream,
        fault: TpmFault,
    ) -> Result<Self, HarnessError> {
        let failed =
            |source| HarnessError::File { operation: "listen at", path: path.to_owned(), source };
        let listener = UnixListener::bind(path).map_err(failed)?;
        let shared = Arc::new((Mutex::new(Shared::default()), Condvar::new()));
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            let _ = listener
                .accept()
                .and_then(|(qemu, _)| carry_control(&qemu, &swtpm, fault, &of_thread));
            lock(&of_thread).ended = true;
            of_thread.1.notify_all();
        });
        Ok(Self { shared })
    }

    pub(super) fn commands(&self) -> Vec<u32> {
        lock(&self.shared).commands.clone()
    }
}

/// Carries the control connection until QEMU closes it.
fn carry_control(
    mut qemu: &UnixStream,
    mut swtpm: &UnixStream,
    fault: TpmFault,
    shared: &Arc<(Mutex<Shared>, Condvar)>,
) -> io::Result<()> {
    let mut buffer = [0; MAX_BYTES];
    loop {
        let (length, handed) = receive(qemu, &mut buffer)?;
        let message = buffer.get(..length).unwrap_or_default();
        let command = message.first_chunk().map(|word| u32::from_be_bytes(*word));
        match (command, handed) {
            (Some(CMD_SET_DATAFD), Some(data)) => {
                let (ours, theirs) = UnixStream::pair()?;
                send(swtpm, message, theirs.as_fd())?;
                let shared = Arc::clone(shared);
                thread::spawn(move || carry_data(UnixStream::from(data), ours, fault, &shared));
            }
            (Some(CMD_CANCEL_TPM_CMD), _) if lock(shared).waits => {
                lock(shared).cancelled = true;
                shared.1.notify_all();
                qemu.write_all(&[0; 4])?;
                continue;
            }
            _ => swtpm.write_all(message)?,
        }
        if command == Some(CMD_INIT) {
            let mut shared = lock(shared);
            shared.powered = true;
            shared.commands.clear();
        }
        let length = swtpm.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        qemu.write_all(buffer.get(..length).unwrap_or_default())?;
    }
}

/// Carries commands and responses until one of the two is gone.
fn carry_data(
    mut qemu: UnixStream,
    mut swtpm: UnixStream,
    fault: TpmFault,
    shared: &(Mutex<Shared>, Condvar),
) -> io::Result<()> {
    loop {
        let command = read_message(&mut qemu)?;
        let code = command.get(6..).and_then(|rest| rest.first_chunk());
        let (powered, number) = {
            let mut shared = lock(shared);
            if shared.powered {
                shared.commands.push(code.map_or(0, |code| u32::from_be_bytes(*code)));
            }
            (shared.powered, shared.commands.len())
        };
        match fault {
            TpmFault::FailureMode if powered => {
                qemu.write_all(&FAILURE)?;
                continue;
            }
            TpmFault::Silent { after } if number > after => {
                let mut state = lock(shared);
                state.waits = true;
                while !state.cancelled && !state.ended {
                    state = shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                (state.waits, state.cancelled) = (false, false);
                qemu.write_all(&CANCELED)?;
                continue;
            }
            TpmFault::Slow(by) if powered => thread::sleep(by),
            _ => {}
        }
        swtpm.write_all(&command)?;
        let response = read_message(&mut swtpm)?;
        qemu.write_all(&response)?;
    }
}

/// Reads one command or response: TPM 2.0 Library, part 1, 18.
fn read_message(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; HEADER_BYTES];
    stream.read_exact(&mut message)?;
    let length = message.get(2..).and_then(|rest| rest.first_chunk());
    let length = length.map_or(0, |word| u32::from_be_bytes(*word));
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(HEADER_BYTES..=MAX_BYTES).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    message.resize(length, 0);
    stream.read_exact(message.get_mut(HEADER_BYTES..).unwrap_or_default())?;
    Ok(message)
}

/// Takes a message, and the descriptor that came with it.
fn receive(from: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut handed = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handed = descriptors.last();
        }
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((received.bytes, handed))
}

/// Sends a message with a descriptor.
fn send(to: &UnixStream, message: &[u8], handed: impl AsFd) -> io::Result<()> {
    let handed = [handed.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&handed)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(to, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const COMMAND: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x44, 0, 0];
    const ANSWER: [u8; HEADER_BYTES] = [0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0];

    /// A TPM that answers everything well.
    fn answering(mut stream: UnixStream) {
        while read_message(&mut stream).is_ok() && stream.write_all(&ANSWER).is_ok() {}
    }

    /// Both ends of a relay whose TPM is on: the guest's commands, and what the control connection does.
    fn relayed(fault: TpmFault) -> (UnixStream, Arc<(Mutex<Shared>, Condvar)>) {
        let (guest, qemu) = UnixStream::pair().unwrap();
        let (swtpm, tpm) = UnixStream::pair().unwrap();
        let shared = Arc::new((Mutex::new(Shared::default()), Condvar::new()));
        lock(&shared).powered = true;
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || carry_data(qemu, swtpm, fault, &of_thread));
        thread::spawn(move || answering(tpm));
        guest.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (guest, shared)
    }

    fn ask(guest: &mut UnixStream) -> Vec<u8> {
        guest.write_all(&COMMAND).unwrap();
        read_message(guest).unwrap()
    }

    #[test]
    fn a_tpm_in_failure_mode_fails_and_a_slow_one_answers() {
        let (mut guest, shared) = relayed(TpmFault::FailureMode);
        assert_eq!(ask(&mut guest), FAILURE);
        assert_eq!(lock(&shared).commands, [0x144]);
        let (mut guest, _) = relayed(TpmFault::Slow(Duration::from_millis(1)));
        assert_eq!(ask(&mut guest), ANSWER);
    }

    #[test]
    fn a_silent_tpm_answers_when_its_command_is_given_up() {
        let (mut guest, shared) = relayed(TpmFault::Silent { after: 1 });
        assert_eq!(ask(&mut guest), ANSWER);
        guest.write_all(&COMMAND).unwrap();
        guest.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(read_message(&mut guest).is_err(), "it answers");
        lock(&shared).cancelled = true;
        shared.1.notify_all();
        guest.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(read_message(&mut guest).unwrap(), CANCELED);
    }

    #[test]
    fn a_descriptor_is_carried_with_its_message() {
        let (from, to) = UnixStream::pair().unwrap();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        send(&from, b"message", &theirs).unwrap();
        let mut buffer = [0; 32];
        let (length, handed) = receive(&to, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"message");
        let mut handed = UnixStream::from(handed.unwrap());
        handed.write_all(b"x").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
