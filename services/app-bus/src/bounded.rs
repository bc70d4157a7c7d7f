//! A D-Bus socket with bounded messages, of which so many wait for a reply and no more: a hostile app cannot make the service
//! allocate memory, neither by what it says nor by not reading what it is told.

use rustix::net::Shutdown;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::fdo::ConnectionCredentials;

/// Longest message behind its fixed header, in bytes: no call of this interface has a tenth of it.
pub const MAX_MESSAGE_BYTES: u64 = 4096;
/// Most calls of one connection that wait for their replies. The next one is read once there are fewer.
pub const MAX_UNANSWERED: usize = 32;
/// Kinds of messages (D-Bus Specification, "Message Format").
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
/// Flag of a call that gets no reply.
const NO_REPLY_EXPECTED: u8 = 1;

/// A socket whose messages are bounded.
#[derive(Debug)]
pub struct Bounded {
    /// The socket.
    pub stream: UnixStream,
    /// Uid of the process at the other end.
    pub uid: Option<u32>,
}

impl Socket for Bounded {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.stream.into_split();
        let unanswered = Arc::new(Unanswered::default());
        let reader = Reader {
            socket: read,
            uid: self.uid,
            received: Framing::default(),
            unanswered: Arc::clone(&unanswered),
        };
        Split::new(reader, Writer { socket: write, sent: Framing::of_messages(), unanswered })
    }
}

/// The half that messages are read from, each no longer than [`MAX_MESSAGE_BYTES`].
#[derive(Debug)]
pub struct Reader {
    socket: OwnedReadHalf,
    uid: Option<u32>,
    received: Framing,
    unanswered: Arc<Unanswered>,
}

/// The calls of a connection that wait for their replies.
#[derive(Debug, Default)]
struct Unanswered {
    /// True once what goes in either direction are messages.
    has_begun: AtomicBool,
    calls: AtomicUsize,
    fewer: Notify,
}

impl Unanswered {
    /// Waits until another call may be read.
    async fn room(&self) {
        while self.calls.load(Ordering::Relaxed) >= MAX_UNANSWERED {
            self.fewer.notified().await;
        }
    }

    /// A message has come.
    fn heard(&self, message: &Message) {
        if message.kind == METHOD_CALL && message.flags & NO_REPLY_EXPECTED == 0 {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message is sent.
    fn said(&self, message: &Message) {
        if [METHOD_RETURN, ERROR].contains(&message.kind) {
            let fewer = |calls: usize| Some(calls.saturating_sub(1));
            let _ = self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
            self.fewer.notify_one();
        }
    }
}

/// Shuts the socket down in both directions once nobody reads it, so that the app does not go on writing.
impl Drop for Reader {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.socket.as_ref(), Shutdown::Both);
    }
}

impl Reader {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_between_messages() {
            self.unanswered.room().await;
        }
        let most = self.received.most().min(buffer.len());
        let place = buffer.get_mut(..most).unwrap_or_default();
        let read = self.socket.read(place).await?;
        if let Some(message) = self.received.take(place.get(..read).unwrap_or_default()) {
            if message.length > MAX_MESSAGE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
            }
            self.unanswered.heard(&message);
        }
        self.unanswered.has_begun.store(self.received.has_begun, Ordering::Relaxed);
        Ok(read)
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.read(buffer).await?, Vec::new()))
    }

    async fn peer_credentials(&mut self) -> io::Result<ConnectionCredentials> {
        let credentials = ConnectionCredentials::default();
        Ok(match self.uid {
            Some(uid) => credentials.set_unix_user_id(uid),
            None => credentials,
        })
    }
}

/// The half that messages are written to.
#[derive(Debug)]
pub struct Writer {
    socket: OwnedWriteHalf,
    sent: Framing,
    unanswered: Arc<Unanswered>,
}

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let written = self.socket.write(buffer).await?;
        if self.unanswered.has_begun.load(Ordering::Relaxed) {
            let bytes = buffer.get(..written).unwrap_or_default();
            self.sent.follow(bytes, |message| self.unanswered.said(&message));
        }
        Ok(written)
    }

    async fn close(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }
}

/// A message whose header has gone by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    kind: u8,
    flags: u8,
    /// Bytes behind the fixed header.
    length: u64,
}

/// Follows the bytes of a connection (D-Bus Specification, "Message Format"): lines of the handshake until `BEGIN`,
/// then messages, each with a header that states its length. Reads end with the header, so that it is checked before
/// anything behind it is read.
#[derive(Debug, Default)]
struct Framing {
    /// The last bytes of the handshake.
    line: Vec<u8>,
    has_begun: bool,
    header: Vec<u8>,
    /// Bytes that are left of the present message.
    left: u64,
}

impl Framing {
    const BEGIN: &[u8] = b"BEGIN\r\n";
    const HEADER_BYTES: usize = 16;

    /// Follows messages alone: those of the side that says nothing in the handshake's end.
    fn of_messages() -> Self {
        Self { has_begun: true, ..Self::default() }
    }

    /// True where the next byte is the first one of a message.
    fn is_between_messages(&self) -> bool {
        self.has_begun && self.left == 0 && self.header.is_empty()
    }

    /// Returns the number of bytes that may be read at once.
    fn most(&self) -> usize {
        if !self.has_begun {
            return 1;
        }
        if self.left > 0 {
            return usize::try_from(self.left).unwrap_or(usize::MAX);
        }
        Self::HEADER_BYTES.saturating_sub(self.header.len())
    }

    /// Follows bytes that were read: no more than [`most`](Self::most) has allowed. Returns the message whose header ends with them.
    fn take(&mut self, bytes: &[u8]) -> Option<Message> {
        if !self.has_begun {
            self.line.extend_from_slice(bytes);
            let before = self.line.len().saturating_sub(Self::BEGIN.len());
            self.line.drain(..before);
            self.has_begun = self.line == Self::BEGIN;
            return None;
        }
        if self.left > 0 {
            self.left = self.left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            return None;
        }
        self.header.extend_from_slice(bytes);
        let header = self.header.first_chunk::<{ Self::HEADER_BYTES }>()?;
        let [order, kind, flags, _, b0, b1, b2, b3, .., f0, f1, f2, f3] = *header;
        let number = |bytes| {
            u64::from(if order == b'B' {
                u32::from_be_bytes(bytes)
            } else {
                u32::from_le_bytes(bytes)
            })
        };
        let (body, fields) = (number([b0, b1, b2, b3]), number([f0, f1, f2, f3]));
        self.left = fields.next_multiple_of(8).saturating_add(body);
        self.header.clear();
        Some(Message { kind, flags, length: self.left })
    }

    /// Follows bytes of any number of messages, and tells each whose header ends among them.
    fn follow(&mut self, mut bytes: &[u8], mut told: impl FnMut(Message)) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(self.most().min(bytes.len()));
            if let Some(message) = self.take(now) {
                told(message);
            }
            bytes = later;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]
    use super::*;

    fn message(kind: u8, order: u8, body: u32, fields: u32) -> Vec<u8> {
        let number = |n: u32| if order == b'B' { n.to_be_bytes() } else { n.to_le_bytes() };
        [&[order, kind, 0, 1][..], &number(body), &number(1), &number(fields)].concat()
    }

    fn header(order: u8, body: u32, fields: u32) -> Vec<u8> {
        message(METHOD_CALL, order, body, fields)
    }

    /// Lengths of the messages behind a handshake.
    fn lengths(messages: &[Vec<u8>]) -> Vec<u64> {
        let hello = b"\0AUTH EXTERNAL 31303031\r\nBEGIN\r\n".to_vec();
        let (mut framing, mut lengths) = (Framing::default(), Vec::new());
        framing.follow(&[&[hello][..], messages].concat().concat(), |m| lengths.push(m.length));
        lengths
    }

    #[test]
    fn a_long_message_is_known_by_its_header() {
        let fits = |order| [header(order, 5, 7), vec![0; 8 + 5]].concat();
        assert_eq!(lengths(&[fits(b'l'), fits(b'B'), fits(b'l')]), [13; 3]);
        assert_eq!(lengths(&[fits(b'l'), header(b'l', 4097, 0)]), [13, MAX_MESSAGE_BYTES + 1]);
        assert!(lengths(&[header(b'B', 0, u32::MAX)]) > vec![MAX_MESSAGE_BYTES]);
        assert!(lengths(&[header(b'l', u32::MAX, u32::MAX)]) > vec![MAX_MESSAGE_BYTES]);
        let most = [header(b'l', 4096, 0), vec![0; 4096]].concat();
        assert_eq!(lengths(&[most.clone(), most]), [MAX_MESSAGE_BYTES; 2]);
    }

    /// What is sent may be long, and goes in pieces.
    #[test]
    fn replies_are_found_wherever_what_is_sent_is_cut() {
        let reply = [message(METHOD_RETURN, b'l', 9000, 3), vec![METHOD_RETURN; 9008]].concat();
        let signal = [message(4, b'l', 1, 0), vec![0; 1]].concat();
        let bytes = [&reply[..], &signal, &message(ERROR, b'l', 0, 0), &reply].concat();
        for cut in [1, 7, 16, 17, 4096, bytes.len()] {
            let unanswered = Unanswered { calls: AtomicUsize::new(5), ..Unanswered::default() };
            let mut framing = Framing::of_messages();
            bytes.chunks(cut).for_each(|piece| framing.follow(piece, |m| unanswered.said(&m)));
            assert_eq!(unanswered.calls.load(Ordering::Relaxed), 2, "{cut}");
            assert!(framing.is_between_messages());
        }
    }

    /// An app that asks and does not read what it is told.
    #[tokio::test]
    async fn no_more_is_read_than_is_answered() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = Bounded { stream: ours, uid: None }.split().take();
        let mut theirs = theirs;
        theirs.write_all(b"BEGIN\r\n").await.unwrap();
        let (call, silent) = (header(b'l', 0, 0), [b'l', METHOD_CALL, NO_REPLY_EXPECTED, 1]);
        theirs.write_all(&[&silent[..], &[0; 12]].concat()).await.unwrap();
        theirs.write_all(&call.repeat(MAX_UNANSWERED + 2)).await.unwrap();
        let mut buffer = [0; 64];
        let mut read = 0;
        while read < 7 + 16 * (1 + MAX_UNANSWERED) {
            read += reader.recvmsg(&mut buffer).await.unwrap().0;
        }
        let soon = std::time::Duration::from_millis(200);
        let waits = tokio::time::timeout(soon, reader.recvmsg(&mut buffer)).await;
        assert!(waits.is_err(), "it reads on");
        // Each reply has one more read.
        for _ in 0..2 {
            let reply = message(METHOD_RETURN, b'l', 0, 0);
            assert_eq!(writer.sendmsg(&reply, &[]).await.unwrap(), 16);
            let read = tokio::time::timeout(soon * 50, reader.recvmsg(&mut buffer)).await;
            assert_eq!(read.unwrap().unwrap().0, 16);
        }
    }
}
