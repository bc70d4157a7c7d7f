//! Errors of signing in.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Errors of a request to a provider.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The URL is none of HTTPS.
    #[error("`{0}` is no https: URL")]
    Url(String),
    /// The provider cannot be reached.
    #[error("the provider cannot be reached")]
    Connect(#[from] holdfast_service_alerts::SinkError),
    /// The handshake of TLS has failed.
    #[error("the provider's certificate is refused, or the handshake of TLS has failed")]
    Handshake(#[source] io::Error),
    /// The exchange has failed.
    #[error("the provider does not speak HTTP/1.1 as it should")]
    Http(#[from] hyper::Error),
    /// A request cannot be made.
    #[error("a request cannot be made")]
    Request(#[from] hyper::http::Error),
    /// The answer is too large, or was cut.
    #[error("the provider's answer has more bytes than are taken, or was cut")]
    Body,
    /// The answer did not come in time.
    #[error("the provider has not answered within {0} s")]
    Deadline(u64),
}

/// Errors of signing in.
#[derive(Debug, Error)]
pub enum SignInError {
    /// A setting of a provider cannot be used.
    #[error("sign_in.providers: {provider}: {rule}")]
    Setting {
        /// The provider.
        provider: String,
        /// The rule that is broken.
        rule: String,
    },
    /// The file of a client's secret cannot be read.
    #[error("sign_in.providers: {provider}: cannot read {path}")]
    Secret {
        /// The provider.
        provider: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The provider's metadata or keys cannot be had, or are not what they should be.
    #[error("the provider's metadata and keys cannot be had: {0}")]
    Discovery(String),
    /// The provider's metadata have no such endpoint.
    #[error("the provider has no {0}")]
    NoEndpoint(&'static str),
    /// The provider does not exchange what it has given for tokens.
    #[error("the provider refuses: {0}")]
    Refused(String),
    /// The person has refused, or the code has ended.
    #[error("the sign-in was refused, or has ended: {0}")]
    Ended(String),
    /// The provider has sent no ID token.
    #[error("the provider has sent no ID token")]
    NoIdToken,
    /// The ID token is not one for us, of now, of this sign-in, signed by the provider.
    #[error("the ID token is refused: {0}")]
    IdToken(String),
    /// A claim is larger than is taken.
    #[error("the ID token is refused: {0} is larger than is taken")]
    Claim(&'static str),
}
