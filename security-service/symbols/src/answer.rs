//! The worker's answer: one JSON document, which whoever has asked believes no more than its bounds.

use crate::program::{Named, ProgramError};
use holdfast_service_domain::symbols::{BuildId, Frames, MAX_NAME_BYTES};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most addresses of one job.
pub const MAX_ADDRESSES: usize = 32;
/// Most bytes of an answer: two names for each address, with each byte escaped, and what stands between them.
pub const MAX_ANSWER_BYTES: usize = MAX_ADDRESSES * 2 * (MAX_NAME_BYTES * 6 + 64) + 256;

/// The answer as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Shape {
    Named { build_id: String, frames: Vec<Option<Pair>> },
    Refused(ProgramError),
}

/// Functions at an address.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    function: String,
    outer: String,
}

/// The answer is none.
#[derive(Debug, Error)]
pub enum AnswerError {
    /// It is not JSON of an answer.
    #[error("it is no JSON of an answer")]
    Json(#[from] serde_json::Error),
    /// It breaks a bound, or is of another number of addresses than was asked.
    #[error("it breaks a bound: {0}")]
    Bound(&'static str),
}

/// Writes an answer.
///
/// # Errors
/// It cannot be written as JSON.
pub fn write(result: &Result<Named, ProgramError>) -> Result<Vec<u8>, serde_json::Error> {
    let pair =
        |frames: &Frames| Pair { function: frames.function.clone(), outer: frames.outer.clone() };
    let shape = match result {
        Ok(named) => Shape::Named {
            build_id: named.build_id.to_string(),
            frames: named.frames.iter().map(|frames| frames.as_ref().map(pair)).collect(),
        },
        Err(error) => Shape::Refused(*error),
    };
    serde_json::to_vec(&shape)
}

/// Reads the answer to a question about so many addresses.
///
/// # Errors
/// It is no answer to it.
pub fn read(bytes: &[u8], addresses: usize) -> Result<Result<Named, ProgramError>, AnswerError> {
    if bytes.len() > MAX_ANSWER_BYTES {
        return Err(AnswerError::Bound("bytes"));
    }
    let (build_id, pairs) = match serde_json::from_slice(bytes)? {
        Shape::Named { build_id, frames } => (build_id, frames),
        Shape::Refused(error) => return Ok(Err(error)),
    };
    if pairs.len() != addresses {
        return Err(AnswerError::Bound("addresses"));
    }
    let build_id: BuildId = build_id.parse().map_err(|_| AnswerError::Bound("build id"))?;
    let is_name = |name: &str| {
        let is_bounded = (1..=MAX_NAME_BYTES).contains(&name.len());
        is_bounded && !name.chars().any(char::is_control)
    };
    let mut frames = Vec::new();
    for pair in pairs {
        frames.push(match pair {
            Some(Pair { function, outer }) if is_name(&function) && is_name(&outer) => {
                Some(Frames { function, outer })
            }
            Some(_) => return Err(AnswerError::Bound("name")),
            None => None,
        });
    }
    Ok(Ok(Named { build_id, frames }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written_and_another_is_refused() {
        let longest = "\u{7f}\u{20ac}".replace('\u{7f}', "\\").repeat(MAX_NAME_BYTES / 4);
        let frames = Some(Frames { function: longest.clone(), outer: longest });
        let build_id: BuildId = "00a1b2c3d4e5f607".parse().unwrap();
        let named = Named { build_id, frames: vec![frames; MAX_ADDRESSES] };
        let written = write(&Ok(named.clone())).unwrap();
        assert!(written.len() <= MAX_ANSWER_BYTES);
        assert_eq!(read(&written, MAX_ADDRESSES).unwrap(), Ok(named));
        assert!(matches!(read(&written, 1), Err(AnswerError::Bound("addresses"))));
        let refused = write(&Err(ProgramError::NoBuildId)).unwrap();
        assert_eq!(read(&refused, 1).unwrap(), Err(ProgramError::NoBuildId));
        let answer = |build_id: &str, name: &str| {
            let pair = Pair { function: name.to_owned(), outer: "main".to_owned() };
            let shape = Shape::Named { build_id: build_id.to_owned(), frames: vec![Some(pair)] };
            serde_json::to_vec(&shape).unwrap()
        };
        assert!(read(&answer("00a1b2c3d4e5f607", "run"), 1).is_ok(), "the control");
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (build_id, name) in [
            ("00", "run"),
            ("00a1b2c3d4e5f607", ""),
            ("00a1b2c3d4e5f607", "a\u{1b}[2J"),
            ("00a1b2c3d4e5f607", &long),
        ] {
            assert!(read(&answer(build_id, name), 1).is_err(), "{build_id} {name}");
        }
        read(&vec![b' '; MAX_ANSWER_BYTES + 1], 1).unwrap_err();
        read(b"", 1).unwrap_err();
    }
}
