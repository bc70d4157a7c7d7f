//! A catalog at one look, days of a crash group, why devices do not have a release yet, deliveries, and the service itself.

use super::caller::{Caller, shown};
use super::deployments::found;
use super::overview_shapes::{
    CountShape, CrashDayShape, DayShape, DeliveryShape, DiskShape, OverviewShape, ReasonShape,
    ReasonsShape, ReleaseCountShape, StatusShape,
};
use super::reports::product_of;
use super::shapes::{Listed, ProblemShape};
use crate::refusal::Refusal;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_domain::crash::{LONGEST_NEW_S, Subject, per_1000_device_days};
use holdfast_service_domain::deployment::why::WhyNot;
use holdfast_service_domain::device::State as DeviceState;
use holdfast_service_domain::disk::Room;
use holdfast_service_domain::grade::Grade;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::crash::exposed;
use holdfast_service_store::overview::{DayCount, DeviceCount};
use holdfast_service_store::wanted::Standing;
use std::collections::BTreeMap;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

const DAY_S: u64 = 24 * 60 * 60;
/// Seconds within which a device was seen that is counted as having been there: each checks in once a day.
pub(super) const WITHIN_S: u64 = DAY_S + 2 * 60 * 60;
/// Days of which it is shown how many devices ran, and of a crash group on how many it was new.
const DAYS: u64 = 30;
/// Devices of a deployment's group that are read at once, and how often.
const DEVICES_AT_ONCE: u32 = 1000;
const READINGS: u32 = 20;

fn days(rows: &[DayCount]) -> Vec<DayShape> {
    let of = |row: &DayCount| DayShape { at: row.day.saturating_mul(DAY_S), devices: row.devices };
    rows.iter().map(of).collect()
}

/// Adds devices to the count of a key.
fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, devices: u64) {
    let count = counts.entry(key).or_insert(0);
    *count = count.saturating_add(devices);
}

/// What was counted of devices, in one pass.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    standings: Vec<CountShape>,
    states: Vec<CountShape>,
    quarantined: u64,
    releases: Vec<ReleaseCountShape>,
    grades: Vec<CountShape>,
}

fn tally(counts: &[DeviceCount]) -> Tally {
    let (mut states, mut standings) = (BTreeMap::new(), BTreeMap::new());
    let (mut releases, mut grades) = (BTreeMap::new(), BTreeMap::new());
    let mut quarantined = 0u64;
    for count in counts {
        add(&mut states, count.state.word(), count.devices);
        if count.is_quarantined {
            quarantined = quarantined.saturating_add(count.devices);
        }
        if count.state != DeviceState::Enrolled {
            continue;
        }
        let standing = Standing::of(count.verdict.as_deref(), count.is_fresh);
        add(&mut standings, standing.word(), count.devices);
        if let Some((version, index)) = count.version.as_ref().zip(count.index) {
            add(&mut releases, (index, version.clone()), count.devices);
        }
        if let Some(grade) = count.grade {
            add(&mut grades, grade.word(), count.devices);
        }
    }
    let of = |counts: &BTreeMap<&str, u64>, name: &str| CountShape {
        name: name.to_owned(),
        devices: counts.get(name).copied().unwrap_or(0),
    };
    let all =
        [DeviceState::Enrolled, DeviceState::Claimed, DeviceState::Waiting, DeviceState::Retired];
    let newest = releases.into_iter().rev();
    Tally {
        standings: Standing::ALL.iter().map(|one| of(&standings, one.word())).collect(),
        states: all.iter().map(|state| of(&states, state.word())).collect(),
        quarantined,
        releases: newest
            .map(|((index, version), devices)| ReleaseCountShape { version, index, devices })
            .collect(),
        grades: Grade::ALL.iter().rev().map(|grade| of(&grades, grade.word())).collect(),
    }
}

/// Shows a catalog at one look: how many devices stand how, what they run, and what is open.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/overview", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = OverviewShape), (status = 404, body = ProblemShape)))]
pub(super) async fn overview(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::See).await?;
    let (store, now) = (&service.store, service.now());
    let Tally { standings, states, quarantined, releases, grades } =
        tally(&store.device_counts(scope, now.saturating_sub(WITHIN_S)).await?);
    let findings = store.open_findings(scope).await?.into_iter();
    let findings = findings.map(|(name, devices)| CountShape { name, devices }).collect();
    let since = now.saturating_sub(LONGEST_NEW_S);
    let (crashes, new_crashes) = store.open_crashes(scope, since).await?;
    let since = now.saturating_sub(DAYS.saturating_mul(DAY_S));
    let ran = store.running_days(scope, None, &Subject::Os.to_string(), since).await?;
    shown(&OverviewShape {
        at: now,
        within_s: WITHIN_S,
        standings,
        states,
        quarantined,
        releases,
        grades,
        findings,
        crashes,
        new_crashes,
        days: days(&ran),
    })
}

/// Shows on how many devices a crash group was new, for each of the last 30 days, and how many ran the component then.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/crashes/{group}/days",
    params(("catalog" = String, Path), ("group" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Listed<CrashDayShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn crash_days(
    State(service): Shared,
    caller: Caller,
    Path((catalog, group)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let unknown = || Refusal::from(Problem::NotFound);
    let id = group.parse().map_err(|_| unknown())?;
    let store = &service.store;
    let (row, _) = store.crash(scope, id).await?.ok_or_else(unknown)?;
    caller.of_row(scope, Need::See, (product_of(&row), None), Problem::NotFound)?;
    let today = service.now() / DAY_S;
    let first = today.saturating_sub(DAYS.saturating_sub(1));
    let since = first.saturating_mul(DAY_S);
    let seen = store.crash_days(scope, id, since).await?;
    let component = exposed(row.component);
    let ran = store.running_days(scope, Some(&row.product), &component, since).await?;
    let on = |rows: &[DayCount], day: u64| {
        rows.iter().find(|row| row.day == day).map_or(0, |row| row.devices)
    };
    let items = (first..=today).map(|day| {
        let (devices, running) = (on(&seen, day), on(&ran, day));
        let rate = per_1000_device_days(devices, running);
        CrashDayShape { at: day.saturating_mul(DAY_S), devices, running, rate }
    });
    shown(&Listed { items: items.collect(), next: None })
}

/// Counts the devices of a deployment's group by why they do not have its release yet.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/deployments/{deployment}/reasons",
    params(("catalog" = String, Path), ("deployment" = String, Path)), security(("token" = [])),
    responses((status = 200, body = ReasonsShape), (status = 404, body = ProblemShape)))]
pub(super) async fn reasons(
    State(service): Shared,
    caller: Caller,
    Path((catalog, deployment)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    found(&service, &caller, scope, &deployment, Need::See).await?;
    let (store, now) = (&service.store, service.now());
    let (mut after, mut counts) = (String::new(), BTreeMap::<WhyNot, u64>::new());
    let (mut counted, mut there, mut complete) = (0u64, 0u64, false);
    for _ in 0..READINGS {
        let rows = store.whereabouts(scope, &deployment, now, &after, DEVICES_AT_ONCE).await?;
        for row in &rows {
            counted = counted.saturating_add(1);
            match row.why {
                Some(why) => add(&mut counts, why, 1),
                None => there = there.saturating_add(1),
            }
        }
        complete = u32::try_from(rows.len()).is_ok_and(|length| length < DEVICES_AT_ONCE);
        match rows.last() {
            Some(last) if !complete => after = last.device.to_string(),
            _ => break,
        }
    }
    let of = |(why, devices): (WhyNot, u64)| ReasonShape {
        why_not: why.word().to_owned(),
        says: why.meaning().to_owned(),
        remedy: why.remedy().to_owned(),
        devices,
    };
    shown(&ReasonsShape { counted, complete, there, reasons: counts.into_iter().map(of).collect() })
}

/// Shows how the deliveries of a catalog's alerts went, to its webhooks and to the sinks of the installation.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/deliveries", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Listed<DeliveryShape>), (status = 403, body = ProblemShape)))]
pub(super) async fn deliveries(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::Operate).await?;
    let rows = service.store.delivery_records(scope).await?.into_iter();
    let items = rows.map(|(kind, name, record)| DeliveryShape {
        kind: kind.word().to_owned(),
        name: Some(name).filter(|name| !name.is_empty()),
        record: record.into(),
    });
    shown(&Listed { items: items.collect(), next: None })
}

/// Shows the service itself: its version, its database, its disk, and when it has looked for threats last.
#[utoipa::path(get, path = "/v1/status", security(("token" = [])),
    responses((status = 200, body = StatusShape), (status = 401, body = ProblemShape)))]
pub(super) async fn status(State(service): Shared, caller: Caller) -> Result<Response, Refusal> {
    if !caller.0.may_somewhere(Need::See) {
        return Err(Problem::Forbidden.into());
    }
    let settings = &service.disk.settings;
    let disk = (service.disk.measure)().map(|space| DiskShape {
        free_bytes: space.free_bytes,
        total_bytes: space.total_bytes,
        reports_percent: settings.reports_percent,
        writes_percent: settings.writes_percent,
        room: match service.disk.room() {
            Room::All => "all",
            Room::NoReports => "no-reports",
            Room::CheckIns => "check-ins",
        }
        .to_owned(),
    });
    let evaluated_at = service.store.evaluated_at().await?;
    shown(&StatusShape {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        database: service.store.database().to_owned(),
        now: service.now(),
        disk,
        evaluated_at: Some(evaluated_at).filter(|at| *at > 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(state: DeviceState, verdict: Option<&str>, is_fresh: bool) -> DeviceCount {
        DeviceCount {
            state,
            verdict: verdict.map(str::to_owned),
            is_fresh,
            is_quarantined: false,
            version: Some("1.4.0".to_owned()),
            index: Some(7),
            grade: Some(Grade::Hardware),
            devices: 10,
        }
    }

    #[test]
    fn devices_are_counted_once_in_each_dimension() {
        use DeviceState::{Claimed, Enrolled};
        let older = DeviceCount {
            version: Some("1.3.2".to_owned()),
            index: Some(6),
            is_quarantined: true,
            ..count(Enrolled, Some("update-only"), true)
        };
        let never = DeviceCount { version: None, ..count(Enrolled, None, true) };
        let counts = [
            count(Enrolled, Some("full"), true),
            older,
            count(Enrolled, Some("measurement-unknown"), true),
            count(Enrolled, Some("full"), false),
            never,
            count(Claimed, None, false),
        ];
        let tally = tally(&counts);
        let devices =
            |counts: &[CountShape]| counts.iter().map(|one| one.devices).collect::<Vec<_>>();
        assert_eq!(devices(&tally.standings), [10, 10, 10, 20], "{tally:?}");
        assert_eq!(devices(&tally.states), [50, 10, 0, 0]);
        assert_eq!(devices(&tally.grades), [0, 50, 0, 0]);
        assert_eq!(tally.quarantined, 10);
        let releases: Vec<(&str, u64)> =
            tally.releases.iter().map(|one| (one.version.as_str(), one.devices)).collect();
        assert_eq!(releases, [("1.4.0", 30), ("1.3.2", 10)]);
    }
}
