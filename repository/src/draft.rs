//! Drafts: metadata that waits for its signatures, which may be made elsewhere.

use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_release::metadata::{
    self, Envelope, Key, Metadata, MetadataError, Role, Root, Signature,
};
use holdfast_types::hex::hex;
use serde_json::Value;
use thiserror::Error;

/// Errors of a draft.
#[derive(Debug, Error)]
pub enum DraftError {
    /// The metadata cannot be encoded as JSON or decoded from it.
    #[error("the metadata cannot be written or read")]
    Json(#[from] serde_json::Error),
    /// The metadata is malformed, or has no canonical form.
    #[error("the metadata")]
    Metadata(#[from] MetadataError),
    /// A signature is another key's, or over other bytes; with the id of the key.
    #[error("the signature is not that of key {0} over this draft")]
    Signature(String),
}

/// Metadata with the signatures that it has so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    signed: Value,
    message: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Draft {
    /// Begins a draft without signatures.
    ///
    /// # Errors
    /// The metadata cannot be encoded.
    pub fn new<M: Metadata>(metadata: &M) -> Result<Self, DraftError> {
        Self::after(metadata, None, |_| false)
    }

    /// Begins a draft that follows what was signed before: fields that are unknown here stay as they are
    /// (specification, 4). `same` says of a target's path that the target has not changed.
    pub(crate) fn after<M: Metadata>(
        metadata: &M,
        before: Option<&Value>,
        same: impl Fn(&str) -> bool,
    ) -> Result<Self, DraftError> {
        let mut signed = serde_json::to_value(metadata)?;
        let fields = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
        let mut known = fields(before.unwrap_or(&Value::Null));
        let targets_before = known.remove("targets").map(|targets| fields(&targets));
        if let Some(signed) = signed.as_object_mut() {
            let targets = signed.get_mut("targets").and_then(Value::as_object_mut);
            for (path, target) in targets.into_iter().flatten() {
                let before = targets_before.as_ref().and_then(|targets| targets.get(path));
                if let Some(before) = before.filter(|_| same(path)) {
                    *target = before.clone();
                }
            }
            for (name, value) in known {
                signed.entry(name).or_insert(value);
            }
        }
        let message = metadata::canonical(&signed)?;
        Ok(Self { signed, message, signatures: Vec::new() })
    }

    /// Returns the canonical form, which is signed.
    #[must_use]
    pub fn bytes_to_sign(&self) -> &[u8] {
        &self.message
    }

    /// Signs the draft. A second signature of a key replaces the first.
    pub fn sign(&mut self, key: &PrivateKey) {
        let signature = key.sign(&self.message);
        self.put(&key.public(), &signature);
    }

    /// Signs the draft with those of the keys that have this role in one of the roots.
    pub(crate) fn sign_with(&mut self, keys: &[PrivateKey], roots: &[&Root], role: Role) {
        for key in keys {
            let id = Key::of(&key.public().bytes).id();
            let has_role = |root: &&Root| root.role(role).is_some_and(|of| of.keyids.contains(&id));
            if roots.iter().any(has_role) {
                self.sign(key);
            }
        }
    }

    /// Decodes the root that this draft is of.
    pub(crate) fn root(&self) -> Result<Root, DraftError> {
        Ok(serde_json::from_value(self.signed.clone())?)
    }

    /// Adds a signature that was made elsewhere.
    ///
    /// # Errors
    /// The signature is another key's, or over other bytes.
    pub fn attach(&mut self, key: &PublicKey, signature: &[u8; 64]) -> Result<(), DraftError> {
        if !key.has_signed(&self.message, signature) {
            return Err(DraftError::Signature(key.id().to_string()));
        }
        self.put(key, signature);
        Ok(())
    }

    fn put(&mut self, key: &PublicKey, signature: &[u8; 64]) {
        let keyid = Key::of(&key.bytes).id();
        self.signatures.retain(|known| known.keyid != keyid);
        self.signatures.push(Signature { keyid, sig: hex(signature) });
    }

    /// Encodes the metadata file with its signatures.
    ///
    /// # Errors
    /// The file cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, DraftError> {
        let envelope =
            Envelope { signatures: self.signatures.clone(), signed: self.signed.clone() };
        Ok(serde_json::to_vec(&envelope)?)
    }

    /// Decodes a draft that was saved, with its signatures. Whether they are enough is checked when it is used.
    ///
    /// # Errors
    /// The bytes are no metadata of this role.
    pub fn read<M: Metadata>(bytes: &[u8]) -> Result<Self, DraftError> {
        let (_, Envelope { signatures, signed }) = metadata::read::<M>(bytes)?;
        let message = metadata::canonical(&signed)?;
        Ok(Self { signed, message, signatures })
    }
}
