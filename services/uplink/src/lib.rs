//! The HTTPS client: fetches releases for the update agent, and checks in with the service for `identity`.
//!
//! It reaches the servers of its configuration and nobody else, through a veth pair of its own, and believes
//! the authorities of its configuration and no others. What it fetches it hands on: it can write
//! nothing, has no key, and believes nothing of it. Neither of the two waits for the other: each has a thread. Checking in is the
//! cargo feature `check-in`, which images without a service are built without.

mod assigned;
#[cfg(feature = "check-in")]
mod check_in;
#[cfg(feature = "check-in")]
mod device_certificate;
#[cfg(feature = "check-in")]
mod device_port;
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
use crate::server::{Fetched, Servers};
use holdfast_linux::init_socket::{InitError, InitSocket, notify_ready};
use holdfast_linux::{PathError, channel, file};
use holdfast_release::config::{self, UplinkConfig};
use holdfast_release::fetch::{AgentRequest, Answer, FetchError, MAX_REQUEST_BYTES};
use holdfast_sandbox::policy::APP_DIRECTORY;
use holdfast_sandbox::wire::{Reply, UplinkRequest};
use holdfast_types::encoding::EncodingError;
use holdfast_types::{chain, event};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Pause before init is asked for the update agent again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Errors that end the service; init starts it again.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    File(#[from] PathError),
    #[error("there is no {}, and no service to check in at", config::UPLINK_FILE)]
    NoConfig,
    #[error("{0} is damaged")]
    Config(&'static str, #[source] EncodingError),
    #[cfg(feature = "check-in")]
    #[error(transparent)]
    WithService(#[from] with_service::WithServiceError),
    #[error("cannot say that it is ready")]
    Ready(#[source] io::Error),
}

/// Errors that end the connection to the update agent; another one is asked for.
#[derive(Debug, thiserror::Error)]
enum AgentSocketError {
    #[error("cannot talk to the update agent")]
    Socket(#[from] io::Error),
    #[error("the update agent sent a malformed request")]
    Fetch(#[from] FetchError),
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let Err(error) = serve_forever();
    println!("cannot go on: {} {}", chain(&error), event::uplink::UPLINK_SERVICE_FAILED);
    ExitCode::FAILURE
}

/// Reads a file of the service's configuration, if the image has it.
fn configured<T>(
    name: &'static str,
    most: usize,
    decode: impl FnOnce(&[u8]) -> Result<T, EncodingError>,
) -> Result<Option<T>, ServiceError> {
    let bytes = file::read_bounded(&Path::new(APP_DIRECTORY).join(name), most)?;
    let decoded = bytes.map(|bytes| decode(&bytes)).transpose();
    decoded.map_err(|error| ServiceError::Config(name, error))
}

fn serve_forever() -> Result<Infallible, ServiceError> {
    let init = Mutex::new(InitSocket::from_environment()?);
    let releases =
        configured(config::UPLINK_FILE, config::MAX_ENCODED_BYTES, UplinkConfig::decode)?;
    #[cfg(feature = "check-in")]
    if let Some(service) = with_service::configuration()? {
        notify_ready().map_err(ServiceError::Ready)?;
        return with_service::serve_forever(releases, service, init);
    }
    let releases = releases.ok_or(ServiceError::NoConfig)?;
    notify_ready().map_err(ServiceError::Ready)?;
    fetch_for_agents(releases, &init, &Board::default())
}

fn fetch_for_agents(
    config: UplinkConfig,
    init: &Mutex<InitSocket<UplinkRequest>>,
    board: &Board,
) -> Result<Infallible, ServiceError> {
    let mut servers = Servers::new(config);
    loop {
        let asked = {
            // It is held for one question, which init answers at once.
            let mut init = init.lock().unwrap_or_else(PoisonError::into_inner);
            init.ask(UplinkRequest::Agent)?
        };
        let (reply, handed) = asked;
        match (reply, handed.into_iter().next()) {
            (Reply::Accepted, Some(agent)) => {
                if let Err(error) = serve(&mut servers, board, &agent) {
                    let failed = event::uplink::UPLINK_AGENT_SOCKET_FAILED;
                    println!("closing the update agent's socket: {} {failed}", chain(&error));
                }
            }
            // It is not there yet, or not any more.
            (Reply::NotFound | Reply::PermissionDenied | Reply::Failed, None) => {}
            (reply, _) => return Err(InitError::refused(reply).into()),
        }
        thread::sleep(ASK_EVERY);
    }
}

/// Serves the agent's requests, one file after the other, until it is gone.
fn serve(servers: &mut Servers, board: &Board, agent: &OwnedFd) -> Result<(), AgentSocketError> {
    let mut buffer = [0; MAX_REQUEST_BYTES];
    loop {
        let length = match channel::receive_with(agent, &mut buffer) {
            Ok((length, _)) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let request = AgentRequest::decode(buffer.get(..length).unwrap_or_default())?;
        let say = |answer: &Answer| -> Result<(), AgentSocketError> {
            Ok(channel::send_waiting(agent, &answer.encode()?)?)
        };
        let fetch = match request {
            AgentRequest::Fetch(fetch) => fetch,
            AgentRequest::Assigned(waits) => {
                say(&Answer::Assigned(board.exchange(waits)))?;
                continue;
            }
        };
        let answer = match servers.fetch(&fetch, |piece| say(&Answer::Piece(piece.to_vec())))? {
            Fetched::All => Answer::End,
            Fetched::Missing => Answer::Missing,
            Fetched::Failed(reason) => {
                let failed = event::uplink::UPLINK_FETCH_FAILED;
                println!("{}: cannot fetch {}: {reason} {failed}", fetch.repository, fetch.path);
                Answer::failed(&reason)
            }
        };
        say(&answer)?;
    }
}

#[cfg(all(test, feature = "check-in"))]
mod service_in_tests;
