//! The kernel's notes on a crash: where a program was, and at what kind of address it failed.
//!
//! The notes are the beginning of a core (core(5); ELF32 for ARM, `fs/binfmt_elf.c` of Linux 6.12) of which everything else is
//! left out. They hold more than leaves here: registers, the first arguments, names of files, floating-point registers. So
//! a file is not read as a whole: of the general registers pc, lr and sp are read, of the auxiliary vector where the program
//! is, of the files their ranges, and no byte of the other notes.
//!
//! The file lies where the component may write, which can put there what it likes. Of any bytes come numbers within bounds,
//! after a bounded number of reads; they may be wrong, and then the component lies of itself.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of a file beyond which nothing is read.
pub const MAX_BYTES: u32 = 64 * 1024;

/// Notes that are looked at: those of the first thread, which crashed, and of the process.
const MAX_NOTES: usize = 16;
/// The kernel maps nothing below (`CONFIG_DEFAULT_MMAP_MIN_ADDR`).
const FIRST_MAPPED: u32 = 0x8000;
/// Bytes to both sides of the stack pointer within which an address is of the stack.
const NEAR_STACK: u32 = 64 * 1024;

/// Sizes of the structures, in bytes (elf(5)).
const FILE_HEADER: u32 = 52;
const SEGMENT: u32 = 32;
const NOTE_HEADER: u32 = 12;
/// `struct elf_prstatus`, and places in it.
const PRSTATUS: u32 = 148;
const PRSTATUS_PID: u32 = 24;
const PRSTATUS_SP: u32 = 72 + 13 * 4;
/// `siginfo_t`: as much of it as is read.
const SIGINFO: u32 = 16;

/// Bytes of a page of this kernel.
const PAGE: u32 = 4096;
/// Headers of segments that are looked at in a program.
const MAX_PROGRAM_HEADERS: u32 = 16;
/// `\x7fELF`, and 32 bits, little-endian, version 1; the ABI behind it may be any.
const ELF32: [u32; 2] = [0x464c_457f, 0x0001_0101];
/// `EM_ARM` with `ET_EXEC`, and with `ET_DYN`.
const KIND_PROGRAM: u32 = 40 << 16 | 2;
const KIND_SHARED: u32 = 40 << 16 | 3;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const NT_PRSTATUS: u32 = 1;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;
const AT_NULL: u32 = 0;
const AT_PHDR: u32 = 3;
const AT_ENTRY: u32 = 9;

const SIGILL: i32 = 4;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
/// Code of a signal that the kernel sent for no particular address.
const SI_KERNEL: i32 = 0x80;

/// A file that is read in places.
pub trait ReadAt {
    /// Fills `into` with the bytes from `offset` on. `None` where the file ends before, or cannot be read.
    fn read_at(&self, offset: u32, into: &mut [u8]) -> Option<()>;
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u32, into: &mut [u8]) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        into.copy_from_slice(self.get(start..start.checked_add(into.len())?)?);
        Some(())
    }
}

/// Notes that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CoreNotesError {
    /// A structure ends behind the file, or behind [`MAX_BYTES`]: the notes of a process with some 1,900 mappings do.
    #[error("the notes end early")]
    Short,
    /// Something else than a core of a 32-bit ARM process.
    #[error("it is no core of a 32-bit ARM process")]
    Kind,
    /// The note with this number is missing, or of another size.
    #[error("note {0:#x} is missing")]
    Missing(u32),
}

/// What a crash says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoreNotes {
    /// The signal.
    pub signal: i32,
    /// Its code (`si_code` in sigaction(2)): above 0 where the kernel has sent it, otherwise a process did.
    pub code: i32,
    /// Process id in the component's namespace.
    pub pid: i32,
    /// The instruction that it was at.
    pub pc: Place,
    /// Where the function that it was in would have returned to, while `lr` still said so.
    pub lr: Place,
    /// The file in which pc lies, where the kernel has written its first page.
    pub pc_file: Option<ElfFile>,
    /// The file in which lr lies.
    pub lr_file: Option<ElfFile>,
    /// The kind of address that failed, where the kernel has sent the signal for one.
    pub fault: Option<Fault>,
}

/// A program or a library, as the headers on its first page have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElfFile {
    /// The build id (`NT_GNU_BUILD_ID`), where it has one of 20 bytes.
    pub build_id: Option<[u8; 20]>,
    /// The page of the first `PT_LOAD`'s `p_vaddr`: added to a [`Place`] it makes an address of the file.
    pub first_page: u32,
}

/// A place in a program's code. What is in no file is left out as a whole: a register may hold anything else at that moment.
///
/// The number counts bytes from where the first page of the file lies in memory. With the page of the first `PT_LOAD`'s
/// `p_vaddr` added it is an address of the file, as `addr2line` takes it, wherever the program was mapped: offsets in the
/// file itself may change when it is stripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the program.
    Program(u32),
    /// In one of its libraries, or its loader. Which one it is has no name here.
    Library(u32),
    /// Not in the code of a file.
    Elsewhere,
}

/// The kind of address at which a program failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Below the first address that can be mapped: a null pointer, with what was added to it.
    Null,
    /// Close to the stack pointer.
    Stack,
    /// In code, which cannot be written; at the instruction itself, which cannot be executed.
    Code,
    /// Any other.
    Other,
}

impl CoreNotes {
    /// Reads the notes of the thread that crashed.
    ///
    /// # Errors
    /// See [`CoreNotesError`]. A file that was cut behind the notes is whole.
    pub fn read(file: &(impl ReadAt + ?Sized)) -> Result<Self, CoreNotesError> {
        let file = Bounded(file);
        let segments = Segments::read(&file)?;
        let notes = Notes::find(&file, &segments)?;
        let status = notes.status.filter(|note| note.bytes == PRSTATUS);
        let status = status.ok_or(CoreNotesError::Missing(NT_PRSTATUS))?.at;
        let pid = file.word(at(status, PRSTATUS_PID)?)?.cast_signed();
        let [sp, lr, pc] = file.words(at(status, PRSTATUS_SP)?)?;
        let information = notes.information.filter(|note| note.bytes >= SIGINFO);
        let information = information.ok_or(CoreNotesError::Missing(NT_SIGINFO))?.at;
        let [signal, _, code, address] = file.words(information)?;
        let (signal, code) = (signal.cast_signed(), code.cast_signed());

        // A return address to Thumb code has its lowest bit set.
        let lr = lr & !1;
        let in_code = segments.are_code(&file, [pc, lr, address])?;
        let [pc_in_code, lr_in_code, address_in_code] = in_code;
        let places = match notes.files {
            Some(files) => {
                let program = notes.auxiliary.map(|note| Program::read(&file, note)).transpose()?;
                places(&file, files, program.unwrap_or_default(), [pc, lr])?
            }
            None => [(Place::Elsewhere, 0); 2],
        };
        let [(pc_place, pc_page), (lr_place, lr_page)] = places;
        let of_code = |place, is_code| if is_code { place } else { Place::Elsewhere };
        // What is in no file has no headers; those of a file are looked for once.
        let elf_file = |place, page, is_code| {
            let place = of_code(place, is_code);
            if place == Place::Elsewhere { None } else { ElfFile::at(&file, &segments, page) }
        };
        let pc_file = elf_file(pc_place, pc_page, pc_in_code);
        let lr_file = match lr_page == pc_page && pc_in_code && lr_in_code {
            true => pc_file,
            false => elf_file(lr_place, lr_page, lr_in_code),
        };
        let fault = (signal, code, address, address_in_code);
        Ok(Self {
            signal,
            code,
            pid,
            pc: of_code(pc_place, pc_in_code),
            lr: of_code(lr_place, lr_in_code),
            pc_file,
            lr_file,
            fault: Fault::of(fault, pc, sp),
        })
    }
}

impl Fault {
    /// `fault`: signal, code, address, and whether that is in code.
    fn of(fault: (i32, i32, u32, bool), pc: u32, sp: u32) -> Option<Self> {
        let (signal, code, address, in_code) = fault;
        // Only then does the kernel say an address (sigaction(2)).
        if code <= 0 || code == SI_KERNEL {
            return None;
        }
        match signal {
            SIGILL => Some(Self::Code),
            SIGSEGV | SIGBUS if address < FIRST_MAPPED => Some(Self::Null),
            SIGSEGV | SIGBUS if in_code || address & !1 == pc & !1 => Some(Self::Code),
            SIGSEGV | SIGBUS if address.abs_diff(sp) <= NEAR_STACK => Some(Self::Stack),
            SIGSEGV | SIGBUS => Some(Self::Other),
            _ => None,
        }
    }
}

/// Adds within the file.
fn at(offset: u32, more: u32) -> Result<u32, CoreNotesError> {
    offset.checked_add(more).ok_or(CoreNotesError::Short)
}

/// A file of which no more than [`MAX_BYTES`] is read.
struct Bounded<'a, F: ?Sized>(&'a F);

impl<F: ReadAt + ?Sized> Bounded<'_, F> {
    fn words<const N: usize>(&self, offset: u32) -> Result<[u32; N], CoreNotesError> {
        let mut words = [[0u8; 4]; N];
        let bytes = words.as_flattened_mut();
        let length = u32::try_from(bytes.len()).map_err(|_| CoreNotesError::Short)?;
        if at(offset, length)? > MAX_BYTES {
            return Err(CoreNotesError::Short);
        }
        self.0.read_at(offset, bytes).ok_or(CoreNotesError::Short)?;
        Ok(words.map(u32::from_le_bytes))
    }

    fn word(&self, offset: u32) -> Result<u32, CoreNotesError> {
        let [word] = self.words(offset)?;
        Ok(word)
    }
}

/// The table of segments.
struct Segments {
    at: u32,
    count: u32,
}

impl Segments {
    fn read(file: &Bounded<'_, impl ReadAt + ?Sized>) -> Result<Self, CoreNotesError> {
        /// `\x7fELF`, 32 bits, little-endian, version 1.
        const MAGIC: [u32; 2] = [0x464c_457f, 0x0001_0101];
        /// `ET_CORE` and `EM_ARM`.
        const KIND: u32 = 40 << 16 | 4;
        let [magic, class, _, _, kind, _, _, table, _, _, sizes, counts, _] = file.words(0)?;
        // Of the second word, the last byte is the ABI, which the kernel leaves at 0.
        let right = [magic, class] == MAGIC && kind == KIND;
        if !right || table < FILE_HEADER || sizes >> 16 != SEGMENT {
            return Err(CoreNotesError::Kind);
        }
        Ok(Self { at: table, count: counts & 0xffff })
    }

    /// The segments, one behind the other; an error ends them.
    fn each(
        &self,
        file: &Bounded<'_, impl ReadAt + ?Sized>,
    ) -> impl Iterator<Item = Result<[u32; 8], CoreNotesError>> {
        let offset = |index: u32| at(self.at, index.saturating_mul(SEGMENT));
        (0..self.count).map(move |index| file.words(offset(index)?))
    }

    /// Returns which of the addresses lie in code.
    fn are_code<const N: usize>(
        &self,
        file: &Bounded<'_, impl ReadAt + ?Sized>,
        addresses: [u32; N],
    ) -> Result<[bool; N], CoreNotesError> {
        let mut found = [false; N];
        for segment in self.each(file) {
            let [kind, _, start, _, _, length, flags, _] = segment?;
            if kind == PT_LOAD && flags & PF_X != 0 {
                for (address, found) in addresses.iter().zip(&mut found) {
                    *found |= address.checked_sub(start).is_some_and(|inside| inside < length);
                }
            }
        }
        Ok(found)
    }
}

/// The contents of a note in the file.
#[derive(Clone, Copy)]
struct Note {
    at: u32,
    bytes: u32,
}

/// The notes that are read.
#[derive(Default)]
struct Notes {
    status: Option<Note>,
    information: Option<Note>,
    auxiliary: Option<Note>,
    files: Option<Note>,
}

impl Notes {
    fn find(
        file: &Bounded<'_, impl ReadAt + ?Sized>,
        segments: &Segments,
    ) -> Result<Self, CoreNotesError> {
        // The kernel puts the one with the notes first.
        let first = segments.each(file).next().ok_or(CoreNotesError::Kind)??;
        let [PT_NOTE, mut offset, _, _, length, ..] = first else {
            return Err(CoreNotesError::Kind);
        };
        let (end, mut found) = (at(offset, length)?, Self::default());
        for _ in 0..MAX_NOTES {
            if at(offset, NOTE_HEADER)? > end {
                break;
            }
            let [name_bytes, bytes, kind] = file.words(offset)?;
            let start = at(at(offset, NOTE_HEADER)?, aligned(name_bytes)?)?;
            offset = at(start, aligned(bytes)?)?;
            if offset > end {
                return Err(CoreNotesError::Short);
            }
            let place = match kind {
                NT_PRSTATUS => &mut found.status,
                NT_SIGINFO => &mut found.information,
                NT_AUXV => &mut found.auxiliary,
                NT_FILE => &mut found.files,
                _ => continue,
            };
            if place.is_some() {
                // Here the next thread begins, which has not crashed.
                break;
            }
            *place = Some(Note { at: start, bytes });
            // The kernel writes it behind the others of the process.
            if kind == NT_FILE {
                break;
            }
        }
        Ok(found)
    }
}

/// Rounds up to words, as names and contents of notes are.
fn aligned(bytes: u32) -> Result<u32, CoreNotesError> {
    bytes.checked_next_multiple_of(4).ok_or(CoreNotesError::Short)
}

/// Where the program is, as the auxiliary vector says (getauxval(3)).
#[derive(Default)]
struct Program {
    /// The entry point.
    entry: Option<u32>,
    /// The table of segments, which is on the first page of the file.
    headers: Option<u32>,
}

impl Program {
    fn read(file: &Bounded<'_, impl ReadAt + ?Sized>, note: Note) -> Result<Self, CoreNotesError> {
        const PAIR: u32 = 8;
        let mut found = Self::default();
        for offset in (0..note.bytes / PAIR).map(|index| index.saturating_mul(PAIR)) {
            match file.words(at(note.at, offset)?)? {
                [AT_PHDR, headers] => found.headers = Some(headers),
                [AT_ENTRY, entry] => found.entry = Some(entry),
                [AT_NULL, _] => break,
                _ => {}
            }
        }
        Ok(found)
    }
}

impl ElfFile {
    /// Reads the headers on the page that the kernel has written for the first page of a file in memory (bit 4 of
    /// `coredump_filter`, core(5)). `None` where it has written none, or where they are not those of a program.
    fn at(
        file: &Bounded<'_, impl ReadAt + ?Sized>,
        segments: &Segments,
        page: u32,
    ) -> Option<Self> {
        let of_page = segments.each(file).filter_map(Result::ok).find(|segment| {
            let [kind, _, start, _, bytes, ..] = *segment;
            kind == PT_LOAD && start == page && bytes >= PAGE
        });
        let [_, start, ..] = of_page?;
        let end = start.checked_add(PAGE)?;
        let [magic, class, _, _, kind, _, _, table, _, _, sizes, counts, _] =
            file.words::<13>(start).ok()?;
        let is_program = matches!(kind, KIND_PROGRAM | KIND_SHARED);
        if [magic, class & 0x00ff_ffff] != ELF32 || !is_program || sizes >> 16 != SEGMENT {
            return None;
        }
        let (mut first_page, mut build_id) = (None, None);
        for index in 0..(counts & 0xffff).min(MAX_PROGRAM_HEADERS) {
            let header = start.checked_add(table)?.checked_add(index.checked_mul(SEGMENT)?)?;
            if header.checked_add(SEGMENT)? > end {
                break;
            }
            let [kind, offset, address, _, bytes, ..] = file.words::<8>(header).ok()?;
            match kind {
                PT_LOAD if first_page.is_none() => first_page = Some(address & !(PAGE - 1)),
                PT_NOTE if build_id.is_none() => {
                    build_id = build_id_in(file, start.checked_add(offset)?, bytes, end);
                }
                _ => {}
            }
        }
        Some(Self { build_id, first_page: first_page? })
    }
}

/// Returns the build id among notes that lie before `end`.
fn build_id_in(
    file: &Bounded<'_, impl ReadAt + ?Sized>,
    mut offset: u32,
    bytes: u32,
    end: u32,
) -> Option<[u8; 20]> {
    /// `GNU` with a zero byte behind it.
    const GNU: u32 = 0x0055_4e47;
    const NT_GNU_BUILD_ID: u32 = 3;
    let end = offset.checked_add(bytes)?.min(end);
    for _ in 0..MAX_NOTES {
        if offset.checked_add(NOTE_HEADER)? > end {
            return None;
        }
        let [name_bytes, bytes, kind] = file.words(offset).ok()?;
        let name = offset.checked_add(NOTE_HEADER)?;
        let contents = name.checked_add(aligned(name_bytes).ok()?)?;
        offset = contents.checked_add(aligned(bytes).ok()?)?;
        if offset > end {
            return None;
        }
        if (name_bytes, bytes, kind) == (4, 20, NT_GNU_BUILD_ID) && file.word(name).ok()? == GNU {
            let words: [u32; 5] = file.words(contents).ok()?;
            let mut build_id = [0; 20];
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            build_id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            return Some(build_id);
        }
    }
    None
}

/// Returns where addresses are in the files that are mapped, each with the first page of its file in memory. Code is mapped in one piece: a range is of the program where the
/// entry point is in it as well.
fn places<const N: usize>(
    file: &Bounded<'_, impl ReadAt + ?Sized>,
    note: Note,
    program: Program,
    addresses: [u32; N],
) -> Result<[(Place, u32); N], CoreNotesError> {
    const RANGE: u32 = 12;
    let mut places = [(Place::Elsewhere, 0); N];
    let missing = CoreNotesError::Missing(NT_FILE);
    let room = note.bytes.checked_sub(8).ok_or(missing)?;
    // The names of files stand behind the ranges, and are not read.
    let [count, _] = file.words(note.at)?;
    if count > room / RANGE {
        return Err(missing);
    }
    let ranges = at(note.at, 8)?;
    // They are in the order of their addresses, and the pages of one file in that of its own: where a number falls, the next
    // file begins.
    let (mut first_page, mut last_number) = (0, u32::MAX);
    for offset in (0..count).map(|index| index.saturating_mul(RANGE)) {
        let [start, end, number] = file.words(at(ranges, offset)?)?;
        if number < last_number {
            first_page = start;
        }
        last_number = number;
        let of_program = program.entry.is_some_and(|entry| (start..end).contains(&entry));
        for (address, place) in addresses.iter().zip(&mut places) {
            let from = |first: u32| address.checked_sub(first);
            if !(start..end).contains(address) {
                continue;
            }
            *place = if of_program {
                let first = program.headers.map(|headers| headers & !(PAGE - 1));
                let inside = first.and_then(from).map_or(Place::Elsewhere, Place::Program);
                (inside, first.unwrap_or(0))
            } else {
                (from(first_page).map_or(Place::Elsewhere, Place::Library), first_page)
            };
        }
    }
    Ok(places)
}

#[cfg(test)]
mod tests;
