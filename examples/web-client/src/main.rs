//! An app that fetches a page over HTTPS, now and then.
//!
//! Its manifest grants the host by name (`AllowedConnections`) and says what to fetch (`CmdArgs`). Whom
//! it believes stands in `root/ca.pem`, which the device verifies with the rest of the package: the
//! authority of your own service is a better choice than all those that a browser knows.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

const AUTHORITIES: &str = "/app/ca.pem";
/// For all of one fetch, names and handshake included.
const PATIENCE: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_secs(60);
/// Longest page that is read, in bytes.
const MAX_BYTES: u64 = 256 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("CmdArgs must name what to fetch")?;
    let agent = agent()?;
    loop {
        match fetch(&agent, &url) {
            Ok((status, length)) => println!("{url}: {status}, {length} bytes"),
            // Such as: no network yet, a name that is not granted, a certificate of somebody else.
            Err(error) => println!("{url} cannot be fetched: {error}"),
        }
        thread::sleep(EVERY);
    }
}

fn agent() -> Result<Agent, Box<dyn Error>> {
    let pem = fs::read(AUTHORITIES)?;
    let mut authorities: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item? {
            authorities.push(certificate);
        }
    }
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(authorities))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .https_only(true)
        .timeout_global(Some(PATIENCE))
        .max_redirects(0)
        .build();
    Ok(config.into())
}

fn fetch(agent: &Agent, url: &str) -> Result<(u16, usize), ureq::Error> {
    let mut response = agent.get(url).call()?;
    let page = response.body_mut().with_config().limit(MAX_BYTES).read_to_vec()?;
    Ok((response.status().as_u16(), page.len()))
}
