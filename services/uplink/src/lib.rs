//! The download client: fetches releases over HTTPS for the update agent.
//!
//! It reaches the servers of its configuration and nobody else, through a veth pair of its own, and believes
//! the authorities of its configuration and no others. What it fetches it hands on: it can write
//! nothing, and believes nothing of it.

mod server;

use crate::server::{Fetched, Servers};
use holdfast_linux::init_socket::{InitError, InitSocket, notify_ready};
use holdfast_linux::{PathError, channel, file};
use holdfast_release::config::{self, UplinkConfig};
use holdfast_release::fetch::{Answer, Fetch, FetchError, MAX_REQUEST_BYTES};
use holdfast_sandbox::policy::APP_DIRECTORY;
use holdfast_sandbox::wire::{Reply, UplinkRequest};
use holdfast_types::encoding::EncodingError;
use holdfast_types::{chain, event};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
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
    #[error("there is no {}", config::UPLINK_FILE)]
    NoConfig,
    #[error("{} is damaged", config::UPLINK_FILE)]
    Config(#[source] EncodingError),
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
    let Err(error) = fetch_for_agents();
    println!("cannot go on: {} {}", chain(&error), event::uplink::UPLINK_SERVICE_FAILED);
    ExitCode::FAILURE
}

fn fetch_for_agents() -> Result<Infallible, ServiceError> {
    let mut init = InitSocket::from_environment()?;
    let path = Path::new(APP_DIRECTORY).join(config::UPLINK_FILE);
    let bytes = file::read_bounded(&path, config::MAX_ENCODED_BYTES)?;
    let config = UplinkConfig::decode(&bytes.ok_or(ServiceError::NoConfig)?);
    let mut servers = Servers::new(config.map_err(ServiceError::Config)?);
    notify_ready().map_err(ServiceError::Ready)?;
    loop {
        let (reply, handed) = init.ask(UplinkRequest::Agent)?;
        match (reply, handed.into_iter().next()) {
            (Reply::Accepted, Some(agent)) => {
                if let Err(error) = serve(&mut servers, &agent) {
                    let failed = event::uplink::UPLINK_AGENT_SOCKET_FAILED;
                    println!("closing the update agent's socket: {} {failed}", chain(&error));
                }
            }
            // It is not there yet, or not any more.
            (Reply::NotFound | Reply::PermissionDenied | Reply::Failed, None) => {}
            (reply, _) => return Err(InitError::refused(reply).into()),
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// Serves the agent's requests, one file after the other, until it is gone.
fn serve(servers: &mut Servers, agent: &OwnedFd) -> Result<(), AgentSocketError> {
    let mut buffer = [0; MAX_REQUEST_BYTES];
    loop {
        let length = match channel::receive_with(agent, &mut buffer) {
            Ok((length, _)) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let fetch = Fetch::decode(buffer.get(..length).unwrap_or_default())?;
        let say = |answer: &Answer| -> Result<(), AgentSocketError> {
            Ok(channel::send_waiting(agent, &answer.encode()?)?)
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
