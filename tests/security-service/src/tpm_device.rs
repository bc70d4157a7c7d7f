//! A device with a TPM in software.

use crate::client::{Answer, Target};
use crate::{checked_in, post};
use holdfast_evidence::claims::Claims;
use holdfast_evidence::credential::Credential;
use holdfast_evidence::messages::{
    Bytes, CHECK_IN_PATH, CatalogId, CertifiedKey, CheckInRequest, DeviceId, ENROL_PATH,
    EnrolAnswer, EnrolKey, EnrolRequest, EvidenceMessage, FINISH_PATH, FinishRequest, Holder,
    enrolment_proof,
};
use holdfast_evidence::object::Primary;
use holdfast_evidence::policy::{PcrDigest, PolicyDigest};
use holdfast_evidence::public::Template;
use holdfast_evidence::qualifying::{Exporter, Purpose, QualifyingData};
use holdfast_swtpm::{APP, BOOT, Tpm, claims};
use ring::hmac;

/// A device with a TPM that has booted the release.
#[derive(Debug)]
pub struct TpmDevice {
    /// Its TPM.
    pub tpm: Tpm,
    /// Its id, of the endorsement key.
    pub id: DeviceId,
    /// The catalog that it belongs to.
    pub catalog: CatalogId,
    /// What it claims.
    pub claims: Claims,
    /// The receipt of its last check-in.
    pub receipt: Option<Bytes>,
}

impl TpmDevice {
    /// Makes one that nobody knows.
    #[must_use]
    pub fn new(catalog: CatalogId) -> Self {
        let mut tpm = Tpm::start();
        tpm.extend_pcr_8(&BOOT.0);
        let ek = tpm.endorsement_key();
        tpm.flush(ek.handle);
        let id = DeviceId::of_endorsement_key(&ek.public);
        Self { tpm, id, catalog, claims: claims(), receipt: None }
    }

    /// Makes the first request of an enrolment.
    pub fn enrol_request(&mut self) -> EnrolRequest {
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
    pub fn finish_request(&mut self, challenge: &Answer, exporter: &Exporter) -> FinishRequest {
        let ak = self.tpm.attestation_key();
        self.finish_with(challenge, exporter, ak)
    }

    /// Opens the credential of a challenge for a key.
    pub fn finish_with(
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
    pub fn enrol(&mut self, target: &Target) -> Answer {
        let request = self.enrol_request();
        let challenge = post(&mut target.connect(), ENROL_PATH, &request);
        if challenge.status != 200 {
            return challenge;
        }
        let mut client = target.connect();
        let finish = self.finish_request(&challenge, &client.exporter(&self.id.0));
        post(&mut client, FINISH_PATH, &finish)
    }

    /// Makes a check-in for a connection, with keys of the release that PCR 8 has.
    pub fn request(&mut self, exporter: &Exporter) -> CheckInRequest {
        let policy = PolicyDigest::of_pcr(&PcrDigest::of_one_extend(&BOOT));
        self.request_with(exporter, &Template::Signing(policy))
    }

    /// Makes a check-in with keys of another template.
    pub fn request_with(&mut self, exporter: &Exporter, template: &Template) -> CheckInRequest {
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
            update: None,
        }
    }

    /// Checks in, and keeps the receipt.
    pub fn check_in(&mut self, target: &Target) -> Answer {
        let mut client = target.connect();
        let request = self.request(&client.exporter(&self.id.0));
        let answer = post(&mut client, CHECK_IN_PATH, &request);
        if answer.status == 200 {
            self.receipt = Some(checked_in(&answer).receipt);
        }
        answer
    }
}
