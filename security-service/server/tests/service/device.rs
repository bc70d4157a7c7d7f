//! Devices: one with a TPM in software, and one with a key of its own, which can be copied.

use crate::client::{Answer, Client, Target};
use crate::emulator::Tpm;
use crate::installation::{BOOT, Installation};
use holdfast_evidence::claims::{
    AppClaim, BootId, Claims, ClockSource, OsClaim, Phase, Slot, TpmState,
};
use holdfast_evidence::credential::Credential;
use holdfast_evidence::messages::{
    Bytes, CHECK_IN_PATH, CatalogId, CertifiedKey, CheckInAnswer, CheckInRequest, DeviceId,
    ENROL_PATH, EnrolAnswer, EnrolKey, EnrolRequest, EvidenceMessage, FINISH_PATH, FinishRequest,
    Holder, SoftwareKey, enrolment_proof, software_enrolment,
};
use holdfast_evidence::object::Primary;
use holdfast_evidence::policy::{BootDigest, PcrDigest, PolicyDigest};
use holdfast_evidence::public::{Point, Template};
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};
use holdfast_evidence::software;
use holdfast_service_domain::grade::Grade;
use holdfast_types::{ComponentId, Version};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde::Serialize;
use std::sync::Arc;

pub(crate) const APP: ComponentId = ComponentId([0xa1; 16]);

pub(crate) fn claims() -> Claims {
    let version = Version { major: 1, minor: 4, patch: 0 };
    Claims {
        boot: BootId([0x6b; 16]),
        image: "pump-fw".to_owned(),
        board: "qemu-virt".to_owned(),
        os: OsClaim {
            version,
            index: 7,
            digest: BootDigest(BOOT),
            slot: Slot::A,
            phase: Phase::Committed,
        },
        apps: vec![AppClaim { id: APP, version, index: 3, root: [0x41; 32] }],
        debug: false,
        clock: ClockSource::Network,
        reset: "reboot".to_owned(),
        tpm: TpmState::Ok,
    }
}

pub(crate) fn post<T: Serialize>(client: &mut Client, path: &str, body: &T) -> Answer {
    client.ask("POST", path, "", &serde_json::to_vec(body).unwrap())
}

/// A device with a TPM that has booted the release.
pub(crate) struct TpmDevice {
    pub(crate) tpm: Tpm,
    pub(crate) id: DeviceId,
    pub(crate) catalog: CatalogId,
    pub(crate) claims: Claims,
    pub(crate) receipt: Option<Bytes>,
}

impl TpmDevice {
    pub(crate) fn new(catalog: CatalogId) -> Self {
        let mut tpm = Tpm::start();
        tpm.extend_pcr_8(&BOOT);
        let ek = tpm.endorsement_key();
        tpm.flush(ek.handle);
        let id = DeviceId::of_endorsement_key(&ek.public);
        Self { tpm, id, catalog, claims: claims(), receipt: None }
    }

    /// Makes one that is enrolled in the catalog of an installation.
    pub(crate) fn enrolled(service: &Installation) -> Self {
        let mut device = Self::new(service.catalog);
        service.claim(&device.id.to_string(), Grade::Emulated);
        let answer = device.enrol(&service.device);
        assert_eq!(answer.status, 200, "{answer:?}");
        device
    }

    pub(crate) fn enrol_request(&mut self) -> EnrolRequest {
        let (ek, ak) = (self.tpm.endorsement_key(), self.tpm.attestation_key());
        self.tpm.flush(ek.handle);
        self.tpm.flush(ak.handle);
        EnrolRequest {
            catalog: self.catalog,
            board: "qemu-virt".to_owned(),
            image: "pump-fw".to_owned(),
            key: EnrolKey::Tpm { ek: Bytes(ek.public), ek_certificate: None, ak: Bytes(ak.public) },
        }
    }

    /// Opens the credential of a challenge, for a connection.
    pub(crate) fn finish_request(
        &mut self,
        challenge: &Answer,
        exporter: &Exporter,
    ) -> FinishRequest {
        let ak = self.tpm.attestation_key();
        self.finish_with(challenge, exporter, ak)
    }

    /// Opens the credential of a challenge for a key.
    pub(crate) fn finish_with(
        &mut self,
        challenge: &Answer,
        exporter: &Exporter,
        ak: Primary,
    ) -> FinishRequest {
        let challenge: EnrolAnswer = serde_json::from_slice(&challenge.body).unwrap();
        let EnrolAnswer::Challenge { enrolment, id_object, encrypted_seed, .. } = challenge else {
            panic!("no challenge: {challenge:?}");
        };
        let credential = Credential::read(&id_object.0, &encrypted_seed.0).unwrap();
        let secret = self.tpm.activate_for(ak.handle, &credential).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let proof = hmac::sign(&key, &enrolment_proof(exporter, &ak.public));
        FinishRequest { enrolment, proof: Bytes(proof.as_ref().to_vec()) }
    }

    /// Enrols, over two connections as a device does it. The answer is the first that is not a challenge.
    pub(crate) fn enrol(&mut self, target: &Target) -> Answer {
        let request = self.enrol_request();
        let challenge = post(&mut target.connect(), ENROL_PATH, &request);
        if challenge.status != 200 {
            return challenge;
        }
        let mut client = target.connect();
        let finish = self.finish_request(&challenge, &client.exporter(&self.id.0));
        post(&mut client, FINISH_PATH, &finish)
    }

    /// A check-in for a connection, with keys of the release that PCR 8 has.
    pub(crate) fn request(&mut self, exporter: &Exporter) -> CheckInRequest {
        let policy = PolicyDigest::of_pcr(&PcrDigest::of_one_extend(&BootDigest(BOOT)));
        self.request_with(exporter, &Template::Signing(policy))
    }

    /// A check-in with keys of another template.
    pub(crate) fn request_with(
        &mut self,
        exporter: &Exporter,
        template: &Template,
    ) -> CheckInRequest {
        let claims = self.claims.to_bytes().unwrap();
        let data = QualifyingData::of_quote(exporter, &claims);
        let quote = self.tpm.quote(&data);
        let mut keys = Vec::new();
        for purpose in [Purpose::Device, Purpose::App(APP)] {
            let key = self.tpm.create(template);
            let certification = self.tpm.certify(&key, &data.of_key(&purpose));
            let public = Bytes(key.public().to_vec());
            keys.push(CertifiedKey { holder: Holder(purpose), public, certification });
        }
        CheckInRequest {
            catalog: self.catalog,
            device: self.id,
            claims: Bytes(claims),
            evidence: EvidenceMessage::Tpm { quote, keys },
            receipt: self.receipt.clone(),
        }
    }

    /// Checks in, and keeps the receipt.
    pub(crate) fn check_in(&mut self, target: &Target) -> Answer {
        let mut client = target.connect();
        let request = self.request(&client.exporter(&self.id.0));
        let answer = post(&mut client, CHECK_IN_PATH, &request);
        if answer.status == 200 {
            self.receipt = Some(checked_in(&answer).receipt);
        }
        answer
    }
}

/// A device without a TPM. A clone of it is what copying its card makes.
#[derive(Clone)]
pub(crate) struct SoftwareDevice {
    key: Arc<EcdsaKeyPair>,
    pub(crate) id: DeviceId,
    pub(crate) catalog: CatalogId,
    pub(crate) claims: Claims,
    pub(crate) receipt: Option<Bytes>,
}

pub(crate) fn software_key() -> EcdsaKeyPair {
    let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap()
}

pub(crate) fn point(key: &EcdsaKeyPair) -> [u8; 65] {
    key.public_key().as_ref().try_into().unwrap()
}

impl SoftwareDevice {
    pub(crate) fn new(catalog: CatalogId) -> Self {
        let key = software_key();
        let id = DeviceId::of_software_key(&point(&key));
        let mut claims = claims();
        claims.tpm = TpmState::None;
        Self { key: Arc::new(key), id, catalog, claims, receipt: None }
    }

    pub(crate) fn enrolled(service: &Installation) -> Self {
        let device = Self::new(service.catalog);
        service.claim(&device.id.to_string(), Grade::Software);
        let answer = device.enrol(&service.device);
        assert_eq!(answer.status, 200, "{answer:?}");
        device
    }

    fn sign(&self, message: &[u8]) -> Bytes {
        Bytes(self.key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec())
    }

    pub(crate) fn enrol(&self, target: &Target) -> Answer {
        let mut client = target.connect();
        let exporter = client.exporter(&self.id.0);
        let point = point(&self.key);
        let signature = self.sign(&software_enrolment(&exporter, &point));
        let request = EnrolRequest {
            catalog: self.catalog,
            board: "qemu-virt".to_owned(),
            image: "pump-fw".to_owned(),
            key: EnrolKey::Software { point: Bytes(point.to_vec()), signature },
        };
        post(&mut client, ENROL_PATH, &request)
    }

    pub(crate) fn request(&self, exporter: &Exporter) -> CheckInRequest {
        let claims = self.claims.to_bytes().unwrap();
        let leaf = point(&software_key());
        let keys = [(Purpose::Device, Point::from_uncompressed(&leaf).unwrap())];
        let signature = self.sign(&software::message(exporter, &claims, &keys));
        let keys =
            vec![SoftwareKey { holder: Holder(Purpose::Device), point: Bytes(leaf.to_vec()) }];
        CheckInRequest {
            catalog: self.catalog,
            device: self.id,
            claims: Bytes(claims),
            evidence: EvidenceMessage::Software { signature, keys },
            receipt: self.receipt.clone(),
        }
    }

    pub(crate) fn check_in(&mut self, target: &Target) -> Answer {
        let mut client = target.connect();
        let request = self.request(&client.exporter(&self.id.0));
        let answer = post(&mut client, CHECK_IN_PATH, &request);
        if answer.status == 200 {
            self.receipt = Some(checked_in(&answer).receipt);
        }
        answer
    }
}

/// Reads the answer to a check-in.
pub(crate) fn checked_in(answer: &Answer) -> CheckInAnswer {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_slice(&answer.body).unwrap()
}
