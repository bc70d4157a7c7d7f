//! Errors of the store.

use thiserror::Error;

/// Errors of the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The URL names no database that is known.
    #[error("database.url: must begin with `sqlite:` or `postgres:`")]
    Url,
    /// The database cannot be opened.
    #[error("cannot open the database")]
    Open(#[source] sqlx::Error),
    /// The database's tables cannot be made.
    #[error("cannot make the database's tables of version {version}")]
    Migrate {
        /// The version.
        version: i64,
        /// The cause.
        #[source]
        source: sqlx::Error,
    },
    /// The tables are not for this program any more.
    #[error(
        "the database has version {found} of the tables, which is for programs that know version {least} or later, \
         and this program knows {known}: update the program"
    )]
    Newer {
        /// The version that was found.
        found: i64,
        /// The version that a program has to know.
        least: i64,
        /// The newest that is known.
        known: i64,
    },
    /// A statement failed.
    #[error("a statement failed")]
    Statement(#[from] sqlx::Error),
    /// A transaction was not committed. Nothing of it is stored.
    #[error("a transaction could not be committed: {0}")]
    Commit(String),
    /// The writer has ended.
    #[error("the writer has ended")]
    Stopped,
    /// A column has what was never written there.
    #[error("the database is damaged: a row has no {0} that can be read")]
    Damaged(&'static str),
    /// The row has changed since it was read. Decide anew.
    #[error("the row has changed since it was read")]
    Overtaken,
    /// A path is no text.
    #[error("the path is no UTF-8 text")]
    PathIsNoText,
    /// A file is no backup, or a part of it is damaged.
    #[error("it is no backup, or it is damaged")]
    NoBackup,
    /// A file beside the database failed.
    #[error("a file beside the database failed")]
    Blob(#[from] crate::blobs::BlobError),
    /// A file cannot be read.
    #[error("a file of symbols cannot be read")]
    ReadBlob(#[source] std::io::Error),
    /// A dump cannot be handed over.
    #[error("the dump of the database cannot be handed over")]
    WriteDump(#[source] std::io::Error),
    /// The row is not the one that the caller has seen.
    #[error("it has changed since it was seen")]
    Changed,
    /// Releases are taken from signed metadata alone.
    #[error("the catalog trusts a root of releases, and takes none by hand")]
    SignedAlone,
    /// A deployment is not in a state for it.
    #[error(transparent)]
    Deployment(#[from] holdfast_service_domain::deployment::state::Refusal),
    /// A transfer is not in a state for it.
    #[error(transparent)]
    Transfer(#[from] holdfast_service_domain::transfer::TransferRefusal),
    /// A change that needs two people is not decided about.
    #[error(transparent)]
    Approval(#[from] holdfast_service_domain::approval::Refusal),
    /// A device on the list of a stage is not in the deployment's group.
    #[error("stages[{stage}].devices: {device} {problem}")]
    Listed {
        /// The stage, from 0 on.
        stage: u16,
        /// The device.
        device: holdfast_evidence::messages::DeviceId,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A release is for devices of another feed than the group's.
    #[error(
        "version: {version} is a release for devices of the feed {of}, and {product}/{group} follows {follows}; `device-group update {group} --product          {product} --feed {of}` has it follow that one, or publish the release without `--feed`"
    )]
    OtherFeed {
        /// The version.
        version: holdfast_types::Version,
        /// The feed that it is for.
        of: holdfast_release::feed::Feed,
        /// The product of the group.
        product: String,
        /// The group.
        group: String,
        /// The feed that the group follows.
        follows: holdfast_release::feed::Feed,
    },
    /// Nobody would own the catalog.
    #[error("nobody would own the catalog any more; make another its owner first")]
    LastOwner,
    /// There is no such row.
    #[error("there is no such {0}")]
    Missing(&'static str),
    /// There is such a row already.
    #[error("there is such a {0} already")]
    There(&'static str),
    /// There are as many rows as there may be.
    #[error("there are {most} {what} already, as many as there may be; remove some")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// Another instance evaluates threats.
    #[error("another instance evaluates threats")]
    NotHolder,
    /// Nothing that the service could withhold contains a threat.
    #[error(
        "nothing that the service could withhold contains this threat; `threat show` says what helps"
    )]
    NotContainable,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
}
