//! What people do to deployments, within the transaction of the change.

use super::check_in::MOST_OF_GROUP;
use super::listed::{self, Lists};
use super::progress::find;
use super::row::{self, DeploymentRow, Moved, deployment_of};
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use holdfast_release::assignment::LocalWindow;
use holdfast_release::feed::Feed;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::deployment::order::Frozen;
use holdfast_service_domain::deployment::plan::Plan;
use holdfast_service_domain::deployment::slot::{Tally, Target};
use holdfast_service_domain::deployment::state::{Command, Hold, State};
use holdfast_service_domain::detection::subject::Part;
use holdfast_service_domain::person::By;

/// A draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// A name that no other deployment has.
    pub id: String,
    /// The product.
    pub product: String,
    /// The group.
    pub group: String,
    /// What is deployed.
    pub target: Target,
    /// Its stages.
    pub plan: Plan,
    /// The devices on the lists of its stages.
    pub lists: Lists,
    /// When devices may restart for it.
    pub window: Option<LocalWindow>,
    /// Seconds after which a device waits for the window no longer.
    pub deadline_s: Option<u64>,
    /// How often devices check for it, in seconds.
    pub check_every_s: Option<u32>,
    /// When it begins at the earliest, in seconds since 1970.
    pub begins_at: u64,
    /// Who has drafted it.
    pub by: By,
}

/// What a person does to a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Approves it.
    Approve,
    /// Pauses it.
    Pause,
    /// Has it go on.
    Resume,
    /// Halts it.
    Halt,
    /// Gives it up.
    Withdraw,
}

/// Makes a draft. From then on devices of the group take of its component what deployments give them.
///
/// # Errors
/// There is no such group, a device on a list is not in it, there are as many deployments as there may be, or those of the database.
pub async fn create(
    connection: &mut Connection,
    scope: Scope,
    draft: Draft,
    now: u64,
) -> Result<DeploymentRow, StoreError> {
    // The group is locked before any deployment, as everybody does.
    let count = "UPDATE grp SET deployments = deployments + 1
        WHERE catalog = $1 AND product = $2 AND name = $3 RETURNING production, feed";
    let count = sqlx::query(count).bind(scope.key()).bind(draft.product.clone());
    let group = count.bind(draft.group.clone()).fetch_optional(&mut *connection).await?;
    let group = group.ok_or(StoreError::Missing("group"))?;
    let follows = columns::feed_if_any(&group)?;
    must_be_of_feed(connection, scope, &draft.target, (&draft.product, &draft.group), follows)
        .await?;
    make_room(connection, scope, &draft).await?;
    let of = (draft.product.as_str(), draft.group.as_str());
    listed::put(connection, scope, &draft.id, of, (&draft.plan, &draft.lists)).await?;
    let insert = concat!("INSERT INTO deployment (catalog, id, product, grp, component, version, plan,
            restart_window, deadline_s, check_every_s, begins_at, drafted_by, production, created_at,
            frozen_last, drafted_person, since, progress, hold, stage, resumed_at, began_at, frozen_devices,
            frozen_allowance, slots, granted, committed, failed, silent, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $14,
            'draft', '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        ON CONFLICT DO NOTHING RETURNING ", columns_of!(deployment));
    let made = sqlx::query(insert)
        .bind(scope.key())
        .bind(draft.id)
        .bind(draft.product)
        .bind(draft.group)
        .bind(draft.target.subject.to_string())
        .bind(draft.target.version.to_string())
        .bind(draft.plan.to_string())
        .bind(draft.window.map(|window| window.to_string()))
        .bind(draft.deadline_s.map(stored))
        .bind(draft.check_every_s.map(i64::from))
        .bind(stored(draft.begins_at))
        .bind(draft.by.name)
        .bind(stored(columns::number(&group, "production")?))
        .bind(stored(now))
        .bind(Frozen::NOTHING.last.text())
        .bind(draft.by.person.text().to_owned())
        .fetch_optional(connection)
        .await?;
    deployment_of(&made.ok_or(StoreError::There("deployment"))?)
}

/// Makes room for another deployment of a group: where there are as many as there may be, the oldest goes that has ended and that a
/// later one of its component is done after, or that was withdrawn before it began. The last of a component stays: without it, devices would
/// take whatever of it is signed.
async fn make_room(
    connection: &mut Connection,
    scope: Scope,
    draft: &Draft,
) -> Result<(), StoreError> {
    let query = "SELECT COUNT(*) AS deployments FROM deployment
        WHERE catalog = $1 AND product = $2 AND grp = $3";
    let query = sqlx::query(query).bind(scope.key()).bind(draft.product.clone());
    let there = query.bind(draft.group.clone()).fetch_one(&mut *connection).await?;
    if columns::number(&there, "deployments")? < u64::from(MOST_OF_GROUP) {
        return Ok(());
    }
    let oldest = "DELETE FROM deployment WHERE catalog = $1 AND id IN (
            SELECT id FROM deployment p WHERE p.catalog = $1 AND p.product = $2 AND p.grp = $3
                AND p.progress IN ('withdrawn', 'done') AND EXISTS (
                    SELECT 1 FROM deployment q WHERE q.catalog = p.catalog AND q.product = p.product
                        AND q.grp = p.grp AND q.component = p.component AND q.id <> p.id
                        AND ((q.progress = 'done' AND q.since > p.since)
                            OR (p.progress = 'withdrawn' AND p.began_at = 0)))
            ORDER BY p.created_at, p.id LIMIT 1)
        RETURNING id";
    let oldest = sqlx::query(oldest).bind(scope.key()).bind(draft.product.clone());
    let gone = oldest.bind(draft.group.clone()).fetch_optional(&mut *connection).await?;
    let full = StoreError::Full { what: "deployments of this group", most: MOST_OF_GROUP };
    let gone = columns::text(&gone.ok_or(full)?, "id")?;
    let slots = sqlx::query("DELETE FROM slot_given WHERE catalog = $1 AND deployment = $2");
    slots.bind(scope.key()).bind(gone.clone()).execute(&mut *connection).await?;
    listed::forget(connection, scope, &gone).await
}

/// Does to a deployment what a person wants.
///
/// # Errors
/// There is none of this name, it is not in a state for it, what is deployed is no known release, or those of the database.
pub async fn act(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
    action: Action,
    by: By,
    now: u64,
) -> Result<DeploymentRow, StoreError> {
    // What never changes is read before the group is locked, and that before the deployment.
    let found = find(connection, scope, id).await?;
    let mut another_runs = false;
    let mut is_production = false;
    if matches!(action, Action::Approve | Action::Resume) {
        let follows;
        (is_production, follows) = lock_group(connection, scope, &found).await?;
        let group = (found.product.as_str(), found.group.as_str());
        must_be_of_feed(connection, scope, &found.target, group, follows).await?;
        another_runs = another_hinders(connection, scope, &found).await?;
    }
    if action == Action::Approve && found.target.subject == ReleaseSubject::Os {
        must_be_known(connection, scope, &found.target).await?;
    }
    let mut row = row::lock(connection, scope, id, Moved::default()).await?;
    let command = match action {
        Action::Approve => Command::Approve { by, is_production, another_runs },
        Action::Pause => Command::Pause,
        Action::Resume => Command::Resume { another_runs },
        Action::Halt => Command::Halt,
        Action::Withdraw => Command::Withdraw,
    };
    let was_halted = matches!(row.state.hold, Hold::Halted(_));
    row.state = row.state.command(&command, now)?;
    row::save(connection, scope, &row).await?;
    if was_halted && action == Action::Resume {
        return forgive(connection, scope, row).await;
    }
    Ok(row)
}

/// What has become of the deployments of a part of the software that is contained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfPart {
    /// Those that were halted now.
    pub halted: Vec<DeploymentRow>,
    /// The newest that is done: every device of the group may take its release, and nothing halts that.
    pub done: Option<DeploymentRow>,
}

/// Halts the deployments of a part of the software in a group that can be halted, as where the part is contained.
///
/// # Errors
/// Those of the database.
pub async fn halt_part(
    connection: &mut Connection,
    scope: Scope,
    (product, group): (&str, &str),
    part: &Part,
    now: u64,
) -> Result<OfPart, StoreError> {
    let subject = match part {
        Part::App(id) => ReleaseSubject::App(*id),
        // Services come with the OS.
        Part::Os | Part::Service(_) => ReleaseSubject::Os,
        Part::Unknown => return Ok(OfPart::default()),
    };
    let query = "SELECT id FROM deployment
        WHERE catalog = $1 AND product = $2 AND grp = $3 AND component = $4 ORDER BY id";
    let query = sqlx::query(query).bind(scope.key()).bind(product.to_owned());
    let query = query.bind(group.to_owned()).bind(subject.to_string());
    let mut of_part = OfPart::default();
    for found in query.fetch_all(&mut *connection).await? {
        let id = columns::text(&found, "id")?;
        let mut row = row::lock(connection, scope, &id, Moved::default()).await?;
        let newest = of_part.done.as_ref().map(|done| done.target.version);
        if row.state.state() == State::Done && newest.is_none_or(|at| at < row.target.version) {
            of_part.done = Some(row);
            continue;
        }
        // A draft and what was given up give nothing away.
        let Ok(state) = row.state.command(&Command::Halt, now) else { continue };
        row.state = state;
        row::save(connection, scope, &row).await?;
        of_part.halted.push(row);
    }
    Ok(of_part)
}

/// Locks the group of a deployment, and returns whether it is marked `production`, and the feed that it follows.
async fn lock_group(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
) -> Result<(bool, Option<Feed>), StoreError> {
    let update = "UPDATE grp SET revision = revision
        WHERE catalog = $1 AND product = $2 AND name = $3 RETURNING production, feed";
    let update = sqlx::query(update).bind(scope.key()).bind(row.product.clone());
    let locked = update.bind(row.group.clone()).fetch_optional(connection).await?;
    let locked = locked.ok_or(StoreError::Missing("group"))?;
    Ok((columns::number(&locked, "production")? > 0, columns::feed_if_any(&locked)?))
}

async fn another_hinders(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
) -> Result<bool, StoreError> {
    let query = concat!(
        "SELECT ",
        columns_of!(deployment),
        " FROM deployment
        WHERE catalog = $1 AND product = $2 AND grp = $3 AND component = $4 AND id <> $5"
    );
    let query = sqlx::query(query).bind(scope.key()).bind(row.product.clone());
    let query = query.bind(row.group.clone()).bind(row.target.subject.to_string());
    let rows = query.bind(row.id.clone()).fetch_all(connection).await?;
    let others: Result<Vec<DeploymentRow>, StoreError> = rows.iter().map(deployment_of).collect();
    Ok(others?.iter().any(|other| other.state.hinders()))
}

/// A release of the OS of another feed than the group's is one that its devices do not take. What is not known yet may be of any, and so may an
/// app: which feed it is for, devices alone read.
async fn must_be_of_feed(
    connection: &mut Connection,
    scope: Scope,
    target: &Target,
    (product, group): (&str, &str),
    follows: Option<Feed>,
) -> Result<(), StoreError> {
    if target.subject != ReleaseSubject::Os {
        return Ok(());
    }
    let query = "SELECT DISTINCT feed FROM measurement
        WHERE catalog = $1 AND version = $2 AND withdrawn_at IS NULL ORDER BY feed";
    let query = sqlx::query(query).bind(scope.key()).bind(target.version.to_string());
    let follows = follows.unwrap_or_default();
    let mut other = None;
    for row in &query.fetch_all(connection).await? {
        // There is one for each board.
        match columns::feed_if_any(row)? {
            Some(of) if of != follows => other = Some(of),
            _ => return Ok(()),
        }
    }
    let Some(of) = other else { return Ok(()) };
    let (product, group) = (product.to_owned(), group.to_owned());
    Err(StoreError::OtherFeed { version: target.version, of, product, group, follows })
}

/// A release of the OS that no measurement is known of could never succeed.
async fn must_be_known(
    connection: &mut Connection,
    scope: Scope,
    target: &Target,
) -> Result<(), StoreError> {
    let query = "SELECT pcr FROM measurement
        WHERE catalog = $1 AND version = $2 AND withdrawn_at IS NULL LIMIT 1";
    let query = sqlx::query(query).bind(scope.key()).bind(target.version.to_string());
    let known = query.fetch_optional(connection).await?;
    known.map(|_| ()).ok_or(StoreError::Missing("release of this version; add it first"))
}

/// Has what has failed until now count no longer.
async fn forgive(
    connection: &mut Connection,
    scope: Scope,
    row: DeploymentRow,
) -> Result<DeploymentRow, StoreError> {
    let update = "UPDATE slot_given SET forgiven = 1
        WHERE catalog = $1 AND deployment = $2 AND forgiven = 0 AND outcome IN ('fell-back', 'refused', 'silent')
        RETURNING outcome, stage";
    let update = sqlx::query(update).bind(scope.key()).bind(row.id.clone());
    let mut moved = Moved::default();
    for slot in &update.fetch_all(&mut *connection).await? {
        let silent = i64::from(columns::text(slot, "outcome")? == "silent");
        let failed = 1i64.saturating_sub(silent);
        let of_stage = Tally::default().minus(Tally { granted: 1, committed: 0, failed, silent });
        let stage = u16::try_from(columns::number(slot, "stage")?).unwrap_or(u16::MAX);
        moved.add(Moved { all: of_stage, stage, of_stage }, row.state.stage);
    }
    row::lock(connection, scope, &row.id, moved).await
}
