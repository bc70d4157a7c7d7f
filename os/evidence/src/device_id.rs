//! Ids of devices, each made of the key that its grade rests on.

use holdfast_types::hex::{hex, unhex};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_text() {
        let id = DeviceId::of_endorsement_key(b"key");
        let text = id.to_string();
        assert_eq!((text.len(), text.parse()), (64, Ok(id)));
        for wrong in ["", &text[1..], &text.to_uppercase(), &text.replace(&text[..1], "g")] {
            assert_eq!(wrong.parse::<DeviceId>(), Err(NotADeviceId), "{wrong}");
        }
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{text}\""));
    }

    #[test]
    fn no_device_of_one_grade_has_the_id_of_another_grade() {
        let point = [4; 65];
        assert_ne!(DeviceId::of_endorsement_key(&point), DeviceId::of_software_key(&point));
    }

    /// Calculated beside this program, with Python's `hashlib`.
    #[test]
    fn an_id_is_as_calculated_elsewhere() {
        let id = DeviceId::of_endorsement_key(b"key").to_string();
        assert_eq!(id, "51edf44a537e9ff4626b2fa5d4a4b9362df272324907bf52115e0e4840ba338e");
        let id = DeviceId::of_software_key(&[4; 65]).to_string();
        assert_eq!(id, "be0ef98270d10ad569b541c39b59740ba383dc73dcf498b29f4439f049976a2d");
    }
}
