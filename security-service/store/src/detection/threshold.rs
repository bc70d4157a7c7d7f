//! Thresholds that groups have set.

use super::group_of;
use crate::columns::{self, stored};
use crate::device::must_have_group;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::detection::fleet::GroupName;
use holdfast_service_domain::detection::thresholds::Overrides;
use std::collections::BTreeMap;

impl Store {
    /// Returns the thresholds of each group that differ from their defaults.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn thresholds(
        &self,
        scope: Scope,
    ) -> Result<BTreeMap<GroupName, Overrides>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT product, grp, name, value FROM threshold_override WHERE catalog = $1";
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        let mut all = BTreeMap::<GroupName, Overrides>::new();
        for row in &rows {
            // One that cannot be read is as if it was not set: the rules of its group go on with their defaults.
            let value = columns::number(row, "value").ok().and_then(|n| u32::try_from(n).ok());
            if let Some(value) = value {
                let overrides = all.entry(group_of(row)?).or_default();
                overrides.insert(columns::text(row, "name")?, value);
            }
        }
        Ok(all)
    }
}

/// Sets thresholds of a group, or brings their defaults back. Whoever asks has checked names and bounds.
///
/// # Errors
/// There is no such group, or those of the database.
pub async fn set(
    connection: &mut Connection,
    scope: Scope,
    group: GroupName,
    changes: BTreeMap<String, Option<u32>>,
) -> Result<(), StoreError> {
    if !group.is_none() {
        must_have_group(connection, scope, &group.product, &group.group).await?;
    }
    for (name, value) in changes {
        let statement = match value {
            Some(_) => {
                "INSERT INTO threshold_override (catalog, product, grp, name, value)
                VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (catalog, product, grp, name) DO UPDATE SET value = $5"
            }
            None => {
                "DELETE FROM threshold_override
                WHERE catalog = $1 AND product = $2 AND grp = $3 AND name = $4 AND $5 = 0"
            }
        };
        let statement = sqlx::query(statement).bind(scope.key()).bind(group.product.clone());
        let statement = statement.bind(group.group.clone()).bind(name);
        let value = stored(value.map_or(0, u64::from));
        statement.bind(value).execute(&mut *connection).await?;
    }
    Ok(())
}
