//! Failures that devices have reported, in groups of the same one.

use crate::ask::{Ask, Query};
use crate::chart::{self, Days};
use crate::failure::Failure;
use crate::mood;
use crate::page::{Given, Page, Paging, ROWS};
use crate::place::Place;
use crate::rows::{Crash, CrashDay, Listed, ShownCrash};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct ListDocument {
    crashes: Listed<Crash>,
}

#[derive(Template)]
#[template(path = "crashes.html")]
struct ListBody<'a> {
    viewer: &'a Viewer,
    document: &'a ListDocument,
    with_closed: bool,
    paging: Paging,
}

/// Lists crash groups, those that were seen last first: open ones, or all.
pub(crate) async fn crashes(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let (state, after) = (given.of_query("state")?, given.of_query("after")?);
    let query = Query::default().with("state", state);
    let asked = query.clone().with("after", after).with("limit", ROWS).with("order", "newest");
    let document = ListDocument { crashes: ask.get("/crashes", &asked).await? };
    let path = viewer.to(Place::Crashes);
    let paging = Paging::new(&path, &query, after, document.crashes.next.as_ref());
    let body = ListBody { viewer, document: &document, with_closed: state == "closed", paging };
    Page::new("Crashes", &document, &body)
}

#[derive(Debug, Serialize, Deserialize)]
struct CrashDocument {
    crash: ShownCrash,
    days: Listed<CrashDay>,
}

#[derive(Template)]
#[template(path = "crash.html")]
struct CrashBody<'a> {
    viewer: &'a Viewer,
    crash: &'a Crash,
    document: &'a CrashDocument,
    days: Option<Days>,
    seen: Vec<&'a CrashDay>,
}

/// Returns the rate of each day as a chart; devices where nothing has counted how many ran.
fn chart(days: &[CrashDay]) -> Option<Days> {
    if days.iter().any(|day| day.rate.is_some()) {
        let values = days.iter().map(|day| {
            let rate = day.rate.unwrap_or(0.0);
            (day.at, in_thousandths(rate), text::rate(&rate))
        });
        let title = "New devices per 1000 that ran, by day";
        return chart::days(title, &values.collect::<Vec<_>>());
    }
    let values = days.iter().map(|day| (day.at, day.devices, text::number(&day.devices)));
    chart::days("New devices, by day", &values.collect::<Vec<_>>())
}

/// Returns a rate as a whole number that is drawn.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float that is too large or negative becomes the nearest whole number, which is drawn and nothing else"
)]
fn in_thousandths(rate: f64) -> u64 {
    (rate * 1000.0) as u64
}

/// Shows a crash group.
pub(crate) async fn crash(ask: &Ask, viewer: &Viewer, id: &str) -> Result<Page, Failure> {
    let none = Query::default();
    let document = CrashDocument {
        crash: ask.get(&format!("/crashes/{id}"), &none).await?,
        days: ask.get(&format!("/crashes/{id}/days"), &none).await?,
    };
    let crash = &document.crash.crash;
    let days = &document.days.items;
    let seen = days.iter().filter(|day| day.devices > 0).collect();
    let body = CrashBody { viewer, crash, document: &document, days: chart(days), seen };
    let page = Page::new(format!("Crash {}", text::short(id)), &document, &body)?;
    Ok(page.below("Crashes", viewer.to(Place::Crashes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_without_devices_that_ran_has_no_rate_and_is_drawn_as_none() {
        let day = |at, devices, rate| CrashDay { at, devices, running: 1000, rate };
        let rated = chart(&[day(0, 0, None), day(86_400, 3, Some(3.0))]).unwrap();
        assert_eq!((rated.columns[0].height, rated.columns[1].height), (0, chart::HEIGHT));
        assert!(rated.title.contains("per 1000"));
        let counted = chart(&[day(0, 2, None), day(86_400, 1, None)]).unwrap();
        assert_eq!((counted.most.as_str(), counted.title), ("2", "New devices, by day"));
        assert_eq!(
            [in_thousandths(f64::INFINITY), in_thousandths(f64::NAN), in_thousandths(-1.0)],
            [u64::MAX, 0, 0]
        );
    }
}
