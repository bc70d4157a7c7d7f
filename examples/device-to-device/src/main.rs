//! An app that greets itself on other devices of its catalog, by mutual TLS and with nobody between.
//!
//! Its manifest opens a port (`AllowedTcpServerPorts`), grants the other devices by address (`AllowedConnections`), and asks for a
//! certificate (`DeviceAuthentication`). `CmdArgs` has the least rollback index that a peer's release must have, and the addresses. Both
//! sides take nobody but this app on a device of the same catalog, whose release is not older than that.

use holdfast_sdk_identity::{Identity, Peer, PeerPolicy, PeerRefusal};
use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, CommonState, ServerConfig, ServerConnection, StreamOwned,
};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const PORT: u16 = 4433;
/// For a connection to be made, and for each word.
const PATIENCE: Duration = Duration::from_secs(10);
/// For a certificate, before it is said that there is none yet.
const CERTIFICATE_PATIENCE: Duration = Duration::from_secs(300);
const EVERY: Duration = Duration::from_secs(5);
const GREETING: [u8; 5] = *b"hello";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let least = arguments.next().ok_or("CmdArgs must begin with the least rollback index")?;
    let least_rollback_index: u64 = least.parse()?;
    let peers: Vec<IpAddr> = arguments.map(|peer| peer.parse()).collect::<Result<_, _>>()?;
    let identity = Identity::connect()?;
    let own = loop {
        match identity.wait(CERTIFICATE_PATIENCE) {
            Ok(credentials) => break credentials.own().clone(),
            Err(error) => println!("{}", chain(&error)),
        }
    };
    println!("this is device {} with {}", own.device, release(&own));
    let component = own.component;
    let policy = PeerPolicy { component, least_rollback_index, ..PeerPolicy::default() };
    let server = Arc::new(identity.server_for_peers(policy.clone())?);
    let client = Arc::new(identity.client_for_peers(policy)?);
    let listener = TcpListener::bind(("::", PORT))?;
    thread::Builder::new().name("server".to_owned()).spawn(move || serve(&listener, &server))?;
    loop {
        for address in &peers {
            match greet(*address, &client) {
                // One of the addresses is this device's own.
                Ok(peer) if peer.device == own.device => {}
                Ok(peer) => println!("{address}: {} answers", describe(&peer)),
                Err(error) => say_failure(&address.to_string(), &error),
            }
        }
        thread::sleep(EVERY);
    }
}

/// Greets one device, and returns who has answered.
fn greet(address: IpAddr, config: &Arc<ClientConfig>) -> io::Result<Peer> {
    let socket = TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE)?;
    // Who the peer is stands in its certificate, and not in a name.
    let name = ServerName::IpAddress(address.into());
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, patient(socket)?);
    stream.write_all(&GREETING)?;
    hear(&mut stream)?;
    peer_of(&stream.conn)
}

/// Answers greetings, one after the other.
fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) {
    for socket in listener.incoming() {
        match socket.and_then(|socket| answer(socket, config)) {
            Ok(peer) => println!("{} greets", describe(&peer)),
            Err(error) => say_failure("a client", &error),
        }
    }
}

fn answer(socket: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Peer> {
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, patient(socket)?);
    hear(&mut stream)?;
    stream.write_all(&GREETING)?;
    stream.flush()?;
    peer_of(&stream.conn)
}

fn patient(socket: TcpStream) -> io::Result<TcpStream> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn hear(stream: &mut impl Read) -> io::Result<()> {
    let mut heard = [0; GREETING.len()];
    stream.read_exact(&mut heard)?;
    if heard == GREETING { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Returns who the verified peer of a connection is.
fn peer_of(connection: &CommonState) -> io::Result<Peer> {
    let leaf = connection.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.ok_or(io::ErrorKind::PermissionDenied)?;
    Peer::read(leaf).map_err(io::Error::other)
}

fn describe(peer: &Peer) -> String {
    format!("device {} with {}", peer.device, release(peer))
}

fn release(peer: &Peer) -> String {
    let release = peer.release;
    format!("release {} (rollback index {})", release.version, release.rollback_index)
}

fn say_failure(who: &str, error: &io::Error) {
    match PeerRefusal::of(error) {
        Some(refusal) => println!("{who} is refused: {}", chain(refusal)),
        None => println!("{who}: {}", chain(error)),
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
