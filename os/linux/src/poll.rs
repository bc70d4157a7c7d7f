//! Waiting for the first of several descriptors.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::io;

/// Descriptors to wait on.
#[derive(Debug, Default)]
pub struct Poll<'fd> {
    descriptors: Vec<PollFd<'fd>>,
}

impl<'fd> Poll<'fd> {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also waits until this one is readable or closed.
    pub fn add(&mut self, descriptor: &'fd impl AsFd) {
        self.descriptors.push(PollFd::new(descriptor, PollFlags::IN));
    }

    /// Also waits until this one takes bytes, has failed, or is closed.
    pub fn add_to_send(&mut self, descriptor: &'fd impl AsFd) {
        self.descriptors.push(PollFd::new(descriptor, PollFlags::OUT));
    }

    /// Returns when a descriptor is ready, the time is over, or a signal came; the caller looks
    /// at all of them without waiting.
    ///
    /// # Errors
    /// The kernel refuses for another reason than a signal.
    pub fn wait(mut self, ms: u64) -> io::Result<()> {
        let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
        let nanoseconds = i64::try_from((ms % 1000).saturating_mul(1_000_000)).unwrap_or(0);
        let timeout = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        match poll(&mut self.descriptors, Some(&timeout)) {
            // A signal that init watches comes by a descriptor; after any other the caller looks
            // once for nothing.
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
