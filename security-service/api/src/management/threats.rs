//! Threats: listed, shown, closed, contained and released, and the thresholds from which on they are found.

use super::caller::{Caller, Change, done, shown};
use super::shapes::{Done, Listed, ProblemShape};
use super::threat_shapes::{
    ContainedThreat, ShownThreat, ThreatShape, ThreatToClose, ThreatsPage, ThresholdChange,
    ThresholdShape, thresholds as shapes,
};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::detection::containment::Action;
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::register::{Closing, MAX_REASON_BYTES};
use holdfast_service_domain::detection::thresholds::{Overrides, changed};
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::Scope;
use holdfast_service_store::deployment::change;
use holdfast_service_store::deployment::row::DeploymentRow;
use holdfast_service_store::detection::threat::{self, ThreatRow, Wanted};
use holdfast_service_store::detection::{containment, threshold};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Reads the number of a threat. What is none names nothing that is here.
fn number(text: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| Refusal::from(Problem::NotFound))
}

/// Returns product and group, where they are not those of devices that are in none.
fn parts(group: &GroupName) -> (Option<&str>, Option<&str>) {
    let named = Some(group).filter(|group| !group.is_none());
    (named.map(|group| group.product.as_str()), named.map(|group| group.group.as_str()))
}

/// Returns a threat, if the caller may do with its group what needs this.
async fn found(
    service: &Service,
    caller: &Caller,
    scope: Scope,
    id: u64,
    need: Need,
) -> Result<ThreatRow, Refusal> {
    let row = service.store.threat(scope, id).await?;
    let row = row.ok_or_else(|| Refusal::new(Problem::NotFound, "there is no such threat"))?;
    caller.of_row(scope, need, parts(&row.group), Problem::NotFound)?;
    Ok(row)
}

/// Lists threats by number: open ones, and with `state=closed` all.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/threats",
    params(("catalog" = String, Path), ThreatsPage), security(("token" = [])),
    responses((status = 200, body = Listed<ThreatShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: ThreatsPage,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let after = if page.after.is_empty() { Ok(0) } else { page.after.parse() };
    let after = after.map_err(|_| Refusal::new(Problem::Malformed, "after: must be a number"))?;
    let most = page.most();
    let closed = page.state.as_deref() == Some("closed");
    let wanted = Wanted { product: page.product, group: page.group, closed };
    let rows = service.store.threats(scope, &wanted, after, most).await?;
    let items = rows.iter().map(ThreatShape::new).collect();
    let listed = Listed::new(items, most, |item: &ThreatShape| item.number.to_string());
    let sees = |item: &ThreatShape| {
        caller.may(scope, Need::See, item.product.as_deref(), item.group.as_deref())
    };
    shown(&listed.retain(sees))
}

/// Shows a threat: what shows it, what contains it, and what is done about it.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/threats/{number}",
    params(("catalog" = String, Path), ("number" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = ShownThreat), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, text)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let row = found(&service, &caller, scope, number(&text)?, Need::See).await?;
    let contained = service.store.contained(scope, &row.group).await?;
    shown(&ShownThreat::new(&row, &contained))
}

/// Closes a threat, with a reason. It is opened again where it goes on; what is contained stays so.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/threats/{number}/close",
    params(("catalog" = String, Path), ("number" = u64, Path)), request_body = ThreatToClose,
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn close(
    State(service): Shared,
    Path((catalog, text)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Close).await?;
    let (id, ThreatToClose { reason }) = (number(&text)?, change.json()?);
    if reason.trim().is_empty() || reason.len() > MAX_REASON_BYTES {
        let rule = format!("reason: must have 1 to {MAX_REASON_BYTES} bytes");
        return Err(Refusal::new(Problem::Malformed, rule));
    }
    found(&service, &change.caller, scope, id, Need::Close).await?;
    let closing = Closing { at: service.now(), by: change.caller.0.by.name.clone(), reason };
    let work =
        change.carry_out(&service, scope, "threat.close", &text, move |connection, scope| {
            Box::pin(async move { threat::close(connection, scope, id, closing).await })
        });
    work.await
}

/// Contains a threat: devices that attest a version to blame, or devices that are, get certificates for updates alone from their next check-in on, and
/// nobody new is given the release. Nothing is run on a device.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/threats/{number}/contain",
    params(("catalog" = String, Path), ("number" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = ContainedThreat), (status = 404, body = ProblemShape),
        (status = 409, body = ProblemShape)))]
pub(super) async fn contain(
    State(service): Shared,
    Path((catalog, text)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Operate).await?;
    found(&service, &change.caller, scope, number(&text)?, Need::Operate).await?;
    let (id, who, now) = (number(&text)?, change.caller.0.by.name.clone(), service.now());
    let work = change.make(&service, scope, "threat.contain", &text, move |connection, scope| {
        Box::pin(async move {
            let (group, actions) = containment::contain(connection, scope, id, who, now).await?;
            let mut all: Vec<String> = actions.iter().map(ToString::to_string).collect();
            let mut left = Vec::new();
            for action in &actions {
                let Action::HaltDeployments(part) = action else { continue };
                let of = (group.product.as_str(), group.group.as_str());
                let of_part = change::halt_part(connection, scope, of, part, now).await?;
                all.extend(of_part.halted.iter().map(halted));
                left.extend(of_part.done.as_ref().map(not_halted));
            }
            Ok(done(&ContainedThreat { done: all, left }))
        })
    });
    work.await
}

fn halted(row: &DeploymentRow) -> String {
    format!("deployment {} of {} is halted", row.id, row.target.version)
}

/// What `contain` does not do: what is done was given to every device of the group already, and stays so until somebody takes it back.
fn not_halted(row: &DeploymentRow) -> String {
    format!(
        "deployment {} of {} is done and not halted: devices of the group may still take it; `deployment withdraw {}` takes that back",
        row.id, row.target.version, row.id
    )
}

/// Undoes what contains a threat. What another threat asks for as well ends with that one.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/threats/{number}/release",
    params(("catalog" = String, Path), ("number" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn release(
    State(service): Shared,
    Path((catalog, text)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Operate).await?;
    found(&service, &change.caller, scope, number(&text)?, Need::Operate).await?;
    let id = number(&text)?;
    let work =
        change.carry_out(&service, scope, "threat.release", &text, move |connection, scope| {
            Box::pin(async move { containment::release(connection, scope, id).await })
        });
    work.await
}

/// Returns what a group has set, if there is such a group.
async fn shown_of(
    service: &Service,
    caller: &Caller,
    catalog: &str,
    group: GroupName,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(service, catalog, Need::See).await?;
    let (product, of) = parts(&group);
    caller.must(scope, Need::See, product, of)?;
    if !group.is_none() && service.store.group(scope, &group.product, &group.group).await?.is_none()
    {
        return Err(Refusal::new(Problem::NotFound, "there is no such group"));
    }
    let overrides = service.store.thresholds(scope).await?.remove(&group).unwrap_or_default();
    shown(&Listed { items: shapes(&overrides), next: None })
}

async fn set_of(
    service: &Service,
    catalog: &str,
    group: GroupName,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(service, catalog, Need::Operate).await?;
    let (product, of) = parts(&group);
    change.caller.must(scope, Need::Operate, product, of)?;
    let ThresholdChange { thresholds } = change.json()?;
    changed(Overrides::new(), &thresholds, !group.is_none())
        .map_err(|error| Refusal::new(Problem::Malformed, error.to_string()))?;
    let object = group.to_string();
    let work =
        change.carry_out(service, scope, "threshold.change", &object, move |connection, scope| {
            Box::pin(async move { threshold::set(connection, scope, group, thresholds).await })
        });
    work.await
}

/// Lists the thresholds of a group's rules.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/products/{product}/groups/{group}/thresholds",
    params(("catalog" = String, Path), ("product" = String, Path), ("group" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Listed<ThresholdShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn thresholds(
    State(service): Shared,
    caller: Caller,
    Path((catalog, product, group)): Path<(String, String, String)>,
) -> Result<Response, Refusal> {
    shown_of(&service, &caller, &catalog, GroupName { product, group }).await
}

/// Changes thresholds of a group's rules: those that are named, and null brings a default back.
#[utoipa::path(patch, path = "/v1/catalogs/{catalog}/products/{product}/groups/{group}/thresholds",
    params(("catalog" = String, Path), ("product" = String, Path), ("group" = String, Path)),
    request_body = ThresholdChange, security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = ProblemShape),
        (status = 404, body = ProblemShape)))]
pub(super) async fn set_thresholds(
    State(service): Shared,
    Path((catalog, product, group)): Path<(String, String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    set_of(&service, &catalog, GroupName { product, group }, change).await
}

/// Lists the thresholds of devices that are in no group, and of what is counted over the whole catalog.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/thresholds", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Listed<ThresholdShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn catalog_thresholds(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    shown_of(&service, &caller, &catalog, GroupName::default()).await
}

/// Changes the thresholds of devices that are in no group, and of what is counted over the whole catalog.
#[utoipa::path(patch, path = "/v1/catalogs/{catalog}/thresholds", params(("catalog" = String, Path)),
    request_body = ThresholdChange, security(("token" = [])),
    responses((status = 200, body = Done), (status = 400, body = ProblemShape)))]
pub(super) async fn set_catalog_thresholds(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    set_of(&service, &catalog, GroupName::default(), change).await
}
