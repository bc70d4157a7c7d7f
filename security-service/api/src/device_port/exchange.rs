//! One request and its answer: admitted before its body is read, and answered as JSON.

use crate::body;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_evidence::messages::MAX_REQUEST_BYTES;
use holdfast_service_domain::problem::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

/// Takes a place among the requests that are served at once.
///
/// # Errors
/// There is none.
pub(super) fn place(service: &Service) -> Result<OwnedSemaphorePermit, Refusal> {
    let place = service.admission.clone().try_acquire_owned();
    place.map_err(|_| Refusal::from(Problem::Busy))
}

/// Takes a place among the requests that are served at once, and only then reads the body: a device sends headers with
/// `Expect: 100-continue`, and wakes its TPM when it is told to go on.
pub(super) async fn admit<T: DeserializeOwned>(
    service: &Service,
    body: Body,
) -> Result<(T, OwnedSemaphorePermit), Refusal> {
    let place = place(service)?;
    let body = body::read(body, MAX_REQUEST_BYTES).await?;
    Ok((body::json(&body)?, place))
}

/// An answer as JSON.
pub(super) fn answer<T: Serialize>(status: StatusCode, body: &T) -> Result<Response, Refusal> {
    let body = serde_json::to_string(body);
    let body = body.map_err(|error| Refusal::new(Problem::Internal, error.to_string()))?;
    let mut response = (status, body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(response)
}
