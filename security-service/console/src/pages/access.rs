//! Who may do what, who did what, and whose certificates are believed.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::page::{Given, Page, Paging, ROWS};
use crate::place::Place;
use crate::rows::{AuditRow, Authority, Listed, Token};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use holdfast_service_domain::role::Role;
use serde::{Deserialize, Serialize};

/// Seconds before its end in which a certificate or a token ends soon.
const SOON_S: u64 = 14 * 24 * 60 * 60;

#[derive(Debug, Serialize, Deserialize)]
struct AuthorityDocument {
    authorities: Listed<Authority>,
}

#[derive(Template)]
#[template(path = "authorities.html")]
struct AuthorityBody<'a> {
    viewer: &'a Viewer,
    document: &'a AuthorityDocument,
}

/// Lists the certificates of the catalog's authority.
pub(crate) async fn authorities(ask: &Ask, viewer: &Viewer) -> Result<Page, Failure> {
    let authorities = ask.get("/ca-certificates", &Query::default()).await?;
    let document = AuthorityDocument { authorities };
    Page::new("CA certificates", &document, &AuthorityBody { viewer, document: &document })
}

/// Returns how a certificate or a token stands by its end: its mood and a word.
fn ending(end: &u64, now: &u64) -> (&'static str, &'static str) {
    if end <= now {
        ("off", "ended")
    } else if end.saturating_sub(*now) < SOON_S {
        ("warn", "ends soon")
    } else {
        ("good", "good")
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct PeopleDocument {
    tokens: Listed<Token>,
}

#[derive(Template)]
#[template(path = "people.html")]
struct PeopleBody<'a> {
    viewer: &'a Viewer,
    document: &'a PeopleDocument,
    roles: Vec<(&'static str, &'static str)>,
}

/// Returns what a role may do, in a sentence.
fn role_says(role: Role) -> &'static str {
    match role {
        Role::Owner => "everything in its catalog",
        Role::Operator => "work with groups, devices, releases, deployments, threats and webhooks",
        Role::Releaser => "release, and draft and resume deployments",
        Role::Approver => "approve what somebody else has drafted or asked for",
        Role::Factory => "claim devices, and see nothing",
        Role::Analyst => "see all but secrets and the audit log, and close what was found",
        Role::Reader => "see all but secrets and the audit log",
        Role::Auditor => "see the audit log, and what a reader sees",
    }
}

/// Lists who may do what.
pub(crate) async fn people(ask: &Ask, viewer: &Viewer) -> Result<Page, Failure> {
    let document = PeopleDocument { tokens: ask.get("/tokens", &Query::default()).await? };
    let roles = Role::ALL.into_iter().map(|role| (role.word(), role_says(role))).collect();
    Page::new("People", &document, &PeopleBody { viewer, document: &document, roles })
}

#[derive(Debug, Serialize, Deserialize)]
struct AuditDocument {
    audit: Listed<AuditRow>,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditBody<'a> {
    viewer: &'a Viewer,
    document: &'a AuditDocument,
    paging: Paging,
}

/// Lists the audit log, its newest rows first.
pub(crate) async fn audit(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let after = given.of_query("after")?;
    let asked = Query::default().with("after", after).with("limit", ROWS).with("order", "newest");
    let document = AuditDocument { audit: ask.get("/audit", &asked).await? };
    let path = viewer.to(Place::Audit);
    let paging = Paging::new(&path, &Query::default(), after, document.audit.next.as_ref());
    Page::new("Audit log", &document, &AuditBody { viewer, document: &document, paging })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_is_said_in_time() {
        let words = [999, 1000, 1001, 1000 + SOON_S].map(|end| ending(&end, &1000).1);
        assert_eq!(words, ["ended", "ended", "ends soon", "good"]);
        assert!(Role::ALL.into_iter().all(|role| !role_says(role).is_empty()));
    }
}
