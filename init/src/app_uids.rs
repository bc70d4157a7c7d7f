//! The table of uids and floors on the `state` partition.

use crate::log::Log;
use crate::os_floor;
use holdfast_lifecycle::slots::Floor;
use holdfast_lifecycle::uid_table::{self, AppUid, UidTable, UidTableError};
use holdfast_linux::file;
use holdfast_types::ComponentId;
use holdfast_types::event::init as event;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directory of each app's storage.
pub(crate) const DATA: &str = "/data";
pub(crate) const STATE: &str = "/state";

/// The table, and whether it can be trusted.
#[derive(Debug)]
pub(crate) struct AppUids {
    /// `None`: the table is damaged, and no app gets a uid before somebody has decided.
    table: Option<UidTable>,
    /// Owners of what lies on the data partition.
    occupied: Vec<u32>,
    /// The rollback floor of the OS.
    pub(crate) os_floor: Floor,
}

/// An app that cannot be given a uid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoUid {
    #[error("the table of uids is damaged; it is kept, and no app is started")]
    Damaged,
    #[error(transparent)]
    Table(#[from] UidTableError),
}

impl AppUids {
    /// Reads the table. A missing one is a new one; a damaged one is kept as it is.
    pub(crate) fn load(log: &Log) -> Self {
        let path = path();
        let table = match file::read_bounded(&path, uid_table::MAX_ENCODED_BYTES) {
            Ok(None) => Some(UidTable::default()),
            Ok(Some(bytes)) => match UidTable::decode(&bytes) {
                Ok(table) => Some(table),
                Err(error) => {
                    // A new table would number apps anew, and give one the files of another.
                    let what = "the table of uids is damaged and kept";
                    log.failure(event::UID_TABLE_DAMAGED, what, &error);
                    None
                }
            },
            Err(error) => {
                let what = "cannot read the table of uids, which is kept";
                log.failure(event::UID_TABLE_READ_FAILED, what, &error);
                None
            }
        };
        // Where the table is lost and files are not, new uids must be none that own something.
        let entries = fs::read_dir(DATA).into_iter().flatten().flatten();
        let owners = entries.filter_map(|entry| Some(entry.metadata().ok()?.uid()));
        Self { table, occupied: owners.collect(), os_floor: os_floor::read(log) }
    }

    /// The app_uid of an app, stored before it is used for the first time.
    pub(crate) fn assign(&mut self, log: &Log, id: ComponentId) -> Result<AppUid, NoUid> {
        let table = self.table.as_mut().ok_or(NoUid::Damaged)?;
        let known = table.find(id).is_some();
        let own = fs::symlink_metadata(Path::new(DATA).join(id.to_string())).map(|m| m.uid()).ok();
        let app_uid = table.assign(id, own, &self.occupied)?;
        // On the medium before anything is given to the uid: the next start must not give it to
        // another app.
        if !known {
            self.store(log);
        }
        Ok(app_uid)
    }

    /// The lowest rollback index that packages of an app may have.
    pub(crate) fn app_floor(&self, id: ComponentId) -> u64 {
        self.table.as_ref().and_then(|table| table.find(id)).map_or(0, |app_uid| app_uid.floor)
    }

    /// The floors of all apps.
    pub(crate) fn app_floors(&self) -> Vec<(ComponentId, u64)> {
        let known = self.table.iter().flat_map(UidTable::all);
        known.map(|app_uid| (app_uid.component_id, app_uid.floor)).collect()
    }

    /// From now on this device refuses packages of the app below `index`.
    pub(crate) fn raise_app_floor(&mut self, log: &Log, id: ComponentId, index: u64) {
        // A floor that stays where it is costs the medium no write.
        if self.table.as_mut().is_some_and(|table| table.raise_floor(id, index)) {
            self.store(log);
        }
    }

    fn store(&self, log: &Log) {
        let Some(table) = &self.table else {
            return;
        };
        let stored = table
            .encode()
            .map_err(Box::<dyn std::error::Error>::from)
            .and_then(|bytes| Ok(file::replace(&path(), &bytes)?));
        if let Err(error) = stored {
            let what = "cannot persist the table of uids";
            log.failure(event::UID_TABLE_PERSIST_FAILED, what, &*error);
        }
    }
}

fn path() -> PathBuf {
    Path::new(STATE).join(uid_table::FILE_NAME)
}
