//! Upkeep: what was reported or has ended long ago and files that nothing names are removed, what devices run is counted, and checkpoints
//! of audit logs are signed, each hour.

use holdfast_service_api::{Service, checkpoints};
use holdfast_service_store::StoreError;
use holdfast_service_store::blobs::BlobError;
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::{
    AUDIT_CHECKPOINT_FAILED, RELEASE_FILES_FAILED, REPORTS_UPKEEP_FAILED,
};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Time from the start to the first round: a service that has come back has devices to serve first.
const FIRST: Duration = Duration::from_secs(10 * 60);
/// Time from one round to the next.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Files that are looked at together.
const FILES_AT_ONCE: usize = 500;
/// Rows of each table that one transaction removes, so that devices do not wait for it.
const ROWS_AT_ONCE: u32 = 500;
/// Age from which on a file that no row names is nobody's: whoever has sent it has written its row by then, or never will.
const ORPHANED: Duration = Duration::from_secs(24 * 60 * 60);
/// Pause between two of those transactions.
const PAUSE: Duration = Duration::from_millis(50);

/// Does it until it is told to end. Several instances may: what is removed is removed once, and of counts the highest stays.
pub(crate) async fn keep_up(service: Arc<Service>, mut end: watch::Receiver<bool>) {
    let mut pause = FIRST;
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            () = tokio::time::sleep(pause) => {}
        }
        let done = tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            done = round(&service) => done,
        };
        if let Err(error) = done {
            let cause = escaped_chain(&error);
            eprintln!("upkeep of reports failed: {cause} {REPORTS_UPKEEP_FAILED}");
        }
        let forgotten = match forget_files(&service).await {
            Ok(()) => collect_orphans(&service, SystemTime::now()).await.map(drop),
            failed => failed,
        };
        if let Err(error) = forgotten {
            let cause = escaped_chain(&error);
            eprintln!("upkeep of files of releases failed: {cause} {RELEASE_FILES_FAILED}");
        }
        sign_checkpoints(&service).await;
        pause = EVERY;
    }
}

/// Signs a checkpoint of each audit log that has grown.
async fn sign_checkpoints(service: &Service) {
    let scopes = match service.store.scopes().await {
        Ok(scopes) => scopes,
        Err(error) => {
            let cause = escaped_chain(&error);
            eprintln!("no checkpoint of an audit log: {cause} {AUDIT_CHECKPOINT_FAILED}");
            return;
        }
    };
    for scope in scopes {
        if let Err(error) = checkpoints::make(service, scope).await {
            let (catalog, cause) = (scope.catalog(), escaped_chain(&error));
            eprintln!("catalog {catalog}: no checkpoint: {cause} {AUDIT_CHECKPOINT_FAILED}");
        }
    }
}

/// Why files are not removed.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// A file cannot be removed.
    #[error("a file cannot be removed")]
    Blob(#[from] BlobError),
}

/// Files of one kind, as what removes those that nothing names sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Symbols,
    Releases,
}

/// Removes files that no row names: what an instance has left that ended between a file and its row. Returns how many.
///
/// # Errors
/// See [`FilesError`].
pub async fn collect_orphans(service: &Service, now: SystemTime) -> Result<u32, FilesError> {
    let before = now.checked_sub(ORPHANED).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut removed: u32 = 0;
    for kind in [Kind::Symbols, Kind::Releases] {
        let files = match kind {
            Kind::Symbols => &service.symbolizer.files,
            Kind::Releases => &service.release_files,
        };
        let mut after = None;
        loop {
            let page = files.stored(after, FILES_AT_ONCE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (digest, _) in page.iter().filter(|(_, stored)| *stored < before) {
                if is_named(service, kind, digest).await? {
                    continue;
                }
                // Whoever sends the same now has it named before, or sends it again behind this.
                let changing = service.store.change_files(files).await?;
                if !is_named(service, kind, digest).await? {
                    files.remove(&changing, digest).await?;
                    removed = removed.saturating_add(1);
                }
            }
        }
    }
    Ok(removed)
}

async fn is_named(service: &Service, kind: Kind, digest: &[u8; 32]) -> Result<bool, StoreError> {
    match kind {
        Kind::Symbols => service.store.is_named_by_symbols(digest).await,
        Kind::Releases => service.store.is_named_by_repositories(digest).await,
    }
}

/// Removes files of releases that no metadata name any more.
async fn forget_files(service: &Service) -> Result<(), FilesError> {
    loop {
        // Whoever adds a file or has it served meanwhile waits.
        let changing = service.store.change_files(&service.release_files).await?;
        let unnamed = service.store.forget_unnamed(service.now(), ROWS_AT_ONCE).await?;
        for digest in &unnamed {
            if !service.store.is_named_by_repositories(digest).await? {
                service.release_files.remove(&changing, digest).await?;
            }
        }
        drop(changing);
        if unnamed.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(service: &Service) -> Result<(), StoreError> {
    for scope in service.store.scopes().await? {
        service.store.count_exposure(scope, service.now()).await?;
    }
    while service.store.expire_reports(service.now(), ROWS_AT_ONCE).await? {
        tokio::time::sleep(PAUSE).await;
    }
    while service.store.expire_ended(service.now(), ROWS_AT_ONCE).await? {
        tokio::time::sleep(PAUSE).await;
    }
    while service.store.expire_detection(service.now(), ROWS_AT_ONCE).await? {
        tokio::time::sleep(PAUSE).await;
    }
    while service.store.forget_retired(ROWS_AT_ONCE).await? > 0 {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
