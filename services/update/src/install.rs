//! Writing a release to the medium, and verifying it by reading it back.

use crate::device::Slots;
use crate::install_error::InstallError;
use crate::slot::Origin;
use holdfast_linux::direct::{Direct, Writer};
use holdfast_linux::file;
use holdfast_release::{Release, Target};
use holdfast_sandbox::component::Stored;
use holdfast_sandbox::held::ReleaseSubject;
use holdfast_sandbox::held::Running;
use holdfast_sandbox::package::{HEADER_BYTES, Header};
use holdfast_sandbox::verity::{self, SLOT_SALT};
use holdfast_sandbox::wire::SlotPart;
use holdfast_types::{ComponentId, chain, event};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Has the other slot marked unbootable, and opens its two parts.
pub(crate) fn open_slot(
    slots: &mut impl Slots,
    target: &Target,
    release: &Release,
) -> Result<(Direct, Direct), InstallError> {
    slots.announce()?;
    let mut open = |part: SlotPart, bytes: u64| {
        let opened = slots.other_part(part)?;
        let mut opened = opened.ok_or(InstallError::Room { part: part.name(), bytes })?;
        if opened.length()? < bytes {
            return Err(InstallError::Room { part: part.name(), bytes });
        }
        Ok(opened)
    };
    let root_bytes = target.length.saturating_sub(release.boot_bytes);
    Ok((open(SlotPart::Boot, release.boot_bytes)?, open(SlotPart::Root, root_bytes)?))
}

/// Writer of a slot: the FIT first, then the root.
#[derive(Debug)]
pub(crate) struct SlotWriter<'a> {
    boot: Writer<'a>,
    root: Writer<'a>,
    boot_left: u64,
}

impl<'a> SlotWriter<'a> {
    pub(crate) fn new(boot: &'a Direct, root: &'a Direct, boot_bytes: u64) -> Self {
        Self { boot: boot.writer(), root: root.writer(), boot_left: boot_bytes }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        let left = usize::try_from(self.boot_left).unwrap_or(usize::MAX);
        let (boot, root) = bytes.split_at(left.min(bytes.len()));
        self.boot_left =
            self.boot_left.saturating_sub(u64::try_from(boot.len()).unwrap_or(u64::MAX));
        self.boot.put(boot)?;
        Ok(self.root.put(root)?)
    }

    pub(crate) fn finish(self) -> Result<(), InstallError> {
        self.root.finish()?;
        Ok(self.boot.finish()?)
    }
}

/// Verifies a slot by reading all of it back from the medium.
pub(crate) fn verify_slot(
    boot: &Direct,
    root: &Direct,
    target: &Target,
    release: &Release,
) -> Result<(), InstallError> {
    let root_bytes = target.length.saturating_sub(release.boot_bytes);
    let mut tree = verity::Reader::new(SLOT_SALT, root_bytes).ok_or(InstallError::RootHash)?;
    let mut whole = Sha256::new();
    boot.read(release.boot_bytes, |piece| whole.update(piece))?;
    root.read(root_bytes, |piece| {
        whole.update(piece);
        tree.take(piece);
    })?;
    is_what_was_released(whole, target)?;
    has_root_hash(tree, release)
}

/// Checks the hash of what was read back. Where it differs, the release itself is not to blame.
fn is_what_was_released(whole: Sha256, target: &Target) -> Result<(), InstallError> {
    let digest: [u8; 32] = whole.finalize().into();
    if target.sha256() == Some(digest) { Ok(()) } else { Err(InstallError::OtherBytes) }
}

fn has_root_hash(tree: verity::Reader, release: &Release) -> Result<(), InstallError> {
    let root_hash = tree.root_hash();
    let is_released = root_hash.is_some() && root_hash == release.root_hash();
    if is_released { Ok(()) } else { Err(InstallError::RootHash) }
}

fn package_path(store: &Path, id: ComponentId) -> PathBuf {
    store.join(Stored::Unfinished.file(id))
}

/// Opens the package that an app runs, for a delta; `None` where another one lies there, or it cannot be read: the
/// release is then fetched whole.
pub(crate) fn open_package(store: &Path, id: ComponentId, running: &Running) -> Option<Origin> {
    let path = store.join(Stored::Current.file(id));
    let opened = Direct::open_to_read(&path).map_err(InstallError::from);
    opened.and_then(|package| Origin::of_package(package, running)).unwrap_or_else(|error| {
        let read_failed = event::update::UPDATE_DELTA_BASE_READ_FAILED;
        println!("{id}: cannot read its package for a delta: {} {read_failed}", chain(&error));
        None
    })
}

/// Creates the file of an unfinished package, which init ignores until it is staged.
pub(crate) fn create_package(store: &Path, id: ComponentId) -> Result<Direct, InstallError> {
    Ok(Direct::create(&package_path(store, id))?)
}

/// Removes the file of an unfinished package.
pub(crate) fn remove_package(store: &Path, id: ComponentId) {
    if let Err(error) = file::remove(&package_path(store, id)) {
        let remove_failed = event::update::UPDATE_PACKAGE_REMOVE_FAILED;
        println!("{id}: cannot remove its unfinished package: {} {remove_failed}", chain(&error));
    }
}

/// Verifies a package by reading all of it back from the medium. init verifies it again at each start.
pub(crate) fn verify_package(
    package: &Direct,
    target: &Target,
    release: &Release,
) -> Result<(), InstallError> {
    let header_bytes = u64::try_from(HEADER_BYTES).unwrap_or(u64::MAX);
    let length = usize::try_from(target.length).unwrap_or(usize::MAX);
    let start = package.bytes(0, HEADER_BYTES.min(length))?;
    let header = Header::parse(&start, target.length);
    let files = target.length.saturating_sub(header_bytes);
    let salt = header.as_ref().map(|header| header.salt).unwrap_or_default();
    let mut tree = verity::Reader::new(salt, files).ok_or(InstallError::RootHash)?;
    let mut whole = Sha256::new();
    let mut skip = HEADER_BYTES;
    package.read(target.length, |piece| {
        whole.update(piece);
        let (skipped, rest) = piece.split_at(skip.min(piece.len()));
        skip = skip.saturating_sub(skipped.len());
        tree.take(rest);
    })?;
    is_what_was_released(whole, target)?;
    let header = header.map_err(InstallError::Package)?;
    has_root_hash(tree, release)?;
    let differs = [
        ("component id", ReleaseSubject::App(header.component_id) != release.subject),
        ("version", header.version != release.version),
        ("rollback index", header.rollback_index != release.rollback_index),
        ("least OS version", header.least_os != release.least_os),
        ("root hash", Some(header.root_hash) != release.root_hash()),
    ];
    match differs.into_iter().find(|(_, differs)| *differs) {
        Some((field, _)) => Err(InstallError::Differs(field)),
        None => Ok(()),
    }
}
