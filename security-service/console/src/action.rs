//! What people can do from pages: a table, of which each row is one operation of the management API.

use crate::ask::Change;
use crate::failure::Failure;
use crate::page::Given;
use crate::place::{Place, is_plain};
use holdfast_service_domain::role::Need;
use holdfast_types::hex::sha256;
use serde_json::{Value, json};

/// What an action is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// A device, by its id.
    Device,
    /// A deployment, by its name.
    Deployment,
    /// A threat, by its number.
    Threat,
    /// A finding about a device: its id and the kind, with a dot between.
    Finding,
    /// A crash group, by its id.
    Crash,
    /// A release, by its boot digest.
    Release,
    /// A webhook, by its name.
    Webhook,
    /// A token, by its name.
    Token,
    /// The catalog.
    Catalog,
}

/// Something that can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Action {
    /// Its name, in paths.
    pub(crate) name: &'static str,
    /// What it is done to.
    pub(crate) of: Of,
    /// What is needed for it.
    pub(crate) need: Need,
    /// What its button says.
    pub(crate) label: &'static str,
    /// True if nothing is done before a page has said what will happen.
    pub(crate) is_confirmed: bool,
    /// True if its answer is shown, and not only that it was done.
    pub(crate) has_answer: bool,
    /// What is said once it is done.
    pub(crate) done: &'static str,
    /// Its path in the API, behind that of what it is done to.
    verb: &'static str,
}

const fn plain(
    name: &'static str,
    of: Of,
    need: Need,
    verb: &'static str,
    label: &'static str,
    done: &'static str,
) -> Action {
    Action { name, of, need, label, is_confirmed: false, has_answer: false, done, verb }
}

const fn confirmed(action: Action) -> Action {
    Action { is_confirmed: true, ..action }
}

const fn answered(action: Action) -> Action {
    Action { has_answer: true, ..action }
}

/// Every action.
pub(crate) const ACTIONS: &[Action] = &[
    confirmed(plain(
        "device-quarantine",
        Of::Device,
        Need::Operate,
        "quarantine",
        "Quarantine",
        "The device is quarantined from its next check-in on.",
    )),
    plain(
        "device-end-quarantine",
        Of::Device,
        Need::Operate,
        "end-quarantine",
        "End quarantine",
        "The quarantine has ended; the next check-in shows it.",
    ),
    confirmed(plain(
        "device-retire",
        Of::Device,
        Need::Operate,
        "retire",
        "Retire",
        "The device is retired.",
    )),
    plain("device-move", Of::Device, Need::Operate, "move", "Move", "The device was moved."),
    confirmed(plain(
        "deployment-approve",
        Of::Deployment,
        Need::Release,
        "approve",
        "Approve",
        "The deployment is approved.",
    )),
    plain(
        "deployment-pause",
        Of::Deployment,
        Need::Operate,
        "pause",
        "Pause",
        "The deployment is paused: nobody new is given the release.",
    ),
    confirmed(plain(
        "deployment-resume",
        Of::Deployment,
        Need::Release,
        "resume",
        "Resume",
        "The deployment goes on.",
    )),
    confirmed(plain(
        "deployment-halt",
        Of::Deployment,
        Need::Operate,
        "halt",
        "Halt",
        "The deployment is halted.",
    )),
    confirmed(plain(
        "deployment-withdraw",
        Of::Deployment,
        Need::Operate,
        "withdraw",
        "Withdraw",
        "The deployment is withdrawn.",
    )),
    confirmed(plain(
        "threat-contain",
        Of::Threat,
        Need::Operate,
        "contain",
        "Contain",
        "The threat is contained.",
    )),
    confirmed(plain(
        "threat-release",
        Of::Threat,
        Need::Operate,
        "release",
        "Release",
        "What contained the threat has ended.",
    )),
    plain("threat-close", Of::Threat, Need::Close, "close", "Close", "The threat is closed."),
    plain("finding-close", Of::Finding, Need::Close, "close", "Close", "The finding is closed."),
    plain(
        "crash-close",
        Of::Crash,
        Need::Close,
        "close",
        "Close",
        "The crash group is closed until a later version shows it again.",
    ),
    plain(
        "crash-reopen",
        Of::Crash,
        Need::Close,
        "reopen",
        "Reopen",
        "The crash group is open again.",
    ),
    confirmed(plain(
        "release-withdraw",
        Of::Release,
        Need::Release,
        "withdraw",
        "Withdraw",
        "The release is withdrawn.",
    )),
    confirmed(plain(
        "release-restore",
        Of::Release,
        Need::Release,
        "restore",
        "Restore",
        "The withdrawal is taken back.",
    )),
    answered(plain(
        "webhook-test",
        Of::Webhook,
        Need::Operate,
        "test",
        "Test",
        "The webhook was tested.",
    )),
    confirmed(plain(
        "webhook-remove",
        Of::Webhook,
        Need::Operate,
        "remove",
        "Remove",
        "The webhook is removed.",
    )),
    confirmed(plain(
        "token-remove",
        Of::Token,
        Need::Own,
        "remove",
        "Remove",
        "The token is removed.",
    )),
    answered(plain(
        "audit-verify",
        Of::Catalog,
        Need::Audit,
        "audit/verify",
        "Verify",
        "The audit log was followed.",
    )),
];

impl Action {
    /// Returns the action of a name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        ACTIONS.iter().find(|action| action.name == name).copied()
    }

    /// Returns the page that an action on something is done from.
    pub(crate) fn back(self, of: &str) -> Place {
        let of = of.to_owned();
        match self.of {
            Of::Device => Place::Device(of),
            Of::Deployment => Place::Deployment(of),
            Of::Threat => Place::Threat(of),
            Of::Finding => Place::Findings,
            Of::Crash => Place::Crash(of),
            Of::Release => Place::Releases,
            Of::Webhook => Place::Alerts,
            Of::Token => Place::People,
            Of::Catalog => Place::Audit,
        }
    }

    /// Returns what makes the same form of a page one change, however often it is sent. Another form of the page is another.
    fn key(self, of_page: &str, of: &str) -> String {
        if of_page.is_empty() {
            return String::new();
        }
        sha256(format!("{of_page} {} {of}", self.name).as_bytes())
    }

    /// Returns the change that a form asks for.
    pub(crate) fn change(self, of: &str, form: &Given) -> Result<Change, Failure> {
        if self.of != Of::Catalog && !is_plain(of) {
            return Err(Failure::nowhere());
        }
        let verb = self.verb;
        let path = match self.of {
            Of::Device => format!("/devices/{of}/{verb}"),
            Of::Deployment => format!("/deployments/{of}/{verb}"),
            Of::Threat => format!("/threats/{of}/{verb}"),
            Of::Finding => format!("/findings/{verb}"),
            Of::Crash => format!("/crashes/{of}/{verb}"),
            Of::Release => format!("/releases/{of}/{verb}"),
            Of::Webhook => format!("/webhooks/{of}/{verb}"),
            Of::Token => format!("/tokens/{of}/{verb}"),
            Of::Catalog => format!("/{verb}"),
        };
        let body = match (self.of, self.name) {
            (Of::Finding, _) => {
                let (device, kind) = of.split_once('.').ok_or_else(Failure::nowhere)?;
                json!({"device": device, "kind": kind})
            }
            (_, "device-move") => {
                let place = form.get("place").split_once('/');
                let (product, group) = place.ok_or_else(|| {
                    Failure::malformed("place: choose the product and group to move to")
                })?;
                json!({"product": product, "group": group})
            }
            (_, "threat-close") => json!({"reason": form.get("reason")}),
            _ => Value::Null,
        };
        Ok(Change { path, body, key: self.key(form.get("key"), of) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_what_is_dangerous_is_confirmed() {
        let names: BTreeSet<&str> = ACTIONS.iter().map(|action| action.name).collect();
        assert_eq!(names.len(), ACTIONS.len());
        for name in [
            "threat-contain",
            "deployment-halt",
            "device-quarantine",
            "device-retire",
            "deployment-approve",
            "token-remove",
        ] {
            assert!(Action::of_name(name).unwrap().is_confirmed, "{name}");
        }
        assert_eq!(Action::of_name("device-erase"), None);
    }

    #[test]
    fn the_same_form_has_the_same_key_and_no_other_has() {
        let key = |name: &str, page: &str, of: &str| Action::of_name(name).unwrap().key(page, of);
        let first = key("finding-close", "page", "ab.debug-build");
        assert_eq!(first, key("finding-close", "page", "ab.debug-build"));
        for other in [
            key("finding-close", "page", "cd.debug-build"),
            key("finding-close", "other", "ab.debug-build"),
            key("crash-close", "page", "ab.debug-build"),
        ] {
            assert_ne!(first, other);
        }
        assert!(first.len() <= 64 && key("crash-close", "", "ab").is_empty());
    }

    #[test]
    fn a_form_becomes_one_request_and_nothing_else() {
        let given = |pairs: &[(&str, &str)]| {
            Given::of(
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            )
            .unwrap()
        };
        let change = |name: &str, of: &str, form: &[(&str, &str)]| {
            Action::of_name(name)
                .unwrap()
                .change(of, &given(form))
                .map(|change| (change.path, change.body))
        };
        assert_eq!(
            change("device-retire", "ab", &[]).unwrap(),
            ("/devices/ab/retire".to_owned(), Value::Null)
        );
        let moved = change("device-move", "ab", &[("place", "pump/eval")]).unwrap();
        assert_eq!(moved.1, json!({"product": "pump", "group": "eval"}));
        let closed = change("finding-close", "ab.debug-build", &[]).unwrap();
        assert_eq!(
            closed,
            ("/findings/close".to_owned(), json!({"device": "ab", "kind": "debug-build"}))
        );
        assert_eq!(change("audit-verify", "", &[]).unwrap().0, "/audit/verify");
        for of in ["", "..", "a/b", "a?b", "a%2fb", "../tokens"] {
            change("device-retire", of, &[]).unwrap_err();
        }
        change("device-move", "ab", &[("place", "pump")]).unwrap_err();
    }
}
