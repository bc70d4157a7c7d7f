//! Management, `/v1`: catalogs, products, groups, devices, releases, symbols, authorities, threats, tokens and the audit log.

mod approvals;
mod asking;
mod caller;
mod catalogs;
mod crash_logs;
mod deployment_shapes;
mod deployments;
mod devices;
mod exports;
mod logs;
mod needs;
mod openapi;
mod openapi_forms;
mod overview;
mod overview_shapes;
mod page;
mod people_shapes;
mod releases;
mod report_shapes;
mod reports;
mod repositories;
mod roles;
mod sessions;
mod shapes;
mod symbols;
mod threat_shapes;
mod threats;
mod timeline;
mod tokens;
mod transfer_shapes;
mod transfers;
mod webhook_shapes;
mod webhooks;

use crate::counts::Operation;
use crate::refusal::Refusal;
use crate::service::Service;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::routing::{get, post, put};
use holdfast_service_domain::problem::Problem;
use std::sync::Arc;

pub use caller::Authenticated;
pub use needs::{NEEDS, Operation as OperationNeed, Reach, Who};
pub use openapi::document;

/// Returns the routes of management.
pub fn router(service: Arc<Service>) -> Router {
    let catalog = Router::new()
        .route("/", get(catalogs::show).patch(catalogs::change))
        .route("/overview", get(overview::overview))
        .route("/products", get(catalogs::products))
        .route("/products/{product}", put(catalogs::put_product))
        .route("/products/{product}/groups", get(catalogs::groups))
        .route(
            "/products/{product}/groups/{group}",
            get(catalogs::show_group).put(catalogs::put_group),
        )
        .route("/products/{product}/default-groups", post(deployments::default_groups))
        .route("/deployments", get(deployments::list).post(deployments::create))
        .route("/deployments/{deployment}", get(deployments::show))
        .route("/deployments/{deployment}/devices", get(deployments::devices))
        .route("/deployments/{deployment}/reasons", get(overview::reasons))
        .route("/deployments/{deployment}/{action}", post(deployments::act))
        .route("/claims", post(devices::claim))
        .route("/devices", get(devices::list))
        .route("/devices/{device}", get(devices::show))
        .route("/devices/{device}/timeline", get(timeline::timeline))
        .route("/devices/{device}/move", post(devices::move_to))
        .route("/devices/{device}/quarantine", post(devices::quarantine))
        .route("/devices/{device}/end-quarantine", post(devices::end_quarantine))
        .route("/devices/{device}/retire", post(devices::retire))
        .route("/devices/{device}/transfer", get(transfers::show).post(transfers::offer))
        .route("/devices/{device}/transfer/approve", post(transfers::approve))
        .route("/devices/{device}/transfer/withdraw", post(transfers::withdraw))
        .route("/transfers", get(transfers::list))
        .route("/transfers/accept", post(transfers::accept))
        .route("/releases", get(releases::list).post(releases::add))
        .route("/repositories/{repository}", get(repositories::show))
        .route("/repositories/{repository}/root", put(repositories::set_root))
        .route("/repositories/{repository}/metadata", post(repositories::take))
        .route("/release-files", get(repositories::files))
        .route("/release-files/{sha256}", put(repositories::put_file))
        .route("/releases/{boot}/withdraw", post(releases::withdraw))
        .route("/releases/{boot}/restore", post(releases::restore))
        .route("/symbols", get(symbols::list))
        .route("/symbols/{build_id}", get(symbols::show).put(symbols::put))
        .route("/symbols/{build_id}/remove", post(symbols::remove))
        .route("/makers", get(releases::makers).post(releases::put_maker))
        .route("/ca-certificates", get(catalogs::authorities))
        .route("/ca-certificates/renew", post(approvals::renew_authority))
        .route("/findings", get(logs::findings))
        .route("/findings/close", post(logs::close_finding))
        .route("/threats", get(threats::list))
        .route("/threats/{number}", get(threats::show))
        .route("/threats/{number}/close", post(threats::close))
        .route("/threats/{number}/contain", post(threats::contain))
        .route("/threats/{number}/release", post(threats::release))
        .route(
            "/thresholds",
            get(threats::catalog_thresholds).patch(threats::set_catalog_thresholds),
        )
        .route(
            "/products/{product}/groups/{group}/thresholds",
            get(threats::thresholds).patch(threats::set_thresholds),
        )
        .route("/reports", get(reports::reports))
        .route("/crashes", get(reports::crashes))
        .route("/crashes/{group}", get(reports::show_crash))
        .route("/crashes/{group}/days", get(overview::crash_days))
        .route("/crashes/{group}/close", post(reports::close))
        .route("/crashes/{group}/reopen", post(reports::reopen))
        .route("/audit", get(logs::audit))
        .route("/audit/verify", post(logs::verify_audit))
        .route("/audit/checkpoint", get(approvals::checkpoint).post(approvals::make_checkpoint))
        .route("/exports", post(exports::record))
        .route("/roles", get(roles::list).post(roles::give))
        .route("/roles/{role}/revoke", post(roles::revoke))
        .route("/approvals", get(approvals::list))
        .route("/approvals/{approval}", get(approvals::show))
        .route("/approvals/{approval}/approve", post(approvals::approve))
        .route("/approvals/{approval}/reject", post(approvals::reject))
        .route("/tokens", get(tokens::list).post(tokens::make))
        .route("/tokens/{name}/remove", post(tokens::remove))
        .route("/webhooks", get(webhooks::list).post(webhooks::make))
        .route("/deliveries", get(overview::deliveries))
        .route("/webhooks/{name}/remove", post(webhooks::remove))
        .route("/webhooks/{name}/test", post(webhooks::test));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/problems/{problem}", get(problem))
        .route("/openapi.json", get(async || axum::Json(document())))
        .route("/v1/first-owner/{ticket}", post(tokens::first_owner))
        .route("/v1/status", get(overview::status))
        .route("/v1/sign-in", get(sessions::providers))
        .route("/v1/sign-in/{provider}/begin", get(sessions::begin))
        .route("/v1/sign-in/{provider}/callback", get(sessions::callback))
        .route("/v1/sign-in/{provider}/device", post(sessions::begin_device))
        .route("/v1/sign-in/{provider}/device/poll", post(sessions::poll_device))
        .route("/v1/session", get(sessions::show))
        .route("/v1/session/end", post(sessions::end))
        .route("/v1/catalogs", get(catalogs::list).post(catalogs::make))
        .nest("/v1/catalogs/{catalog}", catalog)
        .fallback(async || Refusal::from(Problem::NotFound))
        .layer(DefaultBodyLimit::disable())
        .layer(map_response_with_state(service.clone(), counted))
        .with_state(service)
}

async fn counted(State(service): State<Arc<Service>>, response: Response) -> Response {
    service.counts.answered(Operation::Management, &response);
    response
}

/// Says what a type of problem is.
async fn problem(Path(slug): Path<String>) -> Result<String, Refusal> {
    let problem = Problem::of_slug(&slug).ok_or_else(|| Refusal::from(Problem::NotFound))?;
    Ok(format!("{}: {}\n", problem.status(), problem.title()))
}

async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Refusal> {
    service.store.ping().await?;
    Ok("ready\n")
}
