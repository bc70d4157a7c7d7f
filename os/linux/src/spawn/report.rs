//! The pipe by which init learns of a step that the kernel has refused, and whose end says that the program runs.

use super::step::Refused;
use rustix::fd::{AsRawFd, OwnedFd, RawFd};
use rustix::io::Errno;

/// Bytes of a report: the number of the step, and the number of the error in native order.
pub(super) const REPORT_BYTES: usize = 5;

/// A child's end of the pipe.
#[derive(Debug)]
pub(super) struct Report {
    pipe: Option<OwnedFd>,
}

impl Report {
    pub(super) fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe) }
    }

    /// Returns the descriptor's number, for those who close all others.
    pub(super) fn number(&self) -> Result<RawFd, Errno> {
        self.pipe.as_ref().map(AsRawFd::as_raw_fd).ok_or(Errno::BADF)
    }

    /// Says that all is well so far, and that nothing more will be said.
    pub(super) fn close(&mut self) {
        self.pipe = None;
    }

    /// Names the step that failed; after [`close`](Self::close) nobody listens any more.
    pub(super) fn send(&self, (step, error): Refused) {
        let mut message = [0u8; REPORT_BYTES];
        let (number, errno) = message.split_at_mut(1);
        number.copy_from_slice(&[step as u8]);
        errno.copy_from_slice(&error.raw_os_error().to_ne_bytes());
        if let Some(pipe) = &self.pipe {
            // Nobody is left to tell of an error of this: the pipe's end then says that the program runs, and its exit that
            // it does not.
            let _ = rustix::io::write(pipe, &message);
        }
    }
}
