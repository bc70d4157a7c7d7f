//! The device port of the service: one request on one TLS 1.3 connection, whose exporter binds what is attested to it.

use crate::verifier::{Moment, ServerVerifier};
use holdfast_evidence::config::ServiceConfig;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::http::{self, Head, HttpError, MAX_HEAD_BYTES, MAX_INTERIM_ANSWERS};
use holdfast_evidence::messages::MAX_ANSWER_BYTES;
use holdfast_evidence::qualifying::{EXPORTER_LABEL, Exporter};
use holdfast_linux::clock::monotonic_ms;
use rustls::client::{ResolvesClientCert, Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long is waited for the service, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a connection to one address.
    pub(crate) connect_ms: u64,
    /// For the handshake, and then for the word to go on.
    pub(crate) step_ms: u64,
    /// For the answer to a body.
    pub(crate) answer_ms: u64,
}

/// The patience of a device: the service gives a body 30 s.
pub(crate) const PATIENCE: Patience =
    Patience { connect_ms: 15_000, step_ms: 15_000, answer_ms: 45_000 };
/// Most addresses of the service that are tried.
const MOST_ADDRESSES: usize = 4;
/// Bytes that are read at once.
const PIECE_BYTES: usize = 4096;

/// Errors of a configuration that no connection can be made with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortConfigError {
    #[error("the service's host is no name and no address")]
    Host(#[from] InvalidDnsNameError),
    #[error("a certificate of the service's authorities is damaged")]
    Authority(#[source] rustls::Error),
    #[error("the service's authorities cannot be used")]
    Authorities(#[from] VerifierBuilderError),
}

/// Errors of a request to the service.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("cannot find the service's address")]
    Resolve(#[source] io::Error),
    #[error("the service's name has no address")]
    NoAddress,
    #[error("cannot connect to the service")]
    Connect(#[source] io::Error),
    #[error("cannot begin TLS")]
    Tls(#[source] rustls::Error),
    #[error("cannot agree on TLS with the service")]
    Handshake(#[source] io::Error),
    #[error("cannot talk to the service")]
    Talk(#[source] io::Error),
    #[error("the service's answer is refused")]
    Head(#[from] HttpError),
    #[error("the service's answer ends too soon")]
    Cut,
    #[error("the service sends one interim answer after the other")]
    Interim,
    #[error("the service's answer has no length")]
    NoLength,
    #[error("the service's answer has {0} bytes, more than {MAX_ANSWER_BYTES}")]
    TooLong(usize),
}

/// An answer of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// A TCP connection with one deadline for all of it.
#[derive(Debug)]
struct Timed {
    tcp: TcpStream,
    until_ms: u64,
}

impl Timed {
    /// The time that is left for the next operation, which must not be zero: that would be for ever.
    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until_ms.saturating_sub(monotonic_ms()) {
            0 => Err(io::ErrorKind::TimedOut.into()),
            ms => Ok(Some(Duration::from_millis(ms))),
        }
    }
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tcp.set_read_timeout(self.left()?)?;
        self.tcp.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.set_write_timeout(self.left()?)?;
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

/// The device port of a service.
#[derive(Debug)]
pub(crate) struct DevicePort {
    config: ServiceConfig,
    name: ServerName<'static>,
    provider: Arc<CryptoProvider>,
    /// With the cipher suites alone whose transcript hash is SHA-256.
    sha256: Arc<CryptoProvider>,
    chains: Arc<WebPkiServerVerifier>,
    patience: Patience,
}

impl DevicePort {
    pub(crate) fn new(config: ServiceConfig, patience: Patience) -> Result<Self, PortConfigError> {
        let name = ServerName::try_from(config.host.clone())?;
        let provider = Arc::new(default_provider());
        let cipher_suites = vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256];
        let sha256 = Arc::new(CryptoProvider { cipher_suites, ..default_provider() });
        let mut roots = RootCertStore::empty();
        for authority in &config.authorities {
            let authority = CertificateDer::from_slice(authority).into_owned();
            roots.add(authority).map_err(PortConfigError::Authority)?;
        }
        let chains = Arc::clone(&provider);
        let chains =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), chains).build()?;
        Ok(Self { config, name, provider, sha256, chains, patience })
    }

    /// The client's side of a handshake: TLS 1.3 alone, nothing of an earlier connection, and no early data.
    fn tls(
        &self,
        moment: Moment,
        certificate: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<ClientConfig, PortError> {
        // `identity` signs SHA-256 transcripts, and no others.
        let provider = if certificate.is_some() { &self.sha256 } else { &self.provider };
        let builder = ClientConfig::builder_with_provider(Arc::clone(provider));
        let builder = builder.with_protocol_versions(&[&TLS13]).map_err(PortError::Tls)?;
        let chains = Arc::clone(&self.chains);
        let verifier = Arc::new(ServerVerifier { chains, moment });
        // Not less than what the library does, but at another time: `ServerVerifier` asks its verifier.
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match certificate {
            Some(certificate) => builder.with_client_cert_resolver(certificate),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Ok(config)
    }

    fn connect(&self) -> Result<TcpStream, PortError> {
        let addresses = (self.config.host.as_str(), self.config.port).to_socket_addrs();
        let addresses = addresses.map_err(PortError::Resolve)?;
        let mut failed = PortError::NoAddress;
        for address in addresses.take(MOST_ADDRESSES) {
            let within = Duration::from_millis(self.patience.connect_ms);
            match TcpStream::connect_timeout(&address, within) {
                Ok(tcp) => return Ok(tcp),
                Err(error) => failed = PortError::Connect(error),
            }
        }
        Err(failed)
    }

    /// Posts what `body` makes for the exporter of the connection, once the service has said that it wants it. What it says
    /// instead is the answer, and then no body is made.
    ///
    /// # Errors
    /// There is no connection or no answer, or what `body` says.
    pub(crate) fn post<E: From<PortError>>(
        &self,
        path: &str,
        device: &DeviceId,
        moment: Moment,
        body: impl FnOnce(Exporter) -> Result<Vec<u8>, E>,
    ) -> Result<Answer, E> {
        let (stream, exporter) = self.open(device, moment)?;
        self.exchange(stream, (path, http::JSON), || body(exporter))
    }

    /// Sends one request, and reads its answer. The body is made once the service has said that it wants it.
    fn exchange<E: From<PortError>>(
        &self,
        mut stream: StreamOwned<ClientConnection, Timed>,
        (path, media_type): (&str, &str),
        body: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Answer, E> {
        let head = http::request_head(path, &self.config.host_field(), media_type);
        stream.write_all(&head).and_then(|()| stream.flush()).map_err(PortError::Talk)?;
        let mut read = Vec::new();
        let head = answer_head(&mut stream, &mut read)?;
        if head.status != 100 {
            return Ok(answer_body(&mut stream, head, read)?);
        }
        let body = http::chunked(&body()?);
        stream.sock.until_ms = monotonic_ms().saturating_add(self.patience.answer_ms);
        stream.write_all(&body).and_then(|()| stream.flush()).map_err(PortError::Talk)?;
        for _ in 0..MAX_INTERIM_ANSWERS {
            let head = answer_head(&mut stream, &mut read)?;
            if !head.is_interim() {
                return Ok(answer_body(&mut stream, head, read)?);
            }
        }
        Err(PortError::Interim.into())
    }

    /// Posts a body over a connection that the device has authenticated by its certificate.
    ///
    /// # Errors
    /// There is no connection or no answer.
    pub(crate) fn post_authenticated(
        &self,
        (path, media_type): (&str, &str),
        moment: Moment,
        certificate: Arc<dyn ResolvesClientCert>,
        body: Vec<u8>,
    ) -> Result<Answer, PortError> {
        let stream = self.connect_tls(moment, Some(certificate))?;
        self.exchange(stream, (path, media_type), || Ok(body))
    }

    /// Opens a connection, and returns its exporter.
    fn open(
        &self,
        device: &DeviceId,
        moment: Moment,
    ) -> Result<(StreamOwned<ClientConnection, Timed>, Exporter), PortError> {
        let stream = self.connect_tls(moment, None)?;
        let exported = stream.conn.export_keying_material([0; 32], EXPORTER_LABEL, Some(&device.0));
        let exporter = Exporter(exported.map_err(PortError::Tls)?);
        Ok((stream, exporter))
    }

    fn connect_tls(
        &self,
        moment: Moment,
        certificate: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<StreamOwned<ClientConnection, Timed>, PortError> {
        let config = Arc::new(self.tls(moment, certificate)?);
        let mut tls = ClientConnection::new(config, self.name.clone()).map_err(PortError::Tls)?;
        let tcp = self.connect()?;
        let mut tcp = Timed { tcp, until_ms: monotonic_ms().saturating_add(self.patience.step_ms) };
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp).map_err(PortError::Handshake)?;
        }
        tcp.until_ms = monotonic_ms().saturating_add(self.patience.step_ms);
        Ok(StreamOwned::new(tls, tcp))
    }
}

/// Reads one head, and leaves in `read` what came behind it.
fn answer_head(stream: &mut impl Read, read: &mut Vec<u8>) -> Result<Head, PortError> {
    loop {
        if let Some((head, length)) = http::read_head(read)? {
            read.drain(..length);
            return Ok(head);
        }
        // What is no head within its bound is an error above.
        more(stream, read, PIECE_BYTES.min(MAX_HEAD_BYTES))?;
    }
}

/// Reads the body, of which `read` has come already.
fn answer_body(stream: &mut impl Read, head: Head, mut read: Vec<u8>) -> Result<Answer, PortError> {
    let length = match (head.length, head.status) {
        (Some(length), _) => length,
        // The body of a refusal is no loss.
        (None, 300..) => return Ok(Answer { head, body: Vec::new() }),
        (None, _) => return Err(PortError::NoLength),
    };
    if length > MAX_ANSWER_BYTES {
        return Err(PortError::TooLong(length));
    }
    while read.len() < length {
        let left = length.saturating_sub(read.len());
        more(stream, &mut read, left.min(PIECE_BYTES))?;
    }
    read.truncate(length);
    Ok(Answer { head, body: read })
}

fn more(stream: &mut impl Read, read: &mut Vec<u8>, most: usize) -> Result<(), PortError> {
    let mut piece = [0; PIECE_BYTES];
    let place = piece.get_mut(..most).unwrap_or_default();
    match stream.read(place) {
        Ok(0) => Err(PortError::Cut),
        Ok(length) => {
            read.extend_from_slice(place.get(..length).unwrap_or_default());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(PortError::Cut),
        Err(error) => Err(PortError::Talk(error)),
    }
}

#[cfg(test)]
mod tests;
