//! Rows of deployments and of slots.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use holdfast_evidence::claims::Claims;
use holdfast_release::assignment::LocalWindow;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::deployment::order::{Frozen, Place};
use holdfast_service_domain::deployment::plan::Plan;
use holdfast_service_domain::deployment::slot::{Outcome, Slot, Tallies, Tally, Target};
use holdfast_service_domain::deployment::state::{Cause, Deployment, Hold, Progress};
use holdfast_service_domain::deployment::why::WhyNot;
use holdfast_service_domain::person::{By, PersonId};
use holdfast_types::Version;
use sqlx::Row as _;
use sqlx::any::AnyRow;

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRow {
    /// Its name, which devices are told.
    pub id: String,
    /// The product.
    pub product: String,
    /// The group.
    pub group: String,
    /// What is deployed.
    pub target: Target,
    /// Its stages.
    pub plan: Plan,
    /// When devices may restart for it.
    pub window: Option<LocalWindow>,
    /// Seconds after which a device waits for the window no longer.
    pub deadline_s: Option<u64>,
    /// How often devices check for it, in seconds.
    pub check_every_s: Option<u32>,
    /// Its state.
    pub state: Deployment,
    /// Slots that were given, whatever has become of them.
    pub slots: u64,
    /// Those that count.
    pub tallies: Tallies,
    /// When its first stage began, in seconds since 1970; 0 before.
    pub began_at: u64,
    /// When it was drafted, in seconds since 1970.
    pub created_at: u64,
}

impl DeploymentRow {
    /// Returns its state with the stage less those for whom nobody waits.
    #[must_use]
    pub fn waited_for(&self) -> Deployment {
        self.state.waited_for(self.slots, &self.tallies)
    }
}

/// A slot, with what its device says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotRow {
    /// The slot.
    pub slot: Slot,
    /// The stage that has given it, from 0 on.
    pub stage: u16,
    /// Why the device does not take the release, as it says.
    pub said: Option<WhyNot>,
}

fn signed(row: &AnyRow, column: &'static str) -> Result<i64, StoreError> {
    row.try_get(column).map_err(|_| StoreError::Damaged(column))
}

fn parsed<T: std::str::FromStr>(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text = columns::text_if_any(row, column)?;
    text.map(|text| text.parse()).transpose().map_err(|_| StoreError::Damaged(column))
}

pub(crate) fn deployment_of(row: &AnyRow) -> Result<DeploymentRow, StoreError> {
    let missing = StoreError::Damaged;
    let progress = Progress::of_word(&columns::text(row, "progress")?);
    let cause = columns::text_if_any(row, "cause")?.map(|word| Cause::of_word(&word));
    let hold = match (columns::text(row, "hold")?.as_str(), cause) {
        ("", _) => Hold::None,
        ("paused", _) => Hold::Paused,
        ("halted", Some(Some(cause))) => Hold::Halted(cause),
        _ => return Err(missing("hold")),
    };
    let stage = u16::try_from(columns::number(row, "stage")?).map_err(|_| missing("stage"))?;
    let last = Place::of_text(&columns::text(row, "frozen_last")?);
    let frozen = Frozen {
        devices: columns::number(row, "frozen_devices")?,
        allowance: columns::number(row, "frozen_allowance")?,
        last: last.ok_or(missing("frozen_last"))?,
        given: columns::number(row, "frozen_given")?,
    };
    let state = Deployment {
        progress: progress.ok_or(missing("progress"))?,
        hold,
        stage,
        since: columns::number(row, "since")?,
        drafted_by: By {
            name: columns::text(row, "drafted_by")?,
            person: PersonId::stored(columns::text(row, "drafted_person")?),
        },
        approved_by: columns::text_if_any(row, "approved_by")?,
        is_production: columns::number(row, "production")? > 0,
        begins_at: columns::number(row, "begins_at")?,
        frozen,
        resumed_at: columns::number(row, "resumed_at")?,
    };
    let check_every_s = columns::number_if_any(row, "check_every_s")?;
    let check_every_s = check_every_s.map(u32::try_from).transpose();
    Ok(DeploymentRow {
        id: columns::text(row, "id")?,
        product: columns::text(row, "product")?,
        group: columns::text(row, "grp")?,
        target: Target {
            subject: parsed(row, "component")?.ok_or(missing("component"))?,
            version: columns::version(row, "version")?,
        },
        plan: parsed(row, "plan")?.ok_or(missing("plan"))?,
        window: parsed(row, "restart_window")?,
        deadline_s: columns::number_if_any(row, "deadline_s")?,
        check_every_s: check_every_s.map_err(|_| missing("check_every_s"))?,
        state,
        slots: columns::number(row, "slots")?,
        tallies: Tallies {
            all: Tally {
                granted: signed(row, "granted")?,
                committed: signed(row, "committed")?,
                failed: signed(row, "failed")?,
                silent: signed(row, "silent")?,
            },
            stage: Tally {
                granted: signed(row, "stage_granted")?,
                committed: signed(row, "stage_committed")?,
                failed: signed(row, "stage_failed")?,
                silent: signed(row, "stage_silent")?,
            },
        },
        began_at: columns::number(row, "began_at")?,
        created_at: columns::number(row, "created_at")?,
    })
}

/// The stage, from 0 on, on whose list the device of a row is, if it is on any of the deployment.
pub(crate) fn listed_of(row: &AnyRow) -> Result<Option<u16>, StoreError> {
    let stage = columns::number_if_any(row, "listed")?.map(u16::try_from);
    stage.transpose().map_err(|_| StoreError::Damaged("listed"))
}

/// The slot of a row that may have none.
pub(crate) fn slot_of(row: &AnyRow) -> Result<Option<SlotRow>, StoreError> {
    let Some(outcome) = columns::text_if_any(row, "outcome")? else {
        return Ok(None);
    };
    let outcome = Outcome::of_word(&outcome).ok_or(StoreError::Damaged("outcome"))?;
    let slot = Slot {
        outcome,
        is_forgiven: columns::number(row, "forgiven")? > 0,
        granted_at: columns::number(row, "granted_at")?,
        tried_at: columns::number(row, "tried_at")?,
        changed_at: columns::number(row, "changed_at")?,
        silent_at: columns::number(row, "silent_at")?,
    };
    let said = columns::text_if_any(row, "said")?;
    let said = said.as_deref().and_then(WhyNot::of_word);
    let stage = columns::number(row, "slot_stage")?;
    let stage = u16::try_from(stage).map_err(|_| StoreError::Damaged("slot_stage"))?;
    Ok(Some(SlotRow { slot, stage, said }))
}

/// Writes what a deployment has become.
pub(crate) async fn save(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
) -> Result<(), StoreError> {
    let update =
        "UPDATE deployment SET progress = $3, hold = $4, cause = $5, stage = $6, since = $7,
            approved_by = $8, resumed_at = $9, began_at = $10, frozen_devices = $11,
            frozen_allowance = $12, frozen_last = $13, frozen_given = $14, stage_granted = $15,
            stage_committed = $16, stage_failed = $17, stage_silent = $18, revision = revision + 1
        WHERE catalog = $1 AND id = $2";
    let state = &row.state;
    let (hold, cause) = match state.hold {
        Hold::None => ("", None),
        Hold::Paused => ("paused", None),
        Hold::Halted(cause) => ("halted", Some(cause.word().to_owned())),
    };
    sqlx::query(update)
        .bind(scope.key())
        .bind(row.id.clone())
        .bind(state.progress.word().to_owned())
        .bind(hold.to_owned())
        .bind(cause)
        .bind(i64::from(state.stage))
        .bind(stored(state.since))
        .bind(state.approved_by.clone())
        .bind(stored(state.resumed_at))
        .bind(stored(row.began_at))
        .bind(stored(state.frozen.devices))
        .bind(stored(state.frozen.allowance))
        .bind(state.frozen.last.text())
        .bind(stored(state.frozen.given))
        .bind(row.tallies.stage.granted)
        .bind(row.tallies.stage.committed)
        .bind(row.tallies.stage.failed)
        .bind(row.tallies.stage.silent)
        .execute(connection)
        .await?;
    Ok(())
}

/// How tallies move: all of it, and what of it is of the slots that one stage has given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    /// All of it.
    pub(crate) all: Tally,
    /// The stage, from 0 on.
    pub(crate) stage: u16,
    /// What of it is of that stage.
    pub(crate) of_stage: Tally,
}

impl Moved {
    /// Of one slot.
    pub(crate) fn slot(before: &SlotRow, after: &Slot) -> Self {
        let moved = Tally::of(after).minus(Tally::of(&before.slot));
        Self { all: moved, stage: before.stage, of_stage: moved }
    }

    /// Adds what moves a slot, where the deployment is at this stage.
    pub(crate) fn add(&mut self, one: Self, at: u16) {
        self.stage = at;
        self.all = self.all.plus(one.all);
        if one.stage == at {
            self.of_stage = self.of_stage.plus(one.of_stage);
        }
    }
}

/// Locks a deployment until the end of the transaction, adds to its tallies, and returns it as it is then. What is of another stage than the
/// one that it is at counts among all alone.
pub(crate) async fn lock(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
    add: Moved,
) -> Result<DeploymentRow, StoreError> {
    let update = concat!(
        "UPDATE deployment SET granted = granted + $3, committed = committed + $4,
            failed = failed + $5, silent = silent + $6, revision = revision + 1,
            stage_granted = stage_granted + CASE WHEN stage = $7 THEN $8 ELSE 0 END,
            stage_committed = stage_committed + CASE WHEN stage = $7 THEN $9 ELSE 0 END,
            stage_failed = stage_failed + CASE WHEN stage = $7 THEN $10 ELSE 0 END,
            stage_silent = stage_silent + CASE WHEN stage = $7 THEN $11 ELSE 0 END
        WHERE catalog = $1 AND id = $2 RETURNING ",
        columns_of!(deployment)
    );
    let Moved { all, stage, of_stage } = add;
    let update = sqlx::query(update).bind(scope.key()).bind(id.to_owned());
    let update = update.bind(all.granted).bind(all.committed).bind(all.failed).bind(all.silent);
    let update = update.bind(i64::from(stage)).bind(of_stage.granted).bind(of_stage.committed);
    let update = update.bind(of_stage.failed).bind(of_stage.silent);
    let row = update.fetch_optional(connection).await?;
    deployment_of(&row.ok_or(StoreError::Missing("deployment"))?)
}

/// Writes what a slot has become, if it is still what it was.
pub(crate) async fn save_slot(
    connection: &mut Connection,
    scope: Scope,
    (deployment, device): (&str, &str),
    before: &Slot,
    after: &SlotRow,
) -> Result<bool, StoreError> {
    let update =
        "UPDATE slot_given SET outcome = $6, forgiven = $7, tried_at = $8, changed_at = $9,
            silent_at = $10, said = $11
        WHERE catalog = $1 AND deployment = $2 AND device = $3 AND outcome = $4 AND forgiven = $5
            AND silent_at = $12";
    let SlotRow { slot, said, .. } = after;
    let done = sqlx::query(update)
        .bind(scope.key())
        .bind(deployment.to_owned())
        .bind(device.to_owned())
        .bind(before.outcome.word().to_owned())
        .bind(i64::from(before.is_forgiven))
        .bind(slot.outcome.word().to_owned())
        .bind(i64::from(slot.is_forgiven))
        .bind(stored(slot.tried_at))
        .bind(stored(slot.changed_at))
        .bind(stored(slot.silent_at))
        .bind(said.map(|why| why.word().to_owned()))
        .bind(stored(before.silent_at))
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// The version of a component that a device has attested last.
pub(super) fn runs(row: &AnyRow, target: &Target) -> Result<Option<Version>, StoreError> {
    match target.subject {
        ReleaseSubject::Os => {
            let version = columns::text_if_any(row, "version")?;
            Ok(version.and_then(|version| version.parse().ok()))
        }
        ReleaseSubject::App(id) => {
            let claims = columns::bytes_if_any(row, "claims")?;
            let claims = claims.and_then(|claims| Claims::read(&claims).ok());
            let app = claims.and_then(|claims| claims.apps.into_iter().find(|app| app.id == id));
            Ok(app.map(|app| app.version))
        }
    }
}
