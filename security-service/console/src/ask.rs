//! Questions to the management API, in this process and in the place of whoever looks at a page.
//!
//! It is the only way to what the service keeps: what a page shows, the API has shown to the same person, and what a button does, the API
//! has done for him, with the same checks and the same row of the audit log.

use crate::failure::Failure;
use crate::place::encoded;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request};
use holdfast_service_api::management::Authenticated;
use holdfast_service_domain::role::Need;
use holdfast_service_store::scope::Actor;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt;

/// Most bytes of an answer: a page of a thousand rows.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Asks in the place of somebody.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    management: Router,
    actor: Actor,
    catalog: String,
}

/// The query of a question.
#[derive(Debug, Default, Clone)]
pub(crate) struct Query(String);

impl Query {
    /// Returns it with one more value, unless that is empty.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        if !value.is_empty() {
            self.0.push(if self.0.is_empty() { '?' } else { '&' });
            self.0.push_str(&format!("{name}={}", encoded(value)));
        }
        self
    }

    /// Returns its text, with what it begins with.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// What is changed.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// The path below the catalog.
    pub(crate) path: String,
    /// The body, JSON; `Null` for none.
    pub(crate) body: Value,
    /// What makes a form that is sent twice one change.
    pub(crate) key: String,
}

impl Ask {
    pub(crate) fn new(management: Router, actor: Actor, catalog: String) -> Self {
        Self { management, actor, catalog }
    }

    /// True if the person may do somewhere what needs this: where, the API says.
    pub(crate) fn may(&self, need: Need) -> bool {
        self.actor.may_somewhere(need)
    }

    /// Returns what is below the catalog.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<T, Failure> {
        let path = format!("/v1/catalogs/{}{path}{}", self.catalog, query.text());
        self.get_from(&path).await
    }

    /// Returns what is at a path of the API.
    pub(crate) async fn get_from<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = Request::builder().method(Method::GET).uri(path).body(Body::empty());
        read(&self.send(request.map_err(|_| Failure::nowhere())?).await?)
    }

    /// Changes something.
    pub(crate) async fn change(&self, change: &Change) -> Result<Value, Failure> {
        let path = format!("/v1/catalogs/{}{}", self.catalog, change.path);
        let body = if change.body.is_null() { String::new() } else { change.body.to_string() };
        let mut request = Request::builder().method(Method::POST).uri(path);
        if !change.key.is_empty() {
            request = request.header("idempotency-key", &change.key);
        }
        let malformed = |_| Failure::malformed("a field of the form is none of its page's");
        read(&self.send(request.body(Body::from(body)).map_err(malformed)?).await?)
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Vec<u8>, Failure> {
        request.extensions_mut().insert(Authenticated(self.actor.clone()));
        let answer = match self.management.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        };
        let status = answer.status();
        let body = to_bytes(answer.into_body(), MOST_BYTES).await;
        let body = body.map_err(|_| Failure::internal("the answer of the API is too long"))?;
        if status.is_success() { Ok(body.into()) } else { Err(Failure::of_answer(status, &body)) }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::internal(&format!("the answer of the API is another: {error}")))
}
