//! The metadata of a repository: what its four roles sign, as JSON.
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

/// Keys, and signatures of one file, that are looked at.
const MAX_KEYS: usize = 64;
/// The only kind of key that is understood.
pub const ED25519: &str = "ed25519";
/// Version of the specification that is written.
pub const SPEC_VERSION: &str = "1.0.34";

/// The top-level roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Who the others are.
    Root,
    /// Which snapshot is the newest.
    Timestamp,
    /// Which metadata belongs together.
    Snapshot,
    /// What is released.
    Targets,
}

impl Role {
    /// All of them, in the order in which a client looks at them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }

    /// Longest file of this role that is read, in bytes.
    #[must_use]
    pub const fn most_bytes(self) -> u64 {
        match self {
            Self::Root | Self::Snapshot => 32 * 1024,
            Self::Timestamp => 4 * 1024,
            Self::Targets => 256 * 1024,
        }
    }

    /// Name of its file with this version, in a repository with consistent snapshots.
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

/// Why a file is no metadata, or not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Longer than it may be.
    #[error("has {bytes} bytes, more than {most}")]
    TooLong {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        most: u64,
    },
    /// No JSON, or not of the shape that its role has.
    #[error("is not of its shape: {0}")]
    Shape(String),
    /// It says that it is of another role.
    #[error("is of the role `{0}`")]
    OtherRole(String),
    /// It is of another major version of the specification.
    #[error("follows version {0} of the specification, not 1")]
    Specification(String),
    /// Versions begin with 1.
    #[error("has version 0")]
    VersionZero,
    /// Numbers that are no integers have no canonical form.
    #[error("has a number that is no integer, which has no canonical form")]
    NotCanonical,
    /// The time of its end, or of its making, is not `YYYY-MM-DDTHH:MM:SSZ`.
    #[error("says `{0}`, which is no time in UTC")]
    Time(String),
    /// A list of keys that is too long, or a threshold that everybody reaches or, where it is to be published, nobody.
    #[error("has a role {0} with a threshold or keys that make no sense")]
    Threshold(Role),
    /// The id of one key stands at two signatures.
    #[error("has two signatures of key {0}")]
    SignedTwice(String),
    /// Too few of its role's keys have signed it.
    #[error("has {valid} of {threshold} signatures of the role's keys")]
    Signatures {
        /// Different keys with a valid signature.
        valid: usize,
        /// How many there must be.
        threshold: usize,
    },
}

/// A file with its signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Signatures over the canonical form of `signed`.
    pub signatures: Vec<Signature>,
    /// What is signed.
    pub signed: Value,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key.
    pub keyid: String,
    /// The signature in hexadecimal.
    pub sig: String,
}

/// What the metadata of every role has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// The role.
    #[serde(rename = "_type")]
    pub kind: String,
    /// Version of the specification.
    pub spec_version: String,
    /// Grows with each publication.
    pub version: u32,
    /// When it ends to hold, as RFC 3339 in UTC.
    pub expires: String,
}

/// Who the roles are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What all have.
    #[serde(flatten)]
    pub common: Common,
    /// Files other than the timestamp have their version in front of their names.
    #[serde(default)]
    pub consistent_snapshot: bool,
    /// Keys by their ids, as far as they are understood: the others sign nothing here.
    #[serde(deserialize_with = "understood_keys")]
    pub keys: BTreeMap<String, Key>,
    /// The top-level roles. There may be others, such as mirrors.
    #[serde(deserialize_with = "known_roles")]
    pub roles: BTreeMap<Role, RoleKeys>,
}

/// A key is named by the hash of its canonical form (4.3), with whatever else it may say or without.
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
    /// Such as `ed25519`.
    pub keytype: String,
    /// Such as `ed25519`.
    pub scheme: String,
    /// Its value.
    pub keyval: KeyValue,
}

/// The value of a public key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// In hexadecimal, for Ed25519.
    pub public: String,
}

/// Which keys sign for a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Ids of keys.
    pub keyids: BTreeSet<String>,
    /// So many of them must sign.
    pub threshold: usize,
}

/// Which snapshot is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timestamp {
    /// What all have.
    #[serde(flatten)]
    pub common: Common,
    /// `snapshot.json` alone.
    pub meta: BTreeMap<String, FileMeta>,
}

/// Which metadata belongs together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What all have.
    #[serde(flatten)]
    pub common: Common,
    /// `targets.json`.
    pub meta: BTreeMap<String, FileMeta>,
}

/// Which file of metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Its version.
    pub version: u32,
    /// Its length in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// Its hashes in hexadecimal, by the names of the algorithms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashes: Option<BTreeMap<String, String>>,
}

/// What is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// What all have.
    #[serde(flatten)]
    pub common: Common,
    /// When it was made, as RFC 3339 in UTC: a device's clock shows no less from then on. It stands here since
    /// the keys of this role are offline: what raises a clock for good is not for a key that lies on a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued: Option<String>,
    /// Files by their paths.
    pub targets: BTreeMap<String, Target>,
}

/// Metadata of one of the roles.
pub trait Metadata: DeserializeOwned + Serialize {
    /// The role.
    const ROLE: Role;
    /// What the metadata of every role has.
    fn common(&self) -> &Common;
    /// What the shape of the JSON does not say.
    ///
    /// # Errors
    /// What does not hold.
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
    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn issued_seconds(&self) -> Option<u64> {
        seconds(self.issued.as_deref()?).ok()
    }
}

impl Timestamp {
    /// The newest snapshot.
    ///
    /// # Errors
    /// It names none.
    pub fn snapshot(&self) -> Result<&FileMeta, MetadataError> {
        named(&self.meta, Role::Snapshot)
    }
}

impl Snapshot {
    /// The targets that belong to it.
    ///
    /// # Errors
    /// It names none.
    pub fn targets(&self) -> Result<&FileMeta, MetadataError> {
        named(&self.meta, Role::Targets)
    }
}

fn named(meta: &BTreeMap<String, FileMeta>, role: Role) -> Result<&FileMeta, MetadataError> {
    let name = format!("{role}.json");
    meta.get(&name).ok_or_else(|| MetadataError::Shape(format!("it does not name {name}")))
}

impl Common {
    /// When it ends to hold, in seconds since 1970.
    ///
    /// # Errors
    /// It is no time.
    pub fn expires_seconds(&self) -> Result<u64, MetadataError> {
        seconds(&self.expires)
    }
}

/// Seconds since 1970 of a time as TUF writes it.
fn seconds(text: &str) -> Result<u64, MetadataError> {
    let wrong = || MetadataError::Time(text.chars().take(32).collect());
    if text.len() != "2026-01-01T00:00:00Z".len() || !text.ends_with('Z') {
        return Err(wrong());
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    u64::try_from(time.unix_timestamp()).map_err(|_| wrong())
}

/// A time as TUF writes it; `None` beyond the year 9999.
#[must_use]
pub fn time(seconds: u64) -> Option<String> {
    let date = holdfast_types::date(seconds);
    let (day, hour) = date.split_once(' ')?;
    (date.len() == 19).then(|| format!("{day}T{hour}Z"))
}

/// Reads the metadata of a role, without looking at its signatures.
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
    /// The keys of a role.
    #[must_use]
    pub fn role(&self, role: Role) -> Option<&RoleKeys> {
        self.roles.get(&role)
    }

    /// Checks that enough keys of a role have signed.
    ///
    /// # Errors
    /// Too few have.
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
    /// An Ed25519 key.
    #[must_use]
    pub fn of(public: &[u8; 32]) -> Self {
        Self {
            keytype: ED25519.to_owned(),
            scheme: ED25519.to_owned(),
            keyval: KeyValue { public: hex(public) },
        }
    }

    /// Its bytes, where it is one that is understood.
    #[must_use]
    pub fn ed25519(&self) -> Option<[u8; 32]> {
        let understood = self.keytype == ED25519 && self.scheme == ED25519;
        unhex(&self.keyval.public).filter(|_| understood)
    }

    /// Its id: SHA-256 of its canonical form.
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
    /// Checks the bytes of a file against its length and hashes, as far as they are named.
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
    /// What of a subject is released for a device, by an authority that may, and is acceptable: the target
    /// and its path. `None` when there is nothing. Of several, the one with the highest rollback index, then
    /// version.
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
