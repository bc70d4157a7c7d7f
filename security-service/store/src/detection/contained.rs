//! What is contained in a group, as its row has it.

use crate::columns;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use holdfast_service_domain::detection::containment::Contained;
use holdfast_service_domain::detection::fleet::GroupName;
use sqlx::any::AnyRow;

/// Reads what is contained; nothing, where the row has none.
pub(crate) fn contained_of(row: &AnyRow) -> Result<Contained, StoreError> {
    let text = columns::text_if_any(row, "contained")?;
    let contained = text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(contained.map_err(|_| StoreError::Damaged("contained"))?.unwrap_or_default())
}

/// Returns what is contained in a group, within a transaction.
///
/// # Errors
/// Those of the database.
pub async fn of_group(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
) -> Result<Contained, StoreError> {
    let query =
        "SELECT contained FROM containment WHERE catalog = $1 AND product = $2 AND grp = $3";
    let query = sqlx::query(query).bind(scope.key()).bind(group.product.clone());
    let row = query.bind(group.group.clone()).fetch_optional(connection).await?;
    row.as_ref().map_or_else(|| Ok(Contained::default()), contained_of)
}
