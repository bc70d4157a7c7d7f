//! The device port: enrolment and check-in.

mod check_in;
mod enrol;
mod exchange;

use crate::refusal::Refusal;
use crate::service::Service;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use holdfast_evidence::messages::{CHECK_IN_PATH, ENROL_PATH, FINISH_PATH};
use holdfast_service_domain::problem::Problem;
use std::sync::Arc;

/// Returns the routes of the device port. Each request needs a [`Peer`](crate::peer::Peer) among its extensions.
pub fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route(ENROL_PATH, post(enrol::begin))
        .route(FINISH_PATH, post(enrol::finish))
        .route(CHECK_IN_PATH, post(check_in::check_in))
        .fallback(async || Refusal::from(Problem::NotFound))
        .layer(DefaultBodyLimit::disable())
        .with_state(service)
}
