//! Repositories of signed releases: the roots that a catalog trusts, the files that it holds, and what of them devices are served.
//!
//! What is served is what was verified, under the very paths that the signed metadata name. A row says which content lies at a path; the
//! content is a file by its SHA-256 ([`crate::blobs`]). Devices believe neither: they verify both again.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::release;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_release::RepositoryName;
use holdfast_release::feed::Feed;
use holdfast_service_domain::measurement::{Release, Source};
use holdfast_service_domain::reference_values::Known;
use holdfast_types::CatalogId;
use holdfast_types::hex::{hex, unhex};
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};

/// Most files that a catalog holds.
pub const MAX_FILES: u32 = 4096;
/// Most bytes of the files that a catalog holds.
pub const MAX_BYTES: u64 = 64 << 30;
/// Seconds for which a file is still served that newer metadata do not name, since devices are on their way through it; and for which a file
/// is held that no metadata name yet.
pub const KEPT_S: u64 = 14 * 24 * 60 * 60;
/// What the names of roots end with, which devices follow one by one, however old they are.
const ROOT: &str = ".root.json";

/// A repository whose root a catalog trusts, with what was seen of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryRow {
    /// What metadata is verified from.
    pub known: Known,
    /// Version of the targets that were taken last; none before the first.
    pub targets: Option<u64>,
    /// When the root was set, in seconds since 1970.
    pub set_at: u64,
    /// When metadata was taken last, in seconds since 1970.
    pub taken_at: Option<u64>,
    /// When what devices are served has changed last, in seconds since 1970; none where they are served nothing.
    pub served_at: Option<u64>,
    /// How often the row has changed.
    pub revision: u64,
}

/// What is written of verified metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenWrite {
    /// The repository.
    pub repository: RepositoryName,
    /// Revision of its row that the metadata was verified from.
    pub revision: u64,
    /// What is to be remembered of the repository.
    pub memory: Vec<u8>,
    /// Version of the targets.
    pub targets: u64,
    /// The releases, each with the feed whose devices it is for alone.
    pub releases: Vec<(Release, Option<Feed>)>,
    /// The time, in seconds since 1970.
    pub at: u64,
}

/// A file that a catalog holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFile {
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    /// Bytes of its content.
    pub bytes: u64,
    /// Name of the token that has added it.
    pub who: String,
    /// When it was added, in seconds since 1970.
    pub added_at: u64,
}

/// A file at its path in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedFile {
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    /// Bytes of its content.
    pub bytes: u64,
}

impl Store {
    /// Returns a repository of the catalog, if its owner has set a root for it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn repository(
        &self,
        scope: Scope,
        name: RepositoryName,
    ) -> Result<Option<RepositoryRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query(concat!(
            "SELECT ",
            columns_of!(repository),
            " FROM repository WHERE catalog = $1 AND name = $2"
        ));
        let query = query.bind(scope.key()).bind(name.name().to_owned());
        let Some(row) = query.fetch_optional(&mut *connection).await? else {
            return Ok(None);
        };
        let (root, memory) = (columns::bytes(&row, "root")?, columns::bytes(&row, "memory")?);
        Ok(Some(RepositoryRow {
            known: Known { root, memory },
            targets: columns::number_if_any(&row, "targets")?,
            set_at: columns::number(&row, "set_at")?,
            taken_at: columns::number_if_any(&row, "taken_at")?,
            served_at: columns::number_if_any(&row, "served_at")?,
            revision: columns::number(&row, "revision")?,
        }))
    }

    /// Returns files that the catalog holds, by their SHA-256 in hexadecimal behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn held_files(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<HeldFile>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(repository_file),
            " FROM repository_file WHERE catalog = $1 AND sha256 > $2
            ORDER BY sha256 LIMIT $3"
        );
        let query =
            sqlx::query(query).bind(scope.key()).bind(after.to_owned()).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(held).collect()
    }

    /// Returns the file at a path of a repository, if devices are served it. Whoever asks needs no token: what is served is public to
    /// whoever reaches the service, as on any mirror.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn served_file(
        &self,
        catalog: CatalogId,
        name: RepositoryName,
        path: &str,
    ) -> Result<Option<ServedFile>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT sha256, bytes FROM served_file
            WHERE catalog = $1 AND repository = $2 AND path = $3";
        let query = sqlx::query(query).bind(catalog.to_string()).bind(name.name().to_owned());
        let row = query.bind(path.to_owned()).fetch_optional(&mut *connection).await?;
        row.map(|row| {
            Ok(ServedFile { digest: digest(&row)?, bytes: columns::number(&row, "bytes")? })
        })
        .transpose()
    }

    /// Returns every path of a repository that devices are served, with its file.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn served_files(
        &self,
        scope: Scope,
        name: RepositoryName,
    ) -> Result<BTreeMap<String, ServedFile>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT path, sha256, bytes FROM served_file
            WHERE catalog = $1 AND repository = $2 AND until IS NULL";
        let query = sqlx::query(query).bind(scope.key()).bind(name.name().to_owned());
        let rows = query.fetch_all(&mut *connection).await?;
        let file = |row: &AnyRow| {
            let file = ServedFile { digest: digest(row)?, bytes: columns::number(row, "bytes")? };
            Ok((columns::text(row, "path")?, file))
        };
        rows.iter().map(file).collect()
    }

    /// True if any catalog holds or serves this content.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_named_by_repositories(&self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT (SELECT count(*) FROM repository_file WHERE sha256 = $1)
            + (SELECT count(*) FROM served_file WHERE sha256 = $1) AS rows";
        let row = sqlx::query(query).bind(hex(digest)).fetch_one(&mut *connection).await?;
        Ok(columns::number(&row, "rows")? > 0)
    }

    /// Forgets all files of all catalogs, as where the files are not that the rows name. What was verified stays known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_release_files(&self) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                for forget in [
                    "DELETE FROM served_file",
                    "DELETE FROM repository_file",
                    "UPDATE repository SET served_at = NULL",
                ] {
                    sqlx::query(forget).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Ends what is served no longer and what nothing has named for [`KEPT_S`], at most so many rows of each, and returns the digests of what
    /// they named: whoever holds the files removes those that nothing else names.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_unnamed(
        &self,
        now: u64,
        most: u32,
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move { forget_unnamed(connection, now, most).await })
        })
        .await
    }
}

/// Sets the root that a catalog trusts for a repository from now on. What was seen of the repository is still remembered, as far as it
/// can be verified from this root.
///
/// # Errors
/// Those of the database.
pub async fn set_root(
    connection: &mut Connection,
    scope: Scope,
    name: RepositoryName,
    root: Vec<u8>,
    at: u64,
) -> Result<(), StoreError> {
    let put = "INSERT INTO repository (catalog, name, root, memory, set_at, revision)
        VALUES ($1, $2, $3, $4, $5, 0) ON CONFLICT (catalog, name)
        DO UPDATE SET root = $3, set_at = $5, revision = repository.revision + 1";
    let put = sqlx::query(put).bind(scope.key()).bind(name.name().to_owned());
    let put = put.bind(root).bind(Vec::<u8>::new()).bind(stored(at));
    put.execute(connection).await?;
    Ok(())
}

/// Writes what verified metadata says, if the root is still the one that it was verified from. Returns for each release whether it is
/// new, or was typed by hand before.
///
/// # Errors
/// [`StoreError::Overtaken`] where it is another, there is another signed release with a measurement, or those of the database.
pub async fn take_signed(
    connection: &mut Connection,
    scope: Scope,
    write: TakenWrite,
) -> Result<Vec<bool>, StoreError> {
    let update = "UPDATE repository
        SET memory = $4, targets = $5, taken_at = $6, revision = revision + 1
        WHERE catalog = $1 AND name = $2 AND revision = $3";
    let update = sqlx::query(update).bind(scope.key()).bind(write.repository.name().to_owned());
    let update = update.bind(stored(write.revision)).bind(write.memory);
    let update = update.bind(stored(write.targets)).bind(stored(write.at));
    if update.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(StoreError::Overtaken);
    }
    let mut are_new = Vec::new();
    for (one, feed) in &write.releases {
        let of = (one, feed.as_ref());
        are_new.push(release::put(connection, scope, of, Source::Signed, write.at).await?);
    }
    Ok(are_new)
}

/// Adds a file that the catalog holds from now on, and says whether it is new.
///
/// # Errors
/// [`StoreError::Full`], or those of the database.
pub async fn add_file(
    connection: &mut Connection,
    scope: Scope,
    file: HeldFile,
) -> Result<bool, StoreError> {
    let insert = "INSERT INTO repository_file (catalog, sha256, bytes, who, added_at)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (catalog, sha256) DO UPDATE SET added_at = $5";
    let known = "SELECT count(*) AS files, CAST(COALESCE(sum(bytes), 0) AS BIGINT) AS bytes,
        CAST(COALESCE(sum(CASE WHEN sha256 = $2 THEN 1 ELSE 0 END), 0) AS BIGINT) AS same
        FROM repository_file WHERE catalog = $1";
    let known = sqlx::query(known).bind(scope.key()).bind(hex(&file.digest));
    let row = known.fetch_one(&mut *connection).await?;
    let is_new = columns::number(&row, "same")? == 0;
    if is_new && columns::number(&row, "files")? >= u64::from(MAX_FILES) {
        return Err(StoreError::Full { what: "files of releases", most: MAX_FILES });
    }
    let bytes = columns::number(&row, "bytes")?.saturating_add(file.bytes);
    if is_new && bytes > MAX_BYTES {
        let most = u32::try_from(MAX_BYTES >> 20).unwrap_or(u32::MAX);
        return Err(StoreError::Full { what: "MiB of files of releases", most });
    }
    sqlx::query(insert)
        .bind(scope.key())
        .bind(hex(&file.digest))
        .bind(stored(file.bytes))
        .bind(file.who)
        .bind(stored(file.added_at))
        .execute(connection)
        .await?;
    Ok(is_new)
}

/// Serves these files from now on, by their paths, and those that were served until now for [`KEPT_S`] more; roots for ever.
///
/// # Errors
/// There is no such repository, or those of the database.
pub async fn serve(
    connection: &mut Connection,
    scope: Scope,
    name: RepositoryName,
    files: BTreeMap<String, ServedFile>,
    at: u64,
) -> Result<(), StoreError> {
    let update = "UPDATE repository SET served_at = $3 WHERE catalog = $1 AND name = $2";
    let update = sqlx::query(update).bind(scope.key()).bind(name.name().to_owned());
    if update.bind(stored(at)).execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(StoreError::Missing("repository"));
    }
    let query = "SELECT path FROM served_file
        WHERE catalog = $1 AND repository = $2 AND until IS NULL";
    let query = sqlx::query(query).bind(scope.key()).bind(name.name().to_owned());
    for row in query.fetch_all(&mut *connection).await? {
        let path = columns::text(&row, "path")?;
        if files.contains_key(&path) || path.ends_with(ROOT) {
            continue;
        }
        let end = "UPDATE served_file SET until = $4
            WHERE catalog = $1 AND repository = $2 AND path = $3";
        let end = sqlx::query(end).bind(scope.key()).bind(name.name().to_owned()).bind(path);
        end.bind(stored(at.saturating_add(KEPT_S))).execute(&mut *connection).await?;
    }
    let put = "INSERT INTO served_file (catalog, repository, path, sha256, bytes)
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (catalog, repository, path)
        DO UPDATE SET sha256 = $4, bytes = $5, until = NULL";
    for (path, file) in files {
        let put = sqlx::query(put).bind(scope.key()).bind(name.name().to_owned()).bind(path);
        let put = put.bind(hex(&file.digest)).bind(stored(file.bytes));
        put.execute(&mut *connection).await?;
    }
    Ok(())
}

async fn forget_unnamed(
    connection: &mut Connection,
    now: u64,
    most: u32,
) -> Result<BTreeSet<[u8; 32]>, StoreError> {
    let mut digests = BTreeSet::new();
    let query = "SELECT catalog, repository, path, sha256 FROM served_file
        WHERE until IS NOT NULL AND until <= $1 LIMIT $2";
    let query = sqlx::query(query).bind(stored(now)).bind(i64::from(most));
    for row in query.fetch_all(&mut *connection).await? {
        digests.insert(digest(&row)?);
        let delete = "DELETE FROM served_file WHERE catalog = $1 AND repository = $2 AND path = $3";
        let delete = sqlx::query(delete).bind(columns::text(&row, "catalog")?);
        let delete = delete.bind(columns::text(&row, "repository")?);
        delete.bind(columns::text(&row, "path")?).execute(&mut *connection).await?;
    }
    let query = "SELECT catalog, sha256 FROM repository_file WHERE added_at <= $1
        AND NOT EXISTS (SELECT 1 FROM served_file WHERE served_file.catalog = repository_file.catalog
            AND served_file.sha256 = repository_file.sha256) LIMIT $2";
    let query = sqlx::query(query).bind(stored(now.saturating_sub(KEPT_S))).bind(i64::from(most));
    for row in query.fetch_all(&mut *connection).await? {
        digests.insert(digest(&row)?);
        let delete = "DELETE FROM repository_file WHERE catalog = $1 AND sha256 = $2";
        let delete = sqlx::query(delete).bind(columns::text(&row, "catalog")?);
        delete.bind(columns::text(&row, "sha256")?).execute(&mut *connection).await?;
    }
    Ok(digests)
}

fn held(row: &AnyRow) -> Result<HeldFile, StoreError> {
    Ok(HeldFile {
        digest: digest(row)?,
        bytes: columns::number(row, "bytes")?,
        who: columns::text(row, "who")?,
        added_at: columns::number(row, "added_at")?,
    })
}

/// The SHA-256 of a row's content.
fn digest(row: &AnyRow) -> Result<[u8; 32], StoreError> {
    unhex(&columns::text(row, "sha256")?).ok_or(StoreError::Damaged("sha256"))
}
