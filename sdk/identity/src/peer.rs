//! Who the other side of a connection is, as its certificate says.

use crate::certificate::{self, CertificateError};
use holdfast_types::{CatalogId, ComponentId, Grade, Version};
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use webpki::EndEntityCert;

/// Hexadecimal digits of a device's id.
const DEVICE_DIGITS: usize = 64;

/// The id of a device: 64 hexadecimal digits in lower case, as its certificate has them for its common name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(String);

/// A text is no id of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a device's id has {DEVICE_DIGITS} hexadecimal digits in lower case")]
pub struct NoDeviceId;

impl FromStr for DeviceId {
    type Err = NoDeviceId;

    fn from_str(text: &str) -> Result<Self, NoDeviceId> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if text.len() == DEVICE_DIGITS && text.bytes().all(is_digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(NoDeviceId)
    }
}

impl DeviceId {
    /// Returns the digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The release of the OS that a device has attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// Its rollback index, which releases that mend a weakness raise.
    pub rollback_index: u64,
}

/// What a certificate of a Security Service says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The catalog.
    pub catalog: CatalogId,
    /// The device.
    pub device: DeviceId,
    /// The app on it; `None` for the device itself.
    pub component: Option<ComponentId>,
    /// The release that it has attested when the certificate was issued.
    pub release: Release,
    /// The grade of its evidence.
    pub grade: Grade,
}

impl Peer {
    /// Reads a leaf, DER. What a connection returns as `peer_certificates()` was verified; anything else was not.
    ///
    /// # Errors
    /// It is none that a Security Service issues.
    pub fn read(certificate: &[u8]) -> Result<Self, CertificateError> {
        const NAME: &str = "subjectAltName";
        let der = CertificateDer::from(certificate);
        let parsed = EndEntityCert::try_from(&der).map_err(CertificateError::Unreadable)?;
        let uri = parsed.valid_uri_names().next().ok_or(CertificateError::Missing(NAME))?;
        let (catalog, device, component) = read_uri(uri).ok_or(CertificateError::Foreign(NAME))?;
        let (version, rollback_index) = certificate::release(certificate)?;
        let version = version.parse::<Version>();
        let version = version.map_err(|_| CertificateError::Foreign("release extension"))?;
        let policy = certificate::grade(certificate)?;
        let grade = Grade::of_policy(policy.into());
        let grade = grade.ok_or(CertificateError::Foreign("certificatePolicies"))?;
        let release = Release { version, rollback_index };
        Ok(Self { catalog, device, component, release, grade })
    }
}

/// Takes `spiffe://CATALOG.holdfast/device/ID[/app/COMPONENT]` apart.
fn read_uri(uri: &str) -> Option<(CatalogId, DeviceId, Option<ComponentId>)> {
    let (catalog, device) = uri.strip_prefix("spiffe://")?.split_once(".holdfast/device/")?;
    let (device, component) = match device.split_once("/app/") {
        Some((device, component)) => (device, Some(ComponentId::parse(component)?)),
        None => (device, None),
    };
    Some((CatalogId::parse(catalog)?, device.parse().ok()?, component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_a_device_or_of_an_app_on_one() {
        let catalog = "77304f1f-9530-4157-8598-30bc1f3d66f0";
        let component = "8f1b6a52-1c0e-4f35-9a57-5a0f3b0d8a06";
        let id = "de".repeat(32);
        let of_device = format!("spiffe://{catalog}.holdfast/device/{id}");
        let read = read_uri(&of_device).unwrap();
        assert_eq!((read.0.to_string().as_str(), read.1.as_str()), (catalog, id.as_str()));
        assert_eq!(read.2, None);
        let of_app = read_uri(&format!("{of_device}/app/{component}")).unwrap();
        assert_eq!(of_app.2, ComponentId::parse(component));
        for bad in [
            format!("{of_device}/"),
            format!("{of_device}/app/"),
            format!("{of_device}/app/{component}/more"),
            of_device.replace("de", "DE"),
            of_device.replace("holdfast", "example"),
            format!("http{}", of_device.trim_start_matches("spiffe")),
            format!("spiffe://evil.{catalog}.holdfast/device/{id}"),
        ] {
            assert_eq!(read_uri(&bad), None, "{bad}");
        }
    }
}
