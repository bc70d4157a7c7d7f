//! The device's identity for apps: a certificate for TLS 1.3 whose key stays with the device, and peers of the same catalog.
//!
//! An app whose manifest asks for `DeviceAuthentication` has a certificate of its own from the Security Service, renewed
//! while it runs. The key never leaves the device's TPM, or the service `identity` where there is none; the app has
//! handshakes signed, and nothing else.
//!
//! ```no_run
//! use holdfast_sdk_identity::{Identity, PeerPolicy};
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = Identity::connect()?;
//! identity.wait(Duration::from_secs(300))?;
//! let policy = PeerPolicy { least_rollback_index: 7, ..PeerPolicy::default() };
//! let config = Arc::new(identity.client_for_peers(policy)?);
//! let peer = "192.0.2.7:8883".parse::<std::net::SocketAddr>()?;
//! let name = rustls::pki_types::ServerName::IpAddress(peer.ip().into());
//! let connection = rustls::ClientConnection::new(config, name)?;
//! let stream = rustls::StreamOwned::new(connection, std::net::TcpStream::connect(peer)?);
//! # let _ = stream;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds of every configuration made here
//!
//! - TLS 1.3 and cipher suites with SHA-256: what signs takes no other transcript hash.
//! - No session is resumed and there is no early data, so that every connection verifies its peer anew.
//! - Each handshake uses the newest certificate. A connection outlives it: end it at [`Identity::outdated`], and connect again.
//! - A handshake waits for its signature, up to [`SIGNING_PATIENCE`], in the thread that drives it.
//!
//! The time is the system's: an app on a device whose clock has not been set yet refuses certificates that are not valid yet.

mod bus;
mod certificate;
mod config;
mod credentials;
mod cryptography;
mod handshake;
mod identity;
mod peer;
mod request;
mod shared;
mod signing;
mod verifier;

pub use self::certificate::CertificateError;
pub use self::credentials::Credentials;
pub use self::cryptography::crypto_provider;
pub use self::identity::{ADDRESS_VARIABLE, Identity, IdentityError};
pub use self::peer::{DeviceId, Peer, Release};
pub use self::request::ServiceError;
pub use self::signing::{SIGNING_PATIENCE, SigningError};
pub use self::verifier::{PeerPolicy, PeerRefusal, PeerVerifier};
pub use holdfast_types::{CatalogId, ComponentId, Grade, Version};
