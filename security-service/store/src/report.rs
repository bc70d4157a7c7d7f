//! Reports of devices: taken once, counted, grouped, and kept for a while, in one transaction a batch.

use crate::columns::{self, stored};
use crate::crash::{self, Reporter};
use crate::error::StoreError;
use crate::scope::{Scope, Sight};
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::messages::DeviceId;
use holdfast_failure_reports::Level;
use holdfast_failure_reports::batch::{Batch, Epoch};
use holdfast_failure_reports::frame::{self, Frame, Frames};
use holdfast_failure_reports::record::Record;
use holdfast_service_domain::crash::Address;
use holdfast_service_domain::device::State;
use holdfast_service_domain::report_batch::{self, BatchWrite, CounterKey, KEPT_S, Reporting};
use holdfast_types::hex::{hex, unhex};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Most epochs of which a device's last number is remembered: each reset of it begins another.
pub const MOST_EPOCHS: u64 = 8;
/// Most batches of a device that are kept.
pub const MOST_BATCHES: u64 = 64;
/// Counters of one statement.
const COUNTERS_AT_ONCE: usize = 64;
/// Columns of a counter.
const COUNTER_COLUMNS: usize = 8;
/// Batches that are read at once for a page of records.
const BATCHES_AT_ONCE: u32 = 16;

/// What has become of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is stored, all of it that was not before.
    Stored {
        /// The highest number of its epoch that is stored.
        stored: u64,
        /// Records that were new and are kept.
        records: u64,
        /// Failures and counters that there was no room for.
        left_out: u64,
    },
    /// The device's group takes no reports, and nothing was stored.
    Off,
    /// The catalog has no such device, or it has not enrolled.
    Unknown,
    /// Its owner has retired the device.
    Retired,
}

/// What records are sorted by: when they came, from whom, and their number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ReportKey {
    /// When the batch came, in seconds since 1970.
    pub received_at: u64,
    /// The device's id; no text comes before all of them.
    pub device: String,
    /// The epoch, in hexadecimal.
    pub epoch: String,
    /// The record's number.
    pub sequence: u64,
}

/// A record that was reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Its place.
    pub key: ReportKey,
    /// The record.
    pub record: Record,
}

impl Store {
    /// Takes a batch of a device: what of it is new is stored with all that follows from it, or nothing is. `names` has the functions of the
    /// batch's addresses, where there are symbols.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_reports(
        &self,
        scope: Scope,
        device: DeviceId,
        batch: Batch,
        names: BTreeMap<Address, String>,
        now: u64,
    ) -> Result<Outcome, StoreError> {
        self.write(move |connection| {
            Box::pin(async move { take(connection, scope, device, &batch, &names, now).await })
        })
        .await
    }

    /// Returns records behind `after` of the devices in sight that came within the last 14 days.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn reports(
        &self,
        scope: Scope,
        sight: &Sight,
        after: &ReportKey,
        most: usize,
        now: u64,
    ) -> Result<Vec<Reported>, StoreError> {
        let mut connection = self.read().await?;
        let since = now.saturating_sub(KEPT_S);
        let mut found: Vec<Reported> = Vec::new();
        let mut after = after.clone();
        let (in_sight, bound) = sight.condition("report", 8);
        let text = format!(
            "SELECT received_at, device, epoch, last_sequence, frames FROM report
            WHERE catalog = $1 AND received_at >= $2
            AND (received_at, device, epoch, last_sequence) > ($3, $4, $5, $6) AND {in_sight}
            ORDER BY received_at, device, epoch, last_sequence LIMIT $7"
        );
        while found.len() < most {
            // A text of this program.
            let query = sqlx::query(AssertSqlSafe(text.clone()));
            let query = query.bind(scope.key()).bind(stored(since));
            let query = query.bind(stored(after.received_at)).bind(after.device.clone());
            let query = query.bind(after.epoch.clone()).bind(stored(after.sequence));
            let query = query.bind(i64::from(BATCHES_AT_ONCE));
            let query = bound.iter().fold(query, |query, name| query.bind(name.clone()));
            let rows = query.fetch_all(&mut *connection).await?;
            let is_last = rows.len() < usize::try_from(BATCHES_AT_ONCE).unwrap_or(usize::MAX);
            for row in &rows {
                let (key, records) = batch_of(row)?;
                let of_same = (key.received_at, &key.device, &key.epoch)
                    == (after.received_at, &after.device, &after.epoch);
                let seen = if of_same { after.sequence } else { 0 };
                found.extend(records.into_iter().filter(|record| record.sequence > seen).map(
                    |record| Reported {
                        key: ReportKey { sequence: record.sequence, ..key.clone() },
                        record,
                    },
                ));
                after = key;
            }
            if is_last {
                break;
            }
        }
        found.truncate(most);
        Ok(found)
    }

    /// Removes what was kept for as long as it is: of each kind as many rows as `most` at once, and says whether there may be more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn expire_reports(&self, now: u64, most: u32) -> Result<bool, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let reports = "DELETE FROM report
                    WHERE (catalog, received_at, device, epoch, last_sequence) IN (
                        SELECT catalog, received_at, device, epoch, last_sequence FROM report
                        WHERE received_at < $1 LIMIT $2)";
                let counters = "DELETE FROM counter
                    WHERE (catalog, hour, product, grp, component, version, kind) IN (
                        SELECT catalog, hour, product, grp, component, version, kind FROM counter
                        WHERE hour < $1 LIMIT $2)";
                let mut is_full = false;
                let long_ago = now.saturating_sub(crash::KEPT_S);
                for (delete, before) in
                    [(reports, now.saturating_sub(KEPT_S)), (counters, long_ago)]
                {
                    let delete = sqlx::query(delete).bind(stored(before)).bind(i64::from(most));
                    let deleted = delete.execute(&mut *connection).await?.rows_affected();
                    is_full |= deleted >= u64::from(most);
                }
                is_full |= crash::expire(connection, now, most).await?;
                Ok(is_full)
            })
        })
        .await
    }
}

async fn take(
    connection: &mut Connection,
    scope: Scope,
    device: DeviceId,
    batch: &Batch,
    names: &BTreeMap<Address, String>,
    now: u64,
) -> Result<Outcome, StoreError> {
    // The device's row is locked: whoever retires the device waits, and erases these reports as well.
    let query = "UPDATE device SET revision = revision WHERE catalog = $1 AND id = $2
        RETURNING state, product, grp, version";
    let query = sqlx::query(query).bind(scope.key()).bind(device.to_string());
    let Some(row) = query.fetch_optional(&mut *connection).await? else {
        return Ok(Outcome::Unknown);
    };
    match State::of_word(&columns::text(&row, "state")?) {
        Some(State::Enrolled) => {}
        Some(State::Retired) => return Ok(Outcome::Retired),
        Some(State::Waiting | State::Claimed) => return Ok(Outcome::Unknown),
        None => return Err(StoreError::Damaged("state")),
    }
    let reporter = Reporter {
        device,
        product: columns::text_if_any(&row, "product")?.unwrap_or_default(),
        group: columns::text_if_any(&row, "grp")?.unwrap_or_default(),
    };
    let level = held_level(connection, scope, &reporter).await?;
    if level == Level::Off {
        return Ok(Outcome::Off);
    }
    let version = columns::text_if_any(&row, "version")?.map(|version| version.parse());
    let os = version.transpose().map_err(|_| StoreError::Damaged("version"))?.unwrap_or_default();
    // The row is locked from here on: another batch of this epoch waits, and finds what this one has stored.
    let source = "INSERT INTO report_source
            (catalog, device, epoch, last_sequence, unknown_frames, first_at, received_at)
        VALUES ($1, $2, $3, 0, 0, $4, $4)
        ON CONFLICT (catalog, device, epoch) DO UPDATE SET received_at = $4
        RETURNING last_sequence";
    let source = sqlx::query(source).bind(scope.key()).bind(device.to_string());
    let source = source.bind(hex(&batch.epoch.0)).bind(stored(now));
    let known = columns::number(&source.fetch_one(&mut *connection).await?, "last_sequence")?;
    if known == 0 {
        forget_epochs(connection, scope, &reporter, batch.epoch).await?;
    }
    let reporting = Reporting { level, os, stored: known, now };
    let write = report_batch::write(batch, &reporting, |address| names.get(address).cloned());
    if write.stored == known {
        return Ok(Outcome::Stored { stored: known, records: 0, left_out: 0 });
    }
    note_source(connection, scope, &reporter, batch, write.stored).await?;
    keep_records(connection, scope, &reporter, batch.epoch, &write, now).await?;
    let counters: Vec<(&CounterKey, &u64)> = write.counters.iter().collect();
    for some in counters.chunks(COUNTERS_AT_ONCE) {
        count(connection, scope, &reporter, some).await?;
    }
    let mut left_out = write.left_out;
    for occurrence in crash::in_order(&reporter.product, &write.occurrences) {
        let has_room = crash::add(connection, scope, &reporter, &occurrence, now).await?;
        left_out = left_out.saturating_add(u64::from(!has_room));
    }
    let records = u64::try_from(write.records.len()).unwrap_or(u64::MAX);
    Ok(Outcome::Stored { stored: write.stored, records, left_out })
}

/// Returns the level of a device's group, and locks the group's row until the end of the transaction: once somebody has been told that reports are off,
/// nothing is stored that was begun before.
async fn held_level(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
) -> Result<Level, StoreError> {
    let query = "UPDATE grp SET revision = revision
        WHERE catalog = $1 AND product = $2 AND name = $3 RETURNING report_level";
    let query = sqlx::query(query).bind(scope.key()).bind(reporter.product.clone());
    let row = query.bind(reporter.group.clone()).fetch_optional(connection).await?;
    row.map_or(Ok(Level::default()), |row| columns::level(&row))
}

/// Notes the highest number of an epoch, and frames that nobody here has understood.
async fn note_source(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    batch: &Batch,
    last: u64,
) -> Result<(), StoreError> {
    let update = "UPDATE report_source SET last_sequence = $4, unknown_frames = unknown_frames + $5
        WHERE catalog = $1 AND device = $2 AND epoch = $3";
    let unknown = u64::try_from(batch.unknown).unwrap_or(u64::MAX);
    sqlx::query(update)
        .bind(scope.key())
        .bind(reporter.device.to_string())
        .bind(hex(&batch.epoch.0))
        .bind(stored(last))
        .bind(stored(unknown))
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets the epochs of a device that were used longest ago, and never this one.
async fn forget_epochs(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    epoch: Epoch,
) -> Result<(), StoreError> {
    let delete = "DELETE FROM report_source
        WHERE catalog = $1 AND device = $2 AND epoch <> $3 AND epoch NOT IN (
            SELECT epoch FROM report_source WHERE catalog = $1 AND device = $2 AND epoch <> $3
            ORDER BY received_at DESC, epoch LIMIT $4)";
    let delete = sqlx::query(delete).bind(scope.key()).bind(reporter.device.to_string());
    let others = MOST_EPOCHS.saturating_sub(1);
    delete.bind(hex(&epoch.0)).bind(stored(others)).execute(connection).await?;
    Ok(())
}

/// Keeps records as they were told, and the newest batches of the device alone.
async fn keep_records(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    epoch: Epoch,
    write: &BatchWrite,
    now: u64,
) -> Result<(), StoreError> {
    // None is longer than when it came, within a batch.
    let frames = write.records.iter().filter_map(|record| frame::encode(record).ok());
    let frames = frames.collect::<Vec<_>>().concat();
    if frames.is_empty() {
        return Ok(());
    }
    let device = reporter.device.to_string();
    let insert = "INSERT INTO report (catalog, received_at, device, epoch, last_sequence, frames)
        VALUES ($1, $2, $3, $4, $5, $6)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(stored(now))
        .bind(device.clone())
        .bind(hex(&epoch.0))
        .bind(stored(write.stored))
        .bind(frames)
        .execute(&mut *connection)
        .await?;
    let delete = "DELETE FROM report WHERE catalog = $1 AND device = $2
        AND (received_at, epoch, last_sequence) <= (
            SELECT received_at, epoch, last_sequence FROM report WHERE catalog = $1 AND device = $2
            ORDER BY received_at DESC, epoch DESC, last_sequence DESC LIMIT 1 OFFSET $3)";
    let delete = sqlx::query(delete).bind(scope.key()).bind(device).bind(stored(MOST_BATCHES));
    delete.execute(connection).await?;
    Ok(())
}

/// Adds to some counters by one statement.
async fn count(
    connection: &mut Connection,
    scope: Scope,
    reporter: &Reporter,
    counters: &[(&CounterKey, &u64)],
) -> Result<(), StoreError> {
    let mut text =
        "INSERT INTO counter (catalog, hour, product, grp, component, version, kind, amount) VALUES "
            .to_owned();
    for number in 0..counters.len().saturating_mul(COUNTER_COLUMNS) {
        let before = match number {
            0 => "($",
            _ if number.is_multiple_of(COUNTER_COLUMNS) => "), ($",
            _ => ", $",
        };
        // Writing to a text does not fail.
        let _ = write!(text, "{before}{}", number.saturating_add(1));
    }
    text.push_str(
        ") ON CONFLICT (catalog, hour, product, grp, component, version, kind)
        DO UPDATE SET amount = counter.amount + excluded.amount",
    );
    // A text of this program.
    let mut query = sqlx::query(AssertSqlSafe(text));
    for (key, amount) in counters {
        query = query
            .bind(scope.key())
            .bind(stored(key.hour))
            .bind(reporter.product.clone())
            .bind(reporter.group.clone())
            .bind(key.subject.to_string())
            .bind(key.version.to_string())
            .bind(key.kind.to_owned())
            .bind(stored(**amount));
    }
    query.execute(connection).await?;
    Ok(())
}

pub(crate) fn batch_of(row: &AnyRow) -> Result<(ReportKey, Vec<Record>), StoreError> {
    let frames = columns::bytes(row, "frames")?;
    let mut read = Frames::<Record>::of(&frames);
    let mut records = Vec::new();
    for frame in read.by_ref() {
        match frame {
            Frame::Known(record) => records.push(record),
            // A newer instance beside this one has stored it.
            Frame::Unknown => {}
        }
    }
    let epoch = columns::text(row, "epoch")?;
    if !read.rest().is_empty() || unhex::<8>(&epoch).is_none() {
        return Err(StoreError::Damaged("frames"));
    }
    let key = ReportKey {
        received_at: columns::number(row, "received_at")?,
        device: columns::device(row, "device")?.to_string(),
        epoch,
        sequence: columns::number(row, "last_sequence")?,
    };
    Ok((key, records))
}
