//! Fetching: what the update agent asks for, and what the last check-in has assigned.

use crate::assigned::Board;
use crate::server::{Fetched, Servers};
use holdfast_linux::channel;
use holdfast_linux::init_socket::{InitError, InitSocket};
use holdfast_release::config::UplinkConfig;
use holdfast_release::fetch::{AgentRequest, Answer, FetchError, MAX_REQUEST_BYTES};
use holdfast_sandbox::wire::{Reply, UplinkRequest};
use holdfast_types::{chain, event};
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Pause before init is asked for the update agent again.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Errors that end the connection to the update agent; another one is asked for.
#[derive(Debug, thiserror::Error)]
enum AgentSocketError {
    #[error("cannot talk to the update agent")]
    Socket(#[from] io::Error),
    #[error("the update agent sent a malformed request")]
    Fetch(#[from] FetchError),
}

/// Serves the update agent, and the next one where it ends.
///
/// # Errors
/// init does not answer.
pub(crate) fn fetch_for_agents(
    config: UplinkConfig,
    init: &Mutex<InitSocket<UplinkRequest>>,
    board: &Board,
) -> Result<Infallible, InitError> {
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
            (reply, _) => return Err(InitError::refused(reply)),
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
