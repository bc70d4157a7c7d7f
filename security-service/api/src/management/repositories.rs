//! Repositories: the root that a catalog trusts for each, what is verified from it, and the files that devices are served.

use super::caller::{Caller, Change, done, json, key, shown};
use super::page::Page;
use super::shapes::{
    AddedFile, Done, HeldFileShape, IgnoredShape, Listed, NewMetadata, NewRoot, ProblemShape,
    RepositoryShape, SignedShape, TakenShape,
};
use crate::refusal::Refusal;
use crate::release_files::{self, MAX_FILE_BYTES, ServeError};
use crate::service::Service;
use crate::signed_releases::{self, TakeError, VERB, Verified};
use crate::upload;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use holdfast_release::RepositoryName;
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::measurement::Source;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::reference_values::{self, ReferenceError, Taken};
use holdfast_service_domain::role::Need;
use holdfast_service_store::Scope;
use holdfast_service_store::audit::Entry;
use holdfast_service_store::blobs::BlobError;
use holdfast_service_store::repository::{self, HeldFile};
use holdfast_types::event::security_service::{METADATA_REFUSED, RELEASE_FILES_FAILED};
use holdfast_types::hex::{hex, sha256, unhex};
use holdfast_types::{chain, escaped_chain};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

fn name(text: &str) -> Result<RepositoryName, Refusal> {
    let found = RepositoryName::ALL.into_iter().find(|name| name.name() == text);
    found.ok_or_else(|| Refusal::new(Problem::NotFound, "a repository is `os` or `oem`"))
}

/// Shows a repository: the root that the catalog trusts, and how far it was taken and is served.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/repositories/{repository}",
    params(("catalog" = String, Path), ("repository" = String, Path)), security(("token" = [])),
    responses((status = 200, body = RepositoryShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, repository)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let repository = name(&repository)?;
    let row = service.store.repository(scope, repository).await?;
    let row = row.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    let facts = reference_values::read_root(&row.known.root);
    let facts = facts.map_err(|error| Refusal::new(Problem::Internal, chain(&error)))?;
    shown(&RepositoryShape {
        version: facts.version,
        expires: facts.expires,
        sha256: sha256(&row.known.root),
        set_at: row.set_at,
        targets: row.targets,
        taken_at: row.taken_at,
        served_at: row.served_at,
        served_at_path: release_files::path(&scope.catalog(), repository),
    })
}

/// Sets the root that the catalog trusts for a repository. From then on, releases of the OS are taken from metadata that leads back to
/// it, and none is taken by hand.
#[utoipa::path(put, path = "/v1/catalogs/{catalog}/repositories/{repository}/root",
    params(("catalog" = String, Path), ("repository" = String, Path)), request_body = NewRoot,
    security(("token" = [])),
    responses((status = 200, body = Done), (status = 422, body = ProblemShape)))]
pub(super) async fn set_root(
    State(service): Shared,
    Path((catalog, repository)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Own).await?;
    let repository = name(&repository)?;
    let new: NewRoot = change.json()?;
    let root = new.root.into_bytes();
    let facts = reference_values::read_root(&root);
    let facts = facts.map_err(|error| Refusal::new(Problem::MetadataRefused, chain(&error)))?;
    let object = format!("{repository} root {} {}", facts.version, sha256(&root));
    let (now, verb) = (service.now(), "release-root.set");
    let work = change.carry_out(&service, scope, verb, &object, move |connection, scope| {
        Box::pin(
            async move { repository::set_root(connection, scope, repository, root, now).await },
        )
    });
    work.await
}

/// Takes releases from signed metadata: every release of the OS that its targets name, by the `boot_digest` that was signed with it.
/// What is not offered any more stays known; who wants it gone withdraws it. With `serve`, devices are served the metadata and the files that
/// they name from then on, all of which must have been sent before.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/repositories/{repository}/metadata",
    params(("catalog" = String, Path), ("repository" = String, Path)), request_body = NewMetadata,
    security(("token" = [])),
    responses((status = 200, body = TakenShape), (status = 409, body = ProblemShape),
        (status = 422, body = ProblemShape)))]
pub(super) async fn take(
    State(service): Shared,
    Path((catalog, repository)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Release).await?;
    let repository = name(&repository)?;
    let new: NewMetadata = change.json()?;
    let verified = signed_releases::verify(&service, scope, repository, &new.metadata).await;
    let verified = verified.map_err(|error| refused(scope, error))?;
    let Verified { taken, write, object, .. } = verified;
    // Whoever has asked may go away between the files and their rows.
    let work = tokio::spawn(async move {
        let changing = service.store.change_files(&service.release_files).await?;
        let served = if new.serve {
            let served = release_files::prepare(&service, scope, &taken, &changing).await;
            Some(served.map_err(|error| not_served(scope, error))?)
        } else {
            None
        };
        let at = write.at;
        let work = change.make(&service, scope, VERB, &object, move |connection, scope| {
            Box::pin(async move {
                let are_new = repository::take_signed(connection, scope, write).await?;
                let is_served = served.is_some();
                if let Some(files) = served {
                    repository::serve(connection, scope, repository, files, at).await?;
                }
                Ok(done(&shape(taken, &are_new, is_served)))
            })
        });
        let answer = work.await;
        drop(changing);
        answer
    });
    work.await.map_err(|_| Refusal::from(Problem::Internal))?
}

/// Lists the files that the catalog holds, which metadata may name.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/release-files", params(("catalog" = String, Path), Page),
    security(("token" = [])),
    responses((status = 200, body = Listed<HeldFileShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn files(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let rows = service.store.held_files(scope, &page.after, page.most()).await?;
    let shape = |row: HeldFile| HeldFileShape {
        sha256: hex(&row.digest),
        bytes: row.bytes,
        added_by: row.who,
        added_at: row.added_at,
    };
    let items = rows.into_iter().map(shape).collect();
    shown(&Listed::new(items, page.most(), |item: &HeldFileShape| item.sha256.clone()))
}

/// Takes a file of a release, of at most 256 MiB, under the SHA-256 that it has. What is there already stays as it is. Devices are served it
/// once signed metadata name it.
#[utoipa::path(put, path = "/v1/catalogs/{catalog}/release-files/{sha256}",
    params(("catalog" = String, Path), ("sha256" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), security(("token" = [])),
    responses((status = 200, body = AddedFile), (status = 409, body = ProblemShape),
        (status = 422, body = ProblemShape)))]
pub(super) async fn put_file(
    State(service): Shared,
    caller: Caller,
    Path((catalog, expected)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::Release).await?;
    let key = key(&headers)?;
    let rule = || Refusal::new(Problem::Malformed, "sha256: must be 64 hexadecimal digits");
    let digest: [u8; 32] = unhex(&expected).ok_or_else(rule)?;
    service.admit(Write::Report)?;
    let (files, places) = (&service.release_files, &service.release_uploads);
    let (place, written) = upload::receive(files, places, MAX_FILE_BYTES, body, failed).await?;
    if written.digest != digest {
        let found = hex(&written.digest);
        return Err(Refusal::new(Problem::FileRefused, format!("its SHA-256 is {found}")));
    }
    let (who, at) = (caller.0.by.name, service.now());
    let file = HeldFile { digest, bytes: written.bytes(), who: who.clone(), added_at: at };
    let entry = Entry { who, verb: "release-file.put", object: hex(&digest), digest, at };
    // Whoever has asked may go away between the file and its row.
    let kept = tokio::spawn(async move {
        let _place = place;
        let files = &service.release_files;
        let changing = service.store.change_files(files).await?;
        files.keep(&changing, written).await.map_err(failed)?;
        let work = service.store.change(scope, entry, key, move |connection, scope| {
            Box::pin(async move {
                let is_new = repository::add_file(connection, scope, file).await?;
                Ok(done(&AddedFile { sha256: hex(&digest), new: is_new }))
            })
        });
        let answer = work.await;
        if answer.is_err() && !service.store.is_named_by_repositories(&digest).await? {
            files.remove(&changing, &digest).await.map_err(failed)?;
        }
        let answer = answer?;
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        Ok(json(status, answer.body))
    });
    kept.await.map_err(|_| Refusal::from(Problem::Internal))?
}

fn failed(error: BlobError) -> Refusal {
    if let BlobError::TooLarge { .. } = error {
        return Refusal::new(Problem::TooLarge, error.to_string());
    }
    eprintln!("files of releases: {} {RELEASE_FILES_FAILED}", escaped_chain(&error));
    Problem::Internal.into()
}

fn not_served(scope: Scope, error: ServeError) -> Refusal {
    match error {
        ServeError::Missing(_) => Refusal::new(Problem::FilesMissing, error.to_string()),
        ServeError::Store(error) => error.into(),
        ServeError::Blob(source) => {
            let catalog = scope.catalog();
            eprintln!(
                "catalog {catalog}: metadata cannot be kept: {} {RELEASE_FILES_FAILED}",
                escaped_chain(&source)
            );
            Problem::Internal.into()
        }
    }
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

fn shape(taken: Taken, are_new: &[bool], is_served: bool) -> TakenShape {
    let releases = taken.releases.into_iter().zip(are_new).map(|(signed, new)| SignedShape {
        path: signed.path,
        boot: hex(&signed.release.boot.0),
        version: signed.release.version.to_string(),
        index: signed.release.index,
        feed: signed.feed.map(|feed| feed.to_string()),
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
        served: is_served,
    }
}
