//! What is demanded of the parsers of evidence: claims, and the structures of a TPM.

use holdfast_evidence::attest::{Certification, Quote, Signature};
use holdfast_evidence::claims::{Claims, MAX_CLAIMS_BYTES};
use holdfast_evidence::credential::Credential;
use holdfast_evidence::object::{MAX_PRIVATE_BYTES, MAX_PROPERTIES};
use holdfast_evidence::policy::PolicyDigest;
use holdfast_evidence::public::{MAX_PUBLIC_BYTES, Public, Template};
use holdfast_evidence::response;

/// Claims of a device.
pub fn claims(bytes: &[u8]) {
    if let Ok(claims) = Claims::read(bytes) {
        assert!(bytes.len() <= MAX_CLAIMS_BYTES, "{} bytes", bytes.len());
        let again = claims.to_bytes().unwrap_or_default();
        assert_eq!(Claims::read(&again).ok(), Some(claims), "they are written as others");
    }
}

/// An attestation of a TPM, and its signature.
pub fn tpm_attest(bytes: &[u8]) {
    if let Ok(quote) = Quote::read(bytes) {
        assert_eq!(quote.to_bytes(), bytes, "it is written as another");
    }
    if let Ok(certification) = Certification::read(bytes) {
        assert_eq!(certification.to_bytes(), bytes, "it is written as another");
    }
    if let Ok(signature) = Signature::read(bytes) {
        // Leading zeros may be left out.
        assert_eq!(Signature::read(&signature.to_bytes()), Ok(signature), "it is another");
    }
}

/// The public area of a key, with whatever policy is in it, and a credential for one.
pub fn tpm_public(bytes: &[u8]) {
    let policy = bytes.get(12..).and_then(|rest| rest.first_chunk());
    let policy = PolicyDigest(policy.copied().unwrap_or_default());
    for template in [
        Template::Endorsement,
        Template::Attestation,
        Template::StorageRoot,
        Template::Signing(policy),
    ] {
        if let Ok(public) = Public::read(bytes, &template) {
            assert_eq!(public.to_bytes(), bytes, "it is written as another");
            assert_eq!(template.area(public.point()), bytes.get(2..).unwrap_or_default());
        }
    }
    let (one, two) = bytes.split_at_checked(70).unwrap_or_default();
    if let Ok(credential) = Credential::read(one, two) {
        assert_eq!([credential.id_object(), credential.encrypted_seed()].concat(), bytes);
    }
}

/// A response of a TPM, to each of the commands.
pub fn tpm_response(bytes: &[u8]) {
    let _ = (response::done(bytes), response::loaded(bytes), response::session(bytes));
    let _ = (response::policy_secret(bytes), response::activated(bytes));
    if let Ok(properties) = response::properties(bytes) {
        assert!(properties.len() <= usize::try_from(MAX_PROPERTIES).unwrap_or_default());
    }
    if let Ok(random) = response::random(bytes) {
        assert!(random.len() <= 32);
    }
    if let Ok(primary) = response::primary(bytes) {
        assert!(primary.public.len() <= MAX_PUBLIC_BYTES.saturating_add(2));
    }
    if let Ok(created) = response::created(bytes) {
        assert!(created.public().len() <= MAX_PUBLIC_BYTES.saturating_add(2));
        assert!(created.private().len() <= MAX_PRIVATE_BYTES.saturating_add(2));
    }
    for signed in [response::quoted(bytes), response::certified(bytes)].into_iter().flatten() {
        assert!(Signature::read(signed.signature).is_ok(), "a signature that cannot be read");
    }
    if let Ok(signature) = response::signature(bytes) {
        assert_eq!(Signature::read(&signature.to_bytes()), Ok(signature), "it is another");
    }
    if let Err(response::ResponseError::Refused(code)) = response::done(bytes) {
        assert!(!code.to_string().is_empty());
    }
}

#[cfg(test)]
pub(crate) use tests::seeds;

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]
mod tests {
    use holdfast_evidence::attest::{Certification, ClockInfo, Header, Quote, Signature};
    use holdfast_evidence::policy::{PcrDigest, PolicyDigest};
    use holdfast_evidence::public::{Point, Public, Template};

    /// Claims of a device with one app, a quote, a public area of each kind, and responses.
    pub(crate) fn seeds() -> [(&'static str, Vec<Vec<u8>>); 4] {
        let claims = serde_json::json!({
            "v": 1, "boot": "6b".repeat(16), "image": "pump", "board": "qemu-virt",
            "os": {"version": "1.4.0", "index": 7, "digest": "8d".repeat(32), "slot": "b",
                   "phase": "committed"},
            "apps": [{"id": "25025d2c-66da-4448-bae1-ac26fcdd3627", "version": "2.1.0", "index": 3,
                      "root": "41".repeat(32)}],
            "debug": false, "clock": "network", "reset": "reboot", "tpm": "ok"
        });
        let sized = |bytes: &[u8]| {
            let length = u16::try_from(bytes.len()).unwrap();
            [&length.to_be_bytes()[..], bytes].concat()
        };
        let point = Point { x: [7; 32], y: [9; 32] };
        let templates = [
            Template::Endorsement,
            Template::Attestation,
            Template::StorageRoot,
            Template::Signing(PolicyDigest([5; 32])),
        ];
        let publics = templates.map(|template| sized(&template.area(&point)));
        let name = Public::read(&publics[1], &templates[1]).unwrap().name();
        let clock = ClockInfo { clock_ms: 1, reset_count: 2, restart_count: 3, safe: true };
        let header = Header { signer: name, extra: [3; 32], clock, firmware: 4 };
        let quote = Quote { header, pcr: PcrDigest([4; 32]) }.to_bytes();
        let certification = Certification { header, name, qualified_name: name }.to_bytes();
        let signature = Signature([5; 64]).to_bytes();
        let response = |tag: u16, body: &[u8]| {
            let size = u32::try_from(body.len() + 10).unwrap();
            [&tag.to_be_bytes()[..], &size.to_be_bytes(), &[0; 4], body].concat()
        };
        let quoted = [sized(&quote), signature.clone()].concat();
        let length = u32::try_from(quoted.len()).unwrap().to_be_bytes();
        let quoted = response(0x8002, &[&length[..], &quoted, &[0, 0, 1, 0, 0]].concat());
        let responses = vec![
            response(0x8001, &[]),
            response(0x8001, &sized(&[9; 32])),
            response(0x8001, &[&[3, 0, 0, 0][..], &sized(&[9; 32])].concat()),
            quoted,
        ];
        [
            ("claims", vec![claims.to_string().into_bytes()]),
            ("tpm_attest", vec![quote, certification, signature]),
            ("tpm_public", publics.to_vec()),
            ("tpm_response", responses),
        ]
    }
}
