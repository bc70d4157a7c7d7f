//! Counts of a catalog for whoever looks at all of it: devices by what was attested last, days, findings, and crashes that are new.

use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::store::Store;
use holdfast_service_domain::crash::GroupId;
use holdfast_service_domain::device::State;
use holdfast_service_domain::grade::Grade;
use sqlx::any::AnyRow;

const DAY_S: u64 = 24 * 60 * 60;

/// Devices that have the same of everything that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCount {
    /// The state.
    pub state: State,
    /// Word for the verdict on the last check-in.
    pub verdict: Option<String>,
    /// True if they were seen since the time that was asked for.
    pub is_fresh: bool,
    /// True while they are quarantined.
    pub is_quarantined: bool,
    /// Version of the release that was measured last.
    pub version: Option<String>,
    /// Its rollback index.
    pub index: Option<u64>,
    /// The grade that they were enrolled with.
    pub grade: Option<Grade>,
    /// How many they are.
    pub devices: u64,
}

/// A number of devices on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayCount {
    /// The day, counted from 1970 on.
    pub day: u64,
    /// How many devices.
    pub devices: u64,
}

impl Store {
    /// Counts devices by all that [`DeviceCount`] has; fresh are those that were seen at `since` or later, in seconds since 1970. It
    /// reads every device of the catalog once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn device_counts(
        &self,
        scope: Scope,
        since: u64,
    ) -> Result<Vec<DeviceCount>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT state, verdict, fresh, quarantined, version, rollback_index, grade,
                COUNT(*) AS devices
            FROM (SELECT state, verdict, quarantined, version, rollback_index, grade,
                    CAST(CASE WHEN seen_at >= $2 THEN 1 ELSE 0 END AS BIGINT) AS fresh
                FROM device WHERE catalog = $1) AS d
            GROUP BY state, verdict, fresh, quarantined, version, rollback_index, grade";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(since));
        query.fetch_all(&mut *connection).await?.iter().map(device_count_of).collect()
    }

    /// Counts open findings about devices by the word for their kind.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open_findings(&self, scope: Scope) -> Result<Vec<(String, u64)>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT kind, COUNT(*) AS findings FROM finding
            WHERE catalog = $1 AND closed_at = 0 GROUP BY kind ORDER BY kind";
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        let of =
            |row: &AnyRow| Ok((columns::text(row, "kind")?, columns::number(row, "findings")?));
        rows.iter().map(of).collect()
    }

    /// Counts open crash groups: all of them, and those that were seen first at `since` or later, in seconds since 1970.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn open_crashes(&self, scope: Scope, since: u64) -> Result<(u64, u64), StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT COUNT(*) AS open, COUNT(CASE WHEN first_at >= $2 THEN 1 END) AS fresh
            FROM crash_group WHERE catalog = $1 AND closed_at = 0";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(since));
        let row = query.fetch_one(&mut *connection).await?;
        Ok((columns::number(&row, "open")?, columns::number(&row, "fresh")?))
    }

    /// Returns how many devices ran a component on each day from `since` on, the oldest first: of one product, or of all. Days on which
    /// none did are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn running_days(
        &self,
        scope: Scope,
        product: Option<&str>,
        component: &str,
        since: u64,
    ) -> Result<Vec<DayCount>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT day, CAST(SUM(devices) AS BIGINT) AS devices FROM exposure
            WHERE catalog = $1 AND day >= $2 AND component = $3 AND ($4 = 0 OR product = $5)
            GROUP BY day ORDER BY day";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(since / DAY_S));
        let query = query.bind(component.to_owned()).bind(i64::from(product.is_some()));
        let query = query.bind(product.unwrap_or_default().to_owned());
        query.fetch_all(&mut *connection).await?.iter().map(day_count_of).collect()
    }

    /// Returns on how many devices a crash group was seen for the first time, for each day from `since` on, the oldest first. Days with
    /// none are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn crash_days(
        &self,
        scope: Scope,
        id: GroupId,
        since: u64,
    ) -> Result<Vec<DayCount>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT day, COUNT(*) AS devices
            FROM (SELECT first_at / 86400 AS day FROM crash_device
                WHERE catalog = $1 AND crash = $2 AND first_at >= $3) AS d
            GROUP BY day ORDER BY day";
        let query = sqlx::query(query).bind(scope.key()).bind(id.to_string()).bind(stored(since));
        query.fetch_all(&mut *connection).await?.iter().map(day_count_of).collect()
    }
}

fn device_count_of(row: &AnyRow) -> Result<DeviceCount, StoreError> {
    let state = State::of_word(&columns::text(row, "state")?);
    Ok(DeviceCount {
        state: state.ok_or(StoreError::Damaged("state"))?,
        verdict: columns::text_if_any(row, "verdict")?,
        is_fresh: columns::number(row, "fresh")? > 0,
        is_quarantined: columns::number(row, "quarantined")? > 0,
        version: columns::text_if_any(row, "version")?,
        index: columns::number_if_any(row, "rollback_index")?,
        grade: columns::grade_if_any(row, "grade")?,
        devices: columns::number(row, "devices")?,
    })
}

fn day_count_of(row: &AnyRow) -> Result<DayCount, StoreError> {
    Ok(DayCount { day: columns::number(row, "day")?, devices: columns::number(row, "devices")? })
}
