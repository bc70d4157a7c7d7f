//! Backups of SQLite's database: a snapshot of one moment, taken while the service runs, with the files of the service's folder in a
//! table of its own. PostgreSQL has `pg_dump` for that.

use crate::error::StoreError;
use crate::store::Store;
use sqlx::any::AnyConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, Row};
use std::path::Path;
use std::str::FromStr;

/// A file that goes with the database, sealed by whoever made it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, relative to the folder.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Store {
    /// Writes a snapshot of the database and these entries into a file, which must be empty or not there. Whoever writes to the
    /// database meanwhile is not held up.
    ///
    /// # Errors
    /// [`StoreError::OnlySqlite`] for another database, and those of the database, as for a file that has something.
    pub async fn back_up(&self, path: &Path, entries: Vec<Entry>) -> Result<(), StoreError> {
        if !self.is_sqlite() {
            return Err(StoreError::OnlySqlite);
        }
        let name = path.to_str().ok_or(StoreError::PathIsNoText)?;
        let mut source = self.read().await?;
        sqlx::query("VACUUM INTO $1").bind(name.to_owned()).execute(&mut *source).await?;
        let mut copy = connect(name).await?;
        copy.execute(sqlx::raw_sql("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")).await?;
        let table = "CREATE TABLE backup (name TEXT NOT NULL PRIMARY KEY, content BLOB NOT NULL)";
        copy.execute(sqlx::raw_sql(table)).await?;
        for Entry { name, content } in entries {
            let insert = sqlx::query("INSERT INTO backup (name, content) VALUES ($1, $2)");
            insert.bind(name).bind(content).execute(&mut copy).await?;
        }
        copy.execute(sqlx::raw_sql("COMMIT")).await?;
        Ok(copy.close().await?)
    }
}

/// Reads the entries of a backup, if every page of it is whole.
///
/// # Errors
/// It is no backup or is damaged, or those of the database.
pub async fn entries(path: &Path) -> Result<Vec<Entry>, StoreError> {
    let mut copy = connect(path.to_str().ok_or(StoreError::PathIsNoText)?).await?;
    let check = sqlx::query("PRAGMA integrity_check").fetch_all(&mut copy).await;
    let check = check.map_err(|_| StoreError::NoBackup)?;
    let is_whole =
        matches!(&check[..], [row] if row.try_get::<String, _>(0).is_ok_and(|said| said == "ok"));
    if !is_whole {
        return Err(StoreError::NoBackup);
    }
    let rows = sqlx::query("SELECT name, content FROM backup ORDER BY name");
    let rows = rows.fetch_all(&mut copy).await.map_err(|_| StoreError::NoBackup)?;
    copy.close().await?;
    let entry = |row: &sqlx::any::AnyRow| {
        let name = crate::columns::text(row, "name")?;
        Ok(Entry { name, content: crate::columns::bytes(row, "content")? })
    };
    rows.iter().map(entry).collect()
}

/// Makes a copy of a backup a database as any other: what is not the database's goes from it.
///
/// # Errors
/// Those of the database.
pub async fn strip(path: &Path) -> Result<(), StoreError> {
    let mut copy = connect(path.to_str().ok_or(StoreError::PathIsNoText)?).await?;
    copy.execute(sqlx::raw_sql("DROP TABLE backup; VACUUM")).await?;
    Ok(copy.close().await?)
}

async fn connect(path: &str) -> Result<sqlx::AnyConnection, StoreError> {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_str(&format!("sqlite:{path}"));
    let options = options.map_err(StoreError::Open)?.disable_statement_logging();
    options.connect().await.map_err(StoreError::Open)
}
