//! Connections: a socket with rustls over it, driven by whoever reads and writes.

use crate::failure::{Code, Failure};
use crate::peer_socket::PeerSocket;
use holdfast_sdk_identity::{Identity, Peer, PeerPolicy};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, CommonState, ConnectionCommon, RootCertStore, ServerConnection,
    SideData, StreamOwned,
};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A connection of either side.
trait Tls: Read + Write + Send {
    /// Returns what is known of the connection.
    fn state(&self) -> &CommonState;
    /// Ends the handshake.
    fn shake_hands(&mut self) -> io::Result<()>;
    /// Returns why the peer has ended the connection, where it has said so.
    fn alert(&mut self) -> Option<rustls::Error>;
    /// Says that nothing follows.
    fn say_end(&mut self);
}

impl<C, S> Tls for StreamOwned<C, PeerSocket>
where
    C: DerefMut + Deref<Target = ConnectionCommon<S>> + Send,
    S: SideData + 'static,
{
    fn state(&self) -> &CommonState {
        self.conn.deref()
    }

    fn shake_hands(&mut self) -> io::Result<()> {
        while self.conn.is_handshaking() {
            self.conn.complete_io(&mut self.sock)?;
        }
        Ok(())
    }

    fn alert(&mut self) -> Option<rustls::Error> {
        while self.conn.read_tls(&mut self.sock.arrived()).is_ok_and(|read| read > 0) {
            if let Err(error) = self.conn.process_new_packets() {
                return Some(error);
            }
        }
        None
    }

    fn say_end(&mut self) {
        self.conn.send_close_notify();
        // The peer may be gone.
        let _ = self.conn.write_tls(&mut self.sock);
    }
}

/// `holdfast_connection`.
pub struct HoldfastConnection(Box<dyn Tls>);

impl fmt::Debug for HoldfastConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldfastConnection").finish_non_exhaustive()
    }
}

/// Returns why a connection has failed: where the peer has closed it, what its last alert says.
fn explain(connection: &mut dyn Tls, error: io::Error) -> Failure {
    let is_closed =
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
    let alert = is_closed.then(|| connection.alert()).flatten();
    alert.map_or_else(|| error.into(), Failure::from)
}

impl HoldfastConnection {
    fn open(mut stream: impl Tls + 'static) -> Result<Self, Failure> {
        stream.shake_hands().map_err(|error| explain(&mut stream, error))?;
        Ok(Self(Box::new(stream)))
    }

    /// Returns who the peer is.
    pub(crate) fn peer(&self) -> Result<Peer, Failure> {
        let leaf = self.0.state().peer_certificates().and_then(|chain| chain.first());
        let none = || Failure::new(Code::PeerUntrusted, "the peer has shown no certificate");
        Ok(Peer::read(leaf.ok_or_else(none)?)?)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        Ok(self.0.read(buffer)?)
    }

    /// Writes all of it.
    pub(crate) fn write(&mut self, buffer: &[u8]) -> Result<(), Failure> {
        let written = self.0.write_all(buffer).and_then(|()| self.0.flush());
        written.map_err(|error| explain(&mut *self.0, error))
    }

    pub(crate) fn end(mut self) {
        self.0.say_end();
    }
}

fn connect(
    config: ClientConfig,
    socket: PeerSocket,
    name: ServerName<'static>,
) -> Result<HoldfastConnection, Failure> {
    let client = ClientConnection::new(Arc::new(config), name)?;
    HoldfastConnection::open(StreamOwned::new(client, socket))
}

pub(crate) fn connect_peer(
    identity: &Identity,
    socket: PeerSocket,
    policy: PeerPolicy,
) -> Result<HoldfastConnection, Failure> {
    // Nobody asks for a name, and none is sent with an address.
    let name = ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into());
    connect(identity.client_for_peers(policy)?, socket, name)
}

pub(crate) fn accept_peer(
    identity: &Identity,
    socket: PeerSocket,
    policy: PeerPolicy,
) -> Result<HoldfastConnection, Failure> {
    let server = ServerConnection::new(Arc::new(identity.server_for_peers(policy)?))?;
    HoldfastConnection::open(StreamOwned::new(server, socket))
}

pub(crate) fn connect_server(
    identity: &Identity,
    socket: PeerSocket,
    name: &str,
    authorities: &str,
) -> Result<HoldfastConnection, Failure> {
    let unreadable = |error: &dyn fmt::Display| {
        Failure::argument(&format!("authorities: {authorities}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    let file = CertificateDer::pem_file_iter(authorities).map_err(|error| unreadable(&error))?;
    for certificate in file {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    if roots.is_empty() {
        return Err(unreadable(&"has no certificate"));
    }
    let name = ServerName::try_from(name.to_owned());
    let name = name.map_err(|_| Failure::argument("name is no name of a server"))?;
    connect(identity.client_for(roots)?, socket, name)
}
