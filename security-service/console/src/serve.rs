//! From a request to an answer.

use crate::act::{self, Outcome};
use crate::action::Action;
use crate::ask::{Ask, Query};
use crate::assets;
use crate::console::Console;
use crate::console::SignedIn;
use crate::failure::Failure;
use crate::frame::{Catalogs, Frame};
use crate::headers::secured;
use crate::origin;
use crate::page::{Given, Page};
use crate::pages::{
    access, alerts, crashes, deployments, devices, findings, fleet, groups, releases, service,
    threats,
};
use crate::place::{Address, Place, encoded};
use crate::rows::{Catalog, Listed};
use crate::sign_in;
use crate::viewer::Viewer;
use askama::Template;
use axum::body::Body;
use axum::extract::{FromRequest, Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Form};
use holdfast_service_api::peer::Peer;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

type Shared = State<Arc<Console>>;

/// Longest time for a form.
const LONGEST: Duration = Duration::from_secs(10);
/// Catalogs that one can change to.
const CATALOGS: &str = "100";

#[derive(Template)]
#[template(path = "failure.html")]
struct FailureBody<'a> {
    failure: &'a Failure,
    hint: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "catalogs.html")]
struct CatalogsBody {
    catalogs: Vec<(String, String)>,
}

/// Returns style, script and icon.
pub(crate) async fn asset(Path(name): Path<String>) -> Response {
    secured(assets::named(&name))
}

/// Leads to the fleet of the only catalog, or lists those that there are.
pub(crate) async fn first(State(console): Shared, headers: HeaderMap) -> Response {
    let found = async {
        let Some(who) = console.who(&headers).await? else { return Ok(to_sign_in("", false)) };
        let viewer = viewer(&console, &who, String::new())?;
        let ask = console.ask(&who, "");
        if !ask.may(Need::See) {
            let failure = Failure::forbidden();
            let frame = Frame::alone(failure_page(&failure)?);
            return Ok(frame.of(viewer).answer(failure.status));
        }
        let all = catalogs(&ask).await?;
        if let [(_, path)] = all.as_slice() {
            return Ok(Redirect::to(path).into_response());
        }
        let page = Page::new("Catalogs", &(), &CatalogsBody { catalogs: all })?;
        Ok(Frame::alone(page).of(viewer).answer(StatusCode::OK))
    };
    secured(found.await.unwrap_or_else(|failure| refused(&failure, false)))
}

/// Shows the form by which one signs in.
pub(crate) async fn sign_in_form(State(console): Shared, query: RawQuery) -> Response {
    let shown =
        read_query(query).and_then(|given| sign_in::form(&console, given.get("next"), None));
    secured(shown.unwrap_or_else(|failure| refused(&failure, false)))
}

/// Signs somebody in.
pub(crate) async fn sign_in(
    State(console): Shared,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let done = async {
        let given = read_form(request).await?;
        sign_in::sign_in(&console, &headers, peer.address, &given).await
    };
    secured(done.await.unwrap_or_else(|failure| refused(&failure, false)))
}

/// Signs somebody out.
pub(crate) async fn sign_out(
    State(console): Shared,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let done = async {
        let given = read_form(request).await?;
        sign_in::sign_out(&console, &headers, &given).await
    };
    secured(done.await.unwrap_or_else(|failure| refused(&failure, false)))
}

/// Shows a page, or its document.
pub(crate) async fn page(
    State(console): Shared,
    uri: Uri,
    headers: HeaderMap,
    query: RawQuery,
) -> Response {
    let asked = Address::of_path(uri.path());
    let is_json = asked.as_ref().is_some_and(|(_, is_json)| *is_json) || wants_json(&headers);
    let shown = async {
        let Some(who) = console.who(&headers).await? else {
            return Ok(to_sign_in(&uri.to_string(), is_json));
        };
        let (address, _) = asked.ok_or_else(Failure::nowhere)?;
        let given = read_query(query)?;
        let ask = console.ask(&who, &address.catalog);
        let viewer = viewer(&console, &who, address.catalog.clone())?;
        let shown = show(&ask, &viewer, &address.place, &given).await;
        if is_json {
            return shown.map(|page| document(&page));
        }
        let catalogs = Catalogs { name: name(&ask).await?, all: catalogs(&ask).await? };
        Ok(match shown {
            Ok(page) => {
                let json = (!matches!(address.place, Place::Confirm(_))).then(|| twin(&uri));
                let done = Action::of_name(given.get("done")).map(|action| action.done);
                Frame::alone(page)
                    .of(viewer)
                    .at(&address.place, catalogs)
                    .with(done, json)
                    .answer(StatusCode::OK)
            }
            Err(failure) => {
                let frame = Frame::alone(failure_page(&failure)?);
                frame.of(viewer).at(&address.place, catalogs).answer(failure.status)
            }
        })
    };
    secured(shown.await.unwrap_or_else(|failure| refused(&failure, is_json)))
}

async fn show(ask: &Ask, viewer: &Viewer, place: &Place, given: &Given) -> Result<Page, Failure> {
    match place {
        Place::Fleet => fleet::fleet(ask, viewer).await,
        Place::Devices => devices::devices(ask, viewer, given).await,
        Place::Device(id) => devices::device(ask, viewer, id).await,
        Place::Groups => groups::groups(ask, viewer, given).await,
        Place::Group(product, group) => groups::group(ask, viewer, (product, group)).await,
        Place::Deployments => deployments::deployments(ask, viewer, given).await,
        Place::Deployment(id) => deployments::deployment(ask, viewer, id, given).await,
        Place::Releases => releases::releases(ask, viewer, given).await,
        Place::Crashes => crashes::crashes(ask, viewer, given).await,
        Place::Crash(id) => crashes::crash(ask, viewer, id).await,
        Place::Threats => threats::threats(ask, viewer, given).await,
        Place::Threat(number) => threats::threat(ask, viewer, number).await,
        Place::Findings => findings::findings(ask, viewer, given).await,
        Place::Authorities => access::authorities(ask, viewer).await,
        Place::People => access::people(ask, viewer).await,
        Place::Alerts => alerts::alerts(ask, viewer).await,
        Place::Audit => access::audit(ask, viewer, given).await,
        Place::Health => service::health(ask, viewer).await,
        Place::Confirm(action) => act::confirm(ask, viewer, action, given).await,
        Place::Act(_) => Err(Failure::nowhere()),
    }
}

/// Takes a form.
pub(crate) async fn form(
    State(console): Shared,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let done = async {
        if !origin::is_own(&headers) {
            return Err(Failure::foreign_form());
        }
        let Some(who) = console.who(&headers).await? else { return Ok(to_sign_in("", false)) };
        let address = Address::of_path(uri.path()).ok_or_else(Failure::nowhere)?.0;
        let Place::Act(name) = &address.place else { return Err(Failure::nowhere()) };
        let given = read_form(request).await?;
        if who.form_token.is_empty() || given.get("form_token") != who.form_token {
            return Err(Failure::foreign_form());
        }
        let ask = console.ask(&who, &address.catalog);
        let viewer = viewer(&console, &who, address.catalog.clone())?;
        Ok(match act::act(&ask, &viewer, name, &given).await? {
            Outcome::Confirm(path) => Redirect::to(&path).into_response(),
            Outcome::Done(action, place) => {
                let place = viewer.to(place);
                Redirect::to(&format!("{place}?done={}", action.name)).into_response()
            }
            Outcome::Answered(page) => {
                let catalogs =
                    Catalogs { name: self::name(&ask).await?, all: catalogs(&ask).await? };
                Frame::alone(*page).of(viewer).at(&address.place, catalogs).answer(StatusCode::OK)
            }
        })
    };
    secured(done.await.unwrap_or_else(|failure| refused(&failure, false)))
}

fn viewer(console: &Console, who: &SignedIn, catalog: String) -> Result<Viewer, Failure> {
    Ok(Viewer {
        catalog,
        name: who.actor.by.name.clone(),
        grants: who.actor.grants.clone(),
        form_token: who.form_token.clone(),
        key: Console::key()?,
        now: console.service.now(),
    })
}

/// Returns the name of the catalog, for whoever may see it.
async fn name(ask: &Ask) -> Result<String, Failure> {
    match ask.get::<Catalog>("", &Query::default()).await {
        Ok(catalog) => Ok(catalog.name),
        Err(failure) if failure.status.is_client_error() => Ok(String::new()),
        Err(failure) => Err(failure),
    }
}

/// Returns the catalogs that somebody may see, by name and path.
async fn catalogs(ask: &Ask) -> Result<Vec<(String, String)>, Failure> {
    if !ask.may(Need::See) {
        return Ok(Vec::new());
    }
    let path = format!("/v1/catalogs{}", Query::default().with("limit", CATALOGS).text());
    let all: Listed<Catalog> = ask.get_from(&path).await?;
    let with_path = |catalog: Catalog| {
        let address = Address { catalog: catalog.id, place: Place::Fleet };
        (catalog.name, address.to_string())
    };
    Ok(all.items.into_iter().map(with_path).collect())
}

/// Returns where a page is as JSON.
fn twin(uri: &Uri) -> String {
    match uri.query() {
        Some(query) => format!("{}.json?{query}", uri.path()),
        None => format!("{}.json", uri.path()),
    }
}

fn document(page: &Page) -> Response {
    let body = page.document.to_string();
    let mut response = Body::from(body).into_response();
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// True if a document is asked for: where a page is as good, it is a page.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept
        .is_some_and(|accept| accept.contains("application/json") && !accept.contains("text/html"))
}

fn to_sign_in(asked: &str, is_json: bool) -> Response {
    if is_json {
        let refusal = holdfast_service_api::Refusal::from(Problem::Unauthenticated);
        return refusal.into_response();
    }
    let next = if asked.is_empty() { String::new() } else { format!("?next={}", encoded(asked)) };
    Redirect::to(&format!("/console/sign-in{next}")).into_response()
}

fn failure_page(failure: &Failure) -> Result<Page, Failure> {
    let hint = match failure.status.as_u16() {
        403 => Some("An owner of the catalog can give you a token of another role."),
        409 | 412 => Some(
            "Somebody was faster, or it is not in a state for this. Go back and load the page again.",
        ),
        _ => None,
    };
    let title = match failure.status.as_u16() {
        401 => "Sign in again",
        403 => "Not yours to see or do",
        404 => "Nothing here",
        _ => "Not done",
    };
    Page::new(title, &(), &FailureBody { failure, hint })
}

/// Returns a refusal as an answer of its own, without a frame of a catalog.
fn refused(failure: &Failure, is_json: bool) -> Response {
    if is_json {
        let body = json!({
            "type": failure.kind, "title": failure.title, "status": failure.status.as_u16(), "detail": failure.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        return (failure.status, kind, body.to_string()).into_response();
    }
    match failure_page(failure) {
        Ok(page) => Frame::alone(page).answer(failure.status),
        Err(_) => failure.status.into_response(),
    }
}

fn read_query(RawQuery(query): RawQuery) -> Result<Given, Failure> {
    let uri: Result<Uri, _> = format!("/?{}", query.unwrap_or_default()).parse();
    let uri = uri.map_err(|_| Failure::malformed("the query is malformed"))?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
    Given::of(pairs.map_err(|_| Failure::malformed("the query is malformed"))?.0)
}

/// Reads a form, of no more bytes than the router's limit.
async fn read_form(request: Request) -> Result<Given, Failure> {
    let form =
        tokio::time::timeout(LONGEST, Form::<Vec<(String, String)>>::from_request(request, &()));
    match form.await {
        Ok(Ok(Form(pairs))) => Given::of(pairs),
        Ok(Err(error)) => Err(Failure {
            status: error.status(),
            ..Failure::malformed("the form is malformed or too large")
        }),
        Err(_) => Err(holdfast_service_api::Refusal::from(Problem::TooSlow).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_for_whoever_asks_for_nothing_else() {
        let wants = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            wants_json(&headers)
        };
        assert!(wants("application/json"));
        assert!(
            !wants("text/html,application/xhtml+xml,*/*;q=0.8")
                && !wants("text/html, application/json")
                && !wants("*/*")
        );
    }

    #[test]
    fn a_query_is_read_once_for_each_name() {
        let read = |text: &str| read_query(RawQuery(Some(text.to_owned())));
        assert_eq!(read("find=a%26b&state=").unwrap().get("find"), "a&b");
        read("a=1&a=2").unwrap_err();
        assert_eq!(read_query(RawQuery(None)).unwrap(), Given::default());
        let uri: Uri = "/console/c/devices?state=enrolled".parse().unwrap();
        assert_eq!(twin(&uri), "/console/c/devices.json?state=enrolled");
    }
}
