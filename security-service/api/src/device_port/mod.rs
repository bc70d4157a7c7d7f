//! The device port: enrolment, check-in, reports, and files of releases.

mod check_in;
mod enrol;
mod exchange;
mod reports;

use crate::checkpoints;
use crate::counts::Operation;
use crate::refusal::Refusal;
use crate::release_files;
use crate::service::Service;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use holdfast_evidence::messages::{CHECK_IN_PATH, ENROL_PATH, FINISH_PATH};
use holdfast_failure_reports::batch;
use holdfast_service_domain::problem::Problem;
use std::sync::Arc;

/// Returns the routes of the device port. Each request needs a [`Peer`](crate::peer::Peer) among its extensions.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route(ENROL_PATH, counted(&service, Operation::Enrol, post(enrol::begin)))
        .route(FINISH_PATH, counted(&service, Operation::Enrol, post(enrol::finish)))
        .route(CHECK_IN_PATH, counted(&service, Operation::CheckIn, post(check_in::check_in)))
        .route(batch::PATH, counted(&service, Operation::Report, post(reports::take)))
        .route(release_files::ROUTE, get(release_files::serve))
        .route(checkpoints::ROUTE, get(checkpoints::serve))
        .fallback(async || Refusal::from(Problem::NotFound))
        .layer(DefaultBodyLimit::disable())
        .with_state(service)
}

/// Returns a route whose answers are counted.
fn counted(
    service: &Arc<Service>,
    operation: Operation,
    route: MethodRouter<Arc<Service>>,
) -> MethodRouter<Arc<Service>> {
    let service = service.clone();
    route.layer(map_response(move |response: Response| {
        service.counts.answered(operation, &response);
        std::future::ready(response)
    }))
}
