//! Deployments: drafted, approved, stopped, and where each device is.

use super::caller::{Caller, Change, done, shown};
use super::catalogs::named;
use super::deployment_shapes::{
    DeploymentShape, NewDeployment, NewStage, StageShape, WhereaboutsShape,
};
use super::page::Page;
use super::shapes::{Done, Listed, ProblemShape};
use crate::refusal::Refusal;
use crate::secret;
use crate::service::Service;
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_evidence::messages::DeviceId;
use holdfast_release::assignment::{LEAST_CHECK_EVERY_S, LocalWindow};
use holdfast_service_domain::deployment::plan::{
    MAX_LISTED, MAX_SOAK_S, MAX_STAGES, Plan, Preset, Size, Stage, UNBOUNDED,
};
use holdfast_service_domain::deployment::progress::{most_failures, most_silent, says};
use holdfast_service_domain::deployment::slot::Target;
use holdfast_service_domain::deployment::state::{Hold, State as DeploymentState};
use holdfast_service_domain::person::By;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::Scope;
use holdfast_service_store::catalog::{self, Group};
use holdfast_service_store::deployment::change::{self, Action, Draft};
use holdfast_service_store::deployment::list::Whereabouts;
use holdfast_service_store::deployment::listed::Lists;
use holdfast_service_store::deployment::row::DeploymentRow;
use holdfast_types::hex::hex;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Longest deadline in seconds: 90 days.
const MAX_DEADLINE_S: u64 = 90 * 86_400;
/// Share of a stage's devices that must have succeeded where nothing is said, in thousandths.
const USUAL_QUORUM_PERMILLE: u16 = 500;
/// Random bytes of a deployment's name.
const NAME_BYTES: usize = 6;
/// Groups that a product begins with, and which of them need two people.
const DEFAULT_GROUPS: [(&str, bool); 3] =
    [("development", false), ("field-test", false), ("production", true)];

fn shape(row: &DeploymentRow, now: u64) -> DeploymentShape {
    let DeploymentRow { state, plan, tallies, .. } = row;
    let tally = &tallies.all;
    let size = state.frozen.size();
    let has_begun = row.began_at > 0;
    let soak = plan.stage(state.stage).map(|stage| stage.soak_s);
    let soaks_until = soak.filter(|_| state.state() == DeploymentState::Soaking);
    let cause = match state.hold {
        Hold::Halted(cause) => Some(cause.word().to_owned()),
        Hold::None | Hold::Paused => None,
    };
    let of = |stage: &Stage| StageShape {
        permille: stage.size.share(),
        listed: stage.size.listed(),
        soak_s: stage.soak_s,
    };
    DeploymentShape {
        id: row.id.clone(),
        product: row.product.clone(),
        group: row.group.clone(),
        component: row.target.subject.to_string(),
        version: row.target.version.to_string(),
        state: state.state().word().to_owned(),
        cause,
        stage: if has_begun { u32::from(state.stage).saturating_add(1) } else { 0 },
        stages: plan.stages().iter().map(of).collect(),
        quorum_permille: plan.quorum_permille(),
        since: state.since,
        soaks_until: soaks_until.map(|soak| state.since.saturating_add(soak)),
        devices: state.frozen.devices,
        allowance: Some(state.frozen.allowance).filter(|allowance| *allowance < UNBOUNDED),
        given: row.slots,
        granted: tally.granted,
        committed: tally.committed,
        failed: tally.failed,
        silent: tally.silent,
        failures_to_halt: most_failures(size),
        silent_to_halt: most_silent(size),
        says: says(&row.waited_for(), plan, tallies, now),
        window: row.window.map(|window| window.to_string()),
        deadline_s: row.deadline_s,
        check_every_s: row.check_every_s,
        begins_at: state.begins_at,
        production: state.is_production,
        drafted_by: state.drafted_by.name.clone(),
        approved_by: state.approved_by.clone(),
        created_at: row.created_at,
    }
}

/// Reads a stage that has this number, from 0 on, and adds the devices of its list.
fn stage(number: usize, new: &NewStage, lists: &mut Lists) -> Result<Stage, Refusal> {
    let size = match (new.permille, &new.devices) {
        (Some(permille), None) => Size::Share(permille),
        (None, Some(devices)) => {
            let of_stage = u16::try_from(number).unwrap_or(u16::MAX);
            for text in devices.iter().take(usize::from(MAX_LISTED).saturating_add(1)) {
                let device = text.parse().map_err(|_| {
                    Refusal::malformed(format!(
                        "stages[{number}].devices: {text:?} is no device's id; write 64 lower-case hex digits"
                    ))
                })?;
                lists.push((device, of_stage));
            }
            Size::Listed(u16::try_from(devices.len()).unwrap_or(u16::MAX))
        }
        _ => {
            let rule = "give either `permille`, or `devices`";
            return Err(Refusal::malformed(format!("stages[{number}]: {rule}")));
        }
    };
    Ok(Stage { size, soak_s: new.soak_s })
}

fn plan(new: &NewDeployment, lists: &mut Lists) -> Result<Plan, Refusal> {
    if new.soak_s.is_some() && new.preset.is_none() {
        return Err(Refusal::malformed(
            "soak_s: has no meaning without `preset`; `stages` have their own",
        ));
    }
    match (&new.preset, &new.stages, new.quorum_permille) {
        (Some(preset), None, None) => {
            let preset = Preset::of_word(preset);
            let preset = preset.ok_or_else(|| {
                Refusal::malformed("preset: must be `slow`, `normal`, `fast` or `emergency`")
            })?;
            let plan = preset.plan();
            let soaked = new.soak_s.map_or(Ok(plan.clone()), |soak_s| plan.with_soak(soak_s));
            soaked.map_err(|_| Refusal::malformed(format!("soak_s: must be at most {MAX_SOAK_S}")))
        }
        (None, Some(stages), quorum) => {
            // So many alone are looked at; that there are more is refused by the plan.
            let stages = stages.iter().take(MAX_STAGES.saturating_add(1)).enumerate();
            let stages = stages.map(|(number, new)| stage(number, new, lists));
            let plan = Plan::new(
                stages.collect::<Result<_, _>>()?,
                quorum.unwrap_or(USUAL_QUORUM_PERMILLE),
            );
            plan.map_err(|error| Refusal::malformed(error.to_string()))
        }
        _ => Err(Refusal::malformed(
            "preset: give either `preset`, or `stages` with `quorum_permille`",
        )),
    }
}

fn draft(new: NewDeployment, by: By) -> Result<Draft, Refusal> {
    named("product", &new.product)?;
    named("group", &new.group)?;
    let mut lists = Lists::new();
    let plan = plan(&new, &mut lists)?;
    let subject = new.component.as_deref().unwrap_or("os").parse();
    let subject =
        subject.map_err(|_| Refusal::malformed("component: must be `os` or a component id"))?;
    let version = new.version.parse();
    let version =
        version.map_err(|_| Refusal::malformed("version: must be three numbers, such as 1.0.0"))?;
    let window: Option<Result<LocalWindow, _>> = new.window.map(|window| window.parse());
    let window =
        window.transpose().map_err(|rule| Refusal::malformed(format!("window: {rule}")))?;
    if new.deadline_s.is_some_and(|deadline| deadline > MAX_DEADLINE_S) {
        return Err(Refusal::malformed(format!("deadline_s: must be at most {MAX_DEADLINE_S}")));
    }
    if new.deadline_s.is_some() && window.is_none() {
        return Err(Refusal::malformed("deadline_s: has no meaning without `window`"));
    }
    if new.check_every_s.is_some_and(|every| every < LEAST_CHECK_EVERY_S) {
        return Err(Refusal::malformed(format!(
            "check_every_s: must be at least {LEAST_CHECK_EVERY_S}"
        )));
    }
    let begins_at = new.begins_at.unwrap_or(0);
    if i64::try_from(begins_at).is_err() {
        return Err(Refusal::malformed("begins_at: must be seconds since 1970"));
    }
    Ok(Draft {
        id: format!("d{}", hex(&secret::random::<NAME_BYTES>()?)),
        product: new.product,
        group: new.group,
        target: Target { subject, version },
        plan,
        lists,
        window,
        deadline_s: new.deadline_s,
        check_every_s: new.check_every_s,
        begins_at,
        by,
    })
}

/// Returns a deployment, if the caller may do with its group what needs this.
pub(super) async fn found(
    service: &Service,
    caller: &Caller,
    scope: Scope,
    id: &str,
    need: Need,
) -> Result<DeploymentRow, Refusal> {
    let row = service.store.deployment(scope, id).await?;
    let group = (Some(row.product.as_str()), Some(row.group.as_str()));
    caller.of_row(scope, need, group, Problem::NotFound)?;
    Ok(row)
}

/// Lists deployments.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/deployments",
    params(("catalog" = String, Path), Page), security(("token" = [])),
    responses((status = 200, body = Listed<DeploymentShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let rows = service.store.deployments(scope, &page.after, page.most()).await?;
    let now = service.now();
    let items = rows.iter().map(|row| shape(row, now)).collect();
    let listed = Listed::new(items, page.most(), |item: &DeploymentShape| item.id.clone());
    let sees = |item: &DeploymentShape| {
        caller.may(scope, Need::See, Some(&item.product), Some(&item.group))
    };
    shown(&listed.retain(sees))
}

/// Drafts a deployment. From then on, devices of the group take of its component what deployments give them, and nothing else.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/deployments", params(("catalog" = String, Path)),
    request_body = NewDeployment, security(("token" = [])),
    responses((status = 200, body = DeploymentShape), (status = 400, body = ProblemShape)))]
pub(super) async fn create(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Release).await?;
    let new: NewDeployment = change.json()?;
    change.caller.must(scope, Need::Release, Some(&new.product), Some(&new.group))?;
    let object = format!("{}/{} {}", new.product, new.group, new.version);
    let draft = draft(new, change.caller.0.by.clone())?;
    let now = service.now();
    let object = format!("{} {object}", draft.id);
    let work =
        change.make(&service, scope, "deployment.create", &object, move |connection, scope| {
            Box::pin(async move {
                let row = change::create(connection, scope, draft, now).await?;
                Ok(done(&shape(&row, now)))
            })
        });
    work.await
}

/// Shows a deployment.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/deployments/{deployment}",
    params(("catalog" = String, Path), ("deployment" = String, Path)), security(("token" = [])),
    responses((status = 200, body = DeploymentShape), (status = 404, body = ProblemShape)))]
pub(super) async fn show(
    State(service): Shared,
    caller: Caller,
    Path((catalog, deployment)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    let row = found(&service, &caller, scope, &deployment, Need::See).await?;
    shown(&shape(&row, service.now()))
}

fn whereabouts(of: Whereabouts) -> WhereaboutsShape {
    WhereaboutsShape {
        device: of.device.to_string(),
        version: of.runs.map(|version| version.to_string()),
        slot: of.slot.map(|slot| slot.slot.outcome.word().to_owned()),
        why_not: of.why.map(|why| why.word().to_owned()),
        says: of.why.map(|why| why.meaning().to_owned()),
        listed_in: of.listed.map(|stage| u32::from(stage).saturating_add(1)),
        granted_at: of.slot.map(|slot| slot.slot.granted_at),
        seen_at: of.seen_at,
    }
}

/// Shows where the devices of its group are, and why they do not have the release yet.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/deployments/{deployment}/devices",
    params(("catalog" = String, Path), ("deployment" = String, Path), Page), security(("token" = [])),
    responses((status = 200, body = Listed<WhereaboutsShape>), (status = 404, body = ProblemShape)))]
pub(super) async fn devices(
    State(service): Shared,
    caller: Caller,
    Path((catalog, deployment)): Path<(String, String)>,
    page: Page,
) -> Result<Response, Refusal> {
    let scope = caller.scope_in(&service, &catalog, Need::See).await?;
    found(&service, &caller, scope, &deployment, Need::See).await?;
    if !page.after.is_empty() && page.after.parse::<DeviceId>().is_err() {
        return Err(Refusal::malformed("after: must be a device's id"));
    }
    let (now, most) = (service.now(), page.most());
    let rows = service.store.whereabouts(scope, &deployment, now, &page.after, most).await?;
    let items = rows.into_iter().map(whereabouts).collect();
    shown(&Listed::new(items, most, |item: &WhereaboutsShape| item.device.clone()))
}

/// Approves a deployment, pauses it, has it go on, halts it or gives it up. A draft for a group that is marked `production` is approved by
/// somebody else than who has made it.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/deployments/{deployment}/{action}",
    params(("catalog" = String, Path), ("deployment" = String, Path),
        ("action" = String, Path, description = "`approve`, `pause`, `resume`, `halt` or `withdraw`")),
    security(("token" = [])),
    responses((status = 200, body = DeploymentShape), (status = 409, body = ProblemShape)))]
pub(super) async fn act(
    State(service): Shared,
    Path((catalog, deployment, action)): Path<(String, String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    // What stops devices from getting a release, an operator may; what has them get it, who may release or approve.
    let (action, verb, need) = match action.as_str() {
        "approve" => (Action::Approve, "deployment.approve", Need::Approve),
        "resume" => (Action::Resume, "deployment.resume", Need::Release),
        "pause" => (Action::Pause, "deployment.pause", Need::Operate),
        "halt" => (Action::Halt, "deployment.halt", Need::Operate),
        "withdraw" => (Action::Withdraw, "deployment.withdraw", Need::Operate),
        _ => return Err(Problem::NotFound.into()),
    };
    let scope = change.caller.scope_in(&service, &catalog, need).await?;
    found(&service, &change.caller, scope, &deployment, need).await?;
    let (by, now) = (change.caller.0.by.clone(), service.now());
    let id = deployment.clone();
    let work = change.make(&service, scope, verb, &deployment, move |connection, scope| {
        Box::pin(async move {
            let row = change::act(connection, scope, &id, action, by, now).await?;
            Ok(done(&shape(&row, now)))
        })
    });
    let response = work.await?;
    if matches!(action, Action::Approve | Action::Resume) {
        service.store.tend_deployment(scope, deployment, now).await?;
    }
    Ok(response)
}

/// Makes the groups that a product begins with: `development`, `field-test`, and `production`, whose deployments need two people. Groups
/// that are there stay as they are.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/products/{product}/default-groups",
    params(("catalog" = String, Path), ("product" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn default_groups(
    State(service): Shared,
    Path((catalog, product)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope_in(&service, &catalog, Need::Operate).await?;
    change.caller.must(scope, Need::Operate, Some(&product), None)?;
    let (now, object) = (service.now(), product.clone());
    let work =
        change.carry_out(&service, scope, "group.defaults", &object, move |connection, scope| {
            Box::pin(async move {
                for (name, is_production) in DEFAULT_GROUPS {
                    let group = Group {
                        product: product.clone(),
                        name: name.to_owned(),
                        least_index: 0,
                        grades: None,
                        reports: None,
                        is_production: Some(is_production),
                        is_update_on: None,
                        feed: None,
                        revision: 0,
                    };
                    catalog::make_group(connection, scope, group, now).await?;
                }
                Ok(())
            })
        });
    work.await
}
