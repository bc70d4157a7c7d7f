//! The keys of a device with a TPM, of which none ever leaves it.

use crate::tpm::{Loaded, Tpm, TpmError};
use holdfast_evidence::attest::{Quote, Signature};
use holdfast_evidence::command::{self, Authorization, Hierarchy};
use holdfast_evidence::credential::Credential;
use holdfast_evidence::device_id::DeviceId;
use holdfast_evidence::issued;
use holdfast_evidence::messages::{
    Bytes, CertifiedKey, EvidenceMessage, Holder, MAX_EK_CERTIFICATE_BYTES, SignedMessage,
};
use holdfast_evidence::object::{Created, MAX_NV_BYTES, NvIndex};
use holdfast_evidence::policy::PolicyDigest;
use holdfast_evidence::public::{AttestationKey, EndorsementKey, Point, Public, Template};
use holdfast_evidence::qualifying::{Purpose, QualifyingData};
use holdfast_evidence::response::{self, ResponseError};
use sha2::{Digest, Sha256};

const MAKE_EK: &str = "make the endorsement key";
const MAKE_AK: &str = "make the attestation key";
const MAKE_SRK: &str = "make the storage root key";
const QUOTE: &str = "quote PCR 8";
const CREATE: &str = "make a key";
const LOAD: &str = "load a key";
const CERTIFY: &str = "certify a key";
const SESSION: &str = "start a session";
const ACTIVATE: &str = "activate a credential";
const SIGN: &str = "sign";
const READ_CERTIFICATE: &str = "read the endorsement key's certificate";

/// A key as it lies outside its TPM, encrypted.
#[derive(Debug)]
pub struct TpmKey {
    created: Created,
    point: Point,
}

impl TpmKey {
    /// Returns the public key.
    #[must_use]
    pub fn point(&self) -> &Point {
        &self.point
    }
}

/// A TPM with the public areas of the two keys that the device is known by.
#[derive(Debug)]
pub struct TpmKeys {
    tpm: Tpm,
    unique: [u8; 32],
    endorsement: EndorsementKey,
    attestation: AttestationKey,
}

fn endorsement_key(tpm: &Tpm) -> Result<(Loaded<'_>, EndorsementKey), TpmError> {
    let template = Template::Endorsement;
    let (loaded, public) = tpm.primary(MAKE_EK, Hierarchy::Endorsement, &template, &[0; 32])?;
    let read = EndorsementKey::read(&public);
    let key = read.map_err(|_| tpm.lies(MAKE_EK, "a key of another template"))?;
    Ok((loaded, key))
}

fn attestation_key<'tpm>(
    tpm: &'tpm Tpm,
    unique: &[u8; 32],
) -> Result<(Loaded<'tpm>, AttestationKey), TpmError> {
    let template = Template::Attestation;
    let (loaded, public) = tpm.primary(MAKE_AK, Hierarchy::Endorsement, &template, unique)?;
    let read = AttestationKey::read(&public);
    let key = read.map_err(|_| tpm.lies(MAKE_AK, "a key of another template"))?;
    Ok((loaded, key))
}

fn storage_root(tpm: &Tpm) -> Result<Loaded<'_>, TpmError> {
    let template = Template::StorageRoot;
    let (loaded, public) = tpm.primary(MAKE_SRK, Hierarchy::Owner, &template, &[0; 32])?;
    match Public::read(&public, &template) {
        Ok(_) => Ok(loaded),
        Err(_) => Err(tpm.lies(MAKE_SRK, "a key of another template")),
    }
}

/// Reads an attestation, and its signature, out of a response.
fn signed<'a>(
    read: impl FnOnce(&'a [u8]) -> Result<holdfast_evidence::attest::Signed<'a>, ResponseError>,
    response: &'a [u8],
) -> Result<SignedMessage, ResponseError> {
    let signed = read(response)?;
    Ok(SignedMessage {
        attest: Bytes(signed.attest.to_vec()),
        signature: Bytes(signed.signature.to_vec()),
    })
}

/// A TPM of which the endorsement key is known, and so the device's id, before it is known whose the device is.
#[derive(Debug)]
pub struct Endorsed {
    tpm: Tpm,
    endorsement: EndorsementKey,
}

impl Endorsed {
    /// Makes the endorsement key, and remembers its public area.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn begin(tpm: Tpm) -> Result<Self, TpmError> {
        let endorsement = endorsement_key(&tpm)?.1;
        Ok(Self { tpm, endorsement })
    }

    /// Returns the id of the device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId::of_endorsement_key(&self.endorsement.public().to_bytes())
    }

    /// Makes the attestation key as well. `unique` tells those of one TPM apart.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn attesting(self, unique: [u8; 32]) -> Result<TpmKeys, TpmError> {
        let Self { tpm, endorsement } = self;
        let attestation = attestation_key(&tpm, &unique)?.1;
        Ok(TpmKeys { tpm, unique, endorsement, attestation })
    }
}

impl TpmKeys {
    /// True once the TPM is asked no more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.tpm.has_failed()
    }

    /// Returns the id of the device.
    #[must_use]
    pub fn id(&self) -> DeviceId {
        DeviceId::of_endorsement_key(&self.endorsement.public().to_bytes())
    }

    /// Returns the public area of the endorsement key, `TPM2B_PUBLIC`.
    #[must_use]
    pub fn endorsement(&self) -> Vec<u8> {
        self.endorsement.public().to_bytes()
    }

    /// Returns the certificate of the endorsement key, DER, where the TPM has one that fits a request.
    ///
    /// # Errors
    /// See [`TpmError`]. A TPM that refuses to be read is one without a certificate.
    pub fn endorsement_certificate(&self) -> Result<Option<Vec<u8>>, TpmError> {
        match self.read_certificate() {
            Ok(bytes) => Ok(bytes.and_then(|bytes| Some(issued::certificate_in(&bytes)?.to_vec()))),
            Err(TpmError::Refused(..)) if !self.has_failed() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read_certificate(&self) -> Result<Option<Vec<u8>>, TpmError> {
        let index = NvIndex::ENDORSEMENT_CERTIFICATE;
        let command = command::nv_read_public(index);
        let length = self.tpm.ask(READ_CERTIFICATE, &command, response::nv_length)?;
        if usize::from(length) > MAX_EK_CERTIFICATE_BYTES {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut offset = 0;
        while offset < length {
            let most = length.saturating_sub(offset).min(MAX_NV_BYTES);
            let command = command::nv_read(index, most, offset);
            let read = |response: &[u8]| response::nv_data(response).map(<[u8]>::to_vec);
            let piece = self.tpm.ask(READ_CERTIFICATE, &command, read)?;
            if piece.len() != usize::from(most) {
                return Ok(None);
            }
            bytes.extend(piece);
            offset = offset.saturating_add(most);
        }
        Ok(Some(bytes))
    }

    /// Returns the public area of the attestation key, `TPM2B_PUBLIC`.
    #[must_use]
    pub fn attestation(&self) -> Vec<u8> {
        self.attestation.public().to_bytes()
    }

    /// The attestation key, which is still the one that the device is known by.
    fn attest_with(&self) -> Result<Loaded<'_>, TpmError> {
        let (loaded, key) = attestation_key(&self.tpm, &self.unique)?;
        if key == self.attestation {
            Ok(loaded)
        } else {
            Err(self.tpm.lies(MAKE_AK, "another key than before"))
        }
    }

    /// Opens a credential for the attestation key, and returns its secret.
    ///
    /// # Errors
    /// See [`TpmError`]: the credential is for another key, or another TPM.
    pub fn activate(&self, credential: &Credential) -> Result<[u8; 32], TpmError> {
        let attestation = self.attest_with()?;
        let (endorsement, key) = endorsement_key(&self.tpm)?;
        if key != self.endorsement {
            return Err(self.tpm.lies(MAKE_EK, "another key than before"));
        }
        let session = self.tpm.policy_session(SESSION)?;
        let policy = command::policy_secret(session.handle());
        self.tpm.ask(ACTIVATE, &policy, response::policy_secret)?;
        let command = command::activate_credential(
            attestation.handle(),
            endorsement.handle(),
            session.handle(),
            credential,
        );
        self.tpm.ask(ACTIVATE, &command, response::activated)
    }

    /// Quotes PCR 8, and makes and certifies a new key for each purpose, which signs while PCR 8 is as it was quoted.
    ///
    /// # Errors
    /// See [`TpmError`]. Whatever was loaded is flushed.
    pub fn attest(
        &self,
        data: &QualifyingData,
        purposes: &[Purpose],
    ) -> Result<(EvidenceMessage, Vec<(Purpose, TpmKey)>), TpmError> {
        let attestation = self.attest_with()?;
        let command = command::quote(attestation.handle(), data);
        let read = |response: &[u8]| signed(response::quoted, response);
        let message = self.tpm.ask(QUOTE, &command, read)?;
        let quote = Quote::read(&message.attest.0);
        let quote = quote.map_err(|_| self.tpm.lies(QUOTE, "a quote of something else"))?;
        if quote.header.extra != *data.bytes() {
            return Err(self.tpm.lies(QUOTE, "a quote for somebody else"));
        }
        let template = Template::Signing(PolicyDigest::of_pcr(&quote.pcr));
        let parent = storage_root(&self.tpm)?;
        let (mut keys, mut certified) = (Vec::new(), Vec::new());
        for purpose in purposes {
            let create = command::create(parent.handle(), &template);
            let created = self.tpm.ask(CREATE, &create, response::created)?;
            let public = Public::read(created.public(), &template);
            let public = public.map_err(|_| self.tpm.lies(CREATE, "a key of another template"))?;
            let loaded = self.tpm.load(LOAD, &parent, &created)?;
            let data = data.of_key(purpose);
            let certify = command::certify(loaded.handle(), attestation.handle(), &data);
            let read = |response: &[u8]| signed(response::certified, response);
            certified.push(CertifiedKey {
                holder: Holder(*purpose),
                public: Bytes(created.public().to_vec()),
                certification: self.tpm.ask(CERTIFY, &certify, read)?,
            });
            keys.push((*purpose, TpmKey { created, point: *public.point() }));
        }
        Ok((EvidenceMessage::Tpm { quote: message, keys: certified }, keys))
    }

    /// Signs a message with a key, while PCR 8 is as it was when the key was made.
    ///
    /// # Errors
    /// See [`TpmError`].
    pub fn sign(&self, key: &TpmKey, message: &[u8]) -> Result<Signature, TpmError> {
        let parent = storage_root(&self.tpm)?;
        let loaded = self.tpm.load(LOAD, &parent, &key.created)?;
        // The kernel saves and loads each key around each command.
        drop(parent);
        let session = self.tpm.policy_session(SESSION)?;
        self.tpm.ask(SIGN, &command::policy_pcr(session.handle()), response::done)?;
        let authorization = Authorization::Policy(session.handle());
        let digest = Sha256::digest(message).into();
        let command = command::sign(loaded.handle(), authorization, &digest);
        self.tpm.ask(SIGN, &command, response::signature)
    }
}
