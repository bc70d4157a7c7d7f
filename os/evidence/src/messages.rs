//! Messages of the service's device port (`/device/v1`): JSON bodies of requests and answers, the same types on both sides.
//!
//! Bytes are base64url without padding (RFC 4648, 5). The service refuses unknown fields of a request; a device ignores
//! those of an answer, since a service is newer than some device of its fleet. Every body has a bound, and nothing in it
//! is believed before [`verify()`](crate::verify()) has returned it.

use crate::attest::Signed;
use crate::claims::MAX_CLAIMS_BYTES;
use crate::qualifying::{Exporter, Purpose};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_types::ComponentId;
use holdfast_types::hex::{hex, unhex};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Path of the request to enrol.
pub const ENROL_PATH: &str = "/device/v1/enrol";
/// Path of the request that ends an enrolment.
pub const FINISH_PATH: &str = "/device/v1/enrol/finish";
/// Path of a check-in.
pub const CHECK_IN_PATH: &str = "/device/v1/check-in";
/// Most bytes of a request's body.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// Most bytes of an answer's body: a chain of two certificates for each key.
pub const MAX_ANSWER_BYTES: usize = 48 * 1024;
/// Most bytes of an endorsement key's certificate.
pub const MAX_EK_CERTIFICATE_BYTES: usize = 4096;
/// Most bytes of one certificate in an answer, DER.
pub const MAX_CERTIFICATE_BYTES: usize = 2048;
/// Most bytes of a receipt.
pub const MAX_RECEIPT_BYTES: usize = 96;

/// Bytes that JSON has as base64url without padding.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(D::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// The id of a device: the hash of the key that its grade rests on, so that no device of another grade has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(pub [u8; 32]);

impl DeviceId {
    /// Returns the id of a device with a TPM, from the public area of its endorsement key (`TPM2B_PUBLIC`).
    #[must_use]
    pub fn of_endorsement_key(public: &[u8]) -> Self {
        Self::of(b"tpm", public)
    }

    /// Returns the id of a device without a TPM, from its software key's uncompressed point.
    #[must_use]
    pub fn of_software_key(point: &[u8; 65]) -> Self {
        Self::of(b"software", point)
    }

    /// `SHA-256("holdfast-device-1" ‖ 0 ‖ kind ‖ 0 ‖ key)`.
    fn of(kind: &[u8], key: &[u8]) -> Self {
        let hash = Sha256::new().chain_update(b"holdfast-device-1\0").chain_update(kind);
        Self(hash.chain_update([0]).chain_update(key).finalize().into())
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A text is no id of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device's id has 64 lower-case hex digits")]
pub struct NotADeviceId;

impl FromStr for DeviceId {
    type Err = NotADeviceId;

    fn from_str(text: &str) -> Result<Self, NotADeviceId> {
        let id = unhex(text).map(Self).ok_or(NotADeviceId)?;
        // One id has one text.
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) { Err(NotADeviceId) } else { Ok(id) }
    }
}

impl Serialize for DeviceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The id of a catalog: a GUID in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CatalogId(pub [u8; 16]);

impl CatalogId {
    /// Reads a GUID of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ComponentId::parse(text).map(|id| Self(id.0))
    }
}

impl fmt::Display for CatalogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ComponentId(self.0).fmt(f)
    }
}

impl Serialize for CatalogId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CatalogId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("must be a GUID"))
    }
}

/// Request to enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// Id of the catalog that the device's image names.
    pub catalog: CatalogId,
    /// Name of the board.
    pub board: String,
    /// Name of the image.
    pub image: String,
    /// The key that the device's id is made of.
    pub key: EnrolKey,
}

/// The key that a device enrols with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EnrolKey {
    /// The keys of a TPM.
    Tpm {
        /// Public area of the endorsement key, `TPM2B_PUBLIC`.
        ek: Bytes,
        /// X.509 certificate of the endorsement key, DER, where the TPM has one.
        ek_certificate: Option<Bytes>,
        /// Public area of the attestation key, `TPM2B_PUBLIC`.
        ak: Bytes,
    },
    /// A key in the device's `state`.
    Software {
        /// The uncompressed point, 65 bytes.
        point: Bytes,
        /// Signature of [`software_enrolment`] by that key, 64 bytes.
        signature: Bytes,
    },
}

/// Returns what a software key signs to enrol: `"holdfast-enrol-1" ‖ 0 ‖ E ‖ point`, with the exporter of the connection.
#[must_use]
pub fn software_enrolment(exporter: &Exporter, point: &[u8; 65]) -> Vec<u8> {
    [&b"holdfast-enrol-1\0"[..], &exporter.0, point].concat()
}

/// Returns what is authenticated by the secret of a credential: `"holdfast-enrol-1" ‖ 0 ‖ E ‖ SHA-256(ak)`, with the
/// exporter of the connection that ends the enrolment.
#[must_use]
pub fn enrolment_proof(exporter: &Exporter, ak: &[u8]) -> Vec<u8> {
    [&b"holdfast-enrol-1\0"[..], &exporter.0, &Sha256::digest(ak)].concat()
}

/// Answer to a request to enrol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum EnrolAnswer {
    /// The TPM is to open a credential, within some time.
    Challenge {
        /// Number of the enrolment, 16 bytes, good for one answer.
        enrolment: Bytes,
        /// `TPM2B_ID_OBJECT`.
        id_object: Bytes,
        /// `TPM2B_ENCRYPTED_SECRET`.
        encrypted_seed: Bytes,
        /// Seconds within which the answer must come.
        within_s: u32,
    },
    /// The device is enrolled: nothing follows.
    Enrolled {
        /// Id of the device.
        device: DeviceId,
    },
    /// The device is known and waits for somebody to claim it.
    Waiting {
        /// Id of the device.
        device: DeviceId,
        /// Seconds after which the device asks again.
        next_s: u32,
    },
}

/// Request that ends an enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishRequest {
    /// Number of the enrolment.
    pub enrolment: Bytes,
    /// HMAC-SHA-256 of [`enrolment_proof`] by the secret of the credential.
    pub proof: Bytes,
}

/// An attestation with its signature, as JSON has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedMessage {
    /// `TPMS_ATTEST`.
    pub attest: Bytes,
    /// `TPMT_SIGNATURE`.
    pub signature: Bytes,
}

impl SignedMessage {
    /// Borrows both for [`verify()`](crate::verify()).
    #[must_use]
    pub fn signed(&self) -> Signed<'_> {
        Signed { attest: &self.attest.0, signature: &self.signature.0 }
    }
}

/// The holder of a key or a certificate: the device, or one of its apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(pub Purpose);

impl Serialize for Holder {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Purpose::Device => serializer.serialize_str("device"),
            Purpose::App(id) => serializer.collect_str(&id),
        }
    }
}

impl<'de> Deserialize<'de> for Holder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "device" {
            return Ok(Self(Purpose::Device));
        }
        let id = ComponentId::parse(&text);
        let id = id.ok_or_else(|| D::Error::custom("must be `device` or a component id"))?;
        Ok(Self(Purpose::App(id)))
    }
}

/// A key that is to be certified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedKey {
    /// The holder.
    #[serde(rename = "for")]
    pub holder: Holder,
    /// Public area, `TPM2B_PUBLIC`.
    pub public: Bytes,
    /// Certification by the attestation key.
    pub certification: SignedMessage,
}

/// A key of a device without a TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftwareKey {
    /// The holder.
    #[serde(rename = "for")]
    pub holder: Holder,
    /// The uncompressed point, 65 bytes.
    pub point: Bytes,
}

/// Evidence of a check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum EvidenceMessage {
    /// Of a device with a TPM.
    Tpm {
        /// The quote of PCR 8.
        quote: SignedMessage,
        /// The keys.
        keys: Vec<CertifiedKey>,
    },
    /// Of a device without one.
    Software {
        /// Signature by the device's software key, 64 bytes.
        signature: Bytes,
        /// The keys.
        keys: Vec<SoftwareKey>,
    },
}

/// A check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckInRequest {
    /// Id of the catalog that the device's image names.
    pub catalog: CatalogId,
    /// Id of the device.
    pub device: DeviceId,
    /// The claims, as they are hashed: JSON within base64url, at most [`MAX_CLAIMS_BYTES`].
    pub claims: Bytes,
    /// The evidence.
    pub evidence: EvidenceMessage,
    /// The receipt of the last check-in; `null` in the first, and after a reset.
    pub receipt: Option<Bytes>,
}

/// What the certificates of a check-in are good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Handshakes with whoever believes the catalog.
    Full,
    /// The service and servers of updates alone: the certificate has neither `clientAuth` nor `serverAuth`.
    UpdateOnly,
}

/// The certificates of one holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedChain {
    /// The holder.
    #[serde(rename = "for")]
    pub holder: Holder,
    /// The leaf first, then what has issued it up to below the catalog's root; DER.
    pub chain: Vec<Bytes>,
}

/// Answer to a check-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckInAnswer {
    /// What the certificates are good for.
    pub profile: Profile,
    /// Reasons for a profile that is not full: the last part of each problem type.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The certificates.
    pub certificates: Vec<IssuedChain>,
    /// End of all of them, in seconds since 1970.
    pub until: u64,
    /// Seconds after which the device checks in again.
    pub next_s: u32,
    /// Returned in the next check-in.
    pub receipt: Bytes,
}

/// A problem (RFC 9457), as a device reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// URI of the kind; its last part is the word that is logged.
    #[serde(rename = "type")]
    pub kind: String,
    /// HTTP status.
    pub status: u16,
    /// What happened, for people.
    #[serde(default)]
    pub detail: String,
}

const _: () = assert!(
    MAX_CLAIMS_BYTES * 4 / 3 < MAX_REQUEST_BYTES,
    "the longest claims have room in a request"
);
