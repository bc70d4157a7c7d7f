//! Deployments: releases on their way through a group, stage by stage.

use crate::ask::{Ask, Query};
use crate::chart::{self, Bar, Part};
use crate::failure::Failure;
use crate::mood;
use crate::page::{Given, Page, Paging, ROWS};
use crate::place::Place;
use crate::rows::{Deployment, Listed, Reasons, Whereabouts};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct ListDocument {
    deployments: Listed<Deployment>,
}

#[derive(Template)]
#[template(path = "deployments.html")]
struct ListBody<'a> {
    viewer: &'a Viewer,
    deployments: Vec<&'a Deployment>,
    paging: Paging,
}

/// Lists deployments.
pub(crate) async fn deployments(
    ask: &Ask,
    viewer: &Viewer,
    given: &Given,
) -> Result<Page, Failure> {
    let after = given.of_query("after")?;
    let asked = Query::default().with("after", after).with("limit", ROWS);
    let document = ListDocument { deployments: ask.get("/deployments", &asked).await? };
    let path = viewer.to(Place::Deployments);
    let next = document.deployments.next.as_ref();
    let paging = Paging::new(&path, &Query::default(), after, next);
    let mut deployments: Vec<&Deployment> = document.deployments.items.iter().collect();
    deployments.sort_by_key(|one| {
        (matches!(one.state.as_str(), "done" | "withdrawn"), std::cmp::Reverse(one.created_at))
    });
    let body = ListBody { viewer, deployments, paging };
    Ok(Page::new("Deployments", &document, &body)?.that_refreshes())
}

#[derive(Debug, Serialize, Deserialize)]
struct DeploymentDocument {
    deployment: Deployment,
    reasons: Reasons,
    devices: Listed<Whereabouts>,
}

/// A stage as it is shown.
#[derive(Debug, PartialEq, Eq)]
struct StageView {
    is_here: bool,
    share: String,
    soak: String,
    state: &'static str,
    mood: &'static str,
}

#[derive(Template)]
#[template(path = "deployment.html")]
struct DeploymentBody<'a> {
    viewer: &'a Viewer,
    document: &'a DeploymentDocument,
    deployment: &'a Deployment,
    stages: Vec<StageView>,
    parts: Vec<Part>,
    reasons: Vec<Bar>,
    paging: Paging,
    actions: Vec<&'static str>,
}

/// Returns the stages, each as done, under way or to come.
fn stages(deployment: &Deployment) -> Vec<StageView> {
    let current = u64::from(deployment.stage);
    let is_done = deployment.state == "done";
    let view = |(number, stage): (u64, &crate::rows::Stage)| {
        let (state, mood) = if is_done || number < current {
            ("done", "good")
        } else if number == current {
            match deployment.state.as_str() {
                "halted" => ("halted", "bad"),
                "paused" => ("paused", "warn"),
                "withdrawn" => ("withdrawn", "off"),
                "soaking" => ("soaking", "info"),
                _ => ("running", "info"),
            }
        } else {
            ("to come", "off")
        };
        let (share, soak) = (text::stage(stage), text::seconds(&stage.soak_s));
        StageView { is_here: number == current, share, soak, state, mood }
    };
    (1..).zip(&deployment.stages).map(view).collect()
}

/// Returns what has become of the slots of the stage: what was given, and what may still be.
fn parts(deployment: &Deployment) -> Vec<Part> {
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let (committed, failed) = (number(deployment.committed), number(deployment.failed));
    let silent = number(deployment.silent);
    let settled = committed.saturating_add(failed).saturating_add(silent);
    let under_way = number(deployment.granted).saturating_sub(settled);
    let whole = deployment.allowance.unwrap_or(deployment.devices);
    let left = whole.saturating_sub(deployment.given);
    chart::stack(&[
        ("committed", "good", committed),
        ("under way", "info", under_way),
        ("failed", "bad", failed),
        ("silent", "warn", silent),
        ("not given yet", "off", left),
    ])
}

/// Returns what can be done with a deployment in its state.
fn actions(deployment: &Deployment, viewer: &Viewer) -> Vec<&'static str> {
    let state = deployment.state.as_str();
    let mut actions = Vec::new();
    if viewer.releases() && state == "draft" {
        actions.push("deployment-approve");
    }
    if viewer.operates() && matches!(state, "approved" | "running" | "soaking") {
        actions.push("deployment-pause");
    }
    if viewer.releases() && matches!(state, "paused" | "halted") {
        actions.push("deployment-resume");
    }
    if viewer.operates() && matches!(state, "approved" | "running" | "soaking" | "paused") {
        actions.push("deployment-halt");
    }
    if viewer.operates() && state != "withdrawn" {
        actions.push("deployment-withdraw");
    }
    actions
}

/// Shows a deployment.
pub(crate) async fn deployment(
    ask: &Ask,
    viewer: &Viewer,
    id: &str,
    given: &Given,
) -> Result<Page, Failure> {
    let (none, after) = (Query::default(), given.of_query("after")?);
    let path = format!("/deployments/{id}");
    let asked = Query::default().with("after", after).with("limit", ROWS);
    let document = DeploymentDocument {
        deployment: ask.get(&path, &none).await?,
        reasons: ask.get(&format!("{path}/reasons"), &none).await?,
        devices: ask.get(&format!("{path}/devices"), &asked).await?,
    };
    let deployment = &document.deployment;
    let reasons = document.reasons.reasons.iter();
    let next = document.devices.next.as_ref();
    let body = DeploymentBody {
        viewer,
        document: &document,
        deployment,
        stages: stages(deployment),
        parts: parts(deployment),
        reasons: chart::bars(reasons.map(|one| (one.why_not.clone(), None, one.devices)).collect()),
        paging: Paging::new(&viewer.deployment(id), &none, after, next),
        actions: actions(deployment, viewer),
    };
    let page = Page::new(format!("Deployment {id}"), &document, &body)?;
    Ok(page.below("Deployments", viewer.to(Place::Deployments)).that_refreshes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::tests::viewer_as;
    use holdfast_service_domain::role::Role;
    use serde_json::json;

    fn of(state: &str) -> Deployment {
        serde_json::from_value(json!({
            "id": "d41", "product": "pump", "group": "production", "component": "os", "version": "1.4.0",
            "state": state, "cause": null, "stage": 3,
            "stages": [{"permille": null, "listed": 25, "soak_s": 3600}, {"permille": 50, "soak_s": 3600}, {"permille": 150, "soak_s": 7200}, {"permille": 1000, "soak_s": 0}],
            "quorum_permille": 500, "since": 1, "soaks_until": null, "devices": 6300, "allowance": 6300, "given": 6230,
            "granted": 6230, "committed": 6211, "failed": 2, "silent": 3, "failures_to_halt": 126,
            "silent_to_halt": 315, "says": "", "window": null, "deadline_s": null, "production": true,
            "drafted_by": "ole", "approved_by": "ines", "created_at": 1,
        }))
        .unwrap()
    }

    #[test]
    fn stages_are_done_under_way_and_to_come() {
        let states =
            |state| stages(&of(state)).into_iter().map(|stage| stage.state).collect::<Vec<_>>();
        assert_eq!(states("running"), ["done", "done", "running", "to come"]);
        assert_eq!(states("halted"), ["done", "done", "halted", "to come"]);
        assert_eq!(states("done"), ["done"; 4]);
        assert_eq!(stages(&of("running"))[2].share, "15 %");
        assert_eq!(stages(&of("running"))[0].share, "a list of 25 devices");
    }

    #[test]
    fn parts_add_up_to_what_the_stage_may_have() {
        let parts = parts(&of("running"));
        let values: Vec<u64> = parts.iter().map(|part| part.value).collect();
        assert_eq!(values, [6211, 14, 2, 3, 70]);
    }

    #[test]
    fn buttons_are_what_state_and_role_allow() {
        let actions = |state, role| actions(&of(state), &viewer_as(role));
        assert_eq!(
            actions("running", Role::Owner),
            ["deployment-pause", "deployment-halt", "deployment-withdraw"]
        );
        assert_eq!(actions("draft", Role::Operator), ["deployment-approve", "deployment-withdraw"]);
        assert_eq!(actions("halted", Role::Owner), ["deployment-resume", "deployment-withdraw"]);
        assert!(
            actions("running", Role::Reader).is_empty()
                && actions("withdrawn", Role::Owner).is_empty()
        );
    }
}
