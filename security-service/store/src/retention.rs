//! Retention: rows of what has ended that nobody asks for any more. What devices report has times of its own
//! ([`crate::report`], [`crate::detection`]), and the audit log stays for ever.

use crate::columns::stored;
use crate::error::StoreError;
use crate::store::Store;
use holdfast_service_domain::session::Client;

const DAY_S: u64 = 24 * 60 * 60;
/// Seconds for which a token is kept after its end, so that whoever shows it is told so by its name in the list.
pub const TOKEN_KEPT_S: u64 = 30 * DAY_S;
/// Seconds for which what was found is kept after it was closed: as long as what devices have shown of failures.
pub const FINDING_KEPT_S: u64 = 396 * DAY_S;

/// What is removed: a statement whose first parameter is the time before which a row is old, and the second how many rows at most; and
/// the seconds for which rows are kept.
const OLD: [(&str, u64); 5] = [
    (
        "DELETE FROM idempotency WHERE (catalog, name) IN (
            SELECT catalog, name FROM idempotency WHERE at < $1 LIMIT $2)",
        crate::change::KEPT_S,
    ),
    (
        "DELETE FROM enrolment WHERE number IN (
            SELECT number FROM enrolment WHERE ends_at < $1 LIMIT $2)",
        0,
    ),
    (
        "DELETE FROM ticket WHERE hash IN (
            SELECT hash FROM ticket WHERE ends_at < $1 LIMIT $2)",
        0,
    ),
    (
        "DELETE FROM token WHERE hash IN (
            SELECT hash FROM token WHERE ends_at < $1 LIMIT $2)",
        TOKEN_KEPT_S,
    ),
    (
        "DELETE FROM finding WHERE (catalog, device, kind, closed_at) IN (
            SELECT catalog, device, kind, closed_at FROM finding
            WHERE closed_at > 0 AND closed_at < $1 LIMIT $2)",
        FINDING_KEPT_S,
    ),
];

/// Sessions that nobody has used for long, and those that were begun long ago. The third parameter is what they are in.
const UNUSED_SESSIONS: &str = "DELETE FROM session WHERE hash IN (
    SELECT hash FROM session WHERE client = $3 AND used_at < $1 LIMIT $2)";
const ENDED_SESSIONS: &str = "DELETE FROM session WHERE hash IN (
    SELECT hash FROM session WHERE client = $3 AND began_at < $1 LIMIT $2)";

impl Store {
    /// Removes what has ended long ago, at most so many rows of each kind, and says whether there may be more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn expire_ended(&self, now: u64, most: u32) -> Result<bool, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let mut is_full = false;
                for (delete, kept_s) in OLD {
                    let before = stored(now.saturating_sub(kept_s));
                    let delete = sqlx::query(delete).bind(before).bind(i64::from(most));
                    let deleted = delete.execute(&mut *connection).await?.rows_affected();
                    is_full |= deleted >= u64::from(most);
                }
                for client in Client::ALL {
                    let old =
                        [(UNUSED_SESSIONS, client.idle_s()), (ENDED_SESSIONS, client.absolute_s())];
                    for (delete, kept_s) in old {
                        let before = stored(now.saturating_sub(kept_s));
                        let delete = sqlx::query(delete).bind(before).bind(i64::from(most));
                        let delete = delete.bind(client.word().to_owned());
                        let deleted = delete.execute(&mut *connection).await?.rows_affected();
                        is_full |= deleted >= u64::from(most);
                    }
                }
                Ok(is_full)
            })
        })
        .await
    }
}
