//! What `uplink` does in an image with a service: it checks in, and fetches releases beside that where the image takes them.

use crate::assigned::Board;
use crate::check_in::{self, CheckInError};
use crate::configuration::{ConfigurationError, configured};
use crate::fetching::fetch_for_agents;
use holdfast_evidence::config::{MAX_ENCODED_BYTES, SERVICE_FILE, ServiceConfig};
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_release::config::UplinkConfig;
use holdfast_sandbox::wire::UplinkRequest;
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// Errors that end the service; init starts it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WithServiceError {
    #[error(transparent)]
    CheckIn(#[from] CheckInError),
    #[error(transparent)]
    Init(#[from] InitError),
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    #[error("its threads have ended")]
    Ended,
}

/// Reads the configuration of check-ins, if the image has a service.
///
/// # Errors
/// It is damaged or cannot be read.
pub(crate) fn configuration() -> Result<Option<ServiceConfig>, ConfigurationError> {
    configured(SERVICE_FILE, MAX_ENCODED_BYTES, ServiceConfig::decode)
}

/// Checks in, and fetches releases in a thread beside that where there are servers of them, until one of them ends.
pub(crate) fn serve_forever(
    releases: Option<UplinkConfig>,
    service: ServiceConfig,
    init: Mutex<InitSocket<UplinkRequest>>,
) -> Result<Infallible, WithServiceError> {
    let Some(releases) = releases else {
        let end = check_in::check_in_forever(service, &init, &Board::default());
        return Ok(end?);
    };
    let init = Arc::new(init);
    let (ends, ended) = mpsc::channel();
    let board = Arc::new(Board::default());
    let fetches = (ends.clone(), Arc::clone(&init), Arc::clone(&board));
    let start = |name: &str| thread::Builder::new().name(name.to_owned());
    start("fetch")
        .spawn(move || {
            let (ends, init, board) = fetches;
            let end = fetch_for_agents(releases, &init, &board);
            let _ = ends.send(end.map_err(WithServiceError::from));
        })
        .map_err(WithServiceError::Thread)?;
    start("check-in")
        .spawn(move || {
            let end = check_in::check_in_forever(service, &init, &board);
            let _ = ends.send(end.map_err(WithServiceError::from));
        })
        .map_err(WithServiceError::Thread)?;
    // The other one ends with the process.
    ended.recv().map_err(|_| WithServiceError::Ended)?
}
