//! The lease: of several instances at one database, one evaluates threats, and writes no more once another does.

use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::detection::watch::Presence;

/// Seconds for which an instance evaluates alone unless it renews that: three rounds.
pub const LEASE_S: u64 = 3 * 60;
/// Seconds by which clocks of instances may differ: an end that lies further ahead is one of a clock that was wrong, and holds nobody up.
const SKEW_S: u64 = 60 * 60;
/// Name of the one lease.
const NAME: &str = "evaluator";

impl Store {
    /// Takes or renews the lease for an instance, and returns when the service was there. Returns nothing while another holds it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hold_lease(
        &self,
        holder: String,
        now: u64,
    ) -> Result<Option<Presence>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let take = "INSERT INTO detection_lease
                        (name, holder, ends_at, away_since, listening_since, evaluated_at)
                    VALUES ($1, $2, $3, 0, 0, 0)
                    ON CONFLICT (name) DO UPDATE SET holder = $2, ends_at = $3
                    WHERE detection_lease.holder = $2 OR detection_lease.ends_at <= $4
                        OR detection_lease.ends_at > $5
                    RETURNING away_since, listening_since, evaluated_at";
                let row = sqlx::query(take)
                    .bind(NAME.to_owned())
                    .bind(holder)
                    .bind(stored(now.saturating_add(LEASE_S)))
                    .bind(stored(now))
                    .bind(stored(now.saturating_add(SKEW_S)))
                    .fetch_optional(connection)
                    .await?;
                let presence = row.map(|row| {
                    Ok::<_, StoreError>(Presence {
                        away_since: columns::number(&row, "away_since")?,
                        listening_since: columns::number(&row, "listening_since")?,
                        evaluated_at: columns::number(&row, "evaluated_at")?,
                    })
                });
                presence.transpose()
            })
        })
        .await
    }

    /// Notes that the holder has evaluated.
    ///
    /// # Errors
    /// [`StoreError::NotHolder`], and those of the database.
    pub async fn evaluated(&self, holder: String, presence: Presence) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let update = "UPDATE detection_lease
                    SET away_since = $3, listening_since = $4, evaluated_at = $5
                    WHERE name = $1 AND holder = $2";
                let update = sqlx::query(update).bind(NAME.to_owned()).bind(holder);
                let update = update.bind(stored(presence.away_since));
                let update = update.bind(stored(presence.listening_since));
                let update = update.bind(stored(presence.evaluated_at));
                let updated = update.execute(connection).await?.rows_affected();
                if updated == 1 { Ok(()) } else { Err(StoreError::NotHolder) }
            })
        })
        .await
    }

    /// Gives the lease up, so that another instance need not wait for its end.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_lease(&self, holder: String) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let update =
                    "UPDATE detection_lease SET ends_at = 0 WHERE name = $1 AND holder = $2";
                let update = sqlx::query(update).bind(NAME.to_owned()).bind(holder);
                update.execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns when threats were evaluated last, in seconds since 1970; 0 where they never were.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn evaluated_at(&self) -> Result<u64, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query("SELECT evaluated_at FROM detection_lease WHERE name = $1");
        let row = query.bind(NAME.to_owned()).fetch_optional(&mut *connection).await?;
        row.map_or(Ok(0), |row| columns::number(&row, "evaluated_at"))
    }
}

/// Demands that the instance still holds the lease, and keeps others from taking it until the end of the transaction.
pub(super) async fn fence(connection: &mut Connection, holder: &str) -> Result<(), StoreError> {
    let update = "UPDATE detection_lease SET ends_at = ends_at WHERE name = $1 AND holder = $2";
    let update = sqlx::query(update).bind(NAME.to_owned()).bind(holder.to_owned());
    let held = update.execute(connection).await?.rows_affected();
    if held == 1 { Ok(()) } else { Err(StoreError::NotHolder) }
}
