//! The other end of a connection, as the server hands it to handlers.

use holdfast_evidence::qualifying::Exporter;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What returns the TLS exporter with [`EXPORTER_LABEL`](holdfast_evidence::qualifying::EXPORTER_LABEL) and this context, of
/// the very connection that the request came over.
pub type Export = Arc<dyn Fn(&[u8; 32]) -> Option<[u8; 32]> + Send + Sync>;

/// The other end of a connection.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    export: Export,
    certificates: Arc<[Vec<u8>]>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Peer {
    /// Makes one.
    #[must_use]
    pub fn new(address: IpAddr, export: Export, certificates: Vec<Vec<u8>>) -> Self {
        Self { address, export, certificates: certificates.into() }
    }

    /// Returns the certificates that it has shown, DER, its own first. It has the key of that one; whose it is nobody has verified.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// Returns the exporter of the connection for a device's id.
    #[must_use]
    pub fn exporter(&self, device: &[u8; 32]) -> Option<Exporter> {
        (self.export)(device).map(Exporter)
    }
}
