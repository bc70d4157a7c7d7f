//! How people sign in: providers of OpenID Connect, by authorization code with PKCE for browsers and by device code (RFC 8628) for the
//! command line.
//!
//! The protocol and the verification of ID tokens are those of the crate `openidconnect`; what asks the provider is [`http`], which follows
//! no redirect and takes no more than it should. Where a provider is, the operator's settings say, so that it may have a private address.

pub mod error;
pub mod http;
pub mod provider;

mod kinds;

pub use error::SignInError;
