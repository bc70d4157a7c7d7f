//! A service for tests: it believes what `verify` returns, and issues certificates for that.

use crate::{APP, CATALOG};
use holdfast_evidence::attest::Signature;
use holdfast_evidence::claims::Claims;
use holdfast_evidence::credential::{Agreement, Credential};
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::messages::{
    Bytes, CheckInAnswer, CheckInRequest, EnrolAnswer, EnrolKey, EnrolRequest, EvidenceMessage,
    FinishRequest, Holder, IssuedChain, Profile, ReportsPolicy, enrolment_proof,
    software_enrolment,
};
use holdfast_evidence::policy::PcrDigest;
use holdfast_evidence::public::{AttestationKey, EndorsementKey, Point};
use holdfast_evidence::qualifying::{Exporter, Purpose};
use holdfast_evidence::service::Ring;
use holdfast_evidence::software::{SoftwareEvidence, verify_software};
use holdfast_evidence::verify;
use holdfast_evidence::verify::{AttestedKey, Evidence, KeyEvidence, VerifySignature};
use rcgen::{
    CertificateParams, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use ring::hmac;

const SECRET: [u8; 32] = [0x5e; 32];

/// The key by which the device is known.
enum Known {
    Tpm(AttestationKey),
    Software(Point),
}

pub(crate) struct Service {
    issuer: Issuer<'static, KeyPair>,
    issuing: Vec<u8>,
    known: Option<Known>,
    pub(crate) receipt: Option<Vec<u8>>,
}

/// What was attested in a check-in.
pub(crate) struct Believed {
    pub(crate) claims: Claims,
    pub(crate) pcr: Option<PcrDigest>,
    pub(crate) keys: Vec<AttestedKey>,
}

/// A public key for a certificate, without its private half.
struct Subject([u8; 65]);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Service {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let issuing = params.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(params, key), issuing, known: None, receipt: None }
    }

    /// A certificate for a key.
    pub(crate) fn certificate(&self, point: &Point) -> Vec<u8> {
        let params = CertificateParams::new(vec!["device.example".to_owned()]).unwrap();
        let subject = Subject(point.uncompressed());
        params.signed_by(&subject, &self.issuer).unwrap().der().to_vec()
    }

    /// Answers a request to enrol, with a credential that is made for `key` where it is not the device's own.
    pub(crate) fn enrol(
        &mut self,
        body: &[u8],
        exporter: &Exporter,
        other: Option<(&EndorsementKey, &AttestationKey)>,
    ) -> EnrolAnswer {
        let request: EnrolRequest = serde_json::from_slice(body).unwrap();
        assert_eq!((request.catalog, request.image.as_str()), (CATALOG, "pump-fw"));
        match request.key {
            EnrolKey::Tpm { ek, ek_certificate: None, ak } => {
                let ek = EndorsementKey::read(&ek.0).unwrap();
                let ak = AttestationKey::read(&ak.0).unwrap();
                let (for_ek, for_ak) = other.unwrap_or((&ek, &ak));
                let agreement = Agreement::with(for_ek).unwrap();
                let name = for_ak.public().name();
                let credential = Credential::make(for_ek, &name, &SECRET, &agreement);
                self.known = Some(Known::Tpm(ak));
                EnrolAnswer::Challenge {
                    enrolment: Bytes(vec![1; 16]),
                    id_object: Bytes(credential.id_object()),
                    encrypted_seed: Bytes(credential.encrypted_seed()),
                    within_s: 600,
                }
            }
            EnrolKey::Software { point, signature } => {
                let uncompressed: [u8; 65] = point.0.try_into().unwrap();
                let point = Point::from_uncompressed(&uncompressed).unwrap();
                let signature = Signature(signature.0.try_into().unwrap());
                let message = software_enrolment(exporter, &uncompressed);
                assert!(Ring.is_valid(&point, &message, &signature));
                self.known = Some(Known::Software(point));
                EnrolAnswer::Enrolled { device: DeviceId::of_software_key(&uncompressed) }
            }
            EnrolKey::Tpm { .. } => panic!("a certificate"),
        }
    }

    /// True where the proof is that of the credential's secret over this connection.
    pub(crate) fn finish(&self, body: &[u8], exporter: &Exporter) -> bool {
        let request: FinishRequest = serde_json::from_slice(body).unwrap();
        assert_eq!(request.enrolment.0, [1; 16]);
        let Some(Known::Tpm(ak)) = &self.known else { panic!("no TPM") };
        let message = enrolment_proof(exporter, &ak.public().to_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA256, &SECRET);
        hmac::verify(&key, &message, &request.proof.0).is_ok()
    }

    /// Verifies a check-in.
    pub(crate) fn believe(&self, body: &[u8], exporter: &Exporter) -> Result<Believed, String> {
        let request: CheckInRequest = serde_json::from_slice(body).unwrap();
        assert_eq!(request.receipt.map(|bytes| bytes.0), self.receipt);
        let says = |error| format!("{error:?}");
        match (&request.evidence, self.known.as_ref().unwrap()) {
            (EvidenceMessage::Tpm { quote, keys }, Known::Tpm(ak)) => {
                let keys: Vec<KeyEvidence<'_>> = keys
                    .iter()
                    .map(|key| KeyEvidence {
                        purpose: key.holder.0,
                        public: &key.public.0,
                        certification: key.certification.signed(),
                    })
                    .collect();
                let claims = &request.claims.0;
                let evidence = Evidence { claims, quote: quote.signed(), keys: &keys };
                let attested = verify(&evidence, exporter, ak, &Ring).map_err(says)?;
                let pcr = Some(attested.pcr);
                Ok(Believed { claims: attested.claims, pcr, keys: attested.keys })
            }
            (EvidenceMessage::Software { signature, keys }, Known::Software(point)) => {
                let read = |bytes: &Bytes| Point::from_uncompressed(&bytes.0).unwrap();
                let keys: Vec<(Purpose, Point)> =
                    keys.iter().map(|key| (key.holder.0, read(&key.point))).collect();
                let signature = Signature(signature.0.clone().try_into().unwrap());
                let claims = &request.claims.0;
                let evidence = SoftwareEvidence { claims, keys: &keys, signature: &signature };
                let attested = verify_software(&evidence, exporter, point, &Ring).map_err(says)?;
                Ok(Believed { claims: attested.claims, pcr: None, keys: attested.keys })
            }
            _ => panic!("evidence of another grade"),
        }
    }

    /// The answer to a check-in: a chain for each key.
    pub(crate) fn answer(&mut self, keys: &[AttestedKey]) -> CheckInAnswer {
        let chain = |key: &AttestedKey| IssuedChain {
            holder: Holder(key.purpose),
            chain: vec![Bytes(self.certificate(&key.point)), Bytes(self.issuing.clone())],
        };
        let certificates = keys.iter().map(chain).collect();
        let receipt = vec![0xce; 48];
        self.receipt = Some(receipt.clone());
        CheckInAnswer {
            profile: Profile::Full,
            reasons: Vec::new(),
            certificates,
            until: 1_800_000_000,
            next_s: 86_912,
            receipt: Bytes(receipt),
            reports: Some(ReportsPolicy { level: "full".to_owned() }),
            assignments: None,
            feed: None,
            transfer: None,
        }
    }
}

/// The holders of keys that are expected.
pub(crate) fn holders() -> [Purpose; 2] {
    [Purpose::Device, Purpose::App(APP)]
}
