//! How far alerts are delivered: for each sink of a catalog the number up to which they are, and who delivers the next one.
//!
//! Alerts of a catalog are numbered without gaps, so one number says what a sink has. Of several replicas the one delivers that
//! holds the sink's lease, which ends by itself where a replica has died.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use sqlx::any::AnyRow;

/// Longest text of a failure that is kept, in bytes.
pub const MAX_FAILURE_BYTES: usize = 200;

/// A kind of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SinkKind {
    /// A webhook of a catalog.
    Webhook,
    /// The installation's mail.
    Mail,
    /// The installation's collector of OpenTelemetry.
    Otlp,
}

impl SinkKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::Mail, Self::Otlp];

    /// Returns the word for it, as the database and metrics have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
            Self::Otlp => "otlp",
        }
    }
}

/// A sink of a catalog. Those of the installation have no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// The catalog.
    pub scope: Scope,
    /// Its kind.
    pub kind: SinkKind,
    /// Its name; empty for one of the installation.
    pub name: String,
}

/// The right to deliver to a sink, until it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The sink.
    pub sink: Sink,
    /// Who holds it: a text that nobody else has.
    pub holder: String,
    /// Number of the last alert that is settled.
    pub number: u64,
    /// How often the next one has failed.
    pub failures: u64,
}

/// An alert, as it waits to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its number in its catalog.
    pub number: u64,
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// Its body, JSON.
    pub body: String,
}

/// What has become of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The sink has taken the alert.
    Delivered {
        /// The alert's number: those before it may be gone.
        number: u64,
    },
    /// It has not, and is asked again at this time, in seconds since 1970.
    Failed {
        /// When it is asked again.
        next_at: u64,
        /// Why it has failed.
        failure: String,
    },
    /// It has not, and is not asked again.
    GivenUp {
        /// The alert's number.
        number: u64,
        /// Why it has failed.
        failure: String,
    },
    /// Alerts up to this one were too old to be delivered.
    Dropped {
        /// The number of the last of them.
        until: u64,
        /// How many they were.
        alerts: u64,
    },
}

/// How the deliveries to a sink went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Alerts that it has taken.
    pub delivered: u64,
    /// Alerts that were given up.
    pub given_up: u64,
    /// Alerts that were dropped, as too old.
    pub dropped: u64,
    /// How often the alert has failed that is tried next.
    pub failures: u64,
    /// When that is tried again, in seconds since 1970.
    pub next_at: Option<u64>,
    /// When it has taken one last, in seconds since 1970.
    pub delivered_at: Option<u64>,
    /// When it has failed last, in seconds since 1970.
    pub failed_at: Option<u64>,
    /// Why it has failed last.
    pub failure: Option<String>,
}

impl Store {
    /// Lists sinks of a kind for which an alert waits that may be tried now, and which nobody holds; those that have waited longest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn due_sinks(
        &self,
        kind: SinkKind,
        now: u64,
        most: u32,
    ) -> Result<Vec<Sink>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT d.catalog AS catalog, d.name AS name FROM alert_delivery d
            WHERE d.kind = $1 AND d.next_at <= $2 AND d.lease_until <= $2
            AND EXISTS (SELECT 1 FROM alert a WHERE a.catalog = d.catalog AND a.number > d.number)
            ORDER BY d.next_at, d.catalog, d.name LIMIT $3";
        let query = sqlx::query(query).bind(kind.word()).bind(stored(now)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        let sink = |row: &AnyRow| {
            let scope = Scope::new(columns::catalog(row, "catalog")?);
            Ok(Sink { scope, kind, name: columns::text(row, "name")? })
        };
        rows.iter().map(sink).collect()
    }

    /// Makes the rows of a sink of the installation, one for each catalog that has none. It begins with the first alert.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn add_installation_sink(&self, kind: SinkKind) -> Result<(), StoreError> {
        let lacking = "SELECT id FROM catalog c WHERE NOT EXISTS
            (SELECT 1 FROM alert_delivery d WHERE d.catalog = c.id AND d.kind = $1 AND d.name = '')";
        let rows = {
            let mut connection = self.read().await?;
            sqlx::query(lacking).bind(kind.word()).fetch_all(&mut *connection).await?
        };
        let scopes = rows.iter().map(|row| columns::catalog(row, "id").map(Scope::new));
        let scopes: Vec<Scope> = scopes.collect::<Result<_, _>>()?;
        if scopes.is_empty() {
            return Ok(());
        }
        self.write(move |connection| {
            Box::pin(async move {
                for scope in scopes {
                    let sink = Sink { scope, kind, name: String::new() };
                    add(connection, &sink, 0).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Takes the lease of a sink for `seconds`, unless another holds it or it is not due any more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_lease(
        &self,
        sink: Sink,
        holder: String,
        now: u64,
        seconds: u64,
    ) -> Result<Option<Lease>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let take = "UPDATE alert_delivery SET lease = $4, lease_until = $5
                    WHERE catalog = $1 AND kind = $2 AND name = $3
                    AND next_at <= $6 AND lease_until <= $6 RETURNING number, failures";
                let row = sqlx::query(take)
                    .bind(sink.scope.key())
                    .bind(sink.kind.word())
                    .bind(sink.name.clone())
                    .bind(holder.clone())
                    .bind(stored(now.saturating_add(seconds)))
                    .bind(stored(now))
                    .fetch_optional(connection)
                    .await?;
                let Some(row) = row else { return Ok(None) };
                let number = columns::number(&row, "number")?;
                let failures = columns::number(&row, "failures")?;
                Ok(Some(Lease { sink, holder, number, failures }))
            })
        })
        .await
    }

    /// Gives a lease back.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_delivery_lease(&self, lease: Lease) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let end = "UPDATE alert_delivery SET lease = '', lease_until = 0
                    WHERE catalog = $1 AND kind = $2 AND name = $3 AND lease = $4";
                sqlx::query(end)
                    .bind(lease.sink.scope.key())
                    .bind(lease.sink.kind.word())
                    .bind(lease.sink.name)
                    .bind(lease.holder)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns the alert of a catalog behind the one with this number.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn alert_after(
        &self,
        scope: Scope,
        number: u64,
    ) -> Result<Option<Alert>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT number, at, body FROM alert WHERE catalog = $1 AND number > $2
            ORDER BY number LIMIT 1";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(number));
        let row = query.fetch_optional(&mut *connection).await?;
        let alert = |row: AnyRow| {
            let (number, at) = (columns::number(&row, "number")?, columns::number(&row, "at")?);
            Ok(Alert { number, at, body: columns::text(&row, "body")? })
        };
        row.map(alert).transpose()
    }

    /// Returns the number of the last alert behind the one with this number that was made before `at`, and how many they are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn old_alerts(
        &self,
        scope: Scope,
        number: u64,
        at: u64,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT COALESCE(MAX(number), 0) AS last, COUNT(*) AS rows FROM alert
            WHERE catalog = $1 AND number > $2 AND at < $3";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(number)).bind(stored(at));
        let row = query.fetch_one(&mut *connection).await?;
        let (last, rows) = (columns::number(&row, "last")?, columns::number(&row, "rows")?);
        Ok((rows > 0).then_some((last, rows)))
    }

    /// Writes what has become of the next alert, and has the lease for `seconds` more. Returns it, or nothing where it has passed to
    /// another, or the sink is gone.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn settle(
        &self,
        lease: Lease,
        settled: Settled,
        now: u64,
        seconds: u64,
    ) -> Result<Option<Lease>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move { settle(connection, lease, settled, now, seconds).await })
        })
        .await
    }

    /// Returns how the deliveries of a catalog's alerts went: for each sink its kind, its name and its record.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delivery_records(
        &self,
        scope: Scope,
    ) -> Result<Vec<(SinkKind, String, Record)>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(alert_delivery),
            " FROM alert_delivery WHERE catalog = $1 ORDER BY kind, name"
        );
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        let of = |row: &AnyRow| {
            let word = columns::text(row, "kind")?;
            let kind = SinkKind::ALL.into_iter().find(|kind| kind.word() == word);
            let kind = kind.ok_or(StoreError::Damaged("kind"))?;
            Ok((kind, columns::text(row, "name")?, record(row)?))
        };
        rows.iter().map(of).collect()
    }

    /// Returns how deliveries to a sink went.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delivery_record(&self, sink: &Sink) -> Result<Record, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(alert_delivery),
            " FROM alert_delivery WHERE catalog = $1 AND kind = $2 AND name = $3"
        );
        let query = sqlx::query(query).bind(sink.scope.key()).bind(sink.kind.word());
        let row = query.bind(sink.name.clone()).fetch_optional(&mut *connection).await?;
        row.as_ref().map(record).transpose().map(Option::unwrap_or_default)
    }
}

fn record(row: &AnyRow) -> Result<Record, StoreError> {
    let failures = columns::number(row, "failures")?;
    let next_at = columns::number(row, "next_at")?;
    Ok(Record {
        delivered: columns::number(row, "delivered")?,
        given_up: columns::number(row, "given_up")?,
        dropped: columns::number(row, "dropped")?,
        failures,
        next_at: (failures > 0).then_some(next_at),
        delivered_at: columns::number_if_any(row, "delivered_at")?,
        failed_at: columns::number_if_any(row, "failed_at")?,
        failure: columns::text_if_any(row, "failure")?,
    })
}

async fn settle(
    connection: &mut Connection,
    lease: Lease,
    settled: Settled,
    now: u64,
    seconds: u64,
) -> Result<Option<Lease>, StoreError> {
    let [mut delivered, mut given_up, mut dropped] = [0; 3];
    let (number, failures, next_at, failure) = match settled {
        Settled::Delivered { number } => {
            delivered = 1;
            (number, 0, now, None)
        }
        Settled::Failed { next_at, failure } => {
            (lease.number, lease.failures.saturating_add(1), next_at, Some(failure))
        }
        Settled::GivenUp { number, failure } => {
            given_up = 1;
            (number, 0, now, Some(failure))
        }
        Settled::Dropped { until, alerts } => {
            dropped = alerts;
            (until, 0, now, None)
        }
    };
    let update = "UPDATE alert_delivery SET number = $6, failures = $7, next_at = $8,
        lease_until = $9, delivered = delivered + $10, given_up = given_up + $11,
        dropped = dropped + $12, delivered_at = CASE WHEN $10 > 0 THEN $13 ELSE delivered_at END,
        failed_at = CASE WHEN $14 = '' THEN failed_at ELSE $13 END,
        failure = CASE WHEN $14 = '' THEN failure ELSE $14 END
        WHERE catalog = $1 AND kind = $2 AND name = $3 AND lease = $4 AND number = $5";
    let written = sqlx::query(update)
        .bind(lease.sink.scope.key())
        .bind(lease.sink.kind.word())
        .bind(lease.sink.name.clone())
        .bind(lease.holder.clone())
        .bind(stored(lease.number))
        .bind(stored(number))
        .bind(stored(failures))
        .bind(stored(next_at))
        .bind(stored(now.saturating_add(seconds)))
        .bind(stored(delivered))
        .bind(stored(given_up))
        .bind(stored(dropped))
        .bind(stored(now))
        .bind(cut(failure.unwrap_or_default()))
        .execute(connection)
        .await?;
    Ok((written.rows_affected() == 1).then_some(Lease { number, failures, ..lease }))
}

/// Returns the beginning of a text, as much as is kept.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_FAILURE_BYTES));
    text
}

/// Makes the row of a sink, which has nothing up to this number to wait for. One that is there stays.
pub(crate) async fn add(
    connection: &mut Connection,
    sink: &Sink,
    number: u64,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO alert_delivery (catalog, kind, name, number, failures, next_at,
        lease, lease_until, delivered, given_up, dropped)
        VALUES ($1, $2, $3, $4, 0, 0, '', 0, 0, 0, 0) ON CONFLICT (catalog, kind, name) DO NOTHING";
    sqlx::query(insert)
        .bind(sink.scope.key())
        .bind(sink.kind.word())
        .bind(sink.name.clone())
        .bind(stored(number))
        .execute(connection)
        .await?;
    Ok(())
}

/// Removes the row of a sink.
pub(crate) async fn remove(connection: &mut Connection, sink: &Sink) -> Result<(), StoreError> {
    let delete = "DELETE FROM alert_delivery WHERE catalog = $1 AND kind = $2 AND name = $3";
    let delete = sqlx::query(delete).bind(sink.scope.key()).bind(sink.kind.word());
    delete.bind(sink.name.clone()).execute(connection).await?;
    Ok(())
}
