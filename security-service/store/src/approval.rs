//! Changes that wait for a second person.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::person::persons_who_may;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::approval::{Decision, Kind, MOST_WAITING, Pending, State};
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::person::{By, PersonId};
use holdfast_service_domain::role::Need;
use holdfast_service_domain::sign_in_settings::StandingGrant;
use sqlx::any::AnyRow;

/// Seconds after its end for which a change that was decided about is kept.
const SHOWN_S: u64 = 90 * 24 * 60 * 60;

/// A change that waits, or did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Its number in the catalog, from 1 on.
    pub number: u64,
    /// What was asked for, and how it stands.
    pub pending: Pending,
    /// To what it is done.
    pub object: String,
    /// Where the second person needs the right to approve it.
    pub extent: Extent,
    /// The request, JSON.
    pub request: String,
    /// Digest of kind, object and request.
    pub digest: [u8; 32],
    /// What the object was when the change was asked for.
    pub seen: String,
    /// When it was asked for, in seconds since 1970.
    pub requested_at: u64,
    /// Who has decided, and when.
    pub decided: Option<(String, u64)>,
}

/// What a change asks for that waits from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// What it is.
    pub kind: Kind,
    /// To what it is done.
    pub object: String,
    /// Where the second person needs the right to approve it.
    pub extent: Extent,
    /// The request, JSON.
    pub request: String,
    /// Digest of kind, object and request.
    pub digest: [u8; 32],
    /// What the object is now.
    pub seen: String,
    /// Who asks.
    pub by: By,
    /// When, in seconds since 1970.
    pub at: u64,
    /// When it ends, in seconds since 1970.
    pub ends_at: u64,
}

impl Store {
    /// Returns changes by number behind `after`: those that wait, or all.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pending_changes(
        &self,
        scope: Scope,
        all: bool,
        after: u64,
        most: u32,
        now: u64,
    ) -> Result<Vec<PendingRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(pending_change),
            " FROM pending_change WHERE catalog = $1 AND number > $2
            AND ($3 = 1 OR (state = 'waiting' AND ends_at > $4)) ORDER BY number LIMIT $5"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after));
        let query = query.bind(i64::from(all)).bind(stored(now)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| pending_of(row, scope)).collect()
    }

    /// Returns a change.
    ///
    /// # Errors
    /// There is none of this number, or those of the database.
    pub async fn pending_change(
        &self,
        scope: Scope,
        number: u64,
    ) -> Result<PendingRow, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query(concat!(
            "SELECT ",
            columns_of!(pending_change),
            " FROM pending_change WHERE catalog = $1 AND number = $2"
        ));
        let query = query.bind(scope.key()).bind(stored(number));
        let row = query.fetch_optional(&mut *connection).await?;
        pending_of(&row.ok_or(StoreError::Missing("change"))?, scope)
    }
}

/// Has a change wait, and returns it with its number. One that is the same and waits already is returned as it is.
///
/// # Errors
/// As many wait as there may be, or those of the database.
pub async fn ask(
    connection: &mut Connection,
    scope: Scope,
    ask: Ask,
) -> Result<PendingRow, StoreError> {
    // Whoever asks at the same moment gets another number.
    let lock = "UPDATE catalog SET revision = revision WHERE id = $1";
    sqlx::query(lock).bind(scope.key()).execute(&mut *connection).await?;
    let forget = "DELETE FROM pending_change WHERE catalog = $1 AND ends_at < $2";
    let forget = sqlx::query(forget).bind(scope.key());
    forget.bind(stored(ask.at.saturating_sub(SHOWN_S))).execute(&mut *connection).await?;
    let same = concat!(
        "SELECT ",
        columns_of!(pending_change),
        " FROM pending_change WHERE catalog = $1 AND state = 'waiting'
        AND ends_at > $2 AND digest = $3 AND seen = $4 AND requester = $5"
    );
    let same = sqlx::query(same)
        .bind(scope.key())
        .bind(stored(ask.at))
        .bind(ask.digest.to_vec())
        .bind(ask.seen.clone())
        .bind(ask.by.person.text().to_owned())
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(same) = same {
        return pending_of(&same, scope);
    }
    let count = "SELECT COUNT(*) AS waiting FROM pending_change
        WHERE catalog = $1 AND state = 'waiting' AND ends_at > $2";
    let count = sqlx::query(count).bind(scope.key()).bind(stored(ask.at));
    let waiting = columns::number(&count.fetch_one(&mut *connection).await?, "waiting")?;
    if waiting >= u64::from(MOST_WAITING) {
        return Err(StoreError::Full { what: "changes that wait", most: MOST_WAITING });
    }
    let last = "SELECT COALESCE(MAX(number), 0) AS last FROM pending_change WHERE catalog = $1";
    let last = sqlx::query(last).bind(scope.key()).fetch_one(&mut *connection).await?;
    let number = columns::number(&last, "last")?.saturating_add(1);
    let insert = concat!(
        "INSERT INTO pending_change (catalog, number, kind, object, product, grp, request,
            digest, seen, requested_by, requester, requested_at, ends_at, state)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'waiting') RETURNING ",
        columns_of!(pending_change)
    );
    let made = sqlx::query(insert)
        .bind(scope.key())
        .bind(stored(number))
        .bind(ask.kind.word().to_owned())
        .bind(ask.object)
        .bind(ask.extent.product().map(str::to_owned))
        .bind(ask.extent.group().map(str::to_owned))
        .bind(ask.request)
        .bind(ask.digest.to_vec())
        .bind(ask.seen)
        .bind(ask.by.name)
        .bind(ask.by.person.text().to_owned())
        .bind(stored(ask.at))
        .bind(stored(ask.ends_at))
        .fetch_one(connection)
        .await?;
    pending_of(&made, scope)
}

/// Decides about a change under its lock, and returns it as it was: what is approved is to be carried out in the same transaction.
///
/// # Errors
/// There is none of this number, it is not decided about (`Approval`), or those of the database.
pub async fn decide(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
    decision: Decision,
    by: &By,
    standing: &[StandingGrant],
    now: u64,
) -> Result<PendingRow, StoreError> {
    let lock = concat!(
        "UPDATE pending_change SET state = state WHERE catalog = $1 AND number = $2
        RETURNING ",
        columns_of!(pending_change)
    );
    let lock = sqlx::query(lock).bind(scope.key()).bind(stored(number));
    let row = lock.fetch_optional(&mut *connection).await?;
    let row = pending_of(&row.ok_or(StoreError::Missing("change"))?, scope)?;
    let need = asker_needs(row.pending.kind);
    let who_may = persons_who_may(connection, scope, need, &row.extent, standing, now).await?;
    let may_still = who_may.contains(&row.pending.requested_by.person);
    let state = row.pending.decide(decision, &by.person, may_still, now)?;
    let update = "UPDATE pending_change SET state = $3, decided_by = $4, decided_at = $5
        WHERE catalog = $1 AND number = $2";
    sqlx::query(update)
        .bind(scope.key())
        .bind(stored(number))
        .bind(state.word().to_owned())
        .bind(by.name.clone())
        .bind(stored(now))
        .execute(connection)
        .await?;
    Ok(row)
}

/// What whoever asks for a change needs.
#[must_use]
pub fn asker_needs(kind: Kind) -> Need {
    match kind {
        Kind::LeastIndex => Need::Operate,
        other => other.need(),
    }
}

fn pending_of(row: &AnyRow, scope: Scope) -> Result<PendingRow, StoreError> {
    let kind = Kind::of_word(&columns::text(row, "kind")?);
    let state = State::of_word(&columns::text(row, "state")?);
    let requested_by = By {
        name: columns::text(row, "requested_by")?,
        person: PersonId::stored(columns::text(row, "requester")?),
    };
    let by = columns::text_if_any(row, "decided_by")?;
    Ok(PendingRow {
        number: columns::number(row, "number")?,
        pending: Pending {
            kind: kind.ok_or(StoreError::Damaged("kind"))?,
            requested_by,
            ends_at: columns::number(row, "ends_at")?,
            state: state.ok_or(StoreError::Damaged("state"))?,
        },
        object: columns::text(row, "object")?,
        extent: columns::extent(row, scope.catalog())?,
        request: columns::text(row, "request")?,
        digest: columns::digest(row, "digest")?,
        seen: columns::text(row, "seen")?,
        requested_at: columns::number(row, "requested_at")?,
        decided: by.zip(columns::number_if_any(row, "decided_at")?),
    })
}
