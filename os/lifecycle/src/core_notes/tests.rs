//! Notes as the kernel writes them, and files that are none.
#![allow(clippy::arithmetic_side_effects, reason = "a panic is a failed test")]

use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// A mapping: first address, bytes, flags, and offset in its file, for one that has a file.
type Mapping = (u32, u32, u32, Option<u32>);

const READ: u32 = 4;
const WRITE: u32 = 2;
const CODE: u32 = READ | PF_X;

/// The mappings of a program that is linked to fixed addresses, with a library.
const MAPPINGS: [Mapping; 7] = [
    (0x1_0000, 0x8000, READ, Some(0)),
    (0x2_0000, 0x1_0000, CODE, Some(0x8000)),
    (0x3_8000, 0x4000, READ | WRITE, None),
    (0x76e0_0000, 0x1_0000, READ, Some(0x2000)),
    (0x76ef_0000, 0x1_0000, READ, Some(0)),
    (0x76f0_0000, 0x2_0000, CODE, Some(0)),
    (0x7eff_0000, 0x1_0000, READ | WRITE, None),
];
const SP: u32 = 0x7eff_0100;

/// What a core is made of.
#[derive(Clone)]
struct Core {
    signal: i32,
    code: i32,
    address: u32,
    pc: u32,
    lr: u32,
    mappings: Vec<Mapping>,
    threads: usize,
}

impl Core {
    fn new() -> Self {
        let (pc, lr) = (0x2_1234, 0x76f0_0021);
        let mappings = MAPPINGS.to_vec();
        Self { signal: 11, code: 1, address: 0x7efe_fff8, pc, lr, mappings, threads: 2 }
    }

    /// The bytes, and where the notes lie that are not read.
    fn write(&self) -> (Vec<u8>, Vec<Range<usize>>) {
        let (mut notes, mut unread) = (Vec::new(), Vec::new());
        let count = u32::try_from(self.mappings.len() + 1).unwrap();
        let start = FILE_HEADER + count * SEGMENT;
        let mut note = |kind: u32, contents: &[u8], is_read: bool| {
            let length = u32::try_from(contents.len()).unwrap();
            notes.extend([5, length, kind].iter().flat_map(|word: &u32| word.to_le_bytes()));
            notes.extend(b"CORE\0\0\0\0");
            let at = usize::try_from(start).unwrap() + notes.len();
            notes.extend(contents);
            notes.resize(notes.len().next_multiple_of(4), 0);
            if !is_read {
                unread.push(at..at + contents.len());
            }
        };
        for thread in 0..self.threads {
            let first = thread == 0;
            let mut status = [0u32; 37];
            status[6] = 2;
            status[18..31].fill(0x5ec7_e700);
            [status[31], status[32], status[33]] = [SP, self.lr, self.pc];
            if !first {
                status.fill(0x0bad_0bad);
            }
            note(NT_PRSTATUS, &bytes(&status), first);
            if first {
                note(3, &[0x61; 124], false);
                let mut information = [0u32; 32];
                information[0] = self.signal.cast_unsigned();
                information[2] = self.code.cast_unsigned();
                information[3] = self.address;
                note(NT_SIGINFO, &bytes(&information), true);
                note(
                    NT_AUXV,
                    &bytes(&[16, 7, AT_PHDR, 0x1_0034, AT_ENTRY, 0x2_0040, AT_NULL, 0]),
                    true,
                );
                let of_files = self.mappings.iter().filter_map(|m| Some((m.0, m.0 + m.1, m.3?)));
                let ranges: Vec<[u32; 3]> =
                    of_files.map(|(start, end, offset)| [start, end, offset / 4096]).collect();
                let mut files = bytes(&[u32::try_from(ranges.len()).unwrap(), 4096]);
                files.extend(bytes(ranges.as_flattened()));
                files.extend(b"/app/valve\0/app/valve\0/app/lib/libvalve.so\0");
                note(NT_FILE, &files, true);
            }
            note(0x400, &[0xf1; 260], false);
        }
        let mut header =
            vec![0x464c_457f, 0x0001_0101, 0, 0, 40 << 16 | 4, 1, 0, FILE_HEADER, 0, 0];
        header.extend([SEGMENT << 16 | FILE_HEADER, count, 0]);
        let length = u32::try_from(notes.len()).unwrap();
        header.extend([PT_NOTE, start, 0, 0, length, 0, 0, 0]);
        for (address, length, flags, _) in &self.mappings {
            header.extend([PT_LOAD, 0x1000, *address, 0, 0, *length, *flags, 4096]);
        }
        ([bytes(&header), notes].concat(), unread)
    }

    fn read(&self) -> CoreNotes {
        CoreNotes::read(self.write().0.as_slice()).unwrap()
    }
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// A file that remembers what was read of it.
struct Watched<'a> {
    file: &'a [u8],
    read: RefCell<Vec<Range<usize>>>,
}

impl ReadAt for Watched<'_> {
    fn read_at(&self, offset: u32, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(offset).unwrap();
        self.read.borrow_mut().push(start..start + into.len());
        self.file.read_at(offset, into)
    }
}

#[test]
fn a_crash_is_read_as_places_in_files_and_a_kind_of_address() {
    let expected = CoreNotes {
        signal: 11,
        code: 1,
        pid: 2,
        pc: Place::Program(0x1_1234),
        lr: Place::Library(0x1_0020),
        pc_file: None,
        lr_file: None,
        fault: Some(Fault::Stack),
    };
    assert_eq!(Core::new().read(), expected);
    // Memory behind the notes changes nothing.
    let with_memory = [Core::new().write().0, vec![0x5e; 1 << 17]].concat();
    assert_eq!(CoreNotes::read(with_memory.as_slice()), Ok(expected));
}

/// Notes as Linux 6.12 has written them of `tests/apps/misbehaving/src/bin/crash.rs`.
const WRITTEN: &[u8] = include_bytes!("crash.bin");

#[test]
fn what_the_kernel_has_written_is_read() {
    let expected = CoreNotes {
        signal: 11,
        code: 1,
        pid: 2,
        // 0x2ebe0 and 0x2331e of a program that begins at 0x10000.
        pc: Place::Program(0x1_ebe0),
        lr: Place::Program(0x1_331e),
        pc_file: None,
        lr_file: None,
        fault: Some(Fault::Stack),
    };
    let watched = Watched { file: WRITTEN, read: RefCell::default() };
    assert_eq!(CoreNotes::read(&watched), Ok(expected));
    // It says of the program what is not to be told, and that is not read.
    let read = watched.read.into_inner();
    let float = 0x5ec7_e7f1_0a7e_d0de_u64.to_le_bytes();
    for kept in [b"/app/crash".as_slice(), &float] {
        let mut places =
            (0..WRITTEN.len()).filter(|at| WRITTEN[*at..].starts_with(kept)).peekable();
        assert!(places.peek().is_some(), "{kept:x?}");
        for at in places {
            assert!(!read.iter().any(|r| r.start < at + kept.len() && at < r.end), "{at}");
        }
    }
}

#[test]
fn floats_arguments_and_other_registers_are_not_read() {
    let (file, unread) = Core::new().write();
    let watched = Watched { file: &file, read: RefCell::default() };
    CoreNotes::read(&watched).unwrap();
    let read = watched.read.into_inner();
    let touches =
        |range: &Range<usize>| read.iter().any(|r| r.start < range.end && range.start < r.end);
    assert!(!unread.iter().any(touches), "{unread:?} {read:?}");
    let secret = 0x5ec7_e700_u32.to_le_bytes();
    let at = file.windows(4).position(|window| window == secret).unwrap();
    // r0 to r12.
    assert!(!touches(&(at..at + 13 * 4)));
    // The names of files.
    let names = file.windows(4).position(|window| window == b"/app").unwrap();
    assert!(!touches(&(names..names + 42)));
}

#[test]
fn a_register_that_is_not_in_code_is_left_out() {
    for value in [0, 0x3_8000, 0x1_0010, SP, u32::MAX] {
        let read = Core { pc: value, lr: value, ..Core::new() }.read();
        assert_eq!([read.pc, read.lr], [Place::Elsewhere; 2], "{value:#x}");
    }
}

#[test]
fn each_kind_of_address_is_told() {
    let fault =
        |signal, code, address, pc| Core { signal, code, address, pc, ..Core::new() }.read().fault;
    let pc = 0x2_1234;
    assert_eq!(fault(11, 1, 8, pc), Some(Fault::Null));
    assert_eq!(fault(11, 1, 0, 0), Some(Fault::Null), "a call of nothing");
    assert_eq!(fault(11, 2, 0x2_0000, pc), Some(Fault::Code), "a write to code");
    assert_eq!(fault(11, 2, 0x3_8000, 0x3_8000), Some(Fault::Code), "data as code");
    assert_eq!(fault(11, 1, SP - 4096, pc), Some(Fault::Stack));
    assert_eq!(fault(7, 2, 0x5000_0000, pc), Some(Fault::Other));
    assert_eq!(fault(4, 1, pc, pc), Some(Fault::Code));
    assert_eq!(fault(6, -6, 8, pc), None, "abort");
    assert_eq!(fault(11, 0, 8, pc), None, "kill");
    assert_eq!(fault(11, SI_KERNEL, 8, pc), None);
    assert_eq!(fault(31, 1, 8, pc), None, "a refused system call");
}

#[test]
fn what_is_no_core_is_refused() {
    let (file, _) = Core::new().write();
    assert_eq!(CoreNotes::read(&[][..]), Err(CoreNotesError::Short));
    assert_eq!(CoreNotes::read(&[0u8; 4096][..]), Err(CoreNotesError::Kind));
    for at in [0, 4, 5, 16, 18, 42, usize::try_from(FILE_HEADER).unwrap()] {
        let mut other = file.clone();
        other[at] ^= 1;
        assert_eq!(CoreNotes::read(other.as_slice()), Err(CoreNotesError::Kind), "{at}");
    }
    // More mappings than the bound has room for.
    let many = Core { mappings: vec![MAPPINGS[1]; 3000], ..Core::new() }.write().0;
    assert_eq!(CoreNotes::read(many.as_slice()), Err(CoreNotesError::Short));
    // And as many as have.
    let most = Core { mappings: vec![MAPPINGS[1]; 1400], ..Core::new() };
    assert_eq!(most.read().pc, Place::Program(0x1_1234));
}

proptest! {
    #[test]
    fn a_file_that_was_cut_or_changed_is_read_or_refused(
        cut in 0usize..2000, changes in proptest::collection::vec((0usize..2000, any::<u8>()), 0..8),
    ) {
        let (mut file, _) = Core::new().write();
        for (at, value) in changes {
            if let Some(byte) = file.get_mut(at) {
                *byte = value;
            }
        }
        file.truncate(file.len().saturating_sub(cut));
        let _ = CoreNotes::read(file.as_slice());
    }

    #[test]
    fn the_reads_of_any_file_are_bounded(words in proptest::collection::vec(any::<u32>(), 0..64)) {
        let (mut file, _) = Core::new().write();
        file.splice(44..46, [0xff, 0xff]);
        file.extend(bytes(&words));
        let watched = Watched { file: &file, read: RefCell::default() };
        let _ = CoreNotes::read(&watched);
        let bytes: usize = watched.read.into_inner().iter().map(Range::len).sum();
        prop_assert!(bytes <= 3 * usize::try_from(MAX_BYTES).unwrap());
    }
}

/// The first page of a program: its header, two segments, and a note behind another.
fn first_page(build_id: [u8; 20]) -> Vec<u8> {
    let mut page = bytes(&[0x464c_457f, 0x0001_0101, 0, 0, KIND_SHARED, 1, 0, FILE_HEADER, 0, 0]);
    page.extend(bytes(&[SEGMENT << 16 | FILE_HEADER, 2, 0]));
    page.extend(bytes(&[PT_LOAD, 0, 0x0040_0034, 0, 0x8000, 0x8000, 5, 4096]));
    page.extend(bytes(&[PT_NOTE, 0x100, 0, 0, 56, 56, 4, 4]));
    page.resize(0x100, 0);
    page.extend(bytes(&[4, 4, 1, 0x0055_4e47, 7, 4, 20, 3, 0x0055_4e47]));
    page.extend(build_id);
    page.resize(4096, 0xee);
    page
}

/// A core with the first page of the program behind the notes.
fn with_first_page(page: &[u8]) -> Vec<u8> {
    let (mut file, _) = Core::new().write();
    file.resize(file.len().next_multiple_of(4096), 0);
    let start = u32::try_from(file.len()).unwrap();
    // The second segment is the first of the program.
    let segment = usize::try_from(FILE_HEADER + SEGMENT).unwrap();
    file[segment + 4..segment + 8].copy_from_slice(&start.to_le_bytes());
    file[segment + 16..segment + 20].copy_from_slice(&4096u32.to_le_bytes());
    file.extend(page);
    file
}

#[test]
fn the_first_page_of_a_program_says_which_it_is() {
    let build_id = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let file = with_first_page(&first_page(build_id));
    let notes = CoreNotes::read(file.as_slice()).unwrap();
    let expected = ElfFile { build_id: Some(build_id), first_page: 0x0040_0000 };
    assert_eq!((notes.pc_file, notes.lr_file), (Some(expected), None));
    assert_eq!(notes.pc, Place::Program(0x1_1234), "the place is what it was");
    // A page that was cut, or is no program's, says nothing, and the rest is read all the same.
    let cut = &file[..file.len() - 4000];
    for other in [cut.to_vec(), with_first_page(&[0xee; 4096]), with_first_page(&[0; 4096])] {
        let notes = CoreNotes::read(other.as_slice()).unwrap();
        assert_eq!((notes.pc_file, notes.pc), (None, Place::Program(0x1_1234)));
    }
}

proptest! {
    #[test]
    fn any_first_page_is_read_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..400) {
        let mut page = first_page([7; 20]);
        page[at..at + bytes.len()].copy_from_slice(&bytes);
        let notes = CoreNotes::read(with_first_page(&page).as_slice()).unwrap();
        prop_assert_eq!(notes.pc, Place::Program(0x1_1234));
    }
}
