//! Downloading a release: by a delta, of parts of the running slot, or whole.

use crate::device::{Slots, Source};
use crate::install::{self, SlotWriter};
use crate::install_error::InstallError;
use crate::slot::{Old, Origin};
use crate::state::StateError;
use crate::uplink::Fetched;
use holdfast_linux::direct::Direct;
use holdfast_release::checked::{Checker, Known};
use holdfast_release::delta::{Bytes, DeltaError, Patcher};
use holdfast_release::fetch::Fetch;
use holdfast_release::metadata::Targets;
use holdfast_release::strategy::{self, Budget, ByDelta, Delta, First, Hashes, Second, Step};
use holdfast_release::{Release, RepositoryName, Target, reuse};
use holdfast_sandbox::held::{ReleaseSubject, Running};
use holdfast_types::{ComponentId, escaped_chain, event};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Most times that one download is resumed in one check.
const MAX_RESUMES: u32 = 16;
/// Bytes of a long delta that are fetched first: more than the first chunk of a release can take.
const FIRST_BYTES: u64 = 64 * 1024;

/// A release to be installed, with the targets that offer it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer<'a> {
    pub(crate) repository: RepositoryName,
    pub(crate) targets: &'a Targets,
    pub(crate) path: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) release: &'a Release,
    /// The release of this subject that runs.
    pub(crate) running: Option<&'a Running>,
}

/// A file of a repository, by its path on the server.
#[derive(Debug, Clone, Copy)]
struct File<'a> {
    repository: RepositoryName,
    place: &'a str,
}

/// The strategy by which a slot is made.
#[derive(Debug)]
struct Strategy {
    method: Method,
    /// Hashes by which the new slot is verified.
    known: Known,
    /// Bytes that are fetched.
    fetched: u64,
}

#[derive(Debug)]
enum Method {
    /// Applies a delta to the running slot.
    Delta(Delta),
    /// Copies parts of the running slot, and fetches ranges of the release.
    Parts(Vec<Step>),
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Downloads releases, and stops using what has turned out wrong on this device.
#[derive(Debug)]
pub(crate) struct Downloader {
    /// Directory of the apps' packages.
    store: PathBuf,
    /// Budget of bytes that a server may send for one release.
    budget: Budget,
    /// Parts of the running slot are reused; false once it had other bytes than its hashes say.
    reuses: bool,
    /// Deltas are used; false once one has made other bytes than the release.
    uses_deltas: bool,
    /// The other slot was overwritten for the release that was taken last.
    gave_up_slot: bool,
}

impl Downloader {
    /// Makes a downloader. `store` is the directory of the apps' packages, `most_bytes` the bound of what a server may
    /// send for one release.
    pub(crate) fn new(store: PathBuf, most_bytes: Option<u64>) -> Self {
        let budget = Budget(most_bytes);
        Self { store, budget, reuses: true, uses_deltas: true, gave_up_slot: false }
    }

    /// True when the other slot was overwritten for the release that was taken last.
    pub(crate) fn gave_up_slot(&self) -> bool {
        self.gave_up_slot
    }

    /// Has a release written and verified, and then staged. `remember` is called in between, since the outcome of the
    /// next start must find the release recorded.
    pub(crate) fn take(
        &mut self,
        offer: Offer<'_>,
        device: &mut (impl Source + Slots),
        remember: impl FnOnce() -> Result<(), StateError>,
    ) -> Result<(), InstallError> {
        self.gave_up_slot = false;
        match offer.release.subject {
            ReleaseSubject::Os => self.take_slot(offer, device)?,
            ReleaseSubject::App(id) => self.take_package(id, offer, device)?,
        }
        remember()?;
        device.stage(offer.release.subject)
    }

    /// Returns the budget for a source: a card has none.
    fn budget(&self, from: &impl Source) -> Budget {
        if from.is_remote() { self.budget } else { Budget(None) }
    }

    /// Returns the smallest delta that is offered, where deltas are used.
    fn delta(&self, offer: Offer<'_>) -> Option<Delta> {
        let running = offer.running.map(|running| &running.root_hash);
        let delta = Delta::smallest(offer.targets, offer.path, offer.target, running);
        delta.filter(|_| self.uses_deltas)
    }

    fn take_slot(
        &mut self,
        offer: Offer<'_>,
        device: &mut (impl Source + Slots),
    ) -> Result<(), InstallError> {
        let Offer { repository, target, release, .. } = offer;
        let place = target.place(offer.path).ok_or(InstallError::NoHash)?;
        let file = File { repository, place: &place };
        let mut old = Old::open(device)?;
        old.has_room(target, release)?;
        let Strategy { method, known, fetched } = self.choose(file, offer, &old, device)?;
        let mut checker = Checker::new(&known);
        // Not before the first of what comes was found to be what was released: until then, the other slot is one to
        // fall back to.
        match method {
            Method::Delta(delta) => {
                let origin = old.into_origin();
                let begun = begin_delta(&delta, offer, &origin, &known, device);
                self.disable_deltas_if_wrong(&begun);
                let begun = begun?;
                let (boot, root) = install::open_slot(device, target, release)?;
                self.gave_up_slot = true;
                let mut writer = SlotWriter::new(&boot, &root, release.boot_bytes);
                let made = patch(&delta, &begun, offer, &origin, device, |piece| {
                    checker.take(piece, |part| writer.put(part))
                });
                let made = made.and_then(|()| Ok(checker.finish()?));
                self.disable_deltas_if_wrong(&made);
                made?;
                log_fetched(release.subject, fetched, target);
                writer.finish()?;
                let verified = install::verify_slot(&boot, &root, target, release);
                self.disable_deltas_if_wrong(&verified);
                verified
            }
            Method::Parts(steps) => {
                let first = fetch_first(file, &steps, &known, device)?;
                let (boot, root) = install::open_slot(device, target, release)?;
                self.gave_up_slot = true;
                let mut writer = SlotWriter::new(&boot, &root, release.boot_bytes);
                let mut take = |bytes: &[u8]| checker.take(bytes, |part| writer.put(part));
                let put = put_together(file, &steps, first.as_ref(), &old, device, &mut take);
                // What the running slot holds is not what it was; nothing else is a reason to fetch all.
                self.reuses &= !matches!(put, Err(InstallError::Held));
                put?;
                // The tree follows from the leaves.
                take(known.tree())?;
                checker.finish()?;
                log_fetched(release.subject, fetched, target);
                writer.finish()?;
                install::verify_slot(&boot, &root, target, release)
            }
        }
    }

    /// Stops using deltas once one has made other bytes than the release: the next try does without.
    fn disable_deltas_if_wrong<T>(&mut self, made: &Result<T, InstallError>) {
        let is_wrong = |error: &InstallError| {
            matches!(
                error,
                InstallError::Delta(_)
                    | InstallError::OtherDelta
                    | InstallError::OtherBytes
                    | InstallError::Mismatch(_)
            )
        };
        self.uses_deltas &= !made.as_ref().is_err_and(is_wrong);
    }

    /// Chooses the cheapest strategy.
    fn choose(
        &mut self,
        file: File<'_>,
        offer: Offer<'_>,
        old: &Old,
        from: &mut impl Source,
    ) -> Result<Strategy, InstallError> {
        let Offer { target, release, .. } = offer;
        let known = Known::of(release, target.length).ok_or(InstallError::NoHash)?;
        let hashes = match offer.running.filter(|_| self.reuses) {
            Some(running) => old.hashes(running)?,
            None => Hashes::default(),
        };
        let budget = self.budget(from);
        let mut steps = strategy::boot_steps(release, &hashes);
        let leaf_bytes = strategy::leaves_of(target, release).map_or(0, |(_, bytes, _)| bytes);
        let boot_bytes = strategy::fetched(&steps);
        let delta = self.delta(offer);
        let delta = match strategy::before_leaves(delta, boot_bytes, leaf_bytes, budget)? {
            First::Delta(ByDelta { delta, fetched }) => {
                let is_short = delta.is_short();
                let known = if is_short { known } else { fetch_leaves(file, offer, known, from)? };
                return Ok(Strategy { method: Method::Delta(delta), known, fetched });
            }
            First::Leaves(delta) => delta,
        };
        let known = fetch_leaves(file, offer, known, from)?;
        steps.extend(strategy::root_steps(release, known.leaves(), &hashes));
        let part_bytes = strategy::fetched(&steps);
        Ok(match strategy::with_leaves(delta, part_bytes, leaf_bytes, budget)? {
            Second::Delta(ByDelta { delta, fetched }) => {
                Strategy { method: Method::Delta(delta), known, fetched }
            }
            Second::Parts { fetched } => Strategy { method: Method::Parts(steps), known, fetched },
        })
    }

    fn take_package(
        &mut self,
        id: ComponentId,
        offer: Offer<'_>,
        from: &mut impl Source,
    ) -> Result<(), InstallError> {
        let Offer { repository, target, release, .. } = offer;
        let place = target.place(offer.path).ok_or(InstallError::NoHash)?;
        let mut delta = self.delta(offer);
        let origin = match (&delta, offer.running) {
            (Some(Delta { needs_running: false, .. }), _) => Some(Origin::nothing()),
            (Some(_), Some(running)) => install::open_package(&self.store, id, running),
            _ => None,
        };
        delta = delta.filter(|_| origin.is_some());
        let fetched = delta.as_ref().map_or(target.length, |delta| delta.length);
        self.budget(from).afford(fetched)?;
        let begun = delta.as_ref().map(|delta| hold(delta, offer, from)).transpose();
        self.disable_deltas_if_wrong(&begun);
        let begun = begun?.unwrap_or_default();
        let package = install::create_package(&self.store, id)?;
        let by_delta = delta.is_some();
        let file = File { repository, place: &place };
        let made = make_package(&package, file, offer, delta.zip(origin), &begun, from);
        let verified = made.and_then(|()| install::verify_package(&package, target, release));
        if by_delta {
            self.disable_deltas_if_wrong(&verified);
        }
        if verified.is_err() {
            install::remove_package(&self.store, id);
        }
        verified?;
        log_fetched(release.subject, fetched, target);
        Ok(())
    }
}

fn log_fetched(subject: ReleaseSubject, fetched: u64, target: &Target) {
    let finished = event::update::UPDATE_DOWNLOAD_FINISHED;
    println!("{subject}: {fetched} of {} bytes were fetched {finished}", target.length);
}

/// Fetches the leaves of the new root, by which parts are found and verified.
fn fetch_leaves(
    file: File<'_>,
    offer: Offer<'_>,
    known: Known,
    from: &mut impl Source,
) -> Result<Known, InstallError> {
    let Some((at, bytes, data_bytes)) = strategy::leaves_of(offer.target, offer.release) else {
        return Ok(known);
    };
    let level = collect(file, at, bytes, from)?;
    let leaves = reuse::digests(&level, data_bytes).ok_or(InstallError::Leaves)?;
    known.with_leaves(leaves).ok_or(InstallError::Leaves)
}

/// Fetches a range of a file into memory.
fn collect(
    file: File<'_>,
    at: u64,
    bytes: u64,
    from: &mut impl Source,
) -> Result<Vec<u8>, InstallError> {
    let mut collected = Vec::new();
    download(file, at, bytes, from, |piece| {
        collected.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(collected)
}

/// Fetches the first part that is missing, and verifies it: a server with other bytes shows it before the other slot
/// is given up. Returns the offset and the bytes.
fn fetch_first(
    file: File<'_>,
    steps: &[Step],
    known: &Known,
    from: &mut impl Source,
) -> Result<Option<(u64, Vec<u8>)>, InstallError> {
    let first = steps.iter().find_map(|step| match step {
        Step::Fetch { at, .. } => Some(*at),
        Step::Copy { .. } => None,
    });
    let Some((at, length)) = first.and_then(|at| Some((at, known.part_at(at)?))) else {
        return Ok(None);
    };
    let bytes = collect(file, at, wide(length), from)?;
    known.judge(at, &bytes)?;
    Ok(Some((at, bytes)))
}

/// Makes a slot of copied and fetched parts.
fn put_together(
    file: File<'_>,
    steps: &[Step],
    first: Option<&(u64, Vec<u8>)>,
    old: &Old,
    from: &mut impl Source,
    take: &mut impl FnMut(&[u8]) -> Result<(), InstallError>,
) -> Result<(), InstallError> {
    for step in steps {
        match *step {
            Step::Copy { part, at, bytes } => {
                let copied = old.copy(part, at, bytes, &mut *take);
                copied.map_err(|error| match error {
                    InstallError::Mismatch(_) => InstallError::Held,
                    error => error,
                })?;
            }
            Step::Fetch { at, bytes } => {
                let here = first.filter(|(first, _)| *first == at);
                let there = here.map_or(&[][..], |(_, there)| there);
                take(there)?;
                let done = wide(there.len());
                let (at, left) = (at.saturating_add(done), bytes.saturating_sub(done));
                download(file, at, left, from, &mut *take)?;
            }
        }
    }
    Ok(())
}

/// Fetches as much of a delta as proves that it makes the release: all of a short one, which the metadata name by its
/// hash, or the beginning of a long one, whose first part is verified.
fn begin_delta(
    delta: &Delta,
    offer: Offer<'_>,
    origin: &Origin,
    known: &Known,
    from: &mut impl Source,
) -> Result<Vec<u8>, InstallError> {
    let begun = hold(delta, offer, from)?;
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

/// Fetches a short delta whole and verifies its hash, or the beginning of a long one.
fn hold(delta: &Delta, offer: Offer<'_>, from: &mut impl Source) -> Result<Vec<u8>, InstallError> {
    let file = File { repository: offer.repository, place: &delta.place };
    if !delta.is_short() {
        return collect(file, 0, delta.length.min(FIRST_BYTES), from);
    }
    let whole = collect(file, 0, delta.length, from)?;
    let digest: [u8; 32] = Sha256::digest(&whole).into();
    if digest == delta.sha256 { Ok(whole) } else { Err(InstallError::OtherDelta) }
}

fn make_package(
    package: &Direct,
    file: File<'_>,
    offer: Offer<'_>,
    delta: Option<(Delta, Origin)>,
    begun: &[u8],
    from: &mut impl Source,
) -> Result<(), InstallError> {
    let mut writer = package.writer();
    match delta {
        Some((delta, origin)) => {
            patch(&delta, begun, offer, &origin, from, |piece| Ok(writer.put(piece)?))?
        }
        None => download(file, 0, offer.target.length, from, |piece| Ok(writer.put(piece)?))?,
    }
    Ok(writer.finish()?)
}

/// Applies a delta whose first bytes, `begun`, were fetched.
fn patch(
    delta: &Delta,
    begun: &[u8],
    offer: Offer<'_>,
    origin: &Origin,
    from: &mut impl Source,
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
    download(file, done, delta.length.saturating_sub(done), from, take)?;
    Ok(patcher.finish()?)
}

/// Downloads a range of a file, and resumes it where it breaks off.
fn download(
    file: File<'_>,
    begin: u64,
    length: u64,
    source: &mut impl Source,
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
        let fetched = source.fetch(&fetch, |piece| {
            done = done.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            take(piece)
        });
        match fetched {
            Ok(Fetched::All) if done == length => break,
            Ok(Fetched::All) => return Err(InstallError::Short(begin.saturating_add(done))),
            Ok(Fetched::Missing) => return Err(InstallError::Missing),
            Err(InstallError::Uplink(error)) if resumes < MAX_RESUMES && source.is_remote() => {
                let at = begin.saturating_add(done);
                println!(
                    "the download resumes at byte {at}: {} {}",
                    escaped_chain(&error),
                    event::update::UPDATE_DOWNLOAD_RESUMED
                );
                resumes = resumes.saturating_add(1);
                source.wait()?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
