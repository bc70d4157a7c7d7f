//! Webhooks: their secrets, which are wrapped where they are kept, and the one way by which an alert or a test is sent.

use crate::service::Service;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_alerts::SinkError;
use holdfast_service_alerts::https_url::{HttpsUrl, NoHttpsUrl};
use holdfast_service_issuing::IssuingError;
use holdfast_service_store::Scope;
use holdfast_service_store::webhook::Webhook;
use thiserror::Error;

/// Why a webhook was not sent.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// Its secret cannot be opened.
    #[error("the secret of the webhook cannot be opened")]
    Secret(#[from] IssuingError),
    /// Its URL is none.
    #[error("the URL of the webhook cannot be read")]
    Url(#[from] NoHttpsUrl),
    /// The receiver has not taken it.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// What a secret is wrapped for. The URL is a part of it: whoever changes it in the database gets nothing that is signed.
fn purpose(catalog: &CatalogId, name: &str, url: &str) -> String {
    format!("webhook {catalog} {name} {url}")
}

/// Wraps the secret of a webhook.
///
/// # Errors
/// The system has no random numbers.
pub fn wrap(
    service: &Service,
    scope: Scope,
    (name, url): (&str, &str),
    secret: &str,
) -> Result<Vec<u8>, IssuingError> {
    let purpose = purpose(&scope.catalog(), name, url);
    service.issuers.key_encryption_key().wrap(&purpose, secret.as_bytes())
}

/// Sends a body to a webhook, and returns the status of the answer. `alert` is the catalog and number of the alert.
///
/// # Errors
/// See [`WebhookError`].
pub async fn send(
    service: &Service,
    scope: Scope,
    webhook: &Webhook,
    alert: &str,
    body: &str,
) -> Result<u16, WebhookError> {
    let purpose = purpose(&scope.catalog(), &webhook.name, &webhook.url);
    let secret = service.issuers.key_encryption_key().unwrap(&purpose, &webhook.wrapped_secret)?;
    let url = HttpsUrl::read(&webhook.url)?;
    Ok(service.webhooks.send(&url, &secret, alert, body, service.now()).await?)
}
