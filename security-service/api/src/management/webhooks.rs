//! Webhooks of a catalog: where its alerts go. A URL may be a secret of its own, so whoever sees them may change them.

use super::caller::{Caller, Change, done, shown};
use super::catalogs::named;
use super::shapes::{Done, Listed, ProblemShape};
use super::webhook_shapes::{MadeWebhook, NewWebhook, TestedWebhook, WebhookShape};
use crate::refusal::Refusal;
use crate::secret::Secret;
use crate::service::Service;
use crate::webhooks::{self, WebhookError};
use axum::extract::{Path, State};
use axum::response::Response;
use holdfast_service_alerts::https_url::HttpsUrl;
use holdfast_service_domain::problem::Problem;
use holdfast_service_domain::role::Need;
use holdfast_service_store::webhook::{self, Webhook};
use holdfast_types::chain;
use serde_json::json;
use std::sync::Arc;

type Shared = State<Arc<Service>>;

/// Seconds from one test of a webhook to the next.
const TEST_S: u64 = 10;

/// Lists webhooks without their secrets, each with how its deliveries went.
#[utoipa::path(get, path = "/v1/catalogs/{catalog}/webhooks", params(("catalog" = String, Path)),
    security(("token" = [])),
    responses((status = 200, body = Listed<WebhookShape>), (status = 403, body = ProblemShape)))]
pub(super) async fn list(
    State(service): Shared,
    caller: Caller,
    Path(catalog): Path<String>,
) -> Result<Response, Refusal> {
    let scope = caller.scope(&service, &catalog, Need::Operate).await?;
    let rows = service.store.webhooks(scope).await?.into_iter();
    let items = rows.map(|(webhook, record)| WebhookShape {
        name: webhook.name,
        url: webhook.url,
        added_by: webhook.who,
        created_at: webhook.created_at,
        record: record.into(),
    });
    shown(&Listed { items: items.collect(), next: None })
}

/// Makes a webhook, which gets the alerts that come from now on. Its secret is told once, so an idempotency key has no effect here.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/webhooks", params(("catalog" = String, Path)),
    request_body = NewWebhook, security(("token" = [])),
    responses((status = 200, body = MadeWebhook), (status = 409, body = ProblemShape)))]
pub(super) async fn make(
    State(service): Shared,
    Path(catalog): Path<String>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Operate).await?;
    let NewWebhook { name, url } = change.json()?;
    named("name", &name)?;
    HttpsUrl::read(&url)
        .map_err(|rule| Refusal::new(Problem::Malformed, format!("url: {rule}")))?;
    let secret = Secret::make("hws")?;
    let wrapped_secret = webhooks::wrap(&service, scope, (&name, &url), secret.text())
        .map_err(|error| Refusal::new(Problem::Internal, error.to_string()))?;
    let (who, created_at) = (change.caller.0.by.name.clone(), service.now());
    let entry = change.entry("webhook.create", &name, created_at);
    let made = MadeWebhook { name: name.clone(), secret: secret.text().to_owned() };
    let webhook = Webhook { name, url, wrapped_secret, who, created_at };
    let work = service.store.change(scope, entry, None, move |connection, scope| {
        Box::pin(async move {
            webhook::add(connection, scope, webhook).await?;
            Ok(done(&Done { done: true }))
        })
    });
    work.await?;
    shown(&made)
}

/// Removes a webhook. What waits for it is not delivered.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/webhooks/{name}/remove",
    params(("catalog" = String, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Done), (status = 404, body = ProblemShape)))]
pub(super) async fn remove(
    State(service): Shared,
    Path((catalog, name)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Operate).await?;
    let object = name.clone();
    let work =
        change.carry_out(&service, scope, "webhook.remove", &object, move |connection, scope| {
            Box::pin(async move { webhook::remove(connection, scope, &name).await })
        });
    work.await
}

/// Sends a webhook a test, signed as an alert is, and says what came of it. Once in ten seconds.
#[utoipa::path(post, path = "/v1/catalogs/{catalog}/webhooks/{name}/test",
    params(("catalog" = String, Path), ("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = TestedWebhook), (status = 404, body = ProblemShape)))]
pub(super) async fn test(
    State(service): Shared,
    Path((catalog, name)): Path<(String, String)>,
    change: Change,
) -> Result<Response, Refusal> {
    let scope = change.caller.scope(&service, &catalog, Need::Operate).await?;
    let webhook = service.store.webhook(scope, &name).await?;
    let webhook = webhook.ok_or_else(|| Refusal::from(Problem::NotFound))?;
    let now = service.now();
    if !service.store.begin_webhook_test(scope, name.clone(), now, TEST_S).await? {
        return Err(Refusal::too_many(TEST_S));
    }
    let noted =
        change.carry_out(&service, scope, "webhook.test", &name, |_, _| Box::pin(async { Ok(()) }));
    noted.await?;
    let id = scope.catalog().to_string();
    let body = json!({
        "catalog": id, "product": "", "group": "", "at": now, "kind": "test", "findings": [],
    });
    let alert = format!("{id}.test-{now}");
    let sent = webhooks::send(&service, scope, &webhook, &alert, &body.to_string()).await;
    let tested = match sent {
        Ok(status) => TestedWebhook { delivered: true, status: Some(status), failure: None },
        Err(WebhookError::Secret(error)) => {
            return Err(Refusal::new(Problem::Internal, error.to_string()));
        }
        Err(error) => {
            TestedWebhook { delivered: false, status: None, failure: Some(chain(&error)) }
        }
    };
    shown(&tested)
}
