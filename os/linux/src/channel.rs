//! The sockets and pipes between init and its components.
//!
//! init owns no socket at which it could be sent a descriptor: it would be closed by init, and a close can wait for as
//! long as its sender likes (`SO_LINGER`). What comes to init comes by pipes, which carry bytes alone. Two kinds of
//! sockets are left: one of which init has shut down its side for receiving ([`InitEnd`]), and one that it only listens
//! at for somebody else and never closes ([`ListeningSocket`]).

use crate::PathError;
use crate::child::in_a_child_until_its_end;
use crate::clock::monotonic_ms;
use crate::poll::Poll;
use holdfast_sandbox::notify::Notification;
use holdfast_sandbox::wire::MAX_DESCRIPTORS;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, bind, listen, recvmsg, sendmsg, shutdown, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs;
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// A pipe `(read, write)` for what a component prints; init's end does not block.
///
/// # Errors
/// No descriptors are left.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    // O_NONBLOCK belongs to an open file. The ends of a pipe are two of them, so that a write of
    // the component waits as programs expect.
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::fs::fcntl_setfl(&read, rustix::fs::OFlags::NONBLOCK)?;
    Ok((read, write))
}

/// Reads the raw wait status that a stub left in its pipe; `None` when it left none.
///
/// # Errors
/// The pipe cannot be read.
pub fn read_status(pipe: impl AsFd) -> io::Result<Option<i32>> {
    let mut status = [0u8; 4];
    Ok(match read(pipe, &mut status)? {
        // So few bytes are written at once or not at all (PIPE_BUF in pipe(7)): a part of them is
        // no status.
        Some(4) => Some(i32::from_ne_bytes(status)),
        _ => None,
    })
}

/// init's end of the way between it and a service: requests come by a pipe, one packet each, answers and descriptors go
/// by a socket.
#[derive(Debug)]
pub struct InitEnd {
    requests: OwnedFd,
    answers: OwnedFd,
}

/// The service's end of the same.
#[derive(Debug)]
pub struct ServiceEnd {
    /// The pipe that it writes requests to.
    pub requests: OwnedFd,
    /// The socket that it receives answers at; it can send nothing there.
    pub answers: OwnedFd,
}

/// Makes both ends of the channel between init and a service; none of them blocks init.
///
/// # Errors
/// No descriptors are left.
pub fn request_channel() -> io::Result<(InitEnd, ServiceEnd)> {
    let packets = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT;
    let (requests, their_requests) = pipe_with(packets)?;
    let (answers, their_answers) = request_pair()?;
    // From here on the kernel answers EPIPE to whatever is sent to init, before it is queued (`unix_shutdown`,
    // `unix_dgram_sendmsg` in net/unix/af_unix.c).
    shutdown(&answers, Shutdown::Read)?;
    let theirs = ServiceEnd { requests: their_requests, answers: their_answers };
    Ok((InitEnd { requests, answers }, theirs))
}

impl InitEnd {
    /// The pipe by which requests come, for polling and [`read`].
    #[must_use]
    pub fn requests(&self) -> &OwnedFd {
        &self.requests
    }

    /// The socket by which answers go, for [`send`] and [`send_with`].
    #[must_use]
    pub fn answers(&self) -> &OwnedFd {
        &self.answers
    }
}

/// A pair of connected `SEQPACKET` sockets, for two services; the first does not block.
///
/// # Errors
/// No descriptors are left.
pub(crate) fn request_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// Where one component's `NOTIFY_SOCKET` is: a datagram socket that only its gid can reach, so that the socket a message
/// came by says who sent it. Its stub binds it and reads it; init never has it.
#[derive(Debug)]
pub struct NotifyPath {
    path: PathBuf,
    gid: u32,
}

impl NotifyPath {
    /// Makes `directory/name`, in which `gid` finds its sockets.
    ///
    /// # Errors
    /// The directory cannot be made or given its owner.
    pub fn prepare(directory: &Path, name: &str, gid: u32) -> Result<Self, PathError> {
        let directory = directory.join(name);
        make_directory_for(&directory, gid)?;
        Ok(Self { path: directory.join("notify"), gid })
    }

    /// Returns the value of `NOTIFY_SOCKET` for a program that sees the system's root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the directory that the socket is in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Binds it, in place of the one that an earlier stub has left there.
    pub(crate) fn bind(&self) -> Result<OwnedFd, PathError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PathError::new("remove", &self.path, error))
            }
            // At the first start there is nothing to remove.
            Ok(()) | Err(_) => bind_for(&self.path, SocketType::DGRAM, self.gid),
        }
    }
}

/// A socket at which one component calls a service: only its gid can reach it, so that whoever calls there is
/// known. init makes it and hands it on.
///
/// A caller can send descriptors before its call is accepted. They are closed by the service that takes it, or by whoever is
/// the last to close this socket: that is never init, which takes no call and keeps it until the machine stops.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: ManuallyDrop<OwnedFd>,
}

impl ListeningSocket {
    /// Calls that wait to be answered.
    const MAX_WAITING: i32 = 4;

    /// Binds `directory/name/file` with access for `gid` alone.
    ///
    /// # Errors
    /// A path cannot be made, bound or given its owner.
    pub fn bind(directory: &Path, name: &str, file: &str, gid: u32) -> Result<Self, PathError> {
        let directory = directory.join(name);
        make_directory_for(&directory, gid)?;
        let path = directory.join(file);
        let socket = bind_for(&path, SocketType::STREAM, gid)?;
        let failed = |error: io::Error| PathError::new("listen at", &path, error);
        // Whoever calls can ask for the process that listens (`SO_PEERPIDFD`): one that has ended.
        in_a_child_until_its_end(|| {
            let _ = listen(&socket, Self::MAX_WAITING);
        })
        .map_err(failed)?;
        if !socket_acceptconn(&socket).map_err(|error| failed(error.into()))? {
            return Err(failed(io::ErrorKind::NotConnected.into()));
        }
        Ok(Self { socket: ManuallyDrop::new(socket) })
    }

    /// A descriptor of it, for the service.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(self.socket.as_fd(), 3)?)
    }
}

/// A directory that `gid` can look into by name, and nobody else but root.
fn make_directory_for(path: &Path, gid: u32) -> Result<(), PathError> {
    fs::create_dir_all(path).map_err(|error| PathError::new("make directory", path, error))?;
    rustix::fs::chown(path, Some(Uid::ROOT), Some(Gid::from_raw(gid)))
        .map_err(|error| PathError::new("own", path, error))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o710))
        .map_err(|error| PathError::new("restrict", path, error))
}

/// A socket at `path` that only `gid` can reach.
fn bind_for(path: &Path, kind: SocketType, gid: u32) -> Result<OwnedFd, PathError> {
    let fail = |operation| move |error: Errno| PathError::new(operation, path, error);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        socket_with(AddressFamily::UNIX, kind, flags, None).map_err(fail("make a socket for"))?;
    let address = SocketAddrUnix::new(path).map_err(fail("address"))?;
    bind(&socket, &address).map_err(fail("bind"))?;
    let group = Some(Gid::from_raw(gid));
    rustix::fs::chown(path, Some(Uid::ROOT), group).map_err(fail("own"))?;
    // Whoever sends to a socket or calls there needs write permission on it (unix(7)).
    rustix::fs::chmod(path, Mode::from_raw_mode(0o620)).map_err(fail("restrict"))?;
    Ok(socket)
}

/// A descriptor of its own for what init handed over under `number` (3 and up).
///
/// # Errors
/// The number is none that init hands anything over under, or nothing was handed over under it.
pub fn handed_over(number: RawFd) -> io::Result<OwnedFd> {
    // It comes from the environment: -1 is no `BorrowedFd`, and 0 to 2 are no channels.
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1; it is borrowed for one `fcntl` alone, which answers EBADF where it is not
    // open; nothing is closed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// Sends one message without waiting.
///
/// # Errors
/// The peer is gone or does not read.
pub fn send(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::send(socket, message, flags)?;
    Ok(())
}

/// Sends one message, and waits until the peer has room for it.
///
/// # Errors
/// The peer is gone.
pub fn send_waiting(socket: impl AsFd, message: &[u8]) -> io::Result<()> {
    loop {
        match rustix::net::send(&socket, message, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sends one request to init, without waiting.
///
/// # Errors
/// init is gone or does not read.
pub(crate) fn send_request(requests: impl AsFd, request: &[u8]) -> io::Result<()> {
    // A packet is written whole or not at all: pipe(7), as it is shorter than PIPE_BUF.
    rustix::io::write(requests, request)?;
    Ok(())
}

/// Sends one message with descriptors, [`MAX_DESCRIPTORS`] at most, without waiting.
///
/// # Errors
/// The peer is gone or does not read, or there are too many of them.
pub fn send_with(socket: impl AsFd, message: &[u8], handed: &[BorrowedFd<'_>]) -> io::Result<()> {
    if handed.is_empty() {
        return send(socket, message);
    }
    // init is not to wait for a peer that does not read; a peer that is gone is an error, and no
    // SIGPIPE.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(handed)) {
        return Err(Errno::NOBUFS.into());
    }
    sendmsg(socket, &[io::IoSlice::new(message)], &mut control, flags)?;
    Ok(())
}

/// Takes one message, and the descriptors that came with it, waiting for it.
///
/// # Errors
/// The peer is gone, or the message does not fit the buffer.
pub fn receive_with(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    receive_message(socket, buffer, RecvFlags::empty())
}

/// As [`receive_with`], without waiting; `None` when there is no message.
///
/// # Errors
/// As [`receive_with`].
pub fn try_receive_with(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    match receive_message(socket, buffer, RecvFlags::DONTWAIT) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        received => received.map(Some),
    }
}

/// As [`receive_with`], for no longer than until `until_ms`, in milliseconds of the monotonic clock; `None` when there is no message by then.
///
/// # Errors
/// As [`receive_with`], or the kernel refuses to wait.
pub fn receive_until(
    socket: impl AsFd,
    buffer: &mut [u8],
    until_ms: u64,
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    loop {
        let received = try_receive_with(&socket, buffer)?;
        let left = until_ms.saturating_sub(monotonic_ms());
        if received.is_some() || left == 0 {
            return Ok(received);
        }
        let mut poll = Poll::new();
        poll.add(&socket);
        poll.wait(left)?;
    }
}

/// Returns the bytes of the message that comes next, without taking it, and waits for one for no longer than until `until_ms`, in
/// milliseconds of the monotonic clock; `None` when there is none by then.
///
/// # Errors
/// As [`receive_with`], or the kernel refuses to wait.
pub fn next_length_until(socket: impl AsFd, until_ms: u64) -> io::Result<Option<usize>> {
    loop {
        let mut control = RecvAncillaryBuffer::default();
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
        match recvmsg(&socket, &mut [], &mut control, flags) {
            Ok(received) => return Ok(Some(received.bytes)),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        let left = until_ms.saturating_sub(monotonic_ms());
        if left == 0 {
            return Ok(None);
        }
        let mut poll = Poll::new();
        poll.add(&socket);
        poll.wait(left)?;
    }
}

fn receive_message(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(buffer)];
    // CMSG_CLOEXEC: what comes in here must not reach a program that is started a moment later.
    let received = recvmsg(socket, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
    let mut handed = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            handed.extend(descriptors);
        }
    }
    // Nobody sends empty messages, so this is the end of the connection (recv(2)).
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A part of a message is none; descriptors for which there was no room are closed already
    // (unix(7)).
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(Errno::MSGSIZE.into());
    }
    Ok((received.bytes, handed))
}

/// Reads from a pipe without waiting. `Ok(None)`: nothing now; `Ok(Some(0))`: every writer is gone.
///
/// # Errors
/// The kernel refuses for another reason than an empty pipe.
pub fn read(pipe: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match rustix::io::read(&pipe, &mut *buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// Reads what a component has said since the last look, as its stub hands it on: one byte for each datagram. All that lay there
/// is heard at once, and no more than a pipe holds, however fast more comes. `None` once the stub is gone and everything
/// was heard.
///
/// # Errors
/// The pipe cannot be read.
#[inline(never)] // A test has init hang here.
pub fn hear(signs: impl AsFd) -> io::Result<Option<Notification>> {
    const PIECE: usize = 4096;
    /// A pipe holds this many pieces (pipe(7)).
    const PIECES: usize = 16;
    let mut bytes = [0u8; PIECE];
    let mut all = None;
    for _ in 0..PIECES {
        match read(&signs, &mut bytes)? {
            Some(0) => return Ok(all),
            Some(length) => {
                let heard = bytes.get(..length).unwrap_or_default().iter();
                let before = all.unwrap_or_default();
                all = Some(heard.fold(before, |all: Notification, byte| {
                    all.and(Notification::from_byte(*byte))
                }));
            }
            None => return Ok(Some(all.unwrap_or_default())),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn nothing_can_be_sent_to_init_but_the_bytes_of_requests() {
        let (init, service) = request_channel().unwrap();
        let (handed, _) = UnixDatagram::pair().unwrap();
        let refused = |sent: io::Result<()>| sent.unwrap_err().raw_os_error();
        assert_eq!(refused(send(&service.answers, b"x")), Some(libc::EPIPE));
        let with_descriptor = send_with(&service.answers, b"x", &[handed.as_fd()]);
        assert_eq!(refused(with_descriptor), Some(libc::EPIPE));
        // Nothing is there to receive, either: the end of a stream, not an empty queue.
        let mut buffer = [0; 8];
        let received = receive_message(init.answers(), &mut buffer, RecvFlags::DONTWAIT);
        assert_eq!(received.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        // A pipe is no socket.
        let refused = refused(send_with(&service.requests, b"x", &[handed.as_fd()]));
        assert_eq!(refused, Some(libc::ENOTSOCK));
        let kind = rustix::fs::fstat(init.requests()).unwrap().st_mode;
        assert_eq!(rustix::fs::FileType::from_raw_mode(kind), rustix::fs::FileType::Fifo);
    }

    #[test]
    fn a_message_is_waited_for_until_a_moment_and_no_longer() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let mut buffer = [0; 8];
        let began = monotonic_ms();
        assert!(receive_until(&here, &mut buffer, began + 20).unwrap().is_none());
        assert!(monotonic_ms() >= began + 20);
        there.send(b"late").unwrap();
        // One that lies there is taken, even where the moment has passed.
        let received = receive_until(&here, &mut buffer, 0).unwrap();
        assert_eq!(received.map(|(length, _)| length), Some(4));
    }

    #[test]
    fn answers_and_descriptors_go_to_the_service() {
        let (init, service) = request_channel().unwrap();
        let (handed, other) = UnixDatagram::pair().unwrap();
        send_with(init.answers(), b"answer", &[handed.as_fd()]).unwrap();
        let mut buffer = [0; 8];
        let (length, received) = receive_with(&service.answers, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"answer");
        send(&received[0], b"through").unwrap();
        assert_eq!(other.recv(&mut buffer).unwrap(), 7);
    }

    #[test]
    fn each_request_is_read_by_itself_and_a_long_one_is_cut() {
        let (init, service) = request_channel().unwrap();
        for request in [&b"one"[..], b"second", &[b'x'; 40]] {
            rustix::io::write(&service.requests, request).unwrap();
        }
        let mut buffer = [0; 16];
        for length in [3, 6, 16] {
            assert_eq!(read(init.requests(), &mut buffer).unwrap(), Some(length));
        }
        assert_eq!(read(init.requests(), &mut buffer).unwrap(), None);
        drop(service);
        assert_eq!(read(init.requests(), &mut buffer).unwrap(), Some(0));
    }

    #[test]
    fn signs_are_heard_until_the_stub_is_gone() {
        let (read, write) = output_pipe().unwrap();
        assert_eq!(hear(&read).unwrap(), Some(Notification::default()));
        let ready = Notification { ready: true, ..Notification::default() };
        let alive = Notification { watchdog: true, ..Notification::default() };
        for sign in [ready, alive, alive] {
            rustix::io::write(&write, &[sign.to_byte()]).unwrap();
        }
        assert_eq!(hear(&read).unwrap(), Some(ready.and(alive)));
        // However much of it there is: the last byte of a full pipe is heard in the same turn.
        rustix::fs::fcntl_setfl(&write, rustix::fs::OFlags::NONBLOCK).unwrap();
        while rustix::io::write(&write, &[alive.to_byte()]).is_ok() {}
        // Room comes by whole pages.
        rustix::io::read(&read, &mut [0; 4096]).unwrap();
        rustix::io::write(&write, &[ready.to_byte()]).unwrap();
        assert_eq!(hear(&read).unwrap(), Some(ready.and(alive)));
        assert_eq!(hear(&read).unwrap(), Some(Notification::default()));
        // What was said last is heard, though who said it is gone.
        rustix::io::write(&write, &[ready.to_byte()]).unwrap();
        drop(write);
        assert_eq!(hear(&read).unwrap(), Some(ready));
        assert_eq!(hear(&read).unwrap(), None);
    }

    #[test]
    fn a_number_that_stands_for_no_channel_is_refused() {
        for number in [-1, RawFd::MIN, 0, 2] {
            let refused = handed_over(number).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{number}");
        }
        assert_eq!(handed_over(RawFd::MAX).unwrap_err().raw_os_error(), Some(libc::EBADF));
        let (read, _write) = output_pipe().unwrap();
        handed_over(read.as_raw_fd()).unwrap();
    }
}
