//! Exports of a catalog's results: a row of the audit log has the digest of the manifest, so that a checkpoint vouches for what whoever
//! exports has written.

use super::caller::Change;
use super::shapes::{Done, ProblemShape};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::audit::EXPORT_VERB;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_types::hex::{hex, unhex};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// An export that was written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewExport {
    /// SHA-256 of its manifest, as 64 hexadecimal digits in lower case.
    manifest: String,
}

/// Has the audit log say which export was written, and by whom. Whoever may see the audit log may see all that an export has.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/exports", params(("catalog" = String, Path)),
    request_body = NewExport, security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = ProblemShape)))]
pub(super) async fn record(
    State(service): State<Arc<Service>>,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Audit).await?;
    let NewExport { manifest } = change.json()?;
    let digest = unhex::<32>(&manifest).filter(|digest| hex(digest) == manifest);
    if digest.is_none() {
        let rule = "manifest: must be 64 hexadecimal digits in lower case";
        return Err(Refusal::new(Problem::Malformed, rule));
    }
    // The row of the audit log is all there is to it.
    let work = change
        .carry_out(&service, scope, EXPORT_VERB, &manifest, |_, _| Box::pin(async { Ok(()) }));
    work.await
}
