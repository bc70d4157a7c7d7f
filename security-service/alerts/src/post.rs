//! One request of HTTP/1.1 on a connection of its own: no redirect is followed, no cookie kept, and an answer is bounded.

use crate::error::SinkError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::Builder;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Most bytes of an answer's headers.
const MAX_HEADERS_BYTES: usize = 16 * 1024;
/// Most headers of an answer.
const MAX_HEADERS: usize = 64;
/// Most bytes of an answer's body, where it is read.
const MAX_BODY_BYTES: usize = 16 * 1024;
/// Longest time that a receiver may ask to be left alone, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60 * 60;

/// A request.
pub(crate) struct Post<'p> {
    /// Host and port of the URL.
    pub(crate) authority: &'p str,
    /// Path and query.
    pub(crate) target: &'p str,
    /// Headers beside those that each request has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body, JSON.
    pub(crate) body: Vec<u8>,
}

/// An answer.
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Seconds after which the receiver asks to be tried again.
    pub(crate) retry_after_s: Option<u64>,
    response: Response<Incoming>,
}

impl Answer {
    /// Reads its body.
    async fn body(self) -> Result<Bytes, SinkError> {
        let body = Limited::new(self.response.into_body(), MAX_BODY_BYTES).collect().await;
        Ok(body.map_err(|_| SinkError::Body)?.to_bytes())
    }
}

/// Makes the handshake of TLS.
pub(crate) async fn handshake(
    tls: Arc<ClientConfig>,
    host: &str,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, SinkError> {
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|error| SinkError::Handshake(io::Error::other(error)))?;
    TlsConnector::from(tls).connect(name, stream).await.map_err(SinkError::Handshake)
}

/// Sends a request, and returns the status of the answer, with its body where `reads_body` is true of it. A body that is not asked for is not
/// read: the connection ends.
pub(crate) async fn post(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    post: Post<'_>,
    reads_body: impl FnOnce(u16) -> bool,
) -> Result<(u16, Option<u64>, Bytes), SinkError> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(post.target)
        .header(HOST, post.authority)
        .header(CONNECTION, "close")
        .header(USER_AGENT, concat!("holdfast-service/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    for (name, value) in post.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::from(post.body))).map_err(SinkError::Request)?;
    let mut builder = Builder::new();
    builder.max_buf_size(MAX_HEADERS_BYTES).max_headers(MAX_HEADERS);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(SinkError::Http)?;
    let mut connection = pin!(connection);
    let mut exchange = pin!(async move {
        let answer = answer(sender.send_request(request).await.map_err(SinkError::Http)?);
        let (status, retry_after_s) = (answer.status, answer.retry_after_s);
        let body = if reads_body(status) { answer.body().await? } else { Bytes::new() };
        Ok((status, retry_after_s, body))
    });
    tokio::select! {
        done = exchange.as_mut() => return done,
        _ = connection.as_mut() => {}
    }
    // The receiver has closed the connection; what it said before is at hand.
    exchange.await
}

fn answer(response: Response<Incoming>) -> Answer {
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after_s = retry_after.and_then(|text| text.trim().parse().ok());
    let retry_after_s = retry_after_s.map(|seconds: u64| seconds.min(MAX_RETRY_AFTER_S));
    Answer { status: response.status().as_u16(), retry_after_s, response }
}
