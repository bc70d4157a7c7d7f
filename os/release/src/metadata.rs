//! TUF metadata: what the four roles of a repository sign, as JSON.
//!
//! A signature is over the canonical form of what is signed (OLPC's canonical JSON, as TUF has it), which
//! is made from the parsed value: fields that are not known here are signed too.

pub use crate::canonical::canonical;
use crate::target::{Authority, Device, Release, Target};
use ed25519_dalek::{Signature as Ed25519, VerifyingKey};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::KeyId;
use holdfast_types::hex::{hex, sha256, unhex};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Most keys of a root, and most signatures of a file.
const MAX_KEYS: usize = 64;
/// Key type and scheme of the only keys that are understood.
pub const ED25519: &str = "ed25519";
/// Version of the TUF specification that is written.
pub const SPEC_VERSION: &str = "1.0.34";

/// The four top-level roles of TUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Signs the keys of all roles.
    Root,
    /// Signs which snapshot is the newest.
    Timestamp,
    /// Signs which versions of metadata belong together.
    Snapshot,
    /// Signs the files that are released.
    Targets,
}

impl Role {
    /// All roles, in the order in which a client verifies them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// Returns the name of the role.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }

    /// Returns the length in bytes of the longest file of this role that is read.
    #[must_use]
    pub const fn most_bytes(self) -> u64 {
        match self {
            Self::Root | Self::Snapshot => 32 * 1024,
            Self::Timestamp => 4 * 1024,
            Self::Targets => 256 * 1024,
        }
    }

    /// Returns the name of the role's file with this version, in a repository with consistent snapshots.
    #[must_use]
    pub fn file(self, version: u32) -> String {
        match self {
            Self::Timestamp => "timestamp.json".to_owned(),
            _ => format!("{version}.{}.json", self.name()),
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Errors of a metadata file; each text is the predicate of the role or the path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// The file is longer than a file of its role may be.
    #[error("has {bytes} bytes, more than {most}")]
    TooLong {
        /// Length of the file in bytes.
        bytes: u64,
        /// Longest length in bytes.
        most: u64,
    },
    /// The file is no JSON, or lacks a field of its role; with the parser's message.
    #[error("is not of its shape: {0}")]
    Shape(String),
    /// The field `_type` names another role.
    #[error("is of the role `{0}`")]
    OtherRole(String),
    /// The file follows another major version of the specification.
    #[error("follows version {0} of the specification, not 1")]
    Specification(String),
    /// The version is 0; versions begin with 1.
    #[error("has version 0")]
    VersionZero,
    /// A number is no integer, and has no canonical form.
    #[error("has a number that is no integer, which has no canonical form")]
    NotCanonical,
    /// A time is not written as `YYYY-MM-DDTHH:MM:SSZ`.
    #[error("says `{0}`, which is no time in UTC")]
    Time(String),
    /// A role is missing in the root, has too many keys, or has a threshold of 0 or, where it is to be published,
    /// above the number of its keys.
    #[error("has a role {0} with a threshold or keys that make no sense")]
    Threshold(Role),
    /// Two signatures name the same key.
    #[error("has two signatures of key {0}")]
    SignedTwice(String),
    /// Too few keys of the role have signed the file.
    #[error("has {valid} of {threshold} signatures of the role's keys")]
    Signatures {
        /// Number of different keys with a valid signature.
        valid: usize,
        /// Number of keys that must sign.
        threshold: usize,
    },
}

/// A metadata file: what is signed, with its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Signatures over the canonical form of `signed`.
    pub signatures: Vec<Signature>,
    /// The signed part, as it was parsed.
    pub signed: Value,
}

/// A signature of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Id of the key.
    pub keyid: String,
    /// The signature in hexadecimal.
    pub sig: String,
}

/// Fields that the metadata of every role has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// Name of the role.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Version of the TUF specification that the file follows.
    pub spec_version: String,
    /// Version of the file, which grows with each publication.
    pub version: u32,
    /// Expiry, as RFC 3339 in UTC.
    pub expires: String,
}

/// Metadata of the root role: the keys of all roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The fields that all roles have.
    #[serde(flatten)]
    pub common: Common,
    /// File names begin with a version, but for the timestamp's.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Keys by their ids, as far as they are understood: the others sign nothing here.
    #[serde(deserialize_with = "understood_keys")]
    pub keys: BTreeMap<String, Key>,
    /// Keys and threshold of each top-level role. Others, such as mirrors, are left out.
    #[serde(deserialize_with = "known_roles")]
    pub roles: BTreeMap<Role, RoleKeys>,
}

/// Keeps the keys that are understood and whose id is the hash of their canonical form (4.3), with or without fields
/// that are unknown here.
fn understood_keys<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, Key>, D::Error> {
    let all = BTreeMap::<String, Value>::deserialize(from)?;
    let keys = all.into_iter().filter_map(|(id, value)| {
        let key = Key::deserialize(&value).ok()?;
        let is_named = id == key.id() || id == sha256(&canonical(&value).ok()?);
        is_named.then_some((id, key))
    });
    Ok(keys.collect())
}

fn known_roles<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<Role, RoleKeys>, D::Error> {
    let all = BTreeMap::<String, Value>::deserialize(from)?;
    let known = Role::ALL.into_iter().filter_map(|role| Some((role, all.get(role.name())?)));
    let read = |(role, value)| Ok((role, RoleKeys::deserialize(value).map_err(de::Error::custom)?));
    known.map(read).collect()
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Type of the key, such as `ed25519`.
    pub keytype: String,
    /// Signature scheme, such as `ed25519`.
    pub scheme: String,
    /// Value of the key.
    pub keyval: KeyValue,
}

/// Value of a public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key's bytes; in hexadecimal for Ed25519.
    pub public: String,
}

/// The keys that sign for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Ids of the role's keys.
    pub keyids: BTreeSet<String>,
    /// Number of them that must sign.
    pub threshold: usize,
}

/// Metadata of the timestamp role: which snapshot is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// The fields that all roles have.
    #[serde(flatten)]
    pub common: Common,
    /// Version, length and hashes of `snapshot.json` alone.
    pub meta: BTreeMap<String, FileMeta>,
}

/// Metadata of the snapshot role: which targets belong to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The fields that all roles have.
    #[serde(flatten)]
    pub common: Common,
    /// Version, length and hashes of `targets.json`.
    pub meta: BTreeMap<String, FileMeta>,
}

/// Reference of one metadata file to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Version of the other file.
    pub version: u32,
    /// Length of the other file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Hashes of the other file in hexadecimal, by algorithm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
}

/// Metadata of the targets role: the files that are released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// The fields that all roles have.
    #[serde(flatten)]
    pub common: Common,
    /// When the targets were made, as RFC 3339 in UTC: a device's clock shows no less from then on. The field stands
    /// here since the keys of this role are offline; a key on a server must not raise a clock for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<String>,
    /// Files of the repository by their paths.
    pub targets: BTreeMap<String, Target>,
}

/// Metadata of one role.
pub trait Metadata: DeserializeOwned + Serialize {
    /// The role that signs this type.
    const ROLE: Role;
    /// Returns the fields that all roles have.
    fn common(&self) -> &Common;
    /// Checks what the shape of the JSON does not say.
    ///
    /// # Errors
    /// [`MetadataError`] for a field that makes no sense.
    fn check(&self) -> Result<(), MetadataError> {
        Ok(())
    }
}

impl Metadata for Root {
    const ROLE: Role = Role::Root;

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> Result<(), MetadataError> {
        for role in Role::ALL {
            let of_role = self.roles.get(&role).ok_or(MetadataError::Threshold(role))?;
            // A threshold that no keys reach is the role's alone to fail by: the next root can mend it.
            if of_role.threshold < 1
                || of_role.keyids.len() > MAX_KEYS
                || self.keys.len() > MAX_KEYS
            {
                return Err(MetadataError::Threshold(role));
            }
        }
        Ok(())
    }
}

impl Metadata for Timestamp {
    const ROLE: Role = Role::Timestamp;

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> Result<(), MetadataError> {
        self.snapshot().map(drop)
    }
}

impl Metadata for Snapshot {
    const ROLE: Role = Role::Snapshot;

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> Result<(), MetadataError> {
        self.targets().map(drop)
    }
}

impl Metadata for Targets {
    const ROLE: Role = Role::Targets;

    fn common(&self) -> &Common {
        &self.common
    }

    fn check(&self) -> Result<(), MetadataError> {
        self.issued.as_deref().map_or(Ok(()), |issued| seconds(issued).map(drop))
    }
}

impl Targets {
    /// Returns when the targets were made, in seconds since 1970; `None` where they do not say it.
    #[must_use]
    pub fn issued_seconds(&self) -> Option<u64> {
        seconds(self.issued.as_deref()?).ok()
    }
}

impl Timestamp {
    /// Returns the reference to the newest snapshot.
    ///
    /// # Errors
    /// `snapshot.json` is missing.
    pub fn snapshot(&self) -> Result<&FileMeta, MetadataError> {
        named(&self.meta, Role::Snapshot)
    }
}

impl Snapshot {
    /// Returns the reference to the targets that belong to this snapshot.
    ///
    /// # Errors
    /// `targets.json` is missing.
    pub fn targets(&self) -> Result<&FileMeta, MetadataError> {
        named(&self.meta, Role::Targets)
    }
}

fn named(meta: &BTreeMap<String, FileMeta>, role: Role) -> Result<&FileMeta, MetadataError> {
    let name = format!("{role}.json");
    meta.get(&name).ok_or_else(|| MetadataError::Shape(format!("it does not name {name}")))
}

impl Common {
    /// Returns the expiry in seconds since 1970.
    ///
    /// # Errors
    /// The field is no time.
    pub fn expires_seconds(&self) -> Result<u64, MetadataError> {
        seconds(&self.expires)
    }
}

/// Parses a time as TUF writes it, into seconds since 1970.
fn seconds(text: &str) -> Result<u64, MetadataError> {
    let wrong = || MetadataError::Time(text.chars().take(32).collect());
    if text.len() != "2026-01-01T00:00:00Z".len() || !text.ends_with('Z') {
        return Err(wrong());
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    u64::try_from(time.unix_timestamp()).map_err(|_| wrong())
}

/// Formats seconds since 1970 as TUF writes a time; `None` beyond the year 9999.
#[must_use]
pub fn time(seconds: u64) -> Option<String> {
    let date = holdfast_types::date(seconds);
    let (day, hour) = date.split_once(' ')?;
    (date.len() == 19).then(|| format!("{day}T{hour}Z"))
}

/// Parses a metadata file of a role and checks all but its signatures.
///
/// # Errors
/// See [`MetadataError`].
pub fn read<M: Metadata>(bytes: &[u8]) -> Result<(M, Envelope), MetadataError> {
    let shape = |error: serde_json::Error| MetadataError::Shape(error.to_string());
    let bytes_given = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let most = M::ROLE.most_bytes();
    if bytes_given > most {
        return Err(MetadataError::TooLong { bytes: bytes_given, most });
    }
    let envelope: Envelope = serde_json::from_slice(bytes).map_err(shape)?;
    if envelope.signatures.len() > MAX_KEYS {
        return Err(MetadataError::Shape(format!("more than {MAX_KEYS} signatures")));
    }
    let mut signers = BTreeSet::new();
    if let Some(again) = envelope.signatures.iter().find(|s| !signers.insert(s.keyid.as_str())) {
        return Err(MetadataError::SignedTwice(again.keyid.chars().take(64).collect()));
    }
    let kind = envelope.signed.get("_type").and_then(Value::as_str).unwrap_or_default();
    if kind != M::ROLE.name() {
        return Err(MetadataError::OtherRole(kind.chars().take(32).collect()));
    }
    let metadata: M = M::deserialize(&envelope.signed).map_err(shape)?;
    let common = metadata.common();
    if common.spec_version.split('.').next() != Some("1") {
        let version = common.spec_version.chars().take(32).collect();
        return Err(MetadataError::Specification(version));
    }
    if common.version == 0 {
        return Err(MetadataError::VersionZero);
    }
    common.expires_seconds()?;
    metadata.check()?;
    Ok((metadata, envelope))
}

impl Root {
    /// Returns the keys and the threshold of a role.
    #[must_use]
    pub fn role(&self, role: Role) -> Option<&RoleKeys> {
        self.roles.get(&role)
    }

    /// Checks that enough keys of a role have signed a file.
    ///
    /// # Errors
    /// Too few keys have signed it.
    pub fn verify(&self, role: Role, envelope: &Envelope) -> Result<(), MetadataError> {
        let of_role = self.role(role).ok_or(MetadataError::Threshold(role))?;
        let message = canonical(&envelope.signed)?;
        let mut signers = BTreeSet::new();
        for signature in &envelope.signatures {
            let key = of_role.keyids.get(&signature.keyid).and_then(|id| self.keys.get(id));
            let Some(public) = key.and_then(Key::ed25519) else {
                continue;
            };
            if has_signed(&public, &message, &signature.sig) {
                // By its bytes: one key under two ids is one signer.
                signers.insert(public);
            }
        }
        let (valid, threshold) = (signers.len(), of_role.threshold);
        if valid >= threshold {
            Ok(())
        } else {
            Err(MetadataError::Signatures { valid, threshold })
        }
    }
}

impl Key {
    /// Makes an Ed25519 key of its 32 bytes.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        Self {
            keytype: ED25519.to_owned(),
            scheme: ED25519.to_owned(),
            keyval: KeyValue { public: hex(public) },
        }
    }

    /// Returns the bytes of an Ed25519 key; `None` for a key of another type.
    #[must_use]
    pub fn ed25519(&self) -> Option<[u8; 32]> {
        let understood = self.keytype == ED25519 && self.scheme == ED25519;
        unhex(&self.keyval.public).filter(|_| understood)
    }

    /// Returns the id of the key: the SHA-256 of its canonical form.
    #[must_use]
    pub fn id(&self) -> String {
        let value = serde_json::json!({
            "keytype": self.keytype, "scheme": self.scheme, "keyval": { "public": self.keyval.public }
        });
        // Strings alone, which have a canonical form.
        let bytes = canonical(&value).unwrap_or_default();
        KeyId(Sha256::digest(bytes).into()).to_string()
    }
}

fn has_signed(public: &[u8; 32], message: &[u8], signature: &str) -> bool {
    let (Ok(key), Some(signature)) = (VerifyingKey::from_bytes(public), unhex(signature)) else {
        return false;
    };
    key.verify_strict(message, &Ed25519::from_bytes(&signature)).is_ok()
}

impl FileMeta {
    /// True when a file has this length and these hashes, as far as they are named.
    #[must_use]
    pub fn fits(&self, bytes: &[u8]) -> bool {
        let length = self.length.is_none_or(|length| u64::try_from(bytes.len()) == Ok(length));
        let hash = self.hashes.as_ref().and_then(|hashes| hashes.get("sha256"));
        // Hashes that are named, of which none is understood, fit nothing.
        let hashed = match (&self.hashes, hash) {
            (None, _) => true,
            (Some(_), Some(hash)) => *hash == sha256(bytes),
            (Some(_), None) => false,
        };
        length && hashed
    }
}

impl Targets {
    /// Returns the path, target and release of the newest release of a subject that is for the device and acceptable,
    /// where `authority` may release it. The newest has the highest rollback index, then the highest version.
    pub fn release_for(
        &self,
        subject: ReleaseSubject,
        device: &Device,
        authority: &Authority,
        acceptable: impl Fn(&Release) -> bool,
    ) -> Option<(&str, &Target, &Release)> {
        if !authority.covers(subject) {
            return None;
        }
        let releases = self.targets.iter().filter_map(|(path, target)| {
            let release = target.custom.as_ref()?;
            let wanted = release.subject == subject && release.is_for(device);
            let taken = wanted && target.check(path).is_ok() && acceptable(release);
            taken.then_some((path.as_str(), target, release))
        });
        releases.max_by_key(|(_, _, release)| (release.rollback_index, release.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_utc() {
        assert_eq!(seconds("2026-11-24T08:05:09Z"), Ok(1_795_507_509));
        assert_eq!(time(1_795_507_509).unwrap(), "2026-11-24T08:05:09Z");
        for wrong in [
            "",
            "2026-11-24",
            "2026-11-24T08:05:09+01:00",
            "2026-11-24T08:05:09.1Z",
            "2026-13-24T08:05:09Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_canonical_form() {
        let public = "edcd0a32a07dce33f7c7873aaffbff36d20ea30787574ead335eefd337e4dacd";
        let key = Key::of(&unhex(public).unwrap());
        assert_eq!(key.keyval.public, public);
        let form = format!(
            "{{\"keytype\":\"ed25519\",\"keyval\":{{\"public\":\"{public}\"}},\"scheme\":\"ed25519\"}}"
        );
        assert_eq!(key.id(), sha256(form.as_bytes()));
        assert_eq!(unhex::<2>("00"), None);
        assert_eq!(unhex::<1>("0g"), None);
    }
}
