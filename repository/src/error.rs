//! Errors of reading, making and publishing a repository.

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

/// Errors of reading, making and publishing a repository.
#[derive(Debug, Error)]
pub enum RepositoryError {
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The output cannot be replaced.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// The directory holds a repository already.
    #[error("{} is there already; a repository is never overwritten", .0.display())]
    Exists(PathBuf),
    /// The directory holds no repository.
    #[error("{} holds no repository: there is no root; make one with `release new`", .0.display())]
    NoRepository(PathBuf),
    /// A metadata file is malformed.
    #[error("{}", path.display())]
    Metadata {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: MetadataError,
    },
    /// A device would refuse the metadata.
    #[error("{}: a device refuses this repository", directory.display())]
    Refused {
        /// Directory of the repository.
        directory: PathBuf,
        /// Why a device would refuse it.
        source: ClientError,
    },
    /// A draft cannot be encoded, decoded or signed.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// The index of the bundle would be too long.
    #[error("the bundle")]
    Bundle(#[from] BundleError),
    /// A file is no Holdfast image.
    #[error("{}", path.display())]
    Image {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<ShowError>,
    },
    /// A file is no app package.
    #[error("{}", path.display())]
    Package {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<PackError>,
    },
    /// No device could install the release.
    #[error("{path}: {reason}")]
    Release {
        /// Path of the release in the repository.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A time lies beyond the year 9999, which metadata cannot hold.
    #[error("{0} seconds after 1970 is no time that metadata can hold")]
    Time(u64),
    /// The root has expired by this host's clock.
    #[error(
        "the root holds until {expires}, and this host's clock shows {now}: set the clock, or name the next root with \
         `key rotate`"
    )]
    RootExpired {
        /// Expiry of the root, as RFC 3339.
        expires: String,
        /// Time of this host's clock.
        now: String,
    },
    /// The targets were made in the future: devices would set their clocks by them for good.
    #[error(
        "what is to be published was made at {issued}, and this host's clock shows {now}: set the clock that is \
         wrong, and make it anew"
    )]
    Ahead {
        /// When the targets say that they were made.
        issued: String,
        /// Time of this host's clock.
        now: String,
    },
    /// The version of a role has reached its maximum.
    #[error("the version of {0} can rise no more")]
    Version(Role),
}

impl RepositoryError {
    /// Makes an error of what is wrong with the image at `path`, for `map_err`.
    pub(crate) fn of_image(path: &Path) -> impl Fn(ShowError) -> Self + '_ {
        |error| match error {
            ShowError::File(error) | ShowError::Disk(DiskError::File(error)) => Self::File(error),
            error => Self::Image { path: path.to_owned(), source: Box::new(error) },
        }
    }
}
