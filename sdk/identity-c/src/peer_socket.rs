//! The socket below a connection: what is written to a peer that has closed it fails, and raises no signal.

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};
use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;

/// A stream socket of the app's, whose writes never raise SIGPIPE.
///
/// std ignores the signal in programs that begin in Rust; a program in C has its default action, which ends the program. std's own
/// `write` asks the kernel for no signal (`MSG_NOSIGNAL`, send(2)), its `write_vectored`, which rustls calls, does not.
#[derive(Debug)]
pub(crate) struct PeerSocket(TcpStream);

impl PeerSocket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Returns a reader of what has arrived, which waits for nothing.
    pub(crate) fn arrived(&self) -> impl Read {
        Arrived(&self.0)
    }
}

struct Arrived<'a>(&'a TcpStream);

impl Read for Arrived<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, _) = recv(self.0, buffer, RecvFlags::DONTWAIT)?;
        Ok(read)
    }
}

impl Read for PeerSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for PeerSocket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buffer)])
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut none = SendAncillaryBuffer::default();
        Ok(sendmsg(&self.0, buffers, &mut none, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
