//! A small HTTP client over TLS, which can tell the exporter of its connection and stop anywhere.

use holdfast_evidence::qualifying::{EXPORTER_LABEL, Exporter};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(60);

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// Who vouches for its certificate.
    pub authorities: RootCertStore,
    /// What is sent before the handshake, as a load balancer does it.
    pub before: Vec<u8>,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// TLS over TCP.
    pub stream: StreamOwned<ClientConnection, Counted>,
}

/// A TCP connection that counts what goes over it: the bytes of TLS, handshake included.
#[derive(Debug)]
pub struct Counted {
    /// The connection.
    pub stream: TcpStream,
    /// Bytes that were sent.
    pub sent: u64,
    /// Bytes that came.
    pub received: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.received += length as u64;
        Ok(length)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.sent += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The head, as it came.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the value of a header.
    #[must_use]
    pub fn header(&self, wanted: &str) -> Option<String> {
        self.headers.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    }

    /// Returns the last part of a problem's type.
    #[must_use]
    pub fn problem(&self) -> String {
        let kind = self.json()["type"].as_str().unwrap_or_default().to_owned();
        kind.rsplit('/').next().unwrap_or_default().to_owned()
    }
}

impl Target {
    /// Connects, and has the handshake done.
    #[must_use]
    pub fn connect(&self) -> Client {
        self.try_connect().expect("a handshake")
    }

    /// Connects, where the handshake may fail.
    ///
    /// # Errors
    /// It has failed.
    pub fn try_connect(&self) -> io::Result<Client> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(self.authorities.clone()).with_no_client_auth();
        self.try_connect_with(config)
    }

    /// Connects by a configuration of TLS that the caller has made.
    #[must_use]
    pub fn connect_with(&self, config: ClientConfig) -> Client {
        self.try_connect_with(config).expect("a handshake")
    }

    /// Connects by a configuration of TLS that the caller has made, where the handshake may fail.
    ///
    /// # Errors
    /// It has failed.
    pub fn try_connect_with(&self, config: ClientConfig) -> io::Result<Client> {
        let name = ServerName::try_from("service.example").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.before)?;
        let mut stream = Counted { stream, sent: 0, received: 0 };
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Client { stream: StreamOwned::new(connection, stream) })
    }

    /// Sends one request over a connection of its own.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        self.connect().ask(method, path, headers, body)
    }
}

impl Client {
    /// Returns the exporter of the connection for a device's id.
    #[must_use]
    pub fn exporter(&self, device: &[u8; 32]) -> Exporter {
        let exported =
            self.stream.conn.export_keying_material([0; 32], EXPORTER_LABEL, Some(device));
        Exporter(exported.unwrap())
    }

    /// Sends a request with a body whose length is said, and reads the answer.
    pub fn ask(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: service.example\r\n{headers}Content-Length: {length}\r\n\r\n"
        );
        self.stream.write_all(head.as_bytes()).unwrap();
        self.stream.write_all(body).unwrap();
        self.answer()
    }

    /// Reads an answer, with a body as long as its header says.
    pub fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let headers = String::from_utf8(head).unwrap();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length = answer.header("content-length");
        answer.body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.stream.read_exact(&mut answer.body).unwrap();
        answer
    }
}
