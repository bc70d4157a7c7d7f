//! Making two services known to each other.
//!
//! Whoever holds one end of a pair of sockets can be sent descriptors by the other, so init never holds one: a child of it
//! makes the pair, hands out both ends, and ends. A process that ends does not wait for a close (`inet_release` in
//! net/ipv4/af_inet.c), whatever one of the two has already sent to the other.

use crate::channel::{InitEnd, request_pair, send, send_with};
use crate::child::in_a_child;
use std::io;
use std::os::fd::AsFd;

/// Two services to be connected, with the messages that they get.
#[derive(Debug, Clone, Copy)]
pub struct Introduction<'a> {
    /// The way to the one that is asked for.
    pub wanted: &'a InitEnd,
    /// The message to it, with which one end of the pair goes.
    pub message: &'a [u8],
    /// The way to the one that asks.
    pub asking: &'a InitEnd,
    /// The message to that one, with which the other end goes.
    pub accepted: &'a [u8],
    /// The message to that one where the wanted one does not listen.
    pub refused: &'a [u8],
}

impl Introduction<'_> {
    /// Hands a new pair of sockets to both. Whoever does not read misses its end, and its peer finds that closed.
    ///
    /// # Errors
    /// There is no process to be had for it; nobody was told anything.
    pub fn make(&self) -> io::Result<()> {
        in_a_child(|| {
            // The wanted one first: where it does not listen, the other can still be told no.
            let handed = request_pair().and_then(|(theirs, others)| {
                send_with(self.wanted.answers(), self.message, &[theirs.as_fd()])?;
                Ok(others)
            });
            // Nobody is left to tell of an error: whoever asked runs into its deadline.
            let _ = match handed {
                Ok(others) => send_with(self.asking.answers(), self.accepted, &[others.as_fd()]),
                Err(_) => send(self.asking.answers(), self.refused),
            };
        })
    }
}
