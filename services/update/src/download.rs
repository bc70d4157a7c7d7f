//! Taking a release: what of it is fetched, and from where the rest comes.

use crate::agent::{Agent, AgentError};
use crate::install::{self, InstallError, SlotWriter};
use crate::slot::{self, Copied, Expected, Hashes, Old, Origin, Step};
use crate::state;
use crate::uplink::{Fetched, UplinkError};
use holdfast_core::app_manifest::ComponentId;
use holdfast_core::log_line::chain;
use holdfast_core::release::metadata::{Targets, hex};
use holdfast_core::release::{Component, Release, Repository, Target};
use holdfast_core::update::delta::{self, Bytes, Patcher};
use holdfast_core::update::fetch::Fetch;
use holdfast_core::update::{Running, Staged, reuse};
use holdfast_core::verity::{self, DIGEST_BYTES, SLOT_SALT};
use holdfast_core::wire::Request;
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::direct::Direct;

/// How long it waits for `uplink` to be there again, in milliseconds.
const UPLINK_WITHIN_MS: u64 = 30_000;
/// Times that one file is gone on with where it broke off, in one turn.
const MAX_RESUMES: u32 = 16;
/// Pause before that, in milliseconds.
const RESUME_AFTER_MS: u64 = 2_000;

/// A release that is to be taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) repository: Repository,
    pub(crate) targets: &'a Targets,
    pub(crate) path: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) release: &'a Release,
    /// What runs of its component.
    pub(crate) running: Option<&'a Running>,
}

/// A file of a repository.
#[derive(Debug, Clone, Copy)]
struct File<'a> {
    repository: Repository,
    place: &'a str,
}

/// A file from which a release is made, with the one that runs or without.
#[derive(Debug)]
struct Delta {
    place: String,
    length: u64,
    needs_running: bool,
}

/// How a slot is put together.
#[derive(Debug)]
enum Plan {
    /// From the running one, by a delta.
    Delta(Delta),
    /// From parts of the running one and ranges of the release.
    Parts(Parts),
}

#[derive(Debug)]
struct Parts {
    boot: Vec<Step>,
    root: Vec<Step>,
    /// Of the new root's tree; none where it is too small to have any.
    leaves: Vec<[u8; DIGEST_BYTES]>,
    /// What is fetched for it, in bytes.
    fetched: u64,
}

impl Agent {
    /// Has a release written, verified and staged.
    pub(crate) fn take_release(&mut self, offer: Offer<'_>) -> Result<(), InstallError> {
        let root_hash = offer.release.root_hash().ok_or(InstallError::NoHash)?;
        let component = offer.release.component;
        let stage = match component {
            Component::Os => {
                self.take_slot(offer)?;
                Request::Stage
            }
            Component::App(id) => {
                self.take_package(id, offer)?;
                Request::StageApp(id)
            }
        };
        self.memory.stages(Staged { component, root_hash, reached: self.has_reached });
        state::keep_memory(&self.memory)?;
        self.init.tell(&stage)?;
        self.memory.is_staged();
        Ok(state::keep_memory(&self.memory)?)
    }

    /// The smallest delta that is offered, from what runs or from nothing, if it is smaller than the release.
    fn delta(&self, offer: Offer<'_>) -> Option<Delta> {
        let running = offer.running.map(|running| hex(&running.root_hash));
        let bases = [running.as_deref(), Some(delta::NOTHING)];
        let offered = bases.into_iter().flatten().filter_map(|from| {
            let path = delta::path(offer.path, from);
            let target = offer.targets.targets.get(&path)?;
            let (place, length) = (target.place(&path)?, target.length);
            let needs_running = from != delta::NOTHING;
            let smaller = self.uses_deltas && (1..offer.target.length).contains(&length);
            smaller.then_some(Delta { place, length, needs_running })
        });
        offered.min_by_key(|delta| delta.length)
    }

    /// True where so many bytes may be fetched for one release. A card costs nothing.
    fn affords(&self, bytes: u64) -> bool {
        self.card.is_some() || self.config.most_bytes_a_release.is_none_or(|most| bytes <= most)
    }

    fn afford(&self, bytes: u64) -> Result<(), InstallError> {
        match self.config.most_bytes_a_release.filter(|_| !self.affords(bytes)) {
            Some(most) => Err(InstallError::Costs { bytes, most }),
            None => Ok(()),
        }
    }

    fn take_slot(&mut self, offer: Offer<'_>) -> Result<(), InstallError> {
        let Offer { repository, target, release, .. } = offer;
        let place = target.place(offer.path).ok_or(InstallError::NoHash)?;
        let file = File { repository, place: &place };
        let mut old = Old::open(&mut self.init)?;
        old.has_room(target, release)?;
        let plan = self.plan(file, offer, &old)?;
        // Not before it is known what comes: until then, the other slot is one to fall back to.
        let (boot, root) = install::open_slot(&mut self.init, target, release)?;
        let mut writer = SlotWriter::new(&boot, &root, release.boot_bytes);
        let (fetched, by_delta) = match plan {
            Plan::Delta(delta) => {
                let origin = old.into_origin();
                let patched = self.patch(&delta, offer, &origin, |piece| writer.put(piece));
                self.judge_delta(&patched);
                patched?;
                (delta.length, true)
            }
            Plan::Parts(parts) => {
                let put = self.put_together(file, offer, &parts, &old, &mut writer);
                // What the running slot holds is not what it was; nothing else is a reason to fetch all.
                self.reuses &= !matches!(put, Err(InstallError::Held));
                put?;
                (parts.fetched, false)
            }
        };
        println!("os: {fetched} of {} bytes were fetched", target.length);
        writer.finish()?;
        let verified = install::verify_slot(&boot, &root, target, release);
        if by_delta {
            self.judge_delta(&verified);
        }
        verified
    }

    /// A delta that makes something else than the release is not used again: the next try does without.
    fn judge_delta(&mut self, made: &Result<(), InstallError>) {
        self.uses_deltas &= !matches!(made, Err(InstallError::Delta(_) | InstallError::OtherBytes));
    }

    /// The way that costs least.
    fn plan(&mut self, file: File<'_>, offer: Offer<'_>, old: &Old) -> Result<Plan, InstallError> {
        let Offer { target, release, .. } = offer;
        let hashes = match offer.running.filter(|_| self.reuses) {
            Some(running) => old.hashes(running)?,
            None => Hashes::default(),
        };
        let boot = slot::boot_steps(release, &hashes);
        let delta = self.delta(offer);
        let leaves = slot::leaves_of(target, release);
        let least = slot::fetched(&boot).saturating_add(leaves.map_or(0, |(_, bytes, _)| bytes));
        let delta = match delta {
            Some(delta) if delta.length <= least || !self.affords(least) => {
                self.afford(delta.length)?;
                return Ok(Plan::Delta(delta));
            }
            delta => delta,
        };
        self.afford(least)?;
        let parts = self.parts(file, offer, boot, &hashes)?;
        if let Some(delta) = delta.filter(|delta| delta.length < parts.fetched) {
            self.afford(delta.length)?;
            return Ok(Plan::Delta(delta));
        }
        self.afford(parts.fetched)?;
        Ok(Plan::Parts(parts))
    }

    /// Fetches the leaves of the new root, by which it is known what of it is there.
    fn parts(
        &mut self,
        file: File<'_>,
        offer: Offer<'_>,
        boot: Vec<Step>,
        old: &Hashes,
    ) -> Result<Parts, InstallError> {
        let Offer { target, release, .. } = offer;
        let boot_bytes = slot::fetched(&boot);
        let Some((at, bytes, data_bytes)) = slot::leaves_of(target, release) else {
            let bytes = target.length.saturating_sub(release.boot_bytes);
            let root = vec![Step::Fetch { at: release.boot_bytes, bytes }];
            let fetched = boot_bytes.saturating_add(bytes);
            return Ok(Parts { boot, root, leaves: Vec::new(), fetched });
        };
        let mut level = Vec::new();
        self.download(file, at, bytes, |piece| {
            level.extend_from_slice(piece);
            Ok(())
        })?;
        let leaves = reuse::digests(&level, data_bytes).ok_or(InstallError::RootHash)?;
        let root = slot::root_steps(release, &leaves, data_bytes, old);
        let steps = boot_bytes.saturating_add(slot::fetched(&root));
        Ok(Parts { boot, root, leaves, fetched: steps.saturating_add(bytes) })
    }

    /// Puts a slot together from what the running one has and what is fetched.
    fn put_together(
        &mut self,
        file: File<'_>,
        offer: Offer<'_>,
        parts: &Parts,
        old: &Old,
        writer: &mut SlotWriter<'_>,
    ) -> Result<(), InstallError> {
        let chunks = offer.release.boot_chunks().unwrap_or_default();
        for step in &parts.boot {
            let expected = |first| Expected::Chunks(chunks.get(first..).unwrap_or_default().iter());
            self.take(file, *step, old, expected, writer)?;
        }
        for step in &parts.root {
            let leaves = &parts.leaves;
            let expected = |first| Expected::Blocks(leaves.get(first..).unwrap_or_default().iter());
            self.take(file, *step, old, expected, writer)?;
        }
        if parts.leaves.is_empty() {
            return Ok(());
        }
        // The levels above follow from the leaves. All of it is judged by what is read back.
        let tree = verity::tree(&SLOT_SALT, parts.leaves.clone()).ok_or(InstallError::RootHash)?;
        writer.put(&tree.bytes)
    }

    /// One step of a slot.
    fn take<'a>(
        &mut self,
        file: File<'_>,
        step: Step,
        old: &Old,
        expected: impl FnOnce(usize) -> Expected<'a>,
        writer: &mut SlotWriter<'_>,
    ) -> Result<(), InstallError> {
        match step {
            Step::Copy { part, at, bytes, first } => {
                let copied = Copied { part, at, bytes, expected: expected(first) };
                old.copy(copied, |piece| writer.put(piece))
            }
            Step::Fetch { at, bytes } => self.download(file, at, bytes, |piece| writer.put(piece)),
        }
    }

    fn take_package(&mut self, id: ComponentId, offer: Offer<'_>) -> Result<(), InstallError> {
        let Offer { repository, target, release, .. } = offer;
        let place = target.place(offer.path).ok_or(InstallError::NoHash)?;
        let mut delta = self.delta(offer);
        let origin = match (&delta, offer.running) {
            (Some(Delta { needs_running: false, .. }), _) => Some(Origin::nothing()),
            (Some(_), Some(running)) => install::open_package(id, running),
            _ => None,
        };
        delta = delta.filter(|_| origin.is_some());
        let fetched = delta.as_ref().map_or(target.length, |delta| delta.length);
        self.afford(fetched)?;
        let package = install::create_package(id)?;
        let by_delta = delta.is_some();
        let file = File { repository, place: &place };
        let made = self.make_package(&package, file, offer, delta.zip(origin));
        let verified = made.and_then(|()| install::verify_package(&package, target, release));
        if by_delta {
            self.judge_delta(&verified);
        }
        if verified.is_err() {
            install::remove_package(id);
        }
        verified?;
        println!("{id}: {fetched} of {} bytes were fetched", target.length);
        Ok(())
    }

    fn make_package(
        &mut self,
        package: &Direct,
        file: File<'_>,
        offer: Offer<'_>,
        delta: Option<(Delta, Origin)>,
    ) -> Result<(), InstallError> {
        let mut writer = package.writer();
        match delta {
            Some((delta, origin)) => {
                self.patch(&delta, offer, &origin, |piece| Ok(writer.put(piece)?))?
            }
            None => self.download(file, 0, offer.target.length, |piece| Ok(writer.put(piece)?))?,
        }
        Ok(writer.finish()?)
    }

    /// Makes a release of the one that runs.
    fn patch(
        &mut self,
        delta: &Delta,
        offer: Offer<'_>,
        origin: &Origin,
        mut put: impl FnMut(&[u8]) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let file = File { repository: offer.repository, place: &delta.place };
        let mut patcher = Patcher::new(offer.target.length);
        self.download(file, 0, delta.length, |piece| {
            patcher.take(piece, |bytes| match bytes {
                Bytes::New(new) => put(new),
                Bytes::Copied { at, bytes } => origin.copy(at, bytes, &mut put),
            })
        })?;
        Ok(patcher.finish()?)
    }

    /// Fetches so many bytes of a file, and goes on where it broke off.
    fn download(
        &mut self,
        file: File<'_>,
        begin: u64,
        length: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let mut done = 0u64;
        let mut resumes = 0;
        while done < length {
            let fetch = Fetch {
                repository: file.repository,
                path: file.place.to_owned(),
                from: begin.saturating_add(done),
                most_bytes: length.saturating_sub(done),
            };
            let fetched = self.fetch(&fetch, |piece| {
                done = done.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                take(piece)
            });
            match fetched {
                Ok(Fetched::All) if done == length => break,
                Ok(Fetched::All) => return Err(InstallError::Short(begin.saturating_add(done))),
                Ok(Fetched::Missing) => return Err(InstallError::Missing),
                Err(InstallError::Uplink(error))
                    if resumes < MAX_RESUMES && self.card.is_none() =>
                {
                    let at = begin.saturating_add(done);
                    println!("goes on at byte {at}: {}", chain(&error));
                    resumes = resumes.saturating_add(1);
                    self.pause()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits a little, and for `uplink` if it is not there.
    fn pause(&mut self) -> Result<(), InstallError> {
        let wait = if self.uplink.is_some() { RESUME_AFTER_MS } else { UPLINK_WITHIN_MS };
        match self.rest(monotonic_ms().saturating_add(wait)) {
            Ok(()) => Ok(()),
            Err(AgentError::Init(error)) => Err(error.into()),
            Err(_) => Err(UplinkError::Nobody.into()),
        }
    }
}
