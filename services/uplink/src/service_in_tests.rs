//! A service for tests, at a port of this host: TLS as it should be, or not, and answers as a test wants them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the module is there in tests alone, and a panic is a failed test"
)]

use crate::device_port::{DevicePort, Patience};
use crate::verifier::Moment;
use holdfast_evidence::config::ServiceConfig;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::qualifying::EXPORTER_LABEL;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{WantsServerCert, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ConfigBuilder, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The device of tests.
pub(crate) const DEVICE: DeviceId = DeviceId([0xde; 32]);
/// Patience that no test runs into but those that mean to.
const PATIENCE: Patience = Patience { connect_ms: 5_000, step_ms: 2_000, answer_ms: 5_000 };
/// Seconds of 2026-01-01.
pub(crate) const IN_2026: u64 = 1_767_225_600;
/// A clock that was set.
pub(crate) const NOW: Moment = Moment { earliest_s: IN_2026, latest_s: IN_2026 };

/// An authority, and the certificates that it makes for the service.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// A certificate that is good from the first day of one year to that of another.
    pub(crate) fn certificate(&self, name: &str, years: (i32, i32)) -> Identity {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().to_vec();
        Identity { der, key: key.serialize_der() }
    }
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) der: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// One request, as the service has it.
pub(crate) struct Request {
    stream: StreamOwned<ServerConnection, TcpStream>,
    /// The exporter of the connection.
    pub(crate) exporter: [u8; 32],
    pub(crate) head: String,
}

impl Request {
    /// The path of the request.
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    /// The certificate of the device, DER.
    pub(crate) fn certificate(&self) -> Option<Vec<u8>> {
        Some(self.stream.conn.peer_certificates()?.first()?.to_vec())
    }

    /// Says that the body is wanted, and returns it.
    pub(crate) fn body(&mut self) -> Vec<u8> {
        self.say(b"HTTP/1.1 100 Continue\r\n\r\n");
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n0\r\n\r\n") {
            let mut piece = [0; 1024];
            match self.stream.read(&mut piece) {
                Ok(length @ 1..) => read.extend_from_slice(&piece[..length]),
                _ => return Vec::new(),
            }
        }
        let line = read.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let length = std::str::from_utf8(&read[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        read[line + 2..][..length].to_vec()
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    pub(crate) fn answer(&mut self, status: u16, more: &str, body: &[u8]) {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        self.say(&[head.as_bytes(), body].concat());
    }
}

/// Serves requests in threads of their own, and returns the port at which it listens.
pub(crate) fn serve_with(
    identity: Identity,
    versions: &[&'static SupportedProtocolVersion],
    serve: impl Fn(&mut Request) + Send + Sync + 'static,
) -> u16 {
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_protocol_versions(versions).unwrap().with_no_client_auth();
    serve_by(config, identity, serve)
}

/// Serves devices with certificates of this authority, and others without.
pub(crate) fn service_for(
    devices: &Authority,
    serve: impl Fn(&mut Request) + Send + Sync + 'static,
) -> DevicePort {
    let authority = Authority::new();
    let identity = authority.certificate("127.0.0.1", (2025, 2027));
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(devices.der.clone())).unwrap();
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let clients = clients.allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(NEW).unwrap().with_client_cert_verifier(clients);
    device_port(serve_by(config, identity, serve), vec![authority.der])
}

fn serve_by(
    config: ConfigBuilder<ServerConfig, WantsServerCert>,
    identity: Identity,
    serve: impl Fn(&mut Request) + Send + Sync + 'static,
) -> u16 {
    let chain = vec![CertificateDer::from(identity.der)];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key));
    let config = Arc::new(config.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let (config, serve) = (Arc::clone(&config), Arc::clone(&serve));
            thread::spawn(move || {
                if let Some(mut request) = accept(config, tcp) {
                    serve(&mut request);
                    request.stream.conn.send_close_notify();
                    let _ = request.stream.flush();
                }
            });
        }
    });
    port
}

fn accept(config: Arc<ServerConfig>, mut tcp: TcpStream) -> Option<Request> {
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).ok()?;
    }
    let exporter = tls.export_keying_material([0; 32], EXPORTER_LABEL, Some(&DEVICE.0)).ok()?;
    let mut stream = StreamOwned::new(tls, tcp);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(Request { stream, exporter, head: String::from_utf8(head).unwrap() })
}

/// Serves as a service does, and returns a device's way to it.
pub(crate) fn service(serve: impl Fn(&mut Request) + Send + Sync + 'static) -> DevicePort {
    let authority = Authority::new();
    let identity = authority.certificate("127.0.0.1", (2025, 2027));
    let port = serve_with(identity, &[&TLS13], serve);
    device_port(port, vec![authority.der])
}

/// Versions of TLS that no service offers.
pub(crate) const OLD: &[&SupportedProtocolVersion] = &[&TLS12];
/// Those that one does.
pub(crate) const NEW: &[&SupportedProtocolVersion] = &[&TLS13];

pub(crate) fn device_port(port: u16, authorities: Vec<Vec<u8>>) -> DevicePort {
    let config = ServiceConfig { host: "127.0.0.1".to_owned(), port, authorities, reports: true };
    DevicePort::new(config, PATIENCE).unwrap()
}
