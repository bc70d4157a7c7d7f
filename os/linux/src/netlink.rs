//! Netlink sockets (netlink(7)). What is said over them is `holdfast_networking`'s.

use holdfast_netlink::{self as netlink, DONE, ERROR, Message, Received, messages};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto,
    socket_with, sockopt,
};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes that are received at once; the kernel's own buffers for dumps are no larger.
const BUFFER_BYTES: usize = 32 * 1024;
/// Bytes that may wait to be received.
const QUEUE_BYTES: usize = 128 * 1024;
/// Bytes that may be sent at once: a transaction of the firewall is one message, and each of the most
/// that a manifest can grant is a few hundred bytes.
const TRANSACTION_BYTES: usize = 32 * 1024 * 1024;

/// A request that the kernel did not carry out.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("cannot ask the kernel")]
    Socket(#[source] io::Error),
    /// The kernel refused one of the messages.
    #[error("the kernel refuses message {0}")]
    Refused(u32, #[source] io::Error),
}

/// A netlink socket.
#[derive(Debug)]
pub struct NetlinkSocket {
    socket: OwnedFd,
    sequence: u32,
}

impl NetlinkSocket {
    /// A socket for devices, addresses and routes that hears the multicast `groups` as well.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn route(groups: u32) -> io::Result<Self> {
        Self::open(None, groups) // NETLINK_ROUTE is 0.
    }

    /// A socket for the firewall.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn netfilter() -> io::Result<Self> {
        let opened = Self::open(Some(NETFILTER), 0)?;
        // Which a holder of CAP_NET_ADMIN may set beyond the system's limit.
        sockopt::set_socket_send_buffer_size_force(&opened.socket, TRANSACTION_BYTES)?;
        Ok(opened)
    }

    fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        // Number 0: the kernel chooses one that no other socket has (netlink(7)).
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        sockopt::set_socket_recv_buffer_size(&socket, QUEUE_BYTES)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The descriptor alone, to hand it over.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.socket
    }

    /// A socket that somebody else has opened.
    #[must_use]
    pub fn from_descriptor(socket: OwnedFd) -> Self {
        Self { socket, sequence: 0 }
    }

    /// Sends messages, the last of which asks for an answer, or is the end of a batch, and waits for the
    /// answers to all that ask for one.
    ///
    /// # Errors
    /// The kernel refuses one of them, named by its place.
    pub fn request(&mut self, requests: Vec<Message>) -> Result<(), NetlinkError> {
        // NLM_F_ACK is in the first byte of the flags, behind the length and the type (`struct nlmsghdr`, netlink(7)).
        const ACKNOWLEDGE_AT: usize = 6;
        let first = self.sequence.wrapping_add(1);
        let (mut bytes, mut expected) = (Vec::new(), 0usize);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let message = request.finish(self.sequence);
            let flags = message.get(ACKNOWLEDGE_AT).copied().unwrap_or(0);
            if u16::from(flags) & netlink::ACKNOWLEDGE != 0 {
                expected = expected.saturating_add(1);
            }
            bytes.extend(message);
        }
        // In one piece: a batch is one transaction of the firewall only within one message to the kernel
        // (`nfnetlink_rcv_batch` in net/netfilter/nfnetlink.c).
        self.send(&bytes).map_err(NetlinkError::Socket)?;
        let mut refused = None;
        while expected > 0 && refused.is_none() {
            let received = self.receive().map_err(NetlinkError::Socket)?;
            for answer in messages(&received) {
                let number = answer.sequence.wrapping_sub(first);
                let Some(error) = answer.error() else {
                    continue;
                };
                if number > self.sequence.wrapping_sub(first) {
                    continue; // Of an earlier request.
                }
                expected = expected.saturating_sub(1);
                if error != 0 {
                    // The first one is the reason of all others.
                    refused.get_or_insert((number, error));
                }
            }
        }
        // What else belongs to a transaction that failed.
        while refused.is_some() && !self.is_quiet() {
            self.receive().map_err(NetlinkError::Socket)?;
        }
        match refused {
            Some((number, error)) => {
                Err(NetlinkError::Refused(number, io::Error::from_raw_os_error(error)))
            }
            None => Ok(()),
        }
    }

    /// Asks for everything of a kind and hands each message to `each`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn dump(
        &mut self,
        request: Message,
        each: &mut dyn FnMut(&Received<'_>),
    ) -> Result<(), NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&request.finish(self.sequence)).map_err(NetlinkError::Socket)?;
        loop {
            let received = self.receive().map_err(NetlinkError::Socket)?;
            // What still comes of an earlier dump that was given up has another number.
            for answer in messages(&received).filter(|a| a.sequence == self.sequence) {
                match answer.kind {
                    DONE => return Ok(()),
                    ERROR => {
                        let error = io::Error::from_raw_os_error(answer.error().unwrap_or(0));
                        return Err(NetlinkError::Refused(0, error));
                    }
                    _ => each(&answer),
                }
            }
        }
    }

    /// Asks for one thing and hands the answer to `read`; `None` when there is no such thing.
    ///
    /// # Errors
    /// The kernel refuses for another reason.
    pub fn ask<T>(
        &mut self,
        request: Message,
        read: impl FnOnce(&Received<'_>) -> Option<T>,
    ) -> Result<Option<T>, NetlinkError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&request.finish(self.sequence)).map_err(NetlinkError::Socket)?;
        loop {
            let received = self.receive().map_err(NetlinkError::Socket)?;
            let answer = messages(&received).find(|answer| answer.sequence == self.sequence);
            match answer {
                None => {}
                Some(answer) if answer.kind != ERROR => return Ok(read(&answer)),
                Some(answer) => {
                    let error = io::Error::from_raw_os_error(answer.error().unwrap_or(0));
                    return match error.kind() {
                        io::ErrorKind::NotFound => Ok(None),
                        _ => Err(NetlinkError::Refused(0, error)),
                    };
                }
            }
        }
    }

    /// Hands to `each` what the kernel has said without being asked. `Ok(false)`: some of it is lost.
    ///
    /// # Errors
    /// The socket fails.
    pub fn hear(&self, each: &mut dyn FnMut(&Received<'_>)) -> io::Result<bool> {
        let mut buffer = vec![0u8; BUFFER_BYTES];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => {
                    for message in messages(buffer.get(..length).unwrap_or_default()) {
                        each(&message);
                    }
                }
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                // The queue was full, and the kernel has dropped messages: the caller asks for
                // everything anew.
                Err(Errno::NOBUFS) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        sendto(&self.socket, bytes, SendFlags::empty(), &kernel)?;
        Ok(())
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0u8; BUFFER_BYTES];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((length, _)) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// True when no answer waits.
    fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        // PEEK leaves the message where it is.
        let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
        matches!(recv(&self.socket, &mut byte, flags), Err(Errno::AGAIN))
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
