//! Retirement: a device that its owner has given up is refused until it is claimed again, and what was kept of it is erased.
//!
//! What stays is its id with the state, by which it is refused; the voucher by which it was given to another catalog, for as long as
//! it may ask for that; its rows in deployments that have not ended, whose counts they are; the audit log; and its id where a threat or an alert names it. Counters, crash groups and exposure name no device.

use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::messages::DeviceId;
use sqlx::AssertSqlSafe;

/// Tables whose rows of a device go with its retirement.
const ERASED: &[&str] = &[
    "enrolment",
    "evidence",
    "finding",
    "report_source",
    "report",
    "crash_device",
    "deployment_listed",
];

/// Retires a device, and erases what was kept of it.
///
/// # Errors
/// There is no such device, or those of the database.
pub async fn retire(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
) -> Result<(), StoreError> {
    let update = "UPDATE device SET state = 'retired', product = NULL, grp = NULL, serial = NULL,
            board = NULL, claimed_grade = NULL, grade = NULL, evidence_key = NULL, quarantined = 0,
            clock_ms = NULL, clock_resets = NULL, clock_restarts = NULL, clock_safe = NULL,
            verdict = NULL, version = NULL, rollback_index = NULL, phase = NULL, claims = NULL,
            certificate_end = NULL, next_at = NULL, seen_at = NULL, revision = revision + 1
        WHERE catalog = $1 AND id = $2";
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_string());
    if update.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(StoreError::Missing("device"));
    }
    for table in ERASED {
        let delete = format!("DELETE FROM {table} WHERE catalog = $1 AND device = $2");
        let delete = sqlx::query(AssertSqlSafe(delete));
        delete.bind(scope.key()).bind(id.to_string()).execute(&mut *connection).await?;
    }
    let slots = "DELETE FROM slot_given WHERE catalog = $1 AND device = $2 AND deployment IN (
        SELECT id FROM deployment WHERE catalog = $1 AND progress IN ('done', 'withdrawn'))";
    let slots = sqlx::query(slots).bind(scope.key()).bind(id.to_string());
    slots.execute(connection).await?;
    Ok(())
}

impl Store {
    /// Erases what deployments that have ended since know of retired devices, at most `most` rows, and returns how many it were.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_retired(&self, most: u32) -> Result<u64, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let delete = "DELETE FROM slot_given WHERE (catalog, deployment, device) IN (
                    SELECT s.catalog, s.deployment, s.device FROM device d
                    JOIN deployment p ON p.catalog = d.catalog
                        AND p.progress IN ('done', 'withdrawn')
                    JOIN slot_given s ON s.catalog = d.catalog AND s.deployment = p.id
                        AND s.device = d.id
                    WHERE d.state = 'retired' LIMIT $1)";
                let delete = sqlx::query(delete).bind(i64::from(most));
                Ok(delete.execute(connection).await?.rows_affected())
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::ERASED;
    use crate::schema::VERSIONS;
    use std::collections::BTreeSet;

    /// Tables that have a column of devices.
    fn of_devices() -> BTreeSet<&'static str> {
        let mut tables = BTreeSet::new();
        for table in
            VERSIONS.iter().flat_map(|version| version.tables.split("CREATE TABLE ").skip(1))
        {
            let (name, rest) = table.split_once('(').unwrap();
            let (columns, _) = rest.split_once(";").unwrap();
            if columns.split(',').any(|column| column.split_whitespace().next() == Some("device")) {
                tables.insert(name.trim());
            }
        }
        tables
    }

    #[test]
    fn every_table_of_devices_is_erased_at_retirement_or_known_to_stay() {
        let handled: BTreeSet<&str> =
            ERASED.iter().copied().chain(["slot_given", "transfer"]).collect();
        assert_eq!(of_devices(), handled, "what is kept of a device goes with its retirement");
    }
}
