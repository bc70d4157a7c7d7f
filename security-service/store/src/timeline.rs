//! What happened on and with one device: records that it has sent, check-ins that failed, findings, slots of deployments, and what people did.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::deployment::row::{SlotRow, slot_of};
use crate::device::{FindingRow, finding_of};
use crate::error::StoreError;
use crate::report::{ReportKey, Reported, batch_of};
use crate::scope::Scope;
use crate::store::Store;
use holdfast_evidence::messages::DeviceId;
use sqlx::any::AnyRow;

/// Batches of reports that are read of a device.
const BATCHES: u32 = 16;
/// Rows of each other kind that are read of a device.
const ROWS: u32 = 64;
/// Rows of the audit log that are searched, from its end on: nothing finds those of one device but reading them.
const SEARCHED_ROWS: u64 = 10_000;

/// A check-in that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCheckIn {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Word for the verdict.
    pub verdict: String,
}

/// A slot of a deployment that the device was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenSlot {
    /// The deployment's name.
    pub deployment: String,
    /// The component that is deployed.
    pub component: String,
    /// The version.
    pub version: String,
    /// The slot.
    pub slot: SlotRow,
}

/// Something that somebody did to the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Who.
    pub who: String,
    /// What, such as `device.quarantine`.
    pub verb: String,
}

/// All that is known of a device's past. Of each kind it is the newest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Records that it has reported.
    pub records: Vec<Reported>,
    /// Check-ins that failed.
    pub check_ins: Vec<FailedCheckIn>,
    /// What was found about it.
    pub findings: Vec<FindingRow>,
    /// Slots that it was given.
    pub slots: Vec<GivenSlot>,
    /// What was done to it, where that was asked for.
    pub deeds: Vec<Deed>,
}

impl Store {
    /// Returns the past of a device; what people did with it if `with_deeds`, since that is in the audit log.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn past(
        &self,
        scope: Scope,
        id: &DeviceId,
        with_deeds: bool,
    ) -> Result<Past, StoreError> {
        let mut connection = self.read().await?;
        let (catalog, device) = (scope.key(), id.to_string());
        let mut past = Past::default();
        let reports = "SELECT received_at, device, epoch, last_sequence, frames FROM report
            WHERE catalog = $1 AND device = $2
            ORDER BY received_at DESC, epoch DESC, last_sequence DESC LIMIT $3";
        let reports = sqlx::query(reports).bind(catalog.clone()).bind(device.clone());
        for row in &reports.bind(i64::from(BATCHES)).fetch_all(&mut *connection).await? {
            let (key, records) = batch_of(row)?;
            past.records.extend(records.into_iter().map(|record| {
                let key = ReportKey { sequence: record.sequence, ..key.clone() };
                Reported { key, record }
            }));
        }
        let evidence = "SELECT at, verdict FROM evidence WHERE catalog = $1 AND device = $2
            ORDER BY number DESC LIMIT $3";
        let evidence = sqlx::query(evidence).bind(catalog.clone()).bind(device.clone());
        let rows = evidence.bind(i64::from(ROWS)).fetch_all(&mut *connection).await?;
        past.check_ins = rows.iter().map(check_in_of).collect::<Result<_, _>>()?;
        let findings = concat!(
            "SELECT ",
            columns_of!(finding),
            " FROM finding WHERE catalog = $1 AND device = $2
            ORDER BY last_at DESC, kind, closed_at LIMIT $3"
        );
        let findings = sqlx::query(findings).bind(catalog.clone()).bind(device.clone());
        let rows = findings.bind(i64::from(ROWS)).fetch_all(&mut *connection).await?;
        past.findings = rows.iter().map(finding_of).collect::<Result<_, _>>()?;
        // The key of slots begins with the deployment, of which a catalog has few.
        let slots = "SELECT s.deployment AS deployment, d.component AS component,
                d.version AS version, s.outcome AS outcome, s.forgiven AS forgiven,
                s.granted_at AS granted_at, s.tried_at AS tried_at, s.changed_at AS changed_at,
                s.silent_at AS silent_at, s.said AS said, s.stage AS slot_stage
            FROM deployment d JOIN slot_given s
                ON s.catalog = d.catalog AND s.deployment = d.id AND s.device = $2
            WHERE d.catalog = $1 ORDER BY s.granted_at DESC, s.deployment LIMIT $3";
        let slots = sqlx::query(slots).bind(catalog.clone()).bind(device.clone());
        for row in &slots.bind(i64::from(ROWS)).fetch_all(&mut *connection).await? {
            past.slots.extend(given_of(row)?);
        }
        if with_deeds {
            let deeds = "SELECT at, who, verb FROM audit WHERE catalog = $1 AND object = $2
                    AND number > (SELECT audit_number FROM catalog WHERE id = $1) - $3
                ORDER BY number DESC LIMIT $4";
            let deeds = sqlx::query(deeds).bind(catalog).bind(device).bind(stored(SEARCHED_ROWS));
            let rows = deeds.bind(i64::from(ROWS)).fetch_all(&mut *connection).await?;
            past.deeds = rows.iter().map(deed_of).collect::<Result<_, _>>()?;
        }
        Ok(past)
    }
}

fn check_in_of(row: &AnyRow) -> Result<FailedCheckIn, StoreError> {
    let (at, verdict) = (columns::number(row, "at")?, columns::text(row, "verdict")?);
    Ok(FailedCheckIn { at, verdict })
}

fn given_of(row: &AnyRow) -> Result<Option<GivenSlot>, StoreError> {
    let Some(slot) = slot_of(row)? else { return Ok(None) };
    let deployment = columns::text(row, "deployment")?;
    let (component, version) = (columns::text(row, "component")?, columns::text(row, "version")?);
    Ok(Some(GivenSlot { deployment, component, version, slot }))
}

fn deed_of(row: &AnyRow) -> Result<Deed, StoreError> {
    let (at, who) = (columns::number(row, "at")?, columns::text(row, "who")?);
    Ok(Deed { at, who, verb: columns::text(row, "verb")? })
}
