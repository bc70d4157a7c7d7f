//! Connections to receivers: a name is resolved once, each address is judged, and the connection goes to the very address that was.

use crate::error::SinkError;
use holdfast_service_domain::detection::alert::is_public;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Longest time for a connection to one address.
const CONNECT: Duration = Duration::from_secs(5);

/// What a resolver returns.
pub type Resolved = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// Resolves a name or an address as text, with a port.
pub type Resolver = Arc<dyn Fn(String, u16) -> Resolved + Send + Sync>;

/// Returns the system's resolver. Texts such as `0x7f.1` are addresses to it, which is why addresses are judged and not texts.
#[must_use]
pub fn system_resolver() -> Resolver {
    Arc::new(|host, port| {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    })
}

/// Which addresses may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Public ones, and those that the installation's settings name: the receiver was named by whoever may set webhooks of a catalog.
    Public {
        /// Addresses of the installation's own network that may be reached as well.
        and: Vec<IpAddr>,
    },
    /// All: the receiver was named by the installation's settings.
    Any,
}

impl Reach {
    /// True if the address may be reached.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Public { and } => {
                let address = address.to_canonical();
                is_public(address) || and.iter().any(|named| named.to_canonical() == address)
            }
        }
    }
}

/// Connects to a host, and returns the connection.
///
/// # Errors
/// It has no address that may be reached, or none of them takes a connection.
pub async fn connect(
    resolver: &Resolver,
    reach: &Reach,
    host: &str,
    port: u16,
) -> Result<TcpStream, SinkError> {
    // That there is no such name is not told from that its addresses are private.
    let resolved = resolver(host.to_owned(), port).await.unwrap_or_default();
    let addresses = resolved.into_iter().filter(|address| reach.contains(address.ip()));
    let mut failed = SinkError::NoAddress;
    for address in addresses.take(MAX_ADDRESSES) {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failed = SinkError::Connect(error),
            Err(_) => failed = SinkError::Connect(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(failed)
}
