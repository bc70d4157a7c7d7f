//! A certificate of the app with what belongs to it, as the identity service has returned it.

use crate::certificate::CertificateError;
use crate::peer::Peer;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use std::time::{Duration, SystemTime};
use webpki::{EndEntityCert, anchor_from_trusted_cert};

/// A certificate, and the roots of the catalog that it is of. The key stays where it is.
#[derive(Debug, Clone)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    anchors: Vec<CertificateDer<'static>>,
    until_s: u64,
    own: Peer,
    public_key: SubjectPublicKeyInfoDer<'static>,
}

impl Credentials {
    /// Takes what the service has returned: a chain, leaf first, and roots, DER; and the end in seconds since 1970.
    pub(crate) fn read(
        chain: Vec<Vec<u8>>,
        anchors: Vec<Vec<u8>>,
        until_s: u64,
    ) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = chain.into_iter().map(Into::into).collect();
        let anchors: Vec<CertificateDer<'static>> = anchors.into_iter().map(Into::into).collect();
        for anchor in &anchors {
            anchor_from_trusted_cert(anchor).map_err(CertificateError::Unreadable)?;
        }
        let leaf = chain.first().ok_or(CertificateError::NoCertificate)?;
        let own = Peer::read(leaf)?;
        let leaf = EndEntityCert::try_from(leaf).map_err(CertificateError::Unreadable)?;
        let public_key = leaf.subject_public_key_info();
        Ok(Self { chain, anchors, until_s, own, public_key })
    }

    /// Returns the chain as it is sent: the app's certificate, and what has issued it.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the roots of the catalog.
    #[must_use]
    pub fn anchors(&self) -> &[CertificateDer<'static>] {
        &self.anchors
    }

    /// Returns the end of the certificate.
    #[must_use]
    pub fn until(&self) -> SystemTime {
        let since = Duration::from_secs(self.until_s);
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Returns what the certificate says of this app: catalog, device, release and grade.
    #[must_use]
    pub fn own(&self) -> &Peer {
        &self.own
    }

    pub(crate) fn public_key(&self) -> &SubjectPublicKeyInfoDer<'static> {
        &self.public_key
    }
}
