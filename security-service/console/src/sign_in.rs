//! Signing in by a token or at a provider, and signing out.

use crate::console::Console;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::origin;
use crate::page::{Given, Page};
use crate::place::{Address, encoded};
use askama::Template;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use holdfast_service_api::{Refusal, session};
use holdfast_service_domain::disk::Write;
use std::net::IpAddr;
use std::sync::PoisonError;

/// Longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 256;
/// Where who has signed in goes.
const FIRST: &str = "/console";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct Body<'a> {
    next: &'a str,
    why: Option<&'a str>,
    /// Providers by name, and where a sign-in begins there.
    providers: Vec<(String, String)>,
}

/// Returns where to go next: a page of the console, whatever was asked for.
fn next(asked: &str) -> &str {
    let path = asked.split_once('?').map_or(asked, |(path, _)| path);
    let is_plain = asked.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && Address::of_path(path).is_some() { asked } else { FIRST }
}

/// Shows the form.
pub(crate) fn form(
    console: &Console,
    asked: &str,
    refused: Option<(StatusCode, &str)>,
) -> Result<Response, Failure> {
    let why = refused.map(|(_, why)| why);
    let next = next(asked);
    let providers = console.service.sign_in.providers().iter().map(|provider| {
        let name = provider.name().to_owned();
        let path = format!("/v1/sign-in/{}/begin?return_to={}", encoded(&name), encoded(next));
        (name, path)
    });
    let page = Page::new("Sign in", &(), &Body { next, why, providers: providers.collect() })?;
    Ok(Frame::alone(page).answer(refused.map_or(StatusCode::OK, |(status, _)| status)))
}

/// Takes a token, and begins a session with it.
pub(crate) async fn sign_in(
    console: &Console,
    headers: &HeaderMap,
    address: IpAddr,
    given: &Given,
) -> Result<Response, Failure> {
    if !origin::is_own(headers) {
        return Err(Failure::foreign_form());
    }
    console.service.admit(Write::Other)?;
    let asked = given.get("next");
    let now = console.service.now();
    let attempt =
        console.attempts.lock().unwrap_or_else(PoisonError::into_inner).begin(address, now);
    if let Err(wait) = attempt {
        let why = format!("Too many attempts have failed. Come again in {wait} seconds.");
        let mut response = form(console, asked, Some((StatusCode::TOO_MANY_REQUESTS, &why)))?;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
        return Ok(response);
    }
    let token = given.get("token").trim();
    let begun = if token.len() <= MAX_TOKEN_BYTES {
        session::begin_by_token(&console.service, token, headers).await?
    } else {
        None
    };
    let Some(secret) = begun else {
        let why = "This is no token, or it has ended or was removed.";
        return form(console, asked, Some((StatusCode::UNAUTHORIZED, why)));
    };
    console.attempts.lock().unwrap_or_else(PoisonError::into_inner).succeeded(address);
    let response = Redirect::to(next(asked)).into_response();
    with_cookie(response, &session::cookie(secret.text()))
}

/// Ends the session.
pub(crate) async fn sign_out(
    console: &Console,
    headers: &HeaderMap,
    given: &Given,
) -> Result<Response, Failure> {
    let who = console.who(headers).await?;
    let is_ours = who.is_none_or(|who| who.form_token == given.get("form_token"));
    if !origin::is_own(headers) || !is_ours {
        return Err(Failure::foreign_form());
    }
    if let Some(held) = session::of_cookie(&console.service, headers).await? {
        console.service.store.end_session(held.hash()).await.map_err(Refusal::from)?;
    }
    let response = Redirect::to("/console/sign-in").into_response();
    with_cookie(response, &session::no_cookie(session::COOKIE_NAME))
}

fn with_cookie(mut response: Response, text: &str) -> Result<Response, Failure> {
    let value = HeaderValue::from_str(text);
    let value = value.map_err(|error| Failure::internal(&error.to_string()))?;
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_signed_in_goes_to_a_page_of_the_console() {
        let there = "/console/c/devices/ab?after=1";
        assert_eq!(next(there), there);
        for asked in [
            "",
            "https://evil.example/",
            "//evil.example/console/c/fleet",
            "/\\evil.example",
            "/console/c/fleet\r\nSet-Cookie: a=b",
            "/console/../../c/fleet",
            "javascript:alert(1)",
        ] {
            assert_eq!(next(asked), FIRST, "{asked:?}");
        }
    }
}
