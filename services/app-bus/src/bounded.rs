//! A D-Bus socket with bounded messages: a hostile app cannot make the service allocate memory.

use rustix::net::Shutdown;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::fdo::ConnectionCredentials;

/// Longest message behind its fixed header, in bytes: no call of this interface has a tenth of it.
pub const MAX_MESSAGE_BYTES: u64 = 4096;

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
        let reader = Reader { socket: read, uid: self.uid, bound: Bound::default() };
        Split::new(reader, Writer(write))
    }
}

/// The half that messages are read from, each no longer than [`MAX_MESSAGE_BYTES`].
#[derive(Debug)]
pub struct Reader {
    socket: OwnedReadHalf,
    uid: Option<u32>,
    bound: Bound,
}

/// Shuts the socket down in both directions once nobody reads it, so that the app does not go on writing.
impl Drop for Reader {
    fn drop(&mut self) {
        let _ = rustix::net::shutdown(self.socket.as_ref(), Shutdown::Both);
    }
}

impl Reader {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.bound.most().min(buffer.len());
        let place = buffer.get_mut(..most).unwrap_or_default();
        let read = self.socket.read(place).await?;
        let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a message is too long");
        self.bound.take(place.get(..read).unwrap_or_default()).map_err(|TooLong| too_long())?;
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
pub struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// A message is longer than [`MAX_MESSAGE_BYTES`].
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

/// Follows the bytes of a connection (D-Bus Specification, "Message Format"): lines of the handshake until `BEGIN`,
/// then messages, each with a header that states its length. Reads end with the header, so that it is checked before
/// anything behind it is read.
#[derive(Debug, Default)]
struct Bound {
    /// The last bytes of the handshake.
    line: Vec<u8>,
    has_begun: bool,
    header: Vec<u8>,
    /// Bytes that are left of the present message.
    left: u64,
}

impl Bound {
    const BEGIN: &[u8] = b"BEGIN\r\n";
    const HEADER_BYTES: usize = 16;

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

    /// Follows bytes that were read: no more than [`most`](Self::most) has allowed.
    fn take(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if !self.has_begun {
            self.line.extend_from_slice(bytes);
            let before = self.line.len().saturating_sub(Self::BEGIN.len());
            self.line.drain(..before);
            self.has_begun = self.line == Self::BEGIN;
            return Ok(());
        }
        if self.left > 0 {
            self.left = self.left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            return Ok(());
        }
        self.header.extend_from_slice(bytes);
        let Some(header) = self.header.first_chunk::<{ Self::HEADER_BYTES }>() else {
            return Ok(());
        };
        let [order, _, _, _, b0, b1, b2, b3, .., f0, f1, f2, f3] = *header;
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
        if self.left > MAX_MESSAGE_BYTES { Err(TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(order: u8, body: u32, fields: u32) -> Vec<u8> {
        let number = |n: u32| if order == b'B' { n.to_be_bytes() } else { n.to_le_bytes() };
        [&[order, 1, 0, 1][..], &number(body), &number(1), &number(fields)].concat()
    }

    /// Reads `bytes` as the connection does, so much at a time as the bound says.
    fn follows(bytes: &[u8]) -> Result<(), TooLong> {
        let (mut bound, mut rest) = (Bound::default(), bytes);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(bound.most().min(rest.len()));
            assert!(!now.is_empty());
            bound.take(now)?;
            rest = later;
        }
        Ok(())
    }

    #[test]
    fn a_long_message_is_refused_by_its_header() {
        let begun = |messages: &[Vec<u8>]| {
            let hello = b"\0AUTH EXTERNAL 31303031\r\nBEGIN\r\n".to_vec();
            follows(&[&[hello][..], messages].concat().concat())
        };
        let fits = |order| [header(order, 5, 7), vec![0; 8 + 5]].concat();
        assert_eq!(begun(&[fits(b'l'), fits(b'B'), fits(b'l')]), Ok(()));
        assert_eq!(begun(&[fits(b'l'), header(b'l', 4097, 0)]), Err(TooLong));
        assert_eq!(begun(&[header(b'B', 0, u32::MAX)]), Err(TooLong));
        assert_eq!(begun(&[header(b'l', u32::MAX, u32::MAX)]), Err(TooLong));
        let most = [header(b'l', 4096, 0), vec![0; 4096]].concat();
        assert_eq!(begun(&[most.clone(), most]), Ok(()));
    }
}
