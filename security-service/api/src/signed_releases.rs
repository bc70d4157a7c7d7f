//! Releases from the signed metadata of a repository: what the request of management and the watch of a directory have in common.

use crate::service::Service;
use holdfast_release::RepositoryName;
use holdfast_service_domain::reference_values::{self, ReferenceError, Taken};
use holdfast_service_store::audit::{self, Entry};
use holdfast_service_store::repository::{self, TakenWrite};
use holdfast_service_store::{Scope, StoreError};
use std::collections::BTreeMap;
use thiserror::Error;

/// What the audit log calls it.
pub(crate) const VERB: &str = "release.add-signed";

/// Errors of taking releases.
#[derive(Debug, Error)]
pub enum TakeError {
    /// The catalog trusts no root.
    #[error("the catalog trusts no root of this repository: its owner sets one by PUT root")]
    NoRoot,
    /// The metadata is refused.
    #[error("the metadata is refused")]
    Refused(#[source] ReferenceError),
    /// The database failed, or the root was set anew meanwhile.
    #[error("what was taken cannot be kept")]
    Store(#[from] StoreError),
}

/// What was verified, and what is to be written of it.
pub(crate) struct Verified {
    pub(crate) taken: Taken,
    pub(crate) write: TakenWrite,
    /// What the audit log says.
    pub(crate) object: String,
    /// True if nothing has been published since the last time.
    pub(crate) is_known: bool,
}

/// Verifies metadata files, by their names, from the root that the catalog trusts.
///
/// # Errors
/// See [`TakeError`].
pub(crate) async fn verify(
    service: &Service,
    scope: Scope,
    repository: RepositoryName,
    files: &BTreeMap<String, String>,
) -> Result<Verified, TakeError> {
    let root = service.store.repository(scope, repository).await?.ok_or(TakeError::NoRoot)?;
    let now = service.now();
    let taken = reference_values::take(&root.known, repository, files, now);
    let taken = taken.map_err(TakeError::Refused)?;
    let (targets, count) = (taken.targets, taken.releases.len());
    let object = format!("{repository} targets {targets}: {count} releases");
    let write = TakenWrite {
        repository,
        revision: root.revision,
        memory: taken.memory.clone(),
        targets: taken.targets.into(),
        releases: taken.releases.iter().map(|one| (one.release, one.feed.clone())).collect(),
        at: now,
    };
    let is_known = root.taken_at.is_some() && taken.memory == root.known.memory;
    Ok(Verified { taken, write, object, is_known })
}

/// Takes what the repository of the OS has published since the last time, for the service itself. Nothing is written where that is nothing.
///
/// # Errors
/// See [`TakeError`].
pub async fn take(
    service: &Service,
    scope: Scope,
    files: &BTreeMap<String, String>,
) -> Result<Option<Taken>, TakeError> {
    let Verified { taken, write, object, is_known } =
        verify(service, scope, RepositoryName::Os, files).await?;
    if is_known {
        return Ok(None);
    }
    let entry =
        Entry { who: "service".to_owned(), verb: VERB, object, digest: [0; 32], at: write.at };
    let written = service.store.write(move |connection| {
        Box::pin(async move {
            repository::take_signed(connection, scope, write).await?;
            audit::append(connection, scope, entry).await
        })
    });
    written.await?;
    Ok(Some(taken))
}
