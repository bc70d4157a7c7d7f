#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows has failed")]

use super::*;
use proptest::prelude::*;

const KIB: u64 = 1024;
const DISK: usize = 1 << 20;

/// A first stage of `words` words that the boot ROM starts.
fn first_stage(words: u32, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; words as usize * 4];
    bytes[4..12].copy_from_slice(b"eGON.BT0");
    bytes[12..16].copy_from_slice(&0x5f0a_6c39_u32.to_le_bytes());
    bytes[16..20].copy_from_slice(&(words * 4).to_le_bytes());
    let (all, _) = bytes.as_chunks::<4>();
    let sum = all.iter().fold(0u32, |sum, word| sum.wrapping_add(u32::from_le_bytes(*word)));
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn loader(fill: u8) -> BootLoader {
    let mut u_boot = vec![fill; 200_000 + usize::from(fill)];
    u_boot[..4].copy_from_slice(&U_BOOT_MAGIC.to_be_bytes());
    let copy = |at: u64, u_boot_at: u64, fill| Copy {
        at: at * KIB,
        first_stage: first_stage(5000, fill),
        u_boot_at: u_boot_at * KIB,
    };
    BootLoader {
        form: Form::Egon,
        partitions: vec![Partition { name: "boot-a".to_owned(), start: 4 << 20, length: 8 << 20 }],
        copies: [copy(8, 160, fill), copy(128, 576, fill ^ 0x80)],
        u_boot,
    }
}

/// The start of a disk, with the partition table's header.
fn disk() -> Vec<u8> {
    let mut disk = vec![0; DISK];
    disk[512..520].copy_from_slice(b"EFI PART");
    disk[512 + 72..512 + 80].copy_from_slice(&(1008 * KIB / 512).to_le_bytes());
    disk
}

fn put(disk: &mut [u8], at: u64, bytes: &[u8]) {
    let at = usize::try_from(at).unwrap();
    disk[at..at + bytes.len()].copy_from_slice(bytes);
}

fn get(disk: &[u8], at: u64, length: usize) -> &[u8] {
    let at = usize::try_from(at).unwrap();
    &disk[at..at + length]
}

fn put_copy(disk: &mut [u8], loader: &BootLoader, place: Place) {
    let copy = loader.copy(place);
    put(disk, copy.at, &copy.first_stage);
    put(disk, copy.u_boot_at, &loader.u_boot);
}

/// As init finds a copy.
fn found(disk: &[u8], loader: &BootLoader, place: Place) -> Found {
    let copy = loader.copy(place);
    let stage = get(disk, copy.at, loader.form.most_bytes());
    loader.judge(place, stage, get(disk, copy.u_boot_at, loader.u_boot.len()))
}

fn plan(disk: &[u8], loader: &BootLoader) -> Result<Vec<Place>, BootLoaderError> {
    outdated(found(disk, loader, Place::First), found(disk, loader, Place::Spare))
}

/// What the boot ROM and the first stage do: the first copy that is accepted is started, and does so if the
/// U-Boot that belongs to it is whole.
fn boots(disk: &[u8], releases: &[&BootLoader]) -> bool {
    for place in [Place::First, Place::Spare] {
        let at = releases[0].copy(place).at;
        if Form::Egon.starts(get(disk, at, 32 * 1024)) {
            return releases.iter().any(|loader| found(disk, loader, place).is_current);
        }
    }
    false
}

/// Carries out the steps for what is outdated up to the write with number `cut`, of which only the sectors
/// arrive whose bit is set in `arrived`. True when all were done.
fn update(disk: &mut [u8], loader: &BootLoader, cut: usize, arrived: u64) -> bool {
    let mut written = 0;
    for place in plan(disk, loader).unwrap() {
        for step in loader.steps(place) {
            match step {
                Step::Write(at, bytes) if written == cut => {
                    for (index, sector) in bytes.chunks(512).enumerate() {
                        if arrived >> (index % 64) & 1 == 1 {
                            put(disk, at + 512 * index as u64, sector);
                        }
                    }
                    return false;
                }
                Step::Write(at, bytes) => {
                    put(disk, at, bytes);
                    written += 1;
                }
                Step::Compare(at, bytes) => assert!(get(disk, at, bytes.len()) == bytes),
            }
        }
    }
    true
}

#[test]
fn the_copy_that_did_not_start_this_boot_is_written_first() {
    let (old, new) = (loader(1), loader(2));
    let mut card = disk();
    put_copy(&mut card, &old, Place::First);
    put_copy(&mut card, &old, Place::Spare);
    assert_eq!(plan(&card, &new), Ok(vec![Place::Spare, Place::First]));
    put_copy(&mut card, &new, Place::Spare);
    assert_eq!(plan(&card, &new), Ok(vec![Place::First]));
    // The first copy rots, and the boot ROM starts the spare one.
    card[9 * 1024] ^= 1;
    assert_eq!(plan(&card, &new), Ok(vec![Place::First]));
    put_copy(&mut card, &old, Place::Spare);
    assert_eq!(plan(&card, &new), Ok(vec![Place::First, Place::Spare]));
    put_copy(&mut card, &new, Place::First);
    put_copy(&mut card, &new, Place::Spare);
    assert_eq!(plan(&card, &new), Ok(vec![]));
    // A spare copy that rots is written anew.
    card[600 * 1024] ^= 1;
    assert_eq!(plan(&card, &new), Ok(vec![Place::Spare]));
}

#[test]
fn a_card_that_is_laid_out_in_another_way_is_left_alone() {
    let new = loader(2);
    let mut card = disk();
    let stage = first_stage(5000, 7);
    put(&mut card, 8 * KIB, &stage);
    put(&mut card, 40 * KIB, &loader(1).u_boot);
    assert_eq!(plan(&card, &new), Err(BootLoaderError::OtherLayout));
    assert_eq!(plan(&disk(), &new), Err(BootLoaderError::OtherLayout), "started from elsewhere");
}

#[test]
fn it_is_written_only_to_a_disk_that_it_is_for() {
    let new = loader(2);
    let there = new.partitions.clone();
    assert_eq!(new.fits(&disk()[..TABLE_BYTES], &there), Ok(()));
    assert_eq!(new.fits(&[0; TABLE_BYTES], &there), Err(BootLoaderError::NoTable));
    assert_eq!(new.fits(&[], &there), Err(BootLoaderError::NoTable));
    let mut elsewhere = there.clone();
    elsewhere[0].start += 512;
    let error = new.fits(&disk(), &elsewhere).unwrap_err();
    assert_eq!(error, BootLoaderError::OtherDisk("boot-a".to_owned()));
    let mut early = disk();
    early[512 + 72..512 + 80].copy_from_slice(&(512 * KIB / 512).to_le_bytes());
    assert!(matches!(new.fits(&early, &there), Err(BootLoaderError::NoRoom { .. })));
    elsewhere[0].start = 700 * KIB;
    assert!(matches!(new.fits(&disk(), &elsewhere), Err(BootLoaderError::NoRoom { .. })));
}

#[test]
fn one_that_is_unfit_is_neither_encoded_nor_decoded() {
    let good = loader(1);
    assert_eq!(BootLoader::decode(&good.encode().unwrap()), Ok(good.clone()));
    let mut overlapping = good.clone();
    overlapping.copies[0].u_boot_at = 140 * KIB;
    assert_eq!(overlapping.encode(), Err(BootLoaderError::OutOfPlace(140 * KIB)));
    let mut in_the_table = good.clone();
    in_the_table.copies[0].at = 0;
    assert_eq!(in_the_table.encode(), Err(BootLoaderError::OutOfPlace(0)));
    let mut crooked = good.clone();
    crooked.copies[1].u_boot_at += 512;
    assert_eq!(crooked.encode(), Err(BootLoaderError::OutOfPlace(576 * KIB + 512)));
    let mut broken = good.clone();
    broken.copies[1].first_stage[100] ^= 1;
    let bytes = encoding::encode(&broken).unwrap();
    assert_eq!(BootLoader::decode(&bytes), Err(BootLoaderError::NoFirstStage(128 * KIB)));
    let mut far = good;
    far.copies[1].u_boot_at = u64::MAX - 4095;
    assert_eq!(far.encode(), Err(BootLoaderError::OutOfPlace(u64::MAX - 4095)));
}

#[test]
fn a_first_stage_is_accepted_by_its_sum() {
    let stage = first_stage(100, 3);
    assert!(Form::Egon.starts(&stage));
    assert!(Form::Egon.starts(&[&stage[..], &[9; 100]].concat()), "more may follow");
    for at in [0, 5, 12, 16, 50, 399] {
        let mut damaged = stage.clone();
        damaged[at] ^= 1;
        assert!(!Form::Egon.starts(&damaged), "byte {at}");
    }
    assert!(!Form::Egon.starts(&stage[..399]) && !Form::Egon.starts(&[]));
}

proptest! {
    #[test]
    fn whatever_is_cut_a_whole_boot_loader_starts(
        cuts in proptest::collection::vec((0usize..9, any::<u64>()), 1..4),
        spare_was_lost: bool,
    ) {
        let (old, new) = (loader(1), loader(2));
        let mut card = disk();
        put_copy(&mut card, &old, Place::First);
        if !spare_was_lost {
            put_copy(&mut card, &old, Place::Spare);
        }
        for (cut, arrived) in cuts {
            let done = update(&mut card, &new, cut, arrived);
            prop_assert!(boots(&card, &[&old, &new]), "cut in write {cut}, arrived {arrived:x}");
            prop_assert!(!done || plan(&card, &new) == Ok(vec![]));
        }
        prop_assert!(update(&mut card, &new, usize::MAX, 0));
        prop_assert!(boots(&card, &[&new]) && plan(&card, &new) == Ok(vec![]));
    }

    #[test]
    fn bytes_of_any_kind_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let new = loader(1);
        let _ = (Form::Egon.starts(&bytes), new.fits(&bytes, &[]), BootLoader::decode(&bytes));
        let _ = new.judge(Place::First, &bytes, &bytes);
    }
}
