//! Fetching files of repositories over the socket to `uplink`.

use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::{PathError, channel};
use holdfast_release::assignment::Assigned;
use holdfast_release::fetch::{AgentRequest, Answer, Fetch, FetchError, MAX_ANSWER_BYTES};
use holdfast_types::UpdateWait;
use std::io;
use std::os::fd::OwnedFd;

/// Timeout of an answer of `uplink` in milliseconds: more than it gives a server.
const SILENCE_MS: u64 = 180_000;
/// Timeout of an answer in milliseconds for which `uplink` asks nobody: what waits behind it is the device's own business.
const KNOWN_MS: u64 = 5_000;

/// Errors of fetching a file.
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
    #[error("uplink sent another answer than was asked for")]
    Other,
    #[error("fetch failed: {0}")]
    Failed(String),
}

/// Outcome of a fetch that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The whole range was fetched, or the file to its end.
    All,
    /// The server has no such file.
    Missing,
}

/// Fetches a range of a file over the socket, and hands its pieces to `take`. `spent` is set when the socket must not
/// be used again, since the answer to this request may still come.
///
/// # Errors
/// The file could not be fetched, or not all of it, or `take` fails.
pub(crate) fn fetch<E: From<UplinkError>>(
    socket: &OwnedFd,
    fetch: &Fetch,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
    spent: &mut bool,
) -> Result<Fetched, E> {
    *spent = true;
    let encoded = AgentRequest::Fetch(fetch.clone()).encode().map_err(UplinkError::from)?;
    channel::send(socket, &encoded).map_err(UplinkError::Socket)?;
    let mut buffer = vec![0; MAX_ANSWER_BYTES];
    let mut left = fetch.most_bytes;
    loop {
        let end = match answer(socket, &mut buffer, SILENCE_MS)? {
            Answer::Piece(bytes) => {
                let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                left = left.checked_sub(length).ok_or(UplinkError::TooMuch)?;
                take(&bytes)?;
                continue;
            }
            Answer::End => Ok(Fetched::All),
            Answer::Missing => Ok(Fetched::Missing),
            Answer::Failed(reason) => Err(UplinkError::Failed(reason).into()),
            Answer::Assigned(_) => return Err(UplinkError::Other.into()),
        };
        *spent = false;
        return end;
    }
}

/// Asks over the socket for what the last check-in has assigned, and says why it is not taken. `spent` is set as by [`fetch`].
///
/// # Errors
/// `uplink` does not answer, or not what was asked.
pub(crate) fn assigned(
    socket: &OwnedFd,
    waits: Option<UpdateWait>,
    spent: &mut bool,
) -> Result<Option<Assigned>, UplinkError> {
    *spent = true;
    channel::send(socket, &AgentRequest::Assigned(waits).encode()?).map_err(UplinkError::Socket)?;
    let assigned = match answer(socket, &mut vec![0; MAX_ANSWER_BYTES], KNOWN_MS)? {
        Answer::Assigned(assigned) => assigned,
        _ => return Err(UplinkError::Other),
    };
    *spent = false;
    Ok(assigned)
}

fn answer(socket: &OwnedFd, buffer: &mut [u8], within_ms: u64) -> Result<Answer, UplinkError> {
    let deadline = monotonic_ms().saturating_add(within_ms);
    let received = channel::receive_until(socket, buffer, deadline).map_err(UplinkError::Socket)?;
    let (length, _) = received.ok_or(UplinkError::Silent)?;
    Ok(Answer::decode(buffer.get(..length).unwrap_or_default())?)
}
