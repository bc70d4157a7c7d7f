//! Commands to a TPM as bytes (TPM 2.0 Library, part 3). What is sent is made here alone, and how it is answered is read
//! in [`response`](crate::response).
//!
//! Keys have an empty authorization, which a password session gives, or a policy. Neither protects against who sits
//! between the processor and its TPM; what he could change there, signatures show.

use crate::credential::Credential;
use crate::object::{Created, Handle, MAX_NV_BYTES, MAX_PROPERTIES, MAX_RANDOM_BYTES, NvIndex};
use crate::policy::{ENDORSEMENT, PCR_SELECTION, POLICY_PCR, POLICY_SECRET};
use crate::public::{NULL, SHA256, Template};
use crate::qualifying::QualifyingData;
use crate::structure::put_sized;

/// `TPM_ST_NO_SESSIONS`.
const NO_SESSIONS: [u8; 2] = [0x80, 0x01];
/// `TPM_ST_SESSIONS`.
const SESSIONS: [u8; 2] = [0x80, 0x02];
/// `TPM_RS_PW`, the session of a password.
const PASSWORD: [u8; 4] = [0x40, 0, 0, 0x09];
/// `TPM_RH_NULL`.
const NO_HANDLE: [u8; 4] = [0x40, 0, 0, 0x07];
/// `continueSession` of `TPMA_SESSION`: the session is not flushed by the command.
const CONTINUE: u8 = 1;

/// A hierarchy below whose seed primary keys are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hierarchy {
    /// Of the owner: the storage root key. Its seed changes when somebody clears the TPM.
    Owner,
    /// Of endorsement: endorsement and attestation keys. Its seed is the maker's.
    Endorsement,
}

/// What authorizes the use of a handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization {
    /// The empty authorization value.
    Empty,
    /// This policy session.
    Policy(Handle),
}

impl Hierarchy {
    fn handle(self) -> [u8; 4] {
        match self {
            Self::Owner => [0x40, 0, 0, 0x01],
            Self::Endorsement => ENDORSEMENT,
        }
    }
}

impl Authorization {
    /// `TPMS_AUTH_COMMAND`: a session, and no nonce and no HMAC, since no session here has a key.
    fn put(self, out: &mut Vec<u8>) {
        let session = match self {
            Self::Empty => PASSWORD,
            Self::Policy(session) => session.0.to_be_bytes(),
        };
        out.extend(session);
        out.extend([0, 0, CONTINUE, 0, 0]);
    }
}

/// Puts a command together from its code, its handles with what authorizes each, and its parameters.
fn command(
    code: [u8; 4],
    handles: &[[u8; 4]],
    authorizations: &[Authorization],
    parameters: &[u8],
) -> Vec<u8> {
    let tag = if authorizations.is_empty() { NO_SESSIONS } else { SESSIONS };
    let mut body = handles.concat();
    if !authorizations.is_empty() {
        let mut area = Vec::new();
        authorizations.iter().for_each(|authorization| authorization.put(&mut area));
        body.extend(length(area.len()));
        body.extend(area);
    }
    body.extend_from_slice(parameters);
    let size = length(body.len().saturating_add(10));
    [&tag[..], &size, &code, &body].concat()
}

/// A length in four bytes. What is put together here has a few hundred.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes()
}

/// `TPM2_GetCapability` of properties (`TPM_CAP_TPM_PROPERTIES`) from `first` on, at most [`MAX_PROPERTIES`].
#[must_use]
pub fn get_properties(first: u32, count: u32) -> Vec<u8> {
    let count = count.min(MAX_PROPERTIES);
    let parameters = [[0, 0, 0, 6], first.to_be_bytes(), count.to_be_bytes()].concat();
    command([0, 0, 1, 0x7a], &[], &[], &parameters)
}

/// `TPM2_GetRandom`, at most [`MAX_RANDOM_BYTES`].
#[must_use]
pub fn get_random(bytes: u16) -> Vec<u8> {
    command([0, 0, 1, 0x7b], &[], &[], &bytes.min(MAX_RANDOM_BYTES).to_be_bytes())
}

/// `TPM2_NV_ReadPublic` of an index of the TPM's memory.
#[must_use]
pub fn nv_read_public(index: NvIndex) -> Vec<u8> {
    command([0, 0, 1, 0x69], &[index.0.to_be_bytes()], &[], &[])
}

/// `TPM2_NV_Read` of an index that anybody may read, by its own authorization, which is empty; at most [`MAX_NV_BYTES`].
#[must_use]
pub fn nv_read(index: NvIndex, bytes: u16, offset: u16) -> Vec<u8> {
    let parameters = [bytes.min(MAX_NV_BYTES).to_be_bytes(), offset.to_be_bytes()].concat();
    command([0, 0, 1, 0x4e], &[index.0.to_be_bytes(); 2], &[Authorization::Empty], &parameters)
}

/// `TPM2_CreatePrimary` of a template. The same `unique` gives the same key again, until the hierarchy's seed changes.
#[must_use]
pub fn create_primary(hierarchy: Hierarchy, template: &Template, unique: &[u8; 32]) -> Vec<u8> {
    let parameters = creation(template, unique);
    command([0, 0, 1, 0x31], &[hierarchy.handle()], &[Authorization::Empty], &parameters)
}

/// `TPM2_Create` of a template below a storage key.
#[must_use]
pub fn create(parent: Handle, template: &Template) -> Vec<u8> {
    let parameters = creation(template, &[0; 32]);
    command([0, 0, 1, 0x53], &[parent.0.to_be_bytes()], &[Authorization::Empty], &parameters)
}

/// Parameters of both: an empty authorization, no data, the template, no outside information, no PCRs.
fn creation(template: &Template, unique: &[u8; 32]) -> Vec<u8> {
    let mut parameters = vec![0, 4, 0, 0, 0, 0];
    put_sized(&mut parameters, &template.to_create(unique));
    parameters.extend([0, 0, 0, 0, 0, 0]);
    parameters
}

/// `TPM2_Load` of a key that `TPM2_Create` made.
#[must_use]
pub fn load(parent: Handle, key: &Created) -> Vec<u8> {
    let parameters = [key.private(), key.public()].concat();
    command([0, 0, 1, 0x57], &[parent.0.to_be_bytes()], &[Authorization::Empty], &parameters)
}

/// `TPM2_StartAuthSession` of a policy with SHA-256, bound to nothing and without a key. The nonce goes into HMACs, which
/// the session does not have.
#[must_use]
pub fn start_policy_session(nonce: &[u8; 32]) -> Vec<u8> {
    let mut parameters = Vec::new();
    put_sized(&mut parameters, nonce);
    // No salt; a policy session; no parameter encryption.
    parameters.extend([0, 0, 1]);
    parameters.extend(NULL);
    parameters.extend(SHA256);
    command([0, 0, 1, 0x76], &[NO_HANDLE, NO_HANDLE], &[], &parameters)
}

/// `TPM2_PolicyPCR` of PCR 8 as it is now.
#[must_use]
pub fn policy_pcr(session: Handle) -> Vec<u8> {
    let parameters = [&[0, 0][..], &PCR_SELECTION].concat();
    command(POLICY_PCR, &[session.0.to_be_bytes()], &[], &parameters)
}

/// `TPM2_PolicySecret` with the authorization of the endorsement hierarchy, which is empty: what an endorsement key asks
/// for.
#[must_use]
pub fn policy_secret(session: Handle) -> Vec<u8> {
    // nonceTPM, cpHashA and policyRef are empty, and it does not expire.
    let parameters = [0; 10];
    let handles = [ENDORSEMENT, session.0.to_be_bytes()];
    command(POLICY_SECRET, &handles, &[Authorization::Empty], &parameters)
}

/// `TPM2_ActivateCredential`: opens a credential for the key of which it has the name, with an endorsement key in a policy
/// session.
#[must_use]
pub fn activate_credential(
    named: Handle,
    endorsement: Handle,
    session: Handle,
    credential: &Credential,
) -> Vec<u8> {
    let parameters = [credential.id_object(), credential.encrypted_seed()].concat();
    let handles = [named, endorsement].map(|handle| handle.0.to_be_bytes());
    let authorizations = [Authorization::Empty, Authorization::Policy(session)];
    command([0, 0, 1, 0x47], &handles, &authorizations, &parameters)
}

/// `TPM2_Certify` of a key by an attestation key, in that one's scheme.
#[must_use]
pub fn certify(key: Handle, attestation: Handle, data: &QualifyingData) -> Vec<u8> {
    let handles = [key, attestation].map(|handle| handle.0.to_be_bytes());
    command([0, 0, 1, 0x48], &handles, &[Authorization::Empty; 2], &attested(data))
}

/// `TPM2_Quote` of PCR 8 by an attestation key, in that one's scheme.
#[must_use]
pub fn quote(attestation: Handle, data: &QualifyingData) -> Vec<u8> {
    let parameters = [attested(data), PCR_SELECTION.to_vec()].concat();
    let handles = [attestation.0.to_be_bytes()];
    command([0, 0, 1, 0x58], &handles, &[Authorization::Empty], &parameters)
}

/// The qualifying data, and the scheme of the key that signs.
fn attested(data: &QualifyingData) -> Vec<u8> {
    let mut parameters = Vec::new();
    put_sized(&mut parameters, data.bytes());
    parameters.extend(NULL);
    parameters
}

/// `TPM2_Sign` of a digest, in the key's scheme. The key is no restricted one, so the TPM does not ask where the digest
/// comes from.
#[must_use]
pub fn sign(key: Handle, authorization: Authorization, digest: &[u8; 32]) -> Vec<u8> {
    let mut parameters = Vec::new();
    put_sized(&mut parameters, digest);
    parameters.extend(NULL);
    // TPM_ST_HASHCHECK of nothing.
    parameters.extend([0x80, 0x24]);
    parameters.extend(NO_HANDLE);
    parameters.extend([0, 0]);
    command([0, 0, 1, 0x5d], &[key.0.to_be_bytes()], &[authorization], &parameters)
}

/// `TPM2_FlushContext` of a key or a session.
#[must_use]
pub fn flush_context(handle: Handle) -> Vec<u8> {
    command([0, 0, 1, 0x65], &[], &[], &handle.0.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::MAX_BYTES;
    use crate::policy::PolicyDigest;
    use crate::qualifying::Exporter;
    use holdfast_types::hex::hex;

    #[test]
    fn commands_say_how_long_they_are() {
        let (key, session) = (Handle(0x8000_0000), Handle(0x0300_0000));
        let data = QualifyingData::of_quote(&Exporter([1; 32]), b"");
        let credential = Credential::read(
            &[&[0, 68][..], &[1; 68]].concat(),
            &[&[0, 68][..], &[2; 68]].concat(),
        );
        let template = Template::Signing(PolicyDigest([3; 32]));
        for bytes in [
            get_properties(0x100, 1),
            get_random(32),
            nv_read_public(NvIndex::ENDORSEMENT_CERTIFICATE),
            nv_read(NvIndex::ENDORSEMENT_CERTIFICATE, 100, 1),
            create_primary(Hierarchy::Endorsement, &Template::Endorsement, &[0; 32]),
            create(key, &template),
            start_policy_session(&[0; 32]),
            policy_pcr(session),
            policy_secret(session),
            activate_credential(key, key, session, &credential.unwrap()),
            certify(key, key, &data),
            quote(key, &data),
            sign(key, Authorization::Policy(session), &[0; 32]),
            flush_context(key),
        ] {
            let said = u32::from_be_bytes(bytes[2..6].try_into().unwrap());
            assert_eq!(usize::try_from(said).unwrap(), bytes.len(), "{}", hex(&bytes));
            assert!(bytes.len() <= MAX_BYTES);
        }
    }

    #[test]
    fn nothing_is_asked_for_that_is_not_read() {
        assert_eq!(hex(&get_random(4096)), "80010000000c0000017b0020");
        let properties = hex(&get_properties(0x100, 9999));
        assert_eq!(properties, "8001000000160000017a000000060000010000000040");
        let read = hex(&nv_read(NvIndex::ENDORSEMENT_CERTIFICATE, 9999, 512));
        let expected = [
            "800200000023",
            "0000014e",
            "01c0000a01c0000a",
            "00000009400000090000010000",
            "02000200",
        ];
        assert_eq!(read, expected.concat());
    }

    /// The bytes of part 3 for a policy session's use, put down by hand.
    #[test]
    fn a_policy_session_authorizes_a_signature() {
        let sign = sign(Handle(0x8000_0001), Authorization::Policy(Handle(0x0300_0000)), &[9; 32]);
        let expected = [
            "8002000000470000015d80000001",
            "00000009030000000000010000",
            &format!("0020{}", "09".repeat(32)),
            "0010",
            "8024400000070000",
        ];
        assert_eq!(hex(&sign), expected.concat());
    }
}
