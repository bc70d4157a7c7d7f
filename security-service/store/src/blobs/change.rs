//! Changes of files together with the rows that name them: one at a time, of all instances at one database.

use super::Blobs;
use crate::error::StoreError;
use sqlx::AnyConnection;
use std::sync::Mutex;
use tokio::sync::MutexGuard;

/// Keeps others from storing or removing files. Whoever does holds this from before he reads or writes the rows that name them until he is
/// done: otherwise one instance would remove what another has just named.
#[derive(Debug)]
pub struct Changing<'b> {
    /// Keeps others of this process away.
    _here: MutexGuard<'b, ()>,
    /// Keeps other instances away: a transaction that holds a lock of PostgreSQL, which ends with its connection, whatever ends this
    /// process. Nobody uses it; a mutex has it be shared between threads, as whoever holds this may be.
    _everywhere: Option<Mutex<AnyConnection>>,
}

impl Blobs {
    /// Waits until nobody else of this process changes files, and has others wait. `lock` makes what keeps other instances away, where there are any.
    pub(crate) async fn change_with(
        &self,
        lock: impl AsyncFnOnce() -> Result<Option<AnyConnection>, StoreError>,
    ) -> Result<Changing<'_>, StoreError> {
        let here = self.changing.lock().await;
        Ok(Changing { _here: here, _everywhere: lock().await?.map(Mutex::new) })
    }

    /// Waits until nobody else of this process changes files: for files that no other instance knows, as where a backup is restored.
    pub async fn change_alone(&self) -> Changing<'_> {
        Changing { _here: self.changing.lock().await, _everywhere: None }
    }
}
