//! Messages of the service's device port (`/device/v1`): JSON bodies of requests and answers, the same types on both sides.
//!
//! Bytes are base64url without padding (RFC 4648, 5). The service refuses unknown fields of a request; a device ignores
//! those of an answer, since a service is newer than some device of its fleet. Every body has a bound, and nothing in it
//! is believed before [`verify()`](crate::verify()) has returned it.

use crate::attest::Signed;
use crate::claims::MAX_CLAIMS_BYTES;
pub use crate::device_id::DeviceId;
pub use crate::issued::MAX_CERTIFICATE_BYTES;
use crate::qualifying::{Exporter, Purpose};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use holdfast_types::CatalogId;
use holdfast_types::ComponentId;
pub use holdfast_types::UpdateWait;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

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
    /// The device belongs to another catalog: its `state` was erased since, or it had not enrolled before.
    Transferred {
        /// The voucher, [encoded](crate::transfer::Voucher).
        voucher: Bytes,
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
            Purpose::App(id) => serializer.serialize_str(&id.to_string()),
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
    /// Why a release that was assigned is not taken. It is said to a service alone that has assigned something, since an older one
    /// would refuse the field; and it is shown to people, and counts as a failure at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateWait>,
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
    /// What the device is to report; a service that takes no reports says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reports: Option<ReportsPolicy>,
    /// What the device may take of its components. A service that says nothing leaves it to what is signed; so does an assignment
    /// that a device cannot read.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "assignments_if_understood"
    )]
    pub assignments: Option<Vec<AssignmentMessage>>,
    /// The feed that the device follows. One that its image does not allow, or that is no name, changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed: Option<String>,
    /// The voucher by which the device goes to another catalog, [encoded](crate::transfer::Voucher).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<Bytes>,
}

/// Reads those assignments that are understood: one of a later service must not make the certificates beside it unreadable.
///
/// # Errors
/// Those of the reader, for what is no JSON.
pub fn assignments_if_understood<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Vec<AssignmentMessage>>, D::Error> {
    let Value::Array(list) = Value::deserialize(from)? else { return Ok(None) };
    let read = |value| serde_json::from_value(value).ok();
    Ok(Some(list.into_iter().filter_map(read).collect()))
}

/// What a device may take of one component, and when. It narrows what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentMessage {
    /// Name of the deployment that is the reason; empty where the device is to stay as it is.
    #[serde(default)]
    pub deployment: String,
    /// `os`, or the component id of an app.
    pub component: String,
    /// The newest version that may be taken.
    pub newest: String,
    /// Versions up to it that may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<String>,
    /// When the device may restart for it, such as `sa,su 02:00-04:00+60`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// Time from which the window does not count, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Interval between checks for releases, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_every_s: Option<u32>,
}

/// What a device is to report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportsPolicy {
    /// Word for the level: `off`, `health` or `full`. A later service may have others, and none of them makes a check-in fail: a device
    /// that does not know one keeps the level that it has.
    pub level: String,
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

impl Problem {
    /// The last part of a problem's type where the service does not know the device.
    pub const UNKNOWN_DEVICE: &str = "unknown-device";

    /// Returns the last part of the type, by which a program tells problems apart.
    #[must_use]
    pub fn word(&self) -> &str {
        self.kind.rsplit(['/', ':']).next().unwrap_or(&self.kind)
    }
}

const _: () = assert!(
    MAX_CLAIMS_BYTES * 4 / 3 < MAX_REQUEST_BYTES,
    "the longest claims have room in a request"
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    const ID: &str = "25025d2c-66da-4448-bae1-ac26fcdd3627";

    /// Reads a message, compares what is written of it, and returns it.
    fn read<T: Serialize + DeserializeOwned>(value: &Value) -> T {
        let message: T = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(&message).unwrap(), *value);
        message
    }

    fn refused<T: DeserializeOwned>(value: Value) -> String {
        serde_json::from_value::<T>(value).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn requests_have_these_fields_and_no_others() {
        let device = "ab".repeat(32);
        let enrol = json!({"catalog": ID, "board": "qemu-virt", "image": "pump-fw",
            "key": {"tpm": {"ek": "AQI", "ek_certificate": null, "ak": "Aw"}}});
        let EnrolRequest { catalog, key, .. } = read(&enrol);
        assert_eq!(catalog, CatalogId::parse(ID).unwrap());
        let expected =
            EnrolKey::Tpm { ek: Bytes(vec![1, 2]), ek_certificate: None, ak: Bytes(vec![3]) };
        assert_eq!(key, expected);
        let software = json!({"software": {"point": "AQI", "signature": ""}});
        read::<EnrolKey>(&software);
        let finish = json!({"enrolment": "AA", "proof": "AQ"});
        read::<FinishRequest>(&finish);
        let signed = json!({"attest": "AQ", "signature": "Ag"});
        let check_in = json!({"catalog": ID, "device": device, "claims": "e30", "receipt": null, "evidence":
            {"tpm": {"quote": signed, "keys": [
                {"for": "device", "public": "AA", "certification": signed},
                {"for": ID, "public": "AA", "certification": signed}]}}});
        let CheckInRequest { evidence, claims, .. } = read(&check_in);
        assert_eq!(claims.0, b"{}");
        let mut waiting = check_in.clone();
        waiting["update"] = json!("failed-before");
        assert_eq!(read::<CheckInRequest>(&waiting).update, Some(UpdateWait::FailedBefore));
        waiting["update"] = json!("a text of the device's own");
        assert!(refused::<CheckInRequest>(waiting).contains("unknown variant"));
        let EvidenceMessage::Tpm { keys, quote } = evidence else { panic!("{evidence:?}") };
        let holders: Vec<Purpose> = keys.iter().map(|key| key.holder.0).collect();
        let app = Purpose::App(ComponentId::parse(ID).unwrap());
        assert_eq!(holders, [Purpose::Device, app]);
        assert_eq!(quote.signed(), Signed { attest: &[1], signature: &[2] });
        read::<EvidenceMessage>(&json!({"software": {"signature": "AA", "keys":
            [{"for": "device", "point": "AA"}]}}));
        for (mut message, pointer) in [
            (enrol, "/key/tpm"),
            (finish, ""),
            (check_in.clone(), ""),
            (check_in.clone(), "/evidence/tpm"),
            (check_in.clone(), "/evidence/tpm/quote"),
            (check_in, "/evidence/tpm/keys/0"),
        ] {
            message.pointer_mut(pointer).unwrap()["more"] = json!(1);
            let says = [
                refused::<EnrolRequest>(message.clone()),
                { refused::<FinishRequest>(message.clone()) },
                refused::<CheckInRequest>(message),
            ];
            assert!(says.iter().any(|says| says.contains("unknown field `more`")), "{says:?}");
        }
    }

    #[test]
    fn answers_may_have_more_fields_than_a_device_knows() {
        let device = "ab".repeat(32);
        read::<EnrolAnswer>(&json!({"state": "challenge", "enrolment": "AA", "id_object": "AA",
            "encrypted_seed": "AA", "within_s": 600}));
        read::<EnrolAnswer>(&json!({"state": "enrolled", "device": device}));
        let waiting = json!({"state": "waiting", "device": device, "next_s": 600, "more": 1});
        let waiting: EnrolAnswer = serde_json::from_value(waiting).unwrap();
        assert!(matches!(waiting, EnrolAnswer::Waiting { next_s: 600, .. }));
        let answer = json!({"profile": "update-only", "certificates": [
            {"for": "device", "chain": ["AA", "AQ"]}], "until": 1_790_000_000u64,
            "next_s": 86_912, "receipt": "AA", "assignment": {"os": "1.4.0"}});
        let answer: CheckInAnswer = serde_json::from_value(answer).unwrap();
        assert_eq!((answer.profile, answer.reasons.len()), (Profile::UpdateOnly, 0));
        assert_eq!(answer.reports, None, "of a service that takes none");
        assert_eq!(answer.assignments, None, "of a service without deployments");
        let mut later = serde_json::to_value(answer).unwrap();
        assert_eq!(later.get("reports"), None);
        later["reports"] = json!({"level": "all", "most": 65_536});
        let answer: CheckInAnswer = serde_json::from_value(later).unwrap();
        assert_eq!(answer.reports, Some(ReportsPolicy { level: "all".to_owned() }));
        read::<AssignmentMessage>(
            &json!({"deployment": "d1", "component": "os", "newest": "1.4.0",
            "except": ["1.3.9"], "window": "02:00-04:00+60", "deadline": 5, "check_every_s": 900}),
        );
        let least = json!({"component": ID, "newest": "1.4.0", "more": 1});
        let least: AssignmentMessage = serde_json::from_value(least).unwrap();
        assert_eq!((least.deployment.as_str(), least.except.len()), ("", 0));
        let problem = json!({"type": "https://a.example/problems/unknown-device", "status": 404});
        let problem: Problem = serde_json::from_value(problem).unwrap();
        assert_eq!((problem.word(), problem.status), ("unknown-device", 404));
    }

    #[test]
    fn bytes_and_ids_have_one_text() {
        for wrong in ["AQ==", "A", "A+8", "AR", "A\nQ"] {
            assert!(refused::<Bytes>(json!(wrong)).contains("nvalid"), "{wrong}");
        }
        assert!(refused::<Holder>(json!("Device")).contains("must be `device`"));
        assert!(refused::<DeviceId>(json!("AB".repeat(32))).contains("lower-case"));
        assert!(refused::<CatalogId>(json!("x")).contains("GUID"));
    }

    /// Calculated beside this program, with Python.
    #[test]
    fn what_an_enrolment_signs_is_as_calculated_elsewhere() {
        let exporter = Exporter([0x11; 32]);
        let proof = enrolment_proof(&exporter, b"ak");
        assert_eq!(proof.len(), 17 + 32 + 32);
        assert_eq!(
            holdfast_types::hex::sha256(&proof),
            "4f55f01a889d3c8363153b1a53438c746e391544a23724e90a344dc18141ef84"
        );
        let software = software_enrolment(&exporter, &[4; 65]);
        assert_eq!(
            holdfast_types::hex::sha256(&software),
            "215564b0f5521e4638c79fe61db4e114653c3a1fa3276e2fef9cebc92513c063"
        );
    }
}
