//! Signatures of TLS 1.3 handshakes: what rustls wants signed becomes a role and a transcript hash, and anything else nothing.

use crate::bus::{ServiceError, SignRequest};
use crate::credentials::Credentials;
use rustls::sign::{Signer, SigningKey};
use rustls::{OtherError, SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc::UnboundedSender;
use webpki::EndEntityCert;

/// Time that a handshake waits for its signature. A TPM has ten seconds a command, and is one for all.
pub const SIGNING_PATIENCE: Duration = Duration::from_secs(20);
/// What stands in front of every message that is signed (RFC 8446, 4.4.3).
const PADDING: [u8; 64] = [0x20; 64];
const CLIENT_CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify\0";
const SERVER_CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";

/// Errors of a signature. [`rustls::Error::Other`] has one as its cause.
#[derive(Debug, Clone, Error)]
pub enum SigningError {
    /// The message is no `CertificateVerify` of TLS 1.3: nothing else is signed.
    #[error("only a CertificateVerify of TLS 1.3 is signed")]
    NoHandshake,
    /// The transcript hash is not SHA-256.
    #[error("the transcript hash has {0} bytes: offer cipher suites with SHA-256 alone")]
    TranscriptHash(usize),
    /// The service does not sign.
    #[error("the identity service does not sign")]
    Service(#[source] ServiceError),
    /// The service did not answer.
    #[error("the identity service has not signed within {SIGNING_PATIENCE:?}")]
    Deadline,
    /// The signature is by another key than the certificate's: it was renewed during the handshake.
    #[error("the certificate was renewed during the handshake; connect again")]
    Renewed,
}

impl From<SigningError> for rustls::Error {
    fn from(error: SigningError) -> Self {
        Self::Other(OtherError(Arc::new(error)))
    }
}

/// The side of a connection whose handshake is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    /// Returns the service's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A handshake, as it is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    pub(crate) role: Role,
    pub(crate) transcript_hash: [u8; 32],
}

impl Handshake {
    /// Takes the message of a `CertificateVerify` apart (RFC 8446, 4.4.3).
    fn read(message: &[u8]) -> Result<Self, SigningError> {
        let rest = message.strip_prefix(&PADDING[..]).ok_or(SigningError::NoHandshake)?;
        let (role, hash) = if let Some(hash) = rest.strip_prefix(CLIENT_CONTEXT) {
            (Role::Client, hash)
        } else {
            let hash = rest.strip_prefix(SERVER_CONTEXT).ok_or(SigningError::NoHandshake)?;
            (Role::Server, hash)
        };
        let transcript_hash =
            hash.try_into().map_err(|_| SigningError::TranscriptHash(hash.len()))?;
        Ok(Self { role, transcript_hash })
    }
}

/// The key of a certificate, which is the identity service's.
#[derive(Debug, Clone)]
pub(crate) struct IdentityKey {
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) requests: UnboundedSender<SignRequest>,
}

impl SigningKey for IdentityKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let offered = offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        offered.then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.credentials.public_key().clone())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for IdentityKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let handshake = Handshake::read(message)?;
        let (answer, answered) = sync_channel(1);
        let ended = |_| SigningError::Service(ServiceError::Ended);
        self.requests.send(SignRequest { handshake, answer }).map_err(ended)?;
        let signature = answered.recv_timeout(SIGNING_PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => SigningError::Deadline,
            RecvTimeoutError::Disconnected => SigningError::Service(ServiceError::Ended),
        })?;
        let signature = signature.map_err(SigningError::Service)?;
        let leaf = self.credentials.chain().first().ok_or(SigningError::Renewed)?;
        verify(leaf, message, &signature)?;
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// Checks a signature by the key of the certificate that is sent with it, so that a mistake shows here and not at the peer.
fn verify(leaf: &CertificateDer<'_>, message: &[u8], signature: &[u8]) -> Result<(), SigningError> {
    let leaf = EndEntityCert::try_from(leaf).map_err(|_| SigningError::Renewed)?;
    let verified = leaf.verify_signature(webpki::ring::ECDSA_P256_SHA256, message, signature);
    verified.map_err(|_| SigningError::Renewed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(context: &[u8], hash: &[u8]) -> Vec<u8> {
        [&PADDING[..], context, hash].concat()
    }

    #[test]
    fn a_handshake_is_taken_apart_and_nothing_else_is() {
        for (context, role) in [(CLIENT_CONTEXT, Role::Client), (SERVER_CONTEXT, Role::Server)] {
            let read = Handshake::read(&message(context, &[7; 32])).unwrap();
            assert_eq!(read, Handshake { role, transcript_hash: [7; 32] });
            for length in [0, 20, 31, 33, 48, 64] {
                let refused = Handshake::read(&message(context, &vec![7; length])).unwrap_err();
                assert!(matches!(refused, SigningError::TranscriptHash(found) if found == length));
            }
        }
        let exporter = b"TLS 1.3, server CertificateVerifz\0";
        let whole = message(CLIENT_CONTEXT, &[7; 32]);
        for other in [&message(exporter, &[7; 32]), &whole[1..], &whole[64..], b"", b"hello"] {
            assert!(matches!(Handshake::read(other), Err(SigningError::NoHandshake)));
        }
    }
}
