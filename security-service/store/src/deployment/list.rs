//! Deployments as they are shown, and where each device is.

use super::progress;
use super::row::{DeploymentRow, SlotRow, deployment_of, listed_of, runs, slot_of};
use crate::columns;
use crate::columns::columns_of;
use crate::error::StoreError;
use crate::scope::Scope;
use crate::store::Store;
use holdfast_evidence::messages::DeviceId;
use holdfast_service_domain::deployment::order::Place;
use holdfast_service_domain::deployment::why::{Facts, WhyNot, why_not};
use holdfast_types::Version;
use sqlx::any::AnyRow;

/// Where a device is in a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    /// The device.
    pub device: DeviceId,
    /// The version of the component that it has attested last.
    pub runs: Option<Version>,
    /// What has become of its slot, if it has one.
    pub slot: Option<SlotRow>,
    /// The stage, from 0 on, on whose list it is, if it is on any.
    pub listed: Option<u16>,
    /// When it checked in last, in seconds since 1970.
    pub seen_at: Option<u64>,
    /// Why it does not have the release yet; nothing where it has.
    pub why: Option<WhyNot>,
}

impl Store {
    /// Returns deployments by name behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn deployments(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<DeploymentRow>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(deployment),
            " FROM deployment WHERE catalog = $1 AND id > $2 ORDER BY id LIMIT $3"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(after.to_owned());
        let rows = query.bind(i64::from(most)).fetch_all(&mut *connection).await?;
        rows.iter().map(deployment_of).collect()
    }

    /// Returns a deployment.
    ///
    /// # Errors
    /// There is none of this name, or those of the database.
    pub async fn deployment(&self, scope: Scope, id: &str) -> Result<DeploymentRow, StoreError> {
        let mut connection = self.read().await?;
        progress::find(&mut connection, scope, id).await
    }

    /// Returns where the devices of its group are at `now`, in seconds since 1970, by id behind `after`.
    ///
    /// # Errors
    /// There is no deployment of this name, or those of the database.
    pub async fn whereabouts(
        &self,
        scope: Scope,
        id: &str,
        now: u64,
        after: &str,
        most: u32,
    ) -> Result<Vec<Whereabouts>, StoreError> {
        let mut connection = self.read().await?;
        let deployment = progress::find(&mut connection, scope, id).await?;
        let query =
            "SELECT d.id AS id, d.version AS version, d.phase AS phase, d.verdict AS verdict,
                d.claims AS claims, d.seen_at AS seen_at, g.update_mode AS update_mode,
                s.outcome AS outcome, s.forgiven AS forgiven, s.granted_at AS granted_at,
                s.tried_at AS tried_at, s.changed_at AS changed_at, s.silent_at AS silent_at,
                s.said AS said, s.stage AS slot_stage, l.stage AS listed
            FROM device d
            JOIN grp g ON g.catalog = d.catalog AND g.product = d.product AND g.name = d.grp
            LEFT JOIN slot_given s
                ON s.catalog = d.catalog AND s.deployment = $4 AND s.device = d.id
            LEFT JOIN deployment_listed l
                ON l.catalog = d.catalog AND l.deployment = $4 AND l.device = d.id
            WHERE d.catalog = $1 AND d.product = $2 AND d.grp = $3 AND d.state = 'enrolled'
                AND d.id > $5
            ORDER BY d.id LIMIT $6";
        let query = sqlx::query(query).bind(scope.key()).bind(deployment.product.clone());
        let query = query.bind(deployment.group.clone()).bind(id.to_owned());
        let query = query.bind(after.to_owned()).bind(i64::from(most));
        let rows = query.fetch_all(&mut *connection).await?;
        rows.iter().map(|row| whereabouts_of(row, &deployment, now)).collect()
    }
}

fn whereabouts_of(
    row: &AnyRow,
    deployment: &DeploymentRow,
    now: u64,
) -> Result<Whereabouts, StoreError> {
    let device = columns::device(row, "id")?;
    let (slot, listed) = (slot_of(row)?, listed_of(row)?);
    let runs = runs(row, &deployment.target)?;
    let is_word = |column, words: &[&str]| -> Result<bool, StoreError> {
        let word = columns::text_if_any(row, column)?;
        Ok(word.is_some_and(|word| words.contains(&word.as_str())))
    };
    let is_settled = is_word("phase", &["committed", "staged"])?
        && is_word("verdict", &["full", "update-only"])?;
    let has_attested = columns::text_if_any(row, "verdict")?.is_some();
    let seen_at = columns::number_if_any(row, "seen_at")?;
    let granted_at = slot.map(|slot| slot.slot.granted_at);
    let deadline =
        granted_at.zip(deployment.deadline_s).map(|(at, after)| at.saturating_add(after));
    let is_before_deadline = deadline.is_none_or(|deadline| now < deadline);
    let opens_in = deployment.window.map_or(0, |window| window.opens_in(now));
    let facts = Facts {
        is_update_on: columns::text(row, "update_mode")? == "on",
        place: Place::in_plan(&deployment.plan, &deployment.id, &device, listed),
        is_there: runs.is_some_and(|runs| runs >= deployment.target.version)
            && slot.is_none_or(|slot| !slot.slot.outcome.is_open()),
        // Of a device that has never checked in it is not known what it has.
        has_component: runs.is_some() || !has_attested,
        is_settled: is_settled || !has_attested,
        outcome: slot.map(|slot| slot.slot.outcome),
        seen_at: seen_at.unwrap_or(0),
        waits_for_window: is_before_deadline && opens_in > 0,
        said: slot.and_then(|slot| slot.said),
    };
    let why = why_not(&deployment.state, deployment.slots, &facts);
    Ok(Whereabouts { device, runs, slot, listed, seen_at, why })
}
