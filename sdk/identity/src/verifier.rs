//! The verifier of peers of the same catalog: who they are, and what their devices run.

use crate::certificate::CertificateError;
use crate::cryptography::crypto_provider;
use crate::identity::Identity;
use crate::peer::{DeviceId, Peer};
use holdfast_types::{CatalogId, ComponentId, Grade};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::io;
use std::sync::Arc;
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

/// Most certificates between a leaf and a root that a peer may send: a Security Service has one.
const MOST_BETWEEN: usize = 2;

/// Whom a connection takes, among the holders of certificates of the same catalog. The default takes all of them.
#[derive(Debug, Clone, Default)]
pub struct PeerPolicy {
    /// The peer must be this app.
    pub component: Option<ComponentId>,
    /// The peer must be on this device.
    pub device: Option<DeviceId>,
    /// The grade of the peer's evidence must be one of these; with none here it may be any.
    pub grades: Vec<Grade>,
    /// The peer's device must have attested a release with this rollback index or a higher one.
    pub least_rollback_index: u64,
}

/// Why a peer is refused. [`PeerRefusal::of`] finds it in the error of a connection.
#[derive(Debug, Clone, Error)]
pub enum PeerRefusal {
    /// This app has no certificate, so that it does not know the roots of its catalog.
    #[error("there is no certificate of this app yet, and no root to verify peers by")]
    NoRoots,
    /// The chain does not lead to a root of the catalog, is too long, or is not valid now.
    #[error("no root of the catalog vouches for the peer")]
    Chain(#[source] webpki::Error),
    /// The certificate is not for this use, as those that are good for updates alone.
    #[error("the peer's certificate is not good for connections")]
    Usage,
    /// The certificate does not say who the peer is.
    #[error("the peer's certificate does not say who it is")]
    Certificate(#[source] CertificateError),
    /// The peer is of another catalog.
    #[error("the peer is of catalog {0}")]
    Catalog(CatalogId),
    /// The peer is another app, or no app.
    #[error("the peer is {}, where an app was to be {wanted}", component(*found))]
    Component {
        /// The app that is taken.
        wanted: ComponentId,
        /// The app that it is.
        found: Option<ComponentId>,
    },
    /// The peer is on another device.
    #[error("the peer is on device {0}")]
    Device(DeviceId),
    /// The grade is not taken.
    #[error("the peer's grade is {0}")]
    Grade(Grade),
    /// The peer's release is too old.
    #[error("the peer's release has rollback index {found}, less than {least}")]
    Release {
        /// Its rollback index.
        found: u64,
        /// The least that is taken.
        least: u64,
    },
}

fn component(id: Option<ComponentId>) -> String {
    id.map_or_else(|| "no app".to_owned(), |id| format!("app {id}"))
}

impl PeerRefusal {
    /// Finds the refusal in the error of a connection, if it is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Self::of_tls(error)
    }

    /// Finds the refusal in an error of rustls, if it is one.
    #[must_use]
    pub fn of_tls(error: &rustls::Error) -> Option<&Self> {
        let rustls::Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(cause))) =
            error
        else {
            return None;
        };
        let cause: &(dyn std::error::Error + 'static) = &**cause;
        cause.downcast_ref()
    }
}

impl From<PeerRefusal> for rustls::Error {
    fn from(refusal: PeerRefusal) -> Self {
        let cause = OtherError(Arc::new(refusal));
        Self::InvalidCertificate(rustls::CertificateError::Other(cause))
    }
}

/// The verifier of peers, on either side of a connection.
#[derive(Debug)]
pub struct PeerVerifier {
    identity: Identity,
    policy: PeerPolicy,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PeerVerifier {
    /// Makes one for peers of the identity's catalog.
    #[must_use]
    pub fn new(identity: &Identity, policy: PeerPolicy) -> Self {
        let algorithms = crypto_provider().signature_verification_algorithms;
        Self { identity: identity.clone(), policy, algorithms }
    }

    /// Verifies a peer by what it has sent: chain, use, time, and policy.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), PeerRefusal> {
        let own = self.identity.current().ok_or(PeerRefusal::NoRoots)?;
        let anchors: Result<Vec<TrustAnchor<'_>>, webpki::Error> =
            own.anchors().iter().map(anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(PeerRefusal::Chain)?;
        if between.len() > MOST_BETWEEN {
            return Err(PeerRefusal::Chain(webpki::Error::MaximumPathDepthExceeded));
        }
        let parsed = EndEntityCert::try_from(leaf).map_err(PeerRefusal::Chain)?;
        let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
        let verified =
            parsed.verify_for_usage(algorithms, &anchors, between, now, usage, None, None);
        verified.map_err(|error| match error {
            webpki::Error::RequiredEkuNotFoundContext(_) => PeerRefusal::Usage,
            error => PeerRefusal::Chain(error),
        })?;
        let peer = Peer::read(leaf).map_err(PeerRefusal::Certificate)?;
        if peer.catalog != own.own().catalog {
            return Err(PeerRefusal::Catalog(peer.catalog));
        }
        self.policy.check(peer)
    }
}

impl PeerPolicy {
    /// Checks a peer whose certificate was verified.
    fn check(&self, peer: Peer) -> Result<(), PeerRefusal> {
        if let Some(wanted) = self.component.filter(|wanted| peer.component != Some(*wanted)) {
            return Err(PeerRefusal::Component { wanted, found: peer.component });
        }
        if self.device.as_ref().is_some_and(|wanted| *wanted != peer.device) {
            return Err(PeerRefusal::Device(peer.device));
        }
        if !self.grades.is_empty() && !self.grades.contains(&peer.grade) {
            return Err(PeerRefusal::Grade(peer.grade));
        }
        let (found, least) = (peer.release.rollback_index, self.least_rollback_index);
        if found < least {
            return Err(PeerRefusal::Release { found, least });
        }
        Ok(())
    }
}

/// Signatures of TLS 1.2 are verified for nobody.
fn no_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
}

/// What certificates of a Security Service sign with.
fn schemes() -> Vec<SignatureScheme> {
    vec![SignatureScheme::ECDSA_NISTP256_SHA256]
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::server_auth(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}
