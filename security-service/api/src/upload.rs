//! Uploads: a body is written to a file that has no name yet, by as many at once as have a place.

use crate::refusal::Refusal;
use axum::body::{Body, HttpBody};
use holdfast_service_domain::problem::Problem;
use holdfast_service_store::blobs::{BlobError, Blobs, Written};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Longest time for a file, within that of the connection.
const LONGEST: Duration = Duration::from_secs(240);

/// Writes a body of at most so many bytes, and returns it with its place among those that are received at once. `failed` says how a file
/// that fails is refused, and logs it.
///
/// # Errors
/// There is no place, the body is too large, too slow or breaks off, or a file fails.
pub(crate) async fn receive(
    files: &Blobs,
    places: &Arc<Semaphore>,
    most: u64,
    body: Body,
    failed: fn(BlobError) -> Refusal,
) -> Result<(OwnedSemaphorePermit, Written), Refusal> {
    // Who says before how much it is, and waits to be told to go on, sends nothing.
    if body.size_hint().lower() > most {
        return Err(failed(BlobError::TooLarge { most }));
    }
    let place = places.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::from(Problem::Busy))?;
    let written = tokio::time::timeout(LONGEST, write(files, most, body, failed)).await;
    Ok((place, written.map_err(|_| Refusal::from(Problem::TooSlow))??))
}

async fn write(
    files: &Blobs,
    most: u64,
    mut body: Body,
    failed: fn(BlobError) -> Refusal,
) -> Result<Written, Refusal> {
    let mut draft = files.begin(most).await.map_err(failed)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::new(Problem::Malformed, "the body broke off"))?;
        if let Some(bytes) = frame.data_ref() {
            draft.write(bytes).await.map_err(failed)?;
        }
    }
    draft.finish().await.map_err(failed)
}
