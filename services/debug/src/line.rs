//! The serial line to the debugger.

use gdbstub::conn::{Connection, ConnectionExt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

/// Pause before a line is polled again whose other end nobody has open.
const UNCONNECTED: Duration = Duration::from_millis(200);

/// A serial line in raw mode.
#[derive(Debug)]
pub(crate) struct Line {
    line: File,
    peeked: Option<u8>,
}

impl Line {
    /// Makes another handle of the same line.
    pub(crate) fn new(line: &File) -> io::Result<Self> {
        Ok(Self { line: line.try_clone()?, peeked: None })
    }

    /// Waits until a debugger at the other end has sent a byte.
    pub(crate) fn wait_for_peer(&self) -> io::Result<()> {
        loop {
            match self.poll(None)? {
                events if events.contains(PollFlags::IN) && !events.contains(PollFlags::HUP) => {
                    return Ok(());
                }
                _ => std::thread::sleep(UNCONNECTED),
            }
        }
    }

    /// True when there is a byte to read, or the other end was closed, within the time.
    pub(crate) fn is_ready(&self, within: Duration) -> io::Result<bool> {
        Ok(self.peeked.is_some() || !self.poll(Some(within))?.is_empty())
    }

    /// Reads and drops bytes until none has come for a while, or the other end was closed.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        while self.is_ready(UNCONNECTED)? && self.read().is_ok() {}
        Ok(())
    }

    fn poll(&self, within: Option<Duration>) -> io::Result<PollFlags> {
        let within = within.and_then(|within| Timespec::try_from(within).ok());
        let mut descriptors = [PollFd::new(&self.line, PollFlags::IN)];
        poll(&mut descriptors, within.as_ref())?;
        let [descriptor] = descriptors;
        Ok(descriptor.revents())
    }
}

impl Connection for Line {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.line.write_all(&[byte])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.line.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.line.flush()
    }
}

impl ConnectionExt for Line {
    fn read(&mut self) -> io::Result<u8> {
        if let Some(byte) = self.peeked.take() {
            return Ok(byte);
        }
        let mut byte = [0u8];
        match self.line.read(&mut byte)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(u8::from_ne_bytes(byte)),
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.peeked.is_none() && self.is_ready(Duration::ZERO)? {
            self.peeked = Some(self.read()?);
        }
        Ok(self.peeked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_byte_is_peeked_and_then_read_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut line = Line::new(&File::from(OwnedFd::from(ours))).unwrap();
        assert_eq!(line.peek().unwrap(), None);
        Write::write_all(&mut theirs, b"$?").unwrap();
        line.wait_for_peer().unwrap();
        assert_eq!((line.peek().unwrap(), line.peek().unwrap()), (Some(b'$'), Some(b'$')));
        assert_eq!((line.read().unwrap(), line.read().unwrap()), (b'$', b'?'));
        drop(theirs);
        assert!(line.is_ready(Duration::from_secs(5)).unwrap());
        line.drain().unwrap();
        assert_eq!(line.read().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
