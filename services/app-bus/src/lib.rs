//! D-Bus between a service and apps, peer to peer without a bus.
//!
//! Each app calls at a socket of its own, which init has made: that says who it is. What comes there is hostile. A message
//! of more than [`bounded::MAX_MESSAGE_BYTES`] ends the connection before memory is taken for it, and an app has no more
//! than [`relay::MAX_CONNECTIONS`]. A service serves D-Bus in one thread; what apps send is read by threads of their own
//! ([`relay`]).

pub mod bounded;
pub mod relay;

use crate::bounded::Bounded;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use tokio::time::timeout;
use zbus::object_server::Interface;

/// Time in which an app must read a message.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Stack of the thread that serves D-Bus, in bytes.
pub const STACK_BYTES: usize = 256 * 1024;

/// Errors that end a connection before the app does.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The library refuses what came, or cannot send.
    #[error(transparent)]
    DBus(#[from] zbus::Error),
    /// The app does not read what it is sent.
    #[error("the app stopped reading its D-Bus socket")]
    Slow,
    /// The kernel refuses.
    #[error("cannot serve its D-Bus socket")]
    Socket(#[from] io::Error),
}

/// Begins D-Bus with the app at the other end of a socket, for whom `object` is at `path`.
///
/// # Errors
/// See [`ConnectionError`].
pub async fn connect<I: Interface>(
    stream: UnixStream,
    uid: Option<u32>,
    path: &'static str,
    object: I,
) -> Result<zbus::Connection, ConnectionError> {
    let stream = tokio::net::UnixStream::from_std(stream)?;
    let connection = zbus::connection::Builder::socket(Bounded { stream, uid })
        .server(zbus::Guid::generate())
        .p2p()
        .serve_at(path, object)
        .build();
    within_patience(connection).await
}

/// Waits until an app has taken what it is sent, and no longer than [`PATIENCE`].
///
/// # Errors
/// See [`ConnectionError`].
pub async fn within_patience<T>(
    sent: impl Future<Output = zbus::Result<T>>,
) -> Result<T, ConnectionError> {
    Ok(timeout(PATIENCE, sent).await.map_err(|_| ConnectionError::Slow)??)
}
