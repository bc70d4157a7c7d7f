//! Sessions of people who have signed in, at a provider or by a management token: in browsers as a cookie, on the command line as a bearer token.
//!
//! The session's cookie is `SameSite=Strict`: no other site has a browser send it. The way back from a provider is another site's, so that the
//! sign-in that is under way has a cookie of its own, which is `Lax`, and its end is a page that goes on by itself: what that asks for is asked by this
//! site again.

use crate::refusal::Refusal;
use crate::secret::{self, Secret};
use crate::service::Service;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::{HeaderMap, Method};
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::session::{Client, csrf_token};
use holdfast_service_store::person::Session;
use holdfast_service_store::scope::Actor;
use holdfast_types::hex::sha256;

/// Prefix of the secret of a session.
pub const BEARER_PREFIX: &str = "hfs_";
/// Name of the cookie of a session. `__Host-` has browsers take it from this host over TLS alone, for all of its paths.
pub const COOKIE_NAME: &str = "__Host-holdfast-session";
/// Name of the cookie of a sign-in that is under way.
pub const SIGN_IN_COOKIE: &str = "__Host-holdfast-sign-in";
/// Name of the header by which a request that changes something shows that it comes from this site.
pub const CSRF_HEADER: &str = "x-csrf-token";
/// Longest secret that is looked up, in bytes.
const MAX_SECRET_BYTES: usize = 128;

/// A session, with its secret.
#[derive(Clone)]
pub struct Held {
    /// The session.
    pub session: Session,
    secret: String,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("session", &self.session).finish_non_exhaustive()
    }
}

impl Held {
    /// Returns what requests that change something have to repeat in [`CSRF_HEADER`], or in a field of a form.
    #[must_use]
    pub fn csrf_token(&self) -> String {
        csrf_token(&self.secret)
    }

    /// True if this is the session's token against requests of other sites.
    #[must_use]
    pub fn is_csrf_token(&self, shown: &str) -> bool {
        // Of hashes nobody learns by time how much of them was right.
        sha256(shown.as_bytes()) == sha256(self.csrf_token().as_bytes())
    }

    /// Returns what the session is kept as.
    #[must_use]
    pub fn hash(&self) -> String {
        secret::hash(&self.secret)
    }
}

/// Makes a secret of a new session.
///
/// # Errors
/// There are no random numbers.
pub(crate) fn make_secret() -> Result<Secret, secret::NoRandom> {
    Secret::make("hfs")
}

/// Returns who holds a management token.
///
/// # Errors
/// It is none, or has ended, and those of the database.
pub async fn holder(service: &Service, token: &str) -> Result<Actor, Refusal> {
    let actor = service.store.actor(&secret::hash(token), service.now()).await?;
    actor.ok_or_else(|| Problem::Unauthenticated.into())
}

/// Begins a session in a browser by a management token, in the place of the one that it had, and returns its secret; nothing where the token is
/// none.
///
/// # Errors
/// Those of the database, and where there are no random numbers.
pub async fn begin_by_token(
    service: &Service,
    token: &str,
    headers: &HeaderMap,
) -> Result<Option<Secret>, Refusal> {
    let made = make_secret()?;
    let before = read_cookie(headers, COOKIE_NAME).map(secret::hash);
    let (token, now) = (secret::hash(token), service.now());
    let begun = service.store.begin_session_of_token(token, made.hash(), before, now).await?;
    Ok(begun.then_some(made))
}

/// Returns the value of the cookie that has the secret of a browser's session.
#[must_use]
pub fn cookie(secret: &str) -> String {
    let age = Client::Browser.absolute_s();
    format!("{COOKIE_NAME}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={age}")
}

/// Returns the value of a cookie that removes the one of this name.
#[must_use]
pub fn no_cookie(name: &str) -> String {
    format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0")
}

/// Returns the value of a cookie of a request, if it has one of this name, and not two.
#[must_use]
pub fn read_cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';'));
    let mut named = pairs.filter_map(|pair| {
        let (own, value) = pair.trim().split_once('=')?;
        (own == name).then_some(value)
    });
    let first = named.next();
    first.filter(|_| named.next().is_none())
}

/// Returns the session of a request by its cookie, if there is one that lasts. Whoever changes something has to compare
/// [`Held::is_csrf_token`] first.
///
/// # Errors
/// The database failed.
pub async fn of_cookie(service: &Service, headers: &HeaderMap) -> Result<Option<Held>, Refusal> {
    match read_cookie(headers, COOKIE_NAME) {
        Some(secret) => held(service, secret, Client::Browser).await,
        None => Ok(None),
    }
}

/// Returns the session of a request of the API: by its token, or by its cookie, and then with [`CSRF_HEADER`] where it changes something.
///
/// # Errors
/// There is none that lasts, the header is missing, or the database failed.
pub async fn of_request(
    service: &Service,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Held, Refusal> {
    let unauthenticated = || Refusal::from(Problem::Unauthenticated);
    if let Some(header) = headers.get(AUTHORIZATION) {
        let secret = header.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let secret = secret.ok_or_else(unauthenticated)?;
        return held(service, secret, Client::CommandLine).await?.ok_or_else(unauthenticated);
    }
    let held = of_cookie(service, headers).await?.ok_or_else(unauthenticated)?;
    if !matches!(*method, Method::GET | Method::HEAD) {
        let shown = headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
        if !shown.is_some_and(|shown| held.is_csrf_token(shown)) {
            return Err(Problem::CsrfTokenMissing.into());
        }
    }
    Ok(held)
}

/// A browser's session is good in a browser alone, and one of the command line there.
async fn held(service: &Service, secret: &str, client: Client) -> Result<Option<Held>, Refusal> {
    if secret.len() > MAX_SECRET_BYTES || !secret.starts_with(BEARER_PREFIX) {
        return Ok(None);
    }
    let (hash, now) = (secret::hash(secret), service.now());
    let session = service.store.session(&hash, &service.sign_in.standing, now).await?;
    let session = session.filter(|session| session.client == client);
    Ok(session.map(|session| Held { session, secret: secret.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_cookie_is_read_by_its_whole_name_and_once() {
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_static(line));
            }
            read_cookie(&headers, "__Host-a").map(str::to_owned)
        };
        assert_eq!(read(&["x=1; __Host-a=hfs_1; y=2"]).as_deref(), Some("hfs_1"), "the control");
        assert_eq!(read(&["x=1", "__Host-a=hfs_1"]).as_deref(), Some("hfs_1"));
        for none in ["", "a=hfs_1", "X__Host-a=1", "__Host-a", "__host-a=1"] {
            assert_eq!(read(&[none]), None, "{none}");
        }
        assert_eq!(read(&["__Host-a=1; __Host-a=2"]), None, "which of two nobody knows");
    }

    #[test]
    fn the_cookie_of_a_session_goes_to_this_host_over_tls_and_to_no_script() {
        let cookie = cookie("hfs_1");
        for part in ["__Host-", "Path=/;", "Secure", "HttpOnly", "SameSite=Strict"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
}
