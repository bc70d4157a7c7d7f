//! Taking a release: what of it is fetched, and from where the rest comes.

use crate::agent::{Agent, AgentError};
use crate::install::{self, SlotWriter};
use crate::install_error::InstallError;
use crate::slot::{self, Hashes, Old, Origin, Step};
use crate::state;
use crate::uplink::{Fetched, UplinkError};
use holdfast_linux::clock::monotonic_ms;
use holdfast_linux::direct::Direct;
use holdfast_release::checked::{Checker, Known};
use holdfast_release::delta::{self, Bytes, DeltaError, Patcher};
use holdfast_release::fetch::Fetch;
use holdfast_release::metadata::Targets;
use holdfast_release::{Release, Repository, Target};
use holdfast_release::{Staged, reuse};
use holdfast_sandbox::held::Component;
use holdfast_sandbox::held::Running;
use holdfast_sandbox::verity;
use holdfast_sandbox::wire::UpdateRequest;
use holdfast_types::ComponentId;
use holdfast_types::chain;
use holdfast_types::hex::hex;
use sha2::{Digest, Sha256};

/// How long it waits for `uplink` to be there again, in milliseconds.
const UPLINK_WITHIN_MS: u64 = 30_000;
/// Times that one file is gone on with where it broke off, in one turn.
const MAX_RESUMES: u32 = 16;
/// Pause before that, in milliseconds.
const RESUME_AFTER_MS: u64 = 2_000;
/// A delta of no more bytes is held whole, and is the file that was released before anything is made of it.
const SHORT_DELTA_BYTES: u64 = 256 * 1024;
/// Of a longer one, so many are fetched first: more than the first chunk of a release can take.
const FIRST_BYTES: u64 = 64 * 1024;

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
    sha256: [u8; 32],
    needs_running: bool,
}

impl Delta {
    fn is_short(&self) -> bool {
        self.length <= SHORT_DELTA_BYTES
    }
}

/// How a slot is put together.
#[derive(Debug)]
struct Plan {
    way: Way,
    /// What is known of what comes of it.
    known: Known,
    /// What is fetched for it, in bytes.
    fetched: u64,
}

#[derive(Debug)]
enum Way {
    /// From the running one, by a delta.
    Delta(Delta),
    /// From parts of the running one and ranges of the release, one behind the other.
    Parts(Vec<Step>),
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Agent {
    /// Has a release written, verified and staged.
    pub(crate) fn take_release(&mut self, offer: Offer<'_>) -> Result<(), InstallError> {
        let root_hash = offer.release.root_hash().ok_or(InstallError::NoHash)?;
        let component = offer.release.component;
        self.gave_up_slot = false;
        let stage = match component {
            Component::Os => {
                self.take_slot(offer)?;
                UpdateRequest::Stage
            }
            Component::App(id) => {
                self.take_package(id, offer)?;
                UpdateRequest::StageApp(id)
            }
        };
        self.memory.stages(Staged { component, root_hash, reached: self.has_reached });
        state::keep_memory(&self.memory)?;
        self.init.tell(stage)?;
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
            let (place, length, sha256) = (target.place(&path)?, target.length, target.sha256()?);
            let needs_running = from != delta::NOTHING;
            let smaller = self.uses_deltas && (1..offer.target.length).contains(&length);
            smaller.then_some(Delta { place, length, sha256, needs_running })
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
        let Plan { way, known, fetched } = self.plan(file, offer, &old)?;
        let mut checker = Checker::new(&known);
        // Not before the first of what comes was found to be what was released: until then, the other slot is one to
        // fall back to.
        match way {
            Way::Delta(delta) => {
                let origin = old.into_origin();
                let begun = self.begin_delta(&delta, offer, &origin, &known);
                self.judge_delta(&begun);
                let begun = begun?;
                let (boot, root) = install::open_slot(&mut self.init, target, release)?;
                self.gave_up_slot = true;
                let mut writer = SlotWriter::new(&boot, &root, release.boot_bytes);
                let made = self.patch(&delta, &begun, offer, &origin, |piece| {
                    checker.take(piece, |part| writer.put(part))
                });
                let made = made.and_then(|()| Ok(checker.finish()?));
                self.judge_delta(&made);
                made?;
                println!("os: {fetched} of {} bytes were fetched", target.length);
                writer.finish()?;
                let verified = install::verify_slot(&boot, &root, target, release);
                self.judge_delta(&verified);
                verified
            }
            Way::Parts(steps) => {
                let first = self.fetch_first(file, &steps, &known)?;
                let (boot, root) = install::open_slot(&mut self.init, target, release)?;
                self.gave_up_slot = true;
                let mut writer = SlotWriter::new(&boot, &root, release.boot_bytes);
                let mut take = |bytes: &[u8]| checker.take(bytes, |part| writer.put(part));
                let put = self.put_together(file, &steps, first.as_ref(), &old, &mut take);
                // What the running slot holds is not what it was; nothing else is a reason to fetch all.
                self.reuses &= !matches!(put, Err(InstallError::Held));
                put?;
                // The tree follows from the leaves.
                take(known.tree())?;
                checker.finish()?;
                println!("os: {fetched} of {} bytes were fetched", target.length);
                writer.finish()?;
                install::verify_slot(&boot, &root, target, release)
            }
        }
    }

    /// A delta that makes something else than the release is not used again: the next try does without.
    fn judge_delta<T>(&mut self, made: &Result<T, InstallError>) {
        let is_wrong = |error: &InstallError| {
            matches!(
                error,
                InstallError::Delta(_)
                    | InstallError::OtherDelta
                    | InstallError::OtherBytes
                    | InstallError::Unlike(_)
            )
        };
        self.uses_deltas &= !made.as_ref().is_err_and(is_wrong);
    }

    /// The way that costs least.
    fn plan(&mut self, file: File<'_>, offer: Offer<'_>, old: &Old) -> Result<Plan, InstallError> {
        let Offer { target, release, .. } = offer;
        let known = Known::of(release, target.length).ok_or(InstallError::NoHash)?;
        let hashes = match offer.running.filter(|_| self.reuses) {
            Some(running) => old.hashes(running)?,
            None => Hashes::default(),
        };
        let mut steps = slot::boot_steps(release, &hashes);
        let leaf_bytes = slot::leaves_of(target, release).map_or(0, |(_, bytes, _)| bytes);
        let least = slot::fetched(&steps).saturating_add(leaf_bytes);
        // What a long one makes is judged by the leaves.
        let whole = |delta: Delta| {
            let leaves = if delta.is_short() { 0 } else { leaf_bytes };
            (delta.length.saturating_add(leaves), delta)
        };
        let delta = match self.delta(offer).map(whole) {
            Some((fetched, delta)) if fetched <= least || !self.affords(least) => {
                self.afford(fetched)?;
                let known =
                    if delta.is_short() { known } else { self.fetch_leaves(file, offer, known)? };
                return Ok(Plan { way: Way::Delta(delta), known, fetched });
            }
            delta => delta.map(|(_, delta)| delta),
        };
        self.afford(least)?;
        let known = self.fetch_leaves(file, offer, known)?;
        let data_bytes = wide(known.leaves().len()).saturating_mul(wide(verity::BLOCK_BYTES));
        steps.extend(slot::root_steps(release, known.leaves(), data_bytes, &hashes));
        let by_parts = slot::fetched(&steps).saturating_add(leaf_bytes);
        let by_delta = |delta: &Delta| delta.length.saturating_add(leaf_bytes);
        let plan = match delta.filter(|delta| by_delta(delta) < by_parts) {
            Some(delta) => Plan { fetched: by_delta(&delta), way: Way::Delta(delta), known },
            None => Plan { way: Way::Parts(steps), known, fetched: by_parts },
        };
        self.afford(plan.fetched)?;
        Ok(plan)
    }

    /// Fetches the leaves of the new root, by which it is known what of it is there and what comes.
    fn fetch_leaves(
        &mut self,
        file: File<'_>,
        offer: Offer<'_>,
        known: Known,
    ) -> Result<Known, InstallError> {
        let Some((at, bytes, data_bytes)) = slot::leaves_of(offer.target, offer.release) else {
            return Ok(known);
        };
        let level = self.collect(file, at, bytes)?;
        let leaves = reuse::digests(&level, data_bytes).ok_or(InstallError::Leaves)?;
        known.with_leaves(leaves).ok_or(InstallError::Leaves)
    }

    /// So many bytes of a file.
    fn collect(&mut self, file: File<'_>, at: u64, bytes: u64) -> Result<Vec<u8>, InstallError> {
        let mut collected = Vec::new();
        self.download(file, at, bytes, |piece| {
            collected.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(collected)
    }

    /// Fetches the first part that is not there, and judges it: whoever serves something else shows it by that, before the
    /// other slot is given up. Where it lies, and its bytes.
    fn fetch_first(
        &mut self,
        file: File<'_>,
        steps: &[Step],
        known: &Known,
    ) -> Result<Option<(u64, Vec<u8>)>, InstallError> {
        let first = steps.iter().find_map(|step| match step {
            Step::Fetch { at, .. } => Some(*at),
            Step::Copy { .. } => None,
        });
        let Some((at, length)) = first.and_then(|at| Some((at, known.part_at(at)?))) else {
            return Ok(None);
        };
        let bytes = self.collect(file, at, wide(length))?;
        known.judge(at, &bytes)?;
        Ok(Some((at, bytes)))
    }

    /// Puts a slot together from what the running one has and what is fetched.
    fn put_together(
        &mut self,
        file: File<'_>,
        steps: &[Step],
        first: Option<&(u64, Vec<u8>)>,
        old: &Old,
        take: &mut impl FnMut(&[u8]) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        for step in steps {
            match *step {
                Step::Copy { part, at, bytes } => {
                    let copied = old.copy(part, at, bytes, &mut *take);
                    copied.map_err(|error| match error {
                        InstallError::Unlike(_) => InstallError::Held,
                        error => error,
                    })?;
                }
                Step::Fetch { at, bytes } => {
                    let here = first.filter(|(first, _)| *first == at);
                    let there = here.map_or(&[][..], |(_, there)| there);
                    take(there)?;
                    let done = wide(there.len());
                    let (at, left) = (at.saturating_add(done), bytes.saturating_sub(done));
                    self.download(file, at, left, &mut *take)?;
                }
            }
        }
        Ok(())
    }

    /// Fetches as much of a delta as it takes to know that it makes what was released: all of a short one, which is then the
    /// file that the metadata name, and the beginning of a long one.
    fn begin_delta(
        &mut self,
        delta: &Delta,
        offer: Offer<'_>,
        origin: &Origin,
        known: &Known,
    ) -> Result<Vec<u8>, InstallError> {
        let begun = self.hold(delta, offer)?;
        if delta.is_short() {
            return Ok(begun);
        }
        let (mut checker, mut patcher) = (Checker::new(known), Patcher::new(offer.target.length));
        patcher.take(&begun, |bytes| {
            let mut take = |piece: &[u8]| checker.take(piece, |_| Ok::<(), InstallError>(()));
            match bytes {
                Bytes::New(new) => take(new),
                Bytes::Copied { at, bytes } => origin.copy(at, bytes, take),
            }
        })?;
        if checker.checked() == 0 {
            return Err(DeltaError::TooShort.into());
        }
        Ok(begun)
    }

    /// All of a delta, if it is short and the file that was released; else what it begins with.
    fn hold(&mut self, delta: &Delta, offer: Offer<'_>) -> Result<Vec<u8>, InstallError> {
        let file = File { repository: offer.repository, place: &delta.place };
        if !delta.is_short() {
            return self.collect(file, 0, delta.length.min(FIRST_BYTES));
        }
        let whole = self.collect(file, 0, delta.length)?;
        let digest: [u8; 32] = Sha256::digest(&whole).into();
        if digest == delta.sha256 { Ok(whole) } else { Err(InstallError::OtherDelta) }
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
        let begun = delta.as_ref().map(|delta| self.hold(delta, offer)).transpose();
        self.judge_delta(&begun);
        let begun = begun?.unwrap_or_default();
        let package = install::create_package(id)?;
        let by_delta = delta.is_some();
        let file = File { repository, place: &place };
        let made = self.make_package(&package, file, offer, delta.zip(origin), &begun);
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
        begun: &[u8],
    ) -> Result<(), InstallError> {
        let mut writer = package.writer();
        match delta {
            Some((delta, origin)) => {
                self.patch(&delta, begun, offer, &origin, |piece| Ok(writer.put(piece)?))?
            }
            None => self.download(file, 0, offer.target.length, |piece| Ok(writer.put(piece)?))?,
        }
        Ok(writer.finish()?)
    }

    /// Makes a release of the one that runs, by a delta of which the first bytes are there.
    fn patch(
        &mut self,
        delta: &Delta,
        begun: &[u8],
        offer: Offer<'_>,
        origin: &Origin,
        mut put: impl FnMut(&[u8]) -> Result<(), InstallError>,
    ) -> Result<(), InstallError> {
        let file = File { repository: offer.repository, place: &delta.place };
        let mut patcher = Patcher::new(offer.target.length);
        let mut take = |piece: &[u8]| {
            patcher.take(piece, |bytes| match bytes {
                Bytes::New(new) => put(new),
                Bytes::Copied { at, bytes } => origin.copy(at, bytes, &mut put),
            })
        };
        take(begun)?;
        let done = wide(begun.len());
        self.download(file, done, delta.length.saturating_sub(done), take)?;
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
