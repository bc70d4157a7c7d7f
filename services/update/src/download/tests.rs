//! Every step of a download, on files in the place of slots and a list of bytes in the place of a server.

#![allow(clippy::arithmetic_side_effects, reason = "the numbers of a test are its own")]

use super::*;
use crate::uplink::UplinkError;
use holdfast_release::checked::Mismatch;
use holdfast_release::metadata::Common;
use holdfast_release::reuse::{CHUNK_BYTES, chunk_hash};
use holdfast_release::strategy::TooExpensive;
use holdfast_sandbox::component::Stored;
use holdfast_sandbox::package::HEADER_BYTES;
use holdfast_sandbox::verity::{BLOCK_BYTES, SLOT_SALT, digest, tree};
use holdfast_sandbox::wire::SlotPart;
use holdfast_types::Version;
use holdfast_types::hex::hex;
use std::collections::BTreeMap;
use std::fs::File as HostFile;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Blocks of a FIT: two chunks, of which the second is shorter.
const FIT_BLOCKS: usize = 9;
/// Blocks of a root, without its tree.
const ROOT_BLOCKS: usize = 300;
/// What lies in the other slot before anything is written.
const UNTOUCHED: u8 = 0xee;
const PATH: &str = "os/pump-2.0.0.slot";

/// The bytes of a release of the OS: blocks of different bytes, of which `changed` are others than in every other one.
fn slot_bytes(changed: &[usize], seed: u8) -> (Vec<u8>, Vec<u8>) {
    let block = |number: usize| -> Vec<u8> {
        let seed = if changed.contains(&number) { seed } else { 0 };
        let start = number.to_le_bytes();
        let byte = |i: usize| (i / 5).to_le_bytes()[0] ^ seed;
        start.into_iter().chain((start.len()..BLOCK_BYTES).map(byte)).collect()
    };
    let mut fit: Vec<u8> = (0..FIT_BLOCKS).flat_map(block).collect();
    // A flattened tree: its magic, and its length (Devicetree Specification 5.2).
    fit[..4].copy_from_slice(&0xd00d_feed_u32.to_be_bytes());
    let length = u32::try_from(fit.len()).unwrap();
    fit[4..8].copy_from_slice(&length.to_be_bytes());
    let mut root: Vec<u8> = (FIT_BLOCKS..FIT_BLOCKS + ROOT_BLOCKS).flat_map(block).collect();
    let leaves = root.chunks(BLOCK_BYTES).map(|block| digest(&SLOT_SALT, block)).collect();
    root.extend(tree(&SLOT_SALT, leaves).unwrap().bytes);
    (fit, root)
}

/// A file of a repository, and what the metadata say of it.
fn target(bytes: &[u8], custom: Option<Release>) -> Target {
    let sha256: [u8; 32] = Sha256::digest(bytes).into();
    let hashes = BTreeMap::from([("sha256".to_owned(), hex(&sha256))]);
    Target { length: wide(bytes.len()), hashes, custom }
}

fn root_hash(root: &[u8]) -> [u8; 32] {
    let data = &root[..ROOT_BLOCKS * BLOCK_BYTES];
    let leaves = data.chunks(BLOCK_BYTES).map(|block| digest(&SLOT_SALT, block)).collect();
    tree(&SLOT_SALT, leaves).unwrap().root_hash
}

fn release(subject: ReleaseSubject, fit: &[u8], root_hash: [u8; 32]) -> Release {
    Release {
        subject,
        product: String::new(),
        board: "qemu-virt".to_owned(),
        version: Version { major: 2, minor: 0, patch: 0 },
        rollback_index: 1,
        least_os: Version::default(),
        boot_bytes: wide(fit.len()),
        root_hash: hex(&root_hash),
        boot_chunks: fit.chunks(CHUNK_BYTES).map(|chunk| hex(&chunk_hash(chunk))).collect(),
        boot_digest: String::new(),
        feed: None,
    }
}

/// What a server has, what it is asked for, and the slots of a device.
struct Fake {
    /// By their places.
    files: BTreeMap<String, Vec<u8>>,
    /// After so many bytes of an answer the connection breaks, as often as that.
    breaks: (usize, u32),
    is_remote: bool,
    /// Places in files, and how many bytes came from there.
    fetched: Vec<(String, u64, u64)>,
    waits: u32,
    running: [HostFile; 2],
    other: [HostFile; 2],
    /// What init was asked for.
    asked: Vec<&'static str>,
    refuses_announcement: bool,
}

fn partition(bytes: &[u8], blocks: usize, rest: u8) -> HostFile {
    let file = tempfile::tempfile().unwrap();
    let mut whole = bytes.to_vec();
    whole.resize(blocks * BLOCK_BYTES, rest);
    file.write_all_at(&whole, 0).unwrap();
    file
}

fn part_of(files: &[HostFile; 2], part: SlotPart) -> Direct {
    let file = &files[usize::from(part == SlotPart::Root)];
    Direct::from_descriptor(file.try_clone().unwrap().into(), part.name())
}

impl Source for Fake {
    fn fetch<E: From<UplinkError>>(
        &mut self,
        fetch: &Fetch,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Fetched, E> {
        let Some(bytes) = self.files.get(&fetch.path) else {
            return Ok(Fetched::Missing);
        };
        let from = usize::try_from(fetch.from).unwrap().min(bytes.len());
        let most = usize::try_from(fetch.most_bytes).unwrap();
        let mut answer = &bytes[from..][..most.min(bytes.len() - from)];
        let mut is_cut = false;
        if self.breaks.1 > 0 && answer.len() > self.breaks.0 {
            self.breaks.1 -= 1;
            (answer, is_cut) = (&answer[..self.breaks.0], true);
        }
        self.fetched.push((fetch.path.clone(), fetch.from, wide(answer.len())));
        answer.chunks(5_000).try_for_each(&mut take)?;
        if is_cut {
            return Err(UplinkError::Failed("the connection was reset".to_owned()).into());
        }
        Ok(Fetched::All)
    }

    fn is_remote(&self) -> bool {
        self.is_remote
    }

    fn wait(&mut self) -> Result<(), InstallError> {
        self.waits += 1;
        Ok(())
    }
}

impl Slots for Fake {
    fn running_part(&mut self, part: SlotPart) -> Result<Direct, InstallError> {
        Ok(part_of(&self.running, part))
    }

    fn announce(&mut self) -> Result<(), InstallError> {
        self.asked.push("announce");
        if self.refuses_announcement {
            Direct::open(Path::new("/nowhere/boot-b"))?;
        }
        Ok(())
    }

    fn other_part(&mut self, part: SlotPart) -> Result<Option<Direct>, InstallError> {
        assert!(self.asked.contains(&"announce"), "nothing is handed over before that");
        Ok(Some(part_of(&self.other, part)))
    }

    fn stage(&mut self, _: ReleaseSubject) -> Result<(), InstallError> {
        self.asked.push("stage");
        Ok(())
    }
}

/// A device, and a release for it.
struct Scene {
    fake: Fake,
    downloader: Downloader,
    targets: Targets,
    place: String,
    running: Running,
    /// The FIT and the root that are released.
    new: (Vec<u8>, Vec<u8>),
    old: (Vec<u8>, Vec<u8>),
}

/// Blocks that are other ones in the release: one in the second chunk of the FIT, two in the root.
const CHANGED: [usize; 3] = [FIT_BLOCKS - 1, FIT_BLOCKS + 10, FIT_BLOCKS + 200];

fn scene(most_bytes: Option<u64>) -> Scene {
    let (old, new) = (slot_bytes(&[], 0), slot_bytes(&CHANGED, 0x55));
    let whole = [&new.0[..], &new.1].concat();
    let released = target(&whole, Some(release(ReleaseSubject::Os, &new.0, root_hash(&new.1))));
    let place = released.place(PATH).unwrap();
    let common = Common {
        kind: "targets".to_owned(),
        spec_version: "1.0.34".to_owned(),
        version: 1,
        expires: String::new(),
    };
    let running = Running {
        version: Version { major: 1, minor: 0, patch: 0 },
        rollback_index: 1,
        root_hash: root_hash(&old.1),
        data_bytes: wide(ROOT_BLOCKS * BLOCK_BYTES),
        on_trial: false,
    };
    let fake = Fake {
        files: BTreeMap::from([(place.clone(), whole)]),
        breaks: (0, 0),
        is_remote: true,
        fetched: Vec::new(),
        waits: 0,
        running: [partition(&old.0, 12, 0), partition(&old.1, 320, 0)],
        other: [partition(&[], 12, UNTOUCHED), partition(&[], 320, UNTOUCHED)],
        asked: Vec::new(),
        refuses_announcement: false,
    };
    let targets = BTreeMap::from([(PATH.to_owned(), released)]);
    Scene {
        fake,
        downloader: Downloader::new(PathBuf::from("/nowhere"), most_bytes),
        targets: Targets { common, issued: None, targets },
        place,
        running,
        new,
        old,
    }
}

impl Scene {
    fn take(&mut self) -> Result<(), InstallError> {
        self.take_and(|| Ok(()))
    }

    fn take_and(
        &mut self,
        remember: impl FnOnce() -> Result<(), StateError>,
    ) -> Result<(), InstallError> {
        let target = &self.targets.targets[PATH];
        let offer = Offer {
            repository: RepositoryName::Os,
            targets: &self.targets,
            path: PATH,
            target,
            release: target.custom.as_ref().unwrap(),
            running: Some(&self.running),
        };
        self.fake.asked.clear();
        self.fake.fetched.clear();
        self.downloader.take(offer, &mut self.fake, remember)
    }

    /// How many bytes came.
    fn cost(&self) -> u64 {
        self.fake.fetched.iter().map(|(_, _, bytes)| bytes).sum()
    }

    fn whole(&self) -> u64 {
        wide(self.new.0.len() + self.new.1.len())
    }

    fn holds_the_release(&self) -> bool {
        let held = |file: &HostFile, bytes: &[u8]| {
            let mut found = vec![0; bytes.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            found == bytes
        };
        held(&self.fake.other[0], &self.new.0) && held(&self.fake.other[1], &self.new.1)
    }

    fn is_untouched(&self) -> bool {
        self.fake.other.iter().all(|file| {
            let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
            let mut found = vec![0; length];
            file.read_exact_at(&mut found, 0).unwrap();
            found.iter().all(|byte| *byte == UNTOUCHED)
        })
    }

    /// Offers a delta from what runs, of such bytes; its place.
    fn offer_delta(&mut self, bytes: Vec<u8>) -> String {
        let path = holdfast_release::delta::path(PATH, &hex(&self.running.root_hash));
        let target = target(&bytes, None);
        let place = target.place(&path).unwrap();
        self.fake.files.insert(place.clone(), bytes);
        self.targets.targets.insert(path, target);
        place
    }

    /// A delta that makes the release of what runs; with `changed`, one byte of what is new is another.
    fn delta(&self, changed: bool) -> Vec<u8> {
        let (old, new) =
            ([&self.old.0[..], &self.old.1].concat(), [&self.new.0[..], &self.new.1].concat());
        let (mut steps, mut at) = (Vec::new(), 0);
        let blocks = new.len() / BLOCK_BYTES;
        let differs = |block: usize| {
            let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
            old[range.clone()] != new[range]
        };
        let mut copied_to = 0;
        while at < blocks {
            let new_blocks = (at..blocks).take_while(|block| differs(*block)).count();
            let copied = (at + new_blocks..blocks).take_while(|block| !differs(*block)).count();
            number(&mut steps, new_blocks * BLOCK_BYTES);
            let begin = steps.len();
            steps.extend(&new[at * BLOCK_BYTES..][..new_blocks * BLOCK_BYTES]);
            if changed && new_blocks > 0 {
                steps[begin + 100] ^= 1;
            }
            number(&mut steps, copied * BLOCK_BYTES);
            let from = (at + new_blocks) * BLOCK_BYTES;
            if copied > 0 {
                // Zigzag: what is copied lies behind the copy before.
                number(&mut steps, (from - copied_to) * 2);
                copied_to = from + copied * BLOCK_BYTES;
            }
            at += new_blocks + copied;
        }
        stored(&steps)
    }
}

/// LEB128.
fn number(to: &mut Vec<u8>, mut number: usize) {
    loop {
        let byte = number.to_le_bytes()[0] & 0x7f;
        number >>= 7;
        to.push(if number == 0 { byte } else { byte | 0x80 });
        if number == 0 {
            return;
        }
    }
}

/// A DEFLATE stream of blocks that are stored as they are (RFC 1951, 3.2.4).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    let blocks: Vec<&[u8]> = bytes.chunks(60_000).collect();
    for (index, block) in blocks.iter().enumerate() {
        stream.push(u8::from(index + 1 == blocks.len()));
        let length = u16::try_from(block.len()).unwrap();
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(*block);
    }
    stream
}

const LEAF_BYTES: u64 = 3 * 4096;
/// The second chunk of the FIT, and two blocks.
const MISSING_BYTES: u64 = 3 * 4096;

#[test]
fn only_what_the_running_slot_does_not_have_is_fetched() {
    let mut scene = scene(None);
    scene.take().unwrap();
    assert!(scene.holds_the_release());
    assert_eq!(scene.cost(), LEAF_BYTES + MISSING_BYTES);
    assert_eq!(scene.fake.asked, ["announce", "stage"]);
    assert!(scene.downloader.gave_up_slot());
}

#[test]
fn what_breaks_off_is_gone_on_with_where_it_did() {
    let mut scene = scene(None);
    scene.fake.breaks = (3_000, 5);
    scene.take().unwrap();
    assert!(scene.holds_the_release());
    assert_eq!(scene.fake.waits, 5);
    assert_eq!(scene.cost(), LEAF_BYTES + MISSING_BYTES, "nothing comes twice");
}

#[test]
fn what_breaks_off_too_often_is_left_for_the_next_turn() {
    let mut scene = scene(None);
    scene.fake.breaks = (100, u32::MAX);
    assert!(matches!(scene.take(), Err(InstallError::Uplink(UplinkError::Failed(_)))));
    assert_eq!(scene.fake.waits, MAX_RESUMES);
    assert!(scene.is_untouched() && scene.fake.asked.is_empty());
    // What a card does not give once it does not give at all.
    scene.fake.is_remote = false;
    scene.fake.waits = 0;
    scene.take().unwrap_err();
    assert_eq!(scene.fake.waits, 0);
}

#[test]
fn a_file_that_ends_too_early_or_is_missing_is_no_release() {
    let mut scene = scene(None);
    let place = scene.place.clone();
    scene.fake.files.get_mut(&place).unwrap().truncate(100_000);
    assert!(matches!(scene.take(), Err(InstallError::Short(_))));
    scene.fake.files.clear();
    assert!(matches!(scene.take(), Err(InstallError::Missing)));
    assert!(scene.is_untouched() && scene.fake.asked.is_empty());
}

#[test]
fn nothing_is_written_before_the_first_part_is_what_was_released() {
    let mut scene = scene(None);
    let place = scene.place.clone();
    // In the second chunk of the FIT, which is the first that is fetched.
    scene.fake.files.get_mut(&place).unwrap()[CHUNK_BYTES + 7] ^= 1;
    let chunk = wide(CHUNK_BYTES);
    let taken = scene.take();
    assert!(
        matches!(taken, Err(InstallError::Mismatch(Mismatch { at })) if at == chunk),
        "{taken:?}"
    );
    assert!(scene.is_untouched(), "the other slot is one to fall back to");
    assert!(scene.fake.asked.is_empty() && !scene.downloader.gave_up_slot());
}

#[test]
fn leaves_of_another_root_are_refused_before_anything_is_written() {
    let mut scene = scene(None);
    let place = scene.place.clone();
    let length = scene.fake.files[&place].len();
    scene.fake.files.get_mut(&place).unwrap()[length - 9_000] ^= 1;
    assert!(matches!(scene.take(), Err(InstallError::Leaves)));
    assert!(scene.is_untouched() && scene.fake.asked.is_empty());
}

#[test]
fn what_goes_wrong_behind_the_first_part_is_not_staged() {
    let mut scene = scene(None);
    let place = scene.place.clone();
    let last = CHANGED[2] * BLOCK_BYTES;
    scene.fake.files.get_mut(&place).unwrap()[last + 7] ^= 1;
    let taken = scene.take();
    assert!(matches!(taken, Err(InstallError::Mismatch(Mismatch { at })) if at == wide(last)));
    assert_eq!(scene.fake.asked, ["announce"]);
    assert!(scene.downloader.gave_up_slot());
}

#[test]
fn a_running_slot_that_is_damaged_is_not_used_and_the_whole_is_fetched() {
    let mut scene = scene(None);
    let block = wide(20 * BLOCK_BYTES + 3);
    scene.fake.running[1].write_all_at(&[0xff], block).unwrap();
    assert!(matches!(scene.take(), Err(InstallError::Held)));
    assert_eq!(scene.fake.asked, ["announce"]);
    scene.take().unwrap();
    assert!(scene.holds_the_release());
    assert_eq!(scene.fake.asked, ["announce", "stage"]);
    let data = wide((FIT_BLOCKS + ROOT_BLOCKS) * BLOCK_BYTES);
    assert_eq!(scene.cost(), LEAF_BYTES + data, "all of it but its tree, which the leaves make");
    assert!(scene.cost() <= scene.whole());
}

#[test]
fn a_delta_that_costs_less_is_taken() {
    let mut scene = scene(None);
    let delta = scene.delta(false);
    let length = wide(delta.len());
    // Blocks, and those of the tree that differ: more than parts would cost, but for the leaves.
    assert!(length < LEAF_BYTES + MISSING_BYTES + LEAF_BYTES, "{length}");
    let place = scene.offer_delta(delta);
    // The parts of the running slot are not to be used: then everything else costs more.
    scene.downloader.reuses = false;
    scene.take().unwrap();
    assert!(scene.holds_the_release());
    assert_eq!(scene.fake.fetched, [(place, 0, length)]);
    assert_eq!(scene.fake.asked, ["announce", "stage"]);
}

#[test]
fn a_delta_that_is_not_the_file_that_was_released_is_not_used_again() {
    let mut scene = scene(None);
    let delta = scene.delta(false);
    let place = scene.offer_delta(delta);
    scene.fake.files.get_mut(&place).unwrap()[50] ^= 1;
    scene.downloader.reuses = false;
    assert!(matches!(scene.take(), Err(InstallError::OtherDelta)));
    assert!(scene.is_untouched() && scene.fake.asked.is_empty());
    scene.take().unwrap();
    assert!(scene.holds_the_release());
    assert!(scene.fake.fetched.iter().all(|(from, ..)| *from == scene.place));
}

#[test]
fn a_delta_that_makes_something_else_is_not_used_again() {
    let mut scene = scene(None);
    let delta = scene.delta(true);
    scene.offer_delta(delta);
    scene.downloader.reuses = false;
    let taken = scene.take();
    assert!(matches!(taken, Err(InstallError::Mismatch(_))), "{taken:?}");
    assert_eq!(scene.fake.asked, ["announce"], "and nothing of it is staged");
    scene.take().unwrap();
    assert!(scene.holds_the_release());
    assert!(scene.fake.fetched.iter().all(|(from, ..)| *from == scene.place));
}

#[test]
fn a_delta_of_another_slot_than_the_one_that_runs_is_not_used_again() {
    let mut scene = scene(None);
    let delta = scene.delta(false);
    scene.offer_delta(delta);
    // The running slot is not what its root hash says.
    scene.fake.running[1].write_all_at(&[0xff], wide(20 * BLOCK_BYTES)).unwrap();
    scene.downloader.reuses = false;
    let taken = scene.take();
    assert!(matches!(taken, Err(InstallError::OtherBytes)), "{taken:?}");
    assert_eq!(scene.fake.asked, ["announce"]);
    scene.take().unwrap();
    assert!(scene.holds_the_release());
}

#[test]
fn what_costs_more_than_one_release_may_is_not_begun_and_a_card_costs_nothing() {
    let all = LEAF_BYTES + MISSING_BYTES;
    let mut scene = scene(Some(all - 1));
    let taken = scene.take();
    let most = all - 1;
    assert!(
        matches!(taken, Err(InstallError::Costs(TooExpensive { bytes, most: m })) if bytes == all && m == most),
        "{taken:?}"
    );
    assert!(scene.is_untouched() && scene.fake.asked.is_empty());
    assert_eq!(scene.cost(), LEAF_BYTES, "by the leaves it is known what it would have cost");
    scene.fake.is_remote = false;
    scene.take().unwrap();
    assert!(scene.holds_the_release());
}

#[test]
fn not_even_the_leaves_are_fetched_where_the_least_costs_too_much() {
    let mut scene = scene(Some(4096));
    assert!(matches!(scene.take(), Err(InstallError::Costs(_))));
    assert_eq!(scene.cost(), 0);
}

#[test]
fn a_release_that_nobody_would_remember_is_not_staged() {
    let mut scene = scene(None);
    let taken = scene.take_and(|| Err(StateError::TooLong(7)));
    assert!(matches!(taken, Err(InstallError::State(StateError::TooLong(7)))));
    assert_eq!(scene.fake.asked, ["announce"]);
}

#[test]
fn a_slot_that_may_not_be_written_is_not() {
    let mut scene = scene(None);
    scene.fake.refuses_announcement = true;
    assert!(matches!(scene.take(), Err(InstallError::Path(_))));
    assert!(scene.is_untouched() && !scene.downloader.gave_up_slot());
}

#[test]
fn a_release_for_which_there_is_no_room_is_not_fetched() {
    let mut scene = scene(None);
    scene.fake.running[1].set_len(wide(ROOT_BLOCKS * BLOCK_BYTES)).unwrap();
    assert!(matches!(scene.take(), Err(InstallError::Room { part: "root", .. })));
    assert_eq!(scene.cost(), 0);
    assert!(scene.fake.asked.is_empty());
}

#[test]
fn a_package_that_is_not_what_was_released_is_removed_and_not_staged() {
    // On a file system that takes direct access, which the one for temporary files may not. cargo runs tests in the
    // directory of their package.
    let target_directory = Path::new("../../target");
    std::fs::create_dir_all(target_directory).unwrap();
    let store = tempfile::tempdir_in(target_directory).unwrap();
    let mut scene = scene(None);
    let id = ComponentId([7; 16]);
    let package = vec![1; HEADER_BYTES + BLOCK_BYTES];
    let app = release(ReleaseSubject::App(id), &[], [3; 32]);
    let app = target(&package, Some(Release { boot_bytes: 0, ..app }));
    let place = app.place(PATH).unwrap();
    scene.targets.targets.insert(PATH.to_owned(), app);
    scene.downloader = Downloader::new(store.path().to_owned(), None);
    let unfinished = store.path().join(Stored::Unfinished.file(id));
    // Other bytes than were released say nothing of the release; those that were released are no package.
    scene.fake.files.insert(place.clone(), vec![2; HEADER_BYTES + BLOCK_BYTES]);
    assert!(matches!(scene.take(), Err(InstallError::OtherBytes)));
    assert!(!unfinished.exists() && scene.fake.asked.is_empty());
    scene.fake.files.insert(place, package);
    let taken = scene.take().unwrap_err();
    assert!(matches!(taken, InstallError::Package(_)) && taken.is_conclusive(), "{taken:?}");
    assert!(!unfinished.exists() && scene.fake.asked.is_empty());
}
