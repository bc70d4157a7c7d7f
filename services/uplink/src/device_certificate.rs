//! The device's certificate for connections to the service: `identity` has its key, and signs the end of each handshake.

use holdfast_evidence::exchange::{
    self, ExchangeError, ExchangeReply, ExchangeRequest, MAX_MESSAGE_BYTES,
};
use holdfast_linux::channel;
use holdfast_linux::clock::monotonic_ms;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{OtherError, SignatureAlgorithm, SignatureScheme};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What stands in front of the transcript hash in what a client signs (RFC 8446, 4.4.3).
const CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify\0";
const PADDING: [u8; 64] = [b' '; 64];
/// Timeout of a signature, in milliseconds: a TPM may be slow.
const SIGNED_WITHIN_MS: u64 = 30_000;

/// Errors of a signature.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error("only the end of a client's handshake of TLS 1.3 is signed")]
    NoHandshake,
    #[error("cannot talk to identity")]
    Socket(#[from] io::Error),
    #[error("identity sent a malformed reply")]
    Exchange(#[from] ExchangeError),
    #[error("identity has not signed in time")]
    Silent,
    #[error("identity did not sign, as its log says")]
    Refused,
}

/// Signs a transcript hash.
pub(crate) type SignHandshake = dyn Fn([u8; 32]) -> Result<Vec<u8>, SigningError> + Send + Sync;

/// The device's certificates, with what signs by their key.
#[derive(Clone)]
pub(crate) struct DeviceCertificate {
    chain: Vec<CertificateDer<'static>>,
    sign: Arc<SignHandshake>,
}

impl fmt::Debug for DeviceCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceCertificate").finish_non_exhaustive()
    }
}

impl DeviceCertificate {
    pub(crate) fn new(chain: Vec<Vec<u8>>, sign: Arc<SignHandshake>) -> Self {
        Self { chain: chain.into_iter().map(CertificateDer::from).collect(), sign }
    }
}

/// Has a signature made at a socket to `identity`, at which nothing else is asked meanwhile.
pub(crate) fn signer(socket: OwnedFd) -> Arc<SignHandshake> {
    Arc::new(move |transcript_hash| {
        let request = ExchangeRequest::SignHandshake(transcript_hash);
        channel::send(&socket, &exchange::encode(&request)?)?;
        let until = monotonic_ms().saturating_add(SIGNED_WITHIN_MS);
        let mut buffer = vec![0; MAX_MESSAGE_BYTES];
        let received = channel::receive_until(&socket, &mut buffer, until)?;
        let (length, _) = received.ok_or(SigningError::Silent)?;
        match exchange::decode(buffer.get(..length).unwrap_or_default())? {
            ExchangeReply::Signature(signature) => Ok(signature),
            _ => Err(SigningError::Refused),
        }
    })
}

impl ResolvesClientCert for DeviceCertificate {
    fn resolve(&self, _: &[&[u8]], offered: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key: Arc<dyn SigningKey> = Arc::new(self.clone());
        key.choose_scheme(offered)?;
        Some(Arc::new(CertifiedKey::new(self.chain.clone(), key)))
    }

    fn has_certs(&self) -> bool {
        !self.chain.is_empty()
    }
}

impl SigningKey for DeviceCertificate {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let offered = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        offered.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for DeviceCertificate {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let hash = message.strip_prefix(&PADDING[..]).and_then(|rest| rest.strip_prefix(CONTEXT));
        let hash = hash.and_then(|hash| hash.try_into().ok()).ok_or(SigningError::NoHandshake);
        let signed = hash.and_then(|hash| (self.sign)(hash));
        signed.map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
