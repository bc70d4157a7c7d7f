//! One connection between a client and a server of rustls, over a pair of sockets.

use holdfast_sdk_identity::{Peer, PeerRefusal};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, ServerConfig, ServerConnection,
    StreamOwned, SupportedProtocolVersion,
};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// What one side has seen.
#[derive(Debug)]
pub struct Seen {
    /// Who the other side is, where it is a peer.
    pub peer: Option<Peer>,
    pub version: Option<ProtocolVersion>,
    pub resumed: bool,
}

/// How a connection went for each side.
#[derive(Debug)]
pub struct Outcome {
    pub client: io::Result<Seen>,
    pub server: io::Result<Seen>,
}

impl Outcome {
    /// Both sides have exchanged a word.
    pub fn succeeded(self) -> (Seen, Seen) {
        (self.client.unwrap(), self.server.unwrap())
    }

    /// Why the client has refused the server.
    pub fn of_client(&self) -> PeerRefusal {
        refusal(&self.client)
    }

    /// Why the server has refused the client.
    pub fn of_server(&self) -> PeerRefusal {
        refusal(&self.server)
    }

    /// Neither side has got a word.
    pub fn failed(&self) {
        assert!(self.client.is_err() && self.server.is_err(), "{self:?}");
    }
}

fn refusal(side: &io::Result<Seen>) -> PeerRefusal {
    let error = side.as_ref().expect_err("it was taken");
    PeerRefusal::of(error).unwrap_or_else(|| panic!("no refusal: {error:?}")).clone()
}

fn seen(connection: &rustls::CommonState) -> Seen {
    let leaf = connection.peer_certificates().unwrap().first().unwrap();
    let resumed = connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
    let version = connection.protocol_version();
    Seen { peer: Peer::read(leaf).ok(), version, resumed }
}

/// Connects the two, and has each say a word and hear the other's.
pub fn connect(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Outcome {
    let (near, far) = UnixStream::pair().unwrap();
    for stream in [&near, &far] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    let config = Arc::clone(server);
    let server = std::thread::spawn(move || -> io::Result<Seen> {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), far);
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        assert_eq!(&word, b"ping");
        stream.write_all(b"pong")?;
        stream.flush()?;
        Ok(seen(&stream.conn))
    });
    let of_client = || -> io::Result<Seen> {
        // A name that no certificate has.
        let name = ServerName::try_from("nobody.example.com").unwrap();
        let connection = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut stream = StreamOwned::new(connection, &near);
        stream.write_all(b"ping")?;
        stream.flush()?;
        let mut word = [0; 4];
        stream.read_exact(&mut word)?;
        assert_eq!(&word, b"pong");
        Ok(seen(&stream.conn))
    };
    let client = of_client();
    near.shutdown(std::net::Shutdown::Both).unwrap();
    Outcome { client, server: server.join().unwrap() }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn der(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain.iter().cloned().map(CertificateDer::from).collect()
}

fn key(key: &[u8]) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()))
}

/// A client that has its key itself, and takes every server of `verifier`.
pub fn plain_client(
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    chain: &[Vec<u8>],
    key_der: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    Arc::new(builder.with_client_auth_cert(der(chain), key(key_der)).unwrap())
}

/// A server that has its key itself.
pub fn plain_server(
    provider: CryptoProvider,
    verifier: Arc<dyn ClientCertVerifier>,
    chain: &[Vec<u8>],
    key_der: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let key = provider.key_provider.load_private_key(key(key_der)).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(provider));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let certified = CertifiedKey::new(der(chain), key);
    let resolver = rustls::sign::SingleCertAndKey::from(certified);
    let builder = builder.with_client_cert_verifier(verifier);
    Arc::new(builder.with_cert_resolver(Arc::new(resolver)))
}

/// The roots of a client that verifies a broker.
pub fn roots(certificate: &[u8]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate.to_vec())).unwrap();
    roots
}
