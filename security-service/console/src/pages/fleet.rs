//! The fleet at one look.

use super::threats::sorted_threats;
use crate::ask::{Ask, Query};
use crate::chart::{self, Bar, Days, Part};
use crate::failure::Failure;
use crate::mood::{self, Mood};
use crate::page::Page;
use crate::place::Place;
use crate::rows::{Crash, Deployment, Listed, Overview, Threat};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

/// Rows of each list of what is open.
const OPEN: usize = 6;
/// Releases that have a bar of their own.
const BARS: usize = 6;

/// What the page is made of.
#[derive(Debug, Serialize, Deserialize)]
struct Document {
    overview: Overview,
    threats: Listed<Threat>,
    crashes: Listed<Crash>,
    deployments: Listed<Deployment>,
}

/// How many devices stand in one way.
struct Tile {
    name: String,
    mood: &'static str,
    says: &'static str,
    devices: u64,
    share: String,
    link: String,
}

#[derive(Template)]
#[template(path = "fleet.html")]
struct Body<'a> {
    viewer: &'a Viewer,
    document: &'a Document,
    enrolled: u64,
    tiles: Vec<Tile>,
    standings: Vec<Part>,
    releases: Vec<Bar>,
    grades: Vec<Bar>,
    days: Option<Days>,
    threats: Vec<&'a Threat>,
    crashes: Vec<&'a Crash>,
    deployments: Vec<&'a Deployment>,
    waiting: u64,
    findings: u64,
}

impl<'a> Body<'a> {
    fn new(document: &'a Document, viewer: &'a Viewer) -> Self {
        let overview = &document.overview;
        let of_state = |name: &str| {
            overview.states.iter().find(|state| state.name == name).map_or(0, |state| state.devices)
        };
        let enrolled = of_state("enrolled");
        let tile = |name: &str, says| {
            let count = overview.standings.iter().find(|count| count.name == name);
            let devices = count.map_or(0, |count| count.devices);
            let link = viewer.devices("standing", name);
            let share = text::percent(&devices, &enrolled);
            // Two parts of one bar are told apart by their moods.
            let mood = if name == "silent" { "off" } else { mood::of(name) };
            Tile { name: name.to_owned(), mood, says, devices, share, link }
        };
        let tiles = vec![
            tile("attested", "full certificate, seen within 26 h"),
            tile("update-only", "certificate for updates alone"),
            tile("refused", "checked in and got no certificate"),
            tile("silent", "has not checked in for 26 h, or never"),
        ];
        let names = ["attested", "update-only", "refused", "silent"];
        let parts =
            names.into_iter().zip(&tiles).map(|(name, tile)| (name, tile.mood, tile.devices));
        let parts: Vec<(&'static str, &'static str, u64)> = parts.collect();
        let threats = sorted_threats(&document.threats.items);
        let is_under_way = |one: &&Deployment| !matches!(one.state.as_str(), "done" | "withdrawn");
        let findings = overview.findings.iter();
        let days =
            overview.days.iter().map(|day| (day.at, day.devices, text::number(&day.devices)));
        Self {
            viewer,
            document,
            enrolled,
            standings: chart::stack(&parts),
            tiles,
            releases: releases(overview, viewer),
            grades: chart::bars(
                overview
                    .grades
                    .iter()
                    .filter(|grade| grade.devices > 0)
                    .map(|grade| (grade.name.clone(), None, grade.devices))
                    .collect(),
            ),
            days: chart::days("Devices that ran, by day", &days.collect::<Vec<_>>()),
            threats: threats.into_iter().take(OPEN).collect(),
            crashes: document.crashes.items.iter().take(OPEN).collect(),
            deployments: document
                .deployments
                .items
                .iter()
                .filter(is_under_way)
                .take(OPEN)
                .collect(),
            waiting: of_state("waiting"),
            findings: findings.fold(0, |sum, count| sum.saturating_add(count.devices)),
        }
    }
}

/// Returns the releases as bars, the newest first; those that are beyond [`BARS`] are one.
fn releases(overview: &Overview, viewer: &Viewer) -> Vec<Bar> {
    let all = &overview.releases;
    let mut bars: Vec<(String, Option<String>, u64)> = all
        .iter()
        .take(BARS)
        .map(|release| {
            let link = viewer.devices("version", &release.version);
            (release.version.clone(), Some(link), release.devices)
        })
        .collect();
    let older = all.iter().skip(BARS);
    let (count, devices) = older.fold((0u64, 0u64), |(count, sum), release| {
        (count.saturating_add(1), sum.saturating_add(release.devices))
    });
    if count > 0 {
        bars.push((text::count(&count, "older release", "older releases"), None, devices));
    }
    chart::bars(bars)
}

/// Shows the fleet at one look.
pub(crate) async fn fleet(ask: &Ask, viewer: &Viewer) -> Result<Page, Failure> {
    let limit = Query::default().with("limit", "100");
    let document = Document {
        overview: ask.get("/overview", &Query::default()).await?,
        threats: ask.get("/threats", &limit).await?,
        crashes: ask.get("/crashes", &limit.clone().with("order", "newest")).await?,
        deployments: ask.get("/deployments", &limit).await?,
    };
    let body = Body::new(&document, viewer);
    Ok(Page::new("Fleet", &document, &body)?.that_refreshes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::tests::viewer;
    use serde_json::json;

    fn document() -> Document {
        let count = |name: &str, devices: u64| json!({"name": name, "devices": devices});
        let releases: Vec<_> = (1..=9u64)
            .rev()
            .map(|index| json!({"version": format!("1.{index}.0"), "index": index, "devices": 10}))
            .collect();
        serde_json::from_value(json!({
            "overview": {
                "at": 1000, "within_s": 93600,
                "standings": [count("attested", 41_980), count("update-only", 12), count("refused", 3), count("silent", 7)],
                "states": [count("enrolled", 42_002), count("waiting", 2)], "quarantined": 1,
                "releases": releases, "grades": [count("hardware", 40_000), count("emulated", 0)],
                "findings": [count("slot-failed", 4), count("debug-build", 1)],
                "crashes": 3, "new_crashes": 1, "days": [],
            },
            "threats": {"items": []}, "crashes": {"items": []}, "deployments": {"items": []},
        }))
        .unwrap()
    }

    #[test]
    fn tiles_and_bars_are_what_the_service_has_counted() {
        let (document, viewer) = (document(), viewer());
        let body = Body::new(&document, &viewer);
        let tiles: Vec<(&str, u64, &str)> = body
            .tiles
            .iter()
            .map(|tile| (tile.name.as_str(), tile.devices, tile.share.as_str()))
            .collect();
        assert_eq!(tiles[0], ("attested", 41_980, "> 99 %"));
        assert_eq!(tiles[2], ("refused", 3, "< 1 %"));
        assert_eq!((body.enrolled, body.waiting, body.findings), (42_002, 2, 5));
        let bars: Vec<(&str, u64)> =
            body.releases.iter().map(|bar| (bar.name.as_str(), bar.value)).collect();
        assert_eq!(bars.len(), BARS + 1);
        assert_eq!((bars[0], bars[6]), (("1.9.0", 10), ("3 older releases", 30)));
        assert_eq!(body.grades.len(), 1, "what no device has is no bar");
        let html = body.render().unwrap();
        assert!(html.contains("41,980") && html.contains("standing=refused"), "{html}");
    }

    #[test]
    fn a_fleet_without_devices_says_what_to_do_first() {
        let mut document = document();
        document.overview.states.clear();
        document.overview.standings.clear();
        let viewer = viewer();
        let html = Body::new(&document, &viewer).render().unwrap();
        assert!(html.contains("holdfast device claim"), "{html}");
    }
}
