//! What is demanded of the parsers of the device port: bodies, heads of answers, certificates, and what crosses between
//! `uplink` and `identity`.

use holdfast_evidence::attest::Signature;
use holdfast_evidence::config::IdentityConfig;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::exchange::{self, ExchangeReply, ExchangeRequest, MAX_MESSAGE_BYTES};
use holdfast_evidence::http::{self, MAX_HEAD_BYTES};
use holdfast_evidence::issued::{MAX_CERTIFICATE_BYTES, certified_grade, certified_key};
use holdfast_evidence::messages::{
    CheckInAnswer, CheckInRequest, EnrolAnswer, EnrolRequest, FinishRequest, Problem,
};
use holdfast_evidence::public::Point;
use holdfast_evidence::transfer::{self, Chain, Voucher};
use holdfast_evidence::verify::VerifySignature;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The body of a request or an answer.
pub fn device_message(bytes: &[u8]) {
    fn read<T: Serialize + DeserializeOwned + PartialEq>(bytes: &[u8]) {
        if let Ok(message) = serde_json::from_slice::<T>(bytes) {
            let again = serde_json::to_vec(&message).unwrap_or_default();
            let again = serde_json::from_slice::<T>(&again).ok();
            assert!(again == Some(message), "it is written as another");
        }
    }
    read::<EnrolRequest>(bytes);
    read::<EnrolAnswer>(bytes);
    read::<FinishRequest>(bytes);
    read::<CheckInRequest>(bytes);
    read::<CheckInAnswer>(bytes);
    if let Ok(problem) = serde_json::from_slice::<Problem>(bytes) {
        assert!(!problem.word().contains('/'), "{}", problem.word());
    }
}

/// The head of an answer. What it begins with is made to fit as well.
pub fn http_head(bytes: &[u8]) {
    let begun = [b"HTTP/1.1 200 OK\r\n", bytes].concat();
    for bytes in [bytes, &begun] {
        if let Ok(Some((head, length))) = http::read_head(bytes) {
            assert!(length <= bytes.len().min(MAX_HEAD_BYTES), "{length} bytes");
            assert!((100..600).contains(&head.status), "{}", head.status);
            // What came behind the head changes nothing in it.
            let alone = bytes.get(..length).unwrap_or_default();
            assert_eq!(http::read_head(alone), Ok(Some((head, length))));
        }
    }
}

/// A certificate of the service.
pub fn issued_certificate(bytes: &[u8]) {
    if let Ok(point) = certified_key(bytes) {
        assert!(bytes.len() <= MAX_CERTIFICATE_BYTES);
        let key = point.uncompressed();
        assert!(bytes.windows(key.len()).any(|part| part == key), "a key that is not in it");
    }
    if let Ok(Some(_)) = certified_grade(bytes) {
        // 2.5.29.32.
        assert!(bytes.windows(3).any(|part| part == [0x55, 0x1d, 0x20]), "no policies in it");
    }
}

/// A message between `uplink` and `identity`.
pub fn identity_exchange(bytes: &[u8]) {
    if let Ok(request) = exchange::decode::<ExchangeRequest>(bytes) {
        assert!(bytes.len() <= MAX_MESSAGE_BYTES);
        assert_eq!(exchange::encode(&request).as_deref(), Ok(bytes), "two encodings");
    }
    if let Ok(reply) = exchange::decode::<ExchangeReply>(bytes) {
        assert_eq!(exchange::encode(&reply).as_deref(), Ok(bytes), "two encodings");
    }
}

/// A voucher, by which a device goes to another catalog, and the chain of those that it has followed.
pub fn voucher(bytes: &[u8]) {
    if let Ok(voucher) = Voucher::decode(bytes) {
        assert_eq!(voucher.encode().as_deref(), Ok(bytes), "two encodings");
        let owner = IdentityConfig {
            catalog: voucher.transfer.from,
            catalog_root: voucher.transfer.root.clone(),
            epoch: voucher.transfer.epoch.saturating_sub(1),
        };
        let device = DeviceId(voucher.transfer.device);
        let followed = transfer::follow(&owner, &voucher, &device, None, &Nobody);
        assert!(followed.is_err(), "nobody has signed it");
    }
    if let Ok(chain) = Chain::decode(bytes) {
        assert_eq!(chain.encode().as_deref(), Ok(bytes), "two encodings");
    }
}

/// A verifier to whom no signature is good.
struct Nobody;

impl VerifySignature for Nobody {
    fn is_valid(&self, _: &Point, _: &[u8], _: &Signature) -> bool {
        false
    }
}

#[cfg(test)]
pub(crate) use tests::seeds;

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_evidence::transfer::Transfer;
    use holdfast_types::CatalogId;

    /// A voucher that nobody has signed.
    fn voucher() -> Vec<u8> {
        let transfer = Transfer {
            device: [1; 32],
            from: CatalogId([2; 16]),
            to: CatalogId([3; 16]),
            root: certificate(),
            epoch: 1,
            ends_at: 1_800_000_000,
        };
        Voucher::new(transfer, &Signature([4; 64])).encode().unwrap()
    }

    /// A body of each kind, heads, a certificate, and messages.
    pub(crate) fn seeds() -> [(&'static str, Vec<Vec<u8>>); 5] {
        let device = "ab".repeat(32);
        let id = "25025d2c-66da-4448-bae1-ac26fcdd3627";
        let signed = serde_json::json!({"attest": "AQ", "signature": "Ag"});
        let bodies = [
            serde_json::json!({"catalog": id, "board": "qemu-virt", "image": "pump",
                "key": {"tpm": {"ek": "AQI", "ek_certificate": null, "ak": "Aw"}}}),
            serde_json::json!({"catalog": id, "board": "qemu-virt", "image": "pump",
                "key": {"software": {"point": "AQI", "signature": "Aw"}}}),
            serde_json::json!({"state": "challenge", "enrolment": "AA", "id_object": "AA",
                "encrypted_seed": "AA", "within_s": 600}),
            serde_json::json!({"state": "waiting", "device": device, "next_s": 600}),
            serde_json::json!({"enrolment": "AA", "proof": "AQ"}),
            serde_json::json!({"catalog": id, "device": device, "claims": "e30", "receipt": "AA", "evidence":
                {"tpm": {"quote": signed, "keys": [
                    {"for": id, "public": "AA", "certification": signed}]}}}),
            serde_json::json!({"catalog": id, "device": device, "claims": "e30", "receipt": null, "evidence":
                {"software": {"signature": "AA", "keys": [{"for": "device", "point": "AA"}]}}}),
            serde_json::json!({"profile": "update-only", "reasons": ["withdrawn"],
                "certificates": [{"for": "device", "chain": ["AA"]}], "until": 1, "next_s": 2,
                "receipt": "AA"}),
            serde_json::json!({"type": "https://a.example/problems/unknown-device",
                "status": 404, "title": "x", "detail": "y"}),
        ];
        let bodies = bodies.map(|body| body.to_string().into_bytes());
        let heads = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{}",
            "HTTP/1.1 503 Busy\r\nRetry-After: 30\r\nX-Y:\t z \r\n\r\n",
        ];
        let heads = heads.map(|head| head.as_bytes().to_vec());
        let messages = [
            exchange::encode(&ExchangeRequest::Describe),
            exchange::encode(&ExchangeRequest::Finish { answer: vec![1; 9], exporter: [2; 32] }),
            exchange::encode(&ExchangeRequest::Follow(vec![5; 9])),
            exchange::encode(&ExchangeReply::device(&DeviceId([3; 32]), true, false)),
            exchange::encode(&ExchangeReply::Kept {
                next_s: 86_400,
                is_for_updates_alone: false,
                reports: Some("health".to_owned()),
            }),
        ];
        let messages = messages.map(Result::unwrap);
        [
            ("device_message", bodies.to_vec()),
            ("http_head", heads.to_vec()),
            ("identity_exchange", messages.to_vec()),
            ("issued_certificate", vec![certificate()]),
            ("voucher", vec![voucher(), Chain::default().encode().unwrap()]),
        ]
    }

    /// The least that is read of a certificate.
    fn certificate() -> Vec<u8> {
        let der = |tag: u8, parts: &[&[u8]]| {
            let content = parts.concat();
            let length = u8::try_from(content.len()).unwrap();
            let head = if length < 128 { vec![tag, length] } else { vec![tag, 0x81, length] };
            [head, content].concat()
        };
        let algorithm = [
            &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01][..],
            &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        ];
        let point = [&[0, 4][..], &[7; 64]].concat();
        let key = der(0x30, &[&der(0x30, &algorithm), &der(0x03, &[&point])]);
        let version = der(0xa0, &[&der(0x02, &[&[2]])]);
        let (serial, sequence) = (der(0x02, &[&[5]]), der(0x30, &[]));
        let fields = [&version, &serial, &sequence, &sequence, &sequence, &sequence, &key];
        let tbs = der(0x30, &fields.map(Vec::as_slice));
        der(0x30, &[&tbs, &sequence, &der(0x03, &[&[0, 1]])])
    }
}
