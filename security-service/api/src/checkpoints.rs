//! Checkpoints of audit logs: signed each hour and when somebody asks, and given to whoever asks.

use crate::issuers::IssuersError;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::checkpoint::SignedCheckpoint;
use holdfast_service_domain::problem::Problem;
use holdfast_service_issuing::IssuingError;
use holdfast_service_store::{Scope, StoreError};
use std::sync::Arc;
use thiserror::Error;

use crate::refusal::Refusal;

/// The route of the device port, beside the repositories: whoever mirrors those mirrors it, and keeps what he has seen.
pub(crate) const ROUTE: &str = "/repositories/{catalog}/audit/{file}";
/// Name of the newest there; an older one is named by its rows, as `42.json`.
const NEWEST: &str = "checkpoint.json";

/// Errors of checkpoints.
#[derive(Debug, Error)]
pub enum CheckpointFailure {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// There is no issuing certificate.
    #[error("the catalog's authority cannot be used")]
    Issuers(#[from] IssuersError),
    /// It cannot be signed.
    #[error("the checkpoint cannot be signed")]
    Issuing(#[from] IssuingError),
    /// It cannot be written.
    #[error("the checkpoint cannot be written")]
    Json(#[from] serde_json::Error),
}

/// Signs and keeps a checkpoint of the log as it is now, and returns it. Where there is one of as many rows, it is that one, so that nobody has many
/// made.
///
/// # Errors
/// See [`CheckpointFailure`].
pub async fn make(service: &Service, scope: Scope) -> Result<String, CheckpointFailure> {
    let now = service.now();
    let state = service.store.audit_state(scope, now).await?;
    if let Some((_, document)) = service.store.checkpoint(scope, Some(state.size)).await? {
        return Ok(document);
    }
    let issuer = service.issuers.of(&service.store, scope, now).await?;
    let signed: SignedCheckpoint = issuer.sign_checkpoint(&state)?;
    let document = serde_json::to_string(&signed)?;
    service.store.keep_checkpoint(scope, state, document.clone()).await?;
    let kept = service.store.checkpoint(scope, Some(state.size)).await?;
    Ok(kept.map_or(document, |(_, document)| document))
}

/// Serves a checkpoint to whoever asks: it says how many rows the log has, and nothing of what is in them.
pub(crate) async fn serve(
    State(service): State<Arc<Service>>,
    Path((catalog, file)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let missing = || Refusal::from(Problem::NotFound);
    let catalog = CatalogId::parse(&catalog).ok_or_else(missing)?;
    let scope = service.store.scope_of_device(catalog).await?.ok_or_else(missing)?;
    let size = match file.as_str() {
        NEWEST => None,
        name => {
            let size = name.strip_suffix(".json").and_then(|size| size.parse().ok());
            Some(size.ok_or_else(missing)?)
        }
    };
    let (_, document) = service.store.checkpoint(scope, size).await?.ok_or_else(missing)?;
    let kept = if size.is_none() { "no-cache" } else { "public, max-age=31536000, immutable" };
    let mut response = (StatusCode::OK, document).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(kept));
    Ok(response)
}
