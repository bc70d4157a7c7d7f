//! The TUF client: decides which metadata of a repository is trusted, and which file to fetch next.
//!
//! It follows section 5 of the specification. It does no I/O: whoever drives it fetches what it
//! [`wants`](Client::wants) and hands over the bytes. What was verified so far is in
//! [`trusted`](Client::trusted), which is saved once, in one piece, when the run ends, however it does: a root
//! that was rotated to counts even where what should follow it is withheld.
//!
//! Nothing that was saved is believed because it lies there: it is verified again from the root in the
//! signed image. Who rewrites it can take away the memory of what was seen, and add nothing to it. A device has two
//! images, with a root each: what one has seen is kept for the other, also where it can verify that no more, or not
//! yet, since a root in between is missing.

mod error;

pub use error::ClientError;

use crate::RepositoryName;
use crate::metadata::{
    self, Common, Envelope, FileMeta, Metadata, MetadataError, Role, Root, Snapshot, Targets,
    Timestamp,
};
use holdfast_types::encoding::{self, EncodingError};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Most roots that one run of a client takes.
pub const MAX_ROOTS: usize = 64;
/// Most bytes of roots that are kept: some 700 of the usual length.
const MAX_ROOT_BYTES: usize = 3 << 19;
const _: () = {
    let rest =
        Role::Timestamp.most_bytes() + Role::Snapshot.most_bytes() + Role::Targets.most_bytes();
    // And the lengths, one for each root.
    assert!(MAX_ROOT_BYTES as u64 + rest + (64 << 10) < Trusted::MAX_ENCODED_BYTES as u64);
};

/// Verified metadata of a repository, as `update` keeps it on `state`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trusted {
    /// Every root that was seen, and that of the image among them. First those from before it, for an older image that
    /// starts again; then those beyond a missing version, for a newer image: neither is verified. Then the image's and
    /// those behind it, verified; under the last one, the rest was verified. Versions ascend in each of the three.
    roots: Vec<Vec<u8>>,
    timestamp: Option<Vec<u8>>,
    snapshot: Option<Vec<u8>>,
    targets: Option<Vec<u8>>,
}

impl Trusted {
    /// Longest encoding in bytes.
    pub const MAX_ENCODED_BYTES: usize = 2 * 1024 * 1024;

    /// Encodes the file.
    ///
    /// # Errors
    /// The encoder's own.
    pub fn encode(&self) -> Result<Vec<u8>, EncodingError> {
        encoding::encode(self)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// The bytes are not what [`encode`](Self::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EncodingError> {
        encoding::decode(bytes)
    }
}

/// A file of metadata that the client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The role that signs the file.
    pub role: Role,
    /// Name of the file in the directory `metadata` of the repository.
    pub name: String,
    /// Most bytes that are read of the file; a longer one is refused unread.
    pub most_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Role(Role),
    Done,
    Refused,
}

/// One run of the client against one repository.
#[derive(Debug)]
pub struct Client {
    trusted: Trusted,
    /// Time by which expiry is judged, in seconds since 1970: when the run began.
    now: u64,
    root: Root,
    /// Number of roots at the beginning of `trusted.roots` that are older than the image's.
    earlier: usize,
    /// Versions of the roots that follow those in `trusted.roots`. They come after a missing version, and are verified
    /// once that one is there.
    beyond: VecDeque<u32>,
    taken_roots: usize,
    timestamp: Option<Timestamp>,
    snapshot: Option<Snapshot>,
    targets: Option<Targets>,
    step: Step,
}

fn of(role: Role) -> impl FnOnce(MetadataError) -> ClientError {
    move |error| ClientError::Metadata { role, error }
}

impl Client {
    /// Begins a run (5.1, 5.2) at `now`, in seconds since 1970: the later of the clock and its floor.
    /// `image_root` is the root in the signed image, `trusted` what earlier runs have verified. What of it
    /// does not verify from that root is forgotten, but for roots that cannot be verified from it: those from before
    /// it, and those beyond a missing version.
    ///
    /// # Errors
    /// The root of the image is none, or no other can follow it and it has expired.
    pub fn begin(image_root: &[u8], trusted: Trusted, now: u64) -> Result<Self, ClientError> {
        let (root, envelope) = metadata::read::<Root>(image_root).map_err(of(Role::Root))?;
        root.verify(Role::Root, &envelope).map_err(of(Role::Root))?;
        let read = |bytes: Vec<u8>| Some((metadata::read::<Root>(&bytes).ok()?.0, bytes));
        let mut saved: Vec<_> = trusted.roots.into_iter().filter_map(read).collect();
        // Under whose keys the rest was verified.
        let newest = saved.last().map(|(root, _)| root.clone());
        saved.sort_by_key(|(root, _)| root.common.version);
        saved.dedup_by_key(|(root, _)| root.common.version);
        let own = root.common.version;
        saved.retain(|(root, _)| root.common.version != own);
        let (mut earlier, beyond): (Vec<_>, Vec<_>) =
            saved.into_iter().partition(|(root, _)| root.common.version < own);
        // What leads to another root than the image's was followed with keys that were stolen.
        let leads_here = |before: &Root| {
            before.common.version.checked_add(1) != Some(own)
                || before.verify(Role::Root, &envelope).is_ok()
        };
        if !earlier.last().is_none_or(|(before, _)| leads_here(before)) {
            earlier.clear();
        }
        let mut client = Self {
            root,
            earlier: earlier.len(),
            beyond: beyond.iter().map(|(root, _)| root.common.version).collect(),
            trusted: Trusted {
                roots: earlier.into_iter().chain(beyond).map(|(_, bytes)| bytes).collect(),
                ..Trusted::default()
            },
            now,
            taken_roots: 0,
            timestamp: None,
            snapshot: None,
            targets: None,
            step: Step::Role(Role::Root),
        };
        client.keep_root(image_root.to_vec())?;
        client.follow_kept();
        // 5.3.11, where it is the image that has brought a root.
        if newest.is_none_or(|newest| !replaces_online_keys(&newest, &client.root)) {
            client.recall(trusted.timestamp, trusted.snapshot, trusted.targets);
        }
        if client.is_last_root() {
            client.end_roots()?;
        }
        Ok(client)
    }

    /// Keeps a root that was verified. Those that are not verified make room for it: those from before the image's, the
    /// oldest first, then those beyond a missing version, the newest first, since each is verified from the one before.
    fn keep_root(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let kept =
            |roots: &[Vec<u8>]| roots.iter().map(Vec::len).fold(bytes.len(), usize::saturating_add);
        while kept(&self.trusted.roots) > MAX_ROOT_BYTES {
            if self.earlier > 0 {
                self.trusted.roots.remove(0);
                self.earlier = self.earlier.saturating_sub(1);
            } else if self.beyond.pop_back().is_some() {
                self.trusted.roots.remove(self.beyond.len());
            } else {
                return Err(ClientError::TooManyRoots);
            }
        }
        self.trusted.roots.push(bytes);
        Ok(())
    }

    /// Follows the roots that were seen before, as far as no version is missing. Where the next one does not verify,
    /// neither it nor any behind it is kept.
    fn follow_kept(&mut self) {
        while let Some(next) = self.beyond.front()
            && self.root.common.version.checked_add(1) == Some(*next)
        {
            self.beyond.pop_front();
            let bytes = self.trusted.roots.remove(self.earlier);
            if self.follow_root(bytes).is_err() {
                let end = self.earlier.saturating_add(self.beyond.len());
                self.trusted.roots.drain(self.earlier..end);
                self.beyond.clear();
            }
        }
    }

    /// Restores the timestamp, snapshot and targets of earlier runs, as far as keys of the present root have signed
    /// them. They may have expired, and still say which versions were seen.
    fn recall(
        &mut self,
        timestamp: Option<Vec<u8>>,
        snapshot: Option<Vec<u8>>,
        targets: Option<Vec<u8>>,
    ) {
        let Some((bytes, found)) = self.recalled::<Timestamp>(timestamp) else {
            return;
        };
        self.trusted.timestamp = Some(bytes);
        self.timestamp = Some(found);
        let Some((bytes, found)) = self.recalled::<Snapshot>(snapshot) else {
            return;
        };
        self.trusted.snapshot = Some(bytes);
        self.snapshot = Some(found);
        if let Some((bytes, found)) = self.recalled::<Targets>(targets) {
            self.trusted.targets = Some(bytes);
            self.targets = Some(found);
        }
    }

    fn recalled<M: Metadata>(&self, bytes: Option<Vec<u8>>) -> Option<(Vec<u8>, M)> {
        let bytes = bytes?;
        let (found, envelope) = metadata::read::<M>(&bytes).ok()?;
        self.root.verify(M::ROLE, &envelope).ok()?;
        Some((bytes, found))
    }

    /// Returns what was verified so far, and the roots that are kept for the image of the other slot. The caller saves
    /// it once, in one piece, when the run has ended.
    #[must_use]
    pub fn trusted(&self) -> &Trusted {
        &self.trusted
    }

    /// Returns every file of metadata that was verified, by its name in the directory `metadata`, byte for byte: the roots from the
    /// image's on, and the newest timestamp, snapshot and targets. Whoever serves others what he has verified serves these.
    #[must_use]
    pub fn verified_files(&self) -> Vec<(String, &[u8])> {
        let unverified = self.earlier.saturating_add(self.beyond.len());
        let roots = self.trusted.roots.get(unverified..).unwrap_or_default();
        let newest = self.root.common.version;
        let behind = (0..).zip(roots.iter().rev());
        let mut files: Vec<_> = behind
            .map(|(behind, bytes)| (Role::Root.file(newest.saturating_sub(behind)), &**bytes))
            .collect();
        files.reverse();
        let Trusted { timestamp, snapshot, targets, .. } = &self.trusted;
        let versions = [
            (Role::Timestamp, timestamp, self.timestamp.as_ref().map(|it| it.common.version)),
            (Role::Snapshot, snapshot, self.snapshot.as_ref().map(|it| it.common.version)),
            (Role::Targets, targets, self.targets.as_ref().map(|it| it.common.version)),
        ];
        for (role, bytes, version) in versions {
            files.extend(bytes.as_deref().zip(version).map(|(bytes, it)| (role.file(it), bytes)));
        }
        files
    }

    /// Returns the next file to fetch; `None` when the run has ended.
    #[must_use]
    pub fn wants(&self) -> Option<Wanted> {
        let Step::Role(role) = self.step else {
            return None;
        };
        let named = |meta: &FileMeta| {
            let most = meta.length.unwrap_or(u64::MAX).min(role.most_bytes());
            (meta.version, most)
        };
        let (version, most_bytes) = match role {
            Role::Root => (self.root.common.version.saturating_add(1), role.most_bytes()),
            Role::Timestamp => (0, role.most_bytes()),
            Role::Snapshot => named(self.timestamp.as_ref()?.snapshot().ok()?),
            Role::Targets => named(self.snapshot.as_ref()?.targets().ok()?),
        };
        Some(Wanted { role, name: role.file(version), most_bytes })
    }

    /// Verifies the file that was asked for, and takes it.
    ///
    /// # Errors
    /// The file is refused; the run has then ended.
    pub fn take(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let wanted = self.wants().ok_or(ClientError::Unasked)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let taken = if length > wanted.most_bytes {
            let error = MetadataError::TooLong { bytes: length, most: wanted.most_bytes };
            Err(ClientError::Metadata { role: wanted.role, error })
        } else {
            match wanted.role {
                Role::Root => self.take_root(bytes),
                Role::Timestamp => self.take_timestamp(bytes),
                Role::Snapshot => self.take_snapshot(bytes),
                Role::Targets => self.take_targets(bytes),
            }
        };
        self.ended_by(taken)
    }

    /// Notes that the repository has no such file, which ends the sequence of roots (5.3.3); any other file must be
    /// there.
    ///
    /// # Errors
    /// The file must be there, or the newest root has expired.
    pub fn mark_missing(&mut self) -> Result<(), ClientError> {
        let wanted = self.wants().ok_or(ClientError::Unasked)?;
        let ended = match wanted.role {
            Role::Root => self.end_roots(),
            role => Err(ClientError::Missing(role)),
        };
        self.ended_by(ended)
    }

    fn ended_by(&mut self, result: Result<(), ClientError>) -> Result<(), ClientError> {
        if result.is_err() {
            self.step = Step::Refused;
        }
        result
    }

    /// Returns the targets once the run has come to its end: all metadata is verified, and none has expired.
    #[must_use]
    pub fn targets(&self) -> Option<&Targets> {
        self.targets.as_ref().filter(|_| self.step == Step::Done)
    }

    /// Returns when the targets were made, in seconds since 1970, where they say it and the run has come to its end:
    /// no clock shows less. No metadata of the run has expired by then.
    #[must_use]
    pub fn issued(&self) -> Option<u64> {
        self.targets().and_then(Targets::issued_seconds)
    }

    /// Returns the first expiry of the four roles' metadata, in seconds since 1970; `None` where one of the four is
    /// not verified yet.
    #[must_use]
    pub fn holds_until(&self) -> Option<u64> {
        let commons = self.commons(self.targets.as_ref()).into_iter();
        let expires = commons.map(|(_, common)| common?.expires_seconds().ok());
        expires.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Returns the common fields of each role's metadata, with these targets.
    fn commons<'a>(&'a self, targets: Option<&'a Targets>) -> [(Role, Option<&'a Common>); 4] {
        [
            (Role::Root, Some(&self.root.common)),
            (Role::Timestamp, self.timestamp.as_ref().map(|timestamp| &timestamp.common)),
            (Role::Snapshot, self.snapshot.as_ref().map(|snapshot| &snapshot.common)),
            (Role::Targets, targets.map(|targets| &targets.common)),
        ]
    }

    /// Takes the next root (5.3.3 to 5.3.9).
    fn take_root(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        self.follow_root(bytes)?;
        self.taken_roots = self.taken_roots.saturating_add(1);
        self.follow_kept();
        // 5.3.3: the next run goes on from here, since these are kept.
        if self.taken_roots >= MAX_ROOTS || self.is_last_root() { self.end_roots() } else { Ok(()) }
    }

    /// True when the version cannot rise any more.
    fn is_last_root(&self) -> bool {
        self.root.common.version == u32::MAX
    }

    /// Verifies the next root and trusts it (5.3.4 to 5.3.8).
    fn follow_root(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let (root, envelope) = metadata::read::<Root>(&bytes).map_err(of(Role::Root))?;
        // 5.3.4: by the keys of the root that is trusted, and by its own.
        self.root.verify(Role::Root, &envelope).map_err(of(Role::Root))?;
        root.verify(Role::Root, &envelope).map_err(of(Role::Root))?;
        // 5.3.5: exactly the next one.
        let expected = self.root.common.version.saturating_add(1);
        let found = root.common.version;
        if found != expected {
            return Err(ClientError::Version { role: Role::Root, found, expected });
        }
        self.keep_root(bytes)?;
        // 5.3.11: whoever held keys that were replaced may have run ahead with the versions.
        if replaces_online_keys(&self.root, &root) {
            (self.timestamp, self.snapshot, self.targets) = (None, None, None);
            let Trusted { timestamp, snapshot, targets, .. } = &mut self.trusted;
            (*timestamp, *snapshot, *targets) = (None, None, None);
        }
        self.root = root;
        Ok(())
    }

    /// Ends the sequence of roots (5.3.10): the last one, and only that, must not have expired.
    fn end_roots(&mut self) -> Result<(), ClientError> {
        self.still_holds(&self.root)?;
        // 5.3.12, where this is stricter: names without versions and hashes can be mixed while they are replaced.
        if !self.root.consistent_snapshot {
            return Err(ClientError::NotConsistent(self.root.common.version));
        }
        if self.taken_roots > 0 {
            // 5.6.3 and its like: what the keys of an earlier root have signed is not used under this one.
            let Trusted { timestamp, snapshot, targets, .. } = &mut self.trusted;
            let seen = (timestamp.take(), snapshot.take(), targets.take());
            (self.timestamp, self.snapshot, self.targets) = (None, None, None);
            self.recall(seen.0, seen.1, seen.2);
        }
        self.step = Step::Role(Role::Timestamp);
        Ok(())
    }

    /// Takes the timestamp (5.4).
    fn take_timestamp(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let (found, _) = self.verified::<Timestamp>(&bytes)?;
        if let Some(seen) = &self.timestamp {
            // 5.4.3.1
            not_before(Role::Timestamp, found.common.version, seen.common.version)?;
            // 5.4.3.2
            let (new, old) = (found.snapshot(), seen.snapshot());
            if let (Ok(new), Ok(old)) = (new, old) {
                not_before(Role::Snapshot, new.version, old.version)?;
            }
        }
        // The same version is the same file, whatever lies there now.
        let is_known =
            self.timestamp.as_ref().is_some_and(|s| s.common.version == found.common.version);
        let holds = if is_known { self.timestamp.as_ref() } else { Some(&found) };
        // 5.4.4
        holds.map_or(Ok(()), |timestamp| self.still_holds(timestamp))?;
        if !is_known {
            self.timestamp = Some(found);
            self.trusted.timestamp = Some(bytes);
        }
        self.after_timestamp()
    }

    /// Goes on with the snapshot, unless the one that the timestamp names is known already.
    fn after_timestamp(&mut self) -> Result<(), ClientError> {
        let wanted = self.timestamp.as_ref().and_then(|t| t.snapshot().ok());
        let is_known = match (wanted, &self.snapshot, &self.trusted.snapshot) {
            (Some(wanted), Some(snapshot), Some(bytes)) => {
                wanted.version == snapshot.common.version && wanted.fits(bytes)
            }
            _ => false,
        };
        if !is_known {
            self.step = Step::Role(Role::Snapshot);
            return Ok(());
        }
        self.snapshot.as_ref().map_or(Ok(()), |snapshot| self.still_holds(snapshot))?;
        self.after_snapshot()
    }

    /// Takes the snapshot (5.5).
    fn take_snapshot(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let wanted = self.timestamp.as_ref().and_then(|t| t.snapshot().ok());
        let wanted = wanted.ok_or(ClientError::Missing(Role::Timestamp))?;
        // 5.5.2
        if !wanted.fits(&bytes) {
            return Err(ClientError::OtherFile(Role::Snapshot));
        }
        // 5.5.3
        let (found, _) = self.verified::<Snapshot>(&bytes)?;
        // 5.5.4
        is_version(Role::Snapshot, found.common.version, wanted.version)?;
        // 5.5.5: nothing that was seen is gone or goes back.
        if let Some(seen) = &self.snapshot {
            for (name, seen) in &seen.meta {
                let found = found.meta.get(name).map_or(0, |meta| meta.version);
                not_before(Role::Targets, found, seen.version)?;
            }
        }
        // 5.5.6
        self.still_holds(&found)?;
        self.snapshot = Some(found);
        self.trusted.snapshot = Some(bytes);
        self.after_snapshot()
    }

    /// Goes on with the targets, unless those that the snapshot names are known already.
    fn after_snapshot(&mut self) -> Result<(), ClientError> {
        let wanted = self.snapshot.as_ref().and_then(|s| s.targets().ok());
        let is_known = match (wanted, &self.targets, &self.trusted.targets) {
            (Some(wanted), Some(targets), Some(bytes)) => {
                wanted.version == targets.common.version && wanted.fits(bytes)
            }
            _ => false,
        };
        if !is_known {
            self.step = Step::Role(Role::Targets);
            return Ok(());
        }
        self.targets.as_ref().map_or(Ok(()), |targets| self.may_be_used(targets))?;
        self.step = Step::Done;
        Ok(())
    }

    /// Takes the targets (5.6).
    fn take_targets(&mut self, bytes: Vec<u8>) -> Result<(), ClientError> {
        let wanted = self.snapshot.as_ref().and_then(|s| s.targets().ok());
        let wanted = wanted.ok_or(ClientError::Missing(Role::Snapshot))?;
        // 5.6.2
        if !wanted.fits(&bytes) {
            return Err(ClientError::OtherFile(Role::Targets));
        }
        // 5.6.3
        let (found, _) = self.verified::<Targets>(&bytes)?;
        // 5.6.4
        is_version(Role::Targets, found.common.version, wanted.version)?;
        self.may_be_used(&found)?;
        self.targets = Some(found);
        self.trusted.targets = Some(bytes);
        self.step = Step::Done;
        Ok(())
    }

    /// Checks that the targets have not expired (5.6.5), and that no metadata had expired when they were made: the
    /// clock will show no less than that time, at which it would have expired on every device for good.
    fn may_be_used(&self, targets: &Targets) -> Result<(), ClientError> {
        self.still_holds(targets)?;
        let Some((issued, at)) = targets.issued.clone().zip(targets.issued_seconds()) else {
            return Ok(());
        };
        for (role, common) in self.commons(Some(targets)) {
            let Some(common) = common else { continue };
            if common.expires_seconds().map_err(of(role))? <= at {
                return Err(ClientError::Issued { role, issued, expires: common.expires.clone() });
            }
        }
        Ok(())
    }

    /// Parses metadata and checks that enough keys of its role have signed it.
    fn verified<M: Metadata>(&self, bytes: &[u8]) -> Result<(M, Envelope), ClientError> {
        let (found, envelope) = metadata::read::<M>(bytes).map_err(of(M::ROLE))?;
        self.root.verify(M::ROLE, &envelope).map_err(of(M::ROLE))?;
        Ok((found, envelope))
    }

    fn still_holds<M: Metadata>(&self, metadata: &M) -> Result<(), ClientError> {
        let common = metadata.common();
        let until = common.expires_seconds().map_err(of(M::ROLE))?;
        if until > self.now {
            return Ok(());
        }
        Err(ClientError::Expired { role: M::ROLE, expires: common.expires.clone() })
    }
}

/// Returns the time to which a run of a repository raises the clock floor, in seconds since 1970.
///
/// One clock judges both repositories. So `oem` leads it nowhere where something of `os` has expired: whoever
/// signs for `oem`, or has stolen its keys, could end the updates of the OS else. `os` is what the device has of it;
/// `None` for a device that has no such repository.
#[must_use]
pub fn raised_to(repository: RepositoryName, run: &Client, os: Option<&Client>) -> Option<u64> {
    let issued = run.issued()?;
    match (repository, os) {
        (RepositoryName::Oem, Some(os)) => {
            os.holds_until().filter(|until| issued < *until).map(|_| issued)
        }
        _ => Some(issued),
    }
}

/// True when two roots name different keys for timestamp or snapshot, the roles that are signed online.
fn replaces_online_keys(before: &Root, next: &Root) -> bool {
    [Role::Timestamp, Role::Snapshot].into_iter().any(|role| !same_keys(before, next, role))
}

/// True when two roots name the same keys for a role, by their bytes, and the same threshold.
fn same_keys(one: &Root, other: &Root, role: Role) -> bool {
    let of_role = |root: &Root| {
        let of_role = root.role(role)?.clone();
        let keys: Vec<_> =
            of_role.keyids.iter().filter_map(|id| root.keys.get(id).cloned()).collect();
        Some((of_role, keys))
    };
    of_role(one) == of_role(other)
}

fn is_version(role: Role, found: u32, expected: u32) -> Result<(), ClientError> {
    if found == expected { Ok(()) } else { Err(ClientError::Version { role, found, expected }) }
}

fn not_before(role: Role, found: u32, seen: u32) -> Result<(), ClientError> {
    if found >= seen { Ok(()) } else { Err(ClientError::Rollback { role, found, seen }) }
}

#[cfg(test)]
mod tests;
