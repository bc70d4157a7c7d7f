//! Errors of the program.

use holdfast_service_issuing::IssuingError;
use holdfast_service_store::StoreError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use thiserror::Error;

/// Errors of the program.
#[derive(Debug, Error)]
pub enum ServerError {
    /// A file or directory failed.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was to be done.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The settings cannot be read.
    #[error("{}: is not as settings have to be", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// The cause, with the line.
        #[source]
        source: toml::de::Error,
    },
    /// The settings cannot be written.
    #[error("the settings cannot be written")]
    WriteSettings(#[from] toml::ser::Error),
    /// The folder is in use already.
    #[error("{}: is there already; `init` makes a new folder", .0.display())]
    There(PathBuf),
    /// A secret can be read by others.
    #[error("{}: can be read by others; run `chmod 600`", .0.display())]
    OpenToOthers(PathBuf),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// A certificate or key failed.
    #[error("a certificate or key failed")]
    Issuing(#[from] IssuingError),
    /// Whoever made the catalog was refused.
    #[error("cannot make the catalog: {0}")]
    Catalog(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[from] rustls::Error),
    /// A file has no certificate or key.
    #[error("{}: has no {what} as PEM", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: &'static str,
    },
    /// An address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The program cannot run.
    #[error("cannot start")]
    Start(#[source] io::Error),
    /// There are no random numbers.
    #[error("there are no random numbers")]
    Random,
    /// There is an owner already.
    #[error("there is a token already: whoever has one makes others")]
    Owned,
    /// A catalog named in a command is not there.
    #[error("there is no catalog {0}")]
    NoCatalog(String),
    /// An issuing certificate cannot be made.
    #[error("cannot make an issuing certificate")]
    Issuers(#[from] holdfast_service_api::issuers::IssuersError),
}

/// Wraps an error of a file.
pub(crate) fn file(
    what: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> ServerError {
    let path = path.into();
    move |source| ServerError::File { what, path, source }
}
