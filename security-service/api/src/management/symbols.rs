//! Symbols of programs, by build id.

use super::caller::{Caller, Change, done, key, shown};
use super::page::Page;
use super::shapes::{AddedSymbols, Done, Listed, ProblemShape, SymbolsShape};
use crate::refusal::Refusal;
use crate::service::Service;
use crate::symbolizer::{Symbolizer, WorkerError};
use crate::upload;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_domain::symbols::{BuildId, MAX_SYMBOLS_BYTES};
use holdfast_service_store::audit::Entry;
use holdfast_service_store::blobs::{BlobError, Written};
use holdfast_service_store::symbols::{self, SymbolsRow};
use holdfast_types::event::security_service::{SYMBOL_WORKER_FAILED, SYMBOLS_STORE_FAILED};
use holdfast_types::hex::hex;
use holdfast_types::{chain, escaped_chain};
use std::sync::Arc;

type Shared = State<Arc<Service>>;

fn build_id(text: &str) -> Result<BuildId, Refusal> {
    let rule = |error| Refusal::new(Problem::Malformed, format!("build id: {error}"));
    text.parse().map_err(rule)
}

fn shape(row: SymbolsRow) -> SymbolsShape {
    SymbolsShape {
        build_id: row.build_id.to_string(),
        sha256: hex(&row.digest),
        bytes: row.bytes,
        added_by: row.who,
        added_at: row.added_at,
    }
}

/// Lists the programs that there are symbols of.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/symbols", params(("catalog" = String, Path), Page),
    security(("token" = [])),
    responses((status = 200, body = Listed<SymbolsShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::See).await?;
    let rows = service.store.symbols(scope, &page.after, page.most()).await?;
    let items = rows.into_iter().map(shape).collect();
    shown(&Listed::new(items, page.most(), |item: &SymbolsShape| item.build_id.clone()))
}

/// Says which symbols there are of a program.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/symbols/{build_id}",
    params(("catalog" = String, Path), ("build_id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = SymbolsShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, id)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::See).await?;
    let row = service.store.symbols_of(scope, &build_id(&id)?).await?;
    shown(&shape(row.ok_or_else(|| Refusal::from(Problem::NotFound))?))
}

/// Takes a program with its symbols, an ELF file of at most 64 MiB, under the build id that it has. What is there already stays as it is.
#[utoipa::path(put, path = "/v1/catalogs/{catalog}/symbols/{build_id}",
    params(("catalog" = String, Path), ("build_id" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"), security(("token" = [])),
    responses((status = 200, body = AddedSymbols), (status = 409, body = ProblemShape),
        (status = 422, body = ProblemShape)))]
pub(super) async fn put(
    State(service): Shared,
    caller: Caller,
    Path((catalog, id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::Release).await?;
    let (id, key) = (build_id(&id)?, key(&headers)?);
    service.admit(Write::Report)?;
    let most = u64::try_from(MAX_SYMBOLS_BYTES).unwrap_or(u64::MAX);
    let Symbolizer { files, uploads, .. } = &service.symbolizer;
    let (place, written) = upload::receive(files, uploads, most, body, failed).await?;
    check(&service, &written, &id).await?;
    let (digest, bytes, at) = (written.digest, written.bytes(), service.now());
    let (who, object) = (caller.0.by.name, id.to_string());
    let row = SymbolsRow { build_id: id, digest, bytes, who: who.clone(), added_at: at };
    let entry = Entry { who, verb: "symbols.put", object, digest, at };
    // Whoever has asked may go away between the file and its row.
    let kept = tokio::spawn(async move {
        let _place = place;
        let files = &service.symbolizer.files;
        let changing = service.store.change_files(files).await?;
        files.keep(&changing, written).await.map_err(failed)?;
        let work = service.store.change(scope, entry, key, move |connection, scope| {
            Box::pin(async move {
                let build_id = row.build_id.to_string();
                let is_new = symbols::add(connection, scope, row).await?;
                Ok(done(&AddedSymbols { build_id, new: is_new }))
            })
        });
        let answer = work.await;
        if answer.is_err() && !service.store.is_named_by_symbols(&digest).await? {
            files.remove(&changing, &digest).await.map_err(failed)?;
        }
        let answer = answer?;
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        Ok(super::caller::json(status, answer.body))
    });
    kept.await.map_err(|_| Refusal::from(Problem::Internal))?
}

/// Removes the symbols of a program, and the names that were made of them.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/symbols/{build_id}/remove",
    params(("catalog" = String, Path), ("build_id" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn remove(
    State(service): Shared,
    Path((catalog, id)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Release).await?;
    let id = build_id(&id)?;
    let removed = tokio::spawn(async move {
        let files = &service.symbolizer.files;
        let changing = service.store.change_files(files).await?;
        let row = service.store.symbols_of(scope, &id).await?;
        let object = id.to_string();
        let work = change.carry_out(&service, scope, "symbols.remove", &object, {
            move |connection, scope| {
                Box::pin(async move { symbols::remove(connection, scope, &id).await })
            }
        });
        let answer = work.await?;
        if let Some(SymbolsRow { digest, .. }) = row
            && !service.store.is_named_by_symbols(&digest).await?
        {
            files.remove(&changing, &digest).await.map_err(failed)?;
        }
        Ok(answer)
    });
    removed.await.map_err(|_| Refusal::from(Problem::Internal))?
}

/// Has the worker look whether a file is the program that it is said to be.
async fn check(service: &Service, written: &Written, id: &BuildId) -> Result<(), Refusal> {
    let refused = |detail: String| Refusal::new(Problem::SymbolsRefused, detail);
    let file = written.open().map_err(failed)?;
    match service.symbolizer.worker.names(file, &[]).await {
        Ok(named) if named.build_id == *id => Ok(()),
        Ok(named) => Err(refused(format!("it has the build id {}", named.build_id))),
        Err(WorkerError::Program(error)) => Err(refused(error.to_string())),
        Err(error) => {
            eprintln!("symbols {id}: {} {SYMBOL_WORKER_FAILED}", escaped_chain(&error));
            if error.is_of_the_file() {
                Err(refused(chain(&error)))
            } else {
                Err(Problem::Internal.into())
            }
        }
    }
}

fn failed(error: BlobError) -> Refusal {
    if let BlobError::TooLarge { .. } = error {
        return Refusal::new(Problem::TooLarge, error.to_string());
    }
    eprintln!("symbols: {} {SYMBOLS_STORE_FAILED}", escaped_chain(&error));
    Problem::Internal.into()
}
