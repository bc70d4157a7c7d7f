//! What the service does by itself: stages begin, soak and end, devices fall silent, and deployments halt. Each step is one transaction
//! under the deployment's lock, so that several instances may do it and it is done once.

use super::row::{self, DeploymentRow, Moved, SlotRow, deployment_of, listed_of, runs, slot_of};
use super::threat;
use crate::audit::{self, Entry};
use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::Scope;
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::messages::DeviceId;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_service_domain::deployment::order::{Frozen, Place};
use holdfast_service_domain::deployment::plan::MAX_STAGES;
use holdfast_service_domain::deployment::progress::{Alarms, Due, due, may_begin};
use holdfast_service_domain::deployment::slot::{Outcome, Slot, Tally};
use holdfast_service_domain::deployment::state::{Event, Hold, Progress, State};
use sha2::{Digest, Sha256};

/// Most steps of a deployment at once: each stage begins and soaks.
const MOST_STEPS: usize = 2 * MAX_STAGES + 2;
/// Slots that are looked at in one transaction.
const SLOTS_AT_ONCE: u32 = 500;
/// Who does it, in the audit log.
const SERVICE: &str = "service";

impl Store {
    /// Takes each deployment of a catalog that is on its way as far as it goes at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tend_deployments(&self, scope: Scope, now: u64) -> Result<(), StoreError> {
        let rows = {
            let mut connection = self.read().await?;
            let query = "SELECT id FROM deployment WHERE catalog = $1
                AND progress IN ('approved', 'running', 'soaking') ORDER BY id";
            sqlx::query(query).bind(scope.key()).fetch_all(&mut *connection).await?
        };
        for row in &rows {
            self.tend_deployment(scope, columns::text(row, "id")?, now).await?;
        }
        Ok(())
    }

    /// Takes one deployment as far as it goes at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// There is none of this name, or those of the database.
    pub async fn tend_deployment(
        &self,
        scope: Scope,
        id: String,
        now: u64,
    ) -> Result<DeploymentRow, StoreError> {
        loop {
            let of = id.clone();
            let tended = self.write(move |connection| {
                Box::pin(async move { tend(connection, scope, &of, now).await })
            });
            let (row, there_is_more) = tended.await?;
            if !there_is_more {
                return Ok(row);
            }
        }
    }
}

async fn tend(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
    now: u64,
) -> Result<(DeploymentRow, bool), StoreError> {
    let row = row::lock(connection, scope, id, Moved::default()).await?;
    if matches!(row.state.progress, Progress::Draft | Progress::Done | Progress::Withdrawn) {
        return Ok((row, false));
    }
    let late = late_slots(connection, scope, id, now).await?;
    let there_is_more = u32::try_from(late.len()).is_ok_and(|late| late >= SLOTS_AT_ONCE);
    let mut moved = Moved::default();
    for (device, slot, is_there) in late {
        let after = if is_there {
            slot.slot.fall_silent(now)
        } else {
            // Who has left the group is nobody to wait for.
            Slot { is_forgiven: true, outcome: Outcome::Silent, changed_at: now, ..slot.slot }
        };
        let slot_row = SlotRow { slot: after, ..slot };
        let one = Moved::slot(&slot, &after);
        if row::save_slot(connection, scope, (id, &device), &slot.slot, &slot_row).await? {
            moved.add(one, row.state.stage);
        }
    }
    let row = row::lock(connection, scope, id, moved).await?;
    let (row, entries) = go_on(connection, scope, row, now, true).await?;
    for entry in entries {
        audit::append(connection, scope, entry).await?;
    }
    Ok((row, there_is_more))
}

/// Open slots whose device is late, each with whether that is still in the group.
async fn late_slots(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
    now: u64,
) -> Result<Vec<(String, SlotRow, bool)>, StoreError> {
    let query = "SELECT s.catalog AS catalog, s.deployment AS deployment, s.device AS device,
            s.outcome AS outcome, s.forgiven AS forgiven, s.granted_at AS granted_at,
            s.tried_at AS tried_at, s.changed_at AS changed_at, s.silent_at AS silent_at,
            s.said AS said, s.stage AS slot_stage, d.id AS member FROM slot_given s
        JOIN deployment p ON p.catalog = s.catalog AND p.id = s.deployment
        LEFT JOIN device d ON d.catalog = s.catalog AND d.id = s.device
            AND d.product = p.product AND d.grp = p.grp AND d.state = 'enrolled'
        WHERE s.catalog = $1 AND s.deployment = $2 AND s.outcome IN ('granted', 'trial')
            AND s.silent_at <= $3
        ORDER BY s.device LIMIT $4";
    let query = sqlx::query(query).bind(scope.key()).bind(id.to_owned());
    let query = query.bind(stored(now)).bind(i64::from(SLOTS_AT_ONCE));
    let mut late = Vec::new();
    for row in &query.fetch_all(connection).await? {
        let slot = slot_of(row)?.ok_or(StoreError::Damaged("outcome"))?;
        let is_there = columns::text_if_any(row, "member")?.is_some();
        late.push((columns::text(row, "device")?, slot, is_there));
    }
    Ok(late)
}

/// Takes a deployment that is locked as far as it goes, and returns what is to be written into the audit log at the end of the
/// transaction.
pub(crate) async fn go_on(
    connection: &mut Connection,
    scope: Scope,
    mut row: DeploymentRow,
    now: u64,
    looks_at_alarms: bool,
) -> Result<(DeploymentRow, Vec<Entry>), StoreError> {
    let mut entries = Vec::new();
    for _ in 0..MOST_STEPS {
        let none = Alarms::default();
        let mut next = due(&row.waited_for(), &row.plan, &row.tallies, none, now);
        // Crashes and threats are looked at where it would go on, and by the task that tends to all deployments.
        let is_halt = matches!(next, Some(Due::Halt(_)));
        let has_begun = matches!(row.state.progress, Progress::Running | Progress::Soaking);
        if has_begun && !is_halt && (looks_at_alarms || next.is_some()) {
            let alarms = alarms(connection, scope, &row).await?;
            next = due(&row.waited_for(), &row.plan, &row.tallies, alarms, now);
        }
        let Some(next) = next else { break };
        let event = match next {
            Due::Halt(cause) => Event::Halt(cause),
            Due::Begin | Due::Advance => {
                let is_first = next == Due::Begin;
                let stage = if is_first { 0 } else { row.state.stage.saturating_add(1) };
                let frozen = freeze(connection, scope, &row, stage).await?;
                if !may_begin(&row.plan, stage, &frozen) {
                    break;
                }
                if is_first { Event::Begin(frozen) } else { Event::Advance(frozen) }
            }
            Due::Soak => Event::Soak,
            Due::Finish => Event::Finish,
        };
        row.state = row.state.event(&row.plan, &event, now)?;
        if matches!(event, Event::Begin(_)) {
            row.began_at = now;
        }
        if matches!(event, Event::Begin(_) | Event::Advance(_)) {
            row.tallies.stage = Tally::default();
        }
        row::save(connection, scope, &row).await?;
        entries.push(entry(&row, &event, now));
    }
    Ok((row, entries))
}

/// What the audit log says of a step. In place of a request, its digest is of what has led to it.
fn entry(row: &DeploymentRow, event: &Event, at: u64) -> Entry {
    let Tally { granted, committed, failed, silent } = row.tallies.all;
    let stage = row.state.stage;
    let of_stage = row.tallies.stage;
    let why =
        format!("{event:?} stage={stage} {granted} {committed} {failed} {silent} {of_stage:?}");
    let cause = match event {
        Event::Halt(cause) => format!("{} {cause}", row.id),
        Event::Begin(_) | Event::Advance(_) => {
            format!("{} stage-{}", row.id, u32::from(stage).saturating_add(1))
        }
        Event::Soak | Event::Finish => row.id.clone(),
    };
    let digest = Sha256::digest(why).into();
    Entry { who: SERVICE.to_owned(), verb: event.verb(), object: cause, digest, at }
}

/// Counts the devices of a group that can be given a release, or were.
async fn freeze(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
    stage: u16,
) -> Result<Frozen, StoreError> {
    let query = "SELECT d.id AS id, d.version AS version, d.claims AS claims, s.device AS given,
            l.stage AS listed
        FROM device d
        LEFT JOIN slot_given s ON s.catalog = d.catalog AND s.deployment = $4 AND s.device = d.id
        LEFT JOIN deployment_listed l
            ON l.catalog = d.catalog AND l.deployment = $4 AND l.device = d.id
        WHERE d.catalog = $1 AND d.product = $2 AND d.grp = $3 AND d.state = 'enrolled'";
    let query = sqlx::query(query).bind(scope.key()).bind(row.product.clone());
    let rows = query.bind(row.group.clone()).bind(row.id.clone()).fetch_all(connection).await?;
    let mut places = Vec::new();
    for device in &rows {
        let is_given = columns::text_if_any(device, "given")?.is_some();
        let runs = runs(device, &row.target)?;
        // A device without the app is not given it; one that has not checked in yet may have it.
        let may_have = row.target.subject == ReleaseSubject::Os
            || runs.is_some()
            || columns::bytes_if_any(device, "claims")?.is_none();
        let is_there = runs.is_some_and(|version| version >= row.target.version);
        if is_given || (may_have && !is_there) {
            let id: DeviceId = columns::device(device, "id")?;
            places.push(Place::in_plan(&row.plan, &row.id, &id, listed_of(device)?));
        }
    }
    Ok(Frozen::count(places, &row.plan, stage, row.slots))
}

/// What stops a deployment beside its slots. Where it is held already, nothing is looked for.
async fn alarms(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
) -> Result<Alarms, StoreError> {
    if row.state.hold != Hold::None && row.state.state() != State::Paused {
        return Ok(Alarms::default());
    }
    Ok(Alarms {
        crashed: crashed_devices(connection, scope, row).await?,
        is_threatened: threat::is_threatened(connection, scope, row).await?,
    })
}

/// Returns the most devices that have the release and the same crash, of those that nobody knew before it began, and before a person
/// has last gone on.
async fn crashed_devices(
    connection: &mut Connection,
    scope: Scope,
    row: &DeploymentRow,
) -> Result<u64, StoreError> {
    let query = "SELECT COALESCE(MAX(devices), 0) AS devices FROM (
            SELECT COUNT(*) AS devices FROM crash_group g
            JOIN crash_device c ON c.catalog = g.catalog AND c.crash = g.id
            JOIN slot_given s ON s.catalog = c.catalog AND s.deployment = $2 AND s.device = c.device
                AND s.outcome IN ('trial', 'committed') AND c.last_at >= s.granted_at
            WHERE g.catalog = $1 AND g.product = $3 AND g.first_at >= $4
                AND ($5 = 'os' OR g.component = $5)
            GROUP BY g.id) AS each_group";
    let since = row.began_at.max(row.state.resumed_at.saturating_add(1));
    let query = sqlx::query(query).bind(scope.key()).bind(row.id.clone());
    let query = query.bind(row.product.clone()).bind(stored(since));
    let query = query.bind(row.target.subject.to_string());
    columns::number(&query.fetch_one(connection).await?, "devices")
}

/// Returns a deployment by its name, without locking it.
pub(crate) async fn find(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
) -> Result<DeploymentRow, StoreError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns_of!(deployment),
        " FROM deployment WHERE catalog = $1 AND id = $2"
    ));
    let row = query.bind(scope.key()).bind(id.to_owned()).fetch_optional(connection).await?;
    deployment_of(&row.ok_or(StoreError::Missing("deployment"))?)
}
