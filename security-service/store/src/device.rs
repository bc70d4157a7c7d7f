//! Devices: claimed, seen, moved, quarantined, and what was found about them.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::{Scope, Sight};
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::attest::ClockInfo;
use holdfast_evidence::messages::DeviceId;
use holdfast_evidence::policy::PcrDigest;
use holdfast_service_domain::check_in::CheckInWrite;
use holdfast_service_domain::device::{Device, Finding, Kind, State};
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::receipt::Receipts;
use holdfast_types::hex::hex;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

/// Check-ins that failed of which a device's evidence is kept.
const KEPT_FAILURES: u64 = 16;

/// A claim: whoever makes it vouches for the device's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The device.
    pub device: DeviceId,
    /// What its id is made of.
    pub kind: Kind,
    /// The grade that is vouched for.
    pub grade: Grade,
    /// Name of the board.
    pub board: Option<String>,
    /// The maker's serial number.
    pub serial: Option<String>,
    /// The product and the group that it goes into.
    pub group: Option<(String, String)>,
}

/// What management sees of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The device.
    pub device: Device,
    /// The product and the group that it is in.
    pub group: Option<(String, String)>,
    /// Name of the board.
    pub board: Option<String>,
    /// The maker's serial number.
    pub serial: Option<String>,
    /// Word for the verdict on the last check-in.
    pub verdict: Option<String>,
    /// Version of the release that was measured last.
    pub version: Option<String>,
    /// Its rollback index.
    pub index: Option<u64>,
    /// The phase that was claimed last.
    pub phase: Option<String>,
    /// End of its certificates, in seconds since 1970.
    pub certificate_end: Option<u64>,
    /// When it is to check in next, in seconds since 1970.
    pub next_at: Option<u64>,
    /// When it was seen last, in seconds since 1970.
    pub seen_at: Option<u64>,
}

/// What findings are sorted by: the device, the kind, and when it was closed (0 while it is open).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FindingKey {
    /// The device's id; no text comes before all of them.
    pub device: String,
    /// Word for the kind.
    pub kind: String,
    /// When it was closed, in seconds since 1970.
    pub closed_at: u64,
}

/// A finding with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingRow {
    /// The device.
    pub device: DeviceId,
    /// What was found.
    pub kind: Finding,
    /// When it was found first, in seconds since 1970.
    pub opened_at: u64,
    /// When it was found last.
    pub last_at: u64,
    /// How often it was found.
    pub times: u64,
    /// When somebody closed it; none while it is open.
    pub closed_at: Option<u64>,
}

const COLUMNS: &str =
    concat!("SELECT ", columns_of!(device), " FROM device WHERE catalog = $1 AND id = $2");

impl Store {
    /// Returns a device.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn device(&self, scope: Scope, id: &DeviceId) -> Result<Option<Shown>, StoreError> {
        let mut connection = self.read().await?;
        let query = sqlx::query(COLUMNS).bind(scope.key()).bind(id.to_string());
        let row = query.fetch_optional(&mut *connection).await?;
        row.as_ref().map(shown_of).transpose()
    }

    /// Counts devices that wait for somebody to claim them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn waiting(&self, scope: Scope) -> Result<u64, StoreError> {
        let mut connection = self.read().await?;
        let query =
            "SELECT COUNT(*) AS waiting FROM device WHERE catalog = $1 AND state = 'waiting'";
        let row = sqlx::query(query).bind(scope.key()).fetch_one(&mut *connection).await?;
        columns::number(&row, "waiting")
    }

    /// Makes a device known that nobody has claimed. One that is known stays as it is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn wait_for_claim(
        &self,
        scope: Scope,
        id: DeviceId,
        kind: Kind,
        board: String,
        at: u64,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let insert = "INSERT INTO device (catalog, id, kind, state, board, quarantined,
                        receipt_newest, receipt_returned, created_at, seen_at, revision)
                    VALUES ($1, $2, $3, 'waiting', $4, 0, 0, 0, $5, $5, 0)
                    ON CONFLICT (catalog, id) DO UPDATE SET seen_at = $5";
                sqlx::query(insert)
                    .bind(scope.key())
                    .bind(id.to_string())
                    .bind(kind.word().to_owned())
                    .bind(board)
                    .bind(stored(at))
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns findings by device, kind and end behind `after`, of the devices in sight, open ones alone unless `closed`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn findings(
        &self,
        scope: Scope,
        sight: &Sight,
        closed: bool,
        after: &FindingKey,
        most: u32,
    ) -> Result<Vec<FindingRow>, StoreError> {
        let mut connection = self.read().await?;
        let (in_sight, bound) = sight.condition("finding", 7);
        let text = format!(
            "SELECT {} FROM finding
            WHERE catalog = $1 AND (device, kind, closed_at) > ($2, $3, $4)
            AND ($5 = 1 OR closed_at = 0) AND {in_sight}
            ORDER BY device, kind, closed_at LIMIT $6",
            columns_of!(finding)
        );
        // A text of this program.
        let query = sqlx::query(AssertSqlSafe(text)).bind(scope.key()).bind(after.device.clone());
        let query = query.bind(after.kind.clone()).bind(stored(after.closed_at));
        let query = query.bind(i64::from(closed)).bind(i64::from(most));
        let query = bound.into_iter().fold(query, |query, name| query.bind(name));
        query.fetch_all(&mut *connection).await?.iter().map(finding_of).collect()
    }

    /// Notes a finding about a device.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_finding(
        &self,
        scope: Scope,
        id: DeviceId,
        finding: Finding,
        at: u64,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move { find(connection, scope, &id, finding, at).await })
        })
        .await
    }
}

/// Notes what was found, within a transaction.
pub(crate) async fn find(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    finding: Finding,
    at: u64,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO finding (catalog, device, kind, opened_at, last_at, times, closed_at)
        VALUES ($1, $2, $3, $4, $4, 1, 0)
        ON CONFLICT (catalog, device, kind, closed_at)
        DO UPDATE SET last_at = $4, times = finding.times + 1";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(id.to_string())
        .bind(finding.word().to_owned())
        .bind(stored(at))
        .execute(connection)
        .await?;
    Ok(())
}

/// Keeps the evidence of a check-in that failed.
pub(crate) async fn keep_evidence(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    write: &CheckInWrite,
    measured: PcrDigest,
    claims: Vec<u8>,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO evidence (catalog, device, number, at, verdict, measured, claims)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(id.to_string())
        .bind(stored(write.revision))
        .bind(stored(write.at))
        .bind(write.verdict.to_owned())
        .bind(hex(&measured.0))
        .bind(claims)
        .execute(&mut *connection)
        .await?;
    // The newest ones stay, by their numbers, between which check-ins that succeeded lie.
    let delete = "DELETE FROM evidence WHERE catalog = $1 AND device = $2 AND number NOT IN (
        SELECT number FROM evidence WHERE catalog = $1 AND device = $2 ORDER BY number DESC LIMIT $3)";
    let delete = sqlx::query(delete).bind(scope.key()).bind(id.to_string());
    delete.bind(stored(KEPT_FAILURES)).execute(connection).await?;
    Ok(())
}

/// Claims a device, and returns its state afterwards. One that has enrolled stays so; one that was retired enrols anew.
///
/// # Errors
/// There is no such group, or those of the database.
pub async fn claim(
    connection: &mut Connection,
    scope: Scope,
    claim: Claim,
    at: u64,
) -> Result<State, StoreError> {
    if let Some((product, group)) = &claim.group {
        must_have_group(connection, scope, product, group).await?;
    }
    let (product, group) = claim.group.unzip();
    let insert = "INSERT INTO device (catalog, id, kind, state, claimed_grade, board, serial, product, grp,
            quarantined, receipt_newest, receipt_returned, created_at, revision)
        VALUES ($1, $2, $3, 'claimed', $4, $5, $6, $7, $8, 0, 0, 0, $9, 0)
        ON CONFLICT (catalog, id) DO UPDATE SET
            evidence_key = CASE WHEN device.state = 'retired' THEN NULL ELSE device.evidence_key END,
            state = CASE WHEN device.state = 'enrolled' THEN 'enrolled' ELSE 'claimed' END,
            claimed_grade = $4, board = COALESCE($5, device.board), serial = COALESCE($6, device.serial),
            product = COALESCE($7, device.product), grp = COALESCE($8, device.grp),
            revision = device.revision + 1
        RETURNING state";
    let row = sqlx::query(insert)
        .bind(scope.key())
        .bind(claim.device.to_string())
        .bind(claim.kind.word().to_owned())
        .bind(claim.grade.word().to_owned())
        .bind(claim.board)
        .bind(claim.serial)
        .bind(product)
        .bind(group)
        .bind(stored(at))
        .fetch_one(connection)
        .await?;
    State::of_word(&columns::text(&row, "state")?).ok_or(StoreError::Damaged("state"))
}

pub(crate) async fn must_have_group(
    connection: &mut Connection,
    scope: Scope,
    product: &str,
    group: &str,
) -> Result<(), StoreError> {
    let query = "SELECT name FROM grp WHERE catalog = $1 AND product = $2 AND name = $3";
    let query =
        sqlx::query(query).bind(scope.key()).bind(product.to_owned()).bind(group.to_owned());
    let row = query.fetch_optional(connection).await?;
    row.map(|_| ()).ok_or(StoreError::Missing("group"))
}

/// Moves a device to another group.
///
/// # Errors
/// There is no such device or group, or those of the database.
pub async fn move_to(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    product: String,
    group: String,
) -> Result<(), StoreError> {
    must_have_group(connection, scope, &product, &group).await?;
    let update = "UPDATE device SET product = $3, grp = $4, revision = revision + 1
        WHERE catalog = $1 AND id = $2";
    let update =
        sqlx::query(update).bind(scope.key()).bind(id.to_string()).bind(product).bind(group);
    there_was_one(update.execute(connection).await?.rows_affected())
}

/// Quarantines a device, or ends that. What is issued already ends by itself.
///
/// # Errors
/// There is no such device, or those of the database.
pub async fn set_quarantine(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    quarantined: bool,
) -> Result<(), StoreError> {
    let update = "UPDATE device SET quarantined = $3, revision = revision + 1
        WHERE catalog = $1 AND id = $2";
    let update =
        sqlx::query(update).bind(scope.key()).bind(id.to_string()).bind(i64::from(quarantined));
    there_was_one(update.execute(connection).await?.rows_affected())
}

/// Closes a device's open findings of a kind.
///
/// # Errors
/// There is no such finding, or those of the database.
pub async fn close_finding(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
    kind: Finding,
    at: u64,
) -> Result<(), StoreError> {
    let update = "UPDATE finding SET closed_at = $4
        WHERE catalog = $1 AND device = $2 AND kind = $3 AND closed_at = 0";
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_string());
    let update = update.bind(kind.word().to_owned()).bind(stored(at));
    let closed = update.execute(connection).await?.rows_affected();
    if closed == 0 { Err(StoreError::Missing("open finding")) } else { Ok(()) }
}

fn there_was_one(rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Missing("device")) }
}

pub(crate) fn shown_of(row: &AnyRow) -> Result<Shown, StoreError> {
    let product = columns::text_if_any(row, "product")?;
    let group = columns::text_if_any(row, "grp")?;
    Ok(Shown {
        device: device_of(row)?,
        group: product.zip(group),
        board: columns::text_if_any(row, "board")?,
        serial: columns::text_if_any(row, "serial")?,
        verdict: columns::text_if_any(row, "verdict")?,
        version: columns::text_if_any(row, "version")?,
        index: columns::number_if_any(row, "rollback_index")?,
        phase: columns::text_if_any(row, "phase")?,
        certificate_end: columns::number_if_any(row, "certificate_end")?,
        next_at: columns::number_if_any(row, "next_at")?,
        seen_at: columns::number_if_any(row, "seen_at")?,
    })
}

pub(crate) fn device_of(row: &AnyRow) -> Result<Device, StoreError> {
    let kind = Kind::of_word(&columns::text(row, "kind")?);
    let state = State::of_word(&columns::text(row, "state")?);
    Ok(Device {
        catalog: columns::catalog(row, "catalog")?,
        id: columns::device(row, "id")?,
        kind: kind.ok_or(StoreError::Damaged("kind"))?,
        state: state.ok_or(StoreError::Damaged("state"))?,
        claimed_grade: columns::grade_if_any(row, "claimed_grade")?,
        grade: columns::grade_if_any(row, "grade")?,
        key: columns::bytes_if_any(row, "evidence_key")?,
        quarantined: columns::number(row, "quarantined")? != 0,
        receipts: Receipts {
            newest: columns::number(row, "receipt_newest")?,
            returned: columns::number(row, "receipt_returned")?,
        },
        clock: clock_of(row)?,
        revision: columns::number(row, "revision")?,
    })
}

fn clock_of(row: &AnyRow) -> Result<Option<ClockInfo>, StoreError> {
    let Some(clock_ms) = columns::number_if_any(row, "clock_ms")? else {
        return Ok(None);
    };
    let count = |column| {
        let count = u32::try_from(columns::number(row, column)?);
        count.map_err(|_| StoreError::Damaged(column))
    };
    Ok(Some(ClockInfo {
        clock_ms,
        reset_count: count("clock_resets")?,
        restart_count: count("clock_restarts")?,
        safe: count("clock_safe")? != 0,
    }))
}

pub(crate) fn finding_of(row: &AnyRow) -> Result<FindingRow, StoreError> {
    let kind = Finding::of_word(&columns::text(row, "kind")?);
    let closed_at = columns::number(row, "closed_at")?;
    Ok(FindingRow {
        device: columns::device(row, "device")?,
        kind: kind.ok_or(StoreError::Damaged("kind"))?,
        opened_at: columns::number(row, "opened_at")?,
        last_at: columns::number(row, "last_at")?,
        times: columns::number(row, "times")?,
        closed_at: (closed_at > 0).then_some(closed_at),
    })
}
