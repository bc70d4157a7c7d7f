//! Changes by management: the change, its row in the audit log, and the answer for whoever repeats the request, in one
//! transaction.

use crate::audit::{self, Entry};
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::{Connection, Step};
use crate::store::Store;

/// Seconds for which an answer is kept for whoever repeats the request.
pub const KEPT_S: u64 = 24 * 60 * 60;

/// An answer, as it was given or would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, JSON.
    pub body: String,
}

impl Store {
    /// Makes a change, unless the request with this idempotency key was answered before: then the answer is that one.
    ///
    /// # Errors
    /// Those of the change, and [`StoreError::KeyReused`] where the key came with another request.
    pub async fn change<F>(
        &self,
        scope: Scope,
        entry: Entry,
        key: Option<String>,
        work: F,
    ) -> Result<Answer, StoreError>
    where
        F: for<'c> FnOnce(&'c mut Connection, Scope) -> Step<'c, Answer> + Send + 'static,
    {
        self.write(move |connection| {
            Box::pin(async move {
                if let Some(key) = &key
                    && let Some(answer) = earlier(connection, scope, key, &entry).await?
                {
                    return Ok(answer);
                }
                let answer = work(connection, scope).await?;
                if let Some(key) = key {
                    keep(connection, scope, key, &answer).await?;
                }
                audit::append(connection, scope, entry).await?;
                Ok(answer)
            })
        })
        .await
    }
}

/// Takes the key, or returns the answer to the request that has taken it. Another transaction that is about to take it is
/// waited for.
async fn earlier(
    connection: &mut Connection,
    scope: Scope,
    key: &str,
    entry: &Entry,
) -> Result<Option<Answer>, StoreError> {
    let old = sqlx::query("DELETE FROM idempotency WHERE catalog = $1 AND at < $2");
    let before = stored(entry.at.saturating_sub(KEPT_S));
    old.bind(scope.key()).bind(before).execute(&mut *connection).await?;
    // The verb and the object are a part of the request, as its body is.
    let request =
        [entry.verb.as_bytes(), &[0], entry.object.as_bytes(), &[0], &entry.digest].concat();
    let take = "INSERT INTO idempotency (catalog, name, digest, at, status, answer)
        VALUES ($1, $2, $3, $4, 0, '') ON CONFLICT (catalog, name) DO NOTHING";
    let taken = sqlx::query(take)
        .bind(scope.key())
        .bind(key.to_owned())
        .bind(request.clone())
        .bind(stored(entry.at))
        .execute(&mut *connection)
        .await?;
    if taken.rows_affected() > 0 {
        return Ok(None);
    }
    let query = "SELECT digest, status, answer FROM idempotency WHERE catalog = $1 AND name = $2";
    let query = sqlx::query(query).bind(scope.key()).bind(key.to_owned());
    let row = query.fetch_one(&mut *connection).await?;
    if columns::bytes(&row, "digest")? != request {
        return Err(StoreError::KeyReused);
    }
    let status = u16::try_from(columns::number(&row, "status")?);
    let status = status.map_err(|_| StoreError::Damaged("status"))?;
    Ok(Some(Answer { status, body: columns::text(&row, "answer")? }))
}

async fn keep(
    connection: &mut Connection,
    scope: Scope,
    key: String,
    answer: &Answer,
) -> Result<(), StoreError> {
    let update = "UPDATE idempotency SET status = $3, answer = $4 WHERE catalog = $1 AND name = $2";
    sqlx::query(update)
        .bind(scope.key())
        .bind(key)
        .bind(i64::from(answer.status))
        .bind(answer.body.clone())
        .execute(&mut *connection)
        .await?;
    Ok(())
}
