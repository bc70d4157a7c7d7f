//! Which programs there are symbols of, by build id, and names that were made of them.

use crate::blobs::Blobs;
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::symbols::{BuildId, Frames, MAX_PROGRAMS, SYMBOLIZER};
use holdfast_types::hex::{hex, unhex};
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// Most names of one program that are kept. With one more, all of them go, and come anew.
const MOST_NAMES: i64 = 4096;

/// Symbols of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolsRow {
    /// The program.
    pub build_id: BuildId,
    /// SHA-256 of its file.
    pub digest: [u8; 32],
    /// Bytes of its file.
    pub bytes: u64,
    /// Name of the token that has added them.
    pub who: String,
    /// When they were added, in seconds since 1970.
    pub added_at: u64,
}

/// An address as both databases have it: of 64 bits, of which the first is taken for a sign.
fn signed(address: u64) -> i64 {
    i64::from_ne_bytes(address.to_ne_bytes())
}

fn unsigned(address: i64) -> u64 {
    u64::from_ne_bytes(address.to_ne_bytes())
}

impl Store {
    /// Returns symbols by their build ids behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn symbols(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<SymbolsRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(symbols),
            " FROM symbols WHERE catalog = $1 AND build_id > $2 ORDER BY build_id LIMIT $3"
        );
        let query =
            sqlx::query(query).bind(scope.key()).bind(after.to_owned()).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(row_of).collect()
    }

    /// Returns the symbols of a program.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn symbols_of(
        &self,
        scope: Scope,
        build_id: &BuildId,
    ) -> Result<Option<SymbolsRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(symbols),
            " FROM symbols WHERE catalog = $1 AND build_id = $2"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(build_id.to_string());
        query.fetch_optional(&mut *connection).await?.as_ref().map(row_of).transpose()
    }

    /// True if symbols of any catalog are this file.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_named_by_symbols(&self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query("SELECT count(*) AS rows FROM symbols WHERE sha256 = $1");
        let row = query.bind(hex(digest)).fetch_one(&mut *connection).await?;
        Ok(columns::number(&row, "rows")? > 0)
    }

    /// Returns the names that are known of addresses of a program, by address: `None` for an address that has none. Names that another
    /// symbolizer has made are not known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn symbol_names(
        &self,
        scope: Scope,
        build_id: &BuildId,
        addresses: &[u64],
    ) -> Result<BTreeMap<u64, Option<Frames>>, StoreError> {
        let mut connection = self.read().await?;
        let mut known = BTreeMap::new();
        for address in addresses {
            let query = "SELECT address, function, outer_function FROM symbol_name
                WHERE catalog = $1 AND build_id = $2 AND address = $3 AND symbolizer = $4";
            let query = sqlx::query(query).bind(scope.key()).bind(build_id.to_string());
            let query = query.bind(signed(*address)).bind(stored(SYMBOLIZER));
            let Some(row) = query.fetch_optional(&mut *connection).await? else { continue };
            let address = row.try_get("address").map_err(|_| StoreError::Damaged("address"))?;
            let function = columns::text_if_any(&row, "function")?;
            let outer = columns::text_if_any(&row, "outer_function")?;
            let frames = function.zip(outer).map(|(function, outer)| Frames { function, outer });
            known.insert(unsigned(address), frames);
        }
        Ok(known)
    }

    /// Keeps names of addresses of a program, if there are symbols of it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn keep_symbol_names(
        &self,
        scope: Scope,
        build_id: BuildId,
        names: Vec<(u64, Option<Frames>)>,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move { keep_names(connection, scope, &build_id, names).await })
        })
        .await
    }

    /// Forgets the symbols of all catalogs whose files are not there, and returns how many programs they were of.
    ///
    /// # Errors
    /// A file cannot be opened, or those of the database.
    pub async fn forget_missing_symbols(&self, blobs: &Blobs) -> Result<u64, StoreError> {
        let rows = {
            let mut connection = self.read().await?;
            let query = "SELECT DISTINCT sha256 FROM symbols";
            sqlx::query(query).fetch_all(&mut *connection).await?
        };
        let mut missing = Vec::new();
        for row in &rows {
            let name = columns::text(row, "sha256")?;
            let digest = unhex(&name).ok_or(StoreError::Damaged("sha256"))?;
            if !blobs.is_stored(&digest).await? {
                missing.push(name);
            }
        }
        self.write(move |connection| {
            Box::pin(async move {
                let mut programs: u64 = 0;
                for name in missing {
                    let names = "DELETE FROM symbol_name WHERE EXISTS (SELECT 1 FROM symbols s
                        WHERE s.catalog = symbol_name.catalog
                        AND s.build_id = symbol_name.build_id AND s.sha256 = $1)";
                    sqlx::query(names).bind(name.clone()).execute(&mut *connection).await?;
                    let delete = sqlx::query("DELETE FROM symbols WHERE sha256 = $1").bind(name);
                    let deleted = delete.execute(&mut *connection).await?.rows_affected();
                    programs = programs.saturating_add(deleted);
                }
                Ok(programs)
            })
        })
        .await
    }
}

async fn keep_names(
    connection: &mut Connection,
    scope: Scope,
    build_id: &BuildId,
    names: Vec<(u64, Option<Frames>)>,
) -> Result<(), StoreError> {
    let (catalog, build_id) = (scope.key(), build_id.to_string());
    let query =
        "SELECT (SELECT count(*) FROM symbols WHERE catalog = $1 AND build_id = $2) AS known,
        (SELECT count(*) FROM symbol_name WHERE catalog = $1 AND build_id = $2) AS names";
    let query = sqlx::query(query).bind(catalog.clone()).bind(build_id.clone());
    let row = query.fetch_one(&mut *connection).await?;
    // They were removed while the worker read them.
    if columns::number(&row, "known")? == 0 {
        return Ok(());
    }
    let kept: i64 = row.try_get("names").map_err(|_| StoreError::Damaged("names"))?;
    if kept.saturating_add(i64::try_from(names.len()).unwrap_or(i64::MAX)) > MOST_NAMES {
        forget_names(connection, scope, &build_id).await?;
    }
    for (address, frames) in names {
        let (function, outer) = frames.map(|frames| (frames.function, frames.outer)).unzip();
        let insert = "INSERT INTO symbol_name
            (catalog, build_id, address, symbolizer, function, outer_function)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (catalog, build_id, address)
            DO UPDATE SET symbolizer = $4, function = $5, outer_function = $6";
        sqlx::query(insert)
            .bind(catalog.clone())
            .bind(build_id.clone())
            .bind(signed(address))
            .bind(stored(SYMBOLIZER))
            .bind(function)
            .bind(outer)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn forget_names(
    connection: &mut Connection,
    scope: Scope,
    build_id: &str,
) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM symbol_name WHERE catalog = $1 AND build_id = $2");
    delete.bind(scope.key()).bind(build_id.to_owned()).execute(connection).await?;
    Ok(())
}

/// Adds symbols of a program, and says whether they are new. Others of the same build id are not replaced: names that were made of them
/// would change.
///
/// # Errors
/// There are others of this build id, or as many as there may be, or those of the database.
pub async fn add(
    connection: &mut Connection,
    scope: Scope,
    row: SymbolsRow,
) -> Result<bool, StoreError> {
    let query = concat!(
        "SELECT ",
        columns_of!(symbols),
        " FROM symbols WHERE catalog = $1 AND build_id = $2"
    );
    let query = sqlx::query(query).bind(scope.key()).bind(row.build_id.to_string());
    if let Some(known) = query.fetch_optional(&mut *connection).await? {
        let is_same = row_of(&known)?.digest == row.digest;
        return if is_same { Ok(false) } else { Err(StoreError::There("program")) };
    }
    let query = sqlx::query("SELECT count(*) AS rows FROM symbols WHERE catalog = $1");
    let count = query.bind(scope.key()).fetch_one(&mut *connection).await?;
    if columns::number(&count, "rows")? >= u64::from(MAX_PROGRAMS) {
        return Err(StoreError::Full { what: "programs with symbols", most: MAX_PROGRAMS });
    }
    let insert = "INSERT INTO symbols (catalog, build_id, sha256, bytes, who, added_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(row.build_id.to_string())
        .bind(hex(&row.digest))
        .bind(stored(row.bytes))
        .bind(row.who)
        .bind(stored(row.added_at))
        .execute(connection)
        .await?;
    Ok(true)
}

/// Removes the symbols of a program, with the names that were made of them.
///
/// # Errors
/// There are none, or those of the database.
pub async fn remove(
    connection: &mut Connection,
    scope: Scope,
    build_id: &BuildId,
) -> Result<(), StoreError> {
    let build_id = build_id.to_string();
    forget_names(connection, scope, &build_id).await?;
    let delete = sqlx::query("DELETE FROM symbols WHERE catalog = $1 AND build_id = $2");
    let deleted = delete.bind(scope.key()).bind(build_id).execute(connection).await?;
    if deleted.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Missing("program")) }
}

fn row_of(row: &AnyRow) -> Result<SymbolsRow, StoreError> {
    let build_id = columns::text(row, "build_id")?.parse();
    Ok(SymbolsRow {
        build_id: build_id.map_err(|_| StoreError::Damaged("build_id"))?,
        digest: unhex(&columns::text(row, "sha256")?).ok_or(StoreError::Damaged("sha256"))?,
        bytes: columns::number(row, "bytes")?,
        who: columns::text(row, "who")?,
        added_at: columns::number(row, "added_at")?,
    })
}
