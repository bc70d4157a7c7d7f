//! What threat detection has found.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::mood::{self, Mood};
use crate::page::{Given, Page, Paging, ROWS};
use crate::place::Place;
use crate::rows::{Listed, ShownThreat, Threat};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct ListDocument {
    threats: Listed<Threat>,
}

#[derive(Template)]
#[template(path = "threats.html")]
struct ListBody<'a> {
    viewer: &'a Viewer,
    threats: Vec<&'a Threat>,
    with_closed: bool,
    paging: Paging,
}

/// Returns threats with the worst first, and of those the newest.
pub(super) fn sorted_threats(threats: &[Threat]) -> Vec<&Threat> {
    let mut threats: Vec<&Threat> = threats.iter().collect();
    threats.sort_by_key(|threat| (threat.severity, std::cmp::Reverse(threat.last_at)));
    threats
}

/// Lists threats: open ones, or all.
pub(crate) async fn threats(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let (state, after) = (given.of_query("state")?, given.of_query("after")?);
    let query = Query::default().with("state", state);
    let asked = query.clone().with("after", after).with("limit", ROWS);
    let document = ListDocument { threats: ask.get("/threats", &asked).await? };
    let path = viewer.to(Place::Threats);
    let paging = Paging::new(&path, &query, after, document.threats.next.as_ref());
    let threats = sorted_threats(&document.threats.items);
    let body = ListBody { viewer, threats, with_closed: state == "closed", paging };
    Ok(Page::new("Threats", &document, &body)?.that_refreshes())
}

#[derive(Debug, Serialize, Deserialize)]
struct ThreatDocument {
    threat: ShownThreat,
}

#[derive(Template)]
#[template(path = "threat.html")]
struct ThreatBody<'a> {
    viewer: &'a Viewer,
    shown: &'a ShownThreat,
    threat: &'a Threat,
    number: String,
    more_devices: u64,
}

/// Shows a threat with what shows it.
pub(crate) async fn threat(ask: &Ask, viewer: &Viewer, number: &str) -> Result<Page, Failure> {
    let shown: ShownThreat = ask.get(&format!("/threats/{number}"), &Query::default()).await?;
    let document = ThreatDocument { threat: shown };
    let shown = &document.threat;
    let named = u64::try_from(shown.named_devices.len()).unwrap_or(u64::MAX);
    let more_devices = u64::from(shown.threat.devices).saturating_sub(named);
    let (threat, number) = (&shown.threat, shown.threat.number.to_string());
    let body = ThreatBody { viewer, shown, threat, number, more_devices };
    let page = Page::new(format!("Threat #{}", threat.number), &document, &body)?;
    Ok(page.below("Threats", viewer.to(Place::Threats)).that_refreshes())
}
