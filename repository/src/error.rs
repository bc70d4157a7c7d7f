//! Why a repository could not be read or written.

use crate::draft::DraftError;
use holdfast_images::FileError;
use holdfast_images::destination::DestinationError;
use holdfast_images::disk::DiskError;
use holdfast_images::package::PackError;
use holdfast_images::show::ShowError;
use holdfast_release::bundle::BundleError;
use holdfast_release::client::ClientError;
use holdfast_release::metadata::{MetadataError, Role};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a repository could not be read or written.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is to be written cannot be.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// There is one already.
    #[error("{} is there already; a repository is never overwritten", .0.display())]
    Exists(PathBuf),
    /// There is none.
    #[error("{} holds no repository: there is no root; make one with `release new`", .0.display())]
    NoRepository(PathBuf),
    /// A file of metadata is no good.
    #[error("{}", path.display())]
    Metadata {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: MetadataError,
    },
    /// A device would not take it.
    #[error("{}: a device refuses this repository", directory.display())]
    Refused {
        /// The repository.
        directory: PathBuf,
        /// Why.
        source: ClientError,
    },
    /// A draft is no good.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// More files than fit into a bundle.
    #[error("the bundle")]
    Bundle(#[from] BundleError),
    /// It is no image.
    #[error("{}", path.display())]
    Image {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<ShowError>,
    },
    /// It is no app package.
    #[error("{}", path.display())]
    Package {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<PackError>,
    },
    /// A release that no device could take.
    #[error("{path}: {reason}")]
    Release {
        /// Its path in the repository.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// A time that cannot be written.
    #[error("{0} seconds after 1970 is no time that metadata can hold")]
    Time(u64),
    /// This host's clock shows a time at which nothing of the repository is believed.
    #[error(
        "the root holds until {expires}, and this host's clock shows {now}: set the clock, or name the next root with \
         `key rotate`"
    )]
    RootExpired {
        /// Until when it holds.
        expires: String,
        /// What the clock of this host shows.
        now: String,
    },
    /// Targets that were made at a time to come: devices would follow for good.
    #[error(
        "what is to be published was made at {issued}, and this host's clock shows {now}: set the clock that is \
         wrong, and make it anew"
    )]
    Ahead {
        /// When it says that it was made.
        issued: String,
        /// What the clock of this host shows.
        now: String,
    },
    /// A version that can rise no more.
    #[error("the version of {0} can rise no more")]
    Version(Role),
}

impl RepositoryError {
    /// For use with `map_err`: what is wrong with the image at `path`.
    pub(crate) fn of_image(path: &Path) -> impl Fn(ShowError) -> Self + '_ {
        |error| match error {
            ShowError::File(error) | ShowError::Disk(DiskError::File(error)) => Self::File(error),
            error => Self::Image { path: path.to_owned(), source: Box::new(error) },
        }
    }
}
