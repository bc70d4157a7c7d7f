//! Releases: what devices may run, by what they measure.

use crate::ask::{Ask, Query};
use crate::failure::Failure;
use crate::mood;
use crate::page::{Given, Page, Paging, ROWS, if_any};
use crate::place::Place;
use crate::rows::{Listed, Overview, Release, Repository};
use crate::text;
use crate::viewer::Viewer;
use askama::Template;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    releases: Listed<Release>,
    os: Option<Repository>,
    oem: Option<Repository>,
    overview: Overview,
}

/// A release with the devices that run it.
struct Row<'a> {
    release: &'a Release,
    devices: u64,
}

#[derive(Template)]
#[template(path = "releases.html")]
struct Body<'a> {
    viewer: &'a Viewer,
    rows: Vec<Row<'a>>,
    repositories: Vec<(&'static str, Option<&'a Repository>)>,
    paging: Paging,
}

/// Lists releases.
pub(crate) async fn releases(ask: &Ask, viewer: &Viewer, given: &Given) -> Result<Page, Failure> {
    let after = given.of_query("after")?;
    let asked = Query::default().with("after", after).with("limit", ROWS);
    let document = Document {
        releases: ask.get("/releases", &asked).await?,
        os: if_any(ask, "/repositories/os").await?,
        oem: if_any(ask, "/repositories/oem").await?,
        overview: ask.get("/overview", &Query::default()).await?,
    };
    let devices = |release: &Release| {
        let of = document.overview.releases.iter();
        let mut of =
            of.filter(|count| count.version == release.version && count.index == release.index);
        of.next().map_or(0, |count| count.devices)
    };
    let releases = document.releases.items.iter();
    let mut rows: Vec<Row<'_>> =
        releases.map(|release| Row { devices: devices(release), release }).collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.release.index));
    let path = viewer.to(Place::Releases);
    let next = document.releases.next.as_ref();
    let paging = Paging::new(&path, &Query::default(), after, next);
    let repositories = vec![("os", document.os.as_ref()), ("oem", document.oem.as_ref())];
    let body = Body { viewer, rows, repositories, paging };
    Page::new("Releases", &document, &body)
}
