//! Files of releases: taken from whoever releases, and served to devices and mirrors under the paths that signed metadata name.
//!
//! The service signs none of it. A device verifies what it is served from the root in its image, so that whoever has the service's
//! database, its disk and its keys can withhold releases, and make no device run anything.

use crate::refusal::Refusal;
use crate::service::Service;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_release::RepositoryName;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::reference_values::Taken;
use holdfast_service_store::blobs::{BlobError, Changing};
use holdfast_service_store::repository::{MAX_FILES, ServedFile};
use holdfast_service_store::{Scope, StoreError};
use holdfast_types::CatalogId;
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::RELEASE_FILES_FAILED;
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;
use tower_http::services::ServeFile;
use tower_http::services::fs::ServeFileSystemResponseBody;

/// Most bytes of a file of a release. A slot has some 5 MiB, and an app package at most what a device's partition has.
pub const MAX_FILE_BYTES: u64 = 256 << 20;
/// Files of releases that are taken at once; who comes beyond them is told to come later.
pub const UPLOADS: usize = 2;
/// Files that are sent to devices at once; who comes beyond them is told to come later, so that check-ins have room beside them.
pub const DOWNLOADS: usize = 512;
/// The route of the device port.
pub(crate) const ROUTE: &str = "/repositories/{catalog}/{repository}/{*path}";
/// Most paths that a refusal names.
const MAX_NAMED: usize = 8;
/// What is at the same path until it is another file.
const MUTABLE: HeaderValue = HeaderValue::from_static("no-cache");
/// What is at its path for ever.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Errors of serving what was verified.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// Files were not sent.
    #[error("send these files first, by PUT release-files: {0}")]
    Missing(String),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// A file of metadata cannot be kept.
    #[error("a file of metadata cannot be kept")]
    Blob(#[from] BlobError),
}

/// Returns where devices find a repository, below the URL of the device port.
pub(crate) fn path(catalog: &CatalogId, repository: RepositoryName) -> String {
    format!("/repositories/{catalog}/{repository}")
}

/// Keeps the verified metadata as files, and returns every path that is to be served, with its file.
///
/// # Errors
/// A file that the targets name is not held, or see [`ServeError`].
pub(crate) async fn prepare(
    service: &Service,
    scope: Scope,
    taken: &Taken,
    changing: &Changing<'_>,
) -> Result<BTreeMap<String, ServedFile>, ServeError> {
    let held = service.store.held_files(scope, "", MAX_FILES).await?;
    let held: BTreeMap<_, _> = held.into_iter().map(|file| (file.digest, file.bytes)).collect();
    let mut served = BTreeMap::new();
    let mut missing = Vec::new();
    for (path, file) in &taken.files {
        if held.get(&file.digest) == Some(&file.length) {
            served.insert(path.clone(), ServedFile { digest: file.digest, bytes: file.length });
        } else {
            missing.push(path.as_str());
        }
    }
    if !missing.is_empty() {
        let named = missing.iter().take(MAX_NAMED).copied().collect::<Vec<_>>().join(", ");
        let more = missing.len().saturating_sub(MAX_NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        return Err(ServeError::Missing(format!("{named}{more}")));
    }
    for (path, content) in &taken.metadata {
        let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
        let mut draft = service.release_files.begin(bytes).await?;
        draft.write(content).await?;
        let written = draft.finish().await?;
        let file = ServedFile { digest: written.digest, bytes };
        service.release_files.keep(changing, written).await?;
        served.insert(path.clone(), file);
    }
    Ok(served)
}

/// Serves a file of a repository, whole or the range that is asked for (RFC 9110, 14). It needs no token: releases are signed, and are no
/// secret of whoever has a device.
pub(crate) async fn serve(
    State(service): State<Arc<Service>>,
    Path((catalog, repository, path)): Path<(String, String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let missing = || Refusal::from(Problem::NotFound);
    let catalog = CatalogId::parse(&catalog).ok_or_else(missing)?;
    let repository = RepositoryName::ALL.into_iter().find(|name| name.name() == repository);
    let repository = repository.ok_or_else(missing)?;
    let place = service.admission.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::from(Problem::Busy))?;
    let file = service.store.served_file(catalog, repository, &path).await?;
    drop(place);
    let file = file.ok_or_else(missing)?;
    let place = service.downloads.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::from(Problem::Busy))?;
    let fetched = service.release_files.fetch(&file.digest).await.map_err(|error| {
        eprintln!(
            "files of releases: cannot read {path:?}: {} {RELEASE_FILES_FAILED}",
            escaped_chain(&error)
        );
        let is_away = matches!(error, BlobError::Bucket { .. });
        Refusal::from(if is_away { Problem::Busy } else { Problem::Internal })
    })?;
    let at = fetched.unwrap_or_else(|| service.release_files.path(&file.digest));
    let mut found = ServeFile::new_with_mime(at, &OCTETS.parse().map_err(|_| internal())?);
    let answer = found.try_call(request).await.map_err(|error| {
        eprintln!("files of releases: cannot read {path:?}: {error} {RELEASE_FILES_FAILED}");
        internal()
    })?;
    // The place is free once the body was sent, or its connection has ended.
    let with_place = |body: ServeFileSystemResponseBody| {
        Body::new(body.map_frame(move |frame| {
            let _place = &place;
            frame
        }))
    };
    let mut response = answer.map(with_place).into_response();
    let status = response.status();
    if status == StatusCode::NOT_FOUND {
        eprintln!(
            "files of releases: {path:?} is served and not on the disk {RELEASE_FILES_FAILED}"
        );
    }
    // What is missing now may be there later.
    let is_there = status.is_success() || status == StatusCode::NOT_MODIFIED;
    let is_mutable = !is_there || path.ends_with("/timestamp.json");
    let kept = if is_mutable { MUTABLE } else { IMMUTABLE };
    response.headers_mut().insert(header::CACHE_CONTROL, kept);
    Ok(response)
}

/// The type of everything that is served: nobody is to show it.
const OCTETS: &str = "application/octet-stream";

fn internal() -> Refusal {
    Problem::Internal.into()
}
