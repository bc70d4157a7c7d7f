//! Pages of lists: what a request says in its query, and how many entries it gets.

use crate::refusal::Refusal;
use axum::extract::Query;
use axum::http::request::Parts;
use holdfast_service_domain::problem::Problem;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

/// Most entries of a page.
const MAX_PAGE: u32 = 1000;
/// Entries of a page where none is said.
const USUAL_PAGE: u32 = 100;

/// Has types be read from the query of a request, and say how many entries are wanted.
macro_rules! pages {
    ($($page:ident),+) => {$(
        impl $page {
            pub(super) fn most(&self) -> u32 {
                $crate::management::page::most(self.limit)
            }
        }

        impl<S: Sync> axum::extract::FromRequestParts<S> for $page {
            type Rejection = $crate::refusal::Refusal;

            async fn from_request_parts(
                parts: &mut axum::http::request::Parts,
                _: &S,
            ) -> Result<Self, Self::Rejection> {
                $crate::management::page::query(parts)
            }
        }
    )+};
}
pub(super) use pages;

pages!(Page, DevicesPage, AuditPage);

/// Returns how many entries a page has at most that asks for so many.
pub(super) fn most(limit: Option<u32>) -> u32 {
    limit.unwrap_or(USUAL_PAGE).clamp(1, MAX_PAGE)
}

/// Reads the query of a request.
pub(super) fn query<T: DeserializeOwned>(parts: &Parts) -> Result<T, Refusal> {
    let query = Query::try_from_uri(&parts.uri);
    let query: Query<T> =
        query.map_err(|error| Refusal::new(Problem::Malformed, error.body_text()))?;
    Ok(query.0)
}

/// A page of a list, by what its entries are sorted by.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Behind which entry the page begins: the `next` of the page before.
    #[serde(default)]
    pub(super) after: String,
    /// Most entries, 1 to 1000: more is 1000, and 0 is 1.
    pub(super) limit: Option<u32>,
    /// The state of devices that are listed, or `closed` for findings that are closed as well.
    pub(super) state: Option<String>,
}

/// A page of devices, by their ids.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesPage {
    /// Behind which device the page begins: the `next` of the page before.
    #[serde(default)]
    pub(super) after: String,
    /// Most devices, 1 to 1000: more is 1000, and 0 is 1.
    pub(super) limit: Option<u32>,
    /// Their state: `waiting`, `claimed`, `enrolled` or `retired`.
    pub(super) state: Option<String>,
    /// How enrolled devices stand by their last check-in: `attested`, `update-only`, `refused` or `silent`.
    pub(super) standing: Option<String>,
    /// One product's alone.
    pub(super) product: Option<String>,
    /// Those of groups with this name alone.
    pub(super) group: Option<String>,
    /// Those alone that have attested this version of the OS last.
    pub(super) version: Option<String>,
    /// The beginning of their id, or their serial number.
    pub(super) find: Option<String>,
}

/// A page of the audit log, by numbers of rows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditPage {
    /// Behind which row the page begins: the `next` of the page before.
    #[serde(default)]
    pub(super) after: String,
    /// Most rows, 1 to 1000: more is 1000, and 0 is 1.
    pub(super) limit: Option<u32>,
    /// `oldest`, or `newest` first.
    pub(super) order: Option<String>,
}
