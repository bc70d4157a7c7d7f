//! Who calls, and what he may: bearer tokens, scopes, and changes with their idempotency key.

use super::shapes::Done;
use crate::body;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::session;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::disk::Write;
use holdfast_service_domain::extent::Extent;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::audit::Entry;
use holdfast_service_store::change::Answer;
use holdfast_service_store::precondition::{Precondition, Seen, Subject};
use holdfast_service_store::scope::Actor;
use holdfast_service_store::{Connection, Scope, Step};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Most bytes of a body: a list of some thousand claims, or the metadata of a repository with some roots.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Most entity tags of `If-Match`.
const MAX_TAGS: usize = 8;
/// Longest idempotency key in bytes.
const MAX_KEY_BYTES: usize = 64;

/// Who asks, as an extension of a request: pages of this process, which have made sure of it by a session, ask so in the place of the person
/// who looks at them. Nothing that comes over a connection can set it.
#[derive(Debug, Clone)]
pub struct Authenticated(pub Actor);

/// Who asks: the holder of a token, or a person with a session.
#[derive(Debug)]
pub(super) struct Caller(pub(super) Actor);

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        service: &Arc<Service>,
    ) -> Result<Self, Refusal> {
        if let Some(Authenticated(actor)) = parts.extensions.get() {
            return Ok(Self(actor.clone()));
        }
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer "));
        let is_session = token.is_none_or(|token| token.starts_with(session::BEARER_PREFIX));
        if is_session {
            let session = session::of_request(service, &parts.method, &parts.headers).await?;
            return Ok(Self(session.session.actor));
        }
        let token = token.ok_or_else(|| Refusal::from(Problem::Unauthenticated))?;
        session::holder(service, token).await.map(Self)
    }
}

impl Caller {
    /// Returns the scope of a catalog that is the caller's. One that is not does not exist for him.
    async fn known(&self, service: &Service, catalog: &str) -> Result<Scope, Refusal> {
        let unknown = || Refusal::from(Problem::UnknownCatalog);
        let catalog = CatalogId::parse(catalog).ok_or_else(unknown)?;
        service.store.scope_of(&self.0, catalog).await?.ok_or_else(unknown)
    }

    /// Returns the scope of a catalog, if the caller may do in all of it what needs this.
    pub(super) async fn scope(
        &self,
        service: &Service,
        catalog: &str,
        need: Need,
    ) -> Result<Scope, Refusal> {
        let scope = self.known(service, catalog).await?;
        allowed(self.0.may(need, &Extent::Catalog(scope.catalog())))?;
        Ok(scope)
    }

    /// Returns the scope of a catalog, if the caller may do somewhere in it what needs this: what is asked for must then be looked at by
    /// [`must`](Self::must) or [`of_row`](Self::of_row), unless all of the catalog have it in common.
    pub(super) async fn scope_in(
        &self,
        service: &Service,
        catalog: &str,
        need: Need,
    ) -> Result<Scope, Refusal> {
        let scope = self.known(service, catalog).await?;
        allowed(self.0.may_in(need, scope.catalog()))?;
        Ok(scope)
    }

    /// True if the caller may do with a product or a group what needs this; of what is in none, with the whole catalog.
    pub(super) fn may(
        &self,
        scope: Scope,
        need: Need,
        product: Option<&str>,
        group: Option<&str>,
    ) -> bool {
        self.0.may(need, &extent(scope, product, group))
    }

    /// Demands that the caller may do with a product or a group what needs this.
    pub(super) fn must(
        &self,
        scope: Scope,
        need: Need,
        product: Option<&str>,
        group: Option<&str>,
    ) -> Result<(), Refusal> {
        allowed(self.may(scope, need, product, group))
    }

    /// Demands that the caller may do with a row of a product or a group what needs this. A row that he may not see is missing for him.
    pub(super) fn of_row(
        &self,
        scope: Scope,
        need: Need,
        (product, group): (Option<&str>, Option<&str>),
        missing: Problem,
    ) -> Result<(), Refusal> {
        match self.may(scope, need, product, group) {
            true => Ok(()),
            false if self.may(scope, Need::See, product, group) => Err(Problem::Forbidden.into()),
            false => Err(missing.into()),
        }
    }

    /// Demands a role for the whole service.
    pub(super) fn of_service(&self, need: Need) -> Result<(), Refusal> {
        allowed(self.0.may(need, &Extent::Service))
    }
}

fn allowed(is_allowed: bool) -> Result<(), Refusal> {
    if is_allowed { Ok(()) } else { Err(Problem::Forbidden.into()) }
}

/// Returns the extent of a product or a group of a catalog; the catalog's where something is in none.
pub(super) fn extent(scope: Scope, product: Option<&str>, group: Option<&str>) -> Extent {
    let catalog = scope.catalog();
    match (product, group) {
        (None, _) => Extent::Catalog(catalog),
        (Some(product), None) => Extent::Product(catalog, product.to_owned()),
        (Some(product), Some(group)) => {
            Extent::Group(catalog, product.to_owned(), group.to_owned())
        }
    }
}

/// A request that changes something. Its body is read once the token is good.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) caller: Caller,
    body: Bytes,
    key: Option<String>,
    seen: Option<Seen>,
}

impl FromRequest<Arc<Service>> for Change {
    type Rejection = Refusal;

    async fn from_request(request: Request, service: &Arc<Service>) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, service).await?;
        let key = key(&parts.headers)?;
        let seen = seen(&parts.headers)?;
        service.admit(Write::Other)?;
        let body = body::read(body, MAX_BODY_BYTES).await?;
        Ok(Self { caller, body, key, seen })
    }
}

/// Returns the idempotency key.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let rule = "Idempotency-Key: must be 1 to 64 printable characters";
    let malformed = || Refusal::new(Problem::Malformed, rule);
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().map_err(|_| malformed())?;
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        Err(malformed())
    } else {
        Ok(Some(key.to_owned()))
    }
}

/// Returns what `If-Match` names (RFC 9110, 13.1.1). A weak entity tag is none of ours and matches nothing.
fn seen(headers: &HeaderMap) -> Result<Option<Seen>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let rule = "If-Match: must be `*` or entity tags as `ETag` has them";
    let malformed = || Refusal::new(Problem::Malformed, rule);
    let text = value.to_str().map_err(|_| malformed())?.trim();
    if text == "*" {
        return Ok(Some(Seen::Any));
    }
    let tags: Vec<&str> = text.split(',').map(str::trim).collect();
    let is_tag = |tag: &&str| {
        let strong = tag.strip_prefix("W/").unwrap_or(tag);
        strong.len() >= 2 && strong.starts_with('"') && strong.ends_with('"')
    };
    if tags.len() > MAX_TAGS || !tags.iter().all(is_tag) {
        return Err(malformed());
    }
    let revision = |tag: &&str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    Ok(Some(Seen::Revisions(tags.iter().filter_map(revision).collect())))
}

impl Change {
    /// Returns what the caller demands of the row that he changes, if he has said as what he has seen it.
    pub(super) fn precondition(&self, subject: Subject) -> Option<Precondition> {
        self.seen.clone().map(|seen| Precondition { subject, seen })
    }

    /// Reads the body.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        body::json(&self.body)
    }

    /// Reads the body, where there is one.
    pub(super) fn json_if_any<T: DeserializeOwned>(&self) -> Result<Option<T>, Refusal> {
        if self.body.is_empty() { Ok(None) } else { self.json() }
    }

    /// Returns the digest of the body, which the audit log has.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.body).into()
    }

    /// Returns what the audit log says of the change.
    pub(super) fn entry(&self, verb: &'static str, object: &str, at: u64) -> Entry {
        let (who, object) = (self.caller.0.by.name.clone(), object.to_owned());
        Entry { who, verb, object, digest: self.digest(), at }
    }

    /// Makes the change with its row of the audit log, or repeats the answer that it got before.
    pub(super) async fn make<F>(
        self,
        service: &Service,
        scope: Scope,
        verb: &'static str,
        object: &str,
        work: F,
    ) -> Result<Response, Refusal>
    where
        F: for<'c> FnOnce(&'c mut Connection, Scope) -> Step<'c, Answer> + Send + 'static,
    {
        let entry = self.entry(verb, object, service.now());
        let answer = service.store.change(scope, entry, self.key, work).await?;
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
        Ok(json(status, answer.body))
    }

    /// Makes a change of which there is nothing to tell but that it is done.
    pub(super) async fn carry_out<F>(
        self,
        service: &Service,
        scope: Scope,
        verb: &'static str,
        object: &str,
        work: F,
    ) -> Result<Response, Refusal>
    where
        F: for<'c> FnOnce(&'c mut Connection, Scope) -> Step<'c, ()> + Send + 'static,
    {
        let make = self.make(service, scope, verb, object, move |connection, scope| {
            Box::pin(async move {
                work(connection, scope).await?;
                Ok(done(&Done { done: true }))
            })
        });
        make.await
    }
}

/// An answer of 200 with this body.
pub(super) fn done<T: Serialize>(body: &T) -> Answer {
    Answer { status: 200, body: serde_json::to_string(body).unwrap_or_else(|_| "null".to_owned()) }
}

/// Returns a body as a response.
pub(super) fn shown<T: Serialize>(body: &T) -> Result<Response, Refusal> {
    let text = serde_json::to_string(body);
    let text = text.map_err(|error| Refusal::new(Problem::Internal, error.to_string()))?;
    Ok(json(StatusCode::OK, text))
}

/// Returns a body as a response, with the entity tag of a row's revision, by which `If-Match` names it.
pub(super) fn shown_at<T: Serialize>(body: &T, revision: u64) -> Result<Response, Refusal> {
    let mut response = shown(body)?;
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Returns JSON as a response that nobody keeps.
pub(super) fn json(status: StatusCode, text: String) -> Response {
    let mut response = (status, text).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
