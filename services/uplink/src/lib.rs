//! The HTTPS client: fetches releases for the update agent, and checks in with the service for `identity`.
//!
//! It reaches the servers of its configuration and nobody else, through a veth pair of its own, and believes
//! the authorities of its configuration and no others. What it fetches it hands on: it can write
//! nothing, has no key, and believes nothing of it. Neither of the two waits for the other: each has a thread. Checking in is the
//! cargo feature `check-in`, which images without a service are built without.

mod assigned;
#[cfg(feature = "check-in")]
mod check_in;
mod configuration;
#[cfg(feature = "check-in")]
mod device_certificate;
#[cfg(feature = "check-in")]
mod device_port;
mod fetching;
#[cfg(feature = "check-in")]
mod parts;
#[cfg(feature = "check-in")]
mod reports;
mod server;
#[cfg(feature = "check-in")]
mod uploads;
#[cfg(feature = "check-in")]
mod verifier;
#[cfg(feature = "check-in")]
mod with_service;

use crate::assigned::Board;
use crate::configuration::{ConfigurationError, configured};
use crate::fetching::fetch_for_agents;
use holdfast_linux::init_socket::{InitError, InitSocket, notify_ready};
use holdfast_release::config::{self, UplinkConfig};
use holdfast_types::{chain, event};
use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::sync::Mutex;

/// Errors that end the service; init starts it again.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    #[error("there is no {}, and no service to check in at", config::UPLINK_FILE)]
    NoConfig,
    #[cfg(feature = "check-in")]
    #[error(transparent)]
    WithService(#[from] with_service::WithServiceError),
    #[error("cannot say that it is ready")]
    Ready(#[source] io::Error),
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let Err(error) = serve_forever();
    println!("cannot go on: {} {}", chain(&error), event::uplink::UPLINK_SERVICE_FAILED);
    ExitCode::FAILURE
}

fn serve_forever() -> Result<Infallible, ServiceError> {
    let init = Mutex::new(InitSocket::from_environment()?);
    let releases =
        configured(config::UPLINK_FILE, config::MAX_ENCODED_BYTES, UplinkConfig::decode)?;
    #[cfg(feature = "check-in")]
    if let Some(service) = with_service::configuration()? {
        notify_ready().map_err(ServiceError::Ready)?;
        return Ok(with_service::serve_forever(releases, service, init)?);
    }
    let releases = releases.ok_or(ServiceError::NoConfig)?;
    notify_ready().map_err(ServiceError::Ready)?;
    Ok(fetch_for_agents(releases, &init, &Board::default())?)
}

#[cfg(all(test, feature = "check-in"))]
mod service_in_tests;
