//! The console as handlers see it, and who asks.

use crate::ask::Ask;
use crate::attempts::Attempts;
use crate::failure::Failure;
use crate::session::{self, COOKIE, Sessions, SignedIn};
use axum::Router;
use axum::http::{HeaderMap, header};
use holdfast_service_api::{Service, secret, session as provider_session};
use std::sync::{Arc, Mutex};

/// Longest cookie or token that is looked at, in bytes.
const MAX_SECRET_BYTES: usize = 256;
/// Random bytes of what makes a form that is sent twice one change.
const KEY_BYTES: usize = 12;

/// What handlers share.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) service: Arc<Service>,
    pub(crate) management: Router,
    pub(crate) sessions: Sessions,
    pub(crate) attempts: Mutex<Attempts>,
}

/// Returns the value of the session's cookie. Where it comes twice, somebody else has set one of them.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let value = provider_session::read_cookie(headers, COOKIE)?;
    (!value.is_empty() && value.len() <= MAX_SECRET_BYTES).then_some(value)
}

impl Console {
    /// Returns who asks: by the session that a token or a provider has begun, or, for tools, by a token. Whoever asks by a token has no forms.
    pub(crate) async fn who(&self, headers: &HeaderMap) -> Result<Option<SignedIn>, Failure> {
        if let Some(header) = headers.get(header::AUTHORIZATION) {
            let token = header.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
            let token = token.unwrap_or_default();
            let actor = session::bearer(&self.service, token).await?;
            return Ok(Some(SignedIn { actor, form_token: String::new() }));
        }
        // A session that has ended hides none of the other kind.
        if let Some(cookie) = cookie(headers)
            && let Some(who) = self.sessions.find(&self.service, cookie).await?
        {
            return Ok(Some(who));
        }
        let held = provider_session::of_cookie(&self.service, headers).await?;
        Ok(held.map(|held| {
            let form_token = held.csrf_token();
            SignedIn { actor: held.session.actor, form_token }
        }))
    }

    /// Returns what asks the API in the place of somebody.
    pub(crate) fn ask(&self, who: &SignedIn, catalog: &str) -> Ask {
        Ask::new(self.management.clone(), who.actor.clone(), catalog.to_owned())
    }

    /// Returns a key for the forms of a page.
    pub(crate) fn key() -> Result<String, Failure> {
        let random = secret::random::<KEY_BYTES>();
        let random = random.map_err(|error| Failure::internal(&error.to_string()))?;
        Ok(format!("console-{}", holdfast_types::hex::hex(&random)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn one_cookie_of_our_name_is_taken_and_no_other() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::COOKIE, HeaderValue::from_static(value));
            }
            cookie(&headers).map(str::to_owned)
        };
        assert_eq!(of(&["a=1; __Host-holdfast=hfs_x; b=2"]).as_deref(), Some("hfs_x"));
        assert_eq!(of(&["__Host-holdfast=one", "__Host-holdfast=two"]), None);
        assert_eq!(of(&["__Host-holdfast="]), None);
        assert_eq!(of(&["holdfast=1; __Host-holdfasts=2"]), None);
        assert_eq!(of(&[]), None);
    }
}
