//! The accept loop: who makes it wait or grow meets a limit, at the handshake, at headers, at a body, and by his address.

use crate::shared_stream::SharedStream;
use axum::Router;
use axum::extract::Extension;
use holdfast_service_api::peer::{Export, Peer};
use holdfast_service_domain::proxy::{PREFIX_BYTES, Prefix, ProxyError};
use holdfast_types::event::security_service::{
    ACCEPT_FAILED, CONNECTIONS_CUT, PROXY_HEADER_REFUSED,
};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Longest time for a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest time for the headers of a request, from the end of the one before.
const HEADERS: Duration = Duration::from_secs(10);
/// Longest time for a connection, whatever it does.
const CONNECTION: Duration = Duration::from_secs(300);
/// Longest time in which what comes after an answer is read and forgotten.
const DRAINING: Duration = Duration::from_secs(30);
/// Longest pause in what comes after an answer.
const QUIET: Duration = Duration::from_secs(5);
/// Most bytes that are read and forgotten after an answer.
const MOST_DRAINED_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes of a request's headers.
const MAX_HEADERS_BYTES: usize = 16 * 1024;
/// Longest time in which connections end when the program does.
const ENDING: Duration = Duration::from_secs(30);
/// Pause after an accept that failed, which it does while there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The TLS configuration, which is replaced while connections are made.
pub type Configuration = Arc<RwLock<Arc<ServerConfig>>>;

/// Limits of a port.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections at once; who comes then waits in the kernel's queue.
    pub most_connections: usize,
    /// Most connections of one address at once; who comes then is closed.
    pub most_per_address: usize,
}

/// Connections by address.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One connection's place among those of its address.
struct Place {
    counts: Counts,
    address: IpAddr,
}

impl Place {
    /// Takes a place, unless the address has as many as it may.
    fn take(counts: &Counts, address: IpAddr, most: usize) -> Option<Self> {
        let address = network(address);
        let mut all = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Self { counts: counts.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// The address by which connections are counted: of IPv6 the /64, which one host has for itself.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        },
    }
}

/// Load balancers of layer 4: from these addresses alone, a connection begins with a header that says where it came from.
pub type Proxies = Arc<[IpAddr]>;

/// Serves connections until it is told to end, and returns when those that were there have ended, or 30 seconds later.
pub async fn serve(
    listener: TcpListener,
    configuration: Configuration,
    router: Router,
    limits: Limits,
    proxies: Proxies,
    mut end: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(limits.most_connections));
    let counts = Counts::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = end.wait_for(|end| *end) => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, address, permit)) = accepted else { continue };
        let is_proxy = proxies.contains(&address.to_canonical());
        let most = limits.most_per_address;
        let place = if is_proxy { None } else { Place::take(&counts, address, most) };
        if place.is_none() && !is_proxy {
            continue;
        }
        let config = configuration.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (router, end, counts) = (router.clone(), end.clone(), counts.clone());
        connections.spawn(async move {
            let served = async {
                let from = match place {
                    Some(place) => Some((stream, address, place)),
                    None => from_proxy(stream, address, &counts, most).await,
                };
                // Whatever comes of it, the place is free then.
                if let Some((stream, address, _place)) = from {
                    serve_one(stream, address, TlsAcceptor::from(config), router, end).await;
                }
            };
            let _ = tokio::time::timeout(CONNECTION, served).await;
            drop(permit);
        });
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(ENDING, all_ended).await.is_err() {
        eprintln!(
            "connections did not end in {} s, and are closed {CONNECTIONS_CUT}",
            ENDING.as_secs()
        );
    }
}

/// Accepts a connection once there is room for one.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, IpAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address.ip(), permit)),
        Err(error) => {
            eprintln!("cannot accept a connection: {error} {ACCEPT_FAILED}");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Reads the header that a load balancer puts before a connection, and takes a place for the address that it names.
async fn from_proxy(
    mut stream: TcpStream,
    proxy: IpAddr,
    counts: &Counts,
    most: usize,
) -> Option<(TcpStream, IpAddr, Place)> {
    let read = tokio::time::timeout(HANDSHAKE, read_header(&mut stream)).await;
    let address = match read {
        Ok(Ok(source)) => source.unwrap_or(proxy),
        // A balancer that looks whether the port is open says nothing, and ends.
        Ok(Err(HeaderError::Ended)) => return None,
        Ok(Err(HeaderError::Refused(error))) => {
            eprintln!(
                "{proxy}: header of the PROXY protocol refused: {error} {PROXY_HEADER_REFUSED}"
            );
            return None;
        }
        Err(_) => {
            eprintln!("{proxy}: no header of the PROXY protocol in time {PROXY_HEADER_REFUSED}");
            return None;
        }
    };
    let place = Place::take(counts, address, most)?;
    Some((stream, address, place))
}

/// Why there is no header.
enum HeaderError {
    /// The connection has ended before its end.
    Ended,
    /// It is none that is taken.
    Refused(ProxyError),
}

async fn read_header(stream: &mut TcpStream) -> Result<Option<IpAddr>, HeaderError> {
    let mut prefix = [0; PREFIX_BYTES];
    stream.read_exact(&mut prefix).await.map_err(|_| HeaderError::Ended)?;
    let prefix = Prefix::read(&prefix).map_err(HeaderError::Refused)?;
    let mut rest = vec![0; prefix.rest];
    stream.read_exact(&mut rest).await.map_err(|_| HeaderError::Ended)?;
    prefix.source(&rest).map_err(HeaderError::Refused)
}

async fn serve_one(
    stream: TcpStream,
    address: IpAddr,
    acceptor: TlsAcceptor,
    router: Router,
    mut end: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    // A handshake that fails is somebody else's matter, and would fill the log.
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else {
        return;
    };
    let stream = SharedStream::new(stream);
    let (exported, drained) = (stream.clone(), stream.clone());
    let export: Export = Arc::new(move |context| exported.export(context));
    let peer = Peer::new(address, export, stream.certificates());
    let router = router.layer(Extension(peer));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(MAX_HEADERS_BYTES);
    let service = TowerToHyperService::new(router);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = end.wait_for(|end| *end) => None,
    };
    let Some(ended) = ended else {
        // The request that is being served is answered.
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
        return;
    };
    // A request that was refused before its body was read is answered, and this side of the connection is at its end. If it were closed now, the
    // kernel would reset it for the bytes that still come, and who sends them would see a broken pipe in place of the answer.
    if ended.is_ok() {
        let drain = drained.drain(MOST_DRAINED_BYTES, QUIET);
        let _ = tokio::time::timeout(DRAINING, drain).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_places_as_it_may() {
        let counts = Counts::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let take = |text| Place::take(&counts, address(text), 2);
        let (first, second) = (take("2001:db8::1"), take("2001:db8::2"));
        assert!(first.is_some() && second.is_some() && take("2001:db8::3").is_none());
        assert!(take("2001:db8:0:1::1").is_some(), "of another network");
        let mapped = (take("192.0.2.1"), take("::ffff:192.0.2.1"));
        assert!(mapped.0.is_some() && mapped.1.is_some() && take("192.0.2.1").is_none());
        drop(first);
        assert!(take("2001:db8::3").is_some());
        drop((second, mapped));
        assert!(counts.lock().unwrap().is_empty(), "what has ended takes no room");
    }
}
