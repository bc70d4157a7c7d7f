//! A client of the service's management API, over HTTPS.

use super::refusal::{PROBLEM_JSON, Refusal};
use super::session::{Session, Token};
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, EXPECT, HeaderName, LINK, RETRY_AFTER,
};
use ureq::http::request::Builder;
use ureq::http::{Method, Request, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Timeout of each of DNS, connection and response header.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Timeout of a whole request.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// Timeout of a whole request with a file: what the service waits for it.
const FILE_WITHIN: Duration = Duration::from_secs(240);
/// Longest wait for a service to say that it takes what is sent: it looks at the disk and the token before. Whoever stands between and
/// does not know the question is waited for so long.
const CONTINUE_WITHIN: Duration = Duration::from_secs(10);
/// Most bytes of a body that is sent before the service has said that it takes it.
const MAX_UNASKED_BYTES: usize = 16 * 1024;
/// Longest answer in bytes: a page of a thousand devices has less than one MiB.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
/// Entries of a page, as many as the service gives.
const PAGE: &str = "1000";

/// Path below which the tickets of first owners lie.
const TICKETS: &str = "/v1/first-owner/";

/// Errors of a request to the service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL is none of a service.
    #[error(
        "{0}: must be the https: URL of host and port of the service's management, such as https://service.example:8444"
    )]
    Url(String),
    /// There is no authority that could vouch for the service.
    #[error("the file of authorities has no certificate; it must have a block BEGIN CERTIFICATE")]
    NoAuthority,
    /// The certificate of whoever answers is refused.
    #[error(
        "{service}: its certificate is refused; `login --authorities FILE` takes those that vouch for it (`authorities.pem` in the \
         service's folder), and the URL's host must be one of the service's names"
    )]
    Certificate {
        /// URL of the service.
        service: String,
        /// The error of TLS that says what is wrong with the certificate.
        #[source]
        source: rustls::Error,
    },
    /// There was no connection, or no answer.
    #[error("{service}: does not answer; `holdfast-service run` starts the service")]
    Connection {
        /// URL of the service.
        service: String,
        /// The error of the request.
        #[source]
        source: ureq::Error,
    },
    /// The service has refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer is not one of this API.
    #[error(
        "{service}: answers {status} with what is no JSON of the management API; is this a Holdfast Security Service?"
    )]
    Answer {
        /// URL of the service.
        service: String,
        /// HTTP status.
        status: u16,
    },
}

impl ClientError {
    /// Returns the kind of problem for which the service has refused, where it has.
    pub(crate) fn refused_for(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.kind),
            _ => None,
        }
    }
}

/// A client of one service, with a token or without.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
    service: String,
    token: Option<Token>,
}

/// Returns the certificates of a PEM file.
fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, ClientError> {
    let items = parse_pem(pem.as_bytes());
    let certificates: Vec<_> = items
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() { Err(ClientError::NoAuthority) } else { Ok(certificates) }
}

/// Splits an `https:` URL into that of host and port, and its path.
///
/// # Errors
/// The text is no such URL, or names a user or a query.
fn split(url: &str) -> Result<(String, String), ClientError> {
    let wrong = || ClientError::Url(url.to_owned());
    let uri: Uri = url.trim().parse().map_err(|_| wrong())?;
    let authority = uri.authority().map(|authority| authority.as_str()).ok_or_else(wrong)?;
    if uri.scheme_str() != Some("https") || authority.contains('@') || uri.query().is_some() {
        return Err(wrong());
    }
    Ok((format!("https://{authority}"), uri.path().to_owned()))
}

/// Finds the URL of a first owner's token in what the service's program has printed: the last one.
pub(crate) fn ticket_url(text: &str) -> Option<&str> {
    let mut words = text.split_whitespace().rev();
    words.find(|word| word.starts_with("https://") && word.contains(TICKETS))
}

/// Splits a URL into that of the service, and the ticket of a first owner in it, if it has one.
///
/// # Errors
/// The URL is neither a service's nor a ticket's.
pub(crate) fn split_ticket(url: &str) -> Result<(String, Option<String>), ClientError> {
    let (service, path) = split(url)?;
    match path.strip_prefix(TICKETS) {
        Some(ticket) if !ticket.is_empty() && !ticket.contains('/') => {
            Ok((service, Some(ticket.to_owned())))
        }
        None if path.is_empty() || path == "/" => Ok((service, None)),
        _ => Err(ClientError::Url(url.to_owned())),
    }
}

/// True for a host that is this one: no proxy leads there.
fn is_loopback(service: &str) -> bool {
    let host = service.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    host.is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127."))
}

impl Client {
    /// Makes a client of the service at a URL of host and port, which these authorities (PEM) vouch for.
    ///
    /// # Errors
    /// There is no certificate among the authorities.
    pub(crate) fn new(
        service: &str,
        authorities: &str,
        token: Option<Token>,
    ) -> Result<Self, ClientError> {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(certificates(authorities)?))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let mut config = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent("holdfast")
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_recv_response(Some(ANSWER_WITHIN))
            .timeout_global(Some(ANSWER_WITHIN));
        if is_loopback(service) {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().into(), service: service.to_owned(), token })
    }

    /// Makes a client of a session.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn of(session: &Session) -> Result<Self, ClientError> {
        Self::new(&session.service, &session.authorities, Some(session.token.clone()))
    }

    /// Returns the client with another token.
    pub(crate) fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Asks for what lies at a path, given by its segments.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn get(&self, path: &[&str]) -> Result<Value, ClientError> {
        self.ask(&Method::GET, path, &[], None)
    }

    /// Has something made or done.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn post(&self, path: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.ask(&Method::POST, path, &[], Some(body))
    }

    /// Puts something at a path.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn put(&self, path: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.ask(&Method::PUT, path, &[], Some(body))
    }

    /// Puts a file at a path. Its bytes are sent once the service has said that it takes them: who is refused before would not read why.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn put_bytes(&self, path: &[&str], file: Vec<u8>) -> Result<Value, ClientError> {
        let request = self.request(&Method::PUT, path, &[]);
        let request = request.header(CONTENT_TYPE, "application/octet-stream");
        let request = request.header(EXPECT, "100-continue").body(file);
        let request = request.map_err(|error| self.failed(error.into()))?;
        let request = self.agent.configure_request(request);
        let request = request.timeout_await_100(Some(CONTINUE_WITHIN));
        let request = request.timeout_recv_response(Some(FILE_WITHIN));
        let answer = self.agent.run(request.timeout_global(Some(FILE_WITHIN)).build());
        self.read(answer.map_err(|error| self.failed(error))?)
    }

    /// Changes what lies at a path.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn patch(&self, path: &[&str], body: &Value) -> Result<Value, ClientError> {
        self.ask(&Method::PATCH, path, &[], Some(body))
    }

    /// Returns all pages of a list as one: `{"items": […]}`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn list(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, ClientError> {
        let mut items = Vec::new();
        self.each_page(path, query, |more| {
            items.extend(more);
            Ok::<_, ClientError>(true)
        })?;
        Ok(json!({ "items": items }))
    }

    /// Hands the entries of each page of a list to `take`, until it wants no more or there are none.
    ///
    /// # Errors
    /// See [`ClientError`], and those of `take`.
    pub(crate) fn each_page<E: From<ClientError>>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        mut take: impl FnMut(Vec<Value>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut after = String::new();
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE));
            if !after.is_empty() {
                query.push(("after", &after));
            }
            let mut page = self.ask(&Method::GET, path, &query, None)?;
            let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
                return Err(self.answer(200).into());
            };
            if !take(items)? {
                return Ok(());
            }
            match page.get("next").and_then(Value::as_str) {
                // A list that leads back to where it was would never end.
                Some(next) if next != after && !next.is_empty() => after = next.to_owned(),
                Some(_) => return Err(self.answer(200).into()),
                None => return Ok(()),
            }
        }
    }

    /// Asks for the first entry of a list.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn page_of_one(&self, path: &[&str]) -> Result<Value, ClientError> {
        self.ask(&Method::GET, path, &[("limit", "1")], None)
    }

    /// Hands each page of what lies at a path to `take`, as the service writes it, until it names no other.
    ///
    /// # Errors
    /// See [`ClientError`], and those of `take`.
    pub(crate) fn pages(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        mut take: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut after = String::new();
        loop {
            let mut query = query.to_vec();
            query.push(("limit", PAGE));
            if !after.is_empty() {
                query.push(("after", &after));
            }
            let request = self.request(&Method::GET, path, &query).body(());
            let request = request.map_err(|error| self.failed(error.into()))?;
            let answer = self.agent.run(request).map_err(|error| self.failed(error))?;
            let next = answer.headers().get(LINK).and_then(|value| value.to_str().ok());
            let next = next.and_then(next_of_link).map(str::to_owned);
            let body = self.body(answer)?;
            take(&String::from_utf8(body).map_err(|_| self.answer(200))?)?;
            match next {
                // A page that leads back to where it was would never end.
                Some(next) if next != after => after = next,
                _ => return Ok(()),
            }
        }
    }

    fn answer(&self, status: u16) -> ClientError {
        ClientError::Answer { service: self.service.clone(), status }
    }

    fn failed(&self, source: ureq::Error) -> ClientError {
        let service = self.service.clone();
        let of_tls = match &source {
            ureq::Error::Rustls(error) => Some(error.clone()),
            // The handshake is made by the first write.
            ureq::Error::Io(error) => {
                error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned()
            }
            _ => None,
        };
        match of_tls {
            Some(source @ rustls::Error::InvalidCertificate(_)) => {
                ClientError::Certificate { service, source }
            }
            _ => ClientError::Connection { service, source },
        }
    }

    /// Begins a request, with the token where there is one.
    fn request(&self, method: &Method, path: &[&str], query: &[(&str, &str)]) -> Builder {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.service, target(path, query)))
            .header(ACCEPT, "application/json");
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.secret())),
            None => request,
        }
    }

    fn ask(
        &self,
        method: &Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let request = self.request(method, path, query);
        let http = |error: ureq::http::Error| self.failed(error.into());
        let answer = match body {
            None => self.agent.run(request.body(()).map_err(http)?),
            Some(body) => {
                let request = request.header(CONTENT_TYPE, "application/json");
                let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
                let is_long = bytes.len() > MAX_UNASKED_BYTES;
                let request =
                    if is_long { request.header(EXPECT, "100-continue") } else { request };
                let request = request.body(bytes).map_err(http)?;
                let request = self.agent.configure_request(request);
                self.agent.run(request.timeout_await_100(Some(CONTINUE_WITHIN)).build())
            }
        };
        self.read(answer.map_err(|error| self.failed(error))?)
    }

    fn read(&self, response: Response<ureq::Body>) -> Result<Value, ClientError> {
        let status = response.status().as_u16();
        serde_json::from_slice(&self.body(response)?).map_err(|_| self.answer(status))
    }

    /// Returns the body of an answer that refuses nothing.
    fn body(&self, mut response: Response<ureq::Body>) -> Result<Vec<u8>, ClientError> {
        let status = response.status().as_u16();
        let header =
            |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let retry_after_s = header(RETRY_AFTER).and_then(|text| text.parse().ok());
        let is_problem = header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with(PROBLEM_JSON));
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(|error| self.failed(error))?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let refusal = Refusal::read(status, retry_after_s, &body).filter(|_| is_problem);
        Err(refusal.map_or_else(|| self.answer(status), ClientError::Refused))
    }

    /// True once the service says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let ready = self.agent.get(format!("{}/readyz", self.service)).call();
        ready.is_ok_and(|answer| answer.status().is_success())
    }

    /// Takes the ticket of the first owner, and returns his token with its end in seconds since 1970.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn take_ticket(&self, ticket: &str) -> Result<(Token, Option<u64>), ClientError> {
        let made = self.post(&["v1", "first-owner", ticket], &Value::Null)?;
        let token = made.get("token").and_then(Value::as_str).unwrap_or_default();
        let token = Token::of_text(token).map_err(|_| self.answer(200))?;
        Ok((token, made.get("ends_at").and_then(Value::as_u64)))
    }
}

/// Returns what `after` is for the next page that a header `Link` names (RFC 8288), as it stands there: the service's cursors need no escaping.
fn next_of_link(link: &str) -> Option<&str> {
    let (url, relation) = link.strip_prefix('<')?.split_once('>')?;
    let query = url.split_once('?')?.1;
    let after = query.split('&').find_map(|pair| pair.strip_prefix("after="));
    after.filter(|after| !after.is_empty() && relation.contains("rel=\"next\""))
}

/// Returns path and query of a URL. What stands in them is escaped, so that a name is never more than a name.
fn target(path: &[&str], query: &[(&str, &str)]) -> String {
    let mut target = String::new();
    for segment in path {
        target.push('/');
        target.push_str(&escaped(segment));
    }
    for (index, (name, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        target.extend([name, "=", &escaped(value)]);
    }
    target
}

/// Escapes all but the unreserved characters (RFC 3986, 2.3). Segments of dots alone, which mean another directory,
/// are escaped as a whole.
fn escaped(text: &str) -> String {
    let is_dots = matches!(text, "." | "..");
    let mut escaped = String::new();
    for byte in text.bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
        if is_plain || byte == b'.' && !is_dots {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_what_the_service_names() {
        let link = "</v1/catalogs/c/reports?format=csv&limit=1000&after=17.de.07.1>; rel=\"next\"";
        assert_eq!(next_of_link(link), Some("17.de.07.1"));
        for none in
            ["", "</v1>; rel=\"next\"", "</v1?after=>; rel=\"next\"", "</v1?after=a>; rel=\"prev\""]
        {
            assert_eq!(next_of_link(none), None, "{none}");
        }
    }

    #[test]
    fn a_url_is_host_and_port_and_a_path() {
        let split = |url: &str| split(url).ok();
        let service = "https://service.example:8444".to_owned();
        assert_eq!(split(&service), Some((service.clone(), "/".to_owned())));
        let ticket = format!("{service}/v1/first-owner/first_ab");
        assert_eq!(split(&ticket), Some((service, "/v1/first-owner/first_ab".to_owned())));
        for bad in [
            "http://service.example:8444",
            "service.example",
            "https://",
            "https://token@service.example",
            "https://service.example?token=1",
            "/v1",
            "",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_url_is_of_the_service_or_of_one_ticket() {
        let said = "the first owner's token, once and within 24 hours, while the service runs:\n\
                    POST https://a.example:8444/v1/first-owner/first_1\n\
                    POST https://a.example:8444/v1/first-owner/first_2\n";
        let url = ticket_url(said).unwrap();
        let service = "https://a.example:8444".to_owned();
        let ticket = |url: &str| split_ticket(url).ok();
        assert_eq!(ticket(url), Some((service.clone(), Some("first_2".to_owned()))));
        assert_eq!(ticket(&service), Some((service.clone(), None)));
        assert_eq!(ticket(&format!("{service}/")), Some((service.clone(), None)));
        for bad in ["/v1/first-owner/", "/v1/first-owner/a/b", "/v1/catalogs", "/v1"] {
            assert_eq!(ticket(&format!("{service}{bad}")), None, "{bad}");
        }
        assert_eq!(ticket_url("https://a.example:8444/v1/catalogs hft_1"), None);
    }

    #[test]
    fn a_name_stays_one_segment_whatever_is_in_it() {
        assert_eq!(target(&["v1", "pump-eu_1.0~"], &[]), "/v1/pump-eu_1.0~");
        assert_eq!(
            target(&["a/b", "..", "c?d#e", "\u{e9} "], &[]),
            "/a%2Fb/%2E%2E/c%3Fd%23e/%C3%A9%20"
        );
        let query = [("limit", "10"), ("after", "a&b=c")];
        assert_eq!(target(&["v1"], &query), "/v1?limit=10&after=a%26b%3Dc");
    }

    #[test]
    fn no_proxy_leads_to_this_host() {
        for near in ["https://127.0.0.1:8444", "https://localhost:8444", "https://127.9.9.9"] {
            assert!(is_loopback(near), "{near}");
        }
        for far in ["https://service.example:8444", "https://10.0.2.2:8543", "https://192.0.2.1"] {
            assert!(!is_loopback(far), "{far}");
        }
    }

    #[test]
    fn authorities_without_a_certificate_are_refused() {
        for pem in ["", "text", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            let refused = Client::new("https://127.0.0.1", pem, None);
            assert!(matches!(refused, Err(ClientError::NoAuthority)), "{pem}");
        }
    }
}
