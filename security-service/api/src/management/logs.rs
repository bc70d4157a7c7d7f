//! Findings and the audit log.

use super::caller::{Caller, Change, shown};
use super::devices::device_id;
use super::page::{AuditPage, Page};
use super::shapes::{
    AuditShape, AuditVerdict, Done, FindingShape, FindingToClose, Listed, ProblemShape,
};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::device::Finding;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::device::{self, FindingKey};
use holdfast_types::event::security_service::AUDIT_LOG_BROKEN;
use holdfast_types::hex::hex;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Lists findings by device: open ones, and with `state=closed` all. Whose role is for products or groups sees those of the devices that are
/// in them now.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/findings", params(("catalog" = String, Path), Page),
    security(("token" = [])),
    responses((status = 200, body = Listed<FindingShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn findings(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let closed = page.state.as_deref() == Some("closed");
    let after = finding_key(&page.after)?;
    let sight = caller.0.sight(scope.catalog());
    let rows = service.store.findings(scope, &sight, closed, &after, page.most()).await?;
    let items = rows.into_iter().map(|row| FindingShape {
        device: row.device.to_string(),
        kind: row.kind.word().to_owned(),
        opened_at: row.opened_at,
        last_at: row.last_at,
        times: row.times,
        closed_at: row.closed_at,
    });
    shown(&Listed::new(items.collect(), page.most(), |item: &FindingShape| {
        format!("{}.{}.{}", item.device, item.kind, item.closed_at.unwrap_or(0))
    }))
}

/// Reads what a page of findings begins behind: device, kind and end, with dots between.
fn finding_key(after: &str) -> Result<FindingKey, Refusal> {
    if after.is_empty() {
        return Ok(FindingKey::default());
    }
    let malformed = || Refusal::new(Problem::Malformed, "after: must be the `next` of a page");
    let mut parts = after.split('.').map(str::to_owned);
    let (device, kind, end) = (parts.next(), parts.next(), parts.next());
    let (device, kind) = device.zip(kind).ok_or_else(malformed)?;
    let closed_at = end.and_then(|end| end.parse().ok()).ok_or_else(malformed)?;
    Ok(FindingKey { device, kind, closed_at })
}

/// Closes a finding. The device need not be asked: what heals does so by itself, what is closed is somebody's decision.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/findings/close", params(("catalog" = String, Path)),
    request_body = FindingToClose, security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn close_finding(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Close).await?;
    let new: FindingToClose = change.json()?;
    let id = device_id(&new.device)?;
    // A finding may be about a device that is there no more, or never was: that is the whole catalog's matter.
    match service.store.device(scope, &id).await?.and_then(|device| device.group) {
        Some((product, group)) => {
            let group = (Some(product.as_str()), Some(group.as_str()));
            change.caller.of_row(scope, Need::Close, group, Problem::UnknownDevice)?;
        }
        None => change.caller.must(scope, Need::Close, None, None)?,
    }
    let kind = Finding::of_word(&new.kind);
    let kind =
        kind.ok_or_else(|| Refusal::new(Problem::Malformed, "kind: is no kind of finding"))?;
    let object = format!("{} {}", new.device, new.kind);
    let now = service.now();
    let work =
        change.carry_out(&service, scope, "finding.close", &object, move |connection, scope| {
            Box::pin(async move { device::close_finding(connection, scope, &id, kind, now).await })
        });
    work.await
}

/// Lists rows of the audit log by number, the oldest first unless `order=newest`.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/audit", params(("catalog" = String, Path), AuditPage),
    security(("token" = [])),
    responses((status = 200, body = Listed<AuditShape>), (status = 403, body = ProblemShape)))]
pub(super) async fn audit(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: AuditPage,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::Audit).await?;
    let after = Some(page.after.as_str()).filter(|after| !after.is_empty()).map(str::parse);
    let after = after.transpose();
    let after = after.map_err(|_| Refusal::new(Problem::Malformed, "after: must be a number"))?;
    let rows = match page.order.as_deref() {
        None | Some("oldest") => {
            service.store.audit_rows(scope, after.unwrap_or(0), page.most()).await?
        }
        Some("newest") => {
            let before = after.unwrap_or(u64::MAX);
            service.store.audit_rows_before(scope, before, page.most()).await?
        }
        Some(_) => {
            return Err(Refusal::new(Problem::Malformed, "order: must be oldest or newest"));
        }
    };
    let items = rows.into_iter().map(|(row, hash)| AuditShape {
        number: row.number,
        at: row.at,
        who: row.who,
        verb: row.verb,
        object: row.object,
        digest: hex(&row.digest),
        hash: hex(&hash),
    });
    shown(&Listed::new(items.collect(), page.most(), |item: &AuditShape| item.number.to_string()))
}

/// Follows the whole audit log.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/audit/verify", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = AuditVerdict), (status = 403, body = ProblemShape)))]
pub(super) async fn verify_audit(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::Audit).await?;
    let verdict = match service.store.verify_audit(scope).await? {
        Ok(rows) => AuditVerdict { rows, broken: None },
        Err(broken) => {
            eprintln!("catalog {}: {broken} {AUDIT_LOG_BROKEN}", scope.catalog());
            AuditVerdict { rows: broken.0.saturating_sub(1), broken: Some(broken.0) }
        }
    };
    shown(&verdict)
}
