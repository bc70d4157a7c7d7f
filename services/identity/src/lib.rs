//! The device's identity: keys that never leave it, evidence of what it runs, and certificates for both.
//!
//! It has no network: `uplink` has the connection to the service, and asks here for the bodies that it sends. Whatever comes
//! from there is hostile; whoever takes `uplink` over can have the device attested to a service of his, and gets no key and
//! no secret. Apps have the ends of their handshakes signed over D-Bus, each by its own key. A TPM that fails leaves a device that
//! runs, says so, and has no identity until its next start.

pub mod allowance;
pub mod budget;
pub mod device;
pub mod handshake;
pub mod keys;
pub mod measured;
pub mod software_keys;
pub mod state;
pub mod tpm;
pub mod tpm_keys;
pub mod turns;

mod bus;
mod start;

use crate::allowance::Said;
use crate::budget::{Budget, Taken};
use crate::bus::{Bus, Job, NotSigned, Standing};
use crate::device::{Device, World};
use crate::start::{Init, StartError};
use crate::turns::Turns;
use holdfast_evidence::config::{self, IdentityConfig};
use holdfast_evidence::exchange::{
    self, ExchangeError, ExchangeReply, ExchangeRequest, MAX_MESSAGE_BYTES,
};
use holdfast_evidence::qualifying::Purpose;
use holdfast_evidence::verify::MAX_KEYS;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::init_socket::{InitError, InitSocket, notify_ready};
use holdfast_linux::poll::Poll;
use holdfast_linux::{PathError, channel, file};
use holdfast_sandbox::policy::APP_DIRECTORY;
use holdfast_sandbox::wire::Reply;
use holdfast_types::encoding::EncodingError;
use holdfast_types::{ComponentId, chain, event::identity as event};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

/// Longest wait for something to do, in milliseconds.
const WAIT_MS: u64 = 3_600_000;

/// Errors that end the service; init starts it again.
#[derive(Debug, thiserror::Error)]
enum ServiceError {
    #[error(transparent)]
    Init(#[from] InitError),
    #[error(transparent)]
    File(#[from] PathError),
    #[error("there is no {}", config::IDENTITY_FILE)]
    NoConfig,
    #[error("{} is damaged", config::IDENTITY_FILE)]
    Config(#[source] EncodingError),
    #[error("cannot say that it is ready")]
    Ready(#[source] io::Error),
    #[error("cannot serve apps")]
    Bus(#[source] io::Error),
    #[error("cannot wait")]
    Wait(#[source] io::Error),
}

/// Errors that end the connection to `uplink`, which asks for another one.
#[derive(Debug, thiserror::Error)]
enum UplinkSocketError {
    #[error("cannot talk to uplink")]
    Socket(#[from] io::Error),
    #[error("uplink sent a malformed request")]
    Exchange(#[from] ExchangeError),
}

/// Runs the service until it ends.
#[must_use]
pub fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cannot go on: {} {}", chain(&error), event::IDENTITY_SERVICE_FAILED);
            ExitCode::FAILURE
        }
    }
}

/// Serves until the device has gone to another owner: init starts the service again, which has other keys then, and tells apps of
/// another root.
fn serve() -> Result<(), ServiceError> {
    let mut init = Init::new(InitSocket::from_environment()?);
    let path = Path::new(APP_DIRECTORY).join(config::IDENTITY_FILE);
    let bytes = file::read_bounded(&path, config::MAX_ENCODED_BYTES)?;
    let image = IdentityConfig::decode(&bytes.ok_or(ServiceError::NoConfig)?);
    let image = image.map_err(ServiceError::Config)?;
    let mut apps = init.apps()?;
    // Others have no key: the first of them are attested, and the log of each check-in says so.
    apps.truncate(MAX_KEYS.saturating_sub(1));
    // Before anything is asked of a TPM: a slow one is no reason to hold a boot up, or to hold a release for bad.
    notify_ready().map_err(ServiceError::Ready)?;
    let mut device = match start::begin(&image, &mut init) {
        Ok(device) => {
            let (id, grade) = (device.keys().id(), device.keys().grade());
            println!("device {id}, keys in {grade} {}", event::IDENTITY_STARTED);
            Some(device)
        }
        Err(StartError::Init(error)) => return Err(error.into()),
        // No key of another kind takes its place: a stolen device cannot come back one grade lower as another one.
        Err(error) => {
            println!("no identity until the next start: {} {}", chain(&error), error.event());
            None
        }
    };
    let anchors = match &device {
        Some(device) => vec![device.catalog_root().to_vec()],
        None => start::anchors_without_keys(&image),
    };
    // Apps that have called meanwhile are waited for by init's sockets: nobody is told of another owner's root.
    let bus = Bus::start(apps, anchors).map_err(ServiceError::Bus)?;
    let mut budget = Budget::new(monotonic_ms());
    let mut uplink: Option<OwnedFd> = None;
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    let mut signatures = Signatures::default();
    loop {
        for (reply, socket) in init.socket.unasked()? {
            if reply == Reply::Identity {
                uplink = Some(socket);
            }
        }
        // One signature, then one request of `uplink`: neither waits for more than one of the other's.
        let mut is_busy = signatures.make_one(&bus, device.as_ref(), &mut init);
        if let Some(socket) = &uplink {
            let served = serve_uplink(socket, &mut buffer, device.as_mut(), &mut init, &mut budget);
            match served {
                Ok(is_served) => is_busy |= is_served,
                Err(UplinkSocketError::Socket(error))
                    if error.kind() == io::ErrorKind::UnexpectedEof =>
                {
                    uplink = None;
                }
                Err(error) => {
                    let failed = event::IDENTITY_UPLINK_SOCKET_FAILED;
                    println!("closing uplink's socket: {} {failed}", chain(&error));
                    uplink = None;
                }
            }
        }
        if device.as_ref().is_some_and(Device::has_followed) {
            return Ok(());
        }
        if is_busy {
            // Any of it may have brought certificates, or ended with the TPM.
            bus.publish(|app| standing(device.as_ref(), app));
            continue;
        }
        let mut poll = Poll::new();
        init.socket.add_to(&mut poll);
        bus.add_to(&mut poll);
        if let Some(uplink) = &uplink {
            poll.add(uplink);
        }
        poll.wait(WAIT_MS).map_err(ServiceError::Wait)?;
    }
}

/// What an app has of the last check-in; nothing once the TPM that has its key does nothing any more.
fn standing(device: Option<&Device>, app: ComponentId) -> Standing {
    let purpose = Purpose::App(app);
    let working = device.filter(|device| !device.keys().have_failed());
    let held = working.and_then(|device| {
        let (chain, grade) = (device.chain(&purpose)?, device.grade(&purpose)?);
        Some(Standing { chain: chain.to_vec(), until: device.until(), grade })
    });
    held.unwrap_or_default()
}

/// The signatures that apps wait for.
#[derive(Debug, Default)]
struct Signatures {
    turns: Turns<Job>,
    said: Said,
}

impl Signatures {
    /// Makes one. False where none is waited for.
    fn make_one(&mut self, bus: &Bus, device: Option<&Device>, init: &mut Init) -> bool {
        for job in bus.jobs() {
            self.turns.push(job.app, job);
        }
        let Some(Job { app, content, answer }) = self.turns.take_next() else {
            return false;
        };
        // The app may have gone, or have given up; a TPM that has failed was said to.
        let device = device.filter(|device| !device.keys().have_failed());
        if !answer.is_closed() {
            let signed = device.and_then(|device| device.sign(&Purpose::App(app), &content));
            let signed = match signed {
                Some(Ok(signature)) => Ok(signature.to_der()),
                // The certificates went with the last check-in.
                None => Err(NotSigned),
                Some(Err(error)) => {
                    let text = format!("cannot sign for app {app}: {}", chain(&error));
                    if device.is_some_and(|device| device.keys().have_failed()) {
                        init.log(event::IDENTITY_TPM_FAILED, &text);
                    } else if self.said.is_due(monotonic_ms()) {
                        init.log(event::IDENTITY_SIGNATURE_FAILED, &text);
                    }
                    Err(NotSigned)
                }
            };
            let _ = answer.send(signed);
        }
        true
    }
}

/// Serves one request of `uplink`. False where there is none.
fn serve_uplink(
    uplink: &OwnedFd,
    buffer: &mut [u8],
    device: Option<&mut Device>,
    init: &mut Init,
    budget: &mut Budget,
) -> Result<bool, UplinkSocketError> {
    let Some((length, _)) = channel::try_receive_with(uplink, buffer)? else {
        return Ok(false);
    };
    let request: ExchangeRequest = exchange::decode(buffer.get(..length).unwrap_or_default())?;
    // What has the TPM work, or writes to the medium.
    let costs = request.exporter().is_some()
        || matches!(
            request,
            ExchangeRequest::Enrolled
                | ExchangeRequest::SignHandshake(_)
                | ExchangeRequest::Follow(_)
        );
    let reply = match (device, costs.then(|| budget.take(monotonic_ms()))) {
        (None, _) => ExchangeReply::NoIdentity,
        (Some(device), None | Some(Taken::Yes)) => device.answer(&request, init),
        (Some(_), Some(taken)) => {
            if taken == Taken::First {
                let limited = event::IDENTITY_REQUESTS_LIMITED;
                println!("uplink asks for evidence too often, and gets none {limited}");
            }
            ExchangeReply::Failed
        }
    };
    channel::send(uplink, &exchange::encode(&reply)?)?;
    Ok(true)
}
