//! Signing in and out: by authorization code for browsers, and by device code (RFC 8628) for the command line.

use super::caller::shown;
use super::people_shapes::{
    BegunDeviceShape, DevicePoll, DevicePollShape, ProviderShape, RoleHeldShape, SessionShape,
};
use super::shapes::{Done, Listed, ProblemShape};
use crate::body;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::session::{self, SIGN_IN_COOKIE};
use crate::sign_in::{
    DeviceUnderWay, MAX_DEVICE_S, SIGN_IN_S, UnderWay, begin_session, open, refused, seal,
};
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_service_domain::extent::Grant;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::session::Client;
use holdfast_service_sign_in::provider::Polled;
use holdfast_types::hex::sha256;
use serde::Deserialize;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// What a sign-in in a browser is sealed for, and one on the command line.
const PURPOSE: &str = "sign-in of a browser";
const DEVICE_PURPOSE: &str = "sign-in of a command line";
/// Longest path that a browser goes on to, in bytes.
const MAX_RETURN_BYTES: usize = 512;
/// Longest code or state that a provider sends a browser back with, in bytes.
const MAX_PARAMETER_BYTES: usize = 2048;
/// Most bytes of a question about a sign-in.
const MAX_POLL_BYTES: usize = 8192;
/// Least seconds from one question to the next.
const LEAST_INTERVAL_S: u64 = 5;

/// Lists the providers that people sign in by.
#[utoipa::path(get, path = "/v1/sign-in",
    responses((status = 200, body = Listed<ProviderShape>)))]
pub(super) async fn providers(State(service): Shared) -> Result<Response, Refusal> {
    let items = service.sign_in.providers().iter().map(|provider| ProviderShape {
        name: provider.name().to_owned(),
        issuer: provider.issuer().to_owned(),
    });
    shown(&Listed { items: items.collect(), next: None })
}

/// Where a sign-in leads.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Begin {
    #[serde(default)]
    return_to: String,
}

/// Returns a path of this site, where a text is one.
fn path_here(text: &str) -> Option<&str> {
    let is_path = text.starts_with('/') && !text.starts_with("//");
    let of_path = |byte: u8| byte.is_ascii_graphic() && !b"\\\"'<>`".contains(&byte);
    (is_path && text.len() <= MAX_RETURN_BYTES && text.bytes().all(of_path)).then_some(text)
}

/// Sends a browser to a provider. It comes back to `return_to`, a path of this site.
#[utoipa::path(get, path = "/v1/sign-in/{provider}/begin",
    params(("provider" = String, Path), ("return_to" = Option<String>, Query)),
    responses((status = 303, description = "to the provider"), (status = 404, body = ProblemShape)))]
pub(super) async fn begin(
    State(service): Shared,
    Path(provider): Path<String>,
    query: Result<Query<Begin>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refusal> {
    let query = query.map_err(|error| Refusal::new(Problem::Malformed, error.body_text()))?;
    let return_to = match query.0.return_to.as_str() {
        "" => "/",
        text => path_here(text).ok_or_else(|| {
            Refusal::new(Problem::Malformed, "return_to: must be a path of this site")
        })?,
    };
    let provider = service.sign_in.provider(&provider)?;
    let _place = service.sign_in.place()?;
    let begun = provider.begin().await.map_err(|error| refused(provider, &error))?;
    let under_way = UnderWay {
        provider: provider.name().to_owned(),
        state: begun.state,
        nonce: begun.nonce,
        verifier: begun.verifier,
        return_to: return_to.to_owned(),
        ends_at: service.now().saturating_add(SIGN_IN_S),
    };
    let sealed = seal(&service, PURPOSE, &under_way)?;
    // `Lax`: the browser comes back from another site, by a link that it follows.
    let cookie = format!(
        "{SIGN_IN_COOKIE}={sealed}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={SIGN_IN_S}"
    );
    let mut response = StatusCode::SEE_OTHER.into_response();
    let failed = |_| Refusal::from(Problem::ProviderFailed);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, HeaderValue::try_from(begun.url).map_err(failed)?);
    headers.append(header::SET_COOKIE, HeaderValue::try_from(cookie).map_err(failed)?);
    private(&mut response);
    Ok(response)
}

/// What a provider sends a browser back with.
#[derive(Debug, Deserialize)]
pub(super) struct Callback {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// Takes a browser that comes back from a provider, and begins its session.
#[utoipa::path(get, path = "/v1/sign-in/{provider}/callback",
    params(("provider" = String, Path), ("code" = Option<String>, Query),
        ("state" = Option<String>, Query)),
    responses((status = 200, description = "a page that goes on to where the sign-in began"),
        (status = 403, body = ProblemShape)))]
pub(super) async fn callback(
    State(service): Shared,
    Path(provider): Path<String>,
    query: Result<Query<Callback>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let stop = |detail: &str| Refusal::new(Problem::SignInRefused, detail);
    let query = query.map_err(|error| Refusal::new(Problem::Malformed, error.body_text()))?;
    let Query(Callback { code, state, iss, error }) = query;
    let provider = service.sign_in.provider(&provider)?;
    let sealed = session::read_cookie(&headers, SIGN_IN_COOKIE);
    let under_way = sealed.and_then(|text| open::<UnderWay>(&service, PURPOSE, text));
    let under_way =
        under_way.ok_or_else(|| stop("this browser has begun no sign-in; begin again"))?;
    if under_way.provider != provider.name() || service.now() >= under_way.ends_at {
        return Err(stop("the sign-in has ended; begin again"));
    }
    if [&code, &state].into_iter().any(|text| text.len() > MAX_PARAMETER_BYTES) {
        return Err(stop("the provider's answer is too long"));
    }
    // Of hashes nobody learns by time how much of it was right.
    if sha256(state.as_bytes()) != sha256(under_way.state.as_bytes()) {
        return Err(stop("the answer is to another sign-in; begin again"));
    }
    // RFC 9207: who has answered.
    if iss.is_some_and(|iss| iss != provider.issuer()) {
        return Err(stop("the answer is another provider's"));
    }
    if error.is_some() || code.is_empty() {
        return Err(stop("the provider has refused"));
    }
    let _place = service.sign_in.place()?;
    let finished = provider.finish(code, under_way.verifier, &under_way.nonce, service.now());
    let signed_in = finished.await.map_err(|error| refused(provider, &error))?;
    let begun = begin_session(&service, signed_in, Client::Browser).await?;
    let path = path_here(&under_way.return_to).unwrap_or("/").replace('&', "&amp;");
    // A redirect would be a part of what another site has begun, and the session's cookie not be sent with it.
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Signed in</title>\
         <meta http-equiv=\"refresh\" content=\"0;url={path}\"></head>\
         <body><p>Signed in. <a href=\"{path}\">Go on</a>.</p></body></html>\n"
    );
    let mut response = (StatusCode::OK, page).into_response();
    let headers = response.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, html);
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for cookie in [session::cookie(&begun.secret), session::no_cookie(SIGN_IN_COOKIE)] {
        let cookie = HeaderValue::try_from(cookie).map_err(|_| Refusal::from(Problem::Internal))?;
        headers.append(header::SET_COOKIE, cookie);
    }
    private(&mut response);
    Ok(response)
}

/// Has nobody keep an answer, nor tell the next site where it came from.
fn private(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Begins a sign-in on the command line: the person goes to the URL in whatever browser, and types the code.
#[utoipa::path(post, path = "/v1/sign-in/{provider}/device", params(("provider" = String, Path)),
    responses((status = 200, body = BegunDeviceShape), (status = 404, body = ProblemShape)))]
pub(super) async fn begin_device(
    State(service): Shared,
    Path(provider): Path<String>,
) -> Result<Response, Refusal> {
    let provider = service.sign_in.provider(&provider)?;
    let _place = service.sign_in.place()?;
    let begun = provider.begin_device().await.map_err(|error| refused(provider, &error))?;
    let interval_s = begun.interval_s.clamp(LEAST_INTERVAL_S, SIGN_IN_S);
    let expires_in_s = begun.expires_in_s.min(MAX_DEVICE_S);
    let under_way = DeviceUnderWay {
        provider: provider.name().to_owned(),
        device_code: begun.device_code,
        interval_s,
        ends_at: service.now().saturating_add(expires_in_s),
    };
    shown(&BegunDeviceShape {
        url: begun.url,
        complete_url: begun.complete_url,
        user_code: begun.user_code,
        interval_s,
        expires_in_s,
        handle: seal(&service, DEVICE_PURPOSE, &under_way)?,
    })
}

/// Says what has become of a sign-in on the command line, and tells the session's secret once the person has signed in.
#[utoipa::path(post, path = "/v1/sign-in/{provider}/device/poll",
    params(("provider" = String, Path)), request_body = DevicePoll,
    responses((status = 200, body = DevicePollShape), (status = 403, body = ProblemShape)))]
pub(super) async fn poll_device(
    State(service): Shared,
    Path(provider): Path<String>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let provider = service.sign_in.provider(&provider)?;
    let body = body::read(request.into_body(), MAX_POLL_BYTES).await?;
    let DevicePoll { handle } = body::json(&body)?;
    let under_way = open::<DeviceUnderWay>(&service, DEVICE_PURPOSE, &handle);
    let under_way = under_way
        .filter(|under_way| under_way.provider == provider.name())
        .ok_or_else(|| Refusal::new(Problem::Malformed, "handle: is none of this service"))?;
    if service.now() >= under_way.ends_at {
        let detail = "nobody has signed in in time; begin again";
        return Err(Refusal::new(Problem::SignInRefused, detail));
    }
    let _place = service.sign_in.place()?;
    let DeviceUnderWay { device_code, interval_s, .. } = under_way;
    let polled = provider.poll_device(&device_code, interval_s, service.now()).await;
    match polled.map_err(|error| refused(provider, &error))? {
        Polled::Pending(interval_s) => shown(&DevicePollShape {
            pending: true,
            interval_s: Some(interval_s.clamp(LEAST_INTERVAL_S, SIGN_IN_S)),
            token: None,
            ends_at: None,
        }),
        Polled::SignedIn(signed_in) => {
            let begun = begin_session(&service, signed_in, Client::CommandLine).await?;
            shown(&DevicePollShape {
                pending: false,
                interval_s: None,
                token: Some(begun.secret),
                ends_at: Some(begun.ends_at),
            })
        }
    }
}

fn roles(grants: &[Grant]) -> Vec<RoleHeldShape> {
    let shape = |grant: &Grant| RoleHeldShape {
        role: grant.role,
        catalog: grant.extent.catalog().map(|catalog| catalog.to_string()),
        product: grant.extent.product().map(str::to_owned),
        group: grant.extent.group().map(str::to_owned),
    };
    grants.iter().map(shape).collect()
}

/// Shows the session of whoever asks: the person, the roles, when it ends, and what requests by its cookie have to repeat to change something.
#[utoipa::path(get, path = "/v1/session", security(("session" = [])),
    responses((status = 200, body = SessionShape), (status = 401, body = ProblemShape)))]
pub(super) async fn show(State(service): Shared, headers: HeaderMap) -> Result<Response, Refusal> {
    let held = session::of_request(&service, &Method::GET, &headers).await?;
    let session = &held.session;
    shown(&SessionShape {
        person: session.actor.by.person.to_string(),
        name: session.actor.by.name.clone(),
        client: session.client.word().to_owned(),
        ends_at: session.ends_at,
        csrf_token: (session.client == Client::Browser).then(|| held.csrf_token()),
        roles: roles(&session.actor.grants),
    })
}

/// Signs out: ends the session of whoever asks.
#[utoipa::path(post, path = "/v1/session/end", security(("session" = [])),
    responses((status = 200, body = Done), (status = 401, body = ProblemShape)))]
pub(super) async fn end(State(service): Shared, headers: HeaderMap) -> Result<Response, Refusal> {
    let held = session::of_request(&service, &Method::POST, &headers).await?;
    service.store.end_session(held.hash()).await?;
    let mut response = shown(&Done { done: true })?;
    let cookie = HeaderValue::try_from(session::no_cookie(session::COOKIE_NAME));
    let cookie = cookie.map_err(|_| Refusal::from(Problem::Internal))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_comes_back_to_a_path_of_this_site_alone() {
        for good in ["/", "/console?device=1&b=2", "/v1/session"] {
            assert_eq!(path_here(good), Some(good), "{good}");
        }
        let long = format!("/{}", "a".repeat(MAX_RETURN_BYTES));
        for bad in [
            "",
            "//other.example",
            "https://other.example",
            "/\\other.example",
            "\\/other.example",
            "/a\"><script>",
            "/a b",
            "/a\n",
            &long,
        ] {
            assert_eq!(path_here(bad), None, "{bad}");
        }
    }
}
