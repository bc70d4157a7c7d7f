//! `uplink` in an attacker's hand: with all that init gives it, it wants a signature by an app's key. Lines of its output say what
//! becomes of it.

use holdfast_evidence::exchange::{self, ExchangeReply, ExchangeRequest};
use holdfast_linux::init_socket::InitSocket;
use holdfast_linux::poll::Poll;
use holdfast_linux::{channel, clock};
use holdfast_sandbox::wire::{IdentityRequest, Reply, Request, UpdateRequest, UplinkRequest};
use std::error::Error;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Where apps call `identity` and the update agent, in their own roots and in init's.
const SOCKETS: [&str; 4] = [
    "/run/identity",
    "/run/update",
    "/run/notify/authenticating/identity",
    "/run/authenticating/identity",
];
/// For an answer of `identity`, in milliseconds.
const WITHIN_MS: u64 = 30_000;
/// What a D-Bus client says first.
const D_BUS: &[u8] = b"\0AUTH EXTERNAL 31303032\r\n";

fn main() -> Result<(), Box<dyn Error>> {
    holdfast_test_apps::notify("READY=1")?;
    let mut init = InitSocket::<Request>::from_environment()?;
    for request in [
        IdentityRequest::Tpm.into(),
        IdentityRequest::Listeners.into(),
        IdentityRequest::Claims.into(),
        UpdateRequest::Listeners.into(),
    ] {
        let (reply, handed) = init.ask(Request::clone(&request))?;
        println!("asks init for {request:?}: {reply:?} with {} descriptors", handed.len());
    }
    for socket in SOCKETS {
        match UnixStream::connect(socket) {
            Ok(_) => println!("is connected to {socket}"),
            Err(error) => println!("calls at {socket}: {error}"),
        }
    }
    // The control: its own way to `identity` works.
    let socket = identity(&mut init)?;
    match ask(&socket, &exchange::encode(&ExchangeRequest::Describe)?)? {
        Some(ExchangeReply::Device { .. }) => println!("is told which device it is"),
        other => println!("asks which device it is: {other:?}"),
    }
    // Version 1, and each number that is no request of the protocol, with a hash behind it.
    for number in [6, 7, 8, 63, 127] {
        let message = [&[1, number][..], &[1; 32]].concat();
        say(&mut init, &format!("request {number}"), &message)?;
    }
    say(&mut init, "the beginning of D-Bus", D_BUS)?;
    println!("has tried everything");
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Says what comes of a message to `identity`.
fn say(init: &mut InitSocket<Request>, what: &str, message: &[u8]) -> Result<(), Box<dyn Error>> {
    let socket = identity(init)?;
    match ask(&socket, message)? {
        Some(reply) => println!("sends {what}, and gets {reply:?}"),
        None => println!("sends {what}, and its socket is closed"),
    }
    Ok(())
}

/// A new socket to `identity`, which may have to start first.
fn identity(init: &mut InitSocket<Request>) -> Result<OwnedFd, Box<dyn Error>> {
    let until = clock::monotonic_ms().saturating_add(WITHIN_MS);
    loop {
        let (reply, handed) = init.ask(UplinkRequest::Identity.into())?;
        match (reply, handed.into_iter().next()) {
            (Reply::Accepted, Some(socket)) => return Ok(socket),
            (reply, _) if clock::monotonic_ms() > until => {
                return Err(format!("no way to identity: {reply:?}").into());
            }
            _ => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// Sends a message to `identity` and waits for its reply. Nothing comes where the socket is closed.
fn ask(socket: &OwnedFd, message: &[u8]) -> Result<Option<ExchangeReply>, Box<dyn Error>> {
    channel::send(socket, message)?;
    let until = clock::monotonic_ms().saturating_add(WITHIN_MS);
    let mut buffer = vec![0; exchange::MAX_MESSAGE_BYTES];
    loop {
        match channel::try_receive_with(socket, &mut buffer) {
            Ok(Some((length, _))) => {
                return Ok(Some(exchange::decode(buffer.get(..length).unwrap_or_default())?));
            }
            Ok(None) => {}
            Err(error)
                if [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset]
                    .contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        }
        let left = until.saturating_sub(clock::monotonic_ms());
        if left == 0 {
            return Err("identity says nothing".into());
        }
        let mut poll = Poll::new();
        poll.add(socket);
        poll.wait(left)?;
    }
}
