//! What issues leaves: an issuing certificate with its key, in the form that the service holds in memory.

use crate::authority::{CERTIFICATE_POLICIES, issuing_name};
use crate::certificate::{self, IssuingError};
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::checkpoint::{Checkpoint, SignedCheckpoint};
use holdfast_service_domain::leaf::{
    CLIENT_AUTH, Leaf, SERVER_AUTH, audit_uri, audit_usage, release_extension,
};
use holdfast_service_domain::schedule::BACKDATED_S;
use rcgen::{
    CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use yasna::models::ObjectIdentifier;

/// An issuer of leaves.
pub struct LeafIssuer {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
    not_after: u64,
}

impl std::fmt::Debug for LeafIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeafIssuer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The public key of a device, uncompressed.
struct DeviceKey([u8; 65]);

impl PublicKeyData for DeviceKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl LeafIssuer {
    /// Puts an issuing certificate and its key (PKCS #8) together.
    ///
    /// # Errors
    /// The key cannot be read, or is not the certificate's.
    pub fn new(
        catalog: &CatalogId,
        serial: &str,
        certificate: Vec<u8>,
        key: &[u8],
        not_after: u64,
    ) -> Result<Self, IssuingError> {
        let key = KeyPair::try_from(key).map_err(IssuingError::Key)?;
        let der = rustls_pki_types::CertificateDer::from(certificate.as_slice());
        let read = webpki::EndEntityCert::try_from(&der);
        let read =
            read.map_err(|source| IssuingError::Lint { what: "issuing certificate", source })?;
        if read.subject_public_key_info().as_ref() != key.subject_public_key_info() {
            return Err(IssuingError::OtherKey);
        }
        let (mut parameters, _) = certificate::parameters(&issuing_name(catalog, serial), 0, 0)?;
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Ok(Self { issuer: Issuer::new(parameters, key), certificate, not_after })
    }

    /// Returns the issuing certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Issues a leaf, and returns it as DER.
    ///
    /// # Errors
    /// It would outlive the issuing certificate, or cannot be made.
    pub fn issue(&self, leaf: &Leaf) -> Result<Vec<u8>, IssuingError> {
        if leaf.not_after > self.not_after {
            return Err(IssuingError::Outlived);
        }
        let times = (leaf.not_before, leaf.not_after);
        let (mut parameters, _) = certificate::parameters(&leaf.common_name, times.0, times.1)?;
        let uri = leaf.uri.as_str().try_into();
        let uri = uri.map_err(|_| IssuingError::Name(leaf.uri.clone()))?;
        parameters.subject_alt_names = vec![SanType::URI(uri)];
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = leaf.usages.iter().map(|usage| usage_of(usage)).collect();
        let release = release(&leaf.version.to_string(), leaf.index);
        parameters.custom_extensions = vec![
            CustomExtension::from_oid_content(CERTIFICATE_POLICIES, policies(&leaf.policy)),
            CustomExtension::from_oid_content(&release_extension(), release),
        ];
        let made = parameters.signed_by(&DeviceKey(leaf.point.uncompressed()), &self.issuer);
        made.map(|made| made.der().to_vec()).map_err(IssuingError::Make)
    }
}

/// Seconds for which what signs one checkpoint is good.
const SIGNER_S: u64 = 60 * 60;

impl LeafIssuer {
    /// Signs a checkpoint of the audit log, by a key that is made for it and thrown away.
    ///
    /// # Errors
    /// The certificate of the key would outlive the issuing certificate, or cannot be made.
    pub fn sign_checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<SignedCheckpoint, IssuingError> {
        let not_before = checkpoint.at.saturating_sub(BACKDATED_S);
        let not_after = checkpoint.at.saturating_add(SIGNER_S).min(self.not_after);
        if checkpoint.at >= not_after {
            return Err(IssuingError::Outlived);
        }
        let key = KeyPair::generate().map_err(IssuingError::Make)?;
        let name = format!("Holdfast {} audit", checkpoint.catalog);
        let (mut parameters, _) = certificate::parameters(&name, not_before, not_after)?;
        let uri = audit_uri(&checkpoint.catalog);
        let name = uri.as_str().try_into().map_err(|_| IssuingError::Name(uri.clone()))?;
        parameters.subject_alt_names = vec![SanType::URI(name)];
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage_of(&audit_usage())];
        let made = parameters.signed_by(&key, &self.issuer).map_err(IssuingError::Make)?;
        let signature = key.sign(&checkpoint.message()).map_err(IssuingError::Make)?;
        let certificates = [made.der().as_ref(), self.certificate.as_slice()];
        Ok(SignedCheckpoint::new(checkpoint, certificates, &signature))
    }
}

fn usage_of(usage: &[u64]) -> ExtendedKeyUsagePurpose {
    match usage {
        CLIENT_AUTH => ExtendedKeyUsagePurpose::ClientAuth,
        SERVER_AUTH => ExtendedKeyUsagePurpose::ServerAuth,
        other => ExtendedKeyUsagePurpose::Other(other.to_vec()),
    }
}

/// A `SEQUENCE` of one `PolicyInformation`.
fn policies(policy: &[u64]) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                writer.next().write_oid(&ObjectIdentifier::from_slice(policy));
            });
        });
    })
}

/// A `SEQUENCE` of version and rollback index.
fn release(version: &str, index: u64) -> Vec<u8> {
    yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_utf8_string(version);
            writer.next().write_u64(index);
        });
    })
}
