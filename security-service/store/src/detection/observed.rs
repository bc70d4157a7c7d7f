//! What rules look at, as it was stored: reports, check-ins, what was found about devices, and enrolments that have failed. All of it is read in pages, each behind the last row of the one before.

use super::group_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::report::{ReportKey, batch_of};
use crate::scope::Scope;
use crate::store::Store;
use holdfast_evidence::claims::Claims;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::record::Record;
use holdfast_service_domain::detection::fleet::{GroupName, Software};
use holdfast_service_domain::detection::subject::Network;
use holdfast_service_domain::device::{Finding, State};
use holdfast_types::Version;
use sqlx::any::AnyRow;

/// Most networks of a minute whose failed enrolments are kept, and most failures of one of them in that minute.
pub const MOST_NETWORKS: u32 = 256;
/// Most failed enrolments of a network that are counted in a minute: more than any threshold asks for in an hour.
pub const MOST_FAILURES: u32 = 20_000;
/// Seconds for which failed enrolments are kept. Rules count those of an hour.
const FAILURES_KEPT_S: u64 = 2 * 60 * 60;
/// Seconds for which alerts are kept, whoever delivers them.
const ALERTS_KEPT_S: u64 = 30 * 24 * 60 * 60;

/// Rows behind a place, and the place of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T, K> {
    /// What was read.
    pub items: Vec<T>,
    /// Rows that cannot be read. They are left out, so that those behind them are read.
    pub damaged: u32,
    /// Where the next page begins; nothing where this one was the last.
    pub next: Option<K>,
}

/// The place of a device by a time of it, and its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeKey {
    /// The time, in seconds since 1970.
    pub at: u64,
    /// What rows of one second are sorted by.
    pub id: String,
}

/// A batch of reports, with what its device was when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedBatch {
    /// When it came, in seconds since 1970.
    pub at: u64,
    /// The device.
    pub device: DeviceId,
    /// The group of the device.
    pub group: GroupName,
    /// The version of the OS that the device has attested last.
    pub os: Version,
    /// The records.
    pub records: Vec<Record>,
}

/// A device, with what it has attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenDevice {
    /// The device.
    pub device: DeviceId,
    /// Its group.
    pub group: GroupName,
    /// True if it is enrolled.
    pub is_enrolled: bool,
    /// What it has attested last, where it has.
    pub software: Option<Software>,
    /// When it was seen last, in seconds since 1970.
    pub seen_at: u64,
    /// When it is to check in next, in seconds since 1970; 0 where it was seen since, such as by a check-in that was refused.
    pub due: u64,
}

/// Something that the policy has found about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOf {
    /// When it was found last, in seconds since 1970.
    pub at: u64,
    /// The device.
    pub device: DeviceId,
    /// Its group.
    pub group: GroupName,
    /// What it is.
    pub finding: Finding,
}

/// Enrolments of a network that have failed in a minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedEnrolments {
    /// The minute, in minutes since 1970.
    pub minute: u64,
    /// The network.
    pub network: Network,
    /// How many.
    pub times: u32,
}

/// Makes a page of rows.
fn read<T, K>(
    rows: &[AnyRow],
    most: u32,
    item: impl Fn(&AnyRow) -> Result<T, StoreError>,
    key: impl Fn(&AnyRow) -> Result<K, StoreError>,
) -> Result<Read<T, K>, StoreError> {
    let mut page = Read { items: Vec::new(), damaged: 0, next: None };
    for row in rows {
        match item(row) {
            Ok(item) => page.items.push(item),
            Err(_) => page.damaged = page.damaged.saturating_add(1),
        }
    }
    let is_full = u32::try_from(rows.len()).is_ok_and(|length| length >= most);
    page.next = rows.last().filter(|_| is_full).map(key).transpose()?;
    Ok(page)
}

fn time_key(time: &'static str) -> impl Fn(&AnyRow) -> Result<TimeKey, StoreError> {
    move |row| Ok(TimeKey { at: columns::number(row, time)?, id: columns::text(row, "id")? })
}

impl Store {
    /// Returns batches that came behind `after`, and until the second `until`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reported_batches(
        &self,
        scope: Scope,
        after: &ReportKey,
        until: u64,
        most: u32,
    ) -> Result<Read<ReportedBatch, ReportKey>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT r.received_at AS received_at, r.device AS device, r.epoch AS epoch,
                r.last_sequence AS last_sequence, r.frames AS frames,
                d.product AS product, d.grp AS grp, d.version AS version
            FROM report r LEFT JOIN device d ON d.catalog = r.catalog AND d.id = r.device
            WHERE r.catalog = $1
                AND (r.received_at, r.device, r.epoch, r.last_sequence) > ($2, $3, $4, $5)
                AND r.received_at <= $6
            ORDER BY r.received_at, r.device, r.epoch, r.last_sequence LIMIT $7";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after.received_at));
        let query = query.bind(after.device.clone()).bind(after.epoch.clone());
        let query = query.bind(stored(after.sequence)).bind(stored(until)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        read(&rows, most, reported_of, |row| {
            Ok(ReportKey {
                received_at: columns::number(row, "received_at")?,
                device: columns::text(row, "device")?,
                epoch: columns::text(row, "epoch")?,
                sequence: columns::number(row, "last_sequence")?,
            })
        })
    }

    /// Returns enrolled devices that were seen behind `after`, and until the second `until`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn devices_seen(
        &self,
        scope: Scope,
        after: &TimeKey,
        until: u64,
        most: u32,
    ) -> Result<Read<SeenDevice, TimeKey>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT id, product, grp, state, version, claims, seen_at, next_at FROM device
            WHERE catalog = $1 AND (seen_at, id) > ($2, $3) AND seen_at <= $4
                AND state = 'enrolled' AND verdict IS NOT NULL
            ORDER BY seen_at, id LIMIT $5";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after.at));
        let query = query.bind(after.id.clone()).bind(stored(until)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        read(&rows, most, seen_of, time_key("seen_at"))
    }

    /// Returns devices by id behind `after`, in whatever state.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn devices_attested(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Read<SeenDevice, String>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT id, product, grp, state, version, claims, seen_at, next_at FROM device
            WHERE catalog = $1 AND id > $2 ORDER BY id LIMIT $3";
        let query = sqlx::query(query).bind(scope.key()).bind(after.to_owned());
        let rows = query.bind(i64::from(most)).fetch_all(&mut *connection).await?;
        read(&rows, most, seen_of, |row| columns::text(row, "id"))
    }

    /// Returns what was found about devices behind `after` and until the second `until`; the id of a place is device, kind and end with dots
    /// between.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn findings_noted(
        &self,
        scope: Scope,
        after: &TimeKey,
        until: u64,
        most: u32,
    ) -> Result<Read<FoundOf, TimeKey>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT f.device AS device, f.kind AS kind, f.closed_at AS closed_at,
                f.last_at AS last_at, d.product AS product, d.grp AS grp
            FROM finding f LEFT JOIN device d ON d.catalog = f.catalog AND d.id = f.device
            WHERE f.catalog = $1 AND (f.last_at, f.device, f.kind, f.closed_at) > ($2, $3, $4, $5)
                AND f.last_at <= $6
            ORDER BY f.last_at, f.device, f.kind, f.closed_at LIMIT $7";
        let mut parts = after.id.splitn(3, '.');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (device, kind, end) = (part(), part(), part());
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after.at)).bind(device);
        // A place that was never returned has no end, and then lies before all of its kind.
        let query = query.bind(kind).bind(end.parse::<i64>().unwrap_or(-1)).bind(stored(until));
        let rows = query.bind(i64::from(most)).fetch_all(&mut *connection).await?;
        read(&rows, most, found_of, |row| {
            let (device, kind) = (columns::text(row, "device")?, columns::text(row, "kind")?);
            let id = format!("{device}.{kind}.{}", columns::number(row, "closed_at")?);
            Ok(TimeKey { at: columns::number(row, "last_at")?, id })
        })
    }

    /// Returns enrolments that have failed behind `after`, in minutes before `until`; times of places are minutes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn failed_enrolments(
        &self,
        scope: Scope,
        after: &TimeKey,
        until: u64,
        most: u32,
    ) -> Result<Read<FailedEnrolments, TimeKey>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT minute, network AS id, failures FROM enrolment_failure
            WHERE catalog = $1 AND (minute, network) > ($2, $3) AND minute < $4
            ORDER BY minute, network LIMIT $5";
        let query = sqlx::query(query).bind(scope.key()).bind(stored(after.at));
        let query = query.bind(after.id.clone()).bind(stored(until)).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        read(&rows, most, failed_of, time_key("minute"))
    }

    /// Notes that an enrolment has failed, as long as there is room in its minute.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_failed_enrolment(
        &self,
        scope: Scope,
        network: Network,
        now: u64,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let insert = "INSERT INTO enrolment_failure (catalog, minute, network, failures)
                    SELECT $1, $2, $3, 1 WHERE
                        (SELECT COUNT(*) FROM enrolment_failure
                            WHERE catalog = $1 AND minute = $2) < $4
                        OR EXISTS (SELECT 1 FROM enrolment_failure
                            WHERE catalog = $1 AND minute = $2 AND network = $3)
                    ON CONFLICT (catalog, minute, network) DO UPDATE SET failures =
                        CASE WHEN enrolment_failure.failures < $5
                            THEN enrolment_failure.failures + 1
                            ELSE enrolment_failure.failures END";
                sqlx::query(insert)
                    .bind(scope.key())
                    .bind(stored(now / 60))
                    .bind(network.to_string())
                    .bind(i64::from(MOST_NETWORKS))
                    .bind(i64::from(MOST_FAILURES))
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Removes failed enrolments and alerts that were kept for as long as they are, of each as many rows as `most` at once, and says whether
    /// there may be more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn expire_detection(&self, now: u64, most: u32) -> Result<bool, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let failures = "DELETE FROM enrolment_failure WHERE (catalog, minute, network) IN (
                    SELECT catalog, minute, network FROM enrolment_failure
                    WHERE minute < $1 LIMIT $2)";
                let alerts = "DELETE FROM alert WHERE (catalog, number) IN (
                    SELECT catalog, number FROM alert WHERE at < $1 LIMIT $2)";
                let mut is_full = false;
                for (delete, before) in [
                    (failures, now.saturating_sub(FAILURES_KEPT_S) / 60),
                    (alerts, now.saturating_sub(ALERTS_KEPT_S)),
                ] {
                    let delete = sqlx::query(delete).bind(stored(before)).bind(i64::from(most));
                    let deleted = delete.execute(&mut *connection).await?.rows_affected();
                    is_full |= deleted >= u64::from(most);
                }
                Ok(is_full)
            })
        })
        .await
    }
}

fn reported_of(row: &AnyRow) -> Result<ReportedBatch, StoreError> {
    let (key, records) = batch_of(row)?;
    Ok(ReportedBatch {
        at: key.received_at,
        device: columns::device(row, "device")?,
        group: group_of(row)?,
        os: version_of(row)?.unwrap_or_default(),
        records,
    })
}

fn version_of(row: &AnyRow) -> Result<Option<Version>, StoreError> {
    let version = columns::text_if_any(row, "version")?;
    let version = version.map(|version| version.parse()).transpose();
    version.map_err(|_| StoreError::Damaged("version"))
}

fn seen_of(row: &AnyRow) -> Result<SeenDevice, StoreError> {
    let state = State::of_word(&columns::text(row, "state")?);
    let claims = columns::bytes_if_any(row, "claims")?;
    let claims = claims.and_then(|bytes| Claims::read(&bytes).ok());
    let seen_at = columns::number_if_any(row, "seen_at")?.unwrap_or(0);
    let next_at = columns::number_if_any(row, "next_at")?;
    Ok(SeenDevice {
        device: columns::device(row, "id")?,
        group: group_of(row)?,
        is_enrolled: state.ok_or(StoreError::Damaged("state"))? == State::Enrolled,
        // Without a release that was measured, its claims are worth nothing.
        software: version_of(row)?.map(|os| Software::of(os, claims.as_ref())),
        seen_at,
        due: next_at.filter(|next| seen_at < *next).unwrap_or(0),
    })
}

fn found_of(row: &AnyRow) -> Result<FoundOf, StoreError> {
    let finding = Finding::of_word(&columns::text(row, "kind")?);
    Ok(FoundOf {
        at: columns::number(row, "last_at")?,
        device: columns::device(row, "device")?,
        group: group_of(row)?,
        finding: finding.ok_or(StoreError::Damaged("kind"))?,
    })
}

fn failed_of(row: &AnyRow) -> Result<FailedEnrolments, StoreError> {
    let network = columns::text(row, "id")?.parse();
    let times = u32::try_from(columns::number(row, "failures")?);
    Ok(FailedEnrolments {
        minute: columns::number(row, "minute")?,
        network: network.map_err(|_| StoreError::Damaged("network"))?,
        times: times.map_err(|_| StoreError::Damaged("failures"))?,
    })
}
