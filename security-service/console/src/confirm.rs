//! What will happen, told before it does.

use crate::action::{Action, Of};
use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::place::is_plain;
use crate::rows::{Deployment, Device, Listed, Release, ShownThreat, Token, Webhook};
use crate::text::{self, count, minute, short};
use serde::Serialize;

/// What an action will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Outlook {
    /// What it is about.
    pub(crate) about: String,
    /// What happens, in sentences.
    pub(crate) happens: Vec<String>,
    /// What stays as it is, and how it is undone.
    pub(crate) stays: Vec<String>,
}

/// Asks the API for what an action is about, and returns what it will do.
pub(crate) async fn outlook(ask: &Ask, action: Action, of: &str) -> Result<Outlook, Failure> {
    if !is_plain(of) {
        return Err(Failure::nowhere());
    }
    let none = Query::default();
    let most = Query::default().with("limit", "1000");
    Ok(match action.of {
        Of::Device => of_device(action, &ask.get(&format!("/devices/{of}"), &none).await?),
        Of::Deployment => {
            of_deployment(action, &ask.get(&format!("/deployments/{of}"), &none).await?)
        }
        Of::Threat => of_threat(action, &ask.get(&format!("/threats/{of}"), &none).await?),
        Of::Release => {
            let all: Listed<Release> = ask.get("/releases", &most).await?;
            let found = all.items.into_iter().find(|release| release.boot == of);
            of_release(action, &found.ok_or_else(Failure::nowhere)?)
        }
        Of::Webhook => {
            let all: Listed<Webhook> = ask.get("/webhooks", &none).await?;
            let found = all.items.into_iter().find(|webhook| webhook.name == of);
            of_webhook(&found.ok_or_else(Failure::nowhere)?)
        }
        Of::Token => {
            let all: Listed<Token> = ask.get("/tokens", &none).await?;
            let found = all.items.into_iter().find(|token| token.name == of);
            of_token(&found.ok_or_else(Failure::nowhere)?)
        }
        Of::Finding | Of::Crash | Of::Catalog => return Err(Failure::nowhere()),
    })
}

fn of_device(action: Action, device: &Device) -> Outlook {
    let id = short(&device.id);
    let about = match &device.place {
        Some(place) => format!("Device {id} of {}/{}", place.product, place.group),
        None => format!("Device {id}"),
    };
    let until = match device.certificate_end {
        Some(end) => format!("The certificates that it has are good until {} UTC.", minute(&end)),
        None => "It has no certificates now.".to_owned(),
    };
    let (happens, stays) = match action.name {
        "device-quarantine" => (
            vec![
                "From its next check-in on, the device gets a certificate for updates alone: brokers and peers refuse it.".to_owned(),
                until,
            ],
            vec![
                "Nothing runs on the device because of it, and it goes on taking signed updates.".to_owned(),
                "“End quarantine” undoes it at the check-in after that.".to_owned(),
            ],
        ),
        _ => (
            vec![
                "The service refuses every check-in of the device, and gives it no certificates any more.".to_owned(),
                "What it reports is refused at once.".to_owned(),
                until,
            ],
            vec!["It stays in the list as retired. A new claim brings it back, and it enrols anew.".to_owned()],
        ),
    };
    Outlook { about, happens, stays }
}

fn of_deployment(action: Action, deployment: &Deployment) -> Outlook {
    let Deployment { id, component, version, product, group, .. } = deployment;
    let about = format!(
        "Deployment {id}: {component} {version} for {product}/{group}, {}",
        deployment.state
    );
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let given = count(&deployment.given, "device was", "devices were");
    let under_way = number(deployment.granted)
        .saturating_sub(number(deployment.committed))
        .saturating_sub(number(deployment.failed))
        .saturating_sub(number(deployment.silent));
    let nobody_new = "Nobody new is given the release, from this moment on.".to_owned();
    let kept = format!(
        "{given} given the release: {} have committed it and keep it.",
        text::number(&number(deployment.committed))
    );
    let going = format!(
        "{} fetching or trying it now, and may still commit it.",
        count(&under_way, "device is", "devices are")
    );
    let (happens, stays) = match action.name {
        "deployment-halt" => (
            vec![nobody_new, kept, going],
            vec!["“Resume” has it go on, in spite of what has failed until then.".to_owned()],
        ),
        "deployment-withdraw" => (
            vec![
                nobody_new,
                kept,
                going,
                "It is given up for good, and cannot be resumed.".to_owned(),
            ],
            vec!["Another deployment can bring the same release or a correction.".to_owned()],
        ),
        "deployment-resume" => (
            vec![
                "Devices of the stage that check in are given the release again.".to_owned(),
                format!(
                    "Failures until now ({} fallen back, {} silent) count no more towards a halt.",
                    number(deployment.failed),
                    number(deployment.silent)
                ),
            ],
            vec!["It halts by itself again where as many fail anew.".to_owned()],
        ),
        _ => {
            let first = deployment
                .stages
                .first()
                .map(|stage| match stage.listed {
                    Some(_) => text::stage(stage),
                    None => format!("{} of the devices", text::stage(stage)),
                })
                .unwrap_or_default();
            (
                vec![
                    format!("The first stage begins: {first} of {product}/{group} may be given {component} {version}, as they check in."),
                    format!("{} follow by themselves, as those before succeed.", count(&u64::try_from(deployment.stages.len().saturating_sub(1)).unwrap_or(0), "more stage", "more stages")),
                ],
                vec![
                    format!("{} has drafted it.{}", deployment.drafted_by, if deployment.production { " The group is marked production, so somebody else has to approve." } else { "" }),
                    "“Pause”, “Halt” and “Withdraw” stop it at any time; what has the release keeps it.".to_owned(),
                ],
            )
        }
    };
    Outlook { about, happens, stays }
}

fn of_threat(action: Action, shown: &ShownThreat) -> Outlook {
    let threat = &shown.threat;
    let about = format!("Threat #{} ({}): {}", threat.number, threat.rule, threat.about);
    let (happens, stays) = if action.name == "threat-contain" {
        let mut happens = shown.containment.clone();
        if happens.is_empty() {
            happens.push("Nothing: the service has nothing to withhold that would help against this rule. The service will refuse.".to_owned());
        }
        happens.push("What evidence names by then is contained as well, should it have grown since this page was loaded.".to_owned());
        (
            happens,
            vec![
                "Nothing runs on a device because of it. Devices get certificates for updates alone at their next check-in, and go on taking signed updates.".to_owned(),
                "“Release” undoes it; deployments that it has halted stay halted until they are resumed.".to_owned(),
            ],
        )
    } else {
        let mut happens: Vec<String> =
            shown.done.iter().map(|done| format!("It ends: {done}.")).collect();
        happens.push("Devices get full certificates again at their next check-in, unless something else is against it.".to_owned());
        (happens, vec!["What another threat asks for as well goes on. Deployments that were halted stay halted.".to_owned()])
    };
    Outlook { about, happens, stays }
}

fn of_release(action: Action, release: &Release) -> Outlook {
    let about = format!(
        "Release {} (index {}), measured as {}",
        release.version,
        release.index,
        short(&release.boot)
    );
    let (happens, stays) = if action.name == "release-withdraw" {
        (
            vec!["Devices that attest this release get a certificate for updates alone at their next check-in, until they run another.".to_owned()],
            vec!["It stays known, and “Restore” takes the withdrawal back. Nothing runs on a device because of it.".to_owned()],
        )
    } else {
        (
            vec!["Devices that attest this release get full certificates again at their next check-in.".to_owned()],
            vec!["It can be withdrawn again.".to_owned()],
        )
    };
    Outlook { about, happens, stays }
}

fn of_webhook(webhook: &Webhook) -> Outlook {
    Outlook {
        about: format!("Webhook {} to {}", webhook.name, webhook.url),
        happens: vec![
            "No alert goes there any more, and what waits for it is not delivered.".to_owned(),
        ],
        stays: vec![
            "Its secret is gone: a webhook that is added again has another one.".to_owned(),
        ],
    }
}

fn of_token(token: &Token) -> Outlook {
    Outlook {
        about: format!("Token {} ({})", token.name, token.role),
        happens: vec!["Whoever shows it is refused from now on, and its sessions of this console end with their next request.".to_owned()],
        stays: vec!["It cannot be brought back; a new one can be created. What was done with it stays in the audit log.".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action(name: &str) -> Action {
        Action::of_name(name).unwrap()
    }

    #[test]
    fn containment_is_told_in_the_words_of_the_service() {
        let shown = |containment: &[&str]| -> ShownThreat {
            serde_json::from_value(json!({
                "number": 118, "rule": "outbreak", "severity": 1, "about": "app cam 2.1.0", "product": "pump",
                "group": "eval", "state": "open", "devices": 9, "first_at": 1, "last_at": 2, "opened_at": 2,
                "reopened": 0, "contained_at": null, "contained_by": null, "closed_at": null, "closed_by": null,
                "reason": null, "sees": "", "remedy": "", "named_devices": [], "records": [], "destinations": [],
                "networks": [], "done": ["quarantine"], "containment": containment,
            })).unwrap()
        };
        let outlook = of_threat(
            action("threat-contain"),
            &shown(&["halts deployments of cam", "quarantines cam 2.1.0"]),
        );
        assert_eq!(outlook.happens[..2], ["halts deployments of cam", "quarantines cam 2.1.0"]);
        let nothing = of_threat(action("threat-contain"), &shown(&[]));
        assert!(nothing.happens[0].starts_with("Nothing:"), "{nothing:?}");
        assert!(of_threat(action("threat-release"), &shown(&[])).happens[0].contains("quarantine"));
    }

    #[test]
    fn a_halt_says_who_keeps_the_release_and_who_is_under_way() {
        let deployment: Deployment = serde_json::from_value(json!({
            "id": "d41", "product": "pump", "group": "production", "component": "os", "version": "1.4.0",
            "state": "running", "cause": null, "stage": 3, "stages": [{"permille": 10, "soak_s": 60}],
            "quorum_permille": 500, "since": 1, "soaks_until": null, "devices": 120, "allowance": 18, "given": 120,
            "granted": 120, "committed": 100, "failed": 2, "silent": 1, "failures_to_halt": 3,
            "silent_to_halt": 3, "says": "", "window": null, "deadline_s": null, "production": true,
            "drafted_by": "ole", "approved_by": null, "created_at": 1,
        })).unwrap();
        let halt = of_deployment(action("deployment-halt"), &deployment);
        assert!(
            halt.happens[1].starts_with("120 devices were given the release: 100 have"),
            "{halt:?}"
        );
        assert!(halt.happens[2].starts_with("17 devices are fetching"), "{halt:?}");
        let approve = of_deployment(action("deployment-approve"), &deployment);
        assert!(
            approve.happens[0].contains("1 % of the devices")
                && approve.stays[0].contains("somebody else"),
            "{approve:?}"
        );
    }
}
