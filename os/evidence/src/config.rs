//! Configuration of `identity`, and of `uplink` where it checks in: one file for each in the verified root.

use holdfast_types::CatalogId;
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Name of `identity`'s configuration in its directory.
pub const IDENTITY_FILE: &str = "identity.config";
/// Name of the file with the service in `uplink`'s directory.
pub const SERVICE_FILE: &str = "service.config";
/// Longest encoding of either, in bytes.
pub const MAX_ENCODED_BYTES: usize = 64 * 1024;

/// Configuration of `identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityConfig {
    /// Id of the catalog that the device belongs to.
    pub catalog: CatalogId,
    /// Certificate of the catalog's root, DER: other devices of the catalog are known by it.
    pub catalog_root: Vec<u8>,
    /// The device's owners so far: another owner is another epoch, and the device another one to him.
    pub epoch: u32,
}

impl IdentityConfig {
    /// Returns what the attestation key is made from beside the TPM's seed: `SHA-256(catalog root ‖ epoch)`. With another
    /// catalog or epoch it is another key, by which nobody recognizes the device.
    #[must_use]
    pub fn unique(&self) -> [u8; 32] {
        let hash = Sha256::new().chain_update(&self.catalog_root);
        hash.chain_update(self.epoch.to_be_bytes()).finalize().into()
    }

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

/// The service, as `uplink` reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceConfig {
    /// Host of the device port: a name, or an address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Certificates of the authorities that may vouch for it, in DER. No others do.
    pub authorities: Vec<Vec<u8>>,
    /// True where the image has a service that records failures.
    pub reports: bool,
}

impl ServiceConfig {
    /// Returns the value of the field `Host` (RFC 9110, 7.2).
    #[must_use]
    pub fn host_field(&self) -> String {
        let Self { host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        if *port == 443 { host } else { format!("{host}:{port}") }
    }

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::hex::hex;

    #[test]
    fn another_catalog_or_owner_is_another_attestation_key() {
        let config = |root: &[u8], epoch| IdentityConfig {
            catalog: CatalogId([1; 16]),
            catalog_root: root.to_vec(),
            epoch,
        };
        let unique = config(b"root", 0).unique();
        // Calculated beside this program, with Python's `hashlib`.
        assert_eq!(
            hex(&unique),
            "a86aa004e89e2ccfc71fbbf44c520f78b4364a49c360f315488ec15331944eb9"
        );
        assert_ne!(unique, config(b"root", 1).unique());
        assert_ne!(unique, config(b"other", 0).unique());
        let encoded = config(b"root", 0).encode().unwrap();
        assert_eq!(IdentityConfig::decode(&encoded), Ok(config(b"root", 0)));
    }

    #[test]
    fn a_host_has_its_port_where_it_is_none_that_goes_without_saying() {
        let field = |host: &str, port| {
            ServiceConfig { host: host.to_owned(), port, authorities: Vec::new(), reports: true }
                .host_field()
        };
        assert_eq!(field("a.example", 443), "a.example");
        assert_eq!(field("a.example", 8443), "a.example:8443");
        assert_eq!(field("2001:db8::1", 443), "[2001:db8::1]");
        assert_eq!(field("2001:db8::1", 8443), "[2001:db8::1]:8443");
    }
}
