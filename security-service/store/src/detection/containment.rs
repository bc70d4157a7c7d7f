//! Containment: what is contained in a group, done and undone by people because of a threat, and asked at each check-in.

use super::contained::{contained_of, of_group};
use super::group_of;
use super::threat::{self, ThreatRow};
use crate::columns::stored;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_service_domain::detection::containment::{self, Action, Contained, MAX_CONTAINED};
use holdfast_service_domain::detection::fleet::GroupName;
use std::collections::BTreeMap;

impl Store {
    /// Returns what is contained in a group.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn contained(
        &self,
        scope: Scope,
        group: &GroupName,
    ) -> Result<Contained, StoreError> {
        let mut connection = self.read().await?;
        of_group(&mut connection, scope, group).await
    }

    /// Returns what is contained in each group of a catalog in which something is.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn all_contained(
        &self,
        scope: Scope,
    ) -> Result<BTreeMap<GroupName, Contained>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT product, grp, contained FROM containment WHERE catalog = $1";
        let rows = sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| Ok((group_of(row)?, contained_of(row)?))).collect()
    }
}

async fn put(
    connection: &mut Connection,
    scope: Scope,
    group: &GroupName,
    contained: &Contained,
) -> Result<(), StoreError> {
    if contained.is_empty() {
        let delete = "DELETE FROM containment WHERE catalog = $1 AND product = $2 AND grp = $3";
        let delete = sqlx::query(delete).bind(scope.key()).bind(group.product.clone());
        delete.bind(group.group.clone()).execute(connection).await?;
        return Ok(());
    }
    let put = "INSERT INTO containment (catalog, product, grp, contained) VALUES ($1, $2, $3, $4)
        ON CONFLICT (catalog, product, grp) DO UPDATE SET contained = $4";
    let text = serde_json::to_string(contained).map_err(|_| StoreError::Damaged("contained"))?;
    let put = sqlx::query(put).bind(scope.key()).bind(group.product.clone());
    put.bind(group.group.clone()).bind(text).execute(connection).await?;
    Ok(())
}

/// Contains a threat, and returns its group and what is done because of it now. Deployments are the caller's to halt. Done again, it adds what its evidence names since.
///
/// # Errors
/// There is no such threat, nothing contains it, there is no room for more, or those of the database.
pub async fn contain(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
    who: String,
    at: u64,
) -> Result<(GroupName, Vec<Action>), StoreError> {
    let ThreatRow { group, finding, .. } = threat::locked(connection, scope, number).await?;
    let actions = containment::contain(&finding).actions;
    if actions.is_empty() {
        return Err(StoreError::NotContainable);
    }
    let mut contained = of_group(connection, scope, &group).await?;
    for action in &actions {
        let most = u32::try_from(MAX_CONTAINED).unwrap_or(u32::MAX);
        let full = StoreError::Full { what: "versions, parts and devices contained", most };
        contained.apply(action, number).map_err(|_| full)?;
    }
    put(connection, scope, &group, &contained).await?;
    note(connection, scope, number, Some((at, who))).await?;
    Ok((group, contained.of(number).cloned().collect()))
}

/// Undoes what was done because of a threat. What another asks for as well ends with that one.
///
/// # Errors
/// There is no such threat that is contained, or those of the database.
pub async fn release(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
) -> Result<(), StoreError> {
    let ThreatRow { group, .. } = threat::locked(connection, scope, number).await?;
    let mut contained = of_group(connection, scope, &group).await?;
    if !contained.release(number) {
        return Err(StoreError::Missing("contained threat"));
    }
    put(connection, scope, &group, &contained).await?;
    note(connection, scope, number, None).await
}

async fn note(
    connection: &mut Connection,
    scope: Scope,
    number: u64,
    by: Option<(u64, String)>,
) -> Result<(), StoreError> {
    let update = "UPDATE threat SET contained_at = $3, contained_by = $4
        WHERE catalog = $1 AND number = $2";
    let (at, who) = by.unzip();
    let update = sqlx::query(update).bind(scope.key()).bind(stored(number));
    update.bind(at.map(stored)).bind(who).execute(connection).await?;
    Ok(())
}
