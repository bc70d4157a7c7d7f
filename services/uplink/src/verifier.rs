//! The verifier of the service's certificate: its authorities alone, and a clock that may show no more than its floor.
//!
//! A device without a clock knows that it is no earlier than some time, and no more. It takes a chain that is good at some
//! moment from then on, and no further ahead than its clock could ever be set; so it can be shown a chain that is not good
//! yet, by who has the key to it, and none that has ended before the floor.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;

/// Certificates of a chain of which each may begin later than the one before.
const MOST_STEPS: usize = 4;

/// The time of a handshake, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// It is no earlier.
    pub(crate) earliest_s: u64,
    /// It is no later. The same, where the clock has been set.
    pub(crate) latest_s: u64,
}

/// The verifier of one handshake.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    pub(crate) chains: Arc<WebPkiServerVerifier>,
    pub(crate) moment: Moment,
}

fn unix(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        // It is the system's clock: what it may be worth, the moment says.
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut at = unix(self.moment.earliest_s);
        for _ in 0..MOST_STEPS {
            let verified =
                self.chains.verify_server_cert(end_entity, intermediates, name, ocsp_response, at);
            match verified {
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before,
                    ..
                })) if not_before > at && not_before <= unix(self.moment.latest_s) => {
                    at = not_before;
                }
                verified => return verified,
            }
        }
        Err(Error::InvalidCertificate(CertificateError::NotValidYet))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
