//! Bodies of requests: bounded in bytes and in time, and read as JSON without unknown fields.

use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use holdfast_service_domain::problem::Problem;
use http_body_util::{BodyExt, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest time for a body: a device's TPM may take two seconds a command while it makes one.
const LONGEST: Duration = Duration::from_secs(30);

/// Reads a body of at most so many bytes, whatever its headers say.
///
/// # Errors
/// It is too large or too slow, or broke off.
pub(crate) async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let whole = tokio::time::timeout(LONGEST, Limited::new(body, most).collect()).await;
    let whole = whole.map_err(|_| Refusal::from(Problem::TooSlow))?;
    match whole {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Refusal::new(Problem::TooLarge, format!("at most {most} bytes are taken")))
        }
        Err(_) => Err(Refusal::new(Problem::Malformed, "the body broke off")),
    }
}

/// Reads JSON.
///
/// # Errors
/// It is none of the type's; the text says where.
pub(crate) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Problem::Malformed, error.to_string()))
}
