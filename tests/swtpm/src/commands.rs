//! What `identity` does with a TPM, one command after the other. Handles are the caller's to flush, but for those of parents.

use crate::emulator::Tpm;
use holdfast_evidence::attest::Signed;
use holdfast_evidence::command::{self, Authorization, Hierarchy};
use holdfast_evidence::credential::Credential;
use holdfast_evidence::messages::{Bytes, SignedMessage};
use holdfast_evidence::object::{Created, Handle, Primary};
use holdfast_evidence::public::Template;
use holdfast_evidence::qualifying::QualifyingData;
use holdfast_evidence::response::{self, ResponseError};

/// Of catalog root and epoch, where nothing else is asked for.
const UNIQUE: [u8; 32] = [0xca; 32];

impl Tpm {
    /// `TPM2_CreatePrimary`.
    pub fn primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &Template,
        unique: [u8; 32],
    ) -> Primary {
        let answer = self.send(&command::create_primary(hierarchy, template, &unique));
        response::primary(&answer).unwrap()
    }

    /// Makes the attestation key.
    pub fn attestation_key(&mut self) -> Primary {
        self.attestation_key_of(UNIQUE)
    }

    /// Makes the attestation key of another catalog or epoch.
    pub fn attestation_key_of(&mut self, unique: [u8; 32]) -> Primary {
        self.primary(Hierarchy::Endorsement, &Template::Attestation, unique)
    }

    /// Makes the endorsement key.
    pub fn endorsement_key(&mut self) -> Primary {
        self.primary(Hierarchy::Endorsement, &Template::Endorsement, [0; 32])
    }

    /// Makes the storage root key.
    pub fn storage_root(&mut self) -> Primary {
        self.primary(Hierarchy::Owner, &Template::StorageRoot, [0; 32])
    }

    /// `TPM2_Create` below the storage root key.
    pub fn create(&mut self, template: &Template) -> Created {
        let parent = self.storage_root().handle;
        let answer = self.send(&command::create(parent, template));
        self.flush(parent);
        response::created(&answer).unwrap()
    }

    /// `TPM2_Load` of what [`create`](Self::create) has made.
    pub fn load(&mut self, key: &Created) -> Handle {
        let parent = self.storage_root().handle;
        let answer = self.send(&command::load(parent, key));
        self.flush(parent);
        response::loaded(&answer).unwrap()
    }

    /// `TPM2_FlushContext`.
    pub fn flush(&mut self, handle: Handle) {
        response::done(&self.send(&command::flush_context(handle))).unwrap();
    }

    /// Begins a policy session.
    pub fn session(&mut self) -> Handle {
        response::session(&self.send(&command::start_policy_session(&[7; 32]))).unwrap()
    }

    /// `TPM2_Clear` by the lockout hierarchy, whose authorization is empty: the owner's seed and all counts begin anew.
    pub fn clear(&mut self) {
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

    /// `TPM2_ActivateCredential` for a loaded key by a loaded endorsement key.
    ///
    /// # Errors
    /// The credential is not for both.
    pub fn activate_with(
        &mut self,
        named: Handle,
        ek: Handle,
        credential: &Credential,
    ) -> Result<[u8; 32], ResponseError> {
        let session = self.session();
        response::policy_secret(&self.send(&command::policy_secret(session))).unwrap();
        let answer = self.send(&command::activate_credential(named, ek, session, credential));
        self.flush(session);
        response::activated(&answer)
    }

    /// Opens a credential for a key, which is flushed.
    ///
    /// # Errors
    /// The credential is for another key or TPM.
    pub fn activate_for(
        &mut self,
        ak: Handle,
        credential: &Credential,
    ) -> Result<[u8; 32], ResponseError> {
        let ek = self.endorsement_key().handle;
        let activated = self.activate_with(ak, ek, credential);
        self.flush(ak);
        self.flush(ek);
        activated
    }

    /// Opens a credential for the attestation key.
    ///
    /// # Errors
    /// The credential is for another key or TPM.
    pub fn activate(&mut self, credential: &Credential) -> Result<[u8; 32], ResponseError> {
        let ak = self.attestation_key().handle;
        self.activate_for(ak, credential)
    }

    /// `TPM2_Sign` of a digest by a key whose policy is of PCR 8. Returns the response.
    pub fn sign(&mut self, key: &Created, digest: &[u8; 32]) -> Vec<u8> {
        let loaded = self.load(key);
        let session = self.session();
        response::done(&self.send(&command::policy_pcr(session))).unwrap();
        let answer = self.send(&command::sign(loaded, Authorization::Policy(session), digest));
        self.flush(session);
        self.flush(loaded);
        answer
    }

    /// `TPM2_Quote` of PCR 8 by the attestation key.
    pub fn quote(&mut self, data: &QualifyingData) -> SignedMessage {
        let ak = self.attestation_key().handle;
        let answer = self.send(&command::quote(ak, data));
        self.flush(ak);
        message(response::quoted(&answer).unwrap())
    }

    /// `TPM2_Certify` of a key by the attestation key.
    pub fn certify(&mut self, key: &Created, data: &QualifyingData) -> SignedMessage {
        let loaded = self.load(key);
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
