//! The sockets and pipes between init and its components.

use crate::PathError;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    bind, listen, recv, recvmsg, sendmsg, socket_with, socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// A pipe `(read, write)` for what a component prints; init's end does not block.
///
/// # Errors
/// No descriptors are left.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
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
        Some(4) => Some(i32::from_ne_bytes(status)),
        _ => None,
    })
}

/// A pair of connected `SEQPACKET` sockets `(init's, component's)`; init's end does not block.
///
/// # Errors
/// No descriptors are left.
pub fn request_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::NONBLOCK)?;
    Ok((ours, theirs))
}

/// One component's `NOTIFY_SOCKET`: a datagram socket that only its gid can reach, so that the
/// socket a message came by says who sent it.
#[derive(Debug)]
pub struct NotifySocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl NotifySocket {
    /// Binds `directory/name/notify` with access for `gid` alone.
    ///
    /// # Errors
    /// A path cannot be made, bound or given its owner.
    pub fn bind(directory: &Path, name: &str, gid: u32) -> Result<Self, PathError> {
        let path = directory.join(name).join("notify");
        let socket = bind_for(&path, SocketType::DGRAM, gid)?;
        Ok(Self { socket, path })
    }

    /// What `NOTIFY_SOCKET` must say.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The socket, for polling.
    #[must_use]
    pub fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

/// A socket at which one component calls a service: only its gid can reach it, so that whoever calls there is
/// known.
#[derive(Debug)]
pub struct ListeningSocket {
    socket: OwnedFd,
}

impl ListeningSocket {
    /// Calls that wait to be answered.
    const MAX_WAITING: i32 = 4;

    /// Binds `directory/name/file` with access for `gid` alone.
    ///
    /// # Errors
    /// As for [`NotifySocket::bind`].
    pub fn bind(directory: &Path, name: &str, file: &str, gid: u32) -> Result<Self, PathError> {
        let path = directory.join(name).join(file);
        let socket = bind_for(&path, SocketType::STREAM, gid)?;
        listen(&socket, Self::MAX_WAITING)
            .map_err(|error| PathError::new("listen at", &path, error))?;
        Ok(Self { socket })
    }

    /// A descriptor of it, for the service.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(rustix::io::fcntl_dupfd_cloexec(&self.socket, 3)?)
    }
}

/// A socket at `path` that only `gid` can reach, in a directory of its own.
fn bind_for(path: &Path, kind: SocketType, gid: u32) -> Result<OwnedFd, PathError> {
    let parent = path.parent().unwrap_or(path);
    let group = Some(Gid::from_raw(gid));
    let fail = |operation, path: &Path| {
        let path = path.to_owned();
        move |error: Errno| PathError::new(operation, path, error)
    };
    fs::create_dir_all(parent).map_err(|error| PathError::new("make directory", parent, error))?;
    rustix::fs::chown(parent, Some(Uid::ROOT), group).map_err(fail("own", parent))?;
    rustix::fs::chmod(parent, Mode::from_raw_mode(0o710)).map_err(fail("restrict", parent))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, kind, flags, None)
        .map_err(fail("make a socket for", path))?;
    let address = SocketAddrUnix::new(path).map_err(fail("address", path))?;
    bind(&socket, &address).map_err(fail("bind", path))?;
    rustix::fs::chown(path, Some(Uid::ROOT), group).map_err(fail("own", path))?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o620)).map_err(fail("restrict", path))?;
    Ok(socket)
}

/// A descriptor of its own for what init handed over under `number` (3 and up).
///
/// # Errors
/// Nothing was handed over under that number.
pub fn handed_over(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number is borrowed for one `fcntl` alone, which answers EBADF where it is not
    // open; nothing is closed.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(rustix::io::fcntl_dupfd_cloexec(borrowed, 3)?)
}

/// What one receive found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes of one whole message.
    Message(usize),
    /// A message that was longer than the buffer; what is in it must not be used.
    Truncated,
    /// Nothing now.
    Empty,
    /// The peer is gone.
    Closed,
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

/// Sends one message with a descriptor, without waiting.
///
/// # Errors
/// The peer is gone or does not read.
pub fn send_with(socket: impl AsFd, message: &[u8], handed: BorrowedFd<'_>) -> io::Result<()> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [handed];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::NOBUFS.into());
    }
    sendmsg(socket, &[io::IoSlice::new(message)], &mut control, flags)?;
    Ok(())
}

/// Takes one message, and the descriptor that came with it, waiting for both.
///
/// # Errors
/// The peer is gone, or the message does not fit the buffer.
pub fn receive_with(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    receive_message(socket, buffer, RecvFlags::empty())
}

/// As [`receive_with`], without waiting; `None` when there is no message.
///
/// # Errors
/// As [`receive_with`].
pub fn try_receive_with(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    match receive_message(socket, buffer, RecvFlags::DONTWAIT) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        received => received.map(Some),
    }
}

fn receive_message(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [io::IoSliceMut::new(buffer)];
    let received = recvmsg(socket, &mut parts, &mut control, flags | RecvFlags::CMSG_CLOEXEC)?;
    let handed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE.into());
    }
    Ok((received.bytes, handed))
}

/// Takes one message from a datagram or `SEQPACKET` socket without waiting.
///
/// # Errors
/// The kernel refuses for another reason than an empty queue.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    loop {
        return match recv(&socket, &mut *buffer, RecvFlags::TRUNC | RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Ok(Received::Closed),
            Ok((_, whole)) if whole > buffer.len() => Ok(Received::Truncated),
            Ok((_, whole)) => Ok(Received::Message(whole)),
            Err(Errno::AGAIN) => Ok(Received::Empty),
            Err(Errno::CONNRESET) => Ok(Received::Closed),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
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
