//! The update agent: verifies the metadata of repositories, installs their releases, and has init try them.
//!
//! It has no network: whatever it looks at comes through a socket from `uplink`, and is hostile until
//! verified. It cannot choose a slot, lower a floor or write the boot state: those are init's, which it
//! asks for steps one after the other.

mod agent;
mod assigned;
mod bus;
mod card;
mod connection;
mod device;
mod download;
mod install;
mod install_error;
mod news;
mod slot;
mod state;
mod tried;
mod uplink;

use crate::agent::Agent;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::notify_ready;
use holdfast_types::{chain, event};
use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    let Err(error) = serve_forever();
    println!("cannot go on: {} {}", chain(&*error), event::update::UPDATE_SERVICE_FAILED);
    ExitCode::FAILURE
}

fn serve_forever() -> Result<Infallible, Box<dyn Error>> {
    let mut agent = Agent::begin()?;
    notify_ready()?;
    loop {
        let wait = agent.poll_once()?;
        let until = monotonic_ms().saturating_add(wait);
        agent.wait_until(until)?;
    }
}
