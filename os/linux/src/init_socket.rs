//! A service's wire to init.

use crate::channel;
use crate::clock::monotonic_ms;
use crate::poll::Poll;
use holdfast_sandbox::wire::{self, Reply, Request, WireError};
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

/// Longest that an answer takes, in milliseconds: one about an order waits for a look at every card.
const ANSWER_WITHIN_MS: u64 = 120_000;
/// Messages that came unasked and wait: so many at once, the oldest go first.
const MAX_UNASKED: usize = 4;

/// A request to init that failed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// This service has no right to ask for anything.
    #[error(
        "init has handed over no channel ({}, {})",
        wire::REQUESTS_VARIABLE,
        wire::REPLIES_VARIABLE
    )]
    NoSocket,
    /// The kernel refuses.
    #[error("cannot talk to init")]
    Socket(#[source] io::Error),
    /// The answer was lost: init sends none to a socket that is full of messages that came unasked.
    #[error("init does not answer")]
    NoAnswer,
    /// Something else than a message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An answer to something else, or a no.
    #[error("init does not do what it was asked: {0:?}")]
    Refused(Box<Reply>),
}

impl InitError {
    /// An answer that nobody can go on with.
    #[must_use]
    pub fn refused(reply: Reply) -> Self {
        Self::Refused(Box::new(reply))
    }
}

/// The way to init: a pipe there, a socket back. `R` is what the service may ask for: it can encode nothing else.
#[derive(Debug)]
pub struct InitSocket<R> {
    asks: PhantomData<fn(R)>,
    requests: OwnedFd,
    replies: OwnedFd,
    buffer: Vec<u8>,
    /// Messages that came unasked, with their sockets.
    unasked: Vec<(Reply, OwnedFd)>,
}

impl<R: Into<Request>> InitSocket<R> {
    /// The one that init has handed over.
    ///
    /// # Errors
    /// init has handed over no channel.
    pub fn from_environment() -> Result<Self, InitError> {
        Self::from_environment_with_room(wire::MAX_REPLY_BYTES)
    }

    /// The one that init has handed over, for a service that asks for nothing whose reply is longer than `most_bytes`: it is
    /// memory that the service has as long as it runs.
    ///
    /// # Errors
    /// As [`from_environment`](Self::from_environment).
    pub fn from_environment_with_room(most_bytes: usize) -> Result<Self, InitError> {
        let handed = |variable: &str| {
            let number = std::env::var(variable).ok().and_then(|number| number.parse().ok());
            channel::handed_over(number.ok_or(InitError::NoSocket)?).map_err(InitError::Socket)
        };
        Ok(Self {
            asks: PhantomData,
            requests: handed(wire::REQUESTS_VARIABLE)?,
            replies: handed(wire::REPLIES_VARIABLE)?,
            buffer: vec![0u8; most_bytes],
            unasked: Vec::new(),
        })
    }

    /// Asks, and waits for the answer and what comes with it.
    ///
    /// # Errors
    /// init is gone, or says something that is no answer.
    pub fn ask(&mut self, request: R) -> Result<(Reply, Vec<OwnedFd>), InitError> {
        let request = wire::encode_request(&request.into())?;
        channel::send_request(&self.requests, &request).map_err(InitError::Socket)?;
        // One deadline for all that comes: messages that nobody has asked for do not put it off.
        let deadline = monotonic_ms().saturating_add(ANSWER_WITHIN_MS);
        loop {
            let received = channel::receive_until(&self.replies, &mut self.buffer, deadline);
            let (length, handed) =
                received.map_err(InitError::Socket)?.ok_or(InitError::NoAnswer)?;
            let reply = self.reply(length)?;
            // Only this thread asks, and it asks one thing at a time: what is not unasked is its
            // answer.
            if is_unasked(&reply) {
                self.remember(&reply, handed);
            } else {
                return Ok((reply, handed));
            }
        }
    }

    /// As [`ask`](Self::ask), where the answer must be that it will be done.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), or it will not be done.
    pub fn tell(&mut self, request: R) -> Result<Option<OwnedFd>, InitError> {
        match self.ask(request)? {
            (Reply::Accepted, handed) => Ok(handed.into_iter().next()),
            (reply, _) => Err(InitError::refused(reply)),
        }
    }

    /// Takes the messages that came unasked, without waiting.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn unasked(&mut self) -> Result<Vec<(Reply, OwnedFd)>, InitError> {
        while let Some((length, handed)) =
            channel::try_receive_with(&self.replies, &mut self.buffer).map_err(InitError::Socket)?
        {
            let reply = self.reply(length)?;
            // No request is under way: an answer now is to one that has run into its deadline, and would be taken for the
            // answer to the next one.
            if !is_unasked(&reply) {
                return Err(InitError::refused(reply));
            }
            self.remember(&reply, handed);
        }
        Ok(std::mem::take(&mut self.unasked))
    }

    /// Also waits for what comes unasked.
    pub fn add_to<'a>(&'a self, poll: &mut Poll<'a>) {
        poll.add(&self.replies);
    }

    fn reply(&self, length: usize) -> Result<Reply, WireError> {
        wire::decode_reply(self.buffer.get(..length).unwrap_or_default())
    }

    fn remember(&mut self, reply: &Reply, sockets: Vec<OwnedFd>) {
        for socket in sockets {
            // How many come is for others to say, so there is a bound.
            if self.unasked.len() >= MAX_UNASKED {
                self.unasked.remove(0);
            }
            self.unasked.push((reply.clone(), socket));
        }
    }
}

fn is_unasked(reply: &Reply) -> bool {
    matches!(reply, Reply::NetworkWanted | Reply::Uplink | Reply::Identity | Reply::Report)
}

/// Says that this component is ready.
///
/// # Errors
/// init does not listen.
pub fn notify_ready() -> io::Result<()> {
    // Not over the channel to init, which has to do with requests alone: the stub hears services as it hears apps
    // (sd_notify(3)).
    let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(b"READY=1", path)?;
    Ok(())
}
