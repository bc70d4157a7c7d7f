//! Webhooks: an alert's body by `POST`, signed by the webhook's secret.

use crate::connect::{Reach, Resolver, connect};
use crate::error::SinkError;
use crate::https_url::HttpsUrl;
use crate::post::{Post, handshake, post};
use crate::trust::Trust;
use holdfast_service_domain::detection::alert::{SIGNATURE_HEADER, signature};
use std::time::Duration;

/// Longest time for an attempt, from the name to the answer's headers.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Name of the header with the alert's catalog and number: who gets one twice, as where an answer was lost, knows it by this.
pub const ALERT_HEADER: &str = "Holdfast-Alert";

/// What sends webhooks.
#[derive(Clone)]
pub struct Webhooks {
    resolver: Resolver,
    reach: Reach,
    trust: Trust,
    deadline: Duration,
}

impl std::fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhooks").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Webhooks {
    /// Makes it.
    #[must_use]
    pub fn new(resolver: Resolver, reach: Reach, trust: Trust) -> Self {
        Self { resolver, reach, trust, deadline: DEADLINE }
    }

    /// Returns it with another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sends a body to a URL, and returns the status of the answer, which is one of success.
    ///
    /// # Errors
    /// See [`SinkError`]. A redirect is a status as any other that is none of success.
    pub async fn send(
        &self,
        url: &HttpsUrl,
        secret: &[u8],
        alert: &str,
        body: &str,
        now: u64,
    ) -> Result<u16, SinkError> {
        let sent = tokio::time::timeout(self.deadline, self.attempt(url, secret, alert, body, now));
        sent.await.map_err(|_| SinkError::Deadline(self.deadline.as_secs()))?
    }

    async fn attempt(
        &self,
        url: &HttpsUrl,
        secret: &[u8],
        alert: &str,
        body: &str,
        now: u64,
    ) -> Result<u16, SinkError> {
        let stream = connect(&self.resolver, &self.reach, &url.host, url.port).await?;
        let stream = handshake(self.trust.tls.clone(), &url.host, stream).await?;
        let request = Post {
            authority: &url.authority,
            target: &url.target,
            headers: vec![
                (SIGNATURE_HEADER, signature(secret, body.as_bytes(), now)),
                (ALERT_HEADER, alert.to_owned()),
            ],
            body: body.as_bytes().to_vec(),
        };
        let (status, retry_after_s, _) = post(stream, request, |_| false).await?;
        if (200..300).contains(&status) {
            Ok(status)
        } else {
            Err(SinkError::Status { status, retry_after_s, is_final: false })
        }
    }
}
