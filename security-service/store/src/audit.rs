//! The audit log: rows are appended in the transaction of what they tell of, one chain a catalog.

use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::audit::{self, Broken, Row};
use sqlx::any::AnyRow;

/// What is written of a row; its number and hash follow from the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name of the token, `service`, or a device's id.
    pub who: String,
    /// What was done, such as `device.quarantine`.
    pub verb: &'static str,
    /// To what.
    pub object: String,
    /// SHA-256 of the request's body.
    pub digest: [u8; 32],
    /// The time, in seconds since 1970.
    pub at: u64,
}

/// Appends a row. The catalog's row, which has the head of the chain, is locked until the end of the transaction.
///
/// # Errors
/// Those of the database.
pub async fn append(
    connection: &mut Connection,
    scope: Scope,
    entry: Entry,
) -> Result<(), StoreError> {
    let next = "UPDATE catalog SET audit_number = audit_number + 1 WHERE id = $1
        RETURNING audit_number, audit_head";
    let head = sqlx::query(next).bind(scope.key()).fetch_optional(&mut *connection).await?;
    let head = head.ok_or(StoreError::Missing("catalog"))?;
    let number = columns::number(&head, "audit_number")?;
    let previous = columns::digest(&head, "audit_head")?;
    let Entry { who, verb, object, digest, at } = entry;
    let row = Row { number, at, who, verb: verb.to_owned(), object, digest };
    let hash = row.hash(&scope.catalog(), &previous).to_vec();
    let insert = "INSERT INTO audit (catalog, number, at, who, verb, object, digest, hash)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(stored(row.number))
        .bind(stored(row.at))
        .bind(row.who)
        .bind(row.verb)
        .bind(row.object)
        .bind(row.digest.to_vec())
        .bind(hash.clone())
        .execute(&mut *connection)
        .await?;
    let update = sqlx::query("UPDATE catalog SET audit_head = $2 WHERE id = $1");
    update.bind(scope.key()).bind(hash).execute(&mut *connection).await?;
    Ok(())
}

impl Store {
    /// Returns at most `most` rows behind the one with number `after`, each with its hash.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn audit_rows(
        &self,
        scope: Scope,
        after: u64,
        most: u32,
    ) -> Result<Vec<(Row, [u8; 32])>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT number, at, who, verb, object, digest, hash FROM audit
            WHERE catalog = $1 AND number > $2 ORDER BY number LIMIT $3";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(row_of).collect()
    }

    /// Returns at most `most` rows before the one with number `before`, the newest first, each with its hash.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn audit_rows_before(
        &self,
        scope: Scope,
        before: u64,
        most: u32,
    ) -> Result<Vec<(Row, [u8; 32])>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT number, at, who, verb, object, digest, hash FROM audit
            WHERE catalog = $1 AND number < $2 ORDER BY number DESC LIMIT $3";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(before)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(row_of).collect()
    }

    /// Follows the whole chain and compares its end with the head, so that rows cut off its end are missed as well. Returns
    /// the number of rows, or what is broken.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn verify_audit(&self, scope: Scope) -> Result<Result<u64, Broken>, StoreError> {
        let query = "SELECT audit_number, audit_head FROM catalog WHERE id = $1";
        let head = {
            let mut connection = self.read().await?;
            sqlx::query(query).bind(scope.key()).fetch_one(&mut *connection).await?
        };
        let until = columns::number(&head, "audit_number")?;
        let (mut after, mut last) = (0, audit::BEGIN);
        while after < until {
            let mut rows = self.audit_rows(scope, after, 1000).await?;
            rows.retain(|(row, _)| row.number <= until);
            if rows.is_empty() {
                return Ok(Err(Broken(after.saturating_add(1))));
            }
            let chained = rows.iter().map(|(row, hash)| (row, *hash));
            match audit::verify(&scope.catalog(), after, last, chained) {
                Ok(hash) => last = hash,
                Err(broken) => return Ok(Err(broken)),
            }
            after = rows.last().map_or(until, |(row, _)| row.number);
        }
        let head = columns::digest(&head, "audit_head")?;
        Ok(if last == head { Ok(until) } else { Err(Broken(until)) })
    }
}

fn row_of(row: &AnyRow) -> Result<(Row, [u8; 32]), StoreError> {
    let of_row = Row {
        number: columns::number(row, "number")?,
        at: columns::number(row, "at")?,
        who: columns::text(row, "who")?,
        verb: columns::text(row, "verb")?,
        object: columns::text(row, "object")?,
        digest: columns::digest(row, "digest")?,
    };
    Ok((of_row, columns::digest(row, "hash")?))
}
