//! Reference values from signed metadata (RFC 9334: the provider of reference values is who signs releases): a repository is
//! verified as a device verifies it, from the root that the catalog trusts, and each release of the OS is taken by what its boot
//! measures.
//!
//! What was seen is remembered as on a device, so that metadata that is older than the last is refused here as well. A release that
//! is not offered any more stays known: devices run it until they have taken the next, and who wants it gone withdraws it.

use crate::measurement::Release;
use holdfast_evidence::policy::BootDigest;
use holdfast_release::client::{Client, ClientError, Trusted};
use holdfast_release::feed::Feed;
use holdfast_release::metadata::{self, MetadataError, Role, Root, Targets};
use holdfast_release::{RepositoryName, Target};
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_types::encoding::EncodingError;
use std::collections::BTreeMap;
use thiserror::Error;

/// Largest rollback index that both databases take.
pub const MAX_INDEX: u64 = i64::MAX as u64;

/// Errors of reading a repository's metadata.
#[derive(Debug, Error)]
pub enum ReferenceError {
    /// The root is no root, or is not signed by its own keys.
    #[error("the root is no signed `root.json`")]
    Root(#[source] MetadataError),
    /// A file is not among those that were sent, and has to be.
    #[error(
        "{0}: is missing; send every file of the repository's `metadata` that is newer than the last"
    )]
    Missing(String),
    /// A device would refuse the metadata.
    #[error("a device refuses this metadata")]
    Refused(#[source] ClientError),
    /// What was remembered of the repository cannot be read or written.
    #[error("what is remembered of the repository cannot be encoded or decoded")]
    Memory(#[from] EncodingError),
}

/// What a catalog knows of the repository that it takes releases from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The root that its owner has set.
    pub root: Vec<u8>,
    /// What was verified so far, encoded; empty before the first time.
    pub memory: Vec<u8>,
}

/// What a root says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// Its version.
    pub version: u32,
    /// Its expiry, as RFC 3339.
    pub expires: String,
}

/// A release of the OS that verified targets name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Path of the target.
    pub path: String,
    /// The release.
    pub release: Release,
    /// The feed whose devices it is for alone; none for those of every feed.
    pub feed: Option<Feed>,
}

/// A target that is a release of the OS, and of which nothing can be attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Path of the target.
    pub path: String,
    /// Why.
    pub reason: &'static str,
}

/// What verified metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// What is to be remembered, encoded.
    pub memory: Vec<u8>,
    /// Version of the targets.
    pub targets: u32,
    /// Releases of the OS, by their paths.
    pub releases: Vec<Signed>,
    /// Releases of the OS that are not taken.
    pub ignored: Vec<Ignored>,
    /// Files of metadata that were verified, by their paths in the repository.
    pub metadata: BTreeMap<String, Vec<u8>>,
    /// Files that the targets name, by their paths in the repository.
    pub files: BTreeMap<String, NamedFile>,
}

/// A file that verified targets name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamedFile {
    /// SHA-256 of its content.
    pub digest: [u8; 32],
    /// Length in bytes.
    pub length: u64,
}

/// Reads a root that is to be trusted. Its keys have to have signed it; whether it has expired is asked when it is used, since
/// one that follows it may be there by then.
///
/// # Errors
/// [`ReferenceError::Root`].
pub fn read_root(bytes: &[u8]) -> Result<RootFacts, ReferenceError> {
    let (root, envelope) = metadata::read::<Root>(bytes).map_err(ReferenceError::Root)?;
    root.verify(Role::Root, &envelope).map_err(ReferenceError::Root)?;
    Ok(RootFacts { version: root.common.version, expires: root.common.expires })
}

/// Verifies metadata files of a repository, by their names, from what the catalog knows, at `now` in seconds since 1970. Only the
/// repository of the OS has reference values: a release of the OS in another is none that a device takes.
///
/// # Errors
/// See [`ReferenceError`].
pub fn take(
    known: &Known,
    repository: RepositoryName,
    files: &BTreeMap<String, String>,
    now: u64,
) -> Result<Taken, ReferenceError> {
    let trusted =
        if known.memory.is_empty() { Trusted::default() } else { Trusted::decode(&known.memory)? };
    let mut client = Client::begin(&known.root, trusted, now).map_err(ReferenceError::Refused)?;
    while let Some(wanted) = client.wants() {
        let done = match files.get(&wanted.name) {
            Some(text) => client.take(text.as_bytes().to_vec()),
            None if wanted.role == Role::Root => client.mark_missing(),
            None => return Err(ReferenceError::Missing(wanted.name)),
        };
        done.map_err(ReferenceError::Refused)?;
    }
    let memory = client.trusted().encode()?;
    let targets = client.targets();
    let targets = targets.ok_or(ReferenceError::Refused(ClientError::Missing(Role::Targets)))?;
    let (releases, ignored) = match repository {
        RepositoryName::Os => releases_of_os(targets),
        RepositoryName::Oem => (Vec::new(), Vec::new()),
    };
    let files = targets.targets.iter().filter_map(|(path, target)| {
        let named = NamedFile { digest: target.sha256()?, length: target.length };
        Some((target.place(path)?, named))
    });
    let metadata = client.verified_files().into_iter();
    let metadata = metadata.map(|(name, bytes)| (format!("metadata/{name}"), bytes.to_vec()));
    Ok(Taken {
        memory,
        targets: targets.common.version,
        releases,
        ignored,
        metadata: metadata.collect(),
        files: files.collect(),
    })
}

fn releases_of_os(targets: &Targets) -> (Vec<Signed>, Vec<Ignored>) {
    let (mut releases, mut ignored) = (Vec::new(), Vec::new());
    for (path, target) in &targets.targets {
        if target.custom.as_ref().is_none_or(|custom| custom.subject != ReleaseSubject::Os) {
            continue;
        }
        match release_of(path, target) {
            Ok(release) => {
                let feed = target.custom.as_ref().and_then(|custom| custom.feed.clone());
                releases.push(Signed { path: path.clone(), release, feed });
            }
            Err(reason) => ignored.push(Ignored { path: path.clone(), reason }),
        }
    }
    // Of one that is offered to several feeds, each device finds its own.
    let of_several: Vec<BootDigest> = releases.iter().map(|signed| signed.release.boot).collect();
    for (number, signed) in releases.iter_mut().enumerate() {
        let boot = signed.release.boot;
        let mut others = of_several.iter().enumerate();
        if others.any(|(other, of)| other != number && *of == boot) {
            signed.feed = None;
        }
    }
    (releases, ignored)
}

fn release_of(path: &str, target: &Target) -> Result<Release, &'static str> {
    target.check(path)?;
    let custom = target.custom.as_ref().ok_or("says of no release which it is")?;
    let boot = custom.boot_digest().map(BootDigest);
    let boot =
        boot.ok_or("has no `boot_digest`: publish it anew with a `holdfast` that writes it")?;
    if custom.rollback_index > MAX_INDEX {
        return Err("has a rollback index of 2^63 or more");
    }
    let (version, index) = (custom.version, custom.rollback_index);
    Ok(Release { boot, version, index, withdrawn: false })
}
