//! A TLS connection that both the HTTP codec and a handler hold: the one reads and writes, the other asks for the exporter.

use holdfast_evidence::qualifying::EXPORTER_LABEL;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

type Inner = TlsStream<TcpStream>;

/// Bytes that are read at once to be forgotten.
const DRAINED_AT_ONCE: usize = 4096;

/// A TLS connection that is shared within one task. It is locked while a call is made, and never across a wait.
#[derive(Debug, Clone)]
pub(crate) struct SharedStream(Arc<Mutex<Inner>>);

impl SharedStream {
    pub(crate) fn new(stream: Inner) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the exporter of the connection for this context (RFC 8446, 7.5).
    pub(crate) fn export(&self, context: &[u8; 32]) -> Option<[u8; 32]> {
        let stream = self.lock();
        let (_, connection) = stream.get_ref();
        connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(context)).ok()
    }
}

impl SharedStream {
    /// Returns the certificates that the other end has shown, DER, its own first; none where it has shown none.
    pub(crate) fn certificates(&self) -> Vec<Vec<u8>> {
        let stream = self.lock();
        let (_, connection) = stream.get_ref();
        let shown = connection.peer_certificates().unwrap_or_default();
        shown.iter().map(|certificate| certificate.to_vec()).collect()
    }
}

impl SharedStream {
    /// Reads so many bytes at most that the other end still sends, and forgets them; ends earlier where it ends or says nothing for as long as
    /// `quiet`. They are not deciphered.
    pub(crate) async fn drain(&self, most: u64, quiet: Duration) {
        let mut space = [0; DRAINED_AT_ONCE];
        let mut left = most;
        while left > 0 {
            let read = poll_fn(|context| {
                let mut buffer = ReadBuf::new(&mut space);
                let mut stream = self.lock();
                let read = Pin::new(&mut *stream.get_mut().0).poll_read(context, &mut buffer);
                read.map_ok(|()| buffer.filled().len())
            });
            match tokio::time::timeout(quiet, read).await {
                Ok(Ok(length)) if length > 0 => {
                    left = left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
                }
                _ => return,
            }
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(context, buffer)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(context)
    }
}
