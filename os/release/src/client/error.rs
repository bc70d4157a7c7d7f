//! Why a client refuses what a repository serves.

use super::MAX_ROOT_BYTES;
use crate::metadata::{MetadataError, Role};
use thiserror::Error;

/// Why a run ends without release information that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The file itself is no good, or too few have signed it.
    #[error("{role} {error}")]
    Metadata {
        /// Which file.
        role: Role,
        /// What is wrong: the predicate of the text, and so no source.
        error: MetadataError,
    },
    /// It is not the version that it must be.
    #[error("{role} has version {found}, not {expected}")]
    Version {
        /// Which file.
        role: Role,
        /// The version in it.
        found: u32,
        /// The version it must have.
        expected: u32,
    },
    /// It is older than what was seen before.
    #[error("{role} goes back from version {seen} to {found}")]
    Rollback {
        /// Which file.
        role: Role,
        /// The version that is offered.
        found: u32,
        /// The version that was seen.
        seen: u32,
    },
    /// It does not hold any more.
    #[error("{role} has expired: {expires}")]
    Expired {
        /// Which file.
        role: Role,
        /// Until when it held.
        expires: String,
    },
    /// It was made when what it stands on held no more: the clock of whoever made it was wrong, or the other
    /// has expired.
    #[error("targets was made at {issued}, when {role} had expired: {expires}")]
    Issued {
        /// Which file had expired.
        role: Role,
        /// When the targets say that they were made.
        issued: String,
        /// Until when that file held.
        expires: String,
    },
    /// It is not the file that others speak of.
    #[error("{0} is not the file that the metadata names")]
    OtherFile(Role),
    /// A file is not there that must be.
    #[error("{0} is not there")]
    Missing(Role),
    /// Files of the repository change in place.
    #[error(
        "root {0} is of a repository without consistent snapshots, which a device does not read"
    )]
    NotConsistent(u32),
    /// More roots than can be kept.
    #[error(
        "the roots since the image's have more than {MAX_ROOT_BYTES} bytes: it takes an image with a newer one"
    )]
    TooManyRoots,
    /// Nothing was asked for.
    #[error("no file is wanted")]
    Unasked,
}
