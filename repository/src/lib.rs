//! Repositories of releases: made, published, rotated and verified in a directory that any HTTPS server can serve.
//!
//! ```text
//! metadata/N.root.json                  who the roles are
//! metadata/timestamp.json               the newest snapshot
//! metadata/N.snapshot.json              the targets that belong to it
//! metadata/N.targets.json               what is released
//! targets/DIRECTORY/SHA256.NAME         the files
//! ```
//!
//! Whatever is published was verified first, with the client that devices have. The timestamp is
//! written last: until then nobody sees anything of it, and a cut leaves what was there before.

mod bundle;
mod delta;
mod draft;
mod error;
mod offer;
mod released;

pub use bundle::bundle;
pub use delta::delta;
pub use draft::{Draft, DraftError};
pub use error::RepositoryError;
pub use offer::remove_release;
pub use released::{Released, of_image, of_package};

use holdfast_images::FileError;
use holdfast_images::destination;
use holdfast_images::key::{PrivateKey, PublicKey};
use holdfast_release::Target;
use holdfast_release::client::{Client, ClientError, Trusted};
use holdfast_release::metadata::{
    self, Common, FileMeta, Key, Metadata, MetadataError, Role, RoleKeys, Root, SPEC_VERSION,
    Snapshot, Targets, Timestamp,
};
use holdfast_types::date;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Keys and thresholds of a repository's roles.
#[derive(Debug, Clone)]
pub struct Roles {
    /// Keys of each role, and the number of them that must sign.
    pub keys: BTreeMap<Role, (Vec<PublicKey>, usize)>,
}

/// Lifetimes of each role's metadata until it expires, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// Lifetime of a root: it must be rotated before.
    pub root: u64,
    /// Lifetime of the targets.
    pub targets: u64,
    /// Lifetime of a snapshot.
    pub snapshot: u64,
    /// Lifetime of a timestamp: so long can a device be kept from learning of a release.
    pub timestamp: u64,
}

const DAY: u64 = 86_400;
/// Most seconds by which the clock of whoever makes targets may be ahead of that of whoever publishes them.
const MAX_AHEAD_S: u64 = 3_600;

impl Default for Lifetimes {
    fn default() -> Self {
        Self { root: 365 * DAY, targets: 365 * DAY, snapshot: 30 * DAY, timestamp: 14 * DAY }
    }
}

impl Lifetimes {
    /// Returns lifetimes of which none is shorter than so many seconds.
    #[must_use]
    pub fn at_least(self, seconds: u64) -> Self {
        Self {
            root: self.root.max(seconds),
            targets: self.targets.max(seconds),
            snapshot: self.snapshot.max(seconds),
            timestamp: self.timestamp.max(seconds),
        }
    }

    fn of(self, role: Role) -> u64 {
        match role {
            Role::Root => self.root,
            Role::Targets => self.targets,
            Role::Snapshot => self.snapshot,
            Role::Timestamp => self.timestamp,
        }
    }
}

/// A repository in a directory: its root, and the metadata that is offered now.
#[derive(Debug, Clone)]
pub struct Repository {
    directory: PathBuf,
    root: Root,
    /// The metadata file of the root.
    root_bytes: Vec<u8>,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
}

impl Repository {
    /// Makes the first root for these roles, to be signed by the keys of its own root role.
    ///
    /// # Errors
    /// A time that cannot be written, or roles that make no sense.
    pub fn first_root(roles: &Roles, lifetime: u64, now: u64) -> Result<Draft, RepositoryError> {
        let root = root(roles, 1, lifetime, now)?;
        Ok(Draft::new(&root)?)
    }

    /// Makes a repository of a signed first root, without releases.
    ///
    /// # Errors
    /// There is one already, or the root is not signed by enough of its keys.
    pub fn create(directory: &Path, root: &Draft) -> Result<Self, RepositoryError> {
        let metadata = directory.join("metadata");
        let path = metadata.join(Role::Root.file(1));
        if path.exists() {
            return Err(RepositoryError::Exists(directory.to_owned()));
        }
        let bytes = root.to_bytes()?;
        let refused = |source| RepositoryError::Refused { directory: directory.to_owned(), source };
        Client::begin(&bytes, Trusted::default(), 0).map_err(refused)?;
        for directory in [&metadata, &directory.join("targets")] {
            destination::make_readable_directory(directory)?;
        }
        write(&path, &bytes)?;
        Self::open(directory)
    }

    /// Opens the repository in a directory.
    ///
    /// # Errors
    /// There is none, or a file of it is no good.
    pub fn open(directory: &Path) -> Result<Self, RepositoryError> {
        let mut version = 0u32;
        while metadata_file(directory, Role::Root, version.saturating_add(1)).is_file() {
            version = version.saturating_add(1);
        }
        if version == 0 {
            return Err(RepositoryError::NoRepository(directory.to_owned()));
        }
        let path = metadata_file(directory, Role::Root, version);
        let root_bytes = fs::read(&path).map_err(FileError::at("read", &path))?;
        let (root, _) = read(&path)?;
        let path = metadata_file(directory, Role::Timestamp, 0);
        let timestamp: Option<Timestamp> = if path.exists() { Some(read(&path)?.0) } else { None };
        let of = |meta: Result<&FileMeta, MetadataError>| meta.map(|meta| meta.version).ok();
        let snapshot: Option<Snapshot> = match timestamp.as_ref().and_then(|t| of(t.snapshot())) {
            Some(version) => Some(read(&metadata_file(directory, Role::Snapshot, version))?.0),
            None => None,
        };
        let targets: Option<Targets> = match snapshot.as_ref().and_then(|s| of(s.targets())) {
            Some(version) => Some(read(&metadata_file(directory, Role::Targets, version))?.0),
            None => None,
        };
        Ok(Self { directory: directory.to_owned(), root, root_bytes, timestamp, snapshot, targets })
    }

    /// Returns the root, with the keys of all roles.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the targets that are offered now, by their paths.
    #[must_use]
    pub fn targets(&self) -> BTreeMap<String, Target> {
        self.targets.as_ref().map(|targets| targets.targets.clone()).unwrap_or_default()
    }

    /// Returns the paths of the metadata files that a device may ask for now.
    #[must_use]
    pub fn metadata_files(&self) -> Vec<String> {
        let roots = 1..=self.root.common.version;
        let of = |role: Role, version| format!("metadata/{}", role.file(version));
        let mut files: Vec<String> = roots.map(|version| of(Role::Root, version)).collect();
        let newest = [
            self.timestamp.as_ref().map(|_| (Role::Timestamp, 0)),
            self.snapshot.as_ref().map(|snapshot| (Role::Snapshot, snapshot.common.version)),
            self.targets.as_ref().map(|targets| (Role::Targets, targets.common.version)),
        ];
        files.extend(newest.into_iter().flatten().map(|(role, version)| of(role, version)));
        files
    }

    /// Returns the expiry of each role's metadata, as RFC 3339.
    #[must_use]
    pub fn expires(&self) -> BTreeMap<Role, String> {
        let all = [
            Some((Role::Root, &self.root.common)),
            self.timestamp.as_ref().map(|timestamp| (Role::Timestamp, &timestamp.common)),
            self.snapshot.as_ref().map(|snapshot| (Role::Snapshot, &snapshot.common)),
            self.targets.as_ref().map(|targets| (Role::Targets, &targets.common)),
        ];
        all.into_iter().flatten().map(|(role, common)| (role, common.expires.clone())).collect()
    }

    /// Makes the next targets, which offer these files and no others, at `now` in seconds since 1970; to be signed by
    /// the keys of the targets role. No device that trusts them shows an earlier time from then on.
    ///
    /// # Errors
    /// A time or version that cannot be written, or a time at which the root has expired.
    pub fn next_targets(
        &self,
        files: BTreeMap<String, Target>,
        lifetime: u64,
        now: u64,
    ) -> Result<Draft, RepositoryError> {
        if self.root.common.expires_seconds().is_ok_and(|expires| expires <= now) {
            let expires = self.root.common.expires.clone();
            return Err(RepositoryError::RootExpired { expires, now: date(now) });
        }
        let before = self.targets.as_ref().map_or(0, |targets| targets.common.version);
        let common = common(Role::Targets, next(Role::Targets, before)?, lifetime, now)?;
        let issued = Some(metadata::time(now).ok_or(RepositoryError::Time(now))?);
        let next = Targets { common, issued, targets: files };
        let Some(known) = &self.targets else {
            return Ok(Draft::new(&next)?);
        };
        let path = metadata_file(&self.directory, Role::Targets, known.common.version);
        let (_, before) = read::<Targets>(&path)?;
        let same = |path: &str| known.targets.get(path) == next.targets.get(path);
        Ok(Draft::after(&next, Some(&before), same)?)
    }

    /// Makes the next root for these roles, to be signed by the keys of the root role, old and new.
    ///
    /// # Errors
    /// A time or version that cannot be written, or roles that make no sense.
    pub fn next_root(
        &self,
        roles: &Roles,
        lifetime: u64,
        now: u64,
    ) -> Result<Draft, RepositoryError> {
        let version = next(Role::Root, self.root.common.version)?;
        let path = metadata_file(&self.directory, Role::Root, self.root.common.version);
        let (_, before) = read::<Root>(&path)?;
        Ok(Draft::after(&root(roles, version, lifetime, now)?, Some(&before), |_| false)?)
    }

    /// Publishes the signed next root: the last step of a rotation, from which on devices trust it. Metadata that the
    /// new keys must sign anew is signed with the keys at hand, `online`, and published with it.
    ///
    /// # Errors
    /// Too few of the old or of the root's own keys have signed it, or it is not the next one.
    pub fn rotate(
        &mut self,
        root: &Draft,
        online: &[PrivateKey],
        lifetimes: Lifetimes,
        now: u64,
    ) -> Result<(), RepositoryError> {
        let bytes = root.to_bytes()?;
        let refused =
            |source| RepositoryError::Refused { directory: self.directory.clone(), source };
        let mut client =
            Client::begin(&self.root_bytes, Trusted::default(), now).map_err(refused)?;
        client.take(bytes.clone()).map_err(refused)?;
        let (next, _) = metadata::read::<Root>(&bytes)
            .map_err(|error| refused(ClientError::Metadata { role: Role::Root, error }))?;
        let path = metadata_file(&self.directory, Role::Root, next.common.version);
        let mut rotated = Self { root: next, root_bytes: bytes.clone(), ..self.clone() };
        let publication = match &rotated.targets {
            Some(targets) => {
                let anew = rotated.targets_anew(targets, online, lifetimes, now)?;
                Some(rotated.prepare(anew.as_ref(), online, lifetimes, now)?)
            }
            None => None,
        };
        // The root first: nobody can believe what its keys have signed without it.
        write(&path, &bytes)?;
        if let Some(publication) = publication {
            rotated.put(publication)?;
        }
        *self = rotated;
        Ok(())
    }

    /// Makes the offered targets anew, signed by the keys at hand, where this root's keys have not signed them.
    fn targets_anew(
        &self,
        targets: &Targets,
        keys: &[PrivateKey],
        lifetimes: Lifetimes,
        now: u64,
    ) -> Result<Option<Draft>, RepositoryError> {
        let path = metadata_file(&self.directory, Role::Targets, targets.common.version);
        let bytes = fs::read(&path).map_err(FileError::at("read", &path))?;
        let read = metadata::read::<Targets>(&bytes);
        let holds = |envelope| self.root.verify(Role::Targets, &envelope).is_ok();
        if read.is_ok_and(|(_, envelope)| holds(envelope)) {
            return Ok(None);
        }
        let mut draft = self.next_targets(targets.targets.clone(), lifetimes.targets, now)?;
        self.sign(Role::Targets, &mut draft, keys);
        Ok(Some(draft))
    }

    /// Signs a draft with those of the keys that have the role. No other key signs: its signature would be public, and
    /// count as soon as the key is given the role.
    pub fn sign(&self, role: Role, draft: &mut Draft, keys: &[PrivateKey]) {
        draft.sign_with(keys, &[&self.root], role);
    }

    /// Signs the next root with those of the keys that have the root role in it or in the present one.
    ///
    /// # Errors
    /// The draft is no root.
    pub fn sign_next_root(
        &self,
        draft: &mut Draft,
        keys: &[PrivateKey],
    ) -> Result<(), RepositoryError> {
        let next = draft.root()?;
        draft.sign_with(keys, &[&self.root, &next], Role::Root);
        Ok(())
    }

    /// Signs a first root with those of the keys that have its root role.
    ///
    /// # Errors
    /// The draft is no root.
    pub fn sign_first_root(draft: &mut Draft, keys: &[PrivateKey]) -> Result<(), RepositoryError> {
        let root = draft.root()?;
        draft.sign_with(keys, &[&root], Role::Root);
        Ok(())
    }

    /// Publishes signed targets, with a snapshot and a timestamp that the `online` keys sign.
    ///
    /// # Errors
    /// Too few keys have signed one of them, or a device would refuse them for another reason; nothing
    /// has changed then.
    pub fn publish(
        &mut self,
        targets: &Draft,
        online: &[PrivateKey],
        lifetimes: Lifetimes,
        now: u64,
    ) -> Result<(), RepositoryError> {
        let publication = self.prepare(Some(targets), online, lifetimes, now)?;
        self.put(publication)
    }

    /// Publishes a new snapshot and timestamp before the present ones expire.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn refresh(
        &mut self,
        online: &[PrivateKey],
        lifetimes: Lifetimes,
        now: u64,
    ) -> Result<(), RepositoryError> {
        let publication = self.prepare(None, online, lifetimes, now)?;
        self.put(publication)
    }

    /// Makes the files of a publication, and verifies them as a device would.
    fn prepare(
        &self,
        targets: Option<&Draft>,
        online: &[PrivateKey],
        lifetimes: Lifetimes,
        now: u64,
    ) -> Result<Publication, RepositoryError> {
        let targets_bytes = match (targets, &self.targets) {
            (Some(draft), _) => draft.to_bytes()?,
            (None, Some(targets)) => {
                let path = metadata_file(&self.directory, Role::Targets, targets.common.version);
                fs::read(&path).map_err(FileError::at("read", &path))?
            }
            (None, None) => return Err(RepositoryError::NoRepository(self.directory.clone())),
        };
        let shape = |path: &str, source| RepositoryError::Metadata { path: path.into(), source };
        let (next_targets, _) = metadata::read::<Targets>(&targets_bytes)
            .map_err(|source| shape("targets.json", source))?;
        let ahead = |at: &u64| targets.is_some() && *at > now.saturating_add(MAX_AHEAD_S);
        if let Some(issued) = next_targets.issued_seconds().filter(ahead) {
            let (issued, now) = (date(issued), date(now));
            return Err(RepositoryError::Ahead { issued, now });
        }
        let targets = next_targets;
        let before = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.common.version);
        let version = next(Role::Snapshot, before)?;
        let snapshot = Snapshot {
            common: common(Role::Snapshot, version, lifetimes.of(Role::Snapshot), now)?,
            meta: names(Role::Targets, targets.common.version, &targets_bytes),
        };
        let snapshot_bytes = self.signed(&snapshot, online)?;
        let before = self.timestamp.as_ref().map_or(0, |timestamp| timestamp.common.version);
        let timestamp_version = next(Role::Timestamp, before)?;
        let lifetime = lifetimes.of(Role::Timestamp);
        let timestamp = Timestamp {
            common: common(Role::Timestamp, timestamp_version, lifetime, now)?,
            meta: names(Role::Snapshot, version, &snapshot_bytes),
        };
        let timestamp_bytes = self.signed(&timestamp, online)?;
        let publication = Publication {
            files: vec![
                (Role::Targets, targets.common.version, targets_bytes),
                (Role::Snapshot, version, snapshot_bytes),
                (Role::Timestamp, timestamp_version, timestamp_bytes),
            ],
            targets,
            snapshot,
            timestamp,
        };
        let refused =
            |source| RepositoryError::Refused { directory: self.directory.clone(), source };
        self.check(&publication, now).map_err(refused)?;
        Ok(publication)
    }

    fn signed<M: Metadata>(
        &self,
        metadata: &M,
        keys: &[PrivateKey],
    ) -> Result<Vec<u8>, RepositoryError> {
        let mut draft = Draft::new(metadata)?;
        self.sign(M::ROLE, &mut draft, keys);
        Ok(draft.to_bytes()?)
    }

    /// Verifies a publication as a device that trusts the present root.
    fn check(&self, publication: &Publication, now: u64) -> Result<(), ClientError> {
        let seen = self.targets.as_ref().map_or(0, |targets| targets.common.version);
        let found = publication.targets.common.version;
        if found < seen {
            return Err(ClientError::Rollback { role: Role::Targets, found, seen });
        }
        let mut client = Client::begin(&self.root_bytes, Trusted::default(), now)?;
        client.mark_missing()?; // There is no newer root.
        publication.files.iter().rev().try_for_each(|(_, _, bytes)| client.take(bytes.clone()))
    }

    fn put(&mut self, publication: Publication) -> Result<(), RepositoryError> {
        for (role, version, bytes) in &publication.files {
            write(&metadata_file(&self.directory, *role, *version), bytes)?;
        }
        self.targets = Some(publication.targets);
        self.snapshot = Some(publication.snapshot);
        self.timestamp = Some(publication.timestamp);
        Ok(())
    }

    /// Verifies the repository as a device with the root `trusted_root` would at `now`, and the length and hash of
    /// each file that it offers. Returns the targets.
    ///
    /// # Errors
    /// A device would refuse the metadata, or a file is not what the metadata says.
    pub fn verify(
        directory: &Path,
        trusted_root: &[u8],
        now: u64,
    ) -> Result<Targets, RepositoryError> {
        let refused = |source| RepositoryError::Refused { directory: directory.to_owned(), source };
        let mut client = Client::begin(trusted_root, Trusted::default(), now).map_err(refused)?;
        while let Some(wanted) = client.wants() {
            let path = directory.join("metadata").join(&wanted.name);
            match fs::read(&path) {
                Ok(bytes) => client.take(bytes).map_err(refused)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    client.mark_missing().map_err(refused)?;
                }
                Err(error) => return Err(FileError::at("read", &path)(error).into()),
            }
        }
        let targets = client.targets().cloned();
        let targets = targets.ok_or_else(|| RepositoryError::NoRepository(directory.to_owned()))?;
        for (path, target) in &targets.targets {
            let refused = |reason| RepositoryError::Release { path: path.clone(), reason };
            let place = target.place(path).ok_or_else(|| refused("has no hash"))?;
            let place = directory.join(place);
            let bytes = fs::read(&place).map_err(FileError::at("read", &place))?;
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if length != target.length
                || target.hashes.get("sha256") != Some(&holdfast_types::hex::sha256(&bytes))
            {
                return Err(refused("is not the file that the metadata names"));
            }
        }
        Ok(targets)
    }
}

/// The files of a publication; the timestamp is written last.
struct Publication {
    files: Vec<(Role, u32, Vec<u8>)>,
    targets: Targets,
    snapshot: Snapshot,
    timestamp: Timestamp,
}

fn root(roles: &Roles, version: u32, lifetime: u64, now: u64) -> Result<Root, RepositoryError> {
    let mut keys = BTreeMap::new();
    let mut named = BTreeMap::new();
    for (role, (of_role, threshold)) in &roles.keys {
        let mut role_keys = RoleKeys { keyids: Default::default(), threshold: *threshold };
        for public in of_role {
            let key = Key::of(&public.bytes);
            role_keys.keyids.insert(key.id());
            keys.insert(key.id(), key);
        }
        named.insert(*role, role_keys);
    }
    let root = Root {
        common: common(Role::Root, version, lifetime, now)?,
        consistent_snapshot: true,
        keys,
        roles: named,
    };
    let refused = |source| RepositoryError::Metadata { path: "root.json".into(), source };
    root.check().map_err(refused)?;
    // A device takes such a root, and then nothing more of the role.
    let reached = |of_role: &RoleKeys| of_role.threshold <= of_role.keyids.len();
    if let Some((role, _)) = root.roles.iter().find(|(_, of_role)| !reached(of_role)) {
        return Err(refused(MetadataError::Threshold(*role)));
    }
    Ok(root)
}

fn common(role: Role, version: u32, lifetime: u64, now: u64) -> Result<Common, RepositoryError> {
    let until = now.saturating_add(lifetime);
    Ok(Common {
        kind: role.name().to_owned(),
        spec_version: SPEC_VERSION.to_owned(),
        version,
        expires: metadata::time(until).ok_or(RepositoryError::Time(until))?,
    })
}

fn names(role: Role, version: u32, bytes: &[u8]) -> BTreeMap<String, FileMeta> {
    let meta = FileMeta {
        version,
        length: u64::try_from(bytes.len()).ok(),
        hashes: Some(BTreeMap::from([("sha256".to_owned(), holdfast_types::hex::sha256(bytes))])),
    };
    BTreeMap::from([(format!("{role}.json"), meta)])
}

fn next(role: Role, version: u32) -> Result<u32, RepositoryError> {
    version.checked_add(1).ok_or(RepositoryError::Version(role))
}

fn metadata_file(directory: &Path, role: Role, version: u32) -> PathBuf {
    directory.join("metadata").join(role.file(version))
}

/// Reads a metadata file; returns it parsed, and the signed part as it stands there.
fn read<M: Metadata>(path: &Path) -> Result<(M, Value), RepositoryError> {
    let bytes = fs::read(path).map_err(FileError::at("read", path))?;
    let read = metadata::read(&bytes).map(|(metadata, envelope)| (metadata, envelope.signed));
    read.map_err(|source| RepositoryError::Metadata { path: path.to_owned(), source })
}

/// Writes a file whole or not at all, readable for a server that runs as another user.
fn write(path: &Path, bytes: &[u8]) -> Result<(), RepositoryError> {
    if let Some(directory) = path.parent() {
        destination::make_readable_directory(directory)?;
    }
    Ok(destination::write_readable(path, bytes)?)
}
