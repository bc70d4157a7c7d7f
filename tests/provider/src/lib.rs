//! A provider of OpenID Connect on loopback, over TLS, for tests: authorization code with PKCE, device code (RFC 8628), ID tokens by ES256, and
//! whatever misbehaviour a test asks for.
//!
//! Whatever is not as it has to be is a panic, as in a test.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "it is linked into tests alone, where a panic is a failure with its place"
)]

mod jwt;
mod provider;
mod server;
mod state;

pub use jwt::{CLIENT_SECRET, Key, Signing};
pub use provider::Provider;
pub use state::{Behaviour, CLIENT_ID, Claims, Clock, Subject, parameter};
