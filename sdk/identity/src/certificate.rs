//! Extensions of certificates (RFC 5280, 4.2) that neither rustls nor webpki reads: the grade's policy and the release.

use der::asn1::{AnyRef, ObjectIdentifier, Utf8StringRef};
use der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use thiserror::Error;

/// `certificatePolicies` (RFC 5280, 4.2.1.4).
const CERTIFICATE_POLICIES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.32");
/// The arc of the policies of grades.
pub(crate) const GRADES: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.1");
/// The extension that has the release: a `SEQUENCE` of the version as `UTF8String` and the rollback index as `INTEGER`.
pub(crate) const RELEASE: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.32473.1.3.1");
/// Tag number of `extensions` in a `TBSCertificate`.
const EXTENSIONS: TagNumber = TagNumber(3);

/// Errors of a certificate that a Security Service has issued. Each names the field by the RFC's word.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// It is no X.509 certificate that is taken.
    #[error("the certificate cannot be read")]
    Unreadable(#[source] webpki::Error),
    /// It is no DER where it should be.
    #[error("the certificate's {field} is malformed")]
    Der {
        /// The field.
        field: &'static str,
        /// The decoder's error.
        #[source]
        source: der::Error,
    },
    /// It does not have the extension, so that no Security Service has issued it for a device.
    #[error("the certificate has no {0}")]
    Missing(&'static str),
    /// A field says what no Security Service writes.
    #[error("the certificate's {0} is none of a Security Service")]
    Foreign(&'static str),
    /// There is no certificate where there should be one.
    #[error("there is no certificate")]
    NoCertificate,
}

/// Returns the elements that stand one after the other in what a `SEQUENCE` or an explicit tag holds.
fn elements(content: &[u8]) -> Result<Vec<AnyRef<'_>>, der::Error> {
    let mut reader = SliceReader::new(content)?;
    let mut elements = Vec::new();
    while !reader.is_finished() {
        elements.push(AnyRef::decode(&mut reader)?);
    }
    Ok(elements)
}

/// Returns the elements of a `SEQUENCE`.
fn sequence(element: AnyRef<'_>) -> Result<Vec<AnyRef<'_>>, der::Error> {
    element.tag().assert_eq(Tag::Sequence)?;
    elements(element.value())
}

/// Returns the content of an extension of a certificate, DER.
fn extension(certificate: &[u8], id: ObjectIdentifier) -> Result<Option<&[u8]>, der::Error> {
    let wrapped = Tag::ContextSpecific { constructed: true, number: EXTENSIONS };
    let body = sequence(AnyRef::from_der(certificate)?)?.into_iter().next();
    let fields = body.map(sequence).transpose()?.unwrap_or_default();
    let Some(list) = fields.into_iter().find(|field| field.tag() == wrapped) else {
        return Ok(None);
    };
    for extension in sequence(AnyRef::from_der(list.value())?)? {
        // `critical` may stand between the two.
        let parts = sequence(extension)?;
        if let (Some(found), Some(value)) = (parts.first(), parts.last())
            && found.decode_as::<ObjectIdentifier>()? == id
        {
            value.tag().assert_eq(Tag::OctetString)?;
            return Ok(Some(value.value()));
        }
    }
    Ok(None)
}

/// Returns version and rollback index of the release that the certificate's device has attested.
///
/// # Errors
/// See [`CertificateError`].
pub(crate) fn release(certificate: &[u8]) -> Result<(&str, u64), CertificateError> {
    const FIELD: &str = "release extension";
    let malformed = |source| CertificateError::Der { field: FIELD, source };
    let value = extension(certificate, RELEASE).map_err(malformed)?;
    let value = value.ok_or(CertificateError::Missing(FIELD))?;
    read_release(value).map_err(malformed)
}

fn read_release(value: &[u8]) -> Result<(&str, u64), der::Error> {
    AnyRef::from_der(value)?.sequence(|fields| {
        let version: Utf8StringRef<'_> = fields.decode()?;
        Ok((version.as_str(), fields.decode()?))
    })
}

/// Returns the number of the first policy that is a grade's: the last arc below [`GRADES`].
///
/// # Errors
/// See [`CertificateError`].
pub(crate) fn grade(certificate: &[u8]) -> Result<u32, CertificateError> {
    const FIELD: &str = "certificatePolicies";
    let malformed = |source| CertificateError::Der { field: FIELD, source };
    let value = extension(certificate, CERTIFICATE_POLICIES).map_err(malformed)?;
    let value = value.ok_or(CertificateError::Missing(FIELD))?;
    let policies = read_policies(value).map_err(malformed)?;
    let number = policies.into_iter().find(|policy| policy.parent() == Some(GRADES));
    number.and_then(|policy| policy.arcs().last()).ok_or(CertificateError::Foreign(FIELD))
}

fn read_policies(value: &[u8]) -> Result<Vec<ObjectIdentifier>, der::Error> {
    let mut policies = Vec::new();
    for policy in sequence(AnyRef::from_der(value)?)? {
        // Behind the policy may stand its qualifiers.
        if let Some(id) = sequence(policy)?.first() {
            policies.push(id.decode_as()?);
        }
    }
    Ok(policies)
}
