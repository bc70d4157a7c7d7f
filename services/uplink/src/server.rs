//! The HTTPS client: fetches a range of one file from a server.

use holdfast_linux::clock::monotonic_ms;
use holdfast_release::RepositoryName;
use holdfast_release::config::UplinkConfig;
use holdfast_release::fetch::{Fetch, PIECE_BYTES};
use holdfast_release::pace::{self, DailyBudget};
use holdfast_types::escaped_chain;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::http::Response;
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Timeout of each of DNS, connection and response header.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
const OK: u16 = 200;
const PARTIAL: u16 = 206;
/// HTTP status codes of a file that a server does not have: object stores answer 403 to strangers.
const MISSING: [u16; 3] = [403, 404, 410];

/// The servers of all repositories, by their names.
#[derive(Debug)]
pub(crate) struct Servers {
    agent: Agent,
    servers: Vec<(RepositoryName, String)>,
    budget: DailyBudget,
}

/// Outcome of a fetch.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The whole range was fetched, or the file to its end.
    All,
    /// The server has no such file.
    Missing,
    /// The file was not fetched, or not all of it, for this reason.
    Failed(String),
}

impl Servers {
    pub(crate) fn new(config: UplinkConfig) -> Self {
        let authorities: Vec<Certificate<'static>> =
            config.authorities.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(authorities))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent("holdfast")
            .timeout_resolve(Some(CONNECT_WITHIN))
            .timeout_connect(Some(CONNECT_WITHIN))
            .timeout_recv_response(Some(CONNECT_WITHIN))
            .max_response_header_size(16 * 1024)
            .build()
            .into();
        let budget = DailyBudget::new(config.bytes_a_day, monotonic_ms());
        Self { agent, servers: config.servers, budget }
    }

    /// Fetches a range of a file, and hands its pieces to `take`.
    ///
    /// # Errors
    /// Those of `take` alone.
    pub(crate) fn fetch<E>(
        &mut self,
        fetch: &Fetch,
        take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        let Some((_, server)) = self.servers.iter().find(|(of, _)| *of == fetch.repository) else {
            return Ok(Fetched::Failed("this image names no server for it".to_owned()));
        };
        if self.budget.left(monotonic_ms()) == 0 {
            return Ok(Fetched::Failed("today's bytes are used up".to_owned()));
        }
        let url = format!("{server}/{}", fetch.path);
        // Nothing is sent that nobody wants. What is shorter comes all the same.
        let last = fetch.from.saturating_add(fetch.most_bytes).saturating_sub(1);
        let request = self.agent.get(&url).header(RANGE, format!("bytes={}-{last}", fetch.from));
        let longest = Duration::from_millis(pace::longest_ms(fetch.most_bytes));
        let request = request.config().timeout_global(Some(longest)).build();
        let response = match request.call() {
            Ok(response) => response,
            Err(error) => return Ok(Fetched::Failed(escaped_chain(&error))),
        };
        match response.status().as_u16() {
            OK if fetch.from == 0 => {}
            OK => return Ok(Fetched::Failed("the server does not know ranges".to_owned())),
            PARTIAL if first_byte(&response) == Some(fetch.from) => {}
            PARTIAL => return Ok(Fetched::Failed("the server sends another part".to_owned())),
            status if MISSING.contains(&status) => return Ok(Fetched::Missing),
            other => return Ok(Fetched::Failed(format!("the server answers {other}"))),
        }
        self.read(response, fetch.most_bytes, take)
    }

    /// Reads the body of a response, and no more than is wanted.
    fn read<E>(
        &mut self,
        response: Response<ureq::Body>,
        most_bytes: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        let mut body = response.into_body().into_reader();
        let began = monotonic_ms();
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut wanted, mut read_in_all) = (most_bytes, 0u64);
        while wanted > 0 {
            let now = monotonic_ms();
            if pace::is_too_slow(read_in_all, now.saturating_sub(began)) {
                return Ok(Fetched::Failed("it comes too slowly".to_owned()));
            }
            let left = self.budget.left(now);
            if left == 0 {
                return Ok(Fetched::Failed("today's bytes are used up".to_owned()));
            }
            let at_once = usize::try_from(wanted.min(left)).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let read = match body.read(buffer.get_mut(..at_once).unwrap_or_default()) {
                Ok(0) => return Ok(Fetched::All),
                Ok(read) => read,
                Err(error) => return Ok(Fetched::Failed(escaped_chain(&error))),
            };
            let bytes = u64::try_from(read).unwrap_or(u64::MAX);
            self.budget.spend(bytes);
            read_in_all = read_in_all.saturating_add(bytes);
            take(buffer.get(..read).unwrap_or_default())?;
            wanted = wanted.saturating_sub(bytes);
        }
        Ok(Fetched::All)
    }
}

/// Parses the first byte of a `Content-Range` (RFC 9110, 14.4), such as `bytes 7-10/100`.
fn first_byte<T>(response: &Response<T>) -> Option<u64> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_begins_where_its_header_says() {
        let part = |range: &str| {
            let response = Response::builder().header(CONTENT_RANGE, range).body(()).ok()?;
            first_byte(&response)
        };
        assert_eq!(part("bytes 7-10/100"), Some(7));
        for wrong in ["", "bytes", "bytes */100", "bytes -7/100", "items 1-2/3"] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
    }
}
