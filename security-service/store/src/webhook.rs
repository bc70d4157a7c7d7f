//! Webhooks of catalogs: where alerts go, and the wrapped secrets that they are signed by.

use crate::alert_delivery::{self, Record, Sink, SinkKind};
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use sqlx::any::AnyRow;

/// Most webhooks of a catalog.
pub const MAX_WEBHOOKS: u32 = 16;

/// A webhook.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Its secret, wrapped.
    pub wrapped_secret: Vec<u8>,
    /// Name of the token that has made it.
    pub who: String,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Webhook {
    /// Returns the sink that it is.
    #[must_use]
    pub fn sink(scope: Scope, name: &str) -> Sink {
        Sink { scope, kind: SinkKind::Webhook, name: name.to_owned() }
    }
}

impl Store {
    /// Returns the webhooks of a catalog by name, each with how its deliveries went.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn webhooks(&self, scope: Scope) -> Result<Vec<(Webhook, Record)>, StoreError> {
        let rows = {
            let mut connection = self.read().await?;
            let query = concat!(
                "SELECT ",
                columns_of!(webhook),
                " FROM webhook WHERE catalog = $1 ORDER BY name"
            );
            sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?
        };
        let mut webhooks = Vec::new();
        for row in &rows {
            let webhook = webhook_of(row)?;
            let record = self.delivery_record(&Webhook::sink(scope, &webhook.name)).await?;
            webhooks.push((webhook, record));
        }
        Ok(webhooks)
    }

    /// Returns a webhook.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn webhook(&self, scope: Scope, name: &str) -> Result<Option<Webhook>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(webhook),
            " FROM webhook WHERE catalog = $1 AND name = $2"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(name.to_owned());
        query.fetch_optional(&mut *connection).await?.as_ref().map(webhook_of).transpose()
    }

    /// Notes that a webhook is tested now, unless it was within the last `seconds`. Returns whether it may be.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_webhook_test(
        &self,
        scope: Scope,
        name: String,
        now: u64,
        seconds: u64,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let update = "UPDATE webhook SET tested_at = $3
                    WHERE catalog = $1 AND name = $2 AND tested_at <= $4";
                let updated = sqlx::query(update)
                    .bind(scope.key())
                    .bind(name)
                    .bind(stored(now))
                    .bind(stored(now.saturating_sub(seconds)))
                    .execute(connection)
                    .await?;
                Ok(updated.rows_affected() == 1)
            })
        })
        .await
    }
}

/// Adds a webhook, which gets the alerts that come from now on.
///
/// # Errors
/// There is one of this name, or as many as there may be, or those of the database.
pub async fn add(
    connection: &mut Connection,
    scope: Scope,
    webhook: Webhook,
) -> Result<(), StoreError> {
    let query = "SELECT (SELECT count(*) FROM webhook WHERE catalog = $1) AS webhooks,
        (SELECT count(*) FROM webhook WHERE catalog = $1 AND name = $2) AS named,
        (SELECT COALESCE(MAX(number), 0) FROM alert WHERE catalog = $1) AS newest,
        (SELECT COALESCE(MAX(last_alert), 0) FROM detection WHERE catalog = $1) AS told";
    let query = sqlx::query(query).bind(scope.key()).bind(webhook.name.clone());
    let row = query.fetch_one(&mut *connection).await?;
    if columns::number(&row, "named")? > 0 {
        return Err(StoreError::There("webhook"));
    }
    if columns::number(&row, "webhooks")? >= u64::from(MAX_WEBHOOKS) {
        return Err(StoreError::Full { what: "webhooks", most: MAX_WEBHOOKS });
    }
    let sink = Webhook::sink(scope, &webhook.name);
    let insert = "INSERT INTO webhook (catalog, name, url, secret, who, created_at, tested_at)
        VALUES ($1, $2, $3, $4, $5, $6, 0)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(webhook.name)
        .bind(webhook.url)
        .bind(webhook.wrapped_secret)
        .bind(webhook.who)
        .bind(stored(webhook.created_at))
        .execute(&mut *connection)
        .await?;
    // Alerts are removed after a while, and their numbers are not given away again.
    let newest = columns::number(&row, "newest")?.max(columns::number(&row, "told")?);
    alert_delivery::add(connection, &sink, newest).await
}

/// Removes a webhook. What waits for it is not delivered.
///
/// # Errors
/// There is none of this name, or those of the database.
pub async fn remove(
    connection: &mut Connection,
    scope: Scope,
    name: &str,
) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM webhook WHERE catalog = $1 AND name = $2");
    let deleted = delete.bind(scope.key()).bind(name.to_owned()).execute(&mut *connection).await?;
    if deleted.rows_affected() == 0 {
        return Err(StoreError::Missing("webhook"));
    }
    alert_delivery::remove(connection, &Webhook::sink(scope, name)).await
}

fn webhook_of(row: &AnyRow) -> Result<Webhook, StoreError> {
    Ok(Webhook {
        name: columns::text(row, "name")?,
        url: columns::text(row, "url")?,
        wrapped_secret: columns::bytes(row, "secret")?,
        who: columns::text(row, "who")?,
        created_at: columns::number(row, "created_at")?,
    })
}
