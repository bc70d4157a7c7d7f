//! Backups: a snapshot of one moment, taken while the service runs, with the files of the service's folder in a table of its own, and those
//! of symbols in another. Of SQLite the snapshot is the file itself; of PostgreSQL it is what `pg_dump` has written, in a third table.

use crate::blobs::Blobs;
use crate::columns;
use crate::error::StoreError;
use crate::store::Store;
use holdfast_service_domain::symbols::MAX_SYMBOLS_BYTES;
use holdfast_types::hex::unhex;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions, Connection, Executor, Row};
use std::fs::File;
use std::path::Path;
use std::str::FromStr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes of a part of a file: what is in memory of it at once.
const PART_BYTES: u64 = 1024 * 1024;

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
    /// Writes a snapshot of the database, these entries and the files of symbols into a file, which must be empty or not there, and returns how
    /// many files of symbols it has. Whoever writes to the database meanwhile is not held up. A file that was removed since the snapshot is
    /// not in it, and the program is without symbols after a restore.
    ///
    /// # Errors
    /// Those of the database, as for a file that has something.
    pub async fn back_up(
        &self,
        path: &Path,
        entries: Vec<Entry>,
        blobs: &Blobs,
    ) -> Result<u32, StoreError> {
        let name = path.to_str().ok_or(StoreError::PathIsNoText)?;
        let mut source = self.read().await?;
        sqlx::query("VACUUM INTO $1").bind(name.to_owned()).execute(&mut *source).await?;
        let mut copy = begin(name, entries).await?;
        let names = names_of_symbols(&mut copy).await?;
        let count = copy_blobs(&mut copy, names, blobs).await?;
        copy.execute(sqlx::raw_sql("COMMIT")).await?;
        copy.close().await?;
        Ok(count)
    }

    /// Writes what `pg_dump` says, these entries and the files of symbols into a file, as [`back_up`](Self::back_up) does for SQLite.
    ///
    /// # Errors
    /// The dump cannot be read, and those of the database.
    pub async fn back_up_dump(
        &self,
        path: &Path,
        entries: Vec<Entry>,
        blobs: &Blobs,
        mut dump: impl AsyncRead + Unpin,
    ) -> Result<u32, StoreError> {
        let name = path.to_str().ok_or(StoreError::PathIsNoText)?;
        let mut copy = begin(name, entries).await?;
        let table =
            "CREATE TABLE backup_dump (part BIGINT NOT NULL PRIMARY KEY, content BLOB NOT NULL)";
        copy.execute(sqlx::raw_sql(table)).await?;
        for number in 0_i64.. {
            let Some(content) = part(&mut dump).await? else { break };
            let insert = "INSERT INTO backup_dump (part, content) VALUES ($1, $2)";
            sqlx::query(insert).bind(number).bind(content).execute(&mut copy).await?;
        }
        let names = {
            let mut connection = self.read().await?;
            names_of_symbols(&mut connection).await?
        };
        let count = copy_blobs(&mut copy, names, blobs).await?;
        copy.execute(sqlx::raw_sql("COMMIT")).await?;
        copy.close().await?;
        Ok(count)
    }
}

/// Opens the file of a backup, and begins a transaction with its entries.
async fn begin(name: &str, entries: Vec<Entry>) -> Result<AnyConnection, StoreError> {
    let mut copy = connect(name).await?;
    copy.execute(sqlx::raw_sql("PRAGMA synchronous = FULL; BEGIN IMMEDIATE")).await?;
    let table = "CREATE TABLE backup (name TEXT NOT NULL PRIMARY KEY, content BLOB NOT NULL)";
    copy.execute(sqlx::raw_sql(table)).await?;
    for Entry { name, content } in entries {
        let insert = sqlx::query("INSERT INTO backup (name, content) VALUES ($1, $2)");
        insert.bind(name).bind(content).execute(&mut copy).await?;
    }
    Ok(copy)
}

/// Names of the files that rows of symbols name.
async fn names_of_symbols(connection: &mut AnyConnection) -> Result<Vec<String>, StoreError> {
    let query = sqlx::query("SELECT DISTINCT sha256 FROM symbols ORDER BY sha256");
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(|row| columns::text(row, "sha256")).collect()
}

/// Reads what is in memory of a file at once; nothing at its end.
async fn part(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>, StoreError> {
    let mut content = Vec::new();
    from.take(PART_BYTES).read_to_end(&mut content).await.map_err(StoreError::ReadBlob)?;
    Ok(Some(content).filter(|content| !content.is_empty()))
}

/// Writes the dump of PostgreSQL that a backup has.
///
/// # Errors
/// It cannot be written, or those of the database.
pub async fn write_dump(path: &Path, mut to: impl AsyncWrite + Unpin) -> Result<(), StoreError> {
    let mut copy = connect(path.to_str().ok_or(StoreError::PathIsNoText)?).await?;
    for number in 0_i64.. {
        let query = sqlx::query("SELECT content FROM backup_dump WHERE part = $1").bind(number);
        let Some(row) = query.fetch_optional(&mut copy).await? else { break };
        to.write_all(&columns::bytes(&row, "content")?).await.map_err(StoreError::WriteDump)?;
    }
    to.shutdown().await.map_err(StoreError::WriteDump)?;
    Ok(copy.close().await?)
}

/// True if a backup is of PostgreSQL.
///
/// # Errors
/// Those of the database.
pub async fn has_dump(path: &Path) -> Result<bool, StoreError> {
    let mut copy = connect(path.to_str().ok_or(StoreError::PathIsNoText)?).await?;
    let query = "SELECT count(*) AS n FROM sqlite_master WHERE name = 'backup_dump'";
    let row = sqlx::query(query).fetch_one(&mut copy).await?;
    copy.close().await?;
    Ok(columns::number(&row, "n")? > 0)
}

/// Copies the files of symbols that are named.
async fn copy_blobs(
    copy: &mut AnyConnection,
    names: Vec<String>,
    blobs: &Blobs,
) -> Result<u32, StoreError> {
    let table = "CREATE TABLE backup_blob (sha256 TEXT NOT NULL, part BIGINT NOT NULL,
        content BLOB NOT NULL, PRIMARY KEY (sha256, part))";
    copy.execute(sqlx::raw_sql(table)).await?;
    let mut count: u32 = 0;
    for name in names {
        let digest = unhex(&name).ok_or(StoreError::Damaged("sha256"))?;
        if let Some(file) = blobs.read(&digest).await? {
            copy_blob(copy, name, file).await?;
            count = count.saturating_add(1);
        }
    }
    Ok(count)
}

async fn copy_blob(copy: &mut AnyConnection, name: String, file: File) -> Result<(), StoreError> {
    let mut file = tokio::fs::File::from_std(file);
    for part in 0_i64.. {
        let mut content = Vec::new();
        let read = (&mut file).take(PART_BYTES).read_to_end(&mut content).await;
        // A file of no bytes has one part as well, so that it is there.
        if read.map_err(StoreError::ReadBlob)? == 0 && part > 0 {
            break;
        }
        let insert = "INSERT INTO backup_blob (sha256, part, content) VALUES ($1, $2, $3)";
        let insert = sqlx::query(insert).bind(name.clone()).bind(part).bind(content);
        insert.execute(&mut *copy).await?;
    }
    Ok(())
}

/// Brings the files of symbols of a backup back, and returns how many they are. A backup of before they were a part of it has none.
///
/// # Errors
/// A file is not what its name says, or cannot be written, or those of the database.
pub async fn restore_blobs(path: &Path, blobs: &Blobs) -> Result<u32, StoreError> {
    let mut copy = connect(path.to_str().ok_or(StoreError::PathIsNoText)?).await?;
    let query = "SELECT count(*) AS n FROM sqlite_master WHERE name = 'backup_blob'";
    let row = sqlx::query(query).fetch_one(&mut copy).await?;
    let mut count: u32 = 0;
    if columns::number(&row, "n")? > 0 {
        let names = sqlx::query("SELECT DISTINCT sha256 FROM backup_blob ORDER BY sha256");
        for row in names.fetch_all(&mut copy).await? {
            restore_blob(&mut copy, columns::text(&row, "sha256")?, blobs).await?;
            count = count.saturating_add(1);
        }
    }
    copy.close().await?;
    Ok(count)
}

async fn restore_blob(
    copy: &mut AnyConnection,
    name: String,
    blobs: &Blobs,
) -> Result<(), StoreError> {
    let digest: [u8; 32] = unhex(&name).ok_or(StoreError::NoBackup)?;
    let mut draft = blobs.begin(u64::try_from(MAX_SYMBOLS_BYTES).unwrap_or(u64::MAX)).await?;
    for part in 0_i64.. {
        let query = "SELECT content FROM backup_blob WHERE sha256 = $1 AND part = $2";
        let query = sqlx::query(query).bind(name.clone()).bind(part);
        let Some(row) = query.fetch_optional(&mut *copy).await? else { break };
        draft.write(&columns::bytes(&row, "content")?).await?;
    }
    let written = draft.finish().await?;
    // What is read by a worker later is what was backed up, or nothing.
    if written.digest != digest {
        return Err(StoreError::NoBackup);
    }
    let changing = blobs.change_alone().await;
    Ok(blobs.keep(&changing, written).await?)
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
        let name = columns::text(row, "name")?;
        Ok(Entry { name, content: columns::bytes(row, "content")? })
    };
    rows.iter().map(entry).collect()
}

/// Makes a copy of a backup a database as any other: what is not the database's goes from it.
///
/// # Errors
/// Those of the database.
pub async fn strip(path: &Path) -> Result<(), StoreError> {
    let mut copy = connect(path.to_str().ok_or(StoreError::PathIsNoText)?).await?;
    copy.execute(sqlx::raw_sql("DROP TABLE backup; DROP TABLE IF EXISTS backup_blob; VACUUM"))
        .await?;
    Ok(copy.close().await?)
}

async fn connect(path: &str) -> Result<AnyConnection, StoreError> {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_str(&format!("sqlite:{path}"));
    let options = options.map_err(StoreError::Open)?.disable_statement_logging();
    options.connect().await.map_err(StoreError::Open)
}
