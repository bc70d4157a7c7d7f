//! Lists of devices that stages of a deployment begin with.

use crate::columns;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::deployment::plan::Plan;

/// Devices on the lists of a deployment, each with its stage, from 0 on.
pub type Lists = Vec<(DeviceId, u16)>;

/// Writes the lists of a deployment of a group. How many devices each has is the plan's, which has bounded it.
///
/// # Errors
/// A device is not in the group, is on two lists, the lists are others than the plan's, or those of the database.
pub(super) async fn put(
    connection: &mut Connection,
    scope: Scope,
    deployment: &str,
    (product, group): (&str, &str),
    (plan, lists): (&Plan, &Lists),
) -> Result<(), StoreError> {
    for (number, stage) in (0u16..).zip(plan.stages()) {
        let of_stage = lists.iter().filter(|(_, of)| *of == number).count();
        if of_stage != usize::from(stage.size.listed().unwrap_or(0)) {
            return Err(StoreError::Damaged("plan"));
        }
    }
    for (device, stage) in lists {
        let refused =
            |problem: String| StoreError::Listed { stage: *stage, device: *device, problem };
        let query = "SELECT state, product, grp FROM device WHERE catalog = $1 AND id = $2";
        let query = sqlx::query(query).bind(scope.key()).bind(device.to_string());
        let row = query.fetch_optional(&mut *connection).await?;
        let row = row.ok_or_else(|| {
            refused("is no device of the catalog; `device list` has those that are".to_owned())
        })?;
        let place = columns::text_if_any(&row, "product")?.zip(columns::text_if_any(&row, "grp")?);
        match place {
            Some((of, name)) if (of.as_str(), name.as_str()) == (product, group) => {}
            Some((of, name)) => {
                return Err(refused(format!(
                    "is in {of}/{name} and not in {product}/{group}; `device move` moves it, or leave it out"
                )));
            }
            None => {
                let state = columns::text(&row, "state")?;
                return Err(refused(format!(
                    "is {state} and in no group; `device move` moves it to {product}/{group}, or leave it out"
                )));
            }
        }
        let insert = "INSERT INTO deployment_listed (catalog, deployment, device, stage)
            VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let insert = sqlx::query(insert).bind(scope.key()).bind(deployment.to_owned());
        let insert = insert.bind(device.to_string()).bind(i64::from(*stage));
        if insert.execute(&mut *connection).await?.rows_affected() != 1 {
            return Err(refused("is on the lists twice; leave one out".to_owned()));
        }
    }
    Ok(())
}

/// Forgets the lists of a deployment.
pub(super) async fn forget(
    connection: &mut Connection,
    scope: Scope,
    deployment: &str,
) -> Result<(), StoreError> {
    let delete = "DELETE FROM deployment_listed WHERE catalog = $1 AND deployment = $2";
    let delete = sqlx::query(delete).bind(scope.key()).bind(deployment.to_owned());
    delete.execute(connection).await?;
    Ok(())
}
