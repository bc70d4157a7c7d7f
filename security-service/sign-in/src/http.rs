//! A client of HTTP/1.1 over TLS for what a provider answers: one request on a connection of its own, no redirect is followed, no cookie
//! kept, and time and size are bounded.

use crate::error::HttpError;
use holdfast_service_alerts::connect::{Reach, Resolver, connect};
use holdfast_service_alerts::https_url::HttpsUrl;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::Builder;
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsConnector;

/// Longest time from the name to the end of the answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of an answer's headers.
const MAX_HEADERS_BYTES: usize = 16 * 1024;
/// Most headers of an answer.
const MAX_HEADERS: usize = 64;
/// Most bytes of an answer's body: metadata, keys or tokens.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The client.
#[derive(Clone)]
pub struct HttpClient {
    resolver: Resolver,
    tls: Arc<ClientConfig>,
    deadline: Duration,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Makes one.
    #[must_use]
    pub fn new(resolver: Resolver, tls: Arc<ClientConfig>) -> Self {
        Self { resolver, tls, deadline: DEADLINE }
    }

    /// Returns it with another deadline.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Sends a request, and returns the whole answer, whatever its status.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = tokio::time::timeout(self.deadline, self.attempt(request));
        sent.await.map_err(|_| HttpError::Deadline(self.deadline.as_secs()))?
    }

    async fn attempt(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let text = request.uri().to_string();
        let url = HttpsUrl::read(&text).map_err(|_| HttpError::Url(text))?;
        let name = ServerName::try_from(url.host.clone());
        let name = name.map_err(|error| HttpError::Handshake(io::Error::other(error)))?;
        let stream = connect(&self.resolver, &Reach::Any, &url.host, url.port).await?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await;
        let stream = stream.map_err(HttpError::Handshake)?;
        let (parts, body) = request.into_parts();
        let mut asked = Request::builder().method(parts.method).uri(&url.target);
        for (name, value) in &parts.headers {
            asked = asked.header(name, value);
        }
        let agent = concat!("holdfast-service/", env!("CARGO_PKG_VERSION"));
        let asked = asked
            .header(HOST, &url.authority)
            .header(CONNECTION, HeaderValue::from_static("close"))
            .header(USER_AGENT, HeaderValue::from_static(agent))
            .body(Full::new(Bytes::from(body)))?;
        let mut builder = Builder::new();
        builder.max_buf_size(MAX_HEADERS_BYTES).max_headers(MAX_HEADERS);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        let mut connection = pin!(connection);
        let mut exchange = pin!(async move {
            let (parts, body) = sender.send_request(asked).await?.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
            let body = body.map_err(|_| HttpError::Body)?.to_bytes().to_vec();
            Ok(Response::from_parts(parts, body))
        });
        tokio::select! {
            done = exchange.as_mut() => return done,
            _ = connection.as_mut() => {}
        }
        // The provider has closed the connection; what it said before is at hand.
        exchange.await
    }
}

impl<'c> AsyncHttpClient<'c> for HttpClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
