//! The frame around each page: where one is, where one can go, and who one is.

use crate::assets;
use crate::page::Page;
use crate::place::Place;
use crate::viewer::Viewer;
use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use holdfast_service_domain::role::Need;

/// A link of the menu.
struct Item {
    name: &'static str,
    path: String,
    is_here: bool,
}

/// A part of the menu.
struct Section {
    name: &'static str,
    items: Vec<Item>,
}

/// What stands around a page.
#[derive(Template)]
#[template(path = "frame.html")]
pub(crate) struct Frame {
    title: String,
    trail: Vec<(String, String)>,
    body: String,
    refreshes: bool,
    viewer: Option<Viewer>,
    catalog_name: String,
    catalogs: Vec<(String, String)>,
    sections: Vec<Section>,
    done: Option<&'static str>,
    json: Option<String>,
    style: String,
    script: String,
    icon: String,
}

/// The catalog that a page is of, and those that there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Catalogs {
    /// Its name.
    pub(crate) name: String,
    /// All that the person may see, by name and path.
    pub(crate) all: Vec<(String, String)>,
}

/// Returns the part of the console that a place is in: the link of the menu that leads there.
fn part(place: &Place) -> Place {
    match place {
        Place::Device(_) => Place::Devices,
        Place::Group(..) => Place::Groups,
        Place::Deployment(_) => Place::Deployments,
        Place::Crash(_) => Place::Crashes,
        Place::Threat(_) => Place::Threats,
        place => place.clone(),
    }
}

/// Returns the menu: what the person may see.
fn menu(viewer: &Viewer, here: &Place) -> Vec<Section> {
    let here = part(here);
    let all = [
        (
            "Fleet",
            vec![
                ("Overview", Place::Fleet, Need::See),
                ("Devices", Place::Devices, Need::See),
                ("Groups", Place::Groups, Need::See),
            ],
        ),
        (
            "Releases",
            vec![
                ("Deployments", Place::Deployments, Need::See),
                ("Releases", Place::Releases, Need::See),
            ],
        ),
        (
            "Watch",
            vec![
                ("Threats", Place::Threats, Need::See),
                ("Crashes", Place::Crashes, Need::See),
                ("Device findings", Place::Findings, Need::See),
                ("Alerts", Place::Alerts, Need::Operate),
            ],
        ),
        (
            "Trust",
            vec![
                ("CA certificates", Place::Authorities, Need::See),
                ("People", Place::People, Need::Own),
                ("Audit log", Place::Audit, Need::Audit),
                ("Service", Place::Health, Need::See),
            ],
        ),
    ];
    let section = |(name, items): (&'static str, Vec<(&'static str, Place, Need)>)| Section {
        name,
        items: items
            .into_iter()
            .filter(|(_, _, need)| viewer.may(*need))
            .map(|(name, place, _)| Item { name, is_here: place == here, path: viewer.to(place) })
            .collect(),
    };
    all.into_iter().map(section).filter(|section| !section.items.is_empty()).collect()
}

impl Frame {
    /// Makes the frame of a page that nobody has to have signed in for.
    pub(crate) fn alone(page: Page) -> Self {
        Self {
            title: page.title,
            trail: page.trail,
            body: page.body,
            refreshes: page.refreshes,
            viewer: None,
            catalog_name: String::new(),
            catalogs: Vec::new(),
            sections: Vec::new(),
            done: None,
            json: None,
            style: assets::style(),
            script: assets::script(),
            icon: assets::icon(),
        }
    }

    /// Returns it for somebody who has signed in.
    pub(crate) fn of(mut self, viewer: Viewer) -> Self {
        self.viewer = Some(viewer);
        self
    }

    /// Returns it for a place in a catalog, with its menu.
    pub(crate) fn at(mut self, place: &Place, catalogs: Catalogs) -> Self {
        if let Some(viewer) = &self.viewer {
            self.sections = menu(viewer, place);
        }
        (self.catalog_name, self.catalogs) = (catalogs.name, catalogs.all);
        self
    }

    /// Returns it with what was done, and where its page is as JSON.
    pub(crate) fn with(mut self, done: Option<&'static str>, json: Option<String>) -> Self {
        (self.done, self.json) = (done, json);
        self
    }

    /// Returns it as an answer.
    pub(crate) fn answer(self, status: StatusCode) -> Response {
        match self.render() {
            Ok(html) => (status, Html(html)).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::viewer::tests::viewer_as;
    use holdfast_service_domain::role::Role;

    #[test]
    fn the_menu_has_what_the_role_may_see_and_says_where_one_is() {
        let names = |role| {
            let sections = menu(&viewer_as(role), &Place::Device("ab".to_owned()));
            let items = sections.into_iter().flat_map(|section| section.items);
            items.map(|item| (item.name, item.is_here)).collect::<Vec<_>>()
        };
        assert_eq!(names(Role::Owner).len(), 13);
        let reader = names(Role::Reader);
        assert_eq!(reader.len(), 10);
        assert!(!reader.iter().any(|(name, _)| ["People", "Audit log", "Alerts"].contains(name)));
        assert!(names(Role::Auditor).iter().any(|(name, _)| *name == "Audit log"));
        assert!(names(Role::Factory).is_empty());
        let here: Vec<&str> =
            reader.iter().filter(|(_, is_here)| *is_here).map(|(name, _)| *name).collect();
        assert_eq!(here, ["Devices"]);
    }
}
