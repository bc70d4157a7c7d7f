//! Reports of devices and the crash groups that they are part of.

use super::caller::{Caller, Change, shown};
use super::crash_logs;
use super::report_shapes::{
    CrashShape, CrashVersionShape, CrashesPage, ReportShape, ReportsPage, ShownCrash, cursor,
};
use super::shapes::{Done, Listed, ProblemShape};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::crash::{Exposure, GroupId, per_1000_device_days, standing};
use holdfast_service_domain::insight::{Insight, csv_head};
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::Scope;
use holdfast_service_store::crash::{self, CrashRow, Exposures, exposed};
use holdfast_service_store::report::{ReportKey, Reported};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Lists what devices have reported within 14 days, in the order in which it came: as JSON, or with `format=csv` as CSV in the eight columns of Azure
/// Sphere's error reports, whose next page is named by `Link`. Whose role is for products or groups sees what devices have reported that are in them now.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/reports", params(("catalog" = String, Path), ReportsPage),
    security(("token" = [])),
    responses((status = 200, body = Listed<ReportShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn reports(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: ReportsPage,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let is_csv = match page.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => {
            return Err(Refusal::new(Problem::Malformed, "format: must be json or csv"));
        }
    };
    let after = report_key(&page.after)?;
    let most = page.most();
    let wanted = usize::try_from(most).unwrap_or(usize::MAX);
    let sight = caller.0.sight(scope.catalog());
    let rows = service.store.reports(scope, &sight, &after, wanted, service.now()).await?;
    let events = rows.iter().map(|row| Some((row, event(row)?)));
    let events: Option<Vec<(&Reported, Insight)>> = events.collect();
    let events = events.ok_or_else(|| Refusal::from(Problem::Internal))?;
    if is_csv {
        let is_full = rows.len() >= wanted;
        let next = rows.last().filter(|_| is_full).map(|row| cursor(&row.key));
        return Ok(csv(&catalog, &page, &events, next));
    }
    let items = events.into_iter().map(|(row, event)| ReportShape::new(&row.key, event));
    shown(&Listed::new(items.collect(), most, |item: &ReportShape| item.cursor()))
}

fn event(row: &Reported) -> Option<Insight> {
    let device: DeviceId = row.key.device.parse().ok()?;
    Some(Insight::of(device, &row.record, row.key.received_at))
}

/// A page as CSV. The first alone has the heads, so that pages can be put behind each other.
fn csv(
    catalog: &str,
    page: &ReportsPage,
    events: &[(&Reported, Insight)],
    next: Option<String>,
) -> Response {
    let mut text = if page.after.is_empty() { csv_head() } else { String::new() };
    text.extend(events.iter().map(|(_, event)| event.csv()));
    let mut response = text.into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/csv; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let query = format!("reports?format=csv&limit={}", page.most());
    link(&mut response, catalog, &query, next);
    response
}

/// Names the next page of what is below the catalog (RFC 8288), where there is one.
fn link(response: &mut Response, catalog: &str, query: &str, next: Option<String>) {
    let Some(next) = next else { return };
    let link = format!("</v1/catalogs/{catalog}/{query}&after={next}>; rel=\"next\"");
    if let Ok(link) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LINK, link);
    }
}

fn report_key(after: &str) -> Result<ReportKey, Refusal> {
    if after.is_empty() {
        return Ok(ReportKey::default());
    }
    let parts: Vec<&str> = after.split('.').collect();
    let key = match parts.as_slice() {
        [received_at, device, epoch, sequence] => {
            received_at.parse().ok().zip(sequence.parse().ok()).map(|(received_at, sequence)| {
                let (device, epoch) = ((*device).to_owned(), (*epoch).to_owned());
                ReportKey { received_at, device, epoch, sequence }
            })
        }
        _ => None,
    };
    key.ok_or_else(|| Refusal::new(Problem::Malformed, "after: must be the `next` of a page"))
}

/// Lists crash groups by id: open ones, and with `state=closed` all. As JSON of this API, or with `format=otlp` as logs of OpenTelemetry (OTLP's JSON), whose
/// next page is named by `Link`.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/crashes", params(("catalog" = String, Path), CrashesPage),
    security(("token" = [])),
    responses((status = 200, body = Listed<CrashShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn crashes(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: CrashesPage,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let is_otlp = match page.format.as_deref() {
        None | Some("json") => false,
        Some("otlp") => true,
        Some(_) => return Err(Refusal::new(Problem::Malformed, "format: must be json or otlp")),
    };
    let closed = page.state.as_deref() == Some("closed");
    let is_newest = match page.order.as_deref() {
        None | Some("id") => false,
        Some("newest") if !is_otlp => true,
        Some("newest") => return Err(Refusal::new(Problem::Malformed, "order: is of json alone")),
        Some(_) => return Err(Refusal::new(Problem::Malformed, "order: must be id or newest")),
    };
    let rows = if is_newest {
        let before = before(&page.after)?;
        let before = (before.0, before.1.as_str());
        service.store.newest_crashes(scope, closed, before, page.most()).await?
    } else {
        service.store.crashes(scope, closed, &page.after, page.most()).await?
    };
    let exposures = service.store.exposures(scope).await?;
    let now = service.now();
    let sees = |item: &CrashShape| caller.may(scope, Need::See, item.product.as_deref(), None);
    let items: Vec<_> = rows.into_iter().map(|row| shape(row, &exposures, now)).collect();
    if !is_otlp {
        let key = |item: &CrashShape| {
            if is_newest { format!("{}.{}", item.last_at, item.group) } else { item.group.clone() }
        };
        return shown(&Listed::new(items, page.most(), key).retain(sees));
    }
    let listed = Listed::new(items, page.most(), |item: &CrashShape| item.group.clone());
    let listed = listed.retain(sees);
    let mut response = shown(&crash_logs::logs(&listed.items, now))?;
    let state = if closed { "&state=closed" } else { "" };
    let query = format!("crashes?format=otlp{state}&limit={}", page.most());
    link(&mut response, &catalog, &query, listed.next);
    Ok(response)
}

/// Reads what a page of the newest groups ends before: when one was seen last, and its id, with a dot between.
fn before(after: &str) -> Result<(u64, String), Refusal> {
    if after.is_empty() {
        return Ok((u64::MAX, String::new()));
    }
    let parts = after.split_once('.');
    let parts = parts.and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
    parts.ok_or_else(|| Refusal::new(Problem::Malformed, "after: must be the `next` of a page"))
}

/// Shows a crash group, and how often it was seen in each version.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/crashes/{group}",
    params(("catalog" = String, Path), ("group" = String, Path)), security(("token" = [])),
    responses((status = 200, body = ShownCrash), (status = 404, body = ProblemShape)))]
pub(super) async fn show_crash(
    State(service): Shared,
    caller: Caller,
    Path((catalog, group)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let found = service.store.crash(scope, group_id(&group)?).await?;
    let (row, versions) = found.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    caller.of_row(scope, Need::See, (product_of(&row), None), Problem::NotFound)?;
    let all = service.store.exposures(scope).await?;
    let exposures = exposures_of(&row, &all);
    let versions = versions.iter().map(|seen| {
        let days = days(exposures, |version| version == seen.version);
        CrashVersionShape {
            version: seen.version.to_string(),
            first_at: seen.first_at,
            last_at: seen.last_at,
            events: seen.events,
            devices: seen.devices,
            device_days: days,
            rate: per_1000_device_days(seen.devices, days),
        }
    });
    let versions = versions.collect();
    shown(&ShownCrash { crash: shape(row, &all, service.now()), versions })
}

/// Closes a crash group, as of the newest version that it was seen in. It opens again by itself where it is seen in a later one.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/crashes/{group}/close",
    params(("catalog" = String, Path), ("group" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn close(
    State(service): Shared,
    Path((catalog, group)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Close).await?;
    let (id, now) = (group_id(&group)?, service.now());
    may_close(&service, &change.caller, scope, id).await?;
    let work =
        change.carry_out(&service, scope, "crash.close", &group, move |connection, scope| {
            Box::pin(async move { crash::close(connection, scope, id, now).await })
        });
    work.await
}

/// Opens a crash group that was closed.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/crashes/{group}/reopen",
    params(("catalog" = String, Path), ("group" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn reopen(
    State(service): Shared,
    Path((catalog, group)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Close).await?;
    let id = group_id(&group)?;
    may_close(&service, &change.caller, scope, id).await?;
    let work =
        change.carry_out(&service, scope, "crash.reopen", &group, move |connection, scope| {
            Box::pin(async move { crash::reopen(connection, scope, id).await })
        });
    work.await
}

/// Returns the product of a crash group, where its devices are in one.
pub(super) fn product_of(row: &CrashRow) -> Option<&str> {
    Some(row.product.as_str()).filter(|product| !product.is_empty())
}

/// Demands that the caller may close crash groups of the product of this one.
async fn may_close(
    service: &Service,
    caller: &Caller,
    scope: Scope,
    id: GroupId,
) -> Result<(), Refusal> {
    let found = service.store.crash(scope, id).await?;
    let (row, _) = found.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    caller.of_row(scope, Need::Close, (product_of(&row), None), Problem::NotFound)
}

/// Reads the id of a group. What is none names nothing that is here.
fn group_id(text: &str) -> Result<GroupId, Refusal> {
    text.parse().map_err(|_| Refusal::from(Problem::NotFound))
}

fn exposures_of<'e>(row: &CrashRow, all: &'e Exposures) -> &'e [Exposure] {
    let of = (row.product.clone(), exposed(row.component.clone()));
    all.get(&of).map_or(&[], Vec::as_slice)
}

fn days(exposures: &[Exposure], within: impl Fn(holdfast_types::Version) -> bool) -> u64 {
    let within = exposures.iter().filter(|exposure| within(exposure.version));
    within.fold(0, |sum, exposure| sum.saturating_add(exposure.device_days))
}

fn shape(row: CrashRow, all: &Exposures, now: u64) -> CrashShape {
    let exposures = exposures_of(&row, all);
    let state = &row.state;
    let seen_in = state.first_version..=state.last_version;
    let device_days = days(exposures, |version| seen_in.contains(&version));
    CrashShape {
        group: row.id.to_string(),
        algorithm: row.algorithm.number(),
        state: standing(state, exposures, now).word().to_owned(),
        product: Some(row.product).filter(|product| !product.is_empty()),
        component: row.component,
        name: row.name,
        kind: row.failure,
        at: row.place,
        called_from: row.called_from,
        first_version: state.first_version.to_string(),
        last_version: state.last_version.to_string(),
        first_at: state.first_at,
        last_at: state.last_at,
        events: state.events,
        devices: state.devices,
        device_days,
        rate: per_1000_device_days(state.devices, device_days),
        regressed_at: state.regressed_at,
        closed_at: row.closed_at,
    }
}
