//! The protocol between `update` and `uplink`: one versioned postcard message each, over a `SEQPACKET` socket that
//! init has made between the two. `update` asks for files, and for what a check-in has assigned.
//!
//! Each side holds the other's bytes for hostile: they are bounded and read whole or refused.

use crate::RepositoryName;
use crate::assignment::Assigned;
use holdfast_types::UpdateWait;
use holdfast_types::encoding::{self, EncodingError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the protocol.
const VERSION: u8 = 3;
/// Longest path of a file in a repository, in bytes.
pub const MAX_PATH_BYTES: usize = 320;
/// Longest request in bytes.
pub const MAX_REQUEST_BYTES: usize = MAX_PATH_BYTES + 64;
/// Most bytes of a file in one answer.
pub const PIECE_BYTES: usize = 16 * 1024;
/// Longest answer in bytes.
pub const MAX_ANSWER_BYTES: usize = PIECE_BYTES + 64;
/// Longest reason of a failure, in bytes.
const MAX_REASON_BYTES: usize = 512;

/// A request of `update`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentRequest {
    /// For a range of a file in a repository.
    Fetch(Fetch),
    /// For what the last check-in has assigned. With it comes why the device does not take what it was assigned, if it does not.
    Assigned(Option<UpdateWait>),
}

/// A request for a range of a file in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The repository that has the file.
    pub repository: RepositoryName,
    /// Path of the file there, such as `metadata/timestamp.json`.
    pub path: String,
    /// Offset of the first byte that is wanted.
    pub from: u64,
    /// Number of bytes that are wanted at most; `uplink` sends no more.
    pub most_bytes: u64,
}

/// An answer to a request: pieces in order, then one of the other variants, which ends it. Another than the last is of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The next bytes; never none.
    Piece(Vec<u8>),
    /// No bytes follow.
    End,
    /// The server has no such file.
    Missing,
    /// The file could not be fetched, or not all of it, for this reason. A later request may succeed.
    Failed(String),
    /// What the last check-in has assigned; `None` where there was none since `uplink` was started.
    Assigned(Option<Assigned>),
}

impl Answer {
    /// Makes a failure of as much of the reason as fits.
    #[must_use]
    pub fn failed(reason: &str) -> Self {
        Self::Failed(reason.chars().take(MAX_REASON_BYTES / 4).collect())
    }
}

/// Errors of a message's encoding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The bytes are no encoding of a message.
    #[error("the message cannot be decoded")]
    Malformed(#[from] EncodingError),
    /// The message has another version of the protocol.
    #[error("the message has version {0}, not {VERSION}")]
    Version(u8),
    /// A field is out of bounds.
    #[error("{0}")]
    Bounds(&'static str),
}

impl AgentRequest {
    /// Encodes the request.
    ///
    /// # Errors
    /// A path that [`decode`](Self::decode) refuses.
    pub fn encode(&self) -> Result<Vec<u8>, FetchError> {
        self.check()?;
        encode(self)
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// Malformed, of another version, or a path that leads out of a repository.
    pub fn decode(bytes: &[u8]) -> Result<Self, FetchError> {
        let request: Self = decode(bytes, MAX_REQUEST_BYTES)?;
        request.check()?;
        Ok(request)
    }

    fn check(&self) -> Result<(), FetchError> {
        match self {
            Self::Fetch(fetch) => fetch.check(),
            Self::Assigned(_) => Ok(()),
        }
    }
}

impl Fetch {
    fn check(&self) -> Result<(), FetchError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let down = self
            .path
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain));
        if !down || self.path.len() > MAX_PATH_BYTES {
            return Err(FetchError::Bounds("the path is not one of a repository"));
        }
        if self.from.checked_add(self.most_bytes).is_none() || self.most_bytes == 0 {
            return Err(FetchError::Bounds("no such bytes can be wanted"));
        }
        Ok(())
    }
}

impl Answer {
    /// Encodes the answer.
    ///
    /// # Errors
    /// A piece that is empty or too long.
    pub fn encode(&self) -> Result<Vec<u8>, FetchError> {
        self.check()?;
        encode(self)
    }

    /// Decodes an answer.
    ///
    /// # Errors
    /// Malformed, of another version, or a piece that is empty or too long.
    pub fn decode(bytes: &[u8]) -> Result<Self, FetchError> {
        let answer: Self = decode(bytes, MAX_ANSWER_BYTES)?;
        answer.check()?;
        Ok(answer)
    }

    fn check(&self) -> Result<(), FetchError> {
        match self {
            Self::Piece(bytes) if bytes.is_empty() || bytes.len() > PIECE_BYTES => {
                Err(FetchError::Bounds("a piece is empty or too long"))
            }
            Self::Failed(reason) if reason.len() > MAX_REASON_BYTES => {
                Err(FetchError::Bounds("a reason is too long"))
            }
            Self::Assigned(Some(assigned)) if *assigned != assigned.clone().bounded() => {
                Err(FetchError::Bounds("what is assigned is out of bounds"))
            }
            _ => Ok(()),
        }
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FetchError> {
    Ok(encoding::encode(&(VERSION, message))?)
}

fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], most: usize) -> Result<T, FetchError> {
    if bytes.len() > most {
        return Err(FetchError::Bounds("the message is too long"));
    }
    match bytes.first() {
        Some(&VERSION) | None => {}
        Some(other) => return Err(FetchError::Version(*other)),
    }
    Ok(encoding::decode::<(u8, T)>(bytes)?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fetch(path: &str, most_bytes: u64) -> AgentRequest {
        let path = path.to_owned();
        AgentRequest::Fetch(Fetch { repository: RepositoryName::Oem, path, from: 7, most_bytes })
    }

    #[test]
    fn messages_survive_the_wire_and_fit_it() {
        let longest = "a".repeat(MAX_PATH_BYTES);
        for request in [fetch("metadata/timestamp.json", 1), fetch(&longest, u64::MAX - 7)] {
            let bytes = request.encode().unwrap();
            assert!(bytes.len() <= MAX_REQUEST_BYTES);
            assert_eq!(AgentRequest::decode(&bytes), Ok(request));
        }
        for wait in [None, Some(UpdateWait::Window)] {
            let request = AgentRequest::Assigned(wait);
            assert_eq!(AgentRequest::decode(&request.encode().unwrap()), Ok(request));
        }
        let assigned = Answer::Assigned(Some(Assigned::new([], 1000)));
        assert_eq!(Answer::decode(&assigned.encode().unwrap()), Ok(assigned));
        let piece = Answer::Piece(vec![255; PIECE_BYTES]);
        for answer in [piece, Answer::End, Answer::Missing, Answer::failed(&"ä".repeat(1000))] {
            let bytes = answer.encode().unwrap();
            assert!(bytes.len() <= MAX_ANSWER_BYTES);
            assert_eq!(Answer::decode(&bytes), Ok(answer));
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for path in ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "a?b", "a%2e", "ä"] {
            fetch(path, 1).encode().unwrap_err();
        }
        fetch(&"a".repeat(MAX_PATH_BYTES + 1), 1).encode().unwrap_err();
        fetch("a", 0).encode().unwrap_err();
        fetch("a", u64::MAX).encode().unwrap_err();
        Answer::Piece(Vec::new()).encode().unwrap_err();
        Answer::Piece(vec![0; PIECE_BYTES + 1]).encode().unwrap_err();
        assert_eq!(Answer::decode(&[1, 1]), Err(FetchError::Version(1)));
        Answer::decode(&[VERSION, 1, 0]).unwrap_err();
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = AgentRequest::decode(&bytes);
            let _ = Answer::decode(&bytes);
        }
    }
}
