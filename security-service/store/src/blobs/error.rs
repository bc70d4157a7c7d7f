//! Errors of files beside the database.

use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Errors of the files.
#[derive(Debug, Error)]
pub enum BlobError {
    /// A file or the directory failed.
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
    /// The bucket failed.
    #[error("cannot {what} the object {name} of the bucket")]
    Bucket {
        /// What was to be done.
        what: &'static str,
        /// Which object.
        name: String,
        /// The cause.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The bucket has returned what is not the content of that name.
    #[error("the object {name} of the bucket is not what was stored: its SHA-256 is {found}")]
    Changed {
        /// Which object.
        name: String,
        /// SHA-256 of what it has now, in hexadecimal; what it is where it is too large to be fetched.
        found: String,
    },
    /// There is more content than is taken.
    #[error("at most {most} bytes are taken")]
    TooLarge {
        /// How many are.
        most: u64,
    },
}

pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| BlobError::File { what, path, source }
}
