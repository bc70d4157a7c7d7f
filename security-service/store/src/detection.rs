//! Threat detection, as it is kept: what rules look at, who evaluates them, what was found and is to be told, and what is contained.

pub mod contained;
pub mod containment;
pub mod lease;
pub mod observed;
pub mod threat;
pub mod threshold;

use crate::columns;
use crate::error::StoreError;
use holdfast_service_domain::detection::fleet::GroupName;
use sqlx::any::AnyRow;

/// Reads the group of a row, whose columns are null or empty for devices that are in none.
fn group_of(row: &AnyRow) -> Result<GroupName, StoreError> {
    Ok(GroupName {
        product: columns::text_if_any(row, "product")?.unwrap_or_default(),
        group: columns::text_if_any(row, "grp")?.unwrap_or_default(),
    })
}
