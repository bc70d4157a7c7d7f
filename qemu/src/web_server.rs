//! An HTTPS server on this host's loopback, and who vouches for it: what guests fetch from, and what lies to
//! them.
//!
//! It speaks as much of HTTP/1.1 (RFC 9112) as a client of ours asks for: GET, one range, connections that
//! are kept.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A key or a certificate cannot be made or read.
    #[error("a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A certificate and its key do not fit.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// The port of this host is not to be had.
    #[error("port {port} of this host's loopback cannot be used")]
    Port {
        /// Which; 0 for any.
        port: u16,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

/// Who vouches for servers.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, in PEM.
    pub certificate: String,
    /// Its private key, in PEM.
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// The host gives no random numbers.
    pub fn new() -> Result<Self, WebError> {
        let key = KeyPair::generate()?;
        let certificate = Self::params().self_signed(&key)?.pem();
        Ok(Self { certificate, key: key.serialize_pem(), issuer: Issuer::new(Self::params(), key) })
    }

    /// The one with this certificate and this key, which [`new`](Self::new) has made.
    ///
    /// # Errors
    /// It is no key.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, WebError> {
        let pair = KeyPair::from_pem(key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            issuer: Issuer::new(Self::params(), pair),
        })
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Holdfast development authority");
        params
    }

    /// The certificate of a server with these names or addresses, and its key.
    ///
    /// # Errors
    /// A name that is none.
    pub fn certify(&self, names: &[&str]) -> Result<Arc<ServerConfig>, WebError> {
        let (certificate, key) = self.issue(names)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }

    /// The same in PEM, for a server that is a program of others: the certificate, and its key.
    ///
    /// # Errors
    /// A name that is none.
    pub fn certify_pem(&self, names: &[&str]) -> Result<(String, String), WebError> {
        let (certificate, key) = self.issue(names)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// A certificate for these names or addresses, and its key.
    fn issue(&self, names: &[&str]) -> Result<(Certificate, KeyPair), WebError> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Ok((CertificateParams::new(names)?.signed_by(&key, &self.issuer)?, key))
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebRequest {
    /// Its path, without the slash in front.
    pub path: String,
    /// The first byte that it wants.
    pub from: u64,
    /// The last one, where it names one.
    pub last: Option<u64>,
}

impl WebRequest {
    /// What it wants of a file.
    fn part<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let end = self.last.map_or(bytes.len(), |last| index(last).saturating_add(1));
        bytes.get(index(self.from)..end.min(bytes.len())).unwrap_or_default()
    }
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebAnswer {
    /// A status and nothing else.
    Status(u16),
    /// A file, from the byte that is wanted on.
    File(Vec<u8>),
    /// The file, but the connection breaks off after so many bytes.
    Cut(Vec<u8>, usize),
    /// So many bytes at a time, with a pause in front of each.
    Drip(Vec<u8>, usize, Duration),
    /// Bytes without an end.
    Endless,
}

type Handler = dyn Fn(&WebRequest) -> WebAnswer + Send + Sync;

/// A server, as long as this program runs.
#[derive(Debug)]
pub struct WebServer {
    /// Its port.
    pub port: u16,
    /// What was asked for, and how many bytes of a body were sent for it.
    sent: Arc<Mutex<Vec<(WebRequest, u64)>>>,
}

impl WebServer {
    /// Serves on a port of this host's loopback, 0 for any.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(
        config: Arc<ServerConfig>,
        port: u16,
        handler: impl Fn(&WebRequest) -> WebAnswer + Send + Sync + 'static,
    ) -> Result<Self, WebError> {
        let failed = |source| WebError::Port { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let handler: Arc<Handler> = Arc::new(handler);
        let sent = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&sent);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let (config, handler) = (Arc::clone(&config), Arc::clone(&handler));
                let log = Arc::clone(&log);
                // Some clients are to be refused by what they find, and go away.
                thread::spawn(move || serve(connection, config, &*handler, &log));
            }
        });
        Ok(Self { port, sent })
    }

    /// What was asked for so far, with the bytes that were sent for it.
    #[must_use]
    pub fn sent(&self) -> Vec<(WebRequest, u64)> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The file below a directory that is asked for; nothing that leads out of it.
#[must_use]
pub fn file_below(directory: &Path, request: &WebRequest) -> WebAnswer {
    let path = PathBuf::from(&request.path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    match fs::read(directory.join(&path)) {
        Ok(bytes) if plain => WebAnswer::File(bytes),
        _ => WebAnswer::Status(404),
    }
}

fn serve(
    connection: TcpStream,
    config: Arc<ServerConfig>,
    handler: &Handler,
    log: &Mutex<Vec<(WebRequest, u64)>>,
) -> io::Result<()> {
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, connection);
    let mut buffered = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffered)? {
        let answer = handler(&request);
        let index = {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push((request.clone(), 0));
            log.len().saturating_sub(1)
        };
        let mut count = |bytes: usize| {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, sent)) = log.get_mut(index) {
                *sent = sent.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
        };
        if !write_answer(&mut stream, &request, answer, &mut count)? {
            break;
        }
    }
    stream.conn.send_close_notify();
    stream.flush()
}

/// Reads the head of a request; `None` where the client has gone.
fn read_request(stream: &mut impl Read, buffered: &mut Vec<u8>) -> io::Result<Option<WebRequest>> {
    let end = loop {
        if let Some(at) = buffered.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        let mut buffer = [0u8; 1024];
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        if buffered.len() > MAX_HEAD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        buffered.extend_from_slice(buffer.get(..length).unwrap_or_default());
    };
    let head: Vec<u8> = buffered.drain(..end.saturating_add(4)).collect();
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.strip_prefix("GET /")?.split(' ').next());
    let Some(path) = path else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let range = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_range = name.eq_ignore_ascii_case("range");
        let (from, last) =
            value.trim().strip_prefix("bytes=").filter(|_| is_range)?.split_once('-')?;
        Some((from.parse().ok()?, last.parse().ok()))
    });
    let (from, last) = range.unwrap_or((0, None));
    Ok(Some(WebRequest { path: path.to_owned(), from, last }))
}

/// Writes an answer. True when the connection may go on.
fn write_answer(
    stream: &mut impl Write,
    request: &WebRequest,
    answer: WebAnswer,
    count: &mut impl FnMut(usize),
) -> io::Result<bool> {
    let head = |stream: &mut dyn Write, bytes: &[u8]| {
        let (from, part, length) = (request.from, request.part(bytes).len(), bytes.len());
        if from > 0 || request.last.is_some() {
            let last = from.saturating_add(u64::try_from(part).unwrap_or(0)).saturating_sub(1);
            let range = format!("Content-Range: bytes {from}-{last}/{length}");
            write!(stream, "HTTP/1.1 206 Partial Content\r\n{range}\r\n")?;
        } else {
            write!(stream, "HTTP/1.1 200 OK\r\n")?;
        }
        write!(stream, "Content-Length: {part}\r\n\r\n")
    };
    match answer {
        WebAnswer::Status(status) => {
            write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n")?;
            stream.flush()?;
            Ok(true)
        }
        WebAnswer::File(bytes) => {
            head(stream, &bytes)?;
            for piece in request.part(&bytes).chunks(16 * 1024) {
                stream.write_all(piece)?;
                count(piece.len());
            }
            stream.flush()?;
            Ok(true)
        }
        WebAnswer::Cut(bytes, after) => {
            head(stream, &bytes)?;
            let rest = request.part(&bytes);
            let part = rest.get(..after.min(rest.len())).unwrap_or_default();
            stream.write_all(part)?;
            count(part.len());
            stream.flush()?;
            Ok(false)
        }
        WebAnswer::Drip(bytes, at_once, pause) => {
            head(stream, &bytes)?;
            for piece in request.part(&bytes).chunks(at_once.max(1)) {
                thread::sleep(pause);
                stream.write_all(piece)?;
                stream.flush()?;
                count(piece.len());
            }
            Ok(true)
        }
        WebAnswer::Endless => {
            match (request.from, request.last) {
                (0, None) => write!(stream, "HTTP/1.1 200 OK\r\n")?,
                (from, _) => write!(
                    stream,
                    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/*\r\n",
                    u64::MAX
                )?,
            }
            write!(stream, "Connection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 1024])?;
                count(1024);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(request: &WebRequest, answer: WebAnswer) -> (String, usize) {
        let (mut written, mut counted) = (Vec::new(), 0usize);
        let mut count = |bytes: usize| counted = bytes.saturating_add(counted);
        write_answer(&mut written, request, answer, &mut count).unwrap();
        (String::from_utf8(written).unwrap(), counted)
    }

    #[test]
    fn requests_are_read_one_after_the_other() {
        let mut stream =
            &b"GET /a/b HTTP/1.1\r\nHost: x\r\nRange: bytes=7-9\r\n\r\nGET /c HTTP/1.1\r\n\r\n"[..];
        let mut buffered = Vec::new();
        let mut next = || read_request(&mut stream, &mut buffered).unwrap();
        assert_eq!(next(), Some(WebRequest { path: "a/b".to_owned(), from: 7, last: Some(9) }));
        assert_eq!(next(), Some(WebRequest { path: "c".to_owned(), from: 0, last: None }));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_part_is_announced_as_one() {
        let request = WebRequest { path: String::new(), from: 2, last: None };
        let (text, sent) = answered(&request, WebAnswer::File(b"abcdef".to_vec()));
        assert!(text.starts_with("HTTP/1.1 206 "), "{text}");
        assert!(text.contains("Content-Range: bytes 2-5/6\r\nContent-Length: 4\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\ncdef") && sent == 4, "{text}");
        let some = WebRequest { last: Some(3), ..request.clone() };
        let (text, sent) = answered(&some, WebAnswer::File(b"abcdef".to_vec()));
        assert!(text.contains("bytes 2-3/6\r\nContent-Length: 2\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\ncd") && sent == 2, "{text}");
        let beyond = WebRequest { last: Some(99), ..request.clone() };
        assert!(answered(&beyond, WebAnswer::File(b"abcdef".to_vec())).0.ends_with("\ncdef"));
        let (text, sent) = answered(&request, WebAnswer::Cut(b"abcdef".to_vec(), 1));
        assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("\r\n\r\nc"), "{text}");
        assert_eq!(sent, 1);
    }

    #[test]
    fn nothing_outside_of_the_directory_is_served() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("below")).unwrap();
        fs::write(directory.path().join("secret"), "x").unwrap();
        fs::write(directory.path().join("below/file"), "y").unwrap();
        let below = directory.path().join("below");
        let ask = |path: &str| {
            file_below(&below, &WebRequest { path: path.to_owned(), from: 0, last: None })
        };
        assert_eq!(ask("file"), WebAnswer::File(b"y".to_vec()));
        for path in ["../secret", "/secret", "./../secret", "none", ""] {
            assert_eq!(ask(path), WebAnswer::Status(404), "{path}");
        }
    }
}
