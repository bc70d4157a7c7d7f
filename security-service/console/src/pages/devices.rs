//! Devices: listed, and each with its past.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::mood;
use crate::page::{Given, Page, Paging, ROWS};
use crate::place::Place;
use crate::rows::{Device, Event, Finding, Group, GroupOf, Listed};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

/// Products whose groups a device can be moved to from its page.
const PRODUCTS: usize = 20;
/// What the list is filtered by.
const FILTERS: [&str; 6] = ["standing", "state", "product", "group", "version", "find"];

#[derive(Debug, Serialize, Deserialize)]
struct ListDocument {
    devices: Listed<Device>,
    products: Listed<String>,
}

#[derive(Template)]
#[template(path = "devices.html")]
struct ListBody<'a> {
    viewer: &'a Viewer,
    document: &'a ListDocument,
    given: &'a Given,
    is_filtered: bool,
    paging: Paging,
}

/// Lists devices.
pub(crate) async fn devices(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let mut query = Query::default();
    for filter in FILTERS {
        query = query.with(filter, given.of_query(filter)?);
    }
    let after = given.of_query("after")?;
    let asked = query.clone().with("after", after).with("limit", ROWS);
    let document = ListDocument {
        devices: ask.get("/devices", &asked).await?,
        products: ask.get("/products", &Query::default()).await?,
    };
    let path = viewer.to(Place::Devices);
    let paging = Paging::new(&path, &query, after, document.devices.next.as_ref());
    let is_filtered = FILTERS.iter().any(|filter| !given.get(filter).is_empty());
    let body = ListBody { viewer, document: &document, given, is_filtered, paging };
    Page::new("Devices", &document, &body)
}

#[derive(Debug, Serialize, Deserialize)]
struct DeviceDocument {
    device: Device,
    findings: Vec<Finding>,
    timeline: Listed<Event>,
    /// Groups that it can be moved to, for whoever may move it.
    places: Vec<GroupOf>,
}

/// A day of a device's past.
struct DayOfEvents<'a> {
    day: String,
    events: Vec<&'a Event>,
}

#[derive(Template)]
#[template(path = "device.html")]
struct DeviceBody<'a> {
    viewer: &'a Viewer,
    document: &'a DeviceDocument,
    days: Vec<DayOfEvents<'a>>,
}

/// Returns events by day, in their order.
fn by_day(events: &[Event]) -> Vec<DayOfEvents<'_>> {
    let mut days: Vec<DayOfEvents<'_>> = Vec::new();
    for event in events {
        let day = text::day(&event.at);
        match days.last_mut() {
            Some(last) if last.day == day => last.events.push(event),
            _ => days.push(DayOfEvents { day, events: vec![event] }),
        }
    }
    days
}

/// Returns the groups that there are, of the first products.
pub(super) async fn places(ask: &Ask) -> Result<Vec<GroupOf>, Failure> {
    let products: Listed<String> = ask.get("/products", &Query::default()).await?;
    let mut places = Vec::new();
    for product in products.items.into_iter().take(PRODUCTS) {
        let path = format!("/products/{product}/groups");
        let groups: Listed<Group> = ask.get(&path, &Query::default()).await?;
        places.extend(
            groups
                .items
                .into_iter()
                .map(|group| GroupOf { product: product.clone(), group: group.name }),
        );
    }
    Ok(places)
}

/// Shows a device.
pub(crate) async fn device(ask: &Ask, viewer: &Viewer, id: &str) -> Result<Page, Failure> {
    let none = Query::default();
    let device: Device = ask.get(&format!("/devices/{id}"), &none).await?;
    let of_device = Query::default().with("after", &format!("{id}..0"));
    let findings: Listed<Finding> = ask.get("/findings", &of_device).await?;
    let document = DeviceDocument {
        device,
        findings: findings.items.into_iter().filter(|finding| finding.device == id).collect(),
        timeline: ask.get(&format!("/devices/{id}/timeline"), &none).await?,
        places: if viewer.operates() { places(ask).await? } else { Vec::new() },
    };
    let days = by_day(&document.timeline.items);
    let body = DeviceBody { viewer, document: &document, days };
    let page = Page::new(format!("Device {}", text::short(id)), &document, &body)?;
    Ok(page.below("Devices", viewer.to(Place::Devices)).that_refreshes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_past_is_told_by_day() {
        let event = |at| Event {
            at,
            kind: "boot".to_owned(),
            mood: "plain".to_owned(),
            text: String::new(),
            deployment: None,
        };
        let events = [event(1_796_119_503), event(1_796_100_000), event(1_796_000_000)];
        let days = by_day(&events);
        let days: Vec<(&str, usize)> =
            days.iter().map(|day| (day.day.as_str(), day.events.len())).collect();
        assert_eq!(days, [("2026-12-01", 2), ("2026-11-30", 1)]);
    }
}
