//! Check-ins: what one is decided by, read by one statement, and what is written of it.

use crate::check_in_row::{Row, write_row};
use crate::columns;
use crate::detection::contained;
use crate::device::{self, device_of};
use crate::error::StoreError;
use crate::release::release_of;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::messages::{CatalogId, DeviceId};
use holdfast_evidence::policy::PcrDigest;
use holdfast_release::feed::Feed;
use holdfast_service_domain::check_in::{CheckInWrite, Rules};
use holdfast_service_domain::deployment::plan::emergency_pattern;
use holdfast_service_domain::detection::containment::Contained;
use holdfast_service_domain::device::Device;
use holdfast_service_domain::measurement::Release;
use holdfast_types::hex::hex;
use sqlx::any::AnyRow;

/// The device, rules and release that a check-in is decided by, as they were at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The device's row.
    pub device: Device,
    /// The rules of its group, or of its catalog.
    pub rules: Rules,
    /// What is contained in its group.
    pub contained: Contained,
    /// True if its group has deployments, or has its updates switched off: then what the device may take is decided as well.
    pub has_deployments: bool,
    /// True if there is a voucher, by which the device goes to another catalog.
    pub has_voucher: bool,
    /// True while a deployment with the stages of the preset `emergency` is on its way in its group.
    pub is_emergency: bool,
    /// The feed that its group follows, where somebody has said one.
    pub feed: Option<Feed>,
    /// The release that measures what was expected, where there is one.
    pub expected: Option<Release>,
}

impl Store {
    /// Returns what the check-in of a device is decided by, or nothing where its catalog does not have it, with the scope of the
    /// catalog that it names, or nothing where there is none. `expected` is what the device is believed to have measured: the
    /// release is found with the rest if that turns out to be right.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn facts(
        &self,
        catalog: CatalogId,
        id: &DeviceId,
        expected: Option<&PcrDigest>,
    ) -> Result<Option<(Scope, Option<Facts>)>, StoreError> {
        let query = "SELECT d.catalog AS catalog, d.id AS id, d.kind AS kind, d.state AS state,
                d.claimed_grade AS claimed_grade, d.grade AS grade, d.evidence_key AS evidence_key,
                d.quarantined AS quarantined, d.receipt_newest AS receipt_newest,
                d.receipt_returned AS receipt_returned, d.clock_ms AS clock_ms,
                d.clock_resets AS clock_resets, d.clock_restarts AS clock_restarts,
                d.clock_safe AS clock_safe, d.revision AS revision,
                c.grades AS grades, g.grades AS of_group, g.least_index AS least_index,
                g.report_level AS report_level, g.feed AS feed, g.deployments AS deployments, g.update_mode AS update_mode,
                m.boot AS boot, m.version AS version, m.rollback_index AS rollback_index,
                m.withdrawn_at AS withdrawn_at, k.contained AS contained,
                CASE WHEN t.voucher IS NULL THEN 0 ELSE 1 END AS has_voucher,
                CASE WHEN g.deployments > 0 THEN (SELECT COUNT(*) FROM deployment p
                    WHERE p.catalog = d.catalog AND p.product = d.product AND p.grp = d.grp
                        AND p.progress IN ('approved', 'running', 'soaking') AND p.hold = ''
                        AND p.plan LIKE $4) ELSE 0 END AS emergencies
            FROM catalog c
            LEFT JOIN device d ON d.catalog = c.id AND d.id = $2
            LEFT JOIN grp g ON g.catalog = d.catalog AND g.product = d.product AND g.name = d.grp
            LEFT JOIN containment k ON k.catalog = d.catalog
                AND k.product = COALESCE(d.product, '') AND k.grp = COALESCE(d.grp, '')
            LEFT JOIN transfer t ON t.catalog = d.catalog AND t.device = d.id
            LEFT JOIN measurement m ON m.catalog = c.id AND m.pcr = $3
            WHERE c.id = $1";
        let scope = Scope::new(catalog);
        let row = {
            let mut connection = self.read().await?;
            let query = sqlx::query(query).bind(scope.key()).bind(id.to_string());
            let query = query.bind(expected.map(|pcr| hex(&pcr.0)));
            let query = query.bind(emergency_pattern());
            query.fetch_optional(&mut *connection).await?
        };
        let Some(row) = row else { return Ok(None) };
        if columns::text_if_any(&row, "id")?.is_none() {
            return Ok(Some((scope, None)));
        }
        let is_known = columns::text_if_any(&row, "boot")?.is_some();
        let facts = Facts {
            device: device_of(&row)?,
            rules: columns::rules(&row)?,
            contained: contained::contained_of(&row)?,
            has_deployments: has_deployments(&row)?,
            has_voucher: columns::number(&row, "has_voucher")? != 0,
            is_emergency: columns::number(&row, "emergencies")? > 0,
            feed: columns::feed_if_any(&row)?,
            expected: if is_known { Some(release_of(&row)?) } else { None },
        };
        Ok(Some((scope, Some(facts))))
    }

    /// Writes all of a check-in, or nothing: the device's row, what was found, and the evidence of a failure.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] where the row is another than that which was decided on.
    pub async fn check_in(
        &self,
        scope: Scope,
        id: DeviceId,
        write: CheckInWrite,
        measured: PcrDigest,
        claims: Vec<u8>,
    ) -> Result<(), StoreError> {
        let row = Row { catalog: scope.catalog(), id, write, claims };
        if is_full(&row) && row.write.findings.is_empty() {
            return self.write_row(row).await;
        }
        self.write(move |connection| {
            Box::pin(async move { write_all(connection, scope, row, measured).await })
        })
        .await
    }
}

fn is_full(row: &Row) -> bool {
    row.write.verdict == "full"
}

fn has_deployments(row: &AnyRow) -> Result<bool, StoreError> {
    let is_off = columns::text_if_any(row, "update_mode")?.is_some_and(|mode| mode != "on");
    Ok(is_off || columns::number_if_any(row, "deployments")?.unwrap_or(0) > 0)
}

/// Writes all of a check-in within a transaction.
pub(crate) async fn write_all(
    connection: &mut Connection,
    scope: Scope,
    row: Row,
    measured: PcrDigest,
) -> Result<(), StoreError> {
    write_row(connection, &row).await?;
    let is_full = is_full(&row);
    let Row { id, write, claims, .. } = row;
    for finding in &write.findings {
        device::find(connection, scope, &id, *finding, write.at).await?;
    }
    if !is_full {
        device::keep_evidence(connection, scope, &id, &write, measured, claims).await?;
    }
    Ok(())
}
