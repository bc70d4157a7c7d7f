//! Files from repositories, by way of `uplink`.

use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::poll::Poll;
use holdfast_linux::{PathError, channel};
use holdfast_release::fetch::{Answer, Fetch, FetchError, MAX_ANSWER_BYTES};
use std::io;
use std::os::fd::OwnedFd;

/// Longest silence of `uplink`, in milliseconds: more than it gives a server.
const SILENCE_MS: u64 = 180_000;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UplinkError {
    #[error("uplink is not connected")]
    Nobody,
    #[error(transparent)]
    Card(PathError),
    #[error("cannot talk to uplink")]
    Socket(#[source] io::Error),
    #[error("uplink does not answer")]
    Silent,
    #[error("uplink sent a malformed answer")]
    Answer(#[from] FetchError),
    #[error("uplink sent more bytes than were asked for")]
    TooMuch,
    #[error("fetch failed: {0}")]
    Failed(String),
}

/// What came of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// All that was wanted, or all there is.
    All,
    /// The server has none.
    Missing,
}

/// Fetches a file over the socket, and hands its pieces on. `spent` is set when the socket is of no use
/// any more: the answer to this request may still come.
///
/// # Errors
/// Why there is none, or not all of it; or what `take` says.
pub(crate) fn fetch<E: From<UplinkError>>(
    socket: &OwnedFd,
    fetch: &Fetch,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
    spent: &mut bool,
) -> Result<Fetched, E> {
    *spent = true;
    let encoded = fetch.encode().map_err(UplinkError::from)?;
    channel::send(socket, &encoded).map_err(UplinkError::Socket)?;
    let mut buffer = vec![0; MAX_ANSWER_BYTES];
    let mut left = fetch.most_bytes;
    loop {
        let end = match answer(socket, &mut buffer)? {
            Answer::Piece(bytes) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                left = left.checked_sub(length).ok_or(UplinkError::TooMuch)?;
                take(&bytes)?;
                continue;
            }
            Answer::End => Ok(Fetched::All),
            Answer::Missing => Ok(Fetched::Missing),
            Answer::Failed(reason) => Err(UplinkError::Failed(reason).into()),
        };
        *spent = false;
        return end;
    }
}

fn answer(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Answer, UplinkError> {
    let deadline = monotonic_ms().saturating_add(SILENCE_MS);
    loop {
        let received = channel::try_receive_with(socket, buffer).map_err(UplinkError::Socket)?;
        if let Some((length, _)) = received {
            return Ok(Answer::decode(buffer.get(..length).unwrap_or_default())?);
        }
        let left = deadline.saturating_sub(monotonic_ms());
        if left == 0 {
            return Err(UplinkError::Silent);
        }
        let mut poll = Poll::new();
        poll.add(socket);
        poll.wait(left).map_err(UplinkError::Socket)?;
    }
}
