//! The service that fetches releases over HTTPS for the update agent.
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
use holdfast_types::chain;
use holdfast_types::encoding::EncodingError;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Pause before it looks for the update agent again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Why the service cannot do its work. It ends then, and init starts it again.
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

/// Why nothing more can be said to the update agent. Its socket is given up, and another asked for.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("cannot talk to the update agent")]
    Socket(#[from] io::Error),
    #[error("the update agent asks for something else than a file")]
    Fetch(#[from] FetchError),
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let Err(error) = fetch_for_agents();
    println!("cannot go on: {}", chain(&error));
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
                    println!("{}", chain(&error));
                }
            }
            // It is not there yet, or not any more.
            (Reply::NotFound | Reply::PermissionDenied | Reply::Failed, None) => {}
            (reply, _) => return Err(InitError::refused(reply).into()),
        }
        std::thread::sleep(ASK_EVERY);
    }
}

/// Fetches what the agent asks for, one file after the other, until it is gone.
fn serve(servers: &mut Servers, agent: &OwnedFd) -> Result<(), AgentError> {
    let mut buffer = [0; MAX_REQUEST_BYTES];
    loop {
        let length = match channel::receive_with(agent, &mut buffer) {
            Ok((length, _)) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let fetch = Fetch::decode(buffer.get(..length).unwrap_or_default())?;
        let say = |answer: &Answer| -> Result<(), AgentError> {
            Ok(channel::send_waiting(agent, &answer.encode()?)?)
        };
        let answer = match servers.fetch(&fetch, |piece| say(&Answer::Piece(piece.to_vec())))? {
            Fetched::All => Answer::End,
            Fetched::Missing => Answer::Missing,
            Fetched::Failed(reason) => {
                println!("{}: {}: {reason}", fetch.repository, fetch.path);
                Answer::failed(&reason)
            }
        };
        say(&answer)?;
    }
}
