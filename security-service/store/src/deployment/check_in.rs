//! Check-ins of devices in groups with deployments: what they show of slots, slots that are given, and what a device may take.

use super::progress::go_on;
use super::row::{self, DeploymentRow, Moved, SlotRow, deployment_of, listed_of, slot_of};
use crate::audit;
use crate::check_in::write_all;
use crate::check_in_row::Row;
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::claims::Claims;
use holdfast_evidence::messages::{AssignmentMessage, DeviceId, UpdateWait};
use holdfast_evidence::policy::PcrDigest;
use holdfast_release::assignment::MAX_ASSIGNMENTS;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::check_in::Decision;
use holdfast_service_domain::deployment::assignment::{Offered, narrow};
use holdfast_service_domain::deployment::order::Place;
use holdfast_service_domain::deployment::progress::{Alarms, due};
use holdfast_service_domain::deployment::slot::{Sighting, Slot, Tally, is_settled};
use holdfast_service_domain::deployment::why::{Facts, WhyNot, may_be_granted};
use holdfast_types::Version;
use std::collections::BTreeSet;

/// Most deployments of a group.
pub const MOST_OF_GROUP: u32 = 64;

/// A check-in of a device in a group with deployments.
#[derive(Debug, Clone)]
pub struct StagedCheckIn {
    /// The device.
    pub id: DeviceId,
    /// What was decided.
    pub decision: Decision,
    /// What it has measured.
    pub measured: PcrDigest,
    /// Its claims, as they came.
    pub claims: Vec<u8>,
    /// Why it does not take what it was assigned, as it says.
    pub update: Option<UpdateWait>,
}

struct Group {
    product: String,
    name: String,
    is_update_on: bool,
}

struct Member {
    row: DeploymentRow,
    slot: Option<SlotRow>,
    /// The stage on whose list the device is.
    listed: Option<u16>,
}

impl Store {
    /// Writes all of a check-in, as [`check_in`](Self::check_in) does, with what it shows of the device's slots, gives it new ones, and
    /// returns what it may take.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`] where a row is another than that which was decided on.
    pub async fn check_in_with_deployments(
        &self,
        scope: Scope,
        check_in: StagedCheckIn,
    ) -> Result<Vec<AssignmentMessage>, StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let StagedCheckIn { id, decision, measured, claims, update } = check_in;
                let read = Claims::read(&claims).map_err(|_| StoreError::Damaged("claims"))?;
                let write = decision.write.clone();
                let row = Row { catalog: scope.catalog(), id, write, claims };
                write_all(connection, scope, row, measured).await?;
                assign(connection, scope, &Seen { id, decision, claims: read, update }).await
            })
        })
        .await
    }
}

struct Seen {
    id: DeviceId,
    decision: Decision,
    claims: Claims,
    update: Option<UpdateWait>,
}

impl Seen {
    fn now(&self) -> u64 {
        self.decision.write.at
    }

    fn next_at(&self) -> u64 {
        self.decision.write.next_at.unwrap_or(self.now())
    }

    /// The version of a component that was attested.
    fn runs(&self, subject: ReleaseSubject) -> Option<Version> {
        match subject {
            ReleaseSubject::Os => self.decision.write.release.map(|release| release.version),
            ReleaseSubject::App(id) => {
                let app = self.claims.apps.iter().find(|app| app.id == id);
                app.map(|app| app.version)
            }
        }
    }

    fn facts(&self, member: &Member, is_update_on: bool) -> Facts {
        let runs = self.runs(member.row.target.subject);
        Facts {
            is_update_on,
            place: Place::in_plan(&member.row.plan, &member.row.id, &self.id, member.listed),
            is_there: runs.is_some_and(|runs| runs >= member.row.target.version),
            has_component: runs.is_some(),
            is_settled: is_settled(&self.decision),
            outcome: member.slot.map(|slot| slot.slot.outcome),
            seen_at: self.now(),
            waits_for_window: false,
            said: None,
        }
    }

    fn is_candidate(&self, member: &Member, is_update_on: bool) -> bool {
        let facts = self.facts(member, is_update_on);
        let has_room = member.row.slots < member.row.state.frozen.allowance;
        member.slot.is_none()
            && member.row.state.grants()
            && has_room
            && !facts.is_there
            && may_be_granted(&member.row.state, &facts).is_ok()
    }
}

async fn assign(
    connection: &mut Connection,
    scope: Scope,
    seen: &Seen,
) -> Result<Vec<AssignmentMessage>, StoreError> {
    let Some(group) = group_of(connection, scope, &seen.id).await? else {
        return Ok(Vec::new());
    };
    let mut members = members(connection, scope, &group, &seen.id).await?;
    let is_asked = members.iter().any(|member| seen.is_candidate(member, group.is_update_on));
    // It is asked again under the lock: who has switched updates off and was told so sees no slot given afterwards.
    let is_on = is_asked && lock_group(connection, scope, &group).await?;
    let mut entries = Vec::new();
    for member in &mut members {
        match member.slot {
            Some(slot) => see(connection, scope, seen, member, slot).await?,
            None if is_on && seen.is_candidate(member, true) => {
                grant(connection, scope, seen, member).await?;
            }
            None => {}
        }
        entries.extend(go_on_if_due(connection, scope, seen, member).await?);
    }
    for entry in entries {
        audit::append(connection, scope, entry).await?;
    }
    Ok(messages(seen, &members, group.is_update_on))
}

/// Takes a deployment as far as it goes, where the check-in of any of its devices finds that it is time.
async fn go_on_if_due(
    connection: &mut Connection,
    scope: Scope,
    seen: &Seen,
    member: &mut Member,
) -> Result<Vec<audit::Entry>, StoreError> {
    let DeploymentRow { plan, tallies, .. } = &member.row;
    let none = Alarms::default();
    if due(&member.row.waited_for(), plan, tallies, none, seen.now()).is_none() {
        return Ok(Vec::new());
    }
    let locked = row::lock(connection, scope, &member.row.id, Moved::default()).await?;
    let (row, entries) = go_on(connection, scope, locked, seen.now(), false).await?;
    member.row = row;
    Ok(entries)
}

async fn group_of(
    connection: &mut Connection,
    scope: Scope,
    id: &DeviceId,
) -> Result<Option<Group>, StoreError> {
    let query = "SELECT g.product AS product, g.name AS name, g.update_mode AS update_mode
        FROM device d
        JOIN grp g ON g.catalog = d.catalog AND g.product = d.product AND g.name = d.grp
        WHERE d.catalog = $1 AND d.id = $2";
    let query = sqlx::query(query).bind(scope.key()).bind(id.to_string());
    let Some(row) = query.fetch_optional(connection).await? else { return Ok(None) };
    Ok(Some(Group {
        product: columns::text(&row, "product")?,
        name: columns::text(&row, "name")?,
        is_update_on: columns::text(&row, "update_mode")? == "on",
    }))
}

/// The deployments of a group, each with the device's slot, by name.
async fn members(
    connection: &mut Connection,
    scope: Scope,
    group: &Group,
    id: &DeviceId,
) -> Result<Vec<Member>, StoreError> {
    let query = "SELECT p.catalog AS catalog, p.id AS id, p.product AS product, p.grp AS grp,
            p.component AS component, p.version AS version, p.plan AS plan,
            p.restart_window AS restart_window, p.deadline_s AS deadline_s,
            p.check_every_s AS check_every_s, p.begins_at AS begins_at,
            p.progress AS progress, p.hold AS hold, p.cause AS cause, p.stage AS stage,
            p.since AS since, p.drafted_by AS drafted_by, p.approved_by AS approved_by,
            p.production AS production, p.resumed_at AS resumed_at, p.began_at AS began_at,
            p.frozen_devices AS frozen_devices, p.frozen_allowance AS frozen_allowance,
            p.frozen_last AS frozen_last, p.slots AS slots, p.granted AS granted,
            p.committed AS committed, p.failed AS failed, p.silent AS silent,
            p.created_at AS created_at, p.revision AS revision,
             p.drafted_person AS drafted_person, p.frozen_given AS frozen_given,
             p.stage_granted AS stage_granted, p.stage_committed AS stage_committed,
             p.stage_failed AS stage_failed, p.stage_silent AS stage_silent, s.outcome AS outcome, s.forgiven AS forgiven,
            s.granted_at AS granted_at, s.tried_at AS tried_at, s.changed_at AS changed_at,
            s.silent_at AS silent_at, s.said AS said, s.stage AS slot_stage, l.stage AS listed
        FROM deployment p
        LEFT JOIN slot_given s ON s.catalog = p.catalog AND s.deployment = p.id AND s.device = $4
        LEFT JOIN deployment_listed l
            ON l.catalog = p.catalog AND l.deployment = p.id AND l.device = $4
        WHERE p.catalog = $1 AND p.product = $2 AND p.grp = $3 ORDER BY p.id LIMIT $5";
    let query = sqlx::query(query).bind(scope.key()).bind(group.product.clone());
    let query = query.bind(group.name.clone()).bind(id.to_string());
    let rows = query.bind(i64::from(MOST_OF_GROUP)).fetch_all(connection).await?;
    let member =
        |row| Ok(Member { row: deployment_of(row)?, slot: slot_of(row)?, listed: listed_of(row)? });
    rows.iter().map(member).collect()
}

/// Locks a group whose updates are on, and says whether they are.
async fn lock_group(
    connection: &mut Connection,
    scope: Scope,
    group: &Group,
) -> Result<bool, StoreError> {
    // An update that changes nothing takes the row's lock on PostgreSQL; SQLite has one writer.
    let update = "UPDATE grp SET revision = revision
        WHERE catalog = $1 AND product = $2 AND name = $3 AND update_mode = 'on'";
    let update = sqlx::query(update).bind(scope.key()).bind(group.product.clone());
    let locked = update.bind(group.name.clone()).execute(connection).await?;
    Ok(locked.rows_affected() == 1)
}

/// Writes what a check-in shows of a slot.
async fn see(
    connection: &mut Connection,
    scope: Scope,
    seen: &Seen,
    member: &mut Member,
    before: SlotRow,
) -> Result<(), StoreError> {
    let sighting = Sighting::of(&member.row.target, &seen.decision, &seen.claims);
    let mut after = before.slot.seen(sighting, seen.now(), seen.next_at());
    if seen.update == Some(UpdateWait::FailedBefore) {
        after = after.refuse(seen.now());
    }
    let said = seen.update.map(WhyNot::of_wait).filter(|_| after.outcome.is_open());
    let after = SlotRow { slot: after, stage: before.stage, said };
    if after == before {
        return Ok(());
    }
    let moved = Moved::slot(&before, &after.slot);
    // The deployment is locked before its slot, as everybody does.
    if moved.all != Tally::default() {
        member.row = row::lock(connection, scope, &member.row.id, moved).await?;
    }
    let device = seen.id.to_string();
    let of = (member.row.id.as_str(), device.as_str());
    if !row::save_slot(connection, scope, of, &before.slot, &after).await? {
        return Err(StoreError::Overtaken);
    }
    member.slot = Some(after);
    Ok(())
}

/// Gives a device a slot, if the deployment still gives any: its state and the number of slots are read where they are written.
async fn grant(
    connection: &mut Connection,
    scope: Scope,
    seen: &Seen,
    member: &mut Member,
) -> Result<(), StoreError> {
    let take = concat!(
        "UPDATE deployment SET slots = slots + 1, granted = granted + 1,
            stage_granted = stage_granted + 1, revision = revision + 1
        WHERE catalog = $1 AND id = $2 AND progress IN ('running', 'soaking') AND hold = ''
            AND stage = $3 AND slots < frozen_allowance
        RETURNING ",
        columns_of!(deployment)
    );
    let take = sqlx::query(take).bind(scope.key()).bind(member.row.id.clone());
    let stage = member.row.state.stage;
    let take = take.bind(i64::from(stage));
    let Some(row) = take.fetch_optional(&mut *connection).await? else { return Ok(()) };
    let slot = Slot::grant(seen.now(), seen.next_at());
    let insert =
        "INSERT INTO slot_given (catalog, deployment, device, outcome, forgiven, granted_at,
            tried_at, changed_at, silent_at, stage)
        VALUES ($1, $2, $3, $4, 0, $5, 0, $5, $6, $7)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(member.row.id.clone())
        .bind(seen.id.to_string())
        .bind(slot.outcome.word().to_owned())
        .bind(stored(slot.granted_at))
        .bind(stored(slot.silent_at))
        .bind(i64::from(stage))
        .execute(connection)
        .await?;
    member.row = deployment_of(&row)?;
    member.slot = Some(SlotRow { slot, stage, said: None });
    Ok(())
}

/// What the device may take: of each component with a deployment, and of all that it has where updates are off.
fn messages(seen: &Seen, members: &[Member], is_update_on: bool) -> Vec<AssignmentMessage> {
    let mut subjects: BTreeSet<ReleaseSubject> =
        members.iter().map(|member| member.row.target.subject).collect();
    if !is_update_on {
        subjects.insert(ReleaseSubject::Os);
        subjects.extend(seen.claims.apps.iter().map(|app| ReleaseSubject::App(app.id)));
    }
    let message = |subject: ReleaseSubject| {
        let of_subject = members.iter().filter(|member| member.row.target.subject == subject);
        let offered: Vec<Offered<'_>> = of_subject
            .map(|Member { row, slot, .. }| Offered {
                name: &row.id,
                target: row.target,
                deployment: &row.state,
                slot: slot.map(|SlotRow { slot, .. }| (slot.outcome, slot.granted_at)),
                window: row.window,
                deadline_s: row.deadline_s,
                check_every_s: row.check_every_s,
            })
            .collect();
        let narrowed = narrow(seen.runs(subject).unwrap_or_default(), &offered, is_update_on);
        AssignmentMessage {
            deployment: narrowed.name.to_owned(),
            component: subject.to_string(),
            newest: narrowed.newest.to_string(),
            except: narrowed.except.iter().map(ToString::to_string).collect(),
            window: narrowed.window.map(|window| window.to_string()),
            deadline: narrowed.deadline,
            check_every_s: narrowed.check_every_s,
        }
    };
    // A device holds so many: first those of what it runs, since what it has no assignment of is as signed.
    let mut subjects: Vec<ReleaseSubject> = subjects.into_iter().collect();
    subjects.sort_by_key(|of| *of != ReleaseSubject::Os && seen.runs(*of).is_none());
    subjects.truncate(MAX_ASSIGNMENTS);
    subjects.into_iter().map(message).collect()
}
