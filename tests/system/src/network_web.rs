//! HTTPS from an app to a server on this host, by way of QEMU's network in user space.

use crate::Artefacts;
use crate::boot::BOOT;
use crate::network::{WAIT, usual_world};
use crate::packages::with_files_of;
use crate::suite::Suite;
use anyhow::{Context, Result, ensure};
use holdfast_core::app_manifest::ComponentId;
use holdfast_qemu::machine::{Guest, Machine, Network};
use holdfast_qemu::peer::Answer;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

/// The component id of examples/web-client.
const WEB_CLIENT: &str = "8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a03";
/// The host that its manifest grants.
const HOST: &str = "letsencrypt.org";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 80);
const PAGE: &str = "a page of exactly 31 characters";
/// First argument of this program when QEMU starts it for a connection.
const RELAY: &str = "relay-to-port";

pub(crate) fn run(suite: &mut Suite, artefacts: &Artefacts) {
    suite.check("an_app_fetches_a_page_over_https", || {
        let (_server, mut guest) = start(artefacts, HOST, true)?;
        guest.wait_anywhere("web-client: https://letsencrypt\\.org/: 200, 31 bytes", WAIT)?;
        Ok(())
    });
    suite.check("a_server_that_nobody_vouches_for_is_not_believed", || {
        let (_server, mut guest) = start(artefacts, HOST, false)?;
        guest.wait_anywhere("cannot be fetched: .*invalid peer certificate: BadSignature", WAIT)?;
        Ok(())
    });
    suite.check("a_server_with_the_certificate_of_another_is_not_believed", || {
        let (_server, mut guest) = start(artefacts, "www.example.com", true)?;
        guest.wait_anywhere("cannot be fetched: .*certificate not valid for name", WAIT)?;
        Ok(())
    });
}

/// A guest whose app believes the authority that has vouched for the server, or one of the same name.
fn start(artefacts: &Artefacts, certified: &str, known: bool) -> Result<(Server, Guest)> {
    let authority = Authority::new()?;
    let believed = if known { authority.pem.clone() } else { Authority::new()?.pem };
    let id = ComponentId::parse(WEB_CLIENT).context("no component id")?;
    let image = artefacts.image("connected");
    let scratch = with_files_of(&image, id, |files| {
        files.add("ca.pem", believed.into_bytes(), false);
    })?;
    let server = Server::start(&authority, certified)?;
    // Names, and everything else of a network.
    let mut world = usual_world();
    world.names.push((HOST.to_owned(), Answer::of(&[&ADDRESS.to_string()])));
    let relay = std::env::current_exe()?;
    let relay = format!("{} {RELAY} {}", relay.display(), server.port);
    let servers = vec![(SocketAddrV4::new(ADDRESS, 443), relay)];
    let networks = vec![Network::Servers { forwards: Vec::new(), servers }, Network::Peer(world)];
    let mut guest = Machine { networks, ..Machine::new(scratch.path(), 64) }.start(None)?;
    guest.wait_anywhere("eth0: leased 203\\.0\\.113\\.15/24", BOOT)?;
    guest.wait_anywhere("eth1: leased 10\\.77\\.0\\.50/24", BOOT)?;
    Ok((server, guest))
}

/// Who vouches for servers.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }
}

/// A server on a port of this host's loopback, until the test ends.
struct Server {
    port: u16,
}

impl Server {
    fn start(authority: &Authority, name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate =
            CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &authority.issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        ensure!(port > 0, "no port");
        let config = Arc::new(config);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                // Some clients are to be refused by what they find.
                let _ = serve(connection, &config);
            }
        });
        Ok(Self { port })
    }
}

fn serve(mut connection: TcpStream, config: &Arc<ServerConfig>) -> Result<()> {
    let mut session = ServerConnection::new(Arc::clone(config))?;
    let mut stream = Stream::new(&mut session, &mut connection);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut buffer = [0u8; 1024];
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0 && request.len() < 16_384, "no request");
        request.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
    let found = request.starts_with(b"GET / HTTP/1.1\r\n");
    let status = if found { "200 OK" } else { "404 Not Found" };
    let length = PAGE.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{PAGE}"
    )?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// The port to relay to, where QEMU has started this program for a connection.
pub(crate) fn relay_to() -> Option<u16> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == RELAY).then(|| arguments.next()?.parse().ok())?
}

/// Carries bytes between standard input and output and a port of this host's loopback.
pub(crate) fn relay(port: u16) -> ExitCode {
    let carried = || -> io::Result<()> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let mut towards = connection.try_clone()?;
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut towards);
            towards.shutdown(std::net::Shutdown::Write)
        });
        let mut from = connection;
        let mut buffer = [0u8; 16_384];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let mut output = io::stdout();
            output.write_all(buffer.get(..length).unwrap_or_default())?;
            output.flush()?;
        }
    };
    if carried().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
