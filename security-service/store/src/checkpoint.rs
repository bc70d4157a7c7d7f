//! Checkpoints of audit logs, as they were signed.

use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::store::Store;
use holdfast_service_domain::checkpoint::Checkpoint;

/// Checkpoints of a catalog that are kept: of half a year, where there is one each hour.
const KEPT: i64 = 4400;

impl Store {
    /// Returns the state of the audit log, to be signed at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn audit_state(&self, scope: Scope, now: u64) -> Result<Checkpoint, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT audit_number, audit_head FROM catalog WHERE id = $1";
        let row = sqlx::query(query).bind(scope.key()).fetch_one(&mut *connection).await?;
        Ok(Checkpoint {
            catalog: scope.catalog(),
            size: columns::number(&row, "audit_number")?,
            head: columns::digest(&row, "audit_head")?,
            at: now,
        })
    }

    /// Keeps a signed checkpoint, unless there is one of as many rows, and forgets the oldest beyond those that are kept.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn keep_checkpoint(
        &self,
        scope: Scope,
        checkpoint: Checkpoint,
        document: String,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let insert = "INSERT INTO audit_checkpoint (catalog, size, made_at, document)
                    VALUES ($1, $2, $3, $4) ON CONFLICT (catalog, size) DO NOTHING";
                let insert = sqlx::query(insert).bind(scope.key()).bind(stored(checkpoint.size));
                let insert = insert.bind(stored(checkpoint.at)).bind(document);
                insert.execute(&mut *connection).await?;
                let forget = "DELETE FROM audit_checkpoint WHERE catalog = $1 AND size < (
                    SELECT COALESCE(MIN(size), 0) FROM (
                        SELECT size FROM audit_checkpoint WHERE catalog = $1
                        ORDER BY size DESC LIMIT $2) AS newest)";
                let forget = sqlx::query(forget).bind(scope.key()).bind(KEPT);
                forget.execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns the newest checkpoint, or that of so many rows, with its number of rows.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn checkpoint(
        &self,
        scope: Scope,
        size: Option<u64>,
    ) -> Result<Option<(u64, String)>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT size, document FROM audit_checkpoint
            WHERE catalog = $1 AND ($2 < 0 OR size = $2) ORDER BY size DESC LIMIT 1";
        let query = sqlx::query(query).bind(scope.key()).bind(size.map_or(-1, stored));
        let row = query.fetch_optional(&mut *connection).await?;
        let read = |row| Ok((columns::number(&row, "size")?, columns::text(&row, "document")?));
        row.map(read).transpose()
    }
}
