//! What `identity` does with a TPM, one command after the other.

use crate::emulator::Tpm;
use holdfast_evidence::attest::Signed;
use holdfast_evidence::command::{self, Hierarchy};
use holdfast_evidence::credential::Credential;
use holdfast_evidence::messages::{Bytes, SignedMessage};
use holdfast_evidence::object::{Created, Handle, Primary};
use holdfast_evidence::public::Template;
use holdfast_evidence::qualifying::QualifyingData;
use holdfast_evidence::response::{self, ResponseError};

impl Tpm {
    pub(crate) fn primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &Template,
        unique: [u8; 32],
    ) -> Primary {
        let answer = self.send(&command::create_primary(hierarchy, template, &unique));
        response::primary(&answer).unwrap()
    }

    pub(crate) fn attestation_key(&mut self) -> Primary {
        self.attestation_key_of([0xca; 32])
    }

    /// The attestation key of another catalog or epoch.
    pub(crate) fn attestation_key_of(&mut self, unique: [u8; 32]) -> Primary {
        self.primary(Hierarchy::Endorsement, &Template::Attestation, unique)
    }

    pub(crate) fn endorsement_key(&mut self) -> Primary {
        self.primary(Hierarchy::Endorsement, &Template::Endorsement, [0; 32])
    }

    pub(crate) fn create(&mut self, template: &Template) -> Created {
        let parent = self.primary(Hierarchy::Owner, &Template::StorageRoot, [0; 32]).handle;
        let answer = self.send(&command::create(parent, template));
        self.flush(parent);
        response::created(&answer).unwrap()
    }

    pub(crate) fn flush(&mut self, handle: Handle) {
        response::done(&self.send(&command::flush_context(handle))).unwrap();
    }

    /// `TPM2_Clear` by the lockout hierarchy, whose authorization is empty: the owner's seed and all counts begin anew.
    pub(crate) fn clear(&mut self) {
        let body = [
            &[0, 0, 1, 0x26][..],
            &[0x40, 0, 0, 0x0a],
            &[0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0],
        ];
        let body = body.concat();
        let size = u32::try_from(body.len() + 6).unwrap();
        let answer = self.send(&[&[0x80, 0x02][..], &size.to_be_bytes(), &body].concat());
        assert_eq!(answer[6..10], [0; 4], "the TPM is not cleared");
    }

    /// Opens a credential for the attestation key.
    pub(crate) fn activate(&mut self, credential: &Credential) -> Result<[u8; 32], ResponseError> {
        let ak = self.attestation_key().handle;
        self.activate_for(ak, credential)
    }

    /// Opens a credential for a key, which is flushed.
    pub(crate) fn activate_for(
        &mut self,
        ak: Handle,
        credential: &Credential,
    ) -> Result<[u8; 32], ResponseError> {
        let ek = self.endorsement_key().handle;
        let session = self.send(&command::start_policy_session(&[7; 32]));
        let session = response::session(&session).unwrap();
        response::policy_secret(&self.send(&command::policy_secret(session))).unwrap();
        let answer = self.send(&command::activate_credential(ak, ek, session, credential));
        for handle in [session, ak, ek] {
            self.flush(handle);
        }
        response::activated(&answer)
    }

    pub(crate) fn quote(&mut self, data: &QualifyingData) -> SignedMessage {
        let ak = self.attestation_key().handle;
        let answer = self.send(&command::quote(ak, data));
        self.flush(ak);
        message(response::quoted(&answer).unwrap())
    }

    pub(crate) fn certify(&mut self, key: &Created, data: &QualifyingData) -> SignedMessage {
        let parent = self.primary(Hierarchy::Owner, &Template::StorageRoot, [0; 32]).handle;
        let loaded = response::loaded(&self.send(&command::load(parent, key))).unwrap();
        self.flush(parent);
        let ak = self.attestation_key().handle;
        let answer = self.send(&command::certify(loaded, ak, data));
        self.flush(ak);
        self.flush(loaded);
        message(response::certified(&answer).unwrap())
    }
}

fn message(signed: Signed<'_>) -> SignedMessage {
    let (attest, signature) = (signed.attest.to_vec(), signed.signature.to_vec());
    SignedMessage { attest: Bytes(attest), signature: Bytes(signature) }
}
