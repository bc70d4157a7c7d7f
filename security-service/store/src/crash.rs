//! Crash groups: added to by reports, closed and opened again by people, and how much each version has run.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::claims::Claims;
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::crash::{
    Algorithm, Exposure, GroupId, GroupState, SeenVersion, Subject, Taken, is_gone, take,
};
use holdfast_service_domain::report_batch::Occurrence;
use holdfast_types::Version;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// Seconds for which counters, and how much versions have run, are kept: 13 months.
pub const KEPT_S: u64 = 396 * DAY_S;
/// Most groups of a product.
pub const MOST_GROUPS: u64 = 4096;
/// Most versions of a group of which it is kept how often it was seen in each.
pub const MOST_VERSIONS: u64 = 64;
/// Seconds within which a device was seen that counts as one that runs: each checks in once a day.
const RUNS_S: u64 = DAY_S + 2 * 60 * 60;
/// Devices that are read at once.
const DEVICES_AT_ONCE: u32 = 1000;
const DAY_S: u64 = 24 * 60 * 60;

/// What a device was put into when it reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reporter {
    pub(crate) device: DeviceId,
    /// Empty where it is in no product.
    pub(crate) product: String,
    pub(crate) group: String,
}

/// A crash group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrashRow {
    /// Its id.
    pub id: GroupId,
    /// The product whose devices have it; empty for devices that are in none.
    pub product: String,
    /// What has made its key.
    pub algorithm: Algorithm,
    /// The component, as [`Subject`] writes it.
    pub component: String,
    /// The component's name.
    pub name: String,
    /// How it fails.
    pub failure: String,
    /// Where it fails.
    pub place: Option<String>,
    /// The function that has called the one which fails.
    pub called_from: Option<String>,
    /// What is kept of it.
    pub state: GroupState,
    /// When somebody has closed it, in seconds since 1970.
    pub closed_at: Option<u64>,
}

/// How much versions have run, by product and component.
pub type Exposures = BTreeMap<(String, String), Vec<Exposure>>;

impl Store {
    /// Returns crash groups by id behind `after`, open ones alone unless `closed`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn crashes(
        &self,
        scope: Scope,
        closed: bool,
        after: &str,
        most: u32,
    ) -> Result<Vec<CrashRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(crash_group),
            " FROM crash_group
            WHERE catalog = $1 AND id > $2 AND ($3 = 1 OR closed_at = 0) ORDER BY id LIMIT $4"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(after.to_owned());
        let query = query.bind(i64::from(closed)).bind(i64::from(most));
        query.fetch_all(&mut *connection).await?.iter().map(crash_of).collect()
    }

    /// Returns crash groups that were seen last before `before`, its second and id, the newest first, and open ones alone unless `closed`. No index
    /// has this order: of each product there are [`MOST_GROUPS`] at most.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn newest_crashes(
        &self,
        scope: Scope,
        closed: bool,
        before: (u64, &str),
        most: u32,
    ) -> Result<Vec<CrashRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(crash_group),
            " FROM crash_group
            WHERE catalog = $1 AND (last_at, id) < ($2, $3) AND ($4 = 1 OR closed_at = 0)
            ORDER BY last_at DESC, id DESC LIMIT $5"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(stored(before.0));
        let query = query.bind(before.1.to_owned()).bind(i64::from(closed));
        query
            .bind(i64::from(most))
            .fetch_all(&mut *connection)
            .await?
            .iter()
            .map(crash_of)
            .collect()
    }

    /// Returns a crash group, and what it has in each version.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn crash(
        &self,
        scope: Scope,
        id: GroupId,
    ) -> Result<Option<(CrashRow, Vec<SeenVersion>)>, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query(concat!(
            "SELECT ",
            columns_of!(crash_group),
            " FROM crash_group WHERE catalog = $1 AND id = $2"
        ));
        let query = query.bind(scope.key()).bind(id.to_string());
        let Some(row) = query.fetch_optional(&mut *connection).await? else {
            return Ok(None);
        };
        let query = concat!(
            "SELECT ",
            columns_of!(crash_version),
            " FROM crash_version WHERE catalog = $1 AND crash = $2"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(id.to_string());
        let rows = query.fetch_all(&mut *connection).await?;
        let versions: Result<Vec<SeenVersion>, StoreError> = rows.iter().map(seen_of).collect();
        let mut versions = versions?;
        versions.sort_by_key(|seen| seen.version);
        Ok(Some((crash_of(&row)?, versions)))
    }

    /// Returns how much each version of each component has run.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn exposures(&self, scope: Scope) -> Result<Exposures, StoreError> {
        let mut connection = self.read().await?;
        let query =
            "SELECT product, component, version, CAST(SUM(devices) AS BIGINT) AS device_days
            FROM exposure WHERE catalog = $1 GROUP BY product, component, version";
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        let mut all = Exposures::new();
        for row in &rows {
            let of = (columns::text(row, "product")?, columns::text(row, "component")?);
            all.entry(of).or_default().push(exposure_of(row)?);
        }
        Ok(all)
    }

    /// Counts for today which versions devices run, as they have attested it. Of several counts of a day the highest stays.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_exposure(&self, scope: Scope, now: u64) -> Result<(), StoreError> {
        let mut running: BTreeMap<(String, String, Version), u64> = BTreeMap::new();
        let mut after = String::new();
        loop {
            let rows = {
                let mut connection = self.read().await?;
                let query = "SELECT id, product, version, claims FROM device
                    WHERE catalog = $1 AND id > $2 AND seen_at >= $3 AND version IS NOT NULL
                    ORDER BY id LIMIT $4";
                let query = sqlx::query(query).bind(scope.key()).bind(after.clone());
                let query = query.bind(stored(now.saturating_sub(RUNS_S)));
                query.bind(i64::from(DEVICES_AT_ONCE)).fetch_all(&mut *connection).await?
            };
            for row in &rows {
                let product = columns::text_if_any(row, "product")?.unwrap_or_default();
                let mut count = |component: String, version| {
                    let count = running.entry((product.clone(), component, version)).or_insert(0);
                    *count = count.saturating_add(1);
                };
                count(Subject::Os.to_string(), columns::version(row, "version")?);
                let claims = columns::bytes_if_any(row, "claims")?;
                let claims = claims.and_then(|bytes| Claims::read(&bytes).ok());
                for app in claims.into_iter().flat_map(|claims| claims.apps) {
                    count(Subject::App(app.id).to_string(), app.version);
                }
            }
            match rows.last() {
                Some(last) => after = columns::text(last, "id")?,
                None => break,
            }
        }
        let day = now / DAY_S;
        self.write(move |connection| {
            Box::pin(async move {
                for ((product, component, version), devices) in running {
                    let put = "INSERT INTO exposure (catalog, day, product, component, version, devices)
                        VALUES ($1, $2, $3, $4, $5, $6)
                        ON CONFLICT (catalog, day, product, component, version) DO UPDATE SET
                        devices = CASE WHEN exposure.devices > $6 THEN exposure.devices ELSE $6 END";
                    sqlx::query(put)
                        .bind(scope.key())
                        .bind(stored(day))
                        .bind(product)
                        .bind(component)
                        .bind(version.to_string())
                        .bind(stored(devices))
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }
}

/// Closes a group, as of the newest version that it was seen in.
///
/// # Errors
/// There is no such group that is open, or those of the database.
pub async fn close(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
    at: u64,
) -> Result<(), StoreError> {
    let update = "UPDATE crash_group SET closed_version = last_version, closed_at = $3
        WHERE catalog = $1 AND id = $2 AND closed_at = 0";
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_string()).bind(stored(at));
    let closed = update.execute(connection).await?.rows_affected();
    if closed == 0 { Err(StoreError::Missing("open crash group")) } else { Ok(()) }
}

/// Opens a closed group again.
///
/// # Errors
/// There is no such group that is closed, or those of the database.
pub async fn reopen(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
) -> Result<(), StoreError> {
    let update = "UPDATE crash_group SET closed_version = NULL, closed_at = 0
        WHERE catalog = $1 AND id = $2 AND closed_at > 0";
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_string());
    let opened = update.execute(connection).await?.rows_affected();
    if opened == 0 { Err(StoreError::Missing("closed crash group")) } else { Ok(()) }
}

/// Occurrences with their groups, in the order in which rows of groups are locked.
pub(crate) fn in_order(product: &str, occurrences: &[Occurrence]) -> Vec<(GroupId, Occurrence)> {
    let with_group = |occurrence: &Occurrence| (occurrence.key.group(product), occurrence.clone());
    let mut all: Vec<(GroupId, Occurrence)> = occurrences.iter().map(with_group).collect();
    all.sort_by_key(|(id, occurrence)| (*id, occurrence.version));
    all
}

/// Adds failures of a device to their group, and says whether there was room for it.
pub(crate) async fn add(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    (id, occurrence): &(GroupId, Occurrence),
    now: u64,
) -> Result<bool, StoreError> {
    let mut group = locked(connection, scope, *id).await?;
    if group.is_none() {
        if !make_room(connection, scope, &reporter.product).await? {
            return Ok(false);
        }
        if !insert(connection, scope, reporter, *id, occurrence, now).await? {
            // Another device of the product was faster.
            group = locked(connection, scope, *id).await?;
        }
    }
    let version = occurrence.version;
    let before = version_of_device(connection, scope, *id, reporter).await?;
    let mut taken = Taken {
        version,
        at: now,
        count: occurrence.count,
        is_new_device: before.is_none(),
        was_gone: false,
    };
    if let Some(group) = &group
        && version > group.last_version
    {
        let exposures = exposures_of(connection, scope, reporter, occurrence).await?;
        taken.was_gone = is_gone(group, &exposures);
    }
    let is_new_in_version = before.is_none_or(|before| before != version);
    note_device(connection, scope, *id, reporter, &taken).await?;
    note_version(connection, scope, *id, &taken, is_new_in_version).await?;
    if let Some(group) = group {
        update(connection, scope, *id, &take(Some(group), &taken)).await?;
    }
    Ok(true)
}

/// Returns what is kept of a group, and locks its row until the end of the transaction.
async fn locked(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
) -> Result<Option<GroupState>, StoreError> {
    // An update that changes nothing takes the row's lock on PostgreSQL; SQLite has one writer.
    let query = concat!(
        "UPDATE crash_group SET events = events WHERE catalog = $1 AND id = $2 RETURNING ",
        columns_of!(crash_group)
    );
    let query = sqlx::query(query).bind(scope.key()).bind(id.to_string());
    query.fetch_optional(connection).await?.as_ref().map(state_of).transpose()
}

/// Makes room for a group where the product has as many as it may: the one goes that one device alone has had, and longest ago. So a
/// device that makes failures up cannot displace what others have.
async fn make_room(
    connection: &mut Connection,
    scope: Scope,
    product: &str,
) -> Result<bool, StoreError> {
    let query = "SELECT COUNT(*) AS groups FROM crash_group WHERE catalog = $1 AND product = $2";
    let query = sqlx::query(query).bind(scope.key()).bind(product.to_owned());
    let groups = columns::number(&query.fetch_one(&mut *connection).await?, "groups")?;
    if groups < MOST_GROUPS {
        return Ok(true);
    }
    let delete = "DELETE FROM crash_group WHERE catalog = $1 AND id = (
            SELECT id FROM crash_group WHERE catalog = $1 AND product = $2 AND devices = 1
            ORDER BY last_at, id LIMIT 1)
        RETURNING id";
    let delete = sqlx::query(delete).bind(scope.key()).bind(product.to_owned());
    let Some(row) = delete.fetch_optional(&mut *connection).await? else {
        return Ok(false);
    };
    let id = columns::text(&row, "id")?;
    for delete in [
        "DELETE FROM crash_version WHERE catalog = $1 AND crash = $2",
        "DELETE FROM crash_device WHERE catalog = $1 AND crash = $2",
    ] {
        let delete = sqlx::query(delete).bind(scope.key()).bind(id.clone());
        delete.execute(&mut *connection).await?;
    }
    Ok(true)
}

/// Begins a group, unless another transaction has.
async fn insert(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    id: GroupId,
    occurrence: &Occurrence,
    now: u64,
) -> Result<bool, StoreError> {
    let Occurrence { key, version, failure, name, count } = occurrence;
    let insert =
        "INSERT INTO crash_group (catalog, id, product, algorithm, component, name, failure,
            place, called_from, first_version, last_version, first_at, last_at, events, devices,
            closed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $11, $12, 1, 0)
        ON CONFLICT (catalog, id) DO NOTHING";
    let inserted = sqlx::query(insert)
        .bind(scope.key())
        .bind(id.to_string())
        .bind(reporter.product.clone())
        .bind(stored(Algorithm::V1.number()))
        .bind(key.subject().to_string())
        .bind(name.clone())
        .bind(failure.clone())
        .bind(key.place())
        .bind(key.called_from().map(str::to_owned))
        .bind(version.to_string())
        .bind(stored(now))
        .bind(stored(*count))
        .execute(connection)
        .await?;
    Ok(inserted.rows_affected() == 1)
}

async fn update(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
    group: &GroupState,
) -> Result<(), StoreError> {
    let update = "UPDATE crash_group SET first_version = $3, last_version = $4, first_at = $5,
            last_at = $6, events = $7, devices = $8, closed_version = $9,
            closed_at = CASE WHEN $10 = 1 THEN closed_at ELSE 0 END, regressed_at = $11
        WHERE catalog = $1 AND id = $2";
    sqlx::query(update)
        .bind(scope.key())
        .bind(id.to_string())
        .bind(group.first_version.to_string())
        .bind(group.last_version.to_string())
        .bind(stored(group.first_at))
        .bind(stored(group.last_at))
        .bind(stored(group.events))
        .bind(stored(group.devices))
        .bind(group.closed.map(|version| version.to_string()))
        .bind(i64::from(group.closed.is_some()))
        .bind(group.regressed_at.map(stored))
        .execute(connection)
        .await?;
    Ok(())
}

/// The version in which a device has had the group last.
async fn version_of_device(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
    reporter: &Reporter,
) -> Result<Option<Version>, StoreError> {
    let query =
        "SELECT version FROM crash_device WHERE catalog = $1 AND crash = $2 AND device = $3";
    let query = sqlx::query(query).bind(scope.key()).bind(id.to_string());
    let row = query.bind(reporter.device.to_string()).fetch_optional(connection).await?;
    row.map(|row| columns::version(&row, "version")).transpose()
}

async fn note_device(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
    reporter: &Reporter,
    taken: &Taken,
) -> Result<(), StoreError> {
    let put =
        "INSERT INTO crash_device (catalog, crash, device, version, first_at, last_at, events)
        VALUES ($1, $2, $3, $4, $5, $5, $6)
        ON CONFLICT (catalog, crash, device)
        DO UPDATE SET version = $4, last_at = $5, events = crash_device.events + $6";
    sqlx::query(put)
        .bind(scope.key())
        .bind(id.to_string())
        .bind(reporter.device.to_string())
        .bind(taken.version.to_string())
        .bind(stored(taken.at))
        .bind(stored(taken.count))
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes what a group has in a version. A device that goes back and forth between versions is counted in each time.
async fn note_version(
    connection: &mut Connection,
    scope: Scope,
    id: GroupId,
    taken: &Taken,
    is_new_device: bool,
) -> Result<(), StoreError> {
    // A group of as many versions as are kept apart gets no other: the newest is in its own row.
    let put =
        "INSERT INTO crash_version (catalog, crash, version, first_at, last_at, events, devices)
        SELECT $1, $2, $3, $4, $4, $5, $6
        WHERE (SELECT COUNT(*) FROM crash_version
            WHERE catalog = $1 AND crash = $2 AND version <> $3) < $7
        ON CONFLICT (catalog, crash, version) DO UPDATE SET last_at = $4,
            events = crash_version.events + $5, devices = crash_version.devices + $6";
    sqlx::query(put)
        .bind(scope.key())
        .bind(id.to_string())
        .bind(taken.version.to_string())
        .bind(stored(taken.at))
        .bind(stored(taken.count))
        .bind(i64::from(is_new_device))
        .bind(stored(MOST_VERSIONS))
        .execute(connection)
        .await?;
    Ok(())
}

async fn exposures_of(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    occurrence: &Occurrence,
) -> Result<Vec<Exposure>, StoreError> {
    // A service of the OS runs as much as the OS.
    let component = exposed(occurrence.key.subject().to_string());
    let query = "SELECT version, CAST(SUM(devices) AS BIGINT) AS device_days FROM exposure
        WHERE catalog = $1 AND product = $2 AND component = $3 GROUP BY version";
    let query = sqlx::query(query).bind(scope.key()).bind(reporter.product.clone());
    query.bind(component).fetch_all(connection).await?.iter().map(exposure_of).collect()
}

/// Returns the component by whose versions a component of this text is counted: a service of the OS runs as much as the OS.
#[must_use]
pub fn exposed(component: String) -> String {
    if component.starts_with("service:") { Subject::Os.to_string() } else { component }
}

/// Removes what is as old as nothing is kept, and says whether there may be more of it.
pub(crate) async fn expire(
    connection: &mut Connection,
    now: u64,
    most: u32,
) -> Result<bool, StoreError> {
    let before = now.saturating_sub(KEPT_S);
    let mut is_full = false;
    for (delete, before) in [
        (
            "DELETE FROM exposure WHERE (catalog, day, product, component, version) IN (
                SELECT catalog, day, product, component, version FROM exposure
                WHERE day < $1 LIMIT $2)",
            before / DAY_S,
        ),
        (
            "DELETE FROM crash_device WHERE (catalog, crash, device) IN (
                SELECT catalog, crash, device FROM crash_device WHERE last_at < $1 LIMIT $2)",
            before,
        ),
        (
            "DELETE FROM crash_version WHERE (catalog, crash, version) IN (
                SELECT catalog, crash, version FROM crash_version WHERE last_at < $1 LIMIT $2)",
            before,
        ),
        (
            "DELETE FROM crash_group WHERE (catalog, id) IN (
                SELECT catalog, id FROM crash_group WHERE last_at < $1 LIMIT $2)",
            before,
        ),
    ] {
        let delete = sqlx::query(delete).bind(stored(before)).bind(i64::from(most));
        let deleted = delete.execute(&mut *connection).await?.rows_affected();
        is_full |= deleted >= u64::from(most);
    }
    Ok(is_full)
}

fn exposure_of(row: &AnyRow) -> Result<Exposure, StoreError> {
    let device_days = columns::number(row, "device_days")?;
    Ok(Exposure { version: columns::version(row, "version")?, device_days })
}

fn seen_of(row: &AnyRow) -> Result<SeenVersion, StoreError> {
    Ok(SeenVersion {
        version: columns::version(row, "version")?,
        first_at: columns::number(row, "first_at")?,
        last_at: columns::number(row, "last_at")?,
        events: columns::number(row, "events")?,
        devices: columns::number(row, "devices")?,
    })
}

fn state_of(row: &AnyRow) -> Result<GroupState, StoreError> {
    let closed = columns::text_if_any(row, "closed_version")?.map(|version| version.parse());
    Ok(GroupState {
        first_version: columns::version(row, "first_version")?,
        last_version: columns::version(row, "last_version")?,
        first_at: columns::number(row, "first_at")?,
        last_at: columns::number(row, "last_at")?,
        events: columns::number(row, "events")?,
        devices: columns::number(row, "devices")?,
        closed: closed.transpose().map_err(|_| StoreError::Damaged("closed_version"))?,
        regressed_at: columns::number_if_any(row, "regressed_at")?,
    })
}

fn crash_of(row: &AnyRow) -> Result<CrashRow, StoreError> {
    let closed_at = columns::number(row, "closed_at")?;
    let algorithm = Algorithm::of_number(columns::number(row, "algorithm")?);
    Ok(CrashRow {
        id: columns::text(row, "id")?.parse().map_err(|_| StoreError::Damaged("id"))?,
        product: columns::text(row, "product")?,
        algorithm: algorithm.ok_or(StoreError::Damaged("algorithm"))?,
        component: columns::text(row, "component")?,
        name: columns::text(row, "name")?,
        failure: columns::text(row, "failure")?,
        place: columns::text_if_any(row, "place")?,
        called_from: columns::text_if_any(row, "called_from")?,
        state: state_of(row)?,
        closed_at: (closed_at > 0).then_some(closed_at),
    })
}
