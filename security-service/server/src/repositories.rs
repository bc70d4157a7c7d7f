//! Repositories in directories of this host: what is published there is taken, by its signatures, and without anybody's token.

use crate::settings::WatchedRepository;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_api::service::Service;
use holdfast_service_api::signed_releases::{self, TakeError};
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::problem::Problem;
use holdfast_types::escaped_chain;
use holdfast_types::event::security_service::{METADATA_REFUSED, RELEASES_TAKEN};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

/// Longest file of metadata in bytes: what devices read of targets.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Most files of metadata in a repository.
const MAX_FILES: usize = 4096;
/// The file that is new whenever something was published.
const TIMESTAMP: &str = "timestamp.json";

/// Why nothing is taken of a repository.
#[derive(Debug, Error)]
enum WatchError {
    /// It cannot be read.
    #[error("cannot read its metadata")]
    Read(#[from] io::Error),
    /// The disk has no room for what is new.
    #[error("the disk has no room for what is new: {}", .0.title())]
    NoRoom(Problem),
    /// The settings name a catalog that is not there.
    #[error("repositories.catalog: there is no such catalog")]
    NoCatalog,
    /// The releases are not taken.
    #[error("cannot take its releases")]
    Take(#[from] TakeError),
}

/// Looks at a repository until the service ends. What keeps it from being taken is said once, until it is something else.
pub(crate) async fn watch(
    service: Arc<Service>,
    watched: WatchedRepository,
    mut end: watch::Receiver<bool>,
) {
    let pause = Duration::from_secs(u64::from(watched.look_every_s.max(1)));
    let (mut taken, mut said) = (None, None);
    loop {
        match look(&service, &watched, &mut taken).await {
            Ok(()) => said = None,
            Err(error) => {
                let (directory, cause) = (watched.directory.display(), escaped_chain(&error));
                if said.as_ref() != Some(&cause) {
                    eprintln!("repository {directory}: {cause} {METADATA_REFUSED}");
                    said = Some(cause);
                }
            }
        }
        tokio::select! {
            _ = end.wait_for(|end| *end) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Takes what is new. `taken` is the timestamp that was taken last.
async fn look(
    service: &Service,
    watched: &WatchedRepository,
    taken: &mut Option<String>,
) -> Result<(), WatchError> {
    let metadata = watched.directory.join("metadata");
    let timestamp = text(&metadata.join(TIMESTAMP))?;
    if taken.as_ref() == Some(&timestamp) {
        return Ok(());
    }
    service.disk.room().admit(Write::Other).map_err(WatchError::NoRoom)?;
    let catalog = CatalogId::parse(&watched.catalog).ok_or(WatchError::NoCatalog)?;
    let scope = service.store.scope_of_device(catalog).await.map_err(TakeError::from)?;
    let scope = scope.ok_or(WatchError::NoCatalog)?;
    let found = signed_releases::take(service, scope, &files(&metadata)?).await?;
    *taken = Some(timestamp);
    let Some(found) = found else { return Ok(()) };
    let (count, targets) = (found.releases.len(), found.targets);
    eprintln!("catalog {catalog}: {count} releases of targets {targets} {RELEASES_TAKEN}");
    for ignored in found.ignored {
        let (path, reason) = (ignored.path.escape_default(), ignored.reason);
        eprintln!("catalog {catalog}: {path} is not taken: it {reason} {METADATA_REFUSED}");
    }
    Ok(())
}

/// Reads every file of metadata, by its name.
fn files(metadata: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(metadata)?.take(MAX_FILES) {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| name.ends_with(".json")) {
            files.insert(name.to_owned(), text(&path)?);
        }
    }
    Ok(files)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}
