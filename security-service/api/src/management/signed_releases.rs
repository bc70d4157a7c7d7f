//! Releases from signed metadata: the root that a catalog trusts, and what is verified from it.

use super::caller::{Caller, Change, done, shown};
use super::shapes::{
    Done, IgnoredShape, NewMetadata, NewReleaseRoot, ProblemShape, ReleaseRootShape, SignedShape,
    TakenShape,
};
use crate::refusal::Refusal;
use crate::service::Service;
use crate::signed_releases::{self, TakeError, VERB, Verified};
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::measurement::Source;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::reference_values::{self, ReferenceError, Taken};
use holdfast_service_domain::role::Need;
use holdfast_service_store::{Scope, release};
use holdfast_types::event::security_service::METADATA_REFUSED;
use holdfast_types::hex::{hex, sha256};
use holdfast_types::{chain, escaped_chain};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Shows the root of releases that the catalog trusts.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/release-root", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = ReleaseRootShape), (status = 404, body = ProblemShape)))]
pub(super) async fn root(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::See).await?;
    let root = service.store.release_root(scope).await?;
    let root = root.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    let facts = reference_values::read_root(&root.known.root);
    let facts = facts.map_err(|error| Refusal::new(Problem::Internal, chain(&error)))?;
    shown(&ReleaseRootShape {
        version: facts.version,
        expires: facts.expires,
        sha256: sha256(&root.known.root),
        set_at: root.set_at,
        targets: root.targets,
        taken_at: root.taken_at,
    })
}

/// Sets the root of releases that the catalog trusts. From then on, releases are taken from metadata that leads back to it, and none is
/// taken by hand.
#[utoipa::path(put, path = "/v1/catalogs/{catalog}/release-root", params(("catalog" = String, Path)),
    request_body = NewReleaseRoot, security(("token" = [])),
    responses((status = 200, body = Done), (status = 422, body = ProblemShape)))]
pub(super) async fn set_root(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Own).await?;
    let new: NewReleaseRoot = change.json()?;
    let root = new.root.into_bytes();
    let facts = reference_values::read_root(&root);
    let facts = facts.map_err(|error| Refusal::new(Problem::MetadataRefused, chain(&error)))?;
    let object = format!("root {} {}", facts.version, sha256(&root));
    let (now, verb) = (service.now(), "release-root.set");
    let work = change.carry_out(&service, scope, verb, &object, move |connection, scope| {
        Box::pin(async move { release::set_root(connection, scope, root, now).await })
    });
    work.await
}

/// Takes releases from signed metadata: every release of the OS that its targets name, by the `boot_digest` that was signed with it.
/// What is not offered any more stays known; who wants it gone withdraws it.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/releases/metadata",
    params(("catalog" = String, Path)), request_body = NewMetadata, security(("token" = [])),
    responses((status = 200, body = TakenShape), (status = 409, body = ProblemShape),
        (status = 422, body = ProblemShape)))]
pub(super) async fn take(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Release).await?;
    let new: NewMetadata = change.json()?;
    let verified = signed_releases::verify(&service, scope, &new.metadata).await;
    let verified = verified.map_err(|error| refused(scope, error))?;
    let Verified { taken, write, object, .. } = verified;
    let work = change.make(&service, scope, VERB, &object, move |connection, scope| {
        Box::pin(async move {
            let are_new = release::take_signed(connection, scope, write).await?;
            Ok(done(&shape(taken, &are_new)))
        })
    });
    work.await
}

fn refused(scope: Scope, error: TakeError) -> Refusal {
    match error {
        TakeError::NoRoot => Refusal::new(Problem::Conflict, error.to_string()),
        TakeError::Store(error) => error.into(),
        // What is kept here was written here.
        TakeError::Refused(ReferenceError::Memory(_)) => {
            Refusal::new(Problem::Internal, chain(&error))
        }
        TakeError::Refused(source) => {
            let (catalog, cause) = (scope.catalog(), escaped_chain(&source));
            eprintln!(
                "catalog {catalog}: metadata of releases refused: {cause} {METADATA_REFUSED}"
            );
            Refusal::new(Problem::MetadataRefused, chain(&source))
        }
    }
}

fn shape(taken: Taken, are_new: &[bool]) -> TakenShape {
    let releases = taken.releases.into_iter().zip(are_new).map(|(signed, new)| SignedShape {
        path: signed.path,
        boot: hex(&signed.release.boot.0),
        version: signed.release.version.to_string(),
        index: signed.release.index,
        new: *new,
    });
    let ignored = taken.ignored.into_iter();
    let ignored = ignored
        .map(|ignored| IgnoredShape { path: ignored.path, reason: ignored.reason.to_owned() });
    TakenShape {
        source: Source::Signed.word().to_owned(),
        targets: taken.targets,
        releases: releases.collect(),
        ignored: ignored.collect(),
    }
}
