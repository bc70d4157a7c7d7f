//! Why the client refuses the metadata of a repository.

use super::MAX_ROOT_BYTES;
use crate::metadata::{MetadataError, Role};
use thiserror::Error;

/// Errors of a run of the client: none of its targets may be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// A file is malformed, or too few keys of its role have signed it.
    #[error("{role} {error}")]
    Metadata {
        /// The role of the file.
        role: Role,
        /// What is wrong: the predicate of the text, and so no source.
        error: MetadataError,
    },
    /// A file has another version than the one that must come next, or that the metadata names.
    #[error("{role} has version {found}, not {expected}")]
    Version {
        /// The role of the file.
        role: Role,
        /// Version in the file.
        found: u32,
        /// Version that the file must have.
        expected: u32,
    },
    /// A file is older than one that was seen before: a rollback attack, or an old copy.
    #[error("{role} goes back from version {seen} to {found}")]
    Rollback {
        /// The role of the file.
        role: Role,
        /// Version that is offered.
        found: u32,
        /// Version that was seen.
        seen: u32,
    },
    /// A file has expired: a freeze attack, or nobody has signed it anew.
    #[error("{role} has expired: {expires}")]
    Expired {
        /// The role of the file.
        role: Role,
        /// Expiry in the file, as RFC 3339.
        expires: String,
    },
    /// The targets were made when other metadata had expired: a clock of whoever made them was wrong, or that metadata
    /// is stale.
    #[error("targets was made at {issued}, when {role} had expired: {expires}")]
    Issued {
        /// The role whose file had expired.
        role: Role,
        /// When the targets say that they were made, as RFC 3339.
        issued: String,
        /// Expiry of that file, as RFC 3339.
        expires: String,
    },
    /// A file has not the length or hash that other metadata names.
    #[error("{0} is not the file that the metadata names")]
    OtherFile(Role),
    /// The repository lacks a file that must be there.
    #[error("{0} is not there")]
    Missing(Role),
    /// The root, of this version, says that files are replaced in place: no consistent snapshots.
    #[error(
        "root {0} is of a repository without consistent snapshots, which a device does not read"
    )]
    NotConsistent(u32),
    /// The roots since the image's take more room than may be kept.
    #[error(
        "the roots since the image's have more than {MAX_ROOT_BYTES} bytes: it takes an image with a newer one"
    )]
    TooManyRoots,
    /// The caller handed over a file that the client did not ask for.
    #[error("no file is wanted")]
    Unasked,
}
